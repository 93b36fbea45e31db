"""The inventory: every table and figure by its id, with the paper it belongs to and the function that makes it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analysis import improvement, intervals, ours, profiles, tables
from analysis.artefacts import Artefact
from analysis.context import Context
from tokenworlds.errors import UserError, near_matches


def _published(context: Context) -> str | None:
    """Items made from published scores always have data."""
    return None


@dataclass(frozen=True)
class Item:
    """One table or figure. ``missing`` says why it cannot be made now, or None."""

    id: str
    paper: str
    kind: str  # "table" or "figure"
    title: str
    make: Callable[[Context], Artefact]
    missing: Callable[[Context], str | None] = _published

    @property
    def command(self) -> str:
        """What redraws exactly this item."""
        return f"python analysis/make_figures.py --only {self.id}"


ITEMS = (
    Item("IRIS-T1", "iris", "table", "Atari-100k per game, IRIS paper's Table 1", tables.iris_table1),
    Item("IRIS-F-agg", "iris", "figure", "Mean, median and IQM with intervals", intervals.iris_aggregates),
    Item("IRIS-F-og", "iris", "figure", "Optimality gap with intervals", intervals.iris_optimality_gap),
    Item("IRIS-F-pp", "iris", "figure", "Performance profiles", profiles.iris_profiles),
    Item("IRIS-F-poi", "iris", "figure", "Probability of improvement", improvement.iris_improvement),
    Item("OURS-T", "ours", "table", "Our runs, task by task", ours.runs_table, ours.no_runs),
    Item("OURS-F-games", "ours", "figure", "Our runs game by game", ours.games_figure, ours.no_atari_runs),
    Item("OURS-F-agg", "ours", "figure", "Our aggregates on the games we ran", ours.aggregates_figure, ours.no_subset),
    Item(
        "OURS-F-tasks", "ours", "figure", "Our runs on tasks other than Atari", ours.tasks_figure, ours.no_other_tasks
    ),
)


def select(ids: Sequence[str] = (), kind: str = "all") -> list[Item]:
    """The items asked for; all of that kind when no id is given."""
    known = {item.id: item for item in ITEMS}
    for name in ids:
        if name not in known:
            raise UserError(f"unknown item {name!r}: {near_matches(name, known)}")
    chosen = [known[name] for name in dict.fromkeys(ids)] or list(ITEMS)
    return [item for item in chosen if kind in ("all", item.kind)]
