"""Sessions of untrained agents of all methods in a small grid world."""

from pathlib import Path
from typing import Any

import torch

from tests import small
from tests.methods.support import OVERRIDES, build_agent, configure
from tokenworlds import envs
from tokenworlds.loading import TrainedAgent
from tokenworlds.viewer.base import BaseSession
from tokenworlds.viewer.frame import Frame, Input
from tokenworlds.viewer.session import Options, Session

METHODS = list(OVERRIDES)
TASKS = {"m3": "minigrid_mixed/Empty-5x5"}
NOTHING = Input()


def trained(method: str, task: str | None = None, folder: Path = Path("run")) -> TrainedAgent:
    """An agent with weights as initialised."""
    config = configure(method, f"task={task or TASKS.get(method, 'minigrid/Empty-5x5')}")
    with envs.make(config.task, config.environment.test) as environment:
        spec = environment.environment_spec
    agent = build_agent(config, spec).eval()
    small.spread(agent.policy.actor)
    return TrainedAgent(folder, config, spec, agent, small.CPU, None)


def session(method: str, folder: Path, **options: Any) -> Session:
    torch.manual_seed(99)  # of nothing that a session draws
    return Session(trained(method), Options(folder, **options))


def play(played: BaseSession, ticks: int, given: Input = NOTHING) -> list[Frame]:
    return [frame for frame in (played.tick(given) for _ in range(ticks)) if frame is not None]


def tell(played: BaseSession, *messages: Any) -> None:
    for message in messages:
        played.command(message)
