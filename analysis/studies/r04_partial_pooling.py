"""R4: aggregates and games by a hierarchical model of the spread of runs (``analysis.stats.partial_pooling``)."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from analysis.context import Context
from analysis.data import naming
from analysis.data.published import ATARI
from analysis.draw.artefacts import Table
from analysis.draw.tables import records_table, render
from analysis.item import Item
from analysis.stats import bootstrap, metrics, partial_pooling
from analysis.stats.metrics import Matrix, wider
from analysis.stats.partial_pooling import DRAWS, Posterior
from analysis.studies.methods import atari_defects, left_out

FEW_RUNS = range(3, 11)  # a hundred runs need nothing from other games, two have not enough to give


def has_few_runs(scores: Matrix) -> bool:
    """Whether the model is of use: at least two runs of each game, a few of some, and not all equal."""
    runs = metrics.run_counts(scores)
    return bool(runs.min() >= 2 and runs.max() in FEW_RUNS and metrics.tell_spread(scores))


def _fitted(context: Context) -> Iterator[tuple[str, Posterior]]:
    for method, scores in context.suites[ATARI].scores.items():
        if has_few_runs(scores):
            yield method, partial_pooling.fit(scores)


def _left_out(context: Context) -> str:
    scores = context.suites[ATARI].scores
    return left_out(context, [method for method in scores if not has_few_runs(scores[method])])


def pooled_table(context: Context) -> Table:
    """R4-T-pooled: aggregates with credible intervals, beside the bootstrap's."""
    suite = context.suites[ATARI]
    records, steered = [], []
    for method, posterior in _fitted(context):
        if found := partial_pooling.steering_task(suite.scores[method]):
            steered.append(f"{naming.shown(method)} ({found[1]:.1f} without {suite.tasks[found[0]]})")
        draws = partial_pooling.aggregates(posterior, context.options.generator("partial pooling", method))
        record: dict[str, Any] = {"method": method, "runs": int(posterior.runs.max())}
        record |= {"prior_freedom": posterior.prior_freedom}
        for name, values in draws.items():
            entry = context.aggregates[ATARI][method][name]
            low, high = bootstrap.bounds(values)
            record |= {name: values.mean(), f"{name}_low": low, f"{name}_high": high, f"{name}_point": entry["point"]}
            record |= {f"{name}_bootstrap_{bound}": entry[bound] for bound in ("low", "high")}
            record[f"{name}_ratio"] = wider((low, high), (entry["low"], entry["high"]))
        records.append(record)

    columns: dict[str, Any] = {
        "method": ("Method", ""),
        "runs": ("Runs", "{:.0f}"),
        "prior_freedom": ("Prior", "{:.1f}"),
    }
    for name, title in (("mean", "Mean"), ("iqm", "IQM")):
        usual = (f"{name}_point", f"{name}_bootstrap_low", f"{name}_bootstrap_high")
        columns |= {
            usual[0]: (f"{title}, bootstrap", partial(_interval_of, usual)),
            name: (f"{title}, model", partial(_interval_of, (name, f"{name}_low", f"{name}_high"))),
            f"{name}_ratio": ("Width", "{:.2f}"),
        }
    steering = f" One game of almost equal runs steers the prior of {naming.listed(steered)}." if steered else ""
    caption = (
        "Hierarchical model of the spread over runs, Atari-100k: aggregates of human-normalised scores with 95 % "
        f"intervals by the stratified bootstrap and by the model ({DRAWS} draws), and how many times as wide the "
        "model's is. Prior: degrees of freedom that the other games add to those of a game's own runs. The model's IQM "
        "is that of the fitted distributions of runs, so it differs a little from that of the runs."
        f"{steering}{_left_out(context)}"
    )
    defects = atari_defects(context, [record["method"] for record in records])
    return records_table(records, columns, caption, text_columns=1, defects=defects)


def games_table(context: Context) -> Table:
    """R4-T-games: mean of every game with its credible interval."""
    tasks = context.suites[ATARI].tasks
    numbers = pd.concat(
        pd.DataFrame({"method": method, "game": tasks, "runs": posterior.runs, "mean": posterior.means})
        .assign(**dict(zip(("low", "high"), posterior.task_intervals())), variance=posterior.variances)
        .assign(prior_variance=posterior.prior_variances, prior_freedom=posterior.prior_freedom)
        for method, posterior in _fitted(context)
    )
    methods = list(dict.fromkeys(numbers.method))
    cells = {(row.method, row.game): _interval(row.mean, row.low, row.high, 2) for row in numbers.itertuples()}
    lines = [[game, *(cells[method, game] for method in methods)] for game in tasks]
    caption = (
        "Hierarchical model of the spread over runs, Atari-100k: mean human-normalised score of every game with its "
        "95 % credible interval; methods with few runs, all games of a method pooled for the spread, not for the means."
        f"{_left_out(context)}"
    )
    headers = ["Game", *(naming.shown(method) for method in methods)]
    return render(headers, lines, numbers, caption, defects=atari_defects(context, methods))


def _interval_of(names: Sequence[str], record: Mapping[str, Any]) -> str:
    return _interval(*(record[name] for name in names))


def _interval(point: float, low: float, high: float, digits: int = 3) -> str:
    return f"{point:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


ITEMS = (
    Item("R4-T-pooled", "beyond", "table", "Aggregates by a hierarchical model", pooled_table),
    Item("R4-T-games", "beyond", "table", "Games by a hierarchical model", games_table),
)
