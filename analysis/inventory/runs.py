"""Beyond the papers. What only run records show: cost, curves, noise of evaluation, effects of ablations."""

from analysis.item import Item
from analysis.studies import cost, curves, effects, noise

ITEMS: tuple[Item, ...] = (
    Item("R9-F-cost", "beyond", "figure", "Our runs: score against cost", cost.cost_figure, cost.no_costs),
    Item("R9-T-cost", "beyond", "table", "Our runs: time, size and memory", cost.cost_table, cost.no_costs),
    Item("R10-F-curves", "beyond", "figure", "Our runs: learning curves", curves.curves_figure, curves.no_curves),
    Item("R10-T-curves", "beyond", "table", "Our runs: learning in numbers", curves.curves_table, curves.no_curves),
    Item(
        "R11-T-noise", "beyond", "table", "Our runs: noise of episodes and runs", noise.noise_table, noise.no_episodes
    ),
    Item("R12-T-effects", "beyond", "table", "Our ablations, paired by seed", effects.effects_table, effects.no_pairs),
)
