"""Our own runs, from the CSV that ``python -m pipeline.collect`` writes (or any CSV with the same columns).

Columns: ``tokenworlds.runs.columns.SCORES``. Runs are grouped by method, variant and scale, and always labelled with
the scale: a smoke run must not pass for a paper run.
"""

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.data.identity import RunGroupId
from analysis.data.published import ATARI
from analysis.data.scores import ROOT, References, Suite, check_rows, read_table, stack
from analysis.stats.metrics import Matrix, run_counts
from tokenworlds.errors import UserError
from tokenworlds.runs.columns import COMPANIONS, SCORES, TRAINED_VARIANT, numbers, required
from tokenworlds.runs.settings import label_variants

COLLECTED = ROOT / "results" / "collected" / "scores.csv"
ATARI_FAMILY = "atari/"
PAPER_SCALE = "paper"
MAX_NAMED_GAMES = 4
ACCEPT = "collect again with `--mixed label` (pipeline: `mixed: label` in analysis/params.yaml)"


@dataclass(frozen=True)
class RunGroup:
    """Runs of one method and variant at one scale: table rows, and the matrix of their Atari games (raw, N x games).

    ``without_human`` are Atari games that have no human score: shown raw, task by task, in no aggregate.
    """

    id: RunGroupId
    rows: pd.DataFrame
    games: tuple[str, ...]
    raw: Matrix | None
    without_human: tuple[str, ...] = ()

    @property
    def scale(self) -> str:
        """Scale of all of them."""
        return self.id.scale

    @property
    def short_label(self) -> str:
        """Name and scale, for places where the number of games and seeds is given elsewhere."""
        return self.id.label()

    @property
    def label(self) -> str:
        """Name, scale, and how much there is of it."""
        if self.raw is None:
            return self.short_label
        games, (fewest, most) = _count(len(self.games), "game"), (run_counts(self.raw).min(), len(self.raw))
        seeds = _count(most, "seed") if fewest == most else f"{fewest} to {most} seeds"
        return self.id.label(f"{games} x {seeds}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def last_collected() -> Path:
    """Default output of ``python -m pipeline.collect``."""
    return COLLECTED


def read_runs(path: Path | None, references: References) -> list[RunGroup]:
    """The groups in the file; without a path, those collected last, or none if nothing was collected yet."""
    if path is None:
        if not COLLECTED.is_file():
            return []
        path = COLLECTED
    frame = read_table(path, required(SCORES), numbers(SCORES))
    if frame.empty:
        raise UserError(f"{path} holds no runs; train something first (`make repro`), or leave --runs out.")
    for column in SCORES:
        if column.kind is str and not column.is_required and column.name in frame:
            frame[column.name] = frame[column.name].str.strip()
        elif column.name not in frame and column is not TRAINED_VARIANT:
            frame[column.name] = math.nan if column.kind is float else ""
    frame["scale"] = frame.scale.replace("", "scale not stated")
    frame["task"] = [_full_task(task) for task in frame.task]
    _check_identities(frame, path)
    rows = frame.to_dict("records")
    label_variants(rows, path.name, ACCEPT)
    frame["variant"] = [row["variant"] for row in rows]
    groups = frame.groupby(["method", "variant", "scale"], sort=True)
    return [_group(RunGroupId(*key), rows, references, path) for key, rows in groups]


def _check_identities(frame: pd.DataFrame, path: Path) -> None:
    """Methods, tasks and seeds that there are, where the environments are installed."""
    try:
        from tokenworlds.runs.identity import unknown_part

        findings = [unknown_part(row.method, row.task, row.seed) for row in frame.itertuples()]
    except ImportError:  # figures are redrawn without some of them or all
        return
    for line, finding in enumerate(findings, start=2):
        if finding:
            raise UserError(f"{path.name} line {line} holds {finding}")


def read_beside(path: Path | None, name: str) -> pd.DataFrame:
    """The table ``name`` (``costs.csv``, ...) that was collected with the scores in ``path``; empty where there is
    none."""
    columns = COMPANIONS[name]
    companion = path and path.with_name(name)
    if companion and companion.is_file():
        return read_table(companion, required(columns), numbers(columns))
    return pd.DataFrame({column.name: pd.Series(dtype=column.kind) for column in columns})


def _full_task(task: str) -> str:
    """A name without a family means an Atari game."""
    return task if "/" in task else ATARI_FAMILY + task


def _group(group: RunGroupId, rows: pd.DataFrame, references: References, path: Path) -> RunGroup:
    label = group.label()
    check_rows(rows, label, path.name)
    atari = rows[rows.task.str.startswith(ATARI_FAMILY)]
    has_human = np.array([references.position(task) is not None for task in atari.task], dtype=bool)
    tasks, others = (tuple(sorted(part.task.unique())) for part in (atari[has_human], atari[~has_human]))
    raw = stack(atari[has_human], tasks, label, path.name) if tasks else None
    games, without = (tuple(task.removeprefix(ATARI_FAMILY) for task in names) for names in (tasks, others))
    return RunGroup(group, rows, games, raw, without)


def is_complete(group: RunGroup, references: References) -> bool:
    """Whether a group is shown beside the published methods in the papers' own tables and figures."""
    return group.scale == PAPER_SCALE and group.games == references.tasks


def with_runs(suites: Mapping[str, Suite], groups: Iterable[RunGroup], references: References) -> dict[str, Suite]:
    """The suites, complete groups added to Atari-100k, and for every other set of games a suite of its own.

    Such a suite holds our runs and the published methods restricted to the same games: like is compared with like.
    """
    result = dict(suites)
    for group in groups:
        if group.raw is None:
            continue
        name = ATARI if is_complete(group, references) else subset_name(group.games)
        if name not in result:
            result[name] = suites[ATARI].restricted(name, group.games)
        result[name] = _add(result[name], group, references)
    return result


def _add(suite: Suite, group: RunGroup, references: References) -> Suite:
    assert group.raw is not None and group.games == suite.tasks
    if group.label in suite.scores:
        raise UserError(f"two groups of runs are both called {group.label}; give one of them a variant.")
    return suite.with_method(group.label, group.raw, references.normalise(group.raw, group.games))


def subset_name(games: Sequence[str]) -> str:
    """Name of the suite of exactly these games."""
    some = "_".join([*games[:2], "to", games[-1], f"{zlib.crc32(' '.join(games).encode()):08x}"])
    return f"{ATARI}_{len(games)}_games_{'_'.join(games) if len(games) <= MAX_NAMED_GAMES else some}"


def subset_suites(suites: Mapping[str, Suite]) -> list[Suite]:
    """The suites made for our runs."""
    return [suite for name, suite in suites.items() if name.startswith(f"{ATARI}_")]
