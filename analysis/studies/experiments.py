"""Families of experiments in our runs: which may be compared, what was measured of them, and what is seen of the
questions (docs/experiments.md). The answers are computed from intervals alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.context import Context
from analysis.data import measures, naming
from analysis.data.families import (
    CHANGED,
    CLEAN,
    IMAGINED,
    LOSS,
    PERPLEXITY,
    PREDICTED,
    PROBES,
    PSNR,
    RANDOM_PLAY,
    SCORE,
    UPDATE,
    Claim,
    Family,
)
from analysis.data.identity import RunGroupId
from analysis.data.runs import ATARI_FAMILY
from analysis.data.world_model import NO_HORIZON, Measure
from analysis.errors import require
from analysis.stats import metrics
from analysis.stats.bootstrap import TRUSTED_RUNS, FastEngine
from analysis.studies import records
from tokenworlds.runs.columns import OF_RANDOM_PLAY

CLAIM_RUNS = 5  # of a task, for a claim; with fewer, what is seen is a screening
YES, NO, SAME, FEW = "yes", "no, the other way round", "no difference seen", "not enough runs"
SMOKE = "smoke"  # scale


def _titled(key: str) -> Measure:
    """A measure of the catalogue; of a part of the agent, or so many steps ahead, it says so."""
    name, part, horizon = _parts(key)
    known = measures.CATALOGUE[name]
    of_part = f" ({part.replace('_', ' ')})" if part else ""
    return replace(known, title=f"{known.title}{of_part}" + (f", {horizon} steps ahead" if horizon else ""))


def _parts(key: str) -> tuple[str, str, int]:
    """Measure, part of the agent, and steps ahead in open loop."""
    name, _, rest = key.partition(" ")
    return (name, "", int(rest)) if rest.startswith("+") else (name, rest, NO_HORIZON)


MEASURED = (
    RANDOM_PLAY, PSNR, f"{PSNR}{OF_RANDOM_PLAY}", CLEAN, PREDICTED, "ssim", CHANGED, PERPLEXITY,
    f"{PERPLEXITY}{OF_RANDOM_PLAY}", "token_churn_late", *PROBES, "parameters", "parameters world_model",
    "trainable_parameters", UPDATE, IMAGINED, "state_bytes", "peak_memory_bytes",
)  # fmt: skip
"""Numbers of a run by name, those of a part of it as ``measure part``, and so many steps ahead of the last real frame
as ``measure +steps`` (``analysis.data.measures``)."""
MEASURES = {
    SCORE: Measure("Score", "{:.3f}"), LOSS: Measure("Validation loss", "{:.3f}", False),
    "hours": Measure("Hours", "{:.3g}", False), **{key: _titled(key) for key in MEASURED},
}  # fmt: skip
"""What is shown of a run; the validation loss is that of the last test."""
LOSSES = (LOSS, RANDOM_PLAY)
"""Of a token."""


@dataclass(frozen=True)
class Board:
    """The runs of a family that may be compared: at one scale, on tasks of one kind."""

    family: Family
    scale: str
    kind: str  # values of one kind (``records.with_values``)
    runs: pd.DataFrame  # with a column for each of ``MEASURES``

    @property
    def title(self) -> str:
        """``minigrid (small)``."""
        return f"{self.kind} ({self.scale})"

    @property
    def present(self) -> tuple[str, ...]:
        """The family's variants that have runs, in its order."""
        return tuple(name for name in self.family.names if (self.runs.variant == name).any())

    def label(self, name: str) -> str:
        """The label of a variant's runs, by which figures know its colour."""
        return RunGroupId(self.family.method, name, self.scale).label()

    def of(self, name: str, measure: str) -> pd.DataFrame:
        """The runs of a variant of which a measure is known, as ``value``."""
        own = self.runs[(self.runs.variant == name) & self.runs[measure].notna()]
        return own.assign(value=own[measure].astype(float))

    def shared(self, names: Sequence[str], measure: str) -> list[pd.DataFrame]:
        """The runs of each of these variants, on the tasks on which a measure of all of them is known."""
        rows = [self.of(name, measure) for name in names]
        tasks = set.intersection(*(set(part.task) for part in rows))
        return [part[part.task.isin(tasks)] for part in rows]


@dataclass(frozen=True)
class Estimate:
    """A number with its interval (NaN where there is none), and the fewest runs of a task that it is made of."""

    point: float = np.nan
    low: float = np.nan
    high: float = np.nan
    runs: int = 0


def boards(family: Family, context: Context) -> list[Board]:
    """The runs of a family at every scale and on every kind of tasks; ``NoData`` without a run of a variant."""
    frame = measured_runs(context)
    own = frame[(frame.method == family.method) & frame.variant.isin(family.names)]
    groups = sorted(own.groupby(["scale", "family"]), key=lambda group: (records.paper_first(group[0][0]), group[0][1]))
    found = [Board(family, str(scale), str(kind), rows) for (scale, kind), rows in groups if rows.variant.ne("").any()]
    return require(found, f"no runs of its variants yet: `make suite SUITE={family.key}-smoke` and `make repro`")


def telling(family: Family, context: Context) -> list[Board]:
    """The boards without those of smoke runs, which tell nothing, where there are others."""
    found = boards(family, context)
    return [board for board in found if board.scale != SMOKE] or found


def measured_runs(context: Context) -> pd.DataFrame:
    """Our runs with a column for each of ``MEASURES``, NaN where it was not measured."""
    frame = records.runs(context, with_beyond=True)
    frame[SCORE] = frame.pop("value")
    last = validation_losses(context).drop_duplicates(measures.RUN, keep="last").set_index(measures.RUN).value
    columns = {LOSS: last} | {key: measures.value(context.numbers, *_parts(key)) for key in MEASURED}
    known = pd.DataFrame(columns).rename_axis(measures.RUN).reset_index()
    frame = frame.merge(known, on=records.IDENTITY, how="left", validate="one_to_one")
    return frame.assign(**{CLEAN: frame[CLEAN].fillna(frame[PSNR])})  # without noise all frames are clean


def validation_losses(context: Context) -> pd.DataFrame:
    """Losses of a token on held-out episodes, in the order of the epochs (``columns.LOSSES``)."""
    losses = context.losses
    own = losses[(losses.component == "world_model") & (losses.split == "eval") & (losses.loss == "observations")]
    return own.sort_values("epoch", kind="stable")


def uneven(found: Sequence[Board]) -> str:
    """A sentence for captions where variants were not trained on the same tasks; else empty."""
    parts = []
    for board in found:
        tasks = {name: set(board.runs[board.runs.variant == name].task) for name in board.present}
        if any(own != tasks[board.present[0]] for own in tasks.values()):
            counts = (f"{board.family.shown(name)} {len(own)}" for name, own in tasks.items())
            parts.append(f"{board.title}: {', '.join(counts)}")
    return f" Means are not over the same tasks ({'; '.join(parts)})." if parts else ""


def estimate(board: Board, name: str, measure: str, context: Context, beside: Sequence[str] = ()) -> Estimate:
    """A measure of a variant: the interquartile mean of human-normalised scores on Atari, else the mean over tasks of
    means over runs, with its 95 % stratified bootstrap interval; on the tasks that the variants ``beside`` have, too.
    """
    rows = board.shared((name, *beside), measure)[0]
    if rows.empty:
        return Estimate()
    values, metric = records.matrix(rows), "iqm" if measure == SCORE and f"{board.kind}/" == ATARI_FAMILY else "mean"
    fewest = int(metrics.run_counts(values).min())
    low, high = np.nan, np.nan
    if fewest > 1 and metrics.tell_spread(values):
        generator = context.options.generator("experiments", board.title, board.label(name), measure)
        low, high = FastEngine().aggregates(values, generator, context.options.repetitions_profiles)[metric]
    return Estimate(metrics.points(values)[metric], low, high, fewest)


def improvement(board: Board, first: str, second: str, measure: str, context: Context) -> Estimate:
    """P(a run of the first variant is better than one of the second), mean over the tasks that both have."""
    rows = board.shared((first, second), measure)
    if rows[0].empty:
        return Estimate()
    sign = 1.0 if MEASURES[measure].is_high_good else -1.0
    x, y = (sign * records.matrix(part) for part in rows)
    fewest = int(min(metrics.run_counts(values).min() for values in (x, y)))
    low, high = np.nan, np.nan
    if fewest > 1:
        generator = context.options.generator("experiments", board.title, board.label(first), second, measure)
        low, high = FastEngine().improvement(x, y, generator, context.options.repetitions_improvement)
    return Estimate(metrics.probability_of_improvement(x, y), low, high, fewest)


def seen(comparison: Estimate) -> str:
    """What a comparison says: ``YES`` where its interval lies above one half, ``NO`` where it lies below."""
    if comparison.runs < TRUSTED_RUNS:
        return FEW
    return YES if comparison.low > 0.5 else NO if comparison.high < 0.5 else SAME


def answer(comparisons: Sequence[Estimate]) -> str:
    """The answer to a question: what all comparisons say, or each of them where they differ; with the number of runs
    where it is too small for a claim."""
    found, runs = [seen(comparison) for comparison in comparisons], min(each.runs for each in comparisons)
    if FEW in found:
        return f"{FEW} ({runs}; {TRUSTED_RUNS} are needed)"
    text = "; ".join(found if len({*found}) > 1 else found[:1])
    return text if runs >= CLAIM_RUNS else f"{text} (screening, {runs} runs)"


@dataclass(frozen=True)
class Finding:
    """A question asked of a measure on a board, the comparisons that answer it, and the answer in a sentence."""

    board: Board
    claim: Claim
    measure: str
    comparisons: tuple[Estimate, ...]
    answer: str


def findings(board: Board, context: Context) -> list[Finding]:
    """The answers to the questions of a family, measure by measure; what was not trained or measured is named."""
    return [
        _finding(board, claim, measure, context)
        for claim in board.family.claims
        for measure in claim.measures or board.family.measures
        if measure not in LOSSES or not _differ_in_loss(board.family, claim)
    ]


def _finding(board: Board, claim: Claim, measure: str, context: Context) -> Finding:
    names = dict.fromkeys(name for pair in claim.pairs for name in pair)
    untrained = [board.family.shown(name) for name in names if name not in board.present]
    compared = tuple(improvement(board, *pair, measure, context) for pair in claim.pairs)
    if untrained:
        return Finding(board, claim, measure, compared, f"not trained: {naming.listed(untrained)}")
    if all(each.runs == 0 for each in compared):
        return Finding(board, claim, measure, compared, "not measured")
    return Finding(board, claim, measure, compared, answer(compared))


def _differ_in_loss(family: Family, claim: Claim) -> bool:
    """Whether a claim compares losses of different kinds."""
    return any(len({family.variant(name).has_other_loss for name in pair}) > 1 for pair in claim.pairs)
