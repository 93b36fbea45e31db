"""R12: effect of each change to an agent in our own runs: the full agent and the changed one, paired by seed.

Both are trained and evaluated by the same protocol. Runs of a pair share the seed of environment, weights and episodes
at the start, so that part of the noise cancels; where it does not, the pairing costs nothing but degrees of freedom.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.context import Context
from analysis.data import naming
from analysis.data.identity import RunGroupId
from analysis.data.runs import ATARI_FAMILY
from analysis.draw.artefacts import Table
from analysis.draw.tables import NO_RUN, Columns, records_table
from analysis.errors import require
from analysis.item import Item
from analysis.stats import metrics
from analysis.stats.bootstrap import FastEngine
from analysis.stats.interval_methods import t_half_width
from analysis.studies import records

COMMAND = "`make suite SUITE=small` (or paper: agents and their ablations) and `make repro`"


def runs_with_variants(context: Context) -> pd.DataFrame:
    """Our runs that may be compared; ``NoData`` without one of a variant."""
    frame = records.runs(context)
    require(frame[frame.variant != ""], f"no variant of an agent of ours yet: {COMMAND}")
    return frame


def paired_interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """95 % t interval of the mean difference; NaN for fewer than two pairs, and for differences that rounding keeps
    from being equal."""
    if len(differences) < 2 or np.ptp(differences) <= metrics.TIE:
        return np.nan, np.nan
    half = float(t_half_width(differences.std(ddof=1), np.asarray(len(differences))))
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
    frame = runs_with_variants(context)
    columns: Columns = {
        "method": ("Variant", ""),
        "scale": ("Scale", ""),
        "task": ("Task", ""),
        "pairs": ("Pairs", "{:.0f}"),
        "full": ("Full agent", "{:.3f}"),
        "changed": ("Variant's", "{:.3f}"),
        "change": ("Change", "{:+.3f}"),
        "low": ("95 % interval", _interval),
        "missing": ("Missing", lambda entry: entry["missing"] or "none"),
    }
    caption = (
        "What our variants change against the full agent with the same protocol and the same seeds: mean score of both "
        "over the pairs (human-normalised on Atari), mean difference variant minus full agent with its 95 % interval "
        "(t over pairs; over games: stratified bootstrap of the pairs, "
        f"{context.options.repetitions_profiles} repetitions). Missing: seeds that only one of the two has; these "
        f"enter nothing. {NO_RUN}: no pair, or pairs without interval: one, or equal ones."
        f"{records.notes(frame.task, context)}"
    )
    return records_table(list(_entries(frame, context)), columns, caption, text_columns=3)


def _interval(entry: Mapping[str, Any]) -> str:
    return NO_RUN if np.isnan(entry["low"]) else f"[{entry['low']:+.3f}, {entry['high']:+.3f}]"


def _entries(frame: pd.DataFrame, context: Context) -> Iterator[dict[str, object]]:
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
    means = dict(zip(("full", "changed", "change"), map(float, by_task)))
    return {"pairs": len(whole), **means, "low": interval[0], "high": interval[1]}


def _over_games(games: pd.DataFrame, name: str, context: Context) -> dict[str, object]:
    """Means over games with equal weights; runs without a partner are counted, games without a pair named."""
    whole = games.dropna()
    without = sorted(set(games.task) - set(whole.task))
    interval = (np.nan, np.nan)
    if len(whole) and whole.groupby("task").size().min() > 1:
        differences = records.matrix(whole.assign(value=whole.difference))
        if metrics.tell_spread(differences):
            generator = context.options.generator("effects", name)
            interval = FastEngine().aggregates(differences, generator, context.options.repetitions_profiles)["mean"]
    missing = [f"{naming.counted(lost, 'run')} without a partner"] if (lost := len(games) - len(whole)) else []
    if without:
        missing.append(f"no pair on {', '.join(task.removeprefix(ATARI_FAMILY) for task in without)}")
    return {"task": f"{whole.task.nunique()} games"} | _entry(whole, interval) | {"missing": "; ".join(missing)}


def _missing(own: pd.DataFrame) -> str:
    parts = []
    for column, who in (("value_full", "full agent"), ("value_changed", "variant")):
        seeds = own.seed[own[column].isna()]
        if len(seeds):
            parts.append(f"{who} lacks seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}")
    return "; ".join(parts)


ITEMS = (Item("R12-T-effects", "beyond", "table", "Our ablations, paired by seed", effects_table, runs_with_variants),)
