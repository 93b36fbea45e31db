"""Read raw scores into matrices, and refuse loudly what does not make one.

rliable turns NaN into NaN and checks nothing; the papers' scripts let games with no data vanish from the matrix. Here
every defect is an error that names the method, the task and the way out.
"""

import contextlib
import csv
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.stats.metrics import Matrix, run_counts, task_means
from tokenworlds.errors import UserError, near_matches

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "results" / "data"
TASK_KEYS = ["task", "seed"]
MOST_EPISODES = 128  # that a score on Atari is taken to be the mean of, if nothing else is known
ROUNDING = 1e-12  # relative error of a stored mean; 128 additions of doubles err by less than 3e-14
# Returns that cannot be left, by benchmark; Craftax's maximum is the one that its papers give percentages of.
RETURNS = {"dmc": (0.0, 1000.0), "craftax": (-math.inf, 226.0), "crafter": (-math.inf, 22.0)}
LARGEST_SCORE = 1e15  # whose squares, and their sums, are finite
SLACK = 1e-6  # relative: sums of rewards in single precision


@dataclass(frozen=True)
class References:
    """Random and human score of each of the M tasks, alphabetically.

    With ``as_stored`` raw scores are normalised with all digits of their files, as rliable would, not ``snapped``.
    """

    tasks: tuple[str, ...]
    random: NDArray[np.float64]
    human: NDArray[np.float64]
    as_stored: bool = False

    def normalise(self, raw: Matrix, tasks: Iterable[str] | None = None) -> Matrix:
        """Human-normalised score ``(s - random) / (human - random)`` of raw scores (N, M), of ``tasks`` (None: all).

        Equal raw scores give equal bits, whatever rounding errors their files hold.
        """
        columns = self.columns(self.tasks if tasks is None else tasks)
        low, high = self.random[columns], self.human[columns]
        return ((raw if self.as_stored else snapped(raw)) - low) / (high - low)

    def raw(self, normalised: Matrix) -> Matrix:
        """Raw scores of normalised ones, for methods published as normalised values only."""
        return normalised * (self.human - self.random) + self.random

    def position(self, task: str) -> int | None:
        """Position of ``atari/Pong`` among all tasks; None for a task without a human score."""
        family, _, game = task.partition("/")
        return self.tasks.index(game) if family == "atari" and game in self.tasks else None

    def columns(self, tasks: Iterable[str]) -> list[int]:
        """Positions of ``tasks`` among all tasks."""
        return [self.tasks.index(task) for task in tasks]


@dataclass(frozen=True)
class Suite:
    """Methods on common tasks: normalised scores (N, M) by method, and raw ones for tables.

    ``partial`` and ``partial_raw`` hold methods without a run on some of the tasks, NaN in the whole column there. They
    are shown task by task in tables, named in a note, and enter no aggregate.
    """

    name: str
    tasks: tuple[str, ...]
    scores: dict[str, Matrix]
    raw: dict[str, Matrix]
    partial: dict[str, Matrix] = field(default_factory=dict)
    partial_raw: dict[str, Matrix] = field(default_factory=dict)

    def restricted(self, name: str, tasks: Iterable[str], methods: Iterable[str] | None = None) -> "Suite":
        """The same methods (or some of them) on some of the tasks, under another name.

        Without ``methods``, those that are partial here and have runs of all of these tasks are complete there.
        """
        chosen = tuple(sorted(tasks))
        columns = [self.tasks.index(task) for task in chosen]
        kept = list(self.scores if methods is None else methods)
        suite = Suite(
            name=name,
            tasks=chosen,
            scores={method: self.scores[method][:, columns] for method in kept},
            raw={method: self.raw[method][:, columns] for method in kept if method in self.raw},
        )
        for method in self.partial if methods is None else ():
            suite = suite.with_method(method, self.partial_raw[method][:, columns], self.partial[method][:, columns])
        return suite

    def runs(self, method: str) -> dict[str, int]:
        """Number of runs of the method on each task, complete or partial; empty for an unknown method."""
        matrix = self.scores.get(method, self.partial.get(method))
        return {} if matrix is None else dict(zip(self.tasks, map(int, run_counts(matrix))))

    def mean(self, method: str, task: str) -> float:
        """Mean raw score of the runs; NaN where the suite has none."""
        known = method in self.raw and task in self.tasks
        return float(task_means(self.raw[method])[self.tasks.index(task)]) if known else math.nan

    def with_method(self, label: str, raw: Matrix, normalised: Matrix) -> "Suite":
        """This suite with one more method: among the others if it has runs of every task, else apart from them, and
        unchanged if it has none."""
        if label in self.scores or label in self.partial:
            raise UserError(f"two methods of the suite {self.name} are called {label}; give one of them another name.")
        counts = run_counts(raw)
        raw, normalised = raw[: counts.max()], normalised[: counts.max()]  # of fewer tasks, perhaps fewer runs
        if counts.all():
            return replace(self, scores={**self.scores, label: normalised}, raw={**self.raw, label: raw})
        if not counts.any():
            return self
        return replace(self, partial={**self.partial, label: normalised}, partial_raw={**self.partial_raw, label: raw})


def snapped(raw: Matrix) -> Matrix:
    """Raw scores on Atari without the rounding errors of their files: 99.99999999999997 becomes 100.

    Returns on Atari are whole numbers, so a mean over E episodes is a multiple of 1/E. A score within ``ROUNDING`` of
    such a multiple, E from 1 to ``MOST_EPISODES``, becomes the double nearest to it; two different ones are at least
    1 / ``MOST_EPISODES``^2 apart. All other scores, such as means rounded to some digits, stay as they are.
    """
    result, left = raw.copy(), np.isfinite(raw)
    allowed = ROUNDING * np.maximum(np.abs(raw), 1.0)
    for episodes in range(1, MOST_EPISODES + 1):
        nearest = np.rint(raw * episodes) / episodes
        found = left & (np.abs(raw - nearest) <= allowed)
        result[found] = nearest[found]
        left &= ~found
    return result


def read_table(path: Path, required: Iterable[str], numbers: Iterable[str] = ()) -> pd.DataFrame:
    """A CSV as text, with the columns ``numbers`` converted by ``float()`` (exact in every pandas version).

    The index of a row is its line less 2: 0, 1, ... where no line is blank. An empty field becomes NaN; whether that is
    an error is the caller's to say. Seeds are whole numbers, written in one way, so that ``0`` and ``0.0`` are the same
    run.
    """
    if not path.is_file():
        raise UserError(f"no such file of scores: {path}; check the path, or make it with `dvc repro`.")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path} cannot be read (permission denied); give another file, or allow it.")
    try:
        lines, names, rows = _rows(path)
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} is not a readable CSV in UTF-8 ({' '.join(str(error).split())}); make it anew."
        ) from error
    missing = [column for column in required if column not in names]
    if missing:
        found = ", ".join(names)
        raise UserError(f"{path} lacks the column(s) {', '.join(missing)[:80]}; found: {found[:80]}; make it anew.")
    if repeated := sorted({name for name in names if name and names.count(name) > 1}):
        raise UserError(f"{path} has the column {repeated[0][:40]!r} more than once; remove or rename all but one.")
    columns = {name: list(values) for name, values in zip(names, zip(*rows)) if name}
    frame = pd.DataFrame(columns, pd.Index(lines) - 2, [name for name in names if name], dtype=str)
    for column in numbers:
        if column in frame:
            frame[column] = [_number(text, path, line, column) for line, text in zip(lines, frame[column])]
    if "seed" in frame:
        frame["seed"] = [_seed(text, path, line) for line, text in zip(lines, frame.seed)]
    return frame


def _rows(path: Path) -> tuple[list[int], list[str], list[list[str]]]:
    """The lines in which the rows below the header begin, without blank ones; the header; these rows, as long as it.

    Raises:
        csv.Error: there is no header; a quote is not closed; a row has more fields than the header.
        UnicodeDecodeError: it is not UTF-8.
    """
    lines, rows, last = list[int](), list[list[str]](), 0
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        try:
            for row in reader:
                if len(row) > 1 or "".join(row).strip():
                    lines.append(last + 1)
                    rows.append(row)
                last = reader.line_num
        except csv.Error as error:
            raise csv.Error(f"the row of line {last + 1}: {error}") from error
    if not rows:
        raise csv.Error("it has no header")
    names = [name.strip() for name in rows[0]]
    for line, row in zip(lines, rows):
        if any(row[len(names) :]):
            raise csv.Error(f"line {line} has {len(row)} fields, the header {len(names)}; quote text with commas")
    blank = [""] * len(names)
    return lines[1:], names, [(row + blank)[: len(names)] for row in rows[1:]]


def _seed(text: str, path: Path, line: int) -> str:
    """``0`` of ``0``, `` 0``, ``00``, ``0.0`` and ``0e0``."""
    with contextlib.suppress(ValueError, OverflowError):
        number = int(text) if text.strip().isdecimal() else float(text)
        if number == int(number) >= 0:
            return str(int(number))
    raise UserError(
        f"{path.name} line {line} holds the seed {text[:40]!r} where a whole number from 0 on is expected; correct it."
    )


def _number(text: str, path: Path, line: int, column: str) -> float:
    try:
        return float(text) if text.strip() else math.nan
    except ValueError:
        raise UserError(
            f"{path} line {line}: {column} must be a number, found {text[:40]!r}; correct or remove that row."
        ) from None


def check_rows(frame: pd.DataFrame, label: str, source: str, known_tasks: Iterable[str] | None = None) -> None:
    """No unknown task, no missing or infinite score, none that the benchmark cannot give, no run twice.

    The benchmark is the column ``family``, or else the first part of ``dmc/walker-walk``. Rows keep their index of
    ``read_table``.
    """
    known = None if known_tasks is None else set(known_tasks)
    families = frame["family"] if "family" in frame else frame.task.str.partition("/")[0]
    for family, row in zip(families, frame.itertuples()):
        if known is not None and row.task not in known:
            near = near_matches(str(row.task), known)
            raise UserError(f"{label}: unknown game {row.task!r} in {source} line {row.Index + 2}; {near}")
        if not abs(row.score) <= LARGEST_SCORE:
            raise UserError(
                f"{label}: the score of {row.task}, seed {row.seed} is {row.score} in {source} line {row.Index + 2}, "
                "expected a finite number; evaluate that run again or remove its row."
            )
        low, high = RETURNS.get(family, (-math.inf, math.inf))
        if not low - SLACK * abs(high) <= row.score <= high * (1 + SLACK):
            limits = f"from {low:g} to {high:g}" if math.isfinite(low) else f"of at most {high:g}"
            raise UserError(
                f"{label}: the score of {row.task}, seed {row.seed} is {row.score:g} in {source} line {row.Index + 2}, "
                f"but returns of {family} are {limits}; correct or remove that row."
            )
    repeated = frame[frame.duplicated(TASK_KEYS)]
    if len(repeated):
        first = repeated.iloc[0]
        raise UserError(
            f"{label}: {first.task}, seed {first.seed} appears more than once in {source}, again in line "
            f"{repeated.index[0] + 2}; remove the row that is not meant."
        )


def stack(
    frame: pd.DataFrame, tasks: Iterable[str], label: str, source: str, column: str = "score", partial: bool = False
) -> Matrix:
    """Scores as a matrix (N, M), columns in the order of ``tasks``, NaN below the runs of a task that has fewer.

    A task without any run is an error, or with ``partial`` a column of NaN.
    """
    by_task = {task: group[column].to_numpy(dtype=np.float64) for task, group in frame.groupby("task", sort=True)}
    tasks = list(tasks)
    absent = [task for task in tasks if task not in by_task]
    if absent and not partial:
        raise UserError(
            f"{label}: no run of {', '.join(absent)} in {source}; train what is missing or compare on fewer games."
        )
    matrix = np.full((max(len(by_task.get(task, ())) for task in tasks), len(tasks)), np.nan)
    for position, task in enumerate(tasks):
        values = by_task.get(task, np.empty(0))
        matrix[: len(values), position] = values
    return matrix


def read_references(data: Path = DATA) -> References:
    """The random and human scores of the 26 games."""
    frame = read_table(data / "reference_scores.csv", ["task", "random", "human"], ["random", "human"])
    frame = frame.sort_values("task")
    return References(tuple(frame.task), frame.random.to_numpy(), frame.human.to_numpy())
