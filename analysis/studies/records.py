"""Our runs as one table, a row a run, with scores on a common scale where there is one."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.context import Context
from analysis.data import naming
from analysis.data.identity import RunGroupId, group_of
from analysis.data.runs import ATARI_FAMILY, PAPER_SCALE
from analysis.data.scores import References, stack
from analysis.draw import style
from analysis.papers.ours import SMOKE
from analysis.stats.metrics import Matrix

COMMAND = "`make suite SUITE=small` (or atari100k, ablations, crafter) and `make repro`"
GROUP = ["method", "variant", "scale"]
IDENTITY = [*GROUP, "task", "seed"]
RAW_ATARI = "atari, raw"  # family of the Atari games without a human score
MAX_NAMED = 6


def normalised(task: str, values: NDArray[np.float64], references: References) -> NDArray[np.float64]:
    """Human-normalised scores on Atari games that have a human score, the returns themselves elsewhere."""
    column = references.position(task)
    if column is None:
        return values
    low, high = references.random[column], references.human[column]
    return np.asarray((values - low) / (high - low))


def with_values(frame: pd.DataFrame, column: str, references: References) -> pd.DataFrame:
    """Rows with their label and family, and with ``value``: ``column`` on the common scale, where ``is_normalised``.

    The values of a family are of one kind, so Atari games without a human score are a family of their own.
    """
    frame = frame.copy()
    frame["value"] = np.nan
    for task, rows in frame.groupby("task"):
        values = rows[column].to_numpy(dtype=np.float64)
        frame.loc[rows.index, "value"] = normalised(str(task), values, references)
    has_human = {task: references.position(task) is not None for task in frame.task.unique()}
    family = {
        task: RAW_ATARI if task.startswith(ATARI_FAMILY) and not human else task.split("/")[0]
        for task, human in has_human.items()
    }
    return frame.assign(
        label=[RunGroupId(*key).label() for key in frame[GROUP].itertuples(index=False)],
        family=[family[task] for task in frame.task],
        is_normalised=[has_human[task] for task in frame.task],
    )


def runs(context: Context) -> pd.DataFrame:
    """Every run of ours with its score, ``value`` and hours; empty without runs."""
    columns = [*IDENTITY, "score", "hours", "env_steps", "hardware"]
    parts = [group.rows[columns] for group in context.groups] or [pd.DataFrame(columns=columns)]
    return with_values(pd.concat(parts, ignore_index=True), "score", context.references)


def matrix(frame: pd.DataFrame) -> Matrix:
    """Values as a matrix (runs, tasks), tasks in alphabetical order; NaN below the runs of a task that has fewer."""
    return stack(frame, sorted(frame.task.unique()), "our runs", "the collected scores", column="value")


def paper_first(scale: str) -> tuple[bool, str]:
    """Sort key of scales."""
    return scale != PAPER_SCALE, scale


def colour(label: str, labels: Sequence[str]) -> style.Colour:
    """Colour of a group of runs; a variant that repeats a published ablation has the colour of that ablation."""
    variant = group.variant if (group := group_of(label)) else ""
    ablation = naming.SAME_ABLATIONS.get(variant, variant)
    return style.colour(ablation) if ablation in naming.COLOURS else style.tint(label, labels)


def games_with_human(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that aggregates over games are made of."""
    return frame[frame.is_normalised]


def notes(tasks: Iterable[str], scales: Iterable[str], references: References) -> str:
    """The end of a caption: Atari games without a human score, and smoke runs, if such are shown."""
    games = [task for task in sorted(set(tasks)) if task.startswith(ATARI_FAMILY) and references.position(task) is None]
    smoke = f" {SMOKE}" if "smoke" in set(scales) else ""
    if not games:
        return smoke
    named = naming.listed([task.removeprefix(ATARI_FAMILY) for task in games[:MAX_NAMED]])
    more = f" and {len(games) - MAX_NAMED} more" if len(games) > MAX_NAMED else ""
    return f" Without a human score, so raw and in no number over games: {named}{more}.{smoke}"
