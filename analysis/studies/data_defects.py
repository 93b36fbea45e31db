"""R15: what is wrong with the published scores, and what that does to the aggregates where it can be computed."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.context import Context
from analysis.data import naming
from analysis.data.defects import Defect
from analysis.data.published import ABLATIONS, ABLATIONS_WITHOUT_DEFECT, ATARI, STORM_PRINTED
from analysis.data.scores import DATA, read_table, stack
from analysis.data.secondary import SUBJECT, read_secondary
from analysis.draw.artefacts import Table
from analysis.draw.tables import Cell, render
from analysis.item import Item
from analysis.stats import metrics
from analysis.stats.metrics import Matrix

NOT_COMPUTABLE = "–"
# Positions of printed means that stand for missing runs (``SOURCES.md``, SimPLe).
IMPUTED = {"BattleZone": (0, 1), "Breakout": (1, 3), "CrazyClimber": (4,), "DemonAttack": (1,)}
REM_EPISODES, ABLATION_EPISODES = 100, 104
FORMS = {"superhuman": "{:g} games superhuman", "iqm": "IQM {:g}", "optimality_gap": "optimality gap {:g}"}
DECIMALS = 3

Effect = Mapping[str, Mapping[str, float]]
"""Under each name (as published, without the game, ...) the aggregates."""


def defects_table(context: Context) -> Table:
    """R15-T-defects: every entry of ``defects.csv``, with the aggregates as they are and as they would be."""
    lines, records = [], []
    for defect in context.known_defects:
        effect = effect_of(defect, context)
        methods = naming.listed([naming.shown(method) for method in defect.methods])
        tasks = naming.listed(defect.tasks) if defect.tasks else "all"
        text = "; ".join(f"{name}: {_said(values)}" for name, values in effect.items()) or NOT_COMPUTABLE
        lines.append([Cell(methods), Cell(tasks), Cell(defect.kind), Cell(defect.note), Cell(text)])
        records += [
            {"methods": ";".join(defect.methods), "tasks": ";".join(defect.tasks), "kind": defect.kind, "case": case}
            | {"aggregate": name, "value": value, "note": defect.note}
            for case, values in (effect or {"": {"": np.nan}}).items()
            for name, value in values.items()
        ]
    caption = (
        "What is wrong with the published scores or worth a remark, and what it does to the aggregates of "
        f"human-normalised scores; {NOT_COMPUTABLE}: cannot be computed from what is published."
    )
    headers = ["Whose", "Tasks", "Kind", "What", "Effect"]
    return render(headers, lines, pd.DataFrame(records), caption, text_columns=len(headers))


def _said(values: Mapping[str, float]) -> str:
    return ", ".join(FORMS.get(name, name + " {:g}").format(round(value, DECIMALS)) for name, value in values.items())


def effect_of(defect: Defect, context: Context) -> Effect:
    """Aggregates with the defect and without it; empty where nobody can compute them."""
    return _EFFECTS[defect.effect](context) if defect.effect else {}


def _points(scores: Matrix, *names: str) -> dict[str, float]:
    points: Mapping[str, Any] = metrics.points(scores)
    return {name: float(points[name]) for name in names}


def _without_copies(context: Context) -> Effect:
    eight, seven = (context.suites[name].scores for name in (ABLATIONS, ABLATIONS_WITHOUT_DEFECT))
    return {
        f"{naming.shown(method)} {place}": _points(scores[method], "iqm", "mean")
        for method in ("no-latent-actor-critic", "no-action-input")
        for place, scores in (("with RoadRunner", eight), ("without", seven))
    }


def _with_printed_freeway(context: Context) -> Effect:
    names = ("superhuman", "mean", "median", "iqm")
    return {
        "with 0": _points(context.suites[ATARI].scores["STORM"], *names),
        "with 33.5": _points(context.suites[STORM_PRINTED].scores["STORM"], *names),
    }


def _without_imputed(context: Context) -> Effect:
    """The interquartile mean of the values that are runs, and the spread over runs that the imputed ones shrink."""
    suite = context.suites[ATARI]
    scores = suite.scores["SimPLe"]
    real = scores.copy()
    columns = [suite.tasks.index(task) for task in IMPUTED]
    for task, runs in IMPUTED.items():
        real[list(runs), suite.tasks.index(task)] = np.nan
    name = "mean deviation over runs on these games"
    return {
        "as published": _points(scores, "iqm") | {name: float(scores[:, columns].std(axis=0, ddof=1).mean())},
        "without the imputed values": {
            "iqm": metrics.interquartile_mean(real),
            name: float(np.nanstd(real[:, columns], axis=0, ddof=1).mean()),
        },
    }


def _single_values(context: Context) -> Effect:
    """What the papers do not print, for it is a statistic over games only."""
    scores = context.suites[ATARI].scores
    return {
        f"{method}, over games instead of runs": _points(scores[method], "iqm", "optimality_gap")
        for method in ("MuZero", "EfficientZero")
    }


def _maximum_instead_of_final(context: Context) -> Effect:
    name = "atari100k_hns_only.csv"
    rows = read_table(DATA / name, ["task", "seed", "hns_max"], ["hns_max"])
    best = stack(rows, context.suites[ATARI].tasks, "CURL", name, "hns_max")
    return {
        "final evaluation, used here": _points(context.suites[ATARI].scores["CURL"], "iqm", "mean"),
        "best evaluation of every run": _points(best, "iqm", "mean"),
    }


def _printed_means(context: Context) -> Effect:
    """Aggregates of the per-game means that another paper prints for the same method."""
    rows = read_table(DATA / "printed_means.csv", ["benchmark", "method", "task", "mean"], ["mean"])
    rows = rows[(rows.benchmark == ATARI) & (rows.method == "DreamerV3")].sort_values("task")
    printed = context.references.normalise(rows["mean"].to_numpy(dtype=float)[None])
    names = ("superhuman", "mean", "median")
    return {
        "from the file": _points(context.suites[ATARI].scores["DreamerV3"], *names),
        "from the means per game that the DIAMOND paper prints": _points(printed, *names),
    }


def _quoted(context: Context) -> Effect:
    quoted = read_secondary(ATARI).set_index("quantity").value
    names = ("superhuman", "mean", "iqm")
    return {
        "from the file": _points(context.suites[ATARI].scores[SUBJECT], *names),
        "quoted from the paper": {name: float(quoted[name]) for name in names},
    }


def _eight_games(context: Context) -> Effect:
    """How far the level of REM on the eight games is from that on all."""
    return {
        "REM on the 8 games": _points(context.suites[ABLATIONS].scores["REM"], "iqm"),
        "REM on 26 games": _points(context.suites[ATARI].scores["REM"], "iqm"),
    }


def _episodes(context: Context) -> Effect:
    """What four episodes more do to an error."""
    return {"104 episodes instead of 100": {"error of a mean times": float(np.sqrt(REM_EPISODES / ABLATION_EPISODES))}}


_EFFECTS: dict[str, Callable[[Context], Effect]] = {
    "without_copies": _without_copies,
    "printed_freeway": _with_printed_freeway,
    "without_imputed": _without_imputed,
    "single_values": _single_values,
    "best_evaluation": _maximum_instead_of_final,
    "printed_means": _printed_means,
    "quoted": _quoted,
    "eight_games": _eight_games,
    "episodes": _episodes,
}


ITEMS = (Item("R15-T-defects", "beyond", "table", "Defects of the published scores", defects_table),)
