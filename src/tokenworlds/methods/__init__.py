"""The methods: each composes an agent and says how its components are trained."""

from collections.abc import Iterator
from typing import Any, Protocol

from tokenworlds.agents import Agent
from tokenworlds.envs.spec import EnvironmentSpec
from tokenworlds.errors import UserError, near_matches
from tokenworlds.losses import Losses
from tokenworlds.methods import delta as delta_agent
from tokenworlds.methods import token as token_agent
from tokenworlds.methods.component import Phase
from tokenworlds.replay import ReplayBuffer
from tokenworlds.rng import RandomStreams


class Method(Protocol):
    """What a module of this package provides; each takes the configuration and the agent of its own methods."""

    def build_agent(self, config: Any, spec: EnvironmentSpec) -> Agent: ...

    def build_phases(self, config: Any, agent: Any, buffer: ReplayBuffer, streams: RandomStreams) -> list[Phase]: ...

    def held_out(self, config: Any, agent: Any, buffer: ReplayBuffer, component: str) -> Iterator[Losses]:
        """Losses of ``component``, tokenizer or world_model, on the steps of ``buffer``."""
        ...

    def lead(self, config: Any) -> int:
        """Steps of an episode that stand before the first frame that imagination may start from."""
        ...


METHODS: dict[str, Method] = {
    "iris": token_agent,
    "rem": token_agent,
    "delta_iris": delta_agent,
    "m3": token_agent,
}


def get(name: str) -> Method:
    if name not in METHODS:
        raise UserError(f"unknown method '{name}': {near_matches(name, METHODS)}")
    return METHODS[name]
