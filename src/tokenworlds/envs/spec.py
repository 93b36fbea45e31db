"""Specifications of environments: observations and actions."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import gymnasium
import numpy as np
from numpy.typing import NDArray

from tokenworlds.errors import UserError, brief

Observation = dict[str, NDArray[Any]]  # modality -> array, without batch dimension
Frame = NDArray[np.uint8]  # (Y, X, 3)
Information = dict[str, Any]
Environment = gymnasium.Env[Any, Any]
Wrapper = gymnasium.Wrapper[Any, Any, Any, Any]

# `reset(options={"scope": ...})` starts from: life: the running game after a lost life, else a new game. game: a new
# game on the running machine, whose memory carries over. machine (default): a machine that was switched off and on.


class ModalitySpec(ABC):
    """One modality of an observation. A further modality is a further subclass: docs/modalities.md."""

    order: ClassVar[int]  # position of its tokens among those of the other modalities

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one observation."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """Type in the replay buffer."""

    def fault(self, values: NDArray[Any]) -> str | None:
        """What makes values (..., *shape) something that no observation holds; None where nothing does."""
        return None


@dataclass(frozen=True)
class ImageSpec(ModalitySpec):
    """A picture: uint8, stored channels first."""

    height: int
    width: int
    channels: int = 3
    order, dtype = 0, np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, self.height, self.width)


@dataclass(frozen=True)
class VectorSpec(ModalitySpec):
    """Real numbers in their own units: float32."""

    size: int
    order, dtype = 1, np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.size,)

    def fault(self, values: NDArray[Any]) -> str | None:
        return None if np.isfinite(values).all() else "has NaN or infinite values"


@dataclass(frozen=True)
class TokenSpec(ModalitySpec):
    """Categories, all of one vocabulary: integers below ``vocab_size``."""

    count: int
    vocab_size: int
    order = 2

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.count,)

    @property
    def dtype(self) -> np.dtype[Any]:
        return _smallest_integer(self.vocab_size)

    def fault(self, values: NDArray[Any]) -> str | None:
        return _category_fault(values, self.vocab_size)


@dataclass(frozen=True)
class GridSpec(ModalitySpec):
    """Cells of a map, row after row, each with several categories: column i holds integers below ``vocab_sizes[i]``."""

    height: int
    width: int
    vocab_sizes: tuple[int, ...]
    order = 3

    @property
    def shape(self) -> tuple[int, ...]:
        """(cells, columns)."""
        return (self.height * self.width, len(self.vocab_sizes))

    @property
    def dtype(self) -> np.dtype[Any]:
        return _smallest_integer(max(self.vocab_sizes))

    def fault(self, values: NDArray[Any]) -> str | None:
        return _category_fault(values, np.array(self.vocab_sizes))


def _category_fault(values: NDArray[Any], sizes: Any) -> str | None:
    is_known = ((values >= 0) & (values < sizes)).all()
    return None if is_known else f"has categories out of range; the least is 0, the greatest {sizes - 1}"


def _smallest_integer(count: int) -> np.dtype[Any]:
    """The smallest type that holds 0..count-1 and that torch computes with."""
    return np.dtype(np.uint8 if count <= 256 else np.int16 if count <= 2**15 else np.int32)


@dataclass(frozen=True)
class DiscreteActions:
    """One of ``count`` actions: an integer."""

    count: int
    meanings: tuple[str, ...] = ()
    shape, dtype = (), np.dtype(np.int64)

    def random(self, generator: np.random.Generator, batch: int) -> NDArray[Any]:
        """Uniform random actions (B, *shape)."""
        return generator.integers(self.count, size=batch)


@dataclass(frozen=True)
class MultiDiscreteActions:
    """Several choices at once, component i one of ``counts[i]``: integers."""

    counts: tuple[int, ...]
    dtype = np.dtype(np.int64)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.counts),)

    def random(self, generator: np.random.Generator, batch: int) -> NDArray[Any]:
        return generator.integers(self.counts, size=(batch, len(self.counts)))


@dataclass(frozen=True)
class ContinuousActions:
    """``size`` numbers in [-1, 1]: float32."""

    size: int
    dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.size,)

    def random(self, generator: np.random.Generator, batch: int) -> NDArray[Any]:
        return generator.uniform(-1, 1, size=(batch, self.size)).astype(np.float32)


ActionSpec = DiscreteActions | MultiDiscreteActions | ContinuousActions


@dataclass(frozen=True)
class EnvironmentSpec:
    """Modalities of the observation by name, and the actions."""

    observation: dict[str, ModalitySpec]
    actions: ActionSpec
    achievements: tuple[str, ...] = ()  # what an episode can unlock, where the benchmark counts it

    def card(self) -> dict[str, Any]:
        """Observations and actions in plain values, for the metadata of an agent's weights."""

        def plain(part: ModalitySpec | ActionSpec) -> dict[str, Any]:
            return {"kind": type(part).__name__, **dataclasses.asdict(cast(Any, part))}

        return {
            "observation": {name: plain(part) for name, part in self.observation.items()},
            "actions": plain(self.actions),
        }

    def success_rates(self, unlocked: Sequence[Sequence[str]]) -> dict[str, float]:
        """Percentage of episodes that unlocked each achievement, from the achievements of each episode."""
        counts = Counter(name for names in unlocked for name in names)
        return {name: 100 * (counts[name] / len(unlocked)) for name in self.achievements}

    @property
    def num_actions(self) -> int:
        """Number of discrete actions.

        Raises:
            UserError: the actions are not discrete.
        """
        if not isinstance(self.actions, DiscreteActions):
            raise UserError(
                f"this method needs discrete actions, the task has {self.actions}; train it with method=m3."
            )
        return self.actions.count

    @property
    def image(self) -> ImageSpec:
        """The picture that is the only modality.

        Raises:
            UserError: there are other modalities.
        """
        modalities = tuple(self.observation.values())
        if len(modalities) != 1 or not isinstance(modalities[0], ImageSpec):
            raise UserError(
                f"this method needs one picture an observation, the task shows {', '.join(self.observation)}; train it "
                "with method=m3 and model.policy.input=tokens, its default."
            )
        return modalities[0]


def describe(env: Environment) -> EnvironmentSpec:
    """Specification of an environment: from its attribute ``modalities`` (name -> spec), else from a Dict of (C, Y, X)
    pictures; from Discrete (with ``action_meanings``), MultiDiscrete or Box [-1, 1] actions; and from its attribute
    ``achievements``, if it has one.

    Raises:
        UserError: the environment has other spaces, or lacks an attribute.
    """
    achievements = env.get_wrapper_attr("achievements") if env.has_wrapper_attr("achievements") else ()
    return EnvironmentSpec(_modalities(env), _actions(env), tuple(achievements))


def observation_space(modalities: dict[str, ModalitySpec]) -> Any:
    """Gymnasium's space of observations in these modalities."""
    spaces: dict[str, gymnasium.Space[Any]] = {}
    for name, spec in modalities.items():
        low, high = (-np.inf, np.inf) if spec.dtype.kind == "f" else (0, np.iinfo(spec.dtype).max)
        spaces[name] = gymnasium.spaces.Box(low, high, spec.shape, cast(Any, spec.dtype))
    return gymnasium.spaces.Dict(spaces)


def action_space(actions: ActionSpec) -> gymnasium.Space[Any]:
    """Gymnasium's space of these actions."""
    match actions:
        case DiscreteActions(count=count):
            return gymnasium.spaces.Discrete(count)
        case MultiDiscreteActions(counts=counts):
            return gymnasium.spaces.MultiDiscrete(list(counts))
        case ContinuousActions(size=size):
            return gymnasium.spaces.Box(-1, 1, (size,), np.float32)


def _modalities(env: Environment) -> dict[str, ModalitySpec]:
    if env.has_wrapper_attr("modalities"):
        given: dict[str, ModalitySpec] = env.get_wrapper_attr("modalities")
        return dict(sorted(given.items(), key=lambda entry: entry[1].order))
    spaces = env.observation_space.spaces if isinstance(env.observation_space, gymnasium.spaces.Dict) else {}
    modalities: dict[str, ModalitySpec] = {}
    for name, space in spaces.items():
        if space.shape is not None and len(space.shape) == 3 and space.dtype == np.uint8:
            channels, height, width = space.shape
            modalities[name] = ImageSpec(height, width, channels)
    if not modalities or len(modalities) < len(spaces):
        raise UserError(
            f"{_name(env)} shows {brief(env.observation_space)}, not a Dict of uint8 pictures (C, Y, X); give it "
            "`modalities` (docs/modalities.md)."
        )
    return modalities


def _name(env: Environment) -> str:
    return f"the environment {type(env.unwrapped).__name__}"


def _actions(env: Environment) -> ActionSpec:
    match env.action_space:
        case gymnasium.spaces.Discrete(n=count):
            return DiscreteActions(int(count), action_meanings(env))
        case gymnasium.spaces.MultiDiscrete(nvec=counts):
            return MultiDiscreteActions(tuple(int(count) for count in counts))
        case gymnasium.spaces.Box() as box:
            if len(box.shape) != 1 or not ((box.low == -1).all() and (box.high == 1).all()):
                raise UserError(
                    f"{_name(env)} has actions {brief(box)}; continuous ones must be a vector in [-1, 1]: wrap it in "
                    "gymnasium.wrappers.RescaleAction."
                )
            return ContinuousActions(box.shape[0])
        case other:
            raise UserError(
                f"{_name(env)} has actions {brief(other)}; known are Discrete, MultiDiscrete and Box in [-1, 1]."
            )


def action_meanings(env: Environment) -> tuple[str, ...]:
    """Names of discrete actions.

    Raises:
        UserError: the environment has no ``action_meanings``.
    """
    if not env.has_wrapper_attr("action_meanings"):
        raise UserError(
            f"{_name(env)} has discrete actions but no `action_meanings`; give it this attribute: a tuple with the "
            "name of each action, such as ('noop', 'left', 'right')."
        )
    return tuple(env.get_wrapper_attr("action_meanings"))
