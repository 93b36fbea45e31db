"""Frames a second of an agent and of its world model at published size, as when somebody watches or plays.

    python -m benchmarks.play [--method rem ...] [--seconds N] [--threads N] [--device cuda] [--without-environment]

One episode, random weights: they cost the same. Prints the frames a second of the median step, its milliseconds with
quartiles, and how many steps were timed. The environments are Breakout, Crafter, and the walker of M3's vectors.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.phases import AGENTS, Phases, build
from benchmarks.timing import Work, command_line, machine, once, parse
from tokenworlds.agents.actor import AgentActor
from tokenworlds.agents.delta import DeltaAgent
from tokenworlds.agents.imagined_world import ImaginedWorld, published_memory
from tokenworlds.envs import DiscreteActions, EnvironmentFactory, VectorEnvironment

WARM_UP = 3  # steps


class Played:
    """What happens in one step of each way to play."""

    def __init__(self, phases: Phases) -> None:
        self.phases, self.agent, self.device = phases, phases.agent.eval(), phases.device
        self.actor = AgentActor(self.agent, phases.config.collection.test, phases.generator)
        # a context, and one frame more for the transition that delta tokens encode
        first = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.segments = phases.replay.segments(first, first, max(2, self.agent.context_frames))
        self.world = ImaginedWorld(self.agent, phases.generator, published_memory(phases.config))
        self.world.begin(self.segments)

    def all(self, *, with_environment: bool) -> dict[str, Callable[[], Work]]:
        works: dict[str, Callable[[], Work]] = {"agent acts": self.phases.act}
        if with_environment:
            works |= {"agent in environment": lambda: self.in_environment(is_imagined=False)}
            works |= {"real and imagined side by side": lambda: self.in_environment(is_imagined=True)}
        return works | {
            "human in world model": lambda: self.dream(self.segments.actions[:, 0]),
            "agent in world model": self.agent_in_world_model,
            "one frame reconstructed": self.reconstruction,
        }

    def dream(self, actions: Tensor) -> Work:
        """A step of the world model, and its picture."""

        def work() -> Tensor:
            self.world.step(actions)
            return self.world.pictures()

        return work

    @torch.no_grad()
    def agent_in_world_model(self) -> Work:
        policy = self.agent.policy
        state = policy.actor_state(policy.initial_state(1))
        uniforms = torch.rand(policy.actions.draws, 1, generator=self.phases.generator, device=self.device)

        @torch.no_grad()
        def work() -> Tensor:
            nonlocal state
            logits, state = policy.act(self.agent.observe_imagined(self.world.state), state)
            actions = policy.actions.sample(logits, uniforms)
            state = policy.step_action(actions, state)
            self.world.step(actions)
            return self.world.pictures()

        return work

    def in_environment(self, *, is_imagined: bool) -> Work:
        """The agent's action and the environment's step; side by side also that of the world model, with a picture."""
        config = self.phases.config
        envs = VectorEnvironment([EnvironmentFactory(config.task, config.environment.test)], workers=False)
        envs.reset([0])
        state: Any = self.actor.restart(1)

        def work() -> object:
            nonlocal state
            if envs.finished.all():
                envs.reset()
                state = self.actor.restart(1)
            seen = {name: torch.from_numpy(values).to(self.device) for name, values in envs.observations.items()}
            actions, state = self.actor.act(seen, state)
            chosen = actions.cpu().numpy()
            if isinstance(envs.spec.actions, DiscreteActions):  # the agents have those of the largest game
                chosen = chosen % envs.spec.num_actions
            result = envs.step(chosen)
            return self.dream(actions)() if is_imagined else result

        return work

    def reconstruction(self) -> Work:
        last = self.segments.steps(slice(-2 if isinstance(self.agent, DeltaAgent) else -1, None))

        @torch.no_grad()
        def work() -> object:
            return self.agent.reconstruct(last)

        return work


def step_seconds(work: Work, seconds: float, device: torch.device) -> Iterator[float]:
    """Seconds of each step, for so long and at least four steps, after a warm-up."""
    for _ in range(WARM_UP):
        work()
    end, count = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or count < 4:
        yield once(work, device)
        count += 1


def main() -> int:
    parser = command_line(".play", __doc__, 1, device=True)
    parser.add_argument("--method", choices=AGENTS, nargs="+", default=list(AGENTS))
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement (default 4)")
    parser.add_argument("--without-environment", action="store_true")
    options = parse(parser)
    print(f"{options.threads} threads, {machine(options.device)}")
    for method in options.method:
        played = Played(build(method, options.device))
        for name, make in played.all(with_environment=not options.without_environment).items():
            times = list(step_seconds(make(), options.seconds, options.device))
            quartiles = [1000 * value for value in statistics.quantiles(times, n=4)]
            print(
                f"{method:18s} {name:32s} {1000 / quartiles[1]:7.1f} frames/s  {quartiles[1]:7.1f} ms "
                f"({quartiles[0]:.1f} to {quartiles[2]:.1f}), {len(times)} steps",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
