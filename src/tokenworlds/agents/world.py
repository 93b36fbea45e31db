"""What a policy is rolled out in: the world that an agent imagines, or the environment in the place of this
(``oracle``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from tokenworlds.actor_critic import Policy
from tokenworlds.world_models.base import StepNoise


class World(ABC):
    """The types of contexts and states are its own. (No protocol: at run time Python 3.12 and newer do not find in a
    module the submodules that a protocol asks for.)"""

    policy: Policy

    @abstractmethod
    def first_input(self, context: Any) -> Float[Tensor, "B *input"]:
        """The first policy input of a rollout from a context."""

    @abstractmethod
    def start(self, context: Any) -> Any:
        """The state after a context."""

    @abstractmethod
    def observe_imagined(self, state: Any) -> Float[Tensor, "B *input"]:
        """Policy inputs of the current observation of a rollout."""

    @abstractmethod
    def step(
        self, state: Any, actions: Tensor, noise: StepNoise, *, predict_observation: bool = True
    ) -> tuple[Any, Float[Tensor, "B"], Int[Tensor, "B"]]:
        """The next state, rewards and terminations."""
