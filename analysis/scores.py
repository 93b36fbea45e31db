"""Read raw scores into matrices, and refuse loudly what does not make one.

rliable turns NaN into NaN and checks nothing; the papers' scripts let games with no data vanish from the matrix. Here
every defect is an error that names the method, the task and the way out.
"""

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.metrics import Matrix
from tokenworlds.errors import UserError, near_matches

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "results" / "data"
TASK_KEYS = ["task", "seed"]


@dataclass(frozen=True)
class References:
    """Random and human score of each of the M tasks, alphabetically."""

    tasks: tuple[str, ...]
    random: NDArray[np.float64]
    human: NDArray[np.float64]

    def normalise(self, raw: Matrix) -> Matrix:
        """Human-normalised score ``(s - random) / (human - random)`` of raw scores (N, M)."""
        return (raw - self.random) / (self.human - self.random)

    def raw(self, normalised: Matrix) -> Matrix:
        """The way back, for methods published as normalised values only."""
        return normalised * (self.human - self.random) + self.random

    def columns(self, tasks: Iterable[str]) -> list[int]:
        """Positions of ``tasks`` among all tasks."""
        return [self.tasks.index(task) for task in tasks]


@dataclass(frozen=True)
class Suite:
    """Methods on common tasks: normalised scores (N, M) by method, and raw ones for tables."""

    name: str
    tasks: tuple[str, ...]
    scores: dict[str, Matrix]
    raw: dict[str, Matrix]

    def restricted(self, name: str, tasks: Iterable[str], methods: Iterable[str] | None = None) -> "Suite":
        """The same methods (or some of them) on some of the tasks, under another name."""
        chosen = tuple(sorted(tasks))
        columns = [self.tasks.index(task) for task in chosen]
        kept = list(self.scores if methods is None else methods)
        return Suite(
            name=name,
            tasks=chosen,
            scores={method: self.scores[method][:, columns] for method in kept},
            raw={method: self.raw[method][:, columns] for method in kept if method in self.raw},
        )


def read_table(path: Path, required: Iterable[str], numbers: Iterable[str] = ()) -> pd.DataFrame:
    """A CSV as text, with the columns ``numbers`` converted by ``float()`` (exact in every pandas version).

    An empty field becomes NaN; whether that is an error is the caller's to say.
    """
    if not path.is_file():
        raise UserError(f"no such file of scores: {path}; check the path, or make it with `dvc repro`.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header, else cut silently
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, pd.errors.ParserWarning, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable CSV ({' '.join(str(error).split())}); make it anew.") from error
    missing = [column for column in required if column not in frame]
    if missing:
        raise UserError(f"{path} lacks the column(s) {', '.join(missing)}; found: {', '.join(frame.columns)}.")
    for column in numbers:
        if column in frame:
            frame[column] = [_number(text, path, line, column) for line, text in enumerate(frame[column], start=2)]
    return frame


def _number(text: str, path: Path, line: int, column: str) -> float:
    try:
        return float(text) if text.strip() else math.nan
    except ValueError:
        raise UserError(
            f"{path} line {line}: {column} must be a number, found {text!r}; correct or remove that row."
        ) from None


def check_rows(frame: pd.DataFrame, label: str, source: str, known_tasks: Iterable[str] | None = None) -> None:
    """No unknown task, no missing or infinite score, no run twice."""
    known = None if known_tasks is None else set(known_tasks)
    for row in frame.itertuples():
        if known is not None and row.task not in known:
            raise UserError(f"{label}: unknown game {row.task!r} in {source}; {near_matches(str(row.task), known)}")
        if not math.isfinite(row.score):
            raise UserError(
                f"{label}: the score of {row.task}, seed {row.seed} is {row.score} in {source}, expected a finite "
                "number; evaluate that run again or remove its row."
            )
    repeated = frame[frame.duplicated(TASK_KEYS)]
    if len(repeated):
        first = repeated.iloc[0]
        raise UserError(
            f"{label}: {first.task}, seed {first.seed} appears more than once in {source}; remove the row that is "
            "not meant."
        )


def stack(frame: pd.DataFrame, tasks: Iterable[str], label: str, source: str, column: str = "score") -> Matrix:
    """Scores as a matrix (N, M), columns in the order of ``tasks``; every task must have the same number of runs."""
    by_task = {task: group[column].to_numpy(dtype=np.float64) for task, group in frame.groupby("task", sort=True)}
    tasks = list(tasks)
    absent = [task for task in tasks if task not in by_task]
    if absent:
        raise UserError(
            f"{label}: no run of {', '.join(absent)} in {source}; train what is missing or compare on fewer games."
        )
    counts = {task: len(by_task[task]) for task in tasks}
    most, fewest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] != counts[fewest]:
        raise UserError(
            f"{label}: ragged scores in {source}, {fewest} has {counts[fewest]} run(s) where {most} has "
            f"{counts[most]}; train the missing seeds or leave the surplus ones out."
        )
    return np.stack([by_task[task] for task in tasks], axis=1)


def read_references(data: Path = DATA) -> References:
    """The random and human scores of the 26 games."""
    frame = read_table(data / "reference_scores.csv", ["task", "random", "human"], ["random", "human"])
    frame = frame.sort_values("task")
    return References(tuple(frame.task), frame.random.to_numpy(), frame.human.to_numpy())
