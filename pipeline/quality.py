"""How good a world model is, as text for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.data.measures import CATALOGUE
from analysis.data.world_model import MEASURES, NO_HORIZON, Measure, summary
from analysis.options import read_options
from tokenworlds.runs.columns import OPEN_LOOP, OTHER, STILL, TEACHER_FORCED, TOKENIZER

PREDICTORS = {
    OPEN_LOOP: "world model", STILL: "frame stands still", OTHER: "another episode", TOKENIZER: "tokenizer alone",
}  # fmt: skip
FORCED = {
    "loss_observations": ("loss a token (nats)", "{:.3f}"), "accuracy": ("tokens right", "{:.1%}"),
    "loss_rewards": ("loss of the reward", "{:.3f}"), "reward_accuracy": ("rewards right", "{:.1%}"),
    "loss_ends": ("loss of the end (nats)", "{:.4f}"), "end_accuracy": ("ends right", "{:.1%}"),
}  # fmt: skip


def report(quality: Mapping[str, Any], run: str) -> str:
    """Tables of what was measured, with 95 % intervals over episodes."""
    options = read_options()
    rows = pd.DataFrame(quality["rows"]).assign(task="", seed="")
    found = summary(rows, options.generator("world model", run), options.repetitions_profiles)
    left_out = f", {quality['left_out']} left out that are too short" if quality["left_out"] else ""
    parts = [
        f"world model on {quality['episodes']} episodes{left_out}; [95 % intervals over episodes]",
        _aligned([["teacher-forced", ""], *_teacher_forced(found)]),
        _aligned(list(_open_loop(found))),
        *([numbers(measures)] if (measures := quality.get("measures")) else []),
    ]
    return "\n\n".join(parts)


def numbers(measures: Sequence[Mapping[str, Any]]) -> str:
    """A table of what is measured of all episodes together; modalities are named where there are several."""
    is_named = len({one["part"] for one in measures if one["part"]}) > 1
    return _aligned([_line(one, is_named) for one in measures])


def _line(one: Mapping[str, Any], is_named: bool) -> list[str]:
    measure = CATALOGUE[one["measure"]]
    return [one["group"], " ".join([measure.title, one["part"]] if is_named else [measure.title]),
            measure.form.format(one["value"])]  # fmt: skip


def _teacher_forced(found: pd.DataFrame) -> list[list[str]]:
    rows = found[(found.predictor == TEACHER_FORCED) & (found.part == "")].set_index("measure")
    return [[title, _cell(rows.loc[name], form)] for name, (title, form) in FORCED.items() if name in rows.index]


def _open_loop(found: pd.DataFrame) -> list[list[str]]:
    """A line for each measure, part and predictor, a column for each horizon."""
    rows = found[found.measure.isin(MEASURES) & (found.horizon > NO_HORIZON)]
    horizons = sorted(rows.horizon.unique())
    lines = [["open loop, steps:", "", *map(str, horizons)]]
    for name, measure in MEASURES.items():
        for part, group in rows[rows.measure == name].groupby("part", sort=True):
            title = " ".join(filter(None, (measure.title, str(part) if _is_named(rows, name) else "")))
            lines += _lines(title, measure, group, horizons)
    return lines


def _is_named(rows: pd.DataFrame, name: str) -> bool:
    return rows[rows.measure == name].part.nunique() > 1


def _lines(title: str, measure: Measure, group: pd.DataFrame, horizons: list[int]) -> list[list[str]]:
    lines: list[list[str]] = []
    for predictor, named in PREDICTORS.items():
        own = group[group.predictor == predictor].set_index("horizon")
        if len(own):
            cells = [_cell(own.loc[horizon], measure.form) if horizon in own.index else "-" for horizon in horizons]
            lines.append(["" if lines else title, named, *cells])
    return lines


def _cell(row: pd.Series, form: str) -> str:
    """The value and its interval, if it has one."""
    interval = "" if pd.isna(row.low) else f" [{form.format(row.low)}, {form.format(row.high)}]"
    return form.format(row.value) + interval


def _aligned(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
