"""Settings of the training of all components."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from tokenworlds.config.quirks import ImaginationStart
from tokenworlds.config.ranges import (
    BATCH,
    BLOCKS,
    EPOCHS,
    MISSING,
    UPDATES,
    WEIGHT,
    integer,
    later,
    number,
    positive,
    probability,
    require,
)

_KEY = "training.actor_critic"


Sampling = Enum("Sampling", "episodes segments prioritised")
"""Training segments: a uniform episode and a uniform place in it, with replacement (IRIS); uniform over all
segments, without replacement (REM); or, for the world model, a share of every batch by the segments' last losses
(M3)."""

Decay = Enum("Decay", "linear heads all")
"""Parameters with weight decay: weights of linear layers and of recurrent backbones, not of a policy's recurrent cell;
these and the norms of the heads (M3, whose published rule goes by names); or all."""

Precision = Enum("Precision", "float32 tf32 bf16")
"""Number format of network arithmetic on a GPU. The scores of IRIS and of M3 on Craftax were made with ``tf32``,
those of REM and of M3 elsewhere with ``float32``, tokenizer and world model of Delta-IRIS with ``bf16``."""


TokenizerTraining = Enum("TokenizerTraining", "always never decoder_only")
"""What of a tokenizer is trained: all of it; nothing, so that its tokens stay; or its decoder, for tokens that stay."""


@dataclass
class ComponentTrainingConfig:
    """Schedule and optimiser of one component."""

    batch_size: int = integer(1, BATCH)  # segments a micro-batch
    gradient_accumulation: int = integer(1, 4096)
    max_grad_norm: float = positive(WEIGHT)
    learning_rate: float = positive(1)
    weight_decay: float = number(0, 1)
    decay: Decay = MISSING  # what the weight decay acts on
    start_after_epochs: int = integer(0, EPOCHS)
    stop_after_epochs: int | None = integer(0, EPOCHS)  # frozen from then on; 0: always; None: trained to the end
    updates_per_epoch: int = integer(1, UPDATES)
    updates_first_epoch: int | None = integer(1, UPDATES, default=None)  # of the run; None: as in any other


@dataclass
class TokenizerTrainingConfig(ComponentTrainingConfig):
    """Of a tokenizer of observations; ``stop_after_epochs`` trains it until an epoch."""

    train: TokenizerTraining | None = later()  # None: always


@dataclass
class BehaviourTrainingConfig(ComponentTrainingConfig):
    """Actor-critic training in imagination (IRIS section 2.3)."""

    # Policy steps, of which the last only bootstraps (IRIS, REM, M3); imagined steps (Delta-IRIS)
    horizon: int = integer(2, BLOCKS)
    burn_in: int = integer(0, BLOCKS)
    gamma: float = probability()
    lambda_: float = probability()
    entropy_weight: float = number(0, 1000)
    stop_at_end: bool = False  # steps after an imagined termination do not count
    # Batches whose returns' spread scales advantages (M3); None: no scaling
    return_window: int | None = integer(1, 100_000, default=None)
    critic_warmup_epochs: int = integer(0, EPOCHS, default=0)  # in which only the critic learns

    def check(self, context: int, start: ImaginationStart, has_final: bool) -> None:
        """Checks against the world model's context, ``quirks.imagination_start`` and
        ``collection.train.final_observation``."""
        require(
            context <= self.burn_in + 1,
            f"model.world_model.context ({context}) needs {_KEY}.burn_in of at least {context - 1}: both read the same "
            "frames.",
        )
        require(
            start is ImaginationStart.aligned or has_final,
            "quirks.imagination_start=legacy needs collection.train.final_observation=true: the policy starts one "
            "observation ahead.",
        )


@dataclass
class DeltaBehaviourTrainingConfig(BehaviourTrainingConfig):
    """With a target network, an exponential moving average of the policy, for baseline and bootstrap (Delta-IRIS)."""

    horizon: int = integer(1, BLOCKS)
    target_decay: float = probability()
    # Of all networks in imagination, which starts from delta tokens encoded in full precision; None: as the other
    # components
    precision: Precision | None = None


@dataclass
class TrainingConfig:
    epochs: int = integer(1, EPOCHS)
    sequence_length: int = integer(1, BLOCKS)  # blocks a world-model segment
    precision: Precision = MISSING
    tokenizer: ComponentTrainingConfig = field(default_factory=ComponentTrainingConfig)
    world_model: ComponentTrainingConfig = field(default_factory=ComponentTrainingConfig)
    actor_critic: BehaviourTrainingConfig = field(default_factory=BehaviourTrainingConfig)


@dataclass
class TokenTrainingConfig(TrainingConfig):
    tokenizer: TokenizerTrainingConfig = field(default_factory=TokenizerTrainingConfig)
    sampling: Sampling = MISSING
    # Sampling: prioritised; the share of a batch that is drawn uniformly
    uniform_fraction: float = probability(default=0.7)


@dataclass
class DeltaTrainingConfig(TrainingConfig):
    sequence_length: int = integer(2, BLOCKS)  # a transition
    tokenizer_sequence_length: int = integer(2, BLOCKS)  # frames a tokenizer segment
    actor_critic: DeltaBehaviourTrainingConfig = field(default_factory=DeltaBehaviourTrainingConfig)
    sampling_exponent: float = number(0, 20)  # an episode of n draws has the weight (1 + n)^-exponent

    def check(self, max_blocks: int) -> None:
        """Number formats, and imagination against the world model's length."""
        behaviour = self.actor_critic
        formats = {self.precision, behaviour.precision or self.precision}
        require(
            len(formats) == 1 or Precision.float32 not in formats,
            f"training.precision and {_KEY}.precision must both be float32, or neither: TF32 is switched on for all "
            "networks or for none.",
        )
        needed = behaviour.burn_in + behaviour.horizon + 1
        require(
            needed <= max_blocks,
            f"model.world_model.max_blocks ({max_blocks}) must be at least {_KEY}.burn_in + horizon + 1 ({needed}): "
            "imagination runs in one piece.",
        )
