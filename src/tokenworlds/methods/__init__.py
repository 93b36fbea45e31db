"""The methods: each composes an agent and says how its components are trained."""

from typing import Protocol

from tokenworlds.agent import Agent
from tokenworlds.config import RunConfig
from tokenworlds.envs.spec import EnvironmentSpec
from tokenworlds.errors import UserError, near_matches
from tokenworlds.methods import token_agent
from tokenworlds.replay import ReplayBuffer
from tokenworlds.rng import RandomStreams
from tokenworlds.training.phase import Phase


class Method(Protocol):
    """What a module of this package provides."""

    def build_agent(self, config: RunConfig, spec: EnvironmentSpec) -> Agent: ...

    def build_phases(
        self, config: RunConfig, agent: Agent, buffer: ReplayBuffer, streams: RandomStreams
    ) -> list[Phase]: ...


METHODS: dict[str, Method] = {"iris": token_agent, "rem": token_agent}


def get(name: str) -> Method:
    if name not in METHODS:
        raise UserError(f"unknown method '{name}': {near_matches(name, METHODS)}")
    return METHODS[name]
