"""R5: how often a 95 % interval of a few runs holds the truth, where the truth is known, and the agents' intervals.

Three published methods have 100 runs of every game. Taken for the whole population, their aggregates are the truth;
N runs of each game are drawn from them many times, every interval is made of each draw, and those that hold the truth
are counted. Runs are drawn *with* replacement, so they are independent, as runs of an experiment are. Drawn without,
the N runs would be nearer to the truth than independent ones, by the factor sqrt(1 - N / 100) of a finite population
(0.89 at 20 runs), and every interval would seem better than it is.
"""

from functools import lru_cache

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from analysis.context import Context
from analysis.data import naming
from analysis.data.published import ATARI
from analysis.draw import style
from analysis.draw.artefacts import Drawing, Table
from analysis.draw.intervals import TITLES
from analysis.draw.tables import NOT_APPLICABLE, Cell, render
from analysis.errors import require
from analysis.item import Item
from analysis.options import Options
from analysis.stats.interval_methods import LEVEL, NAMES, binomial_interval, intervals
from analysis.stats.metrics import wider
from analysis.stats.samples import METRICS, draw_with_replacement, points
from analysis.studies import methods
from analysis.studies.methods import Population, agents

RUNS = (3, 5, 10, 20)
SAMPLES = 300  # of each method and number of runs: 900 a dot, which is known to 1.5 per cent
RESAMPLES = 399  # (399 + 1) x 2.5 % is a whole number: no bias by the percentiles
RESAMPLES_OF_AGENTS = 10_000
FEWEST_SAMPLES = 20
ALL = "all"  # the methods taken together
# Colours of interval methods, none of which is that of an agent.
LOOKS = {
    "percentile": ("#4477AA", "o"),
    "widened": ("#EE6677", "s"),
    "bca": ("#CCBB44", "D"),
    "bootstrap_t": ("#2E9E4F", "^"),
    "student": ("#BB5599", "v"),
}


def agents_table(context: Context) -> Table:
    """R5-T-intervals: IQM of each agent, our complete runs included, with its interval by every method."""
    suite, resamples = context.suites[ATARI], min(RESAMPLES_OF_AGENTS, context.options.repetitions_aggregates)
    lines: list[list[Cell | str]] = []
    records = []
    for population in agents(suite):
        sample = population.scores.T[None]
        generator = context.options.generator("interval methods", "iqm", population.method)
        found = {name: bounds[0] for name, bounds in intervals(sample, generator, resamples, ("iqm",))["iqm"].items()}
        point = float(points("iqm", sample)[0])
        lines.append([naming.shown(population.method), str(population.runs), f"{point:.3f}"])
        for name, (low, high) in found.items():
            ratio = wider((low, high), tuple(found["percentile"]))
            compared = "" if name == "percentile" or np.isnan(ratio) else f" (×{ratio:.2f})"
            lines[-1].append(f"{low:.3f} to {high:.3f}{compared}")
            record = {"method": population.method, "metric": "iqm", "interval": name, "runs": population.runs}
            records.append(record | {"point": point, "low": low, "high": high, "resamples": resamples})
    caption = (
        f"Atari-100k, {len(suite.tasks)} games: 95 % intervals of the IQM of human-normalised scores by {len(NAMES)} "
        f"methods ({resamples} resamples); in brackets the width against the percentile interval, which the papers "
        f"draw.{methods.agents_left_out(context)}"
    )
    defects = methods.atari_defects(context, [each.method for each in agents(suite)])
    headers = ["Method", "Runs", "IQM", *NAMES.values()]
    return render(headers, lines, pd.DataFrame(records), caption, defects=defects)


def effort(options: Options) -> tuple[int, int]:
    """Samples and resamples: fewer where ``--repetitions`` asks for few."""
    few = options.repetitions_aggregates
    return min(SAMPLES, max(FEWEST_SAMPLES, few // 10)), min(RESAMPLES, few)


@lru_cache(maxsize=1)
def coverage_study(chosen: tuple[Population, ...], options: Options) -> pd.DataFrame:
    """A row for each metric, number of runs, interval and method, and for the methods together."""
    single = pd.DataFrame(
        record for population in chosen for runs in RUNS for record in _cover(population, runs, options)
    )
    keys = ["metric", "runs", "interval"]
    groups = single.groupby(keys, sort=False)
    together = groups[["samples", "held", "truth_above", "truth_below"]].sum().join(groups[["width"]].mean())
    frame = pd.concat([together.reset_index().assign(method=ALL), single], ignore_index=True)
    frame["coverage"] = frame.held / frame.samples
    frame["low"], frame["high"] = binomial_interval(frame.held.to_numpy(), frame.samples.to_numpy())
    order = ["method", *keys, "samples", "held", "coverage", "low", "high", "truth_below", "truth_above", "width"]
    return frame[order]


def _cover(population: Population, runs: int, options: Options) -> list[dict[str, object]]:
    samples, resamples = effort(options)
    generator = options.generator("coverage", population.method, str(runs))
    drawn = draw_with_replacement(population.scores, generator, samples, runs)
    found = intervals(drawn, generator, resamples)
    records = []
    for metric in METRICS:
        truth = float(points(metric, population.scores.T[None])[0])
        for name, (low, high) in ((name, bounds.T) for name, bounds in found[metric].items()):
            below, above = int((truth < low).sum()), int((truth > high).sum())
            record = {"method": population.method, "metric": metric, "runs": runs, "interval": name}
            record |= {"samples": samples, "held": samples - below - above, "truth_below": below, "truth_above": above}
            records.append(record | {"width": float((high - low).mean())})
    return records


def truths(context: Context) -> tuple[Population, ...]:
    """Published methods with 100 runs, which serve as the truth; ``NoData`` without any."""
    return require(methods.large(context), "no method with 100 runs of every game: restore results/data.")


def coverage_figure(context: Context) -> Drawing:
    """R5-F-coverage: coverage against the number of runs, a panel for each metric."""
    chosen = truths(context)
    study = coverage_study(chosen, context.options)
    with style.house_style():
        figure, grid = plt.subplots(2, 2, figsize=(8.4, 6.4), sharex=True, sharey=True, layout="constrained")
        for axes, metric in zip(grid.flat, METRICS):
            _draw_coverage(axes, study[(study.metric == metric) & (study.method == ALL)])
            axes.set_title(TITLES[metric])
        for axes in grid[1]:
            axes.set_xlabel("Runs per game N")
        for axes in grid[:, 0]:
            axes.set_ylabel("Intervals that hold the truth")
        figure.legend(
            *grid[0, 0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=style.across(len(LOOKS), 1.4),
            frameon=False,
        )
    caption = (
        "Coverage of 95 % intervals: dots are the share that holds the truth, lines on them exact 95 % binomial "
        f"intervals, the dashed line the promised 95 %; {_drawn(context)}{_left_out(context)}"
    )
    return Drawing(figure, study, caption, context.defects_of([each.method for each in chosen], ()))


def _draw_coverage(axes: Axes, study: pd.DataFrame) -> None:
    axes.axhline(LEVEL, color=style.faint(), linestyle="--", linewidth=1, zorder=0)
    for position, (name, (colour, marker)) in enumerate(LOOKS.items()):
        rows = study[study.interval == name]
        place = rows.runs * 1.035 ** (position - 2)  # beside each other
        errors = [rows.coverage - rows.low, rows.high - rows.coverage]
        axes.plot(place, rows.coverage, color=colour, linewidth=1, alpha=0.6)
        axes.errorbar(
            place, rows.coverage, errors, fmt=marker, color=colour, markersize=5, elinewidth=1.2, label=NAMES[name]
        )
    methods.logarithmic_axis(axes, RUNS)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    style.tidy(axes, grid="y")


def _drawn(context: Context) -> str:
    """The part of the captions that says what was drawn."""
    samples, resamples = effort(context.options)
    chosen = truths(context)
    names = naming.listed([naming.shown(each.method) for each in chosen])
    return (
        f"{samples} draws of N runs per game from the {chosen[0].runs} of each of {names} (with replacement: "
        f"independent runs; the truth is the aggregate of all {chosen[0].runs}), {resamples} resamples each."
    )


def _left_out(context: Context) -> str:
    """The end of a caption that names methods with as many runs of some game that do not serve as the truth."""
    chosen, scores = {each.method for each in truths(context)}, context.suites[ATARI].scores
    many = [name for name in scores if len(scores[name]) >= methods.MANY_RUNS and not naming.is_ours(name)]
    return methods.left_out(context, [name for name in many if name not in chosen])


def coverage_table(context: Context) -> Table:
    """R5-T-coverage: coverage and mean width, the methods taken together; bold is the one nearest to 95 %."""
    study = coverage_study(truths(context), context.options)
    groups = study[study.method == ALL].set_index("interval").groupby(["metric", "runs"])
    lines: list[list[Cell | str]] = [
        [TITLES[metric], str(runs), *_cells(groups.get_group((metric, runs)))] for metric in METRICS for runs in RUNS
    ]
    caption = (
        "Per cent of 95 % intervals that hold the truth, in brackets their mean width; bold: nearest to 95; "
        f"{_drawn(context)} {NOT_APPLICABLE}: resamples of the median may have no spread to divide by."
        f"{_left_out(context)}"
    )
    headers = ["Metric", "Runs", *NAMES.values()]
    defects = context.defects_of([each.method for each in truths(context)], ())
    return render(headers, lines, study, caption, rules=range(len(RUNS), len(lines), len(RUNS)), defects=defects)


def _cells(rows: pd.DataFrame) -> list[Cell]:
    distances = (rows.coverage - LEVEL).abs()
    nearest = distances.index[distances <= distances.min() + 1e-12]
    texts = {row.Index: f"{100 * row.coverage:.1f} ({row.width:.3f})" for row in rows.itertuples()}
    return [Cell(texts.get(name, NOT_APPLICABLE), name in nearest) for name in NAMES]


ITEMS = (
    Item("R5-T-intervals", "beyond", "table", "The IQM's interval by five methods", agents_table),
    Item("R5-T-coverage", "beyond", "table", "How often a 95 % interval holds the truth", coverage_table, truths),
    Item("R5-F-coverage", "beyond", "figure", "Coverage of 95 % intervals by method and number of runs",
         coverage_figure, truths),
)  # fmt: skip
