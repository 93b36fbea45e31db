"""Our own runs, from the CSV that ``python -m pipeline.collect`` writes (or any CSV with the same columns).

Columns: ``tokenworlds.runs.columns.SCORES``. Runs are grouped by method, variant and scale, and always labelled with
the scale: a smoke run must not pass for a paper run.
"""

import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from analysis.data.identity import RunGroupId
from analysis.data.published import ABLATIONS, ABLATIONS_WITHOUT_DEFECT, ATARI, all_ablation_scores
from analysis.data.scores import ROOT, References, Suite, check_rows, read_table, stack
from analysis.stats.metrics import Matrix, run_counts
from tokenworlds.errors import UserError
from tokenworlds.runs.columns import COMPANIONS, SCORES, TRAINED_VARIANT, numbers, required
from tokenworlds.runs.settings import label_variants
from tokenworlds.scores import is_cut

COLLECTED = ROOT / "results" / "collected" / "scores.csv"
ATARI_FAMILY = "atari/"
PAPER_SCALE = "paper"
CUT = (
    "Runs whose episodes were cut, as in smoke runs, have no human-normalised score and no published twin, which are "
    "of whole games: compare them with the random policy, whose episodes were cut alike."
)
BEYOND = (
    "Runs that learned in the environment itself, without a world model, or that began with a part of a finished run "
    "of the same game, or a tokenizer of its frames, are a diagnosis: their scores are of more steps than their own, "
    "and enter no comparison."
)
ABLATION_SUITES = (ABLATIONS, ABLATIONS_WITHOUT_DEFECT)
MAX_NAMED_GAMES = 4
ACCEPT = "collect again with `--mixed label` (pipeline: `mixed: label` in analysis/params.yaml)"


@dataclass(frozen=True)
class RunGroup:
    """Runs of one method and variant at one scale: table rows, and the matrix of their Atari games (raw, N x games).

    ``without_human`` are Atari games that have no human score, and ``cut`` are tasks of any kind whose episodes were
    cut short, or ``beyond``: shown raw, task by task, in no aggregate. The latter, of whole episodes, are those whose
    scores are of more steps than their own (``BEYOND``).
    """

    id: RunGroupId
    rows: pd.DataFrame
    games: tuple[str, ...]
    raw: Matrix | None
    without_human: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()

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

    def whole(self, family: str) -> set[str]:
        """Names of the tasks of a family (``dmc/``) whose scores can be compared."""
        return {task.removeprefix(family) for task in {*self.rows.task} - {*self.cut} if task.startswith(family)}

    def restricted(self, games: Sequence[str]) -> "RunGroup":
        """The same runs on some of the games only."""
        assert self.raw is not None
        raw = self.raw[:, [self.games.index(game) for game in games]]
        return replace(self, games=tuple(games), raw=raw[: run_counts(raw).max()])


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

        findings = {row.Index + 2: unknown_part(row.method, row.task, row.seed) for row in frame.itertuples()}
    except ImportError:  # figures are redrawn without some of them or all
        return
    for line, finding in findings.items():
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
    cut = {row.task for row in rows.itertuples() if is_cut(row.task, row.episode_limit, group.scale)}
    beyond = {
        row.task for row in rows.itertuples() if not math.isnan(row.oracle_steps) or _knows(row.task, row.trained_on)
    } - cut
    cut |= beyond
    atari = sorted(task for task in rows.task.unique() if task.startswith(ATARI_FAMILY))
    others = [task for task in atari if references.position(task) is None]
    tasks = [task for task in atari if task not in cut and task not in others]
    raw = stack(rows[rows.task.isin(tasks)], tasks, label, path.name) if tasks else None
    games, without = (tuple(task.removeprefix(ATARI_FAMILY) for task in names) for names in (tasks, others))
    return RunGroup(group, rows, games, raw, without, tuple(sorted(cut)), tuple(sorted(beyond)))


def _knows(task: str, trained_on: str) -> bool:
    """Whether a part was trained by a run of the same task, or on frames that its policy chose (``columns.SCORES``):
    not all of the steps of that run count, if any."""
    return re.search(rf" frames of [^,]*/{re.escape(task)}/\d+[ ,]", trained_on) is not None


def with_runs(suites: Mapping[str, Suite], groups: Iterable[RunGroup], references: References) -> dict[str, Suite]:
    """The suites, with our runs at paper scale in each published one that they have all games of.

    Every other set of games gets a suite of its own, which holds our runs and what is published of the same games (with
    the variants that they repeat): like is compared with like.
    """
    result = dict(suites)
    for group in (group for group in groups if group.raw is not None):
        for names in ((ATARI,), ABLATION_SUITES):
            if _belongs(group, suites[names[0]]):
                part = group.restricted(suites[names[0]].tasks)
                result |= {name: _add(result[name], part, references) for name in names}
        if not _belongs(group, suites[ATARI]):
            name = subset_name(group.games)
            suite = result.get(name) or suites[ATARI].restricted(name, group.games)
            result[name] = _add(_with_ablation(suite, group.id.twin, references), group, references)
    return result


def _belongs(group: RunGroup, suite: Suite) -> bool:
    """Whether a group has all games of a published suite at paper scale; of ablations, if it is of that method."""
    is_whole = group.scale == PAPER_SCALE and {*group.games} >= {*suite.tasks}
    return is_whole and (suite.name == ATARI or group.id.base in suite.scores)


def _with_ablation(suite: Suite, name: str, references: References) -> Suite:
    """The suite with a published ablation, if there is one of that name that was run on some of the games."""
    raw = all_ablation_scores(references).get(name)
    if raw is None or suite.runs(name):
        return suite
    raw = raw[:, references.columns(suite.tasks)]
    return suite.with_method(name, raw, references.normalise(raw, suite.tasks))


def _add(suite: Suite, group: RunGroup, references: References) -> Suite:
    raw = group.restricted(suite.tasks).raw
    assert raw is not None
    if group.label in suite.scores:
        raise UserError(f"two groups of runs are both called {group.label}; give one of them a variant.")
    return suite.with_method(group.label, raw, references.normalise(raw, suite.tasks))


def subset_name(games: Sequence[str]) -> str:
    """Name of the suite of exactly these games."""
    some = "_".join([*games[:2], "to", games[-1], f"{zlib.crc32(' '.join(games).encode()):08x}"])
    return f"{ATARI}_{len(games)}_games_{'_'.join(games) if len(games) <= MAX_NAMED_GAMES else some}"


def subset_suites(suites: Mapping[str, Suite]) -> list[Suite]:
    """The suites made for our runs."""
    return [suite for name, suite in suites.items() if name.startswith(f"{ATARI}_")]
