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
from math import inf
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from tokenworlds import methods
from tokenworlds.agents.base import Agent
from tokenworlds.agents.delta import DeltaAgent
from tokenworlds.agents.imagined_world import ImaginedWorld, published_memory
from tokenworlds.agents.token import TokenAgent
from tokenworlds.config import RunConfig
from tokenworlds.losses import Losses
from tokenworlds.ops.similarity import structural_similarity
from tokenworlds.ops.symlog import symlog
from tokenworlds.replay import ReplayBuffer, Segments
from tokenworlds.runs.columns import OF_RANDOM_PLAY, OF_WORLD_MODEL, OPEN_LOOP, OTHER, STILL, TEACHER_FORCED, TOKENIZER
from tokenworlds.tokenizers.pictures import to_float
from tokenworlds.training.classification import average_precision, f1, macro_f1
from tokenworlds.world_models.base import WorldModelLosses
from tokenworlds.world_models.heads import ScalarHead
from tokenworlds.world_models.predictions import OutcomePredictions, TokenPredictions

HORIZONS = (1, 5, 10, 20, 50)  # steps after the start
LAST = HORIZONS[-1]
NEAR = 2  # steps by which an imagined end may miss the real one
NEVER = 10**6  # the step at which a rollout ends that does not
STARTS = 8  # in an episode
BATCH = 64  # starts at once
BINS = {  # of predictions, for their calibration
    "reward": (-inf, -10.0, -3.0, -1.0, -0.3, -0.1, -0.03, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, inf),
    "end": (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
}

Row = dict[str, Any]  # of ``columns.QUALITY``
What = tuple[str, int | None, str, str]  # predictor, horizon, part and measure
Differences = dict[tuple[str, str], Float[Tensor, "B"]]  # by part and measure
Outcomes = tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]]  # rewards and ends, or expected rewards and P(end)


@dataclass
class Quality:
    """Means over every episode that was measured."""

    rows: list[Row]
    measures: list[Row]  # of all episodes together, of ``columns.MEASURED``
    episodes: int  # that were measured
    left_out: int  # that nothing follows the context in


@dataclass
class Seen:
    """Observations (B, ...) by modality, as they are stored, and their tokens (B, S), or continuous deltas."""

    observations: dict[str, Tensor]
    tokens: Shaped[Tensor, "B *S"]


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
    def reconstructed(self, segments: Segments, step: int, tokens: Int[Tensor, "B S"]) -> dict[str, Tensor]:
        """The observations at a step as the tokenizer shows them by their tokens."""

    @abstractmethod
    def right(self, one: Seen, other: Seen) -> dict[str, Float[Tensor, "B"]]:
        """Share of equal tokens, of all (""), and of each modality where there are several."""

    @abstractmethod
    def weight(self, loss: str) -> float:
        """The factor that a loss of the world model carries; 0 for one that is no cross-entropy, as elsewhere."""


class TokenView(View):
    """Tokens are those of observations."""

    accuracy = "token_accuracy"

    def __init__(self, agent: TokenAgent) -> None:
        self._agent = agent

    def stored(self, segments: Segments, step: int) -> Seen:
        names = self._agent.tokenizer.layout.symbols
        observations = {name: segments.observations[name][:, step] for name in names}
        return Seen(observations, self._agent.encode(observations))

    def still(self, segments: Segments, start: int, step: int) -> Seen:
        return self.stored(segments, start)

    def reconstructed(self, segments: Segments, step: int, tokens: Int[Tensor, "B S"]) -> dict[str, Tensor]:
        return self._agent.tokenizer.stored(self._agent.decode(tokens))

    def right(self, one: Seen, other: Seen) -> dict[str, Float[Tensor, "B"]]:
        layout = self._agent.tokenizer.layout
        equal = layout.agreement(one.tokens, other.tokens).float()
        parts = layout.slices if len(layout.modalities) > 1 else {}
        return {"": equal.mean(dim=1), **{name: equal[:, span].mean(dim=1) for name, span in parts.items()}}

    def weight(self, loss: str) -> float:
        return 1.0


class DeltaView(View):
    """Tokens are those of the change from the frame before."""

    accuracy = "delta_accuracy"

    def __init__(self, agent: DeltaAgent) -> None:
        self._agent = agent

    def _seen(self, segments: Segments, before: int, after: int, step: int) -> Seen:
        """The frame ``after``, as if it had followed the frame ``before`` under the action that led to ``step``."""
        frames = segments.observations["image"][:, [before, after]]
        return Seen({"image": frames[:, 1]}, self._agent.tokens(frames, segments.actions[:, step - 1 : step])[:, 0])

    def stored(self, segments: Segments, step: int) -> Seen:
        return self._seen(segments, step - 1, step, step)

    def still(self, segments: Segments, start: int, step: int) -> Seen:
        return self._seen(segments, start, start, step)

    def reconstructed(self, segments: Segments, step: int, tokens: Shaped[Tensor, "B *S"]) -> dict[str, Tensor]:
        before = to_float(segments.observations["image"][:, step - 1])
        return {"image": self._agent.decode(before, segments.actions[:, step - 1], tokens)}

    def right(self, one: Seen, other: Seen) -> dict[str, Float[Tensor, "B"]]:
        return {"": (one.tokens == other.tokens).float().mean(dim=1)}

    def weight(self, loss: str) -> float:
        return float(getattr(self._agent.world_model.weights, loss))


class ContinuousDeltaView(DeltaView):
    """Deltas are no tokens, of which a share could be right, and which had a cross-entropy."""

    accuracy = ""

    def right(self, one: Seen, other: Seen) -> dict[str, Float[Tensor, "B"]]:
        return {}

    def weight(self, loss: str) -> float:
        return 0.0 if loss == "observations" else super().weight(loss)


def view_of(agent: Agent) -> View:
    """What can be compared of this agent's observations."""
    if agent.num_tokens == 0:
        return ContinuousDeltaView(cast(DeltaAgent, agent))
    return DeltaView(agent) if isinstance(agent, DeltaAgent) else TokenView(cast(TokenAgent, agent))


class Means:
    """Means of values by episode and by what they measure: predictor, horizon, part and measure."""

    NAMES = ("episode", "predictor", "horizon", "part", "measure")

    def __init__(self) -> None:
        self._sums: dict[tuple[int | str | None, ...], list[float]] = defaultdict(lambda: [0.0, 0])

    def add(self, episodes: Sequence[int], what: What, values: Tensor, counts: Tensor) -> None:
        """Add, for each of the episodes, the sum (B,) of so many values (B,)."""
        for episode, value, count in zip(episodes, values.tolist(), counts.long().tolist()):
            if count:
                sums = self._sums[(episode, *what)]
                sums[0] += value
                sums[1] += count

    def rows(self) -> list[Row]:
        """A row a mean, with the digits of single precision."""
        return [
            {**dict(zip(self.NAMES, key)), "value": float(f"{total / count:.7g}"), "count": count}
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
        """The same frames of other episodes; of a shorter one, the last that as many steps follow."""
        latest = [self.buffer.episode_steps(index) - min(left, LAST) for index, left in zip(episodes, self._left())]
        frames = [max(min(frame, late), self.now) for frame, late in zip(self.frames, latest)]
        return Starts(self.buffer, self.context, episodes, frames)

    def segments(self) -> Segments:
        """The contexts with what follows them, rewards and ends as in training."""
        episodes, frames = torch.tensor([self.episodes, self.frames], device=self.buffer.device)
        return self.buffer.as_trained(self.buffer.segments(episodes, frames - self.now, self.context + LAST))

    def exist(self) -> Bool[Tensor, "B H"]:
        """Which of the steps from each start on were taken."""
        return torch.arange(LAST) < torch.tensor(self._left()).unsqueeze(1)

    def _left(self) -> list[int]:
        """Steps from each start to the end of its episode."""
        return [self.buffer.episode_steps(index) - frame for index, frame in zip(self.episodes, self.frames)]


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
    method = methods.get(config.method)
    first = max(method.min_context(config), agent.context_frames - 1)
    known = range(min(episodes, buffer.num_episodes))
    starts = [(index, frame) for index in known for frame in frames_of(buffer.episode_steps(index), first)]
    measured = list(dict.fromkeys(index for index, _ in starts))
    next_ones = dict(zip(measured, [*measured[1:], *measured[:1]]))
    means, view = Means(), view_of(agent)
    outcomes: list[OutcomePredictions] = []
    memory = published_memory(config)
    perceptual = perceptual_network(config, buffer.device)
    for index in measured:
        batches = method.held_out(config, agent, buffer, "world_model", [index])
        outcomes += _teacher_forced(means, batches, index, view)
    for begin in range(0, len(starts), BATCH):
        some, frames = (list(part) for part in zip(*starts[begin : begin + BATCH]))
        batch = Starts(buffer, agent.context_frames, some, frames)
        others = batch.in_place([next_ones[index] for index in some]) if len(measured) > 1 else None
        world = ImaginedWorld(agent, generator, memory)
        _OpenLoop(means, view, batch, others, perceptual).run(world)
        tick(measured.index(some[-1]) + 1)
    return Quality(means.rows(), _of_outcomes(outcomes), len(measured), len(known) - len(measured))


@torch.no_grad()
def loss_on_random_play(config: RunConfig, agent: Agent, buffer: ReplayBuffer) -> list[Row]:
    """Loss a token, without its weight, in the episodes of a random policy; nothing where it is no cross-entropy, or
    nothing follows the context."""
    weight = view_of(agent).weight("observations")
    total = count = torch.zeros((), device=buffer.device)
    for losses in methods.get(config.method).held_out(config, agent, buffer, "world_model") if weight else ():
        predictions = cast(WorldModelLosses, losses).predictions
        assert predictions is not None and predictions.tokens is not None  # of evaluation, with a cross-entropy
        tokens = predictions.tokens.counts.sum()
        total, count = total + losses.named()["observations"] / weight * tokens, count + tokens
    if not count:
        return []
    return [row(OF_WORLD_MODEL, f"loss{OF_RANDOM_PLAY}", float(total / count), buffer.num_episodes)]


def _teacher_forced(means: Means, batches: Iterator[Losses], episode: int, view: View) -> list[OutcomePredictions]:
    """Losses, without their weights, and accuracies over an episode; and what is predicted of the outcomes of its
    steps."""
    outcomes: list[OutcomePredictions] = []
    for losses in batches:
        predictions = cast(WorldModelLosses, losses).predictions
        assert predictions is not None  # of evaluation
        outcomes.append(predictions.outcomes)
        steps = tokens = predictions.outcomes.counts.sum()
        if predictions.tokens is not None:
            tokens = predictions.tokens.counts.sum()
            _by_place(means, episode, predictions.tokens)
        names = {view.accuracy: "accuracy", "reward_accuracy": "reward_accuracy", "end_accuracy": "end_accuracy"}
        found = {name: losses.measured[key] for key, name in names.items() if key in losses.measured}
        for name, value in losses.named().items():
            if name in ("observations", "rewards", "ends") and (weight := view.weight(name)):
                found[f"loss_{name}"] = value / weight
        for name, value in found.items():
            count = tokens if name in ("accuracy", "loss_observations") else steps
            means.add([episode], (TEACHER_FORCED, None, "", name), (value * count).view(1), count.view(1))
    return outcomes


def _by_place(means: Means, episode: int, tokens: TokenPredictions) -> None:
    """Accuracy of each token of an observation, and loss after so many real frames."""
    right, counts = (tokens.is_right & tokens.counts).sum(dim=(0, 1)), tokens.counts.sum(dim=(0, 1))
    for place, pair in enumerate(zip(right.split(1), counts.split(1))):
        means.add([episode], (TEACHER_FORCED, None, str(place), "accuracy_at_position"), *pair)
    errors, counts = (tokens.errors * tokens.counts).sum(dim=(0, 2)), tokens.counts.sum(dim=(0, 2))
    for frames, pair in enumerate(zip(errors.split(1), counts.split(1)), start=tokens.known):
        means.add([episode], (TEACHER_FORCED, None, str(frames), "loss_at_context"), *pair)


def _of_outcomes(outcomes: Sequence[OutcomePredictions]) -> list[Row]:
    """How well rewards and ends of all steps are told apart; without what is not defined of them."""
    if not outcomes:
        return []
    signs, true_signs, ends, logits = (
        torch.cat([getattr(some, name)[some.counts].cpu() for some in outcomes])
        for name in ("signs", "true_signs", "ends", "end_logits")
    )
    found = {
        "reward_macro_f1": (macro_f1(signs, true_signs), len(signs)),
        "end_f1": (f1(logits.argmax(dim=-1) == 1, ends == 1), int(ends.sum())),
        "end_average_precision": (average_precision(logits[:, 1] - logits[:, 0], ends == 1), int(ends.sum())),
    }
    return [row(OF_WORLD_MODEL, name, value, count) for name, (value, count) in found.items() if value is not None]


def row(group: str, measure: str, value: float, count: int | None = None, part: str = "") -> Row:
    """A row of ``columns.MEASURED``, with the digits of single precision."""
    return {"group": group, "measure": measure, "part": part, "value": float(f"{value:.7g}"), "count": count}


def metrics_of(measures: Sequence[Row]) -> dict[str, float]:
    """Rows of ``columns.MEASURED`` as metrics of the final evaluation."""
    return {"/".join(filter(None, ("final", one["group"].replace(" ", "_"), one["measure"], one["part"]))): one["value"]
            for one in measures}  # fmt: skip


class _OpenLoop:
    """Compares what followed a batch of starts with what a world model and the others show."""

    def __init__(
        self,
        means: Means,
        view: View,
        starts: Starts,
        others: Starts | None,
        perceptual: nn.Module | None,
    ) -> None:
        self._means, self._view, self._starts = means, view, starts
        self._perceptual = perceptual
        self._real, self._exist = starts.segments(), starts.exist()
        self._others = None
        if others is not None:
            self._others = others.segments(), self._exist & others.exist()
        self._last = int(self._exist.sum(dim=1).max())

    def run(self, world: ImaginedWorld) -> None:
        """Imagine under the real actions, and compare at every horizon."""
        model, now = cast(Any, world.agent.world_model), self._starts.now
        world.begin(self._real.steps(slice(None, now + 1)))
        imagined: list[Tensor] = []
        with outputs_of(model.head_reward) as rewards, outputs_of(model.head_end) as ends:
            for horizon in range(1, self._last + 1):
                step = world.step(self._real.actions[:, now + horizon - 1])
                imagined.append(step.terminations)
                if horizon in HORIZONS:
                    self._observations(horizon, Seen(world.observations(), step.tokens))
        expected = model.rewards.mean(torch.stack(rewards, dim=1)).cpu()
        probabilities = torch.stack(ends, dim=1).softmax(dim=-1)[..., 1].cpu()
        self._outcomes((expected, probabilities), model.rewards)
        world.generator = world.generator.clone_state()  # what follows draws nothing from the stream of the others
        for horizon in range(self._last + 1, min(self._last + NEAR, LAST) + 1):
            imagined.append(world.step(self._real.actions[:, now + horizon - 1]).terminations)
        self._ends(torch.stack(imagined, dim=1))

    def _ends(self, imagined: Int[Tensor, "B H"]) -> None:
        """Whether rollouts end near the end of their episode, of those that see so far."""
        span = slice(self._starts.now, self._starts.now + LAST)
        real, shown = first_of(self._real.terminations[:, span]), {OPEN_LOOP: first_of(imagined)}
        shown[STILL] = torch.full_like(real, NEVER)
        if self._others is not None:
            shown[OTHER] = first_of(self._others[0].terminations[:, span])
        for predictor, ends in shown.items():
            for horizon in HORIZONS:
                is_seen = real <= horizon - NEAR
                is_near = (ends - real).abs() <= NEAR
                self._means.add(
                    self._starts.episodes, (predictor, horizon, "", "end_within_2"), is_near & is_seen, is_seen
                )

    def _observations(self, horizon: int, imagined: Seen) -> None:
        at = self._starts.now + horizon
        truth, exists = self._view.stored(self._real, at), self._real.mask[:, at]
        self._add(OPEN_LOOP, horizon, self._differences(imagined, truth), exists)
        self._add(STILL, horizon, self._differences(self._view.still(self._real, self._starts.now, at), truth), exists)
        shown = self._view.reconstructed(self._real, at, truth.tokens)
        self._add(TOKENIZER, horizon, observation_errors(shown, truth.observations, self._perceptual), exists)
        if self._others is not None:
            other, _ = self._others
            differences = self._differences(self._view.stored(other, at), truth)
            self._add(OTHER, horizon, differences, exists & other.mask[:, at])

    def _differences(self, seen: Seen, truth: Seen) -> Differences:
        shares = {(part, "accuracy"): share for part, share in self._view.right(seen, truth).items()}
        return shares | observation_errors(seen.observations, truth.observations, self._perceptual)

    def _add(self, predictor: str, horizon: int, differences: Differences, exists: Bool[Tensor, "B"]) -> None:
        for (part, name), values in differences.items():
            self._means.add(self._starts.episodes, (predictor, horizon, part, name), values * exists, exists)

    def _outcomes(self, predicted: Outcomes, head: ScalarHead) -> None:
        """Calibration, and errors of rewards and ends over the steps up to a horizon as far as the episode goes."""
        real, exist = self._outcomes_of(self._real, head), self._exist[:, : self._last]
        nothing = torch.zeros_like(predicted[0])
        self._errors(OPEN_LOOP, predicted, real, exist)
        self._errors(STILL, (nothing, nothing), real, exist)
        if self._others is not None:
            other, both = self._others
            self._errors(OTHER, self._outcomes_of(other, head), real, both[:, : self._last])
        for name, expected, outcome in zip(BINS, predicted, real):
            bins = torch.bucketize(expected.contiguous(), torch.tensor(BINS[name][1:-1]), right=True)
            for index, low in enumerate(BINS[name][:-1]):
                inside = exist & (bins == index)
                for kind, values in (("predicted", expected), ("observed", outcome)):
                    self._sum((OPEN_LOOP, None, f"{low:g}", f"{name}_{kind}"), values, inside)

    def _outcomes_of(self, segments: Segments, head: ScalarHead) -> Outcomes:
        """Rewards, as the world model learns them, and ends of the steps from the start on."""
        steps = segments.steps(slice(self._starts.now, self._starts.now + self._last))
        return head.target(steps.rewards).cpu(), steps.terminations.float().cpu()

    def _errors(self, predictor: str, predicted: Outcomes, real: Outcomes, exist: Bool[Tensor, "B H"]) -> None:
        misses = predicted[0] - real[0]
        rewards, ends = misses.square(), (predicted[1] - real[1]).square()
        for horizon in HORIZONS:
            for name, values in (("reward_squared_error", rewards), ("end_error", ends)):
                self._sum((predictor, horizon, "", name), values[:, :horizon], exist[:, :horizon])
            sums, is_any = (misses * exist)[:, :horizon].sum(dim=1).abs(), exist.any(dim=1)
            self._means.add(self._starts.episodes, (predictor, horizon, "", "reward_sum_error"), sums * is_any, is_any)

    def _sum(self, what: What, values: Float[Tensor, "B H"], counts: Bool[Tensor, "B H"]) -> None:
        self._means.add(self._starts.episodes, what, (values * counts).sum(dim=1), counts.sum(dim=1))


@contextmanager
def outputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """What the module returns while the context lasts: predictions, of which a step of imagination keeps a sample."""
    outputs: list[Tensor] = []
    handle = module.register_forward_hook(lambda module, given, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


def first_of(ends: Int[Tensor, "B H"]) -> Int[Tensor, "B"]:
    """Number of the step, from 1 on, that ends each episode first; ``NEVER`` where none does."""
    is_end = ends.cpu() > 0
    return torch.where(is_end.any(dim=1), is_end.byte().argmax(dim=1) + 1, NEVER)


def perceptual_network(config: RunConfig, device: torch.device) -> nn.Module | None:
    """The published perceptual network, where the configuration names a file of its weights that is here, whether it
    was trained with or not."""
    weights = getattr(config.model.tokenizer, "perceptual_weights", None)  # type: ignore[attr-defined]
    if weights is None or not Path(weights).exists():
        return None
    from tokenworlds.tokenizers import lpips

    return lpips.load(weights).to(device)


def observation_errors(
    shown: dict[str, Tensor], real: dict[str, Tensor], perceptual: nn.Module | None = None
) -> Differences:
    """Errors of pictures and of real numbers."""
    found: Differences = {}
    for name, truth in real.items():
        if truth.dim() == 4:
            pictures = to_float(shown[name]), to_float(truth)
            found[name, "mse"] = (pictures[0] - pictures[1]).square().mean(dim=(1, 2, 3))
            found[name, "ssim"] = structural_similarity(*pictures)
            if perceptual is not None:
                found[name, "perceptual"] = perceptual(*(2 * picture - 1 for picture in pictures))
        elif truth.is_floating_point():
            found[name, "symlog_error"] = (symlog(shown[name]) - symlog(truth)).abs().mean(dim=1)
    return found
