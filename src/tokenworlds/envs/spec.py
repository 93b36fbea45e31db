"""What an environment looks like from outside: observations, actions, configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np
from numpy.typing import NDArray

from tokenworlds.errors import UserError

Observation = dict[str, NDArray[Any]]  # modality -> array, without batch dimension
Frame = NDArray[np.uint8]  # (Y, X, 3)
Information = dict[str, Any]
Environment = gymnasium.Env[Any, Any]
Wrapper = gymnasium.Wrapper[Any, Any, Any, Any]
Split = Literal["train", "test"]

# How far back `reset(options={"scope": ...})` goes. life: go on after a lost life while the game runs, else a new game.
# game: a new game on the running machine, whose memory carries over. machine (default): switch it off and on.
Scope = Literal["life", "game", "machine"]


@dataclass(frozen=True)
class ImageSpec:
    """A picture: uint8, stored channels first."""

    height: int
    width: int
    channels: int = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, Y, X)."""
        return (self.channels, self.height, self.width)

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        return np.dtype(np.uint8)


ModalitySpec = ImageSpec  # a union once there are vectors and tokens


@dataclass(frozen=True)
class EnvironmentSpec:
    """Modalities of the observation by name, and the discrete actions."""

    observation: dict[str, ModalitySpec]
    num_actions: int
    action_meanings: tuple[str, ...]
    achievements: tuple[str, ...] = ()  # what an episode can unlock, where the benchmark counts it

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one observation per modality."""
        return {name: modality.shape for name, modality in self.observation.items()}


@dataclass  # not frozen: the configuration schema merges layers into it
class EnvironmentConfig:
    """Preprocessing of one split. A family ignores what it does not know: only Atari has no-ops, repeated actions and
    lives."""

    size: int = 64  # pixels, height = width of the picture given to the agent
    max_episode_steps: int | None = None  # raw frames; None: the game's own limit
    noop_max: int = 30  # at most so many raw no-op frames after a reset
    frame_skip: int = 4  # raw frames per action
    done_on_life_loss: bool = True  # an episode is a life
    clip_reward: bool = False  # rewards to their sign

    def __post_init__(self) -> None:
        lower_bounds = {"size": 1, "noop_max": 0, "frame_skip": 2}  # the picture is the maximum of the last two frames
        for name, lowest in lower_bounds.items():
            if getattr(self, name) < lowest:
                raise UserError(f"environment.{name} must be at least {lowest}, but is {getattr(self, name)}.")
        if self.max_episode_steps is not None and self.max_episode_steps <= self.noop_max:
            raise UserError(
                f"environment.max_episode_steps ({self.max_episode_steps}) must exceed noop_max ({self.noop_max}): "
                "the no-op frames after a reset count as steps."
            )


def describe(env: Environment) -> EnvironmentSpec:
    """Specification of a ready environment: Dict of (C, Y, X) pictures, Discrete actions, ``action_meanings``, and
    ``achievements`` where there are some."""
    observations, actions = env.observation_space, env.action_space
    assert isinstance(observations, gymnasium.spaces.Dict) and isinstance(actions, gymnasium.spaces.Discrete)
    modalities = {}
    for name, space in observations.spaces.items():
        assert space.shape is not None and len(space.shape) == 3 and space.dtype == np.uint8, space
        channels, height, width = space.shape
        modalities[name] = ImageSpec(height, width, channels)
    achievements = env.get_wrapper_attr("achievements") if env.has_wrapper_attr("achievements") else ()
    return EnvironmentSpec(
        modalities, int(actions.n), tuple(env.get_wrapper_attr("action_meanings")), tuple(achievements)
    )
