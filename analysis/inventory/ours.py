"""The tables and figures of our own runs."""

from analysis.item import Item
from analysis.papers import ours

ITEMS = (
    Item("OURS-T", "ours", "table", "Our runs, task by task", ours.runs_table, ours.no_runs),
    Item("OURS-F-games", "ours", "figure", "Our runs game by game", ours.games_figure, ours.no_atari_runs),
    Item("OURS-F-agg", "ours", "figure", "Our aggregates on the games we ran", ours.aggregates_figure, ours.no_subset),
    Item(
        "OURS-F-tasks",
        "ours",
        "figure",
        "Our runs on tasks without a human score",
        ours.tasks_figure,
        ours.no_other_tasks,
    ),
)
