"""What a policy is rolled out in: the world that an agent imagines, or the environment in the place of this
(``oracle``)."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from tokenworlds.actor_critic import Policy
from tokenworlds.world_models.base import StepNoise


@runtime_checkable
class World(Protocol):
    """The part of an agent (``base.Agent``, which says what each method returns) that a rollout uses."""

    @property
    def policy(self) -> Policy: ...
    def start(self, context: Any) -> Any: ...
    def first_input(self, context: Any) -> Tensor: ...
    def observe_imagined(self, state: Any) -> Tensor: ...
    def step(
        self, state: Any, actions: Tensor, noise: StepNoise, *, predict_observation: bool = True
    ) -> tuple[Any, Tensor, Tensor]: ...
