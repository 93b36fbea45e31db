"""A hierarchical model of the spread of runs: the few runs of a task borrow strength from the other tasks.

On task m the n runs are normal with mean mu_m (flat prior) and variance s_m^2. The variances share a prior, scaled
inverse chi-square with nu0 degrees of freedom around s0_m^2, and log s0_m^2 is linear in the log of the task's level:
runs scatter in proportion to what they score. nu0 and the line are estimated by the method of moments on log variances
(Smyth 2004, with a trend). The posterior is then closed: with nu = n - 1,

    s_m^2 | data ~ (nu0 s0_m^2 + nu v_m) / chi^2(nu0 + nu)        v_m: sample variance
    mu_m | data ~ mean_m + sqrt((nu0 s0_m^2 + nu v_m) / ((nu0 + nu) n)) t(nu0 + nu).

nu0 is the number of degrees of freedom that the other tasks add. Aggregates are those of the distributions, not of the
runs. Shapes: N runs, M tasks.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats
from scipy.special import digamma, polygamma

from analysis.stats import metrics
from analysis.stats.metrics import Matrix

LEVEL_FLOOR = 0.01  # human-normalised: a smaller level says nothing about the spread
EQUAL = 1e-9  # times the level: runs that scatter less are equal up to the rounding of a mean
ALMOST_EQUAL = 0.02  # times the level: runs that scatter less
STEERS = 1.5  # ratio of nu0 without such a task to nu0 with it: worth reporting
DRAWS = 2_000
QUANTILES = 20  # of the distribution of every task, for the interquartile mean
CONFIDENCE = 0.95
LARGE = 1e6  # degrees of freedom of a prior that is certain

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Posterior:
    """Sample means, posterior scales and degrees of freedom of one method on M tasks, and the prior behind them."""

    means: Values
    runs: NDArray[np.int64]
    variances: Values  # (nu0 s0^2 + nu v) / (nu0 + nu)
    freedom: Values  # nu0 + nu
    prior_freedom: float
    prior_variances: Values

    def task_intervals(self) -> Values:
        """95 % credible intervals of the task means, shape (2, M)."""
        half = stats.t.ppf((1 + CONFIDENCE) / 2, self.freedom) * np.sqrt(self.variances / self.runs)
        return np.stack([self.means - half, self.means + half])

    def sample(self, generator: np.random.Generator, draws: int) -> tuple[Values, Values]:
        """Means and standard deviations of the tasks, each of shape (draws, M)."""
        size = (draws, len(self.means))
        variances = self.freedom * self.variances / generator.chisquare(self.freedom, size)
        means = self.means + np.sqrt(variances / self.runs) * generator.standard_normal(size)
        return means, np.sqrt(variances)


def fit(scores: Matrix) -> Posterior:
    """Fit the model to scores (N, M), ragged or not, with at least two runs a task.

    Tasks whose runs are all equal up to rounding are not used for the prior (their log variance is minus infinity), but
    are shrunk towards it like all others.
    """
    runs, nu = metrics.run_counts(scores), (metrics.run_counts(scores) - 1).astype(np.float64)
    means, sample = np.nanmean(scores, axis=0), np.nanvar(scores, axis=0, ddof=1)
    freedom, prior = _prior(sample, nu, np.log(np.maximum(np.abs(means), LEVEL_FLOOR)))
    pooled = (freedom * prior + nu * sample) / (freedom + nu)
    return Posterior(means, runs, pooled, freedom + nu, freedom, prior)


def _prior(sample: Values, nu: Values, level: Values) -> tuple[float, Values]:
    """nu0 and s0^2 of each task: E(log v) = log s0^2 + psi(nu/2) - log(nu/2) - (psi(nu0/2) - log(nu0/2)), and its
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
    """nu0 with psi'(nu0 / 2) = ``excess``, the variance of the log variances beyond that of sampling."""
    if excess <= polygamma(1, LARGE / 2):
        return LARGE
    solution = optimize.brentq(lambda log: polygamma(1, np.exp(log) / 2) - excess, np.log(1e-4), np.log(LARGE))
    return float(np.exp(solution))


def steering_task(scores: Matrix) -> tuple[int, float] | None:
    """The task of almost equal runs without which nu0 is largest, and that nu0; None below ``STEERS`` times nu0.

    The model is fitted to log variances: one far below the line makes all tasks seem to have little in common.
    """
    level = np.maximum(np.abs(np.nanmean(scores, axis=0)), LEVEL_FLOOR)
    almost_equal = np.flatnonzero(np.nanstd(scores, axis=0, ddof=1) < ALMOST_EQUAL * level)
    without = {int(task): fit(np.delete(scores, task, axis=1)).prior_freedom for task in almost_equal}
    task = max(without, key=without.__getitem__, default=None)
    return None if task is None or without[task] < STEERS * fit(scores).prior_freedom else (task, without[task])


def aggregates(posterior: Posterior, generator: np.random.Generator, draws: int = DRAWS) -> dict[str, Values]:
    """Posterior draws of the mean over tasks and of the interquartile mean of the pooled distributions of all tasks."""
    means, deviations = posterior.sample(generator, draws)
    places = stats.norm.ppf((np.arange(QUANTILES) + 0.5) / QUANTILES)
    values = np.sort((means[..., None] + deviations[..., None] * places).reshape(draws, -1), axis=1)
    drop = metrics.trimmed_count(values.shape[1])
    return {"mean": means.mean(axis=1), "iqm": values[:, drop : values.shape[1] - drop].mean(axis=1)}
