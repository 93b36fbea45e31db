"""Our runs as one table, a row a run, with scores on a common scale where there is one."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from analysis.context import Context
from analysis.data import naming
from analysis.data.identity import RunGroupId
from analysis.data.runs import ATARI_FAMILY, PAPER_SCALE
from analysis.data.scores import stack
from analysis.papers.ours import cut_note
from analysis.stats.metrics import Matrix

COMMAND = "`make suite SUITE=small` (or atari100k, ablations, crafter) and `make repro`"
GROUP = ["method", "variant", "scale"]
IDENTITY = [*GROUP, "task", "seed"]
RAW_ATARI = "atari, raw"  # family of the Atari games without a human score
MAX_NAMED = 6


def with_values(frame: pd.DataFrame, column: str, context: Context, *, normalises_all: bool = False) -> pd.DataFrame:
    """Rows with their label and family, and with ``value``: ``column``, human-normalised where ``is_normalised``, on
    whole Atari games that have a human score; those of runs of more steps than their own only with ``normalises_all``.

    The values of a family are of one kind, so other Atari games are a family of their own.
    """
    cut = {
        (group.id, task)
        for group in context.groups
        for task in {*group.cut} - {*(group.beyond if normalises_all else ())}
    }
    groups = [RunGroupId(*key) for key in frame[GROUP].itertuples(index=False)]
    places = [context.references.position(task) for task in frame.task]
    is_normalised = np.array(
        [place is not None and key not in cut for place, key in zip(places, zip(groups, frame.task))], dtype=bool
    )
    raw = frame[column].to_numpy(dtype=np.float64)
    columns = [place or 0 for place in places]
    low, high = context.references.random[columns], context.references.human[columns]
    return frame.assign(
        value=np.where(is_normalised, (raw - low) / (high - low), raw),
        label=[group.label() for group in groups],
        family=[
            RAW_ATARI if task.startswith(ATARI_FAMILY) and not normalised else task.split("/")[0]
            for task, normalised in zip(frame.task, is_normalised)
        ],
        is_normalised=is_normalised,
    )


def runs(context: Context, *, with_beyond: bool = False) -> pd.DataFrame:
    """Every run of ours that may be compared, with its score, ``value`` and hours; empty without runs. On request also
    those of more steps than their own (``RunGroup.beyond``), for whoever shows them apart."""
    columns = [*IDENTITY, "score", "hours", "env_steps", "hardware"]
    parts = [group.rows[columns] for group in context.groups] or [pd.DataFrame(columns=columns)]
    frame = pd.concat(parts, ignore_index=True)
    kept = frame if with_beyond else context.comparable(frame)
    return with_values(kept.reset_index(drop=True), "score", context, normalises_all=with_beyond)


def matrix(frame: pd.DataFrame) -> Matrix:
    """Values as a matrix (runs, tasks), tasks in alphabetical order; NaN below the runs of a task that has fewer."""
    return stack(frame, sorted(frame.task.unique()), "our runs", "the collected scores", column="value")


def paper_first(scale: str) -> tuple[bool, str]:
    """Sort key of scales."""
    return scale != PAPER_SCALE, scale


def games_with_human(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that aggregates over games are made of."""
    return frame[frame.is_normalised]


def notes(tasks: Iterable[str], context: Context) -> str:
    """The end of a caption: Atari games without a human score, and runs with cut episodes, if there are any."""
    position = context.references.position
    games = [task for task in sorted(set(tasks)) if task.startswith(ATARI_FAMILY) and position(task) is None]
    cut = f" {note}" if (note := cut_note(context)) else ""
    if not games:
        return cut
    named = naming.listed([task.removeprefix(ATARI_FAMILY) for task in games[:MAX_NAMED]])
    more = f" and {len(games) - MAX_NAMED} more" if len(games) > MAX_NAMED else ""
    return f" Without a human score, so raw and in no number over games: {named}{more}.{cut}"
