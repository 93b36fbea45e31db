"""How often a 95 % interval of a few runs holds the truth, tried out where the truth is known.

Three published methods have 100 runs of every game. Taken for the whole population, their aggregates are the truth;
N runs of each game are drawn from them many times, every interval is made of each draw, and those that hold the truth
are counted. Runs are drawn *with* replacement, so they are independent, as runs of an experiment are. Drawn without,
the N runs would lie nearer to the truth than independent ones, by the factor sqrt(1 - N / 100) of a finite population
(0.89 at 20 runs), and every interval would look better than it is.
"""

from functools import lru_cache

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, PercentFormatter
from scipy.special import betaincinv

from analysis.context import Context
from analysis.data import naming
from analysis.data.published import ATARI
from analysis.draw import style
from analysis.draw.artefacts import Drawing, Table
from analysis.draw.intervals import TITLES
from analysis.draw.tables import NOT_APPLICABLE, Cell, render
from analysis.item import Item, NoData
from analysis.options import Options
from analysis.stats.interval_methods import LEVEL, METRICS, NAMES, intervals, points
from analysis.studies.samples import MANY_RUNS, Population, draw_independent, large, left_out

RUNS = (3, 5, 10, 20)
SAMPLES = 300  # of each method and number of runs: 900 a dot, which is known to 1.5 per cent
RESAMPLES = 399  # (399 + 1) x 2.5 % is a whole number: no bias by the percentiles
FEWEST_SAMPLES = 20
ALL = "all"  # the methods taken together
# Not those of any agent: here colours are interval methods.
LOOKS = {
    "percentile": ("#4477AA", "o"),
    "widened": ("#EE6677", "s"),
    "bca": ("#CCBB44", "D"),
    "bootstrap_t": ("#2E9E4F", "^"),
    "student": ("#BB5599", "v"),
}


def effort(options: Options) -> tuple[int, int]:
    """Samples and resamples: fewer where ``--repetitions`` asks for little."""
    few = options.repetitions_aggregates
    return min(SAMPLES, max(FEWEST_SAMPLES, few // 10)), min(RESAMPLES, few)


@lru_cache(maxsize=1)
def coverage_study(chosen: tuple[Population, ...], options: Options) -> pd.DataFrame:
    """A row for each metric, number of runs, interval and method, and for the methods together."""
    samples, resamples = effort(options)
    parts = [
        _cover(population, runs, options.generator("coverage", population.method, str(runs)), samples, resamples)
        for population in chosen
        for runs in RUNS
    ]
    single = pd.concat(parts, ignore_index=True)
    keys = ["metric", "runs", "interval"]
    counts = single.groupby(keys, sort=False)[["samples", "held", "truth_above", "truth_below"]].sum()
    together = counts.join(single.groupby(keys, sort=False)[["width"]].mean()).reset_index()
    frame = pd.concat([together.assign(method=ALL), single], ignore_index=True)
    frame["coverage"] = frame.held / frame.samples
    frame["low"], frame["high"] = binomial_interval(frame.held.to_numpy(), frame.samples.to_numpy())
    order = ["method", *keys, "samples", "held", "coverage", "low", "high", "truth_below", "truth_above", "width"]
    return frame[order]


def _cover(
    population: Population, runs: int, generator: np.random.Generator, samples: int, resamples: int
) -> pd.DataFrame:
    drawn = draw_independent(population.scores, generator, samples, runs)
    found = intervals(drawn, generator, resamples)
    records = []
    for metric in METRICS:
        truth = float(points(metric, population.scores.T[None])[0])
        for name, bounds in found[metric].items():
            below, above = int((truth < bounds[:, 0]).sum()), int((truth > bounds[:, 1]).sum())
            records.append(
                {
                    "method": population.method,
                    "metric": metric,
                    "runs": runs,
                    "interval": name,
                    "samples": samples,
                    "held": samples - below - above,
                    "truth_below": below,
                    "truth_above": above,
                    "width": float((bounds[:, 1] - bounds[:, 0]).mean()),
                }
            )
    return pd.DataFrame(records)


def binomial_interval(held: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exact 95 % interval of a share (Clopper and Pearson 1934)."""
    tail = (1 - LEVEL) / 2
    low = np.where(held > 0, betaincinv(np.maximum(held, 1), trials - held + 1, tail), 0.0)
    high = np.where(held < trials, betaincinv(held + 1, np.maximum(trials - held, 1), 1 - tail), 1.0)
    return low, high


def require_large(context: Context) -> None:
    """Raise ``NoData`` without a method of 100 published runs a game."""
    if not large(context):
        raise NoData("no method with 100 runs of every game: restore results/data.")


def coverage_figure(context: Context) -> Drawing:
    """Coverage against the number of runs, a panel for each metric."""
    chosen = large(context)
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
            *grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(LOOKS), frameon=False
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
    axes.set_xscale("log")
    axes.set_xticks(RUNS, [str(runs) for runs in RUNS])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    style.tidy(axes, grid="y")


def _drawn(context: Context) -> str:
    """What was drawn, for captions."""
    samples, resamples = effort(context.options)
    chosen = large(context)
    names = naming.listed([naming.shown(each.method) for each in chosen])
    return (
        f"{samples} draws of N runs per game from the {chosen[0].runs} of each of {names} (with replacement: "
        f"independent runs; the truth is the aggregate of all {chosen[0].runs}), {resamples} resamples each."
    )


def _left_out(context: Context) -> str:
    """Methods with as many runs of some game that are not taken for the truth."""
    chosen, scores = {each.method for each in large(context)}, context.suites[ATARI].scores
    many = [name for name in scores if len(scores[name]) >= MANY_RUNS and not naming.is_ours(name)]
    return left_out(context, [name for name in many if name not in chosen])


def coverage_table(context: Context) -> Table:
    """Coverage and mean width, the methods taken together; bold is the one nearest to 95 %."""
    chosen = large(context)
    study = coverage_study(chosen, context.options)
    lines: list[list[Cell]] = []
    rules = []
    for metric in METRICS:
        rules.append(len(lines))
        for runs in RUNS:
            rows = study[(study.method == ALL) & (study.metric == metric) & (study.runs == runs)].set_index("interval")
            nearest = (rows.coverage - LEVEL).abs().min()
            cells = [_coverage_cell(rows, name, nearest) for name in NAMES]
            lines.append([Cell(TITLES[metric]), Cell(str(runs)), *cells])
    caption = (
        "Per cent of 95 % intervals that hold the truth, in brackets their mean width; bold: nearest to 95; "
        f"{_drawn(context)} {NOT_APPLICABLE}: resamples of the median may have no spread to divide by."
        f"{_left_out(context)}"
    )
    headers = ["Metric", "Runs", *NAMES.values()]
    defects = context.defects_of([each.method for each in chosen], ())
    return render(headers, lines, study, caption, rules=rules[1:], defects=defects)


def _coverage_cell(rows: pd.DataFrame, name: str, nearest: float) -> Cell:
    if name not in rows.index:
        return Cell(NOT_APPLICABLE)
    coverage = float(rows.coverage[name])
    return Cell(f"{100 * coverage:.1f} ({rows.width[name]:.3f})", bold=abs(coverage - LEVEL) <= nearest + 1e-12)


ITEMS = (
    Item(
        "R5-T-coverage", "beyond", "table", "How often a 95 % interval holds the truth", coverage_table, require_large
    ),
    Item(
        "R5-F-coverage", "beyond", "figure", "Coverage of 95 % intervals by method and number of runs", coverage_figure,
        require_large,
    ),
)  # fmt: skip
