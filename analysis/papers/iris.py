"""IRIS: the paper's items, with those that have no published data (cost, 64 tokens, long runs) from our runs."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparisons import IRIS
from analysis.context import Context
from analysis.data.identity import RunGroupId
from analysis.data.runs import ATARI_FAMILY, RunGroup
from analysis.draw.artefacts import Table
from analysis.draw.improvement import improvement_figure
from analysis.draw.intervals import interval_figure
from analysis.draw.profiles import profile_figure
from analysis.draw.tables import Columns, per_game_table, records_table
from analysis.errors import require
from analysis.item import Item, picture
from analysis.papers.hyperparameters import hyperparameter_table, require_yaml
from analysis.papers.ours import published_mean
from analysis.papers.times import OWN_SETTINGS, read_times
from analysis.stats.metrics import error_of_runs

METHOD, PUBLISHED, TOKENS = "iris", "IRIS", "64-tokens"
COMMAND = "`make suite SUITE=atari100k` and `make repro`"
LONG_STEPS = 2_500_000  # 10 million frames, four a step
NEAR = 0.95
SECONDS = {
    "seconds_collection": "Collection", "seconds_tokenizer": "Tokenizer", "seconds_world_model": "World model",
    "seconds_actor_critic": "Imagination and policy", "seconds_evaluation": "Test",
}  # fmt: skip


def cost_table(context: Context) -> Table:
    """IRIS-T-cost: hours of a run and seconds of an epoch by component; ours, and those that REM's scripts hold."""
    records: list[dict[str, Any]] = [
        {
            "run": f"{PUBLISHED}, published" + ("" if settings == OWN_SETTINGS else f" (settings {settings})"),
            "tasks": "Atari",
            "hardware": "not stated",
            **{f"seconds_{name}": row[name] for name in ("tokenizer", "world_model")},
            "seconds_actor_critic": row["imagination"],
        }
        for (method, settings), row in read_times()[::-1].iterrows()  # its own settings first
        if method == PUBLISHED
    ]
    costs = context.costs[context.costs.method == METHOD]
    benchmark = costs.task.str.split("/").str[0]
    for (variant, scale, tasks, hardware), rows in costs.groupby(["variant", "scale", benchmark, "hardware"]):
        run = RunGroupId(METHOD, variant, scale).label()
        means = rows[["hours", "parameters", *SECONDS]].mean()
        records.append({"run": run, "tasks": tasks.capitalize(), "hardware": hardware, "runs": len(rows), **means})
    columns: Columns = {
        "run": ("Run", ""), "tasks": ("Tasks", ""), "hardware": ("Hardware", ""),
        "runs": ("Runs", "{:.0f}"), "parameters": ("Parameters", "{:,.0f}"), "hours": ("Hours a run", "{:.2f}"),
        **{name: (title, "{:.1f}") for name, title in SECONDS.items()},
    }  # fmt: skip
    caption = (
        "What IRIS costs: hours of a run, and seconds of an epoch by component (an epoch without it does not count), "
        "means over runs. Published: the constants in the result scripts of REM; other hardware, so compare shares and "
        "not seconds. " + ("" if len(costs) else f"No runs of ours yet: {COMMAND}.")
    )
    return records_table([dict.fromkeys(columns) | record for record in records], columns, caption.strip())


def groups_with_64_tokens(context: Context) -> list[RunGroup]:
    """Our runs with 64 tokens a frame; ``NoData`` without any."""
    groups = [group for group in context.groups if (group.id.method, group.id.variant) == (METHOD, TOKENS)]
    return require(
        groups,
        "no runs with 64 tokens yet: `make suite SUITE=crafter` and `make repro`, or on a game of Atari "
        f"`python -m pipeline.train method={METHOD} variant={TOKENS} task=atari/GAME`",
    )


def tokens_table(context: Context) -> Table:
    """IRIS-T-tok: scores with 16 and with 64 tokens a frame, on every task that 64 tokens were tried on."""
    records = []
    for group in groups_with_64_tokens(context):
        plain = [other.rows for other in context.groups if other.id == replace(group.id, variant="")]
        for task, rows in group.rows.groupby("task"):
            same = [other[other.task == task] for other in plain]
            record = {"task": task, "scale": group.scale} | _statistics("16", same[0] if same else rows[:0])
            records.append(
                record | _statistics("64", rows) | {"published_16": _published(str(task), context, task in group.cut)}
            )
    columns: Columns = {
        "task": ("Task", ""), "scale": ("Scale", ""),
        "runs_16": ("Runs", "{:.0f}"), "score_16": ("16 tokens", "{:.2f}"), "error_16": ("±", "{:.2f}"),
        "runs_64": ("Runs", "{:.0f}"), "score_64": ("64 tokens", "{:.2f}"), "error_64": ("±", "{:.2f}"),
        "published_16": ("Published, 16 tokens", "{:.1f}"),
    }  # fmt: skip
    caption = (
        "IRIS with 16 and with 64 tokens a frame, our runs: mean score over runs and the standard error of that mean. "
        "Published: the paper's mean with 16 tokens, at paper scale; its own comparison has no published data."
    )
    return records_table(records, columns, caption)


def long_runs(context: Context) -> pd.DataFrame:
    """Our runs of IRIS and its variants on Atari over 10 million frames; ``NoData`` without any."""
    parts = [
        group.rows.assign(name=group.short_label, cut=group.rows.task.isin(group.cut))
        for group in context.groups
        if group.id.base == PUBLISHED
    ]
    rows = pd.concat(parts) if parts else pd.DataFrame(columns=["name", "task", "env_steps"])
    is_long = pd.to_numeric(rows.env_steps) >= NEAR * LONG_STEPS
    return require(
        rows[is_long & rows.task.astype(str).str.startswith(ATARI_FAMILY)],
        "no runs of 10 million frames yet, nor published data: give `pipeline/iris/params.yaml` a variant with "
        "`training.epochs` and `collection.train.stop_after_epochs` of 12500, then "
        f"`python -m pipeline.train method={METHOD} variant=NAME task=atari/GAME` and `make report`",
    )


def long_table(context: Context) -> Table:
    """IRIS-T-long: scores after 10 million frames beside those after 400 thousand."""
    records = [
        {"task": task, "run": name}
        | _statistics("long", rows)
        | {"steps": rows.env_steps.mean(), "published": _published(str(task), context, bool(rows.cut.any()))}
        for (name, task), rows in long_runs(context).groupby(["name", "task"])
    ]
    columns: Columns = {
        "task": ("Task", ""), "run": ("Run", ""), "runs_long": ("Runs", "{:.0f}"),
        "steps": ("Agent steps", "{:,.0f}"), "score_long": ("Score", "{:.1f}"), "error_long": ("±", "{:.1f}"),
        "published": ("Published, 100 thousand steps", "{:.1f}"),
    }  # fmt: skip
    caption = (
        "IRIS after 10 million frames, our runs: mean score over runs and the standard error of that mean, beside the "
        "published mean after 400 thousand frames. The paper's own long runs and DreamerV2's have no published data."
    )
    return records_table(records, columns, caption)


def _statistics(name: str, rows: pd.DataFrame) -> dict[str, Any]:
    """Number of runs (NaN for none), their mean score and its standard error (NaN where it cannot be told)."""
    count = len(rows)
    error = error_of_runs(rows.score.to_numpy(dtype=float))
    return {f"runs_{name}": count or np.nan, f"score_{name}": rows.score.mean(), f"error_{name}": error}


def _published(task: str, context: Context, cut: bool = False) -> float:
    """Published mean, of whole games only."""
    return np.nan if cut else published_mean(PUBLISHED, task, context)


ITEMS = (
    Item("IRIS-T1", "iris", "table", "Atari-100k per game, IRIS paper's Table 1", partial(per_game_table, IRIS)),
    Item(
        "IRIS-F-agg", "iris", "figure", "Mean, median and IQM with intervals",
        partial(interval_figure, IRIS, ("mean", "median", "iqm")),
    ),
    Item(
        "IRIS-F-og", "iris", "figure", "Optimality gap with intervals",
        partial(interval_figure, IRIS, ("optimality_gap",)),
    ),
    Item("IRIS-F-pp", "iris", "figure", "Performance profiles", partial(profile_figure, IRIS)),
    Item("IRIS-F-poi", "iris", "figure", "Probability of improvement", partial(improvement_figure, IRIS)),
    Item("IRIS-T-cost", "iris", "table", "Hours and seconds by component", cost_table),
    Item("IRIS-T-tok", "iris", "table", "16 and 64 tokens a frame", tokens_table, groups_with_64_tokens),
    Item("IRIS-T-long", "iris", "table", "After 10 million frames", long_table, long_runs),
    Item("IRIS-T-hp", "iris", "table", "Hyper-parameters", partial(hyperparameter_table, "iris"), require_yaml),
    picture("IRIS-F-rec", "iris", "Reconstructions"),
    picture("IRIS-F-imag", "iris", "Imagined trajectories"),
)  # fmt: skip
