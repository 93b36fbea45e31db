"""The world model that generates continuous deltas with a consistency function instead of sampling tokens of them.

A state mixes the features of a frame with the delta that follows it; while that is unknown, zeros stand in its place.
The delta at a frame is generated from the n - 1 states before, the state of the frame without its delta, and the
actions of these n steps; reward and end of the step are read from the state with its delta.

Shapes: B batch, T frames, P = T - n predictions, n context states, C h w of a delta, S evaluations, A actions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.backbones import initialise_gpt
from tokenworlds.config import ConsistencyConfig, Context, DeltaWorldModelConfig
from tokenworlds.envs.spec import ImageSpec
from tokenworlds.losses import masked_mean
from tokenworlds.ops.convolutions import FrameEncoder
from tokenworlds.world_models import accuracy, heads
from tokenworlds.world_models import predictions as predictions_of
from tokenworlds.world_models.base import StepNoise, WorldModel, WorldModelLosses, cross_entropy
from tokenworlds.world_models.consistency.function import ConsistencyFunction
from tokenworlds.world_models.consistency.schedules import Intervals, pseudo_huber

RATE = 0.01  # of the running mean square of deltas
FLOOR = 1e-4  # added to the distance of two levels that divides a loss
SCALING = (0.1, 10.0)  # least and greatest of the prediction loss
LEAST_UNIFORM = 2.0**-25  # whose normal is finite; half of the least uniform in float32 but 0


@dataclass
class ConsistencyLosses(WorldModelLosses):
    """``observations`` is the consistency loss, ``prediction`` the denoising loss, scaled to be as large."""

    prediction: Tensor


@dataclass
class Draws:
    """Random numbers of a loss: levels of teacher and student, and their noise."""

    lower: Float[Tensor, "*B"]
    upper: Float[Tensor, "*B"]
    student: Float[Tensor, "*B C h w"]
    teacher: Float[Tensor, "*B C h w"]

    def parts(self) -> tuple[Tensor, ...]:
        return self.lower, self.upper, self.student, self.teacher

    def to(self, device: torch.device) -> Draws:
        return Draws(*(part.to(device) for part in self.parts()))


@dataclass
class Predictions:
    """Deltas of student and teacher, and outputs of the head."""

    student: Float[Tensor, "B P C h w"]
    teacher: Float[Tensor, "B P C h w"]
    outputs: Float[Tensor, "B P W"]


@dataclass
class ConsistencyState:
    """Between two imagined steps."""

    past: Float[Tensor, "B n1 C h w"]  # states before the current frame
    actions: Int[Tensor, "B n1"]
    frames: Float[Tensor, "B c Y X"]  # the current ones, in [0, 1]
    length: int  # steps so far


class Columns(nn.Module):
    """Some of the outputs of a head."""

    def __init__(self, columns: slice) -> None:
        super().__init__()
        self.columns = columns

    def forward(self, outputs: Float[Tensor, "*B W"]) -> Float[Tensor, "*B V"]:
        return outputs[..., self.columns]


class ConsistencyWorldModel(WorldModel):
    """``shape`` is that of a delta: channels, rows and columns."""

    mean_square: Tensor
    is_measured: Tensor

    def __init__(
        self,
        config: DeltaWorldModelConfig,
        generator: ConsistencyConfig,
        image: ImageSpec,
        shape: tuple[int, int, int],
        num_actions: int,
    ) -> None:
        super().__init__()
        self.generator, self.weights, self.shape = generator, config.weights, shape
        self.context_states = generator.context_states
        channels, rows, columns = shape
        width = channels * rows * columns
        self.frame_encoder = FrameEncoder(config.frame_encoder, image.height, image.channels)
        self.mixer = nn.Conv2d(self.frame_encoder.latent_dim + channels, channels, 3, padding=1)
        self.function = ConsistencyFunction(generator, channels, num_actions)
        self.rewards = heads.build(config.rewards)
        outputs = self.rewards.width + 2
        hidden, last = nn.Linear(width, width), nn.Linear(width, outputs, bias=False)
        initialise_gpt(hidden)
        nn.init.normal_(last.weight, std=0.02)
        self.head = nn.Sequential(hidden, nn.SiLU(), last)
        self.head_reward, self.head_end = Columns(slice(-2)), Columns(slice(-2, None))
        self.register_buffer("mean_square", torch.ones(()))  # of the deltas
        self.register_buffer("is_measured", torch.zeros((), dtype=torch.bool))

    # Deltas and states

    @torch.no_grad()
    def measure(self, deltas: Float[Tensor, "B T1 C h w"], is_real: Bool[Tensor, "B T1"]) -> None:
        """Move the running mean square; the first batch sets it."""
        count = is_real.sum()
        rate = (1 - (1 - RATE) * self.is_measured.float()) * (count > 0)
        mean = masked_mean(deltas.square().mean(dim=(2, 3, 4)), is_real)
        self.mean_square.lerp_(mean.to(self.mean_square.dtype), rate.to(self.mean_square.dtype))
        self.is_measured.logical_or_(count > 0)

    def scaled(self, deltas: Float[Tensor, "*B C h w"]) -> Float[Tensor, "*B C h w"]:
        """Deltas with the standard deviation that the consistency function is made for, about zero."""
        return deltas * (self.generator.sigma_data / self.mean_square.sqrt())

    def unscaled(self, y: Float[Tensor, "*B C h w"]) -> Float[Tensor, "*B C h w"]:
        """The inverse of ``scaled``."""
        return y * (self.mean_square.sqrt() / self.generator.sigma_data)

    def features(self, frames: Float[Tensor, "B T c Y X"]) -> Float[Tensor, "B T L h w"]:
        """What a state holds of frames."""
        return self.frame_encoder(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def states(self, features: Float[Tensor, "B T L h w"], y: Float[Tensor, "B T C h w"]) -> Float[Tensor, "B T C h w"]:
        """Frames mixed with scaled deltas."""
        mixed = self.mixer(torch.cat([features, y.to(features.dtype)], dim=2).flatten(0, 1))
        return mixed.unflatten(0, y.shape[:2])

    def half_states(self, features: Float[Tensor, "B T L h w"]) -> Float[Tensor, "B T C h w"]:
        """Frames whose deltas are unknown."""
        return self.states(features, features.new_zeros(*features.shape[:2], *self.shape))

    # Training

    def draw(self, batch: int, frames: int, intervals: Intervals, generator: torch.Generator) -> Draws:
        """Levels and noise for the predictions of segments; student and teacher share the noise, unless it is drawn as
        published."""
        size = (batch, frames - self.context_states)
        index = intervals.draw(torch.rand(size, generator=generator, device=generator.device))
        kinds = 2 if self.generator.published_noise else 1
        noise = torch.randn(kinds, *size, *self.shape, generator=generator, device=generator.device)
        return Draws(intervals.levels[index], intervals.levels[index + 1], noise[0], noise[-1])

    def loss(
        self,
        frames: Float[Tensor, "B T c Y X"],
        actions: Int[Tensor, "B T"],
        deltas: Float[Tensor, "B T1 C h w"],
        rewards: Float[Tensor, "B T"],
        ends: Tensor,
        mask: Bool[Tensor, "B T"],
        draws: Draws,
    ) -> ConsistencyLosses:
        """Weighted losses of the steps that have n - 1 others before them in their segment, and a frame after.

        A step counts if it is real and followed by another, or by the end of its episode, whose delta is into a black
        frame.
        """
        first = self.context_states - 1
        deltas = deltas.to(frames.dtype)
        if self.training:
            self.measure(deltas, mask[:, :-1] & mask[:, 1:])
        y = self.scaled(deltas) * mask[:, :-1, None, None, None]
        features = self.features(frames[:, :-1])
        predict = {Context.generated: self._one_after_another, Context.real: self._at_once}[self.generator.context]
        found, y = predict(features, y, actions, draws), y[:, first:]
        counts = mask[:, first:-1] & (mask[:, first + 1 :] | ends[:, first:-1].bool())
        consistency, prediction = self._generation_errors(found, y, draws, counts)
        scaling = (consistency / prediction.clamp(min=1e-12)).clamp(*SCALING).detach()
        reward_outputs, end_logits = self.head_reward(found.outputs), self.head_end(found.outputs)
        numbers, labels = rewards[:, first:-1], ends[:, first:-1].long()
        measured, predictions = {"prediction_error": prediction.detach()}, None
        if not self.training:
            given = (self.rewards, reward_outputs, numbers, end_logits, labels, counts)
            measured |= accuracy.of_outcomes(*given)
            predictions = predictions_of.Predictions(None, accuracy.outcomes(*given))
        weights = self.weights
        return ConsistencyLosses(
            observations=weights.observations * consistency,
            rewards=weights.rewards * masked_mean(self.rewards.loss(reward_outputs, numbers), counts),
            ends=weights.ends * masked_mean(cross_entropy(end_logits, labels), counts),
            prediction=weights.observations * self.generator.prediction_weight * scaling * prediction,
            measured=measured,
            predictions=predictions,
        )

    def _generation_errors(
        self, found: Predictions, y: Float[Tensor, "B P C h w"], draws: Draws, counts: Bool[Tensor, "B P"]
    ) -> tuple[Tensor, Tensor]:
        """Consistency loss: distance of student and teacher, in distances of their levels. Prediction loss: squared
        error of the student, by its level."""
        data = self.generator.sigma_data**2
        distance = pseudo_huber(found.student, found.teacher).mean(dim=(2, 3, 4)) / (draws.upper - draws.lower + FLOOR)
        variance = draws.upper.square()
        error = (found.student - y).square().mean(dim=(2, 3, 4)) * (variance + data) / (variance * data)
        return masked_mean(distance, counts), masked_mean(error, counts)

    def _one_after_another(
        self,
        features: Float[Tensor, "B T1 L h w"],
        y: Float[Tensor, "B T1 C h w"],
        actions: Int[Tensor, "B T"],
        draws: Draws,
    ) -> Predictions:
        """Later predictions read the states that hold earlier ones."""
        n, halves = self.context_states, self.half_states(features)
        states = list(self.states(features[:, : n - 1], y[:, : n - 1]).unbind(1))
        found: list[tuple[Tensor, Tensor]] = []
        for index, t in enumerate(range(n - 1, features.shape[1])):
            context = torch.stack([*states[t - n + 1 : t], halves[:, t]], dim=1)
            drawn = Draws(*(part[:, index] for part in draws.parts()))
            found.append(self._denoised(y[:, t], context, actions[:, t - n + 1 : t + 1], drawn))
            states.append(self.states(features[:, t : t + 1], found[-1][0].detach().unsqueeze(1)).squeeze(1))
        student, teacher = (torch.stack(some, dim=1) for some in zip(*found))
        return Predictions(student, teacher, self.head(torch.stack(states[n - 1 :], dim=1).flatten(2)))

    def _at_once(
        self,
        features: Float[Tensor, "B T1 L h w"],
        y: Float[Tensor, "B T1 C h w"],
        actions: Int[Tensor, "B T"],
        draws: Draws,
    ) -> Predictions:
        """All predictions read real states, and form one batch."""
        n, size = self.context_states, draws.upper.shape
        halves, states = self.half_states(features), self.states(features, y)
        windows = [[*states[:, t - n + 1 : t].unbind(1), halves[:, t]] for t in range(n - 1, features.shape[1])]
        context = torch.stack([torch.stack(window, dim=1) for window in windows], dim=1).flatten(0, 1)
        taken = actions[:, :-1].unfold(1, n, 1).flatten(0, 1)
        flat = Draws(*(part.flatten(0, 1) for part in draws.parts()))
        denoised = self._denoised(y[:, n - 1 :].flatten(0, 1), context, taken, flat)
        student, teacher = (part.unflatten(0, size) for part in denoised)
        generated = self.states(features[:, n - 1 :], student.detach())
        return Predictions(student, teacher, self.head(generated.flatten(2)))

    def _denoised(
        self,
        y: Float[Tensor, "N C h w"],
        context: Float[Tensor, "N n C h w"],
        actions: Int[Tensor, "N n"],
        draws: Draws,
    ) -> tuple[Float[Tensor, "N C h w"], Float[Tensor, "N C h w"]]:
        """Student and, without gradient, teacher."""
        lower, upper = (level[:, None, None, None] for level in (draws.lower, draws.upper))
        student = self.function(y + upper * draws.student, draws.upper, context, actions)
        with torch.no_grad():
            teacher = self.function(y + lower * draws.teacher, draws.lower, context, actions)
        return student, teacher

    # Imagination

    @property
    def draws(self) -> int:
        """Uniforms of a generated delta."""
        channels, rows, columns = self.shape
        return len(self.function.ladder) * channels * rows * columns

    def start(
        self,
        frames: Float[Tensor, "B t c Y X"],
        actions: Int[Tensor, "B t1"],
        deltas: Float[Tensor, "B t1 C h w"],
    ) -> ConsistencyState:
        """A context of frames, with the actions and deltas between them: zeros for what is padding. A shorter one than
        n frames is preceded by black frames."""
        count = self.context_states - 1
        known = min(count, actions.shape[1])
        begin = actions.shape[1] - known
        before, taken = frames[:, begin:-1], actions[:, begin:]
        y = self.scaled(deltas[:, begin:].to(frames.dtype))
        before, y = (F.pad(part, (0, 0, 0, 0, 0, 0, count - known, 0)) for part in (before, y))
        taken = F.pad(taken, (count - known, 0))
        return ConsistencyState(self.states(self.features(before), y), taken, frames[:, -1], known)

    def step(
        self, state: ConsistencyState, actions: Int[Tensor, "B"], noise: StepNoise, *, predict_observation: bool = True
    ) -> tuple[ConsistencyState, Float[Tensor, "B C h w"] | None, Float[Tensor, "B"], Int[Tensor, "B"]]:
        """One imagined step: the next state, which still holds the frames of this one; the delta (None unless the
        observation is to be predicted), rewards and termination flags. The uniforms of the tokens become the normal
        numbers that are added when a delta is generated."""
        features = self.features(state.frames.unsqueeze(1))
        taken = torch.cat([state.actions, actions.unsqueeze(1)], dim=1)
        context = torch.cat([state.past, self.half_states(features)], dim=1)
        normals = self.mode.temperature * self._normals(noise.tokens).to(state.frames.dtype)
        y = self.function.sample(context, taken, normals)
        now = self.states(features, y.unsqueeze(1))
        outputs = self.head(now.flatten(2).squeeze(1))
        rewards = self.rewards.sample(self.head_reward(outputs), noise.reward)
        ends = self.mode.sample(self.head_end(outputs), noise.end)
        past = torch.cat([state.past, now], dim=1)[:, 1:]
        after = ConsistencyState(past, taken[:, 1:], state.frames, state.length + 1)
        return after, self.unscaled(y) if predict_observation else None, rewards, ends

    def _normals(self, uniforms: Float[Tensor, "K B"]) -> Float[Tensor, "S B C h w"]:
        parts = uniforms.clamp(min=LEAST_UNIFORM).unflatten(0, (len(self.function.ladder), *self.shape))
        normals: Tensor = torch.special.ndtri(parts.movedim(-1, 1))
        return normals
