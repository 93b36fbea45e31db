"""R1: the per-game tables with the uncertainty of every number, its number of runs and of episodes.

The papers print bare means. Here a raw score is mean ± standard error of the mean over runs, and an aggregate has its
95 % stratified bootstrap interval.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparisons import chosen
from analysis.context import Context
from analysis.data import naming
from analysis.data.identity import group_of
from analysis.data.notes import Note, ragged
from analysis.data.published import (
    ABLATIONS,
    ABLATIONS_WITHOUT_DEFECT,
    ATARI,
    DREAMER_JOURNAL,
    EPISODES,
    all_ablation_scores,
)
from analysis.draw import tables
from analysis.draw.artefacts import Table
from analysis.draw.tables import NO_RUN, NOT_APPLICABLE, header_marks
from analysis.item import Item
from analysis.stats import metrics
from analysis.stats.metrics import Matrix
from analysis.studies.methods import atari_methods, origin

GROUPS = {
    "lookahead": ("MuZero", "EfficientZero"),
    "model-free": ("CURL", "DrQ(eps)", "SPR"),
    "world model": ("SimPLe", "TWM", "DreamerV3", DREAMER_JOURNAL, "STORM", "DIAMOND"),
    "tokens": ("IRIS", "REM", "Delta-IRIS", "M3", "Simulus-A"),
}
OTHERS = ("other", "contributed", "ours")  # by origin
UNKNOWN = "?"
FULL_AGENT, FULL_RUNS_VARIANT = "REM", "no-pop"  # the one variant with runs beyond the eight games
_RULES = (
    f"One run: no error, no interval, IQM and optimality gap {NOT_APPLICABLE}. {NO_RUN}: not run. In parentheses: the "
    "number of runs where it is not the one at the head. Episodes: how many a score is the mean of "
    f"({UNKNOWN}: not stated; few: the last ones of training)."
)


@dataclass(frozen=True)
class Column:
    """A method: raw scores (N, M), NaN where there is no run, and what is known of them."""

    method: str
    group: str
    raw: Matrix
    episodes: str

    @property
    def usual_runs(self) -> int:
        """Number of runs of most tasks that have any, shown at the head of the column."""
        counts = metrics.run_counts(self.raw)
        return int(np.bincount(counts[counts > 0]).argmax())

    def record(self, row: str, value: float, runs: int, **spread: float | None) -> dict[str, Any]:
        """A number of the table's CSV."""
        record = {"method": self.method, "group": self.group, "row": row, "value": value, "runs": runs}
        return record | {"episodes": self.episodes, "standard_error": None, "low": None, "high": None} | spread


def atari_table(context: Context) -> Table:
    """R1-T-atari: every method of Atari-100k, published, contributed and ours, by group."""
    suite = context.suites[ATARI]
    columns = list(_atari_columns(context))
    by_method = {column.method: column for column in columns}
    columns = [by_method[method] for method in chosen(by_method, context)]
    caption = (
        f"Atari-100k, {len(suite.tasks)} games: raw score as mean ± standard error over runs, and aggregates of "
        f"human-normalised scores with {_intervals(context)}. {_RULES} CURL is mapped back from normalised scores."
    )
    defects = context.defects_of([column.method for column in columns], suite.tasks)
    return _table(context, columns, [suite.tasks], {"": ATARI}, caption, defects)


def ablations_table(context: Context) -> Table:
    """R1-T-ablations: REM and its variants on the eight games of the ablations, then the runs on other games."""
    suite = context.suites[ABLATIONS]
    tasks, chosen = context.references.tasks, suite.tasks
    raw = {method: _on_all_games(suite.raw[method], chosen, tasks) for method in suite.scores}
    raw |= {FULL_AGENT: context.suites[ATARI].raw[FULL_AGENT], **all_ablation_scores(context.references)}
    columns = [Column(method, "", raw[method], _episodes(method, context)) for method in suite.scores]
    blocks = [[game for game in tasks if (game in chosen) == inside] for inside in (True, False)]
    counts = dict(zip(tasks, map(int, metrics.run_counts(raw[FULL_RUNS_VARIANT]))))
    note = Note("note", (FULL_RUNS_VARIANT,), (), f"{ragged(counts)}.")
    caption = (
        f"REM and its ablations: raw score as mean ± standard error over runs; above the first line the {len(chosen)} "
        "games all variants were run on, below it those of which only some runs exist; then aggregates of "
        f"human-normalised scores over the {len(chosen)} games with {_intervals(context)}. {_RULES}"
    )
    suites = {"": ABLATIONS, " without RoadRunner": ABLATIONS_WITHOUT_DEFECT}
    defects = (*context.defects_of([column.method for column in columns], chosen), note)
    return _table(context, columns, blocks, suites, caption, defects)


def _on_all_games(raw: Matrix, games: Sequence[str], tasks: Sequence[str]) -> Matrix:
    """Scores on some of the tasks, NaN on the others."""
    full = np.full((len(raw), len(tasks)), np.nan)
    full[:, [tasks.index(game) for game in games]] = raw
    return full


def with_error(mean: float, error: float) -> str:
    """``1764 ± 130``: two significant digits of the error, no more of the mean than these warrant."""
    if math.isnan(mean):
        return NO_RUN
    if math.isnan(error):
        return f"{mean:.1f}"
    digits = 1 if error == 0 else min(3, max(0, 1 - math.floor(math.log10(error))))
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


def _atari_columns(context: Context) -> Iterator[Column]:
    """Columns by group; methods of no group follow the published ones."""
    raw = {**context.suites[ATARI].raw, **context.suites[ATARI].partial_raw}
    named = {method: group for group, methods in GROUPS.items() for method in methods}
    groups = {method: OTHERS[place] if (place := origin(method, context)) else named.get(method, OTHERS[0])
              for method in raw}  # fmt: skip
    for group in (*GROUPS, *OTHERS):
        for method in GROUPS.get(group, raw):
            if groups.get(method) == group:
                yield Column(method, group, raw[method], _episodes(method, context))


def _episodes(method: str, context: Context) -> str:
    if method in context.contributed:
        return context.contributed[method].episodes or UNKNOWN
    for group in context.groups:
        if group.id == group_of(method) and group.rows.episodes.notna().all():
            fewest, most = group.rows.episodes.min(), group.rows.episodes.max()
            return f"{fewest:.0f}" if fewest == most else f"{fewest:.0f} to {most:.0f}"
    return EPISODES.get(method, UNKNOWN)


def _intervals(context: Context) -> str:
    return f"95 % stratified bootstrap intervals ({context.options.repetitions_aggregates} repetitions)"


def _table(
    context: Context,
    columns: Sequence[Column],
    blocks: Sequence[Sequence[str]],
    suites: Mapping[str, str],
    caption: str,
    defects: tuple[Any, ...],
) -> Table:
    """Blocks of games, then the aggregates of each suite, a rule before each of them; ``suites`` by a suffix."""
    references = context.references
    lines, rules = _head_lines(columns), list[int]()
    records: list[dict[str, Any]] = []
    for block in blocks:
        rules.append(len(lines))
        for game in block:
            position = references.tasks.index(game)
            low, high = references.random[position], references.human[position]
            cells = [_game_cell(column, game, position, records) for column in columns]
            marked = [cell + _marks(column.method, game, defects) for column, cell in zip(columns, cells)]
            lines.append([game, f"{low:.1f}", f"{high:.1f}", *marked])
    for suffix, name in suites.items():
        rules.append(len(lines))
        for metric, (title, arrow) in tables.METRIC_ROWS.items():
            row = f"{title}{suffix} ({arrow})"
            form = "{:.0f}" if metric == "superhuman" else "{:.3f}"
            cells = [_aggregate_cell(context, name, column, metric, form, row, records) for column in columns]
            known = tables.REFERENCE_METRICS[metric]
            lines.append([row, *(tables.number_text(value, form) for value in known), *cells])
    titles = [naming.shown(column.method) + header_marks(column.method, defects) for column in columns]
    return tables.render(["Game", "Random", "Human", *titles], lines, pd.DataFrame(records), caption, 1, rules, defects)


def _head_lines(columns: Sequence[Column]) -> list[list[str]]:
    """Group (where there are groups), runs and episodes of every method."""
    texts: dict[str, Callable[[Column], str]] = {
        "Group": lambda column: column.group,
        "Runs": lambda column: str(column.usual_runs),
        "Episodes a run": lambda column: column.episodes,
    }
    if not any(column.group for column in columns):
        texts.pop("Group")
    return [[title, "", "", *map(text, columns)] for title, text in texts.items()]


def _marks(method: str, game: str, defects: Sequence[Any]) -> str:
    return "".join(defect.mark for defect in defects if method in defect.methods and game in defect.tasks)


def _game_cell(column: Column, game: str, position: int, records: list[dict[str, Any]]) -> str:
    mean, error = metrics.task_means(column.raw)[position], metrics.standard_errors(column.raw)[position]
    runs = int(metrics.run_counts(column.raw)[position])
    if runs:
        records.append(column.record(game, mean, runs, standard_error=error))
    return with_error(mean, error) + (f" ({runs})" if runs not in (0, column.usual_runs) else "")


def _aggregate_cell(
    context: Context, suite: str, column: Column, metric: str, form: str, row: str, records: list[dict[str, Any]]
) -> str:
    entry = context.aggregates[suite].get(column.method, {}).get(metric)
    if entry is None:
        return NO_RUN
    if entry["runs"] == 1 and metric in tables.NEEDS_RUNS:
        return NOT_APPLICABLE
    point, low, high = (entry[name] for name in ("point", "low", "high"))
    records.append(column.record(row, point, entry["runs"], low=low, high=high))
    return form.format(point) + ("" if low is None else f" [{form.format(low)}, {form.format(high)}]")


ITEMS = (
    Item(
        "R1-T-atari",
        "beyond",
        "table",
        "Atari-100k per game, every method with its uncertainty",
        atari_table,
        compares=atari_methods,
    ),
    Item("R1-T-ablations", "beyond", "table", "REM's ablations per game with their uncertainty", ablations_table),
)
