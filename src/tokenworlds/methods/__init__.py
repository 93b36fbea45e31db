"""The methods: each composes an agent and trains its components."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any, Protocol, cast

from tokenworlds.agents.base import Agent
from tokenworlds.envs.spec import EnvironmentSpec
from tokenworlds.errors import UserError, near_matches
from tokenworlds.losses import Losses
from tokenworlds.methods.component import ComponentTrainer
from tokenworlds.replay import ReplayBuffer
from tokenworlds.rng import RandomStreams


class Method(Protocol):
    """The functions of a module of this package, for the configurations and agents of its own methods."""

    __name__: str

    def build_agent(self, config: Any, spec: EnvironmentSpec) -> Agent: ...

    def build_components(
        self, config: Any, agent: Any, buffer: ReplayBuffer, streams: RandomStreams
    ) -> list[ComponentTrainer]:
        """The components in the order in which an epoch trains them."""
        ...

    def held_out(
        self, config: Any, agent: Any, buffer: ReplayBuffer, component: str, only: Iterable[int] | None = None
    ) -> Iterator[Losses]:
        """Losses of ``component``, tokenizer or world_model, on the steps of ``only`` these episodes of ``buffer``
        (by default all), batch after batch."""
        ...

    def min_context(self, config: Any) -> int:
        """Steps of an episode before the first frame that imagination may start from."""
        ...


METHODS = {"iris": "token", "rem": "token", "delta_iris": "delta", "m3": "token"}
"""The module of each method; a run imports its own alone."""


def get(name: str) -> Method:
    """The module of a method.

    Raises:
        UserError: there is no such method.
    """
    if name not in METHODS:
        raise UserError(f"unknown method '{name}': {near_matches(name, METHODS)}")
    return cast(Method, import_module(f"{__name__}.{METHODS[name]}"))
