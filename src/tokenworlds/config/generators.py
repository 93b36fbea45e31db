"""Settings of world models that generate continuous deltas in few evaluations of a network, instead of sampling tokens
from a sequence model."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tokenworlds.config.ranges import (
    BLOCKS,
    LAYERS,
    MISSING,
    WEIGHT,
    WIDTH,
    integer,
    integers,
    number,
    positive,
    require,
)

_KEY = "model.world_model.generator"

Generator = Enum("Generator", "consistency")
"""What generates a delta: a consistency model."""

Context = Enum("Context", "generated real")
"""States that a prediction is conditioned on in training: those that hold what was generated for the steps before, or
the real ones, with which all predictions form one batch."""


@dataclass
class ConsistencyConfig:
    """A consistency model over continuous deltas; the published values are those of a fork of Delta-IRIS."""

    kind: Generator = MISSING
    context: Context = Context.generated
    context_states: int = integer(1, BLOCKS)  # n, the current one included
    # The U-Net: width, residual blocks, and whether they have attention (0 or 1), one a level
    channels: list[int] = integers(1, WIDTH, longest=10)
    depths: list[int] = integers(1, LAYERS, longest=10)
    attention: list[int] = integers(0, 1, longest=10)
    condition_dim: int = integer(2, WIDTH)  # of the embedding of noise level and actions
    sigma_min: float = positive(1, default=0.002)
    sigma_max: float = positive(10_000, default=80.0)
    sigma_data: float = positive(100, default=0.5)
    rho: float = positive(100, default=7.0)
    first_intervals: int = integer(1, 100_000, default=10)  # between noise levels, at the start of training
    last_intervals: int = integer(1, 100_000, default=1280)  # at its end
    level_mean: float = number(-20, 20, default=-1.1)  # of the logarithm of the levels that are trained
    level_std: float = positive(20, default=2.0)
    prediction_weight: float = number(0, WEIGHT, default=1.0)  # of the denoising loss, beside its own scaling
    evaluations: int = integer(1, 1_000, default=3)  # of the network, a generated delta
    # As published: separate noise of student and teacher, an offset in the coefficients, the noisy input unscaled, the
    # level itself embedded, and evenly spaced levels when sampling
    published_noise: bool = False

    def check(self, sequence_length: int, burn_in: int) -> None:
        """Levels and widths, and the states against the steps of a training segment and those before imagination."""
        lengths = {len(self.channels), len(self.depths), len(self.attention)}
        require(
            len(lengths) == 1 and 0 not in lengths,
            f"{_KEY}.channels {self.channels}, {_KEY}.depths {self.depths} and {_KEY}.attention {self.attention} must "
            "have one number for each level.",
        )
        require(
            all(width % 32 == 0 for width in self.channels),
            f"{_KEY}.channels {self.channels} must be multiples of 32 (group normalisation).",
        )
        require(
            self.condition_dim % 2 == 0 and self.condition_dim % self.context_states == 0,
            f"{_KEY}.condition_dim ({self.condition_dim}) must be a multiple of 2 and of {_KEY}.context_states "
            f"({self.context_states}): it holds cosines and sines, and an embedding for each action.",
        )
        require(
            self.sigma_min < self.sigma_max,
            f"{_KEY}.sigma_min ({self.sigma_min:g}) must be below sigma_max ({self.sigma_max:g}).",
        )
        require(
            self.first_intervals <= self.last_intervals,
            f"{_KEY}.first_intervals ({self.first_intervals}) must not exceed last_intervals ({self.last_intervals}).",
        )
        require(
            self.context_states < sequence_length,
            f"{_KEY}.context_states ({self.context_states}) must be less than training.sequence_length "
            f"({sequence_length}): a transition has to follow.",
        )
        require(
            self.context_states <= burn_in,
            f"{_KEY}.context_states ({self.context_states}) must not exceed training.actor_critic.burn_in ({burn_in}): "
            "imagination starts behind as many steps.",
        )
