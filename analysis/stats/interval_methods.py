"""95 % intervals of the aggregates by five methods, for many samples at once.

* percentile: of the stratified bootstrap, as the papers draw it. The resamples of N runs have (N - 1) / N of the
  variance of the population, so it is too narrow.
* widened: the same replicates at the percentiles Phi(-+ 1.96 sqrt(N / (N - 1))), which corrects exactly that
  (Hesterberg 2015, "What teachers should know about the bootstrap").
* BCa (Efron 1987): bias-corrected and accelerated. The usual jackknife leaves out rows, which are not runs across
  tasks here; so one run of one task is left out at a time, and deviations are taken within the task, as the strata of
  the bootstrap are.
* bootstrap-t (studentised): percentiles of (replicate - point) / standard error of the replicate.
* Student t: point -+ t x standard error, degrees of freedom after Satterthwaite.

The standard error is that of a stratified mean of *influence values* u: SE^2 = sum over tasks of Var(u) / N / M^2,
exact for mean and optimality gap, linearised for the IQM (u is winsorised at the quartiles) and for the median (u is
the score on the one or two tasks in the middle). There is no bootstrap-t of the median: in a resample both tasks in the
middle may have no spread at all, which makes the ratio infinite.

Shapes: S samples, M tasks, N runs, R resamples.
"""

import numpy as np
from scipy import stats
from scipy.special import betaincinv, ndtr, ndtri, stdtrit

from analysis.stats import bootstrap, metrics
from analysis.stats.samples import METRICS, Samples, Values, points

Bounds = dict[str, dict[str, Values]]  # metric -> interval method -> (S, 2)

NAMES = {
    "percentile": "Percentile",
    "widened": "Widened",
    "bca": "BCa",
    "bootstrap_t": "Bootstrap-t",
    "student": "Student t",
}
LEVEL = 0.95
Z = float(ndtri(0.5 + LEVEL / 2))
SAMPLES_A_DRAW = 25  # samples that share their resamples, which are expensive to draw


def intervals(
    samples: Samples, generator: np.random.Generator, resamples: int, wanted: tuple[str, ...] = METRICS
) -> Bounds:
    """Intervals of every sample by every method, bounds of shape (S, 2)."""
    parts: list[Bounds] = []
    for start in range(0, len(samples), SAMPLES_A_DRAW):
        part = samples[start : start + SAMPLES_A_DRAW]
        counts = draw_counts(generator, resamples, *samples.shape[1:])
        parts.append({metric: _intervals(metric, part, counts) for metric in wanted})
    return {
        metric: {name: np.concatenate([part[metric][name] for part in parts]) for name in parts[0][metric]}
        for metric in wanted
    }


def t_half_width(deviation: Values, counts: Values) -> Values:
    """Half of the 95 % t interval of a mean of ``counts`` values with this sample deviation; NaN for a single value."""
    freedom = np.where(counts > 1, counts - 1.0, np.nan)
    return np.asarray(stats.t.ppf((1 + LEVEL) / 2, freedom) * deviation / np.sqrt(counts))


def binomial_interval(held: Values, trials: Values) -> tuple[Values, Values]:
    """Exact 95 % interval of a share (Clopper and Pearson 1934)."""
    tail = (1 - LEVEL) / 2
    low = np.where(held > 0, betaincinv(np.maximum(held, 1), trials - held + 1, tail), 0.0)
    high = np.where(held < trials, betaincinv(held + 1, np.maximum(trials - held, 1), 1 - tail), 1.0)
    return low, high


def _intervals(metric: str, samples: Samples, counts: Values) -> dict[str, Values]:
    """Intervals of one metric by method, all from the same resamples."""
    point, runs = points(metric, samples), samples.shape[2]
    values = replicates(metric, samples, counts)
    ordered = np.sort(values, axis=1)
    wider = ndtr(np.array([-Z, Z]) * np.sqrt(runs / (runs - 1)))
    found = {
        "percentile": quantiles(ordered, np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])),
        "widened": quantiles(ordered, wider),
        "bca": quantiles(ordered, bca_levels(ordered, point, acceleration(metric, samples))),
    }
    if metric != "median":
        found["bootstrap_t"] = bootstrap_t(metric, samples, counts, point, values)
    return found | {"student": student(metric, samples, point)}


def draw_counts(generator: np.random.Generator, resamples: int, tasks: int, runs: int) -> Values:
    """Number of times that each run of each task is drawn, shape (M, N, R)."""
    counts = bootstrap.draw_counts(generator, resamples, tasks, runs)
    return np.ascontiguousarray(counts.transpose(1, 2, 0))


def replicates(metric: str, samples: Samples, counts: Values) -> Values:
    """The metric of every resample of every sample, shape (S, R)."""
    if metric == "iqm":
        return np.stack([_interquartile_means(sample, counts) for sample in samples])
    runs = samples.shape[2]
    values = np.minimum(samples, 1.0) if metric == "optimality_gap" else samples
    task_means = _by_task(values, counts) / runs
    if metric == "median":
        return np.asarray(np.median(task_means, axis=0))
    means = task_means.mean(axis=0)
    return np.asarray(1.0 - means if metric == "optimality_gap" else means)


def _by_task(values: Samples, counts: Values) -> Values:
    """Sums over the drawn runs of each task, shape (M, S, R)."""
    return np.asarray(np.matmul(values.transpose(1, 0, 2), counts))


def _interquartile_means(sample: Values, counts: Values) -> Values:
    """IQM of resamples without sorting any of them (``bootstrap._interquartile_means``), shape (R,)."""
    values = sample.ravel()
    order = np.argsort(values, kind="stable")
    ordered, drop = values[order], metrics.trimmed_count(len(values))
    cumulative = np.cumsum(counts.reshape(len(values), -1)[order], axis=0)
    np.clip(cumulative, drop, len(values) - drop, out=cumulative)
    steps = np.append(ordered[:-1] - ordered[1:], ordered[-1])
    return np.asarray((steps @ cumulative - drop * ordered[0]) / (len(values) - 2 * drop))


def quantiles(ordered: Values, levels: Values) -> Values:
    """Quantiles (S, K) of replicates sorted along R, at levels (K,) or (S, K).

    The quantile p is at place (R + 1) p, so that few resamples do not make intervals narrower still, between the first
    and the last replicate.
    """
    size = ordered.shape[1]
    place = np.clip(np.broadcast_to(levels, (len(ordered), levels.shape[-1])) * (size + 1) - 1, 0, size - 1)
    below = np.floor(place).astype(np.int64)
    low = np.take_along_axis(ordered, below, axis=1)
    high = np.take_along_axis(ordered, np.minimum(below + 1, size - 1), axis=1)
    share = place - below
    with np.errstate(invalid="ignore"):  # 0 x inf: an infinite replicate (bootstrap-t) must not affect its neighbour
        return np.where(share == 0, low, (1 - share) * low + share * high)


def bca_levels(ordered: Values, point: Values, accelerated: Values) -> Values:
    """Levels (S, 2) of the replicates that are BCa's bounds: bias from their share below the point, ties one half."""
    size = ordered.shape[1]
    gain = ordered - point[:, None]
    below = (gain < -metrics.TIE).mean(axis=1) + 0.5 * (np.abs(gain) <= metrics.TIE).mean(axis=1)
    bias = ndtri(np.clip(below, 0.5 / size, 1 - 0.5 / size))[:, None]
    shifted = bias + np.array([-Z, Z])
    return np.asarray(ndtr(bias + shifted / (1 - accelerated[:, None] * shifted)))


def acceleration(metric: str, samples: Samples) -> Values:
    """BCa's acceleration (S,): a sixth of the skewness of the leave-one-out values, centred within their task."""
    left_out = leave_one_out(metric, samples)
    deviations = left_out.mean(axis=2, keepdims=True) - left_out
    squares = (deviations**2).sum(axis=(1, 2))
    cubes = (deviations**3).sum(axis=(1, 2))
    return np.asarray(np.divide(cubes, 6 * squares**1.5, out=np.zeros_like(cubes), where=squares > 0))


def leave_one_out(metric: str, samples: Samples) -> Samples:
    """The metric without one run of one task, shape (S, M, N), in closed form."""
    _, tasks, runs = samples.shape
    match metric:
        case "mean" | "median":
            means = samples.mean(axis=2, keepdims=True)
            replaced = means + (means - samples) / (runs - 1)
            if metric == "median":
                return _medians_with_replaced(means[:, :, 0], replaced)
            return np.asarray(means.mean(axis=1, keepdims=True) + (replaced - means) / tasks)
        case "iqm":
            low, high, kept, total = _kept_without_one(samples)
            return np.asarray((total - np.clip(samples, low, high)) / kept)
        case "optimality_gap":
            clipped = np.minimum(samples, 1.0)
            total = clipped.sum(axis=(1, 2), keepdims=True)
            return np.asarray(1.0 - (total - clipped) / (tasks * runs - 1))
        case _:
            raise ValueError(f"no leave-one-out values of metric {metric!r}")


def _medians_with_replaced(means: Values, replaced: Samples) -> Samples:
    """Median over tasks with the mean of one task replaced: means (S, M), replaced (S, M, N)."""
    tasks = means.shape[1]
    if tasks == 1:
        return replaced
    others = np.stack([np.sort(np.delete(means, task, axis=1), axis=1) for task in range(tasks)], axis=1)
    half = tasks // 2
    if tasks % 2:  # the new mean, held between the two middle ones of the others
        return np.asarray(np.clip(replaced, others[:, :, half - 1, None], others[:, :, half, None]))
    low = others[:, :, half - 2, None] if half > 1 else -np.inf
    high = others[:, :, half, None] if half < tasks - 1 else np.inf
    return np.asarray((others[:, :, half - 1, None] + np.clip(replaced, low, high)) / 2)


def _kept_without_one(samples: Samples) -> tuple[Values, Values, int, Values]:
    """For the IQM of all values but one: lowest and highest value that can be kept, their number, and the sum of one
    more than that. Without value x the sum is less by x, or by the nearer end if x would be dropped anyway."""
    flat = np.sort(samples.reshape(len(samples), -1), axis=1)
    size = flat.shape[1]
    drop = metrics.trimmed_count(size - 1)
    total = flat[:, drop : size - drop].sum(axis=1)
    return flat[:, drop, None, None], flat[:, size - 1 - drop, None, None], size - 1 - 2 * drop, total[:, None, None]


def influence(metric: str, samples: Samples) -> Samples:
    """Influence values u (S, M, N): their mean over runs and tasks varies as the metric does, to first order."""
    _, tasks, _ = samples.shape
    match metric:
        case "mean":
            return samples
        case "optimality_gap":
            return -np.minimum(samples, 1.0)
        case "iqm":
            flat = np.sort(samples.reshape(len(samples), -1), axis=1)
            drop = metrics.trimmed_count(flat.shape[1])
            low, high = flat[:, drop, None, None], flat[:, flat.shape[1] - drop - 1, None, None]
            return np.asarray(np.clip(samples, low, high) * flat.shape[1] / (flat.shape[1] - 2 * drop))
        case "median":
            rank = np.argsort(np.argsort(samples.mean(axis=2), axis=1, kind="stable"), axis=1)
            middle = (rank == (tasks - 1) // 2) | (rank == tasks // 2)
            return np.asarray(samples * (middle * tasks / middle.sum(axis=1, keepdims=True))[:, :, None])
        case _:
            raise ValueError(f"no influence values of metric {metric!r}")


def student(metric: str, samples: Samples, point: Values) -> Values:
    """Interval point -+ t x standard error, shape (S, 2)."""
    _, tasks, runs = samples.shape
    variances = influence(metric, samples).var(axis=2, ddof=1) / runs / tasks**2  # (S, M), of the aggregate
    total = variances.sum(axis=1)
    freedom = np.divide(total**2, (variances**2).sum(axis=1) / (runs - 1), out=np.ones_like(total), where=total > 0)
    half = stdtrit(freedom, 0.5 + LEVEL / 2) * np.sqrt(total)
    return np.stack([point - half, point + half], axis=1)


def bootstrap_t(metric: str, samples: Samples, counts: Values, point: Values, values: Values) -> Values:
    """Studentised bootstrap interval (S, 2); for the IQM, replicates are winsorised where the sample is."""
    _, tasks, runs = samples.shape
    u = influence(metric, samples)
    u = u - u.mean(axis=2, keepdims=True)  # else mean of squares less square of mean cancels
    sums = _by_task(u, counts)
    variances = (_by_task(u**2, counts) - sums**2 / runs) / (runs - 1)
    errors = np.sqrt(np.maximum(variances.sum(axis=0), 0.0) / runs) / tasks
    own = np.sqrt(u.var(axis=2, ddof=1).sum(axis=1) / runs) / tasks
    gain = values - point[:, None]
    without_error = np.where(gain == 0, 0.0, np.copysign(np.inf, gain))
    ratio = np.sort(np.divide(gain, errors, out=without_error, where=errors > 0), axis=1)
    ends = quantiles(ratio, np.array([(1 + LEVEL) / 2, (1 - LEVEL) / 2]))
    off = np.multiply(ends, own[:, None], out=np.zeros_like(ends), where=own[:, None] > 0)
    return np.asarray(point[:, None] - off)
