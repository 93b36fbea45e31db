"""R11: how much of the spread of scores is noise of the evaluation, how much runs, how much games.

Every final evaluation keeps the return of each episode. Runs i of a task with n_i episodes each are a one-way layout
with random effects: return = mean + run + episode. Variances by the method of moments (analysis of variance).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.context import Context
from analysis.data.naming import shown
from analysis.draw.artefacts import Table
from analysis.draw.tables import Cell, render
from analysis.item import Item, NoData
from analysis.studies import records

EPISODES = (16, 32, 100)  # of tests during training and of the final protocol in the published projects

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Components:
    """Variances on one task: of episodes within a run, and of the runs' true means; NaN where they cannot be told."""

    mean: float
    runs: int
    episodes: int
    episode: float
    run: float

    @property
    def per_run(self) -> float:
        """Episodes a run."""
        return self.episodes / self.runs

    @property
    def share(self) -> float:
        """Share of the variance of a run's score that more episodes would remove."""
        noise = self.episode / self.per_run
        total = noise + self.run
        return noise / total if total > 0 else np.nan


def components(runs: Sequence[Values]) -> Components:
    """Method of moments, for unequal numbers of episodes: E(MSW) = episode, E(MSB) = episode + n0 run; negative
    estimates are 0. One run has no variance of runs, one episode each none of episodes."""
    sizes = np.array([len(run) for run in runs], dtype=np.float64)
    means = np.array([run.mean() for run in runs])
    total, count = float(sizes.sum()), len(runs)
    grand = float(sizes @ means / total)
    squares = sum(float(((run - run.mean()) ** 2).sum()) for run in runs)
    within = squares / (total - count) if total > count else np.nan
    between = np.nan
    if count > 1:
        typical = (total - float((sizes**2).sum()) / total) / (count - 1)
        between = _not_negative((float(sizes @ (means - grand) ** 2) / (count - 1) - within) / typical)
    return Components(float(means.mean()), count, int(total), within, between)


def between_games(tasks: Sequence[Components]) -> float:
    """Variance of the games' true means: that of their means, less what runs and episodes put into it."""
    means = np.array([task.mean for task in tasks])
    noise = [(task.run + task.episode / task.per_run) / task.runs for task in tasks]
    return _not_negative(float(means.var(ddof=1) - np.mean(noise)))


def _not_negative(variance: float) -> float:
    """A negative estimate is 0; one that cannot be made stays NaN (``max`` would make it 0)."""
    return float(np.maximum(variance, 0.0))


def require_episodes(context: Context) -> None:
    """Raise ``NoData`` without returns of single episodes."""
    if not len(context.episodes):
        raise NoData(f"no returns of single episodes of ours yet: {records.COMMAND}")


def noise_table(context: Context) -> Table:
    """R11-T-noise: a row per group of runs and task, and one over the games of a group."""
    entries = list(_entries(context))
    headers = [
        "Run", "Task", "Runs", "Episodes a run", "Mean", "SD episodes", "SD runs", "SD games", "Share of episodes",
        *(f"± of {count} episodes" for count in EPISODES),
    ]  # fmt: skip
    names = ("mean", "sd_episodes", "sd_runs", "sd_games")
    lines = [
        [
            Cell(shown(str(entry["method"]))),
            Cell(str(entry["task"])),
            Cell(str(entry["runs"])),
            Cell(records.number(entry["episodes_per_run"], "{:.4g}")),
            *(Cell(records.number(entry[name], "{:.3f}")) for name in names),
            Cell(records.number(entry["share"], "{:.0f} %", 0.01)),
            *(Cell(records.number(entry[f"error_{count}"], "{:.3f}")) for count in EPISODES),
        ]
        for entry in entries
    ]
    caption = (
        "Noise of the final evaluations of our runs, human-normalised on Atari: standard deviation of episodes within "
        "a run, of the runs' true means, and of the games' true means (method of moments, negative variances are 0); "
        "share of the variance of a run's score that is noise of its episodes; standard error of a run's score from so "
        f"many episodes. {records.NONE}: cannot be told from one run or one game."
        f"{records.about_raw(context.episodes.task, context.references)}{records.about_smoke(context.episodes.scale)}"
    )
    return render(headers, lines, pd.DataFrame(entries), caption, text_columns=2)


def _entries(context: Context) -> Iterator[dict[str, object]]:
    frame = records.with_values(context.episodes, "return", context.references)
    for label, group in frame.groupby("label", sort=True):
        found = {
            str(task): components([run.value.to_numpy(dtype=np.float64) for _, run in rows.groupby("seed")])
            for task, rows in group.groupby("task")
        }
        for task, parts in found.items():
            yield _entry(str(label), task, parts, np.nan)
        games = [found[task] for task in records.games_with_human(group).task.unique()]
        if len(games) > 1:
            yield _entry(str(label), f"{len(games)} games", _pooled(games), between_games(games))


def _pooled(games: Sequence[Components]) -> Components:
    """Mean variances over games."""
    runs, episodes = sum(game.runs for game in games), sum(game.episodes for game in games)
    episode, run = float(np.mean([game.episode for game in games])), float(np.mean([game.run for game in games]))
    return Components(float(np.mean([game.mean for game in games])), runs, episodes, episode, run)


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


ITEMS = (Item("R11-T-noise", "beyond", "table", "Our runs: noise of episodes and runs", noise_table, require_episodes),)
