"""How good a world model is on stored episodes: teacher-forced, and in open loop under the real actions
(docs/metrics.md defines every measure).

Open loop begins at frames that are spread over an episode, goes on for up to ``HORIZONS[-1]`` steps without another
look at what happened, and is compared with what did. Three others show the same frames: the start stands still,
another episode goes on in its place, and the real frames pass through the tokenizer, which is no prediction, but what
a perfect world model over its tokens would show.

Shapes: B starts, H steps after each; a context ends with the start.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tokenworlds import methods
from tokenworlds.agents.base import Agent
from tokenworlds.agents.delta import DeltaAgent
from tokenworlds.agents.imagination import ImaginationNoise
from tokenworlds.agents.token import TokenAgent
from tokenworlds.config import RunConfig
from tokenworlds.losses import Losses
from tokenworlds.ops.symlog import symlog
from tokenworlds.replay import ReplayBuffer, Segments
from tokenworlds.tokenizers.pictures import to_float
from tokenworlds.training.similarity import structural_similarity
from tokenworlds.world_models.heads import ScalarHead

HORIZONS = (1, 5, 10, 20, 50)  # steps after the start
LAST = HORIZONS[-1]
STARTS = 8  # in an episode
TEACHER_FORCED, OPEN_LOOP, STILL, OTHER, TOKENIZER = "teacher-forced", "open loop", "still", "other", "tokenizer"
BINS = {  # of predictions, for their calibration
    "end": (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
    "reward": (-inf, -10.0, -3.0, -1.0, -0.3, -0.1, -0.03, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, inf),
}

Row = dict[str, Any]  # of ``columns.WORLD_MODEL``, without the identity of the run
Outcomes = tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]]  # rewards and ends, or expected rewards and P(end)


@dataclass
class Quality:
    """Means over every episode that was measured."""

    rows: list[Row]
    episodes: int  # that were measured
    left_out: int  # that nothing follows the context in


@dataclass
class Seen:
    """Observations (B, ...) by modality, pictures in [0, 1], and their tokens (B, S)."""

    observations: dict[str, Tensor]
    tokens: Int[Tensor, "B S"]


class View(ABC):
    """What can be compared of an agent's observations."""

    accuracy: str  # name of the share of right tokens beside the losses

    @abstractmethod
    def stored(self, segments: Segments, step: int) -> Seen:
        """The observations at a step of stored segments."""

    @abstractmethod
    def still(self, segments: Segments, start: int, step: int) -> Seen:
        """Those at ``step`` if nothing had changed since ``start``."""

    @abstractmethod
    def reconstructed(self, segments: Segments, step: int) -> Seen:
        """The observations at a step as the tokenizer shows them."""

    @abstractmethod
    def imagined(self, before: Any, actions: Tensor, state: Any) -> Seen:
        """Those of a state of the world model, which follows the one before under these actions."""

    @abstractmethod
    def right(self, one: Seen, other: Seen) -> dict[str, Float[Tensor, "B"]]:
        """Share of equal tokens, of all (""), and of each modality where there are several."""

    @abstractmethod
    def weight(self, loss: str) -> float:
        """The factor that a loss of the world model carries."""


class TokenView(View):
    """Tokens are those of observations."""

    accuracy = "token_accuracy"

    def __init__(self, agent: TokenAgent) -> None:
        self._agent = agent

    def stored(self, segments: Segments, step: int) -> Seen:
        names = self._agent.tokenizer.layout.symbols
        observations = {name: segments.observations[name][:, step] for name in names}
        shown = {name: to_float(values) if values.dim() == 4 else values for name, values in observations.items()}
        return Seen(shown, self._agent.encode(observations))

    def still(self, segments: Segments, start: int, step: int) -> Seen:
        return self.stored(segments, start)

    def reconstructed(self, segments: Segments, step: int) -> Seen:
        tokens = self.stored(segments, step).tokens
        return Seen(self._agent.decode(tokens), tokens)

    def imagined(self, before: Any, actions: Tensor, state: Any) -> Seen:
        return Seen(self._agent.decode(state.tokens), state.tokens)

    def right(self, one: Seen, other: Seen) -> dict[str, Float[Tensor, "B"]]:
        layout = self._agent.tokenizer.layout
        equal = layout.agreement(one.tokens, other.tokens).float()
        parts = layout.slices if len(layout.modalities) > 1 else {}
        return {"": equal.mean(dim=1), **{name: equal[:, span].mean(dim=1) for name, span in parts.items()}}

    def weight(self, loss: str) -> float:
        return 1.0


class DeltaView(View):
    """Tokens are those that the tokenizer gives to the change from the frame before."""

    accuracy = "delta_accuracy"

    def __init__(self, agent: DeltaAgent) -> None:
        self._agent = agent

    def _change(self, before: Tensor, actions: Tensor, after: Tensor) -> Seen:
        frames = torch.stack([before, after], dim=1)
        return Seen({"image": after}, self._agent.tokens(frames, actions.unsqueeze(1)).squeeze(1))

    def stored(self, segments: Segments, step: int) -> Seen:
        frames = to_float(segments.observations["image"][:, step - 1 : step + 1])
        return self._change(frames[:, 0], segments.actions[:, step - 1], frames[:, 1])

    def still(self, segments: Segments, start: int, step: int) -> Seen:
        frame = to_float(segments.observations["image"][:, start])
        return self._change(frame, segments.actions[:, step - 1], frame)

    def reconstructed(self, segments: Segments, step: int) -> Seen:
        before, tokens = to_float(segments.observations["image"][:, step - 1]), self.stored(segments, step).tokens
        return Seen({"image": self._agent.decode(before, segments.actions[:, step - 1], tokens)}, tokens)

    def imagined(self, before: Any, actions: Tensor, state: Any) -> Seen:
        return self._change(before.frames, actions, state.frames)

    def right(self, one: Seen, other: Seen) -> dict[str, Float[Tensor, "B"]]:
        return {"": (one.tokens == other.tokens).float().mean(dim=1)}

    def weight(self, loss: str) -> float:
        return float(getattr(self._agent.world_model.weights, loss))


def view_of(agent: Agent) -> View:
    """What can be compared of this agent's observations."""
    return DeltaView(agent) if isinstance(agent, DeltaAgent) else TokenView(cast(TokenAgent, agent))


class Means:
    """Means of values by episode and by what they measure: predictor, horizon, part and measure."""

    NAMES = ("episode", "predictor", "horizon", "part", "measure")

    def __init__(self) -> None:
        self._sums: dict[tuple[int | str | None, ...], list[float]] = defaultdict(lambda: [0.0, 0])

    def add(
        self, episodes: Sequence[int], what: tuple[str, int | None, str, str], values: Tensor, counts: Tensor
    ) -> None:
        """Add, for each of the episodes, the sum (B,) of so many values (B,)."""
        for episode, value, count in zip(episodes, values.tolist(), counts.long().tolist()):
            if count:
                sums = self._sums[(episode, *what)]
                sums[0] += value
                sums[1] += count

    def rows(self) -> list[Row]:
        """A row a mean."""
        return [
            {**dict(zip(self.NAMES, key)), "value": total / count, "count": count}
            for key, (total, count) in self._sums.items()
        ]


@dataclass
class Starts:
    """Frames from which open loop begins."""

    buffer: ReplayBuffer
    context: int
    episodes: list[int]
    frames: list[int]

    @property
    def now(self) -> int:
        """Index of the start in its segment."""
        return self.context - 1

    def in_place(self, episodes: list[int]) -> Starts:
        """The same frames of other episodes; of a shorter one, the last that so many steps follow."""
        latest = [self.buffer.episode_steps(index) - 1 - LAST for index in episodes]
        frames = [max(min(frame, late), self.now) for frame, late in zip(self.frames, latest)]
        return Starts(self.buffer, self.context, episodes, frames)

    def segments(self) -> Segments:
        """The contexts with what follows them."""
        episodes, frames = torch.tensor([self.episodes, self.frames], device=self.buffer.device)
        return self.buffer.segments(episodes, frames - self.now, self.context + LAST)

    def exist(self) -> Bool[Tensor, "B H"]:
        """Which of the steps from each start on were taken."""
        left = [self.buffer.episode_steps(index) - frame for index, frame in zip(self.episodes, self.frames)]
        return torch.arange(LAST) < torch.tensor(left).unsqueeze(1)


def frames_of(steps: int, first: int) -> list[int]:
    """At most ``STARTS`` frames of an episode with so many steps: the middles of equal parts of what follows ``first``
    steps."""
    length = max(steps - first, 0)
    count = min(STARTS, length)
    return [first + (2 * index + 1) * length // (2 * count) for index in range(count)]


@torch.no_grad()
def measure(
    config: RunConfig,
    agent: Agent,
    buffer: ReplayBuffer,
    generator: torch.Generator,
    episodes: int,
    tick: Callable[[int], None] = lambda done: None,
) -> Quality:
    """Measures of the first ``episodes`` episodes of ``buffer``; ``tick`` gets the number of those that are done."""
    method, size = methods.get(config.method), config.evaluation.world_model_batch_size
    first = max(method.min_context(config), agent.context_frames - 1)
    known = range(min(episodes, buffer.num_episodes))
    starts = [(index, frame) for index in known for frame in frames_of(buffer.episode_steps(index), first)]
    measured = list(dict.fromkeys(index for index, _ in starts))
    next_ones = dict(zip(measured, [*measured[1:], *measured[:1]]))
    means, view = Means(), view_of(agent)
    for index in measured:
        _teacher_forced(means, method.held_out(config, agent, buffer, "world_model", [index]), index, view)
    learned = cast(ScalarHead, agent.world_model.rewards).target
    target = torch.sign if config.environment.train.clip_reward else learned
    for begin in range(0, len(starts), size):
        some, frames = (list(part) for part in zip(*starts[begin : begin + size]))
        batch = Starts(buffer, agent.context_frames, some, frames)
        others = batch.in_place([next_ones[index] for index in some]) if len(measured) > 1 else None
        noise = ImaginationNoise.sample(LAST, agent.num_tokens, len(some), generator)
        _open_loop(means, agent, view, batch, others, noise, target)
        tick(measured.index(some[-1]) + 1)
    return Quality(means.rows(), len(measured), len(known) - len(measured))


def _teacher_forced(means: Means, batches: Iterator[Losses], episode: int, view: View) -> None:
    """Losses, without their weights, and accuracy of the first batch of an episode; nothing where there is none."""
    if (losses := next(batches, None)) is None:
        return
    found = {"accuracy": losses.measured[view.accuracy]}
    found |= {name: losses.measured[name] for name in ("reward_accuracy", "end_accuracy")}
    for name in ("observations", "rewards", "ends"):
        if weight := view.weight(name):
            found[f"loss_{name}"] = losses.named()[name] / weight
    for name, value in found.items():
        means.add([episode], (TEACHER_FORCED, None, "", name), value.view(1), torch.ones(1))


def _open_loop(
    means: Means,
    agent: Agent,
    view: View,
    starts: Starts,
    others: Starts | None,
    noise: ImaginationNoise,
    target: Callable[[Tensor], Tensor],
) -> None:
    """Compare what followed the starts with what the world model and the others show."""
    world_model = cast(Any, agent.world_model)
    real, exist, now = starts.segments(), starts.exist(), starts.now
    other = others and others.segments()
    state = agent.start(agent.context(real.steps(slice(None, starts.context))))
    last = int(exist.sum(dim=1).max())
    with outputs_of(world_model.head_reward) as rewards, outputs_of(world_model.head_end) as ends:
        for horizon in range(1, last + 1):
            before, actions, at = state, real.actions[:, now + horizon - 1], now + horizon
            state, _, _ = agent.step(before, actions, noise.step(horizon - 1))
            if horizon in HORIZONS:
                truth = view.stored(real, at)
                shown = {
                    OPEN_LOOP: view.imagined(before, actions, state),
                    STILL: view.still(real, now, at),
                    TOKENIZER: view.reconstructed(real, at),
                    **({OTHER: view.stored(other, at)} if other else {}),
                }
                for predictor, seen in shown.items():
                    counts = real.mask[:, at] & other.mask[:, at] if other and predictor == OTHER else real.mask[:, at]
                    for (part, name), values in _differences(view, seen, truth).items():
                        if predictor != TOKENIZER or name != "accuracy":  # of which the tokens are the real ones
                            means.add(starts.episodes, (predictor, horizon, part, name), values * counts, counts)
    expected = world_model.rewards.mean(torch.stack(rewards, dim=1)), torch.stack(ends, dim=1).softmax(dim=-1)[..., 1]
    predicted = expected[0].cpu(), expected[1].cpu()
    truths, exist = _outcomes(real, now, last, target), exist[:, :last]
    _errors(means, starts.episodes, OPEN_LOOP, predicted, truths, exist)
    _errors(means, starts.episodes, STILL, (torch.zeros_like(predicted[0]),) * 2, truths, exist)
    if others and other:
        both = exist & others.exist()[:, :last]
        _errors(means, starts.episodes, OTHER, _outcomes(other, now, last, target), truths, both)
    _calibration(means, starts.episodes, predicted, truths, exist)


@contextmanager
def outputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """What the module returns from now on: predictions of which a step of imagination only keeps a sample."""
    outputs: list[Tensor] = []
    handle = module.register_forward_hook(lambda module, given, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


def _differences(view: View, seen: Seen, truth: Seen) -> dict[tuple[str, str], Float[Tensor, "B"]]:
    """Measures of predicted observations by part and name."""
    found = {(part, "accuracy"): share for part, share in view.right(seen, truth).items()}
    for name, real in truth.observations.items():
        predicted = seen.observations[name]
        if real.dim() == 4:
            found[name, "mse"] = (predicted - real).square().mean(dim=(1, 2, 3))
            found[name, "ssim"] = structural_similarity(predicted, real)
        elif real.is_floating_point():
            found[name, "symlog_error"] = (symlog(predicted) - symlog(real)).abs().mean(dim=1)
    return found


def _outcomes(segments: Segments, now: int, last: int, target: Callable[[Tensor], Tensor]) -> Outcomes:
    """Rewards, as the world model learns them, and ends of the steps from the start on."""
    steps = segments.steps(slice(now, now + last))
    return target(steps.rewards).cpu(), steps.terminations.float().cpu()


def _errors(
    means: Means,
    episodes: Sequence[int],
    predictor: str,
    predicted: Outcomes,
    truths: Outcomes,
    exist: Bool[Tensor, "B H"],
) -> None:
    """Absolute error of the reward and squared error of the probability of the end, over the steps up to a horizon as
    far as the episode goes."""
    errors = {
        "reward_error": (predicted[0] - truths[0]).abs() * exist,
        "end_error": (predicted[1] - truths[1]).square() * exist,
    }
    for horizon in HORIZONS:
        for name, values in errors.items():
            up_to = values[:, :horizon].sum(dim=1), exist[:, :horizon].sum(dim=1)
            means.add(episodes, (predictor, horizon, "", name), *up_to)


def _calibration(
    means: Means, episodes: Sequence[int], predicted: Outcomes, truths: Outcomes, exist: Bool[Tensor, "B H"]
) -> None:
    """Mean prediction and mean outcome of the steps, by the bin of the prediction, which its lower edge names."""
    for name, some, real in zip(("reward", "end"), predicted, truths):
        edges = BINS[name]
        bins = torch.bucketize(some.contiguous(), torch.tensor(edges[1:-1]), right=True)
        for index, (low, _) in enumerate(pairwise(edges)):
            inside = exist & (bins == index)
            for kind, values in (("predicted", some), ("observed", real)):
                up = (values * inside).sum(dim=1), inside.sum(dim=1)
                means.add(episodes, (OPEN_LOOP, None, f"{low:g}", f"{name}_{kind}"), *up)
