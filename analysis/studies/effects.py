"""R12: what each change to an agent does, from our own runs: the full agent and the changed one, paired by seed.

Both are trained and evaluated by the same protocol. Runs of a pair share the seed of environment, weights and episodes
at the start, so that part of the noise cancels; where it does not, the pairing costs nothing but degrees of freedom.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.context import Context
from analysis.data.identity import RunGroupId
from analysis.data.naming import shown
from analysis.data.runs import ATARI_FAMILY
from analysis.draw.artefacts import Table
from analysis.draw.tables import Cell, render
from analysis.item import Item, NoData
from analysis.stats.bootstrap import FastEngine
from analysis.studies import records

COMMAND = "`make suite SUITE=small` (or paper: agents and their ablations) and `make repro`"
CONFIDENCE = 0.95

Values = NDArray[np.float64]


def require_variants(context: Context) -> None:
    """Raise ``NoData`` without a run of a variant."""
    if not (records.runs(context).variant != "").any():
        raise NoData(f"no variant of an agent of ours yet: {COMMAND}")


def paired_interval(differences: Values) -> tuple[float, float]:
    """95 % t interval of the mean difference; none of a single pair."""
    if len(differences) < 2:
        return np.nan, np.nan
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    return float(differences.mean() - half), float(differences.mean() + half)


def pairs(full: pd.DataFrame, changed: pd.DataFrame) -> pd.DataFrame:
    """A row for every task and seed of the changed agent on the tasks it was trained on: value of both, NaN for a run
    that is missing."""
    full = full[full.task.isin(changed.task)]
    keys = ["task", "seed"]
    both = full[[*keys, "value"]].merge(changed[[*keys, "value"]], on=keys, how="outer", suffixes=("_full", "_changed"))
    return both.assign(difference=both.value_changed - both.value_full).sort_values(keys, ignore_index=True)


def effects_table(context: Context) -> Table:
    """R12-T-effects: a row per variant and task, and one over its games."""
    entries = list(_entries(context))
    headers = ["Variant", "Scale", "Task", "Pairs", "Full agent", "Variant's", "Change", "95 % interval", "Missing"]
    lines = [
        [
            Cell(shown(str(entry["method"]))),
            Cell(str(entry["scale"])),
            Cell(str(entry["task"])),
            Cell(str(entry["pairs"])),
            *(Cell(records.number(entry[name], "{:.3f}")) for name in ("full", "changed")),
            Cell(records.number(entry["change"], "{:+.3f}")),
            Cell(_interval(entry)),
            Cell(str(entry["missing"]) or "none"),
        ]
        for entry in entries
    ]
    caption = (
        "What our variants change against the full agent with the same protocol and the same seeds: mean score of both "
        "over the pairs (human-normalised on Atari), mean difference variant minus full agent with its 95 % interval "
        "(t over pairs; over games: stratified bootstrap of the pairs, "
        f"{context.options.repetitions_profiles} repetitions). Missing: seeds that only one of the two has; these "
        f"enter nothing. {records.NONE}: no pair, or one pair without interval."
        f"{_about(context)}"
    )
    return render(headers, lines, pd.DataFrame(entries), caption, text_columns=3)


def _about(context: Context) -> str:
    frame = records.runs(context)
    return records.about_raw(frame.task, context.references) + records.about_smoke(frame.scale)


def _interval(entry: dict[str, object]) -> str:
    if pd.isna(entry["low"]):
        return records.NONE
    return f"[{float(str(entry['low'])):+.3f}, {float(str(entry['high'])):+.3f}]"


def _entries(context: Context) -> Iterator[dict[str, object]]:
    frame = records.runs(context)
    for (method, scale), rows in frame.groupby(["method", "scale"], sort=True):
        for variant, changed in rows[rows.variant != ""].groupby("variant", sort=True):
            both = pairs(rows[rows.variant == ""], changed)
            who = {"method": RunGroupId(str(method), str(variant)).name, "scale": str(scale)}
            for task, own in both.groupby("task", sort=True):
                whole = own.dropna()
                interval = paired_interval(whole.difference.to_numpy(dtype=np.float64))
                yield who | {"task": str(task)} | _entry(whole, interval) | {"missing": _missing(own)}
            games = both[both.task.isin(records.games_with_human(rows).task)]
            if games.task.nunique() > 1:
                yield who | _over_games(games, f"{method} {variant} {scale}", context)


def _entry(whole: pd.DataFrame, interval: tuple[float, float]) -> dict[str, object]:
    """Means over tasks of the means over pairs, which on one task is the mean over pairs."""
    by_task = whole.groupby("task")[["value_full", "value_changed", "difference"]].mean().mean()
    names = {"full": "value_full", "changed": "value_changed", "change": "difference"}
    means = {name: float(by_task[column]) for name, column in names.items()}
    return {"pairs": len(whole), **means, "low": interval[0], "high": interval[1]}


def _over_games(games: pd.DataFrame, name: str, context: Context) -> dict[str, object]:
    """Games weigh the same; those without a pair are named and left out."""
    whole = games.dropna()
    without = sorted(set(games.task) - set(whole.task))
    interval = (np.nan, np.nan)
    if len(whole) and whole.groupby("task").size().min() > 1:
        differences = records.matrix(whole.assign(value=whole.difference))
        generator = context.options.generator("effects", name)
        interval = FastEngine().aggregates(differences, generator, context.options.repetitions_profiles)["mean"]
    title = f"{whole.task.nunique()} games"
    missing = f"no pair on {', '.join(task.removeprefix(ATARI_FAMILY) for task in without)}" if without else ""
    return {"task": title} | _entry(whole, interval) | {"missing": missing}


def _missing(own: pd.DataFrame) -> str:
    parts = []
    for column, who in (("value_full", "full agent"), ("value_changed", "variant")):
        seeds = own.seed[own[column].isna()]
        if len(seeds):
            parts.append(f"{who} lacks seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}")
    return "; ".join(parts)


ITEMS = (Item("R12-T-effects", "beyond", "table", "Our ablations, paired by seed", effects_table, require_variants),)
