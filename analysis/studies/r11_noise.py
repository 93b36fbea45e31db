"""R11: how much of the spread of scores is noise of the evaluation, how much is due to runs, how much to games.

Every final evaluation keeps the return of each episode (``analysis.stats.variance_components``).
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.context import Context
from analysis.draw.artefacts import Table
from analysis.draw.tables import NO_RUN, Columns, records_table
from analysis.errors import require
from analysis.item import Item
from analysis.stats.variance_components import Components, between_tasks, components, pooled
from analysis.studies import records

EPISODES = (16, 32, 100)  # of tests during training and of the final protocol in the published projects


def episodes(context: Context) -> pd.DataFrame:
    """Returns of the episodes of our final evaluations, human-normalised on Atari; ``NoData`` without any."""
    found = require(context.episodes, f"no returns of single episodes of ours yet: {records.COMMAND}")
    return records.with_values(found, "return", context)


def noise_table(context: Context) -> Table:
    """R11-T-noise: a row per group of runs and task, and one over the games of a group."""
    frame = episodes(context)
    columns: Columns = {
        "method": ("Run", ""),
        "task": ("Task", ""),
        "runs": ("Runs", "{:.0f}"),
        "episodes_per_run": ("Episodes a run", "{:.4g}"),
        "mean": ("Mean", "{:.3f}"),
        **{f"sd_{kind}": (f"SD {kind}", "{:.3f}") for kind in ("episodes", "runs", "games")},
        "share": ("Share of episodes", "{:.0f} %", 0.01),
        **{f"error_{count}": (f"± of {count} episodes", "{:.3f}") for count in EPISODES},
    }
    caption = (
        "Noise of the final evaluations of our runs, human-normalised on Atari: standard deviation of episodes within "
        "a run, of the runs' true means, and of the games' true means (method of moments, negative variances are 0); "
        "share of the variance of a run's score that is noise of its episodes; standard error of a run's score from so "
        f"many episodes. {NO_RUN}: cannot be told from one run or one game."
        f"{records.notes(frame.task, context)}"
    )
    return records_table(list(_entries(frame)), columns, caption, text_columns=2)


def _entries(frame: pd.DataFrame) -> Iterator[dict[str, object]]:
    for label, group in frame.groupby("label", sort=True):
        found = {
            str(task): components([run.value.to_numpy(dtype=np.float64) for _, run in rows.groupby("seed")])
            for task, rows in group.groupby("task")
        }
        for task, parts in found.items():
            yield _entry(str(label), task, parts, np.nan)
        games = [found[task] for task in records.games_with_human(group).task.unique()]
        if len(games) > 1:
            yield _entry(str(label), f"{len(games)} games", pooled(games), between_tasks(games))


def _entry(label: str, task: str, parts: Components, games: float) -> dict[str, object]:
    return {
        "method": label,
        "task": task,
        "runs": parts.runs,
        "episodes_per_run": parts.per_run,
        "mean": parts.mean,
        "sd_episodes": float(np.sqrt(parts.episode)),
        "sd_runs": float(np.sqrt(parts.run)),
        "sd_games": float(np.sqrt(games)),
        "share": parts.share,
        **{f"error_{count}": float(np.sqrt(parts.episode / count)) for count in EPISODES},
    }


ITEMS = (Item("R11-T-noise", "beyond", "table", "Our runs: noise of episodes and runs", noise_table, episodes),)
