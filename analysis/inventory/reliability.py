"""Beyond the papers. How far the numbers can be trusted: interval methods, number of runs, choice of games."""

from analysis.item import Item
from analysis.studies.coverage import coverage_figure, coverage_table, no_large_method
from analysis.studies.game_choice import games_figure, shares_table, tasks_table
from analysis.studies.interval_table import iqm_intervals_table
from analysis.studies.run_numbers import runs_figure, runs_table

ITEMS: tuple[Item, ...] = (
    Item("R5-T-intervals", "beyond", "table", "The IQM's interval by five methods", iqm_intervals_table),
    Item(
        "R5-T-coverage",
        "beyond",
        "table",
        "How often a 95 % interval holds the truth",
        coverage_table,
        no_large_method,
    ),
    Item(
        "R5-F-coverage",
        "beyond",
        "figure",
        "Coverage of 95 % intervals by method and number of runs",
        coverage_figure,
        no_large_method,
    ),
    Item("R6-T-runs", "beyond", "table", "How many runs are enough", runs_table),
    Item("R6-F-runs", "beyond", "figure", "Width of intervals and ranking against the number of runs", runs_figure),
    Item("R7-T-tasks", "beyond", "table", "Intervals with games drawn too", tasks_table),
    Item("R7-T-shares", "beyond", "table", "What each game contributes to mean and IQM", shares_table),
    Item("R7-F-games", "beyond", "figure", "Aggregates without one of the games", games_figure),
)
