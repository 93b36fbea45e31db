"""R15: known defects of the published scores, and their effect on the aggregates where it can be computed."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.context import Context
from analysis.data import naming
from analysis.data.defects import Defect
from analysis.data.published import (
    ABLATIONS,
    ABLATIONS_WITHOUT_DEFECT,
    ATARI,
    STORM_PRINTED,
    atari_suite,
    curl_scores,
)
from analysis.data.scores import DATA, read_table
from analysis.data.secondary import SUBJECT, read_secondary
from analysis.draw.artefacts import Table
from analysis.draw.tables import NO_RUN, render
from analysis.item import Item
from analysis.stats import metrics
from analysis.stats.metrics import Matrix

# Rows of printed means that replace missing runs (``SOURCES.md``, SimPLe).
IMPUTED = {"BattleZone": (0, 1), "Breakout": (1, 3), "CrazyClimber": (4,), "DemonAttack": (1,)}
REM_EPISODES, ABLATION_EPISODES = 100, 104
FORMS = {"superhuman": "{:g} games superhuman", "iqm": "IQM {:g}", "optimality_gap": "optimality gap {:g}"}
DECIMALS = 3

Effect = Mapping[str, Mapping[str, float]]
"""Aggregates by case: as published, without the game, ..."""


def defects_table(context: Context) -> Table:
    """R15-T-defects: every entry of ``defects.csv``, with the aggregates as they are and as they would be."""
    lines, records = [], []
    for defect in context.known_defects:
        effect = effect_of(defect, context)
        methods = naming.listed([naming.shown(method) for method in defect.methods])
        tasks = naming.listed(defect.tasks) if defect.tasks else "all"
        text = "; ".join(f"{name}: {_text(values)}" for name, values in effect.items()) or NO_RUN
        lines.append([methods, tasks, defect.kind, defect.note, text])
        records += [
            {"methods": ";".join(defect.methods), "tasks": ";".join(defect.tasks), "kind": defect.kind, "case": case}
            | {"aggregate": name, "value": value, "note": defect.note}
            for case, values in (effect or {"": {"": np.nan}}).items()
            for name, value in values.items()
        ]
    caption = (
        "What is wrong with the published scores or worth a remark, and what it does to the aggregates of "
        f"human-normalised scores; {NO_RUN}: cannot be computed from what is published."
    )
    headers = ["Whose", "Tasks", "Kind", "What", "Effect"]
    return render(headers, lines, pd.DataFrame(records), caption, text_columns=len(headers))


def _text(values: Mapping[str, float]) -> str:
    return ", ".join(FORMS.get(name, name + " {:g}").format(round(value, DECIMALS)) for name, value in values.items())


def effect_of(defect: Defect, context: Context) -> Effect:
    """Aggregates with the defect and without it; empty where they cannot be computed."""
    return _EFFECTS[defect.effect](context) if defect.effect else {}


def _points(scores: Matrix, *names: str) -> dict[str, float]:
    points = metrics.points(scores)
    return {name: points[name] for name in names}


def _published(names: tuple[str, ...], cases: Mapping[str, tuple[str, str]]) -> Callable[[Context], Effect]:
    """The effect that shows in published suites: these aggregates of a suite and method for each case."""
    return lambda context: {
        case: _points(context.suites[suite].scores[method], *names) for case, (suite, method) in cases.items()
    }


def _without_imputed(context: Context) -> Effect:
    """IQM of the values that are runs, and the spread over runs, which the imputed ones reduce."""
    suite = context.suites[ATARI]
    scores = suite.scores["SimPLe"]
    real = scores.copy()
    for task, runs in IMPUTED.items():
        real[list(runs), suite.tasks.index(task)] = np.nan
    columns = [suite.tasks.index(task) for task in IMPUTED]
    name = "mean deviation over runs on these games"
    return {
        "as published": _points(scores, "iqm") | {name: float(scores[:, columns].std(axis=0, ddof=1).mean())},
        "without the imputed values": {
            "iqm": metrics.interquartile_mean(real),
            name: float(np.nanstd(real[:, columns], axis=0, ddof=1).mean()),
        },
    }


def _best_evaluation(context: Context) -> Effect:
    _, best = curl_scores(context.references, column="hns_max")
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


def _rounding(context: Context) -> Effect:
    """P(X > Y) of the pairs where ties are hidden most, with the rounding errors and without."""
    stored = atari_suite(replace(context.references, as_stored=True)).scores
    snapped = atari_suite(replace(context.references, as_stored=False)).scores
    pairs = (("IRIS", "SPR"), ("IRIS", "CURL"), ("M3", "SPR"), ("M3", "CURL"))
    return {
        case: {f"P({x} > {y})": metrics.probability_of_improvement(scores[x], scores[y]) for x, y in pairs}
        for case, scores in (("as stored", stored), ("without rounding errors, used here", snapped))
    }


_EFFECTS: dict[str, Callable[[Context], Effect]] = {
    "without_copies": _published(
        ("iqm", "mean"),
        {
            f"{naming.shown(method)} {case}": (suite, method)
            for method in ("no-latent-actor-critic", "no-action-input")
            for case, suite in (("with RoadRunner", ABLATIONS), ("without", ABLATIONS_WITHOUT_DEFECT))
        },
    ),
    "printed_freeway": _published(
        ("superhuman", "mean", "median", "iqm"),
        {"with 0": (ATARI, "STORM"), "with 33.5": (STORM_PRINTED, "STORM")},
    ),
    "without_imputed": _without_imputed,
    # which the papers do not print, as these are statistics over games only
    "single_values": _published(
        ("iqm", "optimality_gap"),
        {f"{method}, over games instead of runs": (ATARI, method) for method in ("MuZero", "EfficientZero")},
    ),
    "best_evaluation": _best_evaluation,
    "printed_means": _printed_means,
    "quoted": _quoted,
    # the level of REM on the eight games against that on all
    "eight_games": _published(("iqm",), {"REM on the 8 games": (ABLATIONS, "REM"), "REM on 26 games": (ATARI, "REM")}),
    "rounding": _rounding,
    # the standard error with four more episodes
    "episodes": lambda context: {
        "104 episodes instead of 100": {"error of a mean times": float(np.sqrt(REM_EPISODES / ABLATION_EPISODES))}
    },
}

ITEMS = (Item("R15-T-defects", "beyond", "table", "Defects of the published scores", defects_table),)
