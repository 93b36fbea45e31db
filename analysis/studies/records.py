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
NONE = "–"
RAW_ATARI = "atari, raw"
MAX_NAMED = 6


def normalised(task: str, values: NDArray[np.float64], references: References) -> NDArray[np.float64]:
    """Human-normalised scores on Atari games that have a human score, returns as they are elsewhere."""
    column = references.position(task)
    if column is None:
        return values
    low, high = references.random[column], references.human[column]
    return np.asarray((values - low) / (high - low))


def with_values(frame: pd.DataFrame, column: str, references: References) -> pd.DataFrame:
    """Rows with their label, and with ``value``: ``column`` on the common scale, where ``is_normalised``; families
    hold values of one kind, so Atari games without a human score are one of their own."""
    frame = frame.copy()
    frame["value"] = np.nan
    for task, rows in frame.groupby("task"):
        values = rows[column].to_numpy(dtype=np.float64)
        frame.loc[rows.index, "value"] = normalised(str(task), values, references)
    keys = frame[GROUP].itertuples(index=False)
    human = {task: references.position(task) is not None for task in frame.task.unique()}
    return frame.assign(
        label=[RunGroupId(*key).label() for key in keys],
        family=[_family(task, human[task]) for task in frame.task],
        is_normalised=[human[task] for task in frame.task],
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
    """To sort scales by."""
    return scale != PAPER_SCALE, scale


def paint(label: str, labels: Sequence[str]) -> style.Colour:
    """The colour of a group of runs: a variant that repeats a published ablation wears that one's."""
    variant = group.variant if (group := group_of(label)) else ""
    ablation = naming.SAME_ABLATIONS.get(variant, variant)
    return style.colour(ablation) if ablation in naming.COLOURS else style.tint(label, labels)


def about_smoke(scales: Iterable[str]) -> str:
    """What a caption ends with where smoke runs are shown."""
    return f" {SMOKE}" if "smoke" in set(scales) else ""


def number(value: object, form: str, unit: float = 1.0) -> str:
    """A number as text, a dash where there is none."""
    return NONE if value is None or pd.isna(value) else form.format(float(str(value)) / unit)


def _family(task: str, has_human: bool) -> str:
    return RAW_ATARI if task.startswith(ATARI_FAMILY) and not has_human else task.split("/")[0]


def games_with_human(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that numbers over games are made of."""
    return frame[frame.is_normalised]


def about_raw(tasks: Iterable[str], references: References) -> str:
    """What a caption ends with where Atari games without a human score are shown."""
    games = [task for task in sorted(set(tasks)) if task.startswith(ATARI_FAMILY) and references.position(task) is None]
    if not games:
        return ""
    named = naming.listed([task.removeprefix(ATARI_FAMILY) for task in games[:MAX_NAMED]])
    more = f" and {len(games) - MAX_NAMED} more" if len(games) > MAX_NAMED else ""
    return f" Without a human score, so raw and in no number over games: {named}{more}."
