"""R4: a hierarchical model of the spread of runs: five runs of a game borrow strength from the other games.

On game m the n runs are normal with mean mu_m (flat prior) and variance s_m^2. Variances of the games share a prior,
scaled inverse chi-square with nu0 degrees of freedom around s0_m^2, and log s0_m^2 is linear in the log of the game's
level: runs scatter in proportion to what they score. nu0 and the line come from the data by the method of moments on
log variances (Smyth 2004, with a trend). Then everything is closed: with nu = n - 1,

    s_m^2 | data ~ (nu0 s0_m^2 + nu v_m) / chi^2(nu0 + nu)        v_m: sample variance
    mu_m | data ~ mean_m + sqrt((nu0 s0_m^2 + nu v_m) / ((nu0 + nu) n)) t(nu0 + nu).

nu0 counts how many degrees of freedom the other games add. Aggregates are those of the distributions, not of the runs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, stats
from scipy.special import digamma, polygamma

from analysis.context import Context
from analysis.data import naming
from analysis.data.published import ATARI
from analysis.draw.artefacts import Table
from analysis.draw.tables import Cell, render
from analysis.item import Item
from analysis.stats import bootstrap, metrics
from analysis.stats.metrics import Matrix
from analysis.studies.samples import left_out

FEW_RUNS = range(3, 11)  # with a hundred runs there is nothing to borrow, with two not enough to lend
LEVEL_FLOOR = 0.01  # human-normalised: below it the level of a game says nothing about its spread
EQUAL = 1e-9  # times the level: runs that scatter less are equal but for the rounding of a mean
ALMOST_EQUAL = 0.02  # times the level: runs that scatter less
STEERS = 1.5  # times as many degrees of freedom without such a game: worth saying
DRAWS = 2_000
QUANTILES = 20  # of every game's distribution, for the interquartile mean
CONFIDENCE = 0.95
LARGE = 1e6  # degrees of freedom of a prior that is certain

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Posterior:
    """Of one method: sample means, posterior scales and degrees of freedom of M games, and the prior behind them."""

    means: Values
    runs: NDArray[np.int64]
    variances: Values  # (nu0 s0^2 + nu v) / (nu0 + nu)
    freedom: Values  # nu0 + nu
    prior_freedom: float
    prior_variances: Values

    def game_intervals(self) -> Values:
        """95 % credible intervals of the games' means, shape (2, M)."""
        half = stats.t.ppf((1 + CONFIDENCE) / 2, self.freedom) * np.sqrt(self.variances / self.runs)
        return np.stack([self.means - half, self.means + half])

    def draw(self, generator: np.random.Generator, draws: int) -> tuple[Values, Values]:
        """Means and standard deviations of the games, each of shape (draws, M)."""
        size = (draws, len(self.means))
        variances = self.freedom * self.variances / generator.chisquare(self.freedom, size)
        means = self.means + np.sqrt(variances / self.runs) * generator.standard_normal(size)
        return means, np.sqrt(variances)


def fit(scores: Matrix) -> Posterior:
    """The model for scores (N, M), ragged or not, with at least two runs a game.

    Games whose runs are all equal, but for rounding, say nothing about the prior (their log variance is minus
    infinity), but are drawn towards it like all others.
    """
    runs = metrics.run_counts(scores)
    nu = (runs - 1).astype(np.float64)
    means, sample = np.nanmean(scores, axis=0), np.nanvar(scores, axis=0, ddof=1)
    level = np.log(np.maximum(np.abs(means), LEVEL_FLOOR))
    freedom, prior = _prior(sample, nu, level)
    pooled = (freedom * prior + nu * sample) / (freedom + nu)
    return Posterior(means, runs, pooled, freedom + nu, freedom, prior)


def _prior(sample: Values, nu: Values, level: Values) -> tuple[float, Values]:
    """nu0 and s0^2 of each game: E(log v) = log s0^2 + psi(nu/2) - log(nu/2) - (psi(nu0/2) - log(nu0/2)), and its
    variance is psi'(nu/2) + psi'(nu0/2)."""
    varied = sample > (EQUAL * np.exp(level)) ** 2
    unbiased = np.log(sample[varied]) - digamma(nu[varied] / 2) + np.log(nu[varied] / 2)
    design = np.stack([np.ones_like(level), level], axis=1)
    line, *_ = np.linalg.lstsq(design[varied], unbiased, rcond=None)
    residual = unbiased - design[varied] @ line
    spare = len(residual) - 2
    excess = float(residual @ residual / spare - polygamma(1, nu[varied] / 2).mean()) if spare > 0 else 0.0
    freedom = prior_freedom(excess)
    return freedom, np.exp(design @ line + digamma(freedom / 2) - np.log(freedom / 2))


def prior_freedom(excess: float) -> float:
    """nu0 whose log variances scatter by ``excess`` more than sampling explains: psi'(nu0 / 2) = excess."""
    if excess <= polygamma(1, LARGE / 2):
        return LARGE
    solution = optimize.brentq(lambda log: polygamma(1, np.exp(log) / 2) - excess, np.log(1e-4), np.log(LARGE))
    return float(np.exp(solution))


def steering_game(scores: Matrix) -> tuple[int, float] | None:
    """The game of almost equal runs without which nu0 is largest, and that nu0; None if it is not ``STEERS`` as large.

    What is fitted is log variances: one far below the line makes all games look as if they had little in common."""
    level = np.maximum(np.abs(np.nanmean(scores, axis=0)), LEVEL_FLOOR)
    almost_equal = np.flatnonzero(np.nanstd(scores, axis=0, ddof=1) < ALMOST_EQUAL * level)
    without = {int(game): fit(np.delete(scores, game, axis=1)).prior_freedom for game in almost_equal}
    game = max(without, key=without.__getitem__, default=None)
    return None if game is None or without[game] < STEERS * fit(scores).prior_freedom else (game, without[game])


def aggregates(posterior: Posterior, generator: np.random.Generator, draws: int = DRAWS) -> dict[str, Values]:
    """Draws of the mean over games and of the interquartile mean of all games' distributions together."""
    means, deviations = posterior.draw(generator, draws)
    places = stats.norm.ppf((np.arange(QUANTILES) + 0.5) / QUANTILES)
    values = np.sort((means[..., None] + deviations[..., None] * places).reshape(draws, -1), axis=1)
    drop = metrics.trimmed_count(values.shape[1])
    return {"mean": means.mean(axis=1), "iqm": values[:, drop : values.shape[1] - drop].mean(axis=1)}


def _fitted(context: Context) -> Iterator[tuple[str, Posterior]]:
    for method, scores in context.suites[ATARI].scores.items():
        if has_few_runs(scores):
            yield method, fit(scores)


def has_few_runs(scores: Matrix) -> bool:
    """Whether the model is of use: at least two runs of each game, and a few of some."""
    runs = metrics.run_counts(scores)
    return bool(runs.min() >= 2 and runs.max() in FEW_RUNS)


def _steering(steered: list[str]) -> str:
    return f" One game of almost equal runs steers the prior of {naming.listed(steered)}." if steered else ""


def _left_out(context: Context) -> str:
    scores = context.suites[ATARI].scores
    return left_out(context, [method for method in scores if not has_few_runs(scores[method])])


def pooled_table(context: Context) -> Table:
    """R4-T-pooled: aggregates with credible intervals, beside the bootstrap's."""
    records, lines, steered = [], [], []
    for method, posterior in _fitted(context):
        if found := steering_game(context.suites[ATARI].scores[method]):
            steered.append(f"{naming.shown(method)} ({found[1]:.1f} without {context.suites[ATARI].tasks[found[0]]})")
        draws = aggregates(posterior, context.options.generator("partial pooling", method))
        record: dict[str, object] = {"method": method, "runs": int(posterior.runs.max())}
        record |= {"prior_freedom": posterior.prior_freedom}
        cells = [Cell(naming.shown(method)), Cell(str(record["runs"])), Cell(f"{posterior.prior_freedom:.1f}")]
        for name, values in draws.items():
            entry = context.aggregates[ATARI][method][name]
            low, high = bootstrap.bounds(values)
            record |= {name: values.mean(), f"{name}_low": low, f"{name}_high": high, f"{name}_point": entry["point"]}
            record |= {f"{name}_bootstrap_{bound}": entry[bound] for bound in ("low", "high")}
            record[f"{name}_ratio"] = (high - low) / (entry["high"] - entry["low"])
            texts = (_interval(entry["point"], entry["low"], entry["high"]), _interval(values.mean(), low, high))
            cells += [*map(Cell, texts), Cell(f"{record[f'{name}_ratio']:.2f}")]
        records.append(record)
        lines.append(cells)
    caption = (
        "Hierarchical model of the spread over runs, Atari-100k: aggregates of human-normalised scores with 95 % "
        f"intervals by the stratified bootstrap and by the model ({DRAWS} draws), and how many times as wide the "
        "model's is. Prior: degrees of freedom that the other games add to those of a game's own runs. The model's IQM "
        "is that of the fitted distributions of runs, so it differs a little from that of the runs."
        f"{_steering(steered)}"
        f"{_left_out(context)}"
    )
    headers = [
        "Method",
        "Runs",
        "Prior",
        "Mean, bootstrap",
        "Mean, model",
        "Width",
        "IQM, bootstrap",
        "IQM, model",
        "Width",
    ]
    methods = [str(record["method"]) for record in records]
    defects = context.defects_of(methods, context.suites[ATARI].tasks)
    return render(headers, lines, pd.DataFrame(records), caption, defects=defects)


def games_table(context: Context) -> Table:
    """R4-T-games: every game's mean with its credible interval."""
    tasks = context.suites[ATARI].tasks
    records = [
        {"method": method, "game": game, "runs": int(runs), "mean": mean, "low": low, "high": high}
        | {"variance": variance, "prior_variance": prior, "prior_freedom": posterior.prior_freedom}
        for method, posterior in _fitted(context)
        for game, runs, mean, low, high, variance, prior in zip(
            tasks,
            posterior.runs,
            posterior.means,
            *posterior.game_intervals(),
            posterior.variances,
            posterior.prior_variances,
        )
    ]
    numbers = pd.DataFrame(records)
    methods = list(dict.fromkeys(numbers.method))
    cells = {(row.method, row.game): _interval(row.mean, row.low, row.high, 2) for row in numbers.itertuples()}
    lines = [[Cell(game), *(Cell(cells[method, game]) for method in methods)] for game in tasks]
    caption = (
        "Hierarchical model of the spread over runs, Atari-100k: mean human-normalised score of every game with its "
        "95 % credible interval; methods with few runs, all games of a method pooled for the spread, not for the means."
        f"{_left_out(context)}"
    )
    headers = ["Game", *(naming.shown(method) for method in methods)]
    return render(headers, lines, numbers, caption, defects=context.defects_of(methods, tasks))


def _interval(point: float, low: float, high: float, digits: int = 3) -> str:
    return f"{point:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


ITEMS = (
    Item("R4-T-pooled", "beyond", "table", "Aggregates by a hierarchical model", pooled_table),
    Item("R4-T-games", "beyond", "table", "Games by a hierarchical model", games_table),
)
