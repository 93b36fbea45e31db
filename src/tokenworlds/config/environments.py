"""Settings of environments and of the interaction with them."""

from __future__ import annotations

from dataclasses import dataclass, field

from tokenworlds.config.ranges import (
    BLOCKS,
    ENVIRONMENTS,
    EPISODES,
    EPOCHS,
    PIXELS,
    STEPS,
    check_ranges,
    integer,
    number,
    probability,
    require,
)
from tokenworlds.errors import UserError

TEMPERATURES = 0.001, 1_000  # logits divided by less are no longer finite


@dataclass
class NoiseConfig:
    """Noise on observed pictures."""

    std: float = number(0, 1)  # of every pixel and channel, as a share of their range; 0: none, as without this section


@dataclass
class EnvironmentConfig:
    """Preprocessing of one split. A family ignores what does not apply to it: only Atari has no-ops and lives."""

    size: int = integer(1, PIXELS, default=64)  # pixels, height = width of the picture given to the agent
    # Raw frames, or actions where a family says so; None: the game's own limit
    max_episode_steps: int | None = integer(1, 100_000_000, default=None)
    noop_max: int = integer(0, 10_000, default=30)  # at most so many raw no-op frames after a reset
    # Raw frames, or control steps of a simulator, per action; the picture is the maximum of the last two frames
    frame_skip: int = integer(2, 1_000, default=4)
    done_on_life_loss: bool = True  # an episode is a life
    clip_reward: bool = False  # rewards to their sign
    legacy_keys: bool = False  # Craftax: every environment starts with the world of key 0, as in released M3
    noise: NoiseConfig | None = None

    def __post_init__(self) -> None:
        """
        Raises:
            UserError: a value out of its range, or no steps after the no-ops of a reset.
        """
        check_ranges(self, "environment.")
        if self.noise is not None and self.noise.std == 0:
            self.noise = None  # the same run, and so the same hash
        if self.max_episode_steps is not None and self.max_episode_steps <= self.noop_max:
            raise UserError(
                f"environment.max_episode_steps ({self.max_episode_steps}) must exceed noop_max ({self.noop_max}): "
                "the no-op frames after a reset count as steps."
            )


@dataclass
class EnvironmentsConfig:
    train: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    test: EnvironmentConfig = field(default_factory=EnvironmentConfig)

    def check(self) -> None:
        require(self.train.size == self.test.size, "environment.train.size and environment.test.size differ.")


@dataclass
class CollectionConfig:
    """Interaction with an environment: ``steps`` (train) or ``episodes`` (test) a call."""

    num_envs: int = integer(1, ENVIRONMENTS)
    epsilon: float = probability()  # probability of uniform random actions, one draw per vector step
    temperature: float = number(*TEMPERATURES)
    burn_in: int = integer(0, BLOCKS)  # frames that the policy's state is burnt in with when an episode is continued
    steps: int | None = integer(1, STEPS, default=None)  # agent steps a call
    # In the first epoch, all actions uniform random; None: as in any other
    steps_first_epoch: int | None = integer(1, STEPS, default=None)
    episodes: int | None = integer(1, EPISODES, default=None)
    stop_after_epochs: int | None = integer(1, EPOCHS, default=None)
    parallel: bool = True  # one worker process per environment, or in-process
    final_observation: bool = False  # whether an episode is stored with the observation after its last step (M3)


@dataclass
class CollectionsConfig:
    train: CollectionConfig = field(default_factory=CollectionConfig)
    test: CollectionConfig = field(default_factory=CollectionConfig)

    def check(self) -> None:
        require(self.train.steps is not None, "collection.train.steps is not set.")
        require(self.test.episodes is not None, "collection.test.episodes is not set.")

    def check_ends_are_steps(self) -> None:
        """Refuse entries behind the last steps of episodes, for world models that read rewards and ends at actions."""
        for name, collection in (("train", self.train), ("test", self.test)):
            require(
                not collection.final_observation,
                f"collection.{name}.final_observation=true needs model.world_model.read_out=prediction: otherwise what "
                "is stored behind the end of an episode would count as a step without reward and end.",
            )
