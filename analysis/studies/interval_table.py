"""The intervals of the papers' own agents by every method, side by side."""

from functools import partial

import numpy as np
import pandas as pd

from analysis.context import Context
from analysis.data.naming import shown
from analysis.data.published import ATARI
from analysis.draw.artefacts import Table
from analysis.draw.intervals import TITLES
from analysis.draw.tables import Cell, render
from analysis.item import Item
from analysis.stats.interval_methods import NAMES, intervals, points
from analysis.studies.samples import agents, agents_left_out

RESAMPLES = 10_000


def intervals_table(metric: str, context: Context) -> Table:
    """A row for each agent, our complete runs included; widths are compared with the papers' percentile interval."""
    suite = context.suites[ATARI]
    resamples = min(RESAMPLES, context.options.repetitions_aggregates)
    lines, records = [], []
    for population in agents(suite):
        sample = population.scores.T[None]
        generator = context.options.generator("interval methods", metric, population.method)
        found = {name: bounds[0] for name, bounds in intervals(sample, generator, resamples, (metric,))[metric].items()}
        point, usual = float(points(metric, sample)[0]), float(np.diff(found["percentile"])[0])
        lines.append([Cell(shown(population.method)), Cell(str(population.runs)), Cell(f"{point:.3f}")])
        for name, (low, high) in found.items():
            wider = "" if name == "percentile" else f" (×{(high - low) / usual:.2f})"
            lines[-1].append(Cell(f"{low:.3f} to {high:.3f}{wider}"))
            record = {"method": population.method, "metric": metric, "interval": name, "runs": population.runs}
            records.append(record | {"point": point, "low": low, "high": high, "resamples": resamples})
    headers = ["Method", "Runs", TITLES[metric], *(NAMES[name] for name in found)]
    caption = (
        f"Atari-100k, {len(suite.tasks)} games: 95 % intervals of the {TITLES[metric]} of human-normalised scores by "
        f"{len(found)} methods ({resamples} resamples); in brackets the width against the percentile interval, which "
        f"the papers draw.{agents_left_out(context)}"
    )
    defects = context.defects_of([each.method for each in agents(suite)], suite.tasks)
    return render(headers, lines, pd.DataFrame(records), caption, defects=defects)


iqm_intervals_table = partial(intervals_table, "iqm")


ITEMS = (Item("R5-T-intervals", "beyond", "table", "The IQM's interval by five methods", iqm_intervals_table),)
