"""A world model stepped from outside."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import small
from tests.agents.test_imagination import AGENTS
from tokenworlds.agents.base import Agent
from tokenworlds.agents.consistency import ConsistencyAgent
from tokenworlds.agents.imagination import ImaginationNoise, imagine
from tokenworlds.agents.imagined_world import ImaginedWorld
from tokenworlds.replay import Segments
from tokenworlds.world_models.base import StepNoise

BATCH = 3
UNLIMITED = 10**6


@pytest.fixture(scope="module", params=AGENTS)
def agent(request: pytest.FixtureRequest) -> Agent:
    return AGENTS[request.param]().eval()


def segments_for(agent: Agent, length: int = 3) -> Segments:
    buffer = small.buffer([length] * BATCH, spec=small.spec_of(agent))
    return buffer.segments(torch.arange(BATCH), torch.zeros(BATCH, dtype=torch.int64), length)


def world_of(agent: Agent, memory: int = UNLIMITED, temperature: float = 1.0, seed: int = 0) -> ImaginedWorld:
    world = ImaginedWorld(agent, small.generator(seed), memory, temperature)
    world.begin(segments_for(agent))
    return world


def some_actions(agent: Agent, steps: int) -> list[torch.Tensor]:
    spec = small.spec_of(agent).actions
    generator = np.random.default_rng(0)
    return [torch.from_numpy(np.asarray(spec.random(generator, BATCH))) for _ in range(steps)]


def test_it_imagines_what_the_policy_imagines(agent: Agent) -> None:
    """The same context, uniforms and actions: the same policy inputs and terminations."""
    segments, horizon = segments_for(agent), 4
    noise = ImaginationNoise.sample(horizon, agent.num_draws, BATCH, small.generator(1), agent.policy.actions.draws)
    state = agent.burn_in(segments.steps(slice(None, -1)))
    imagined = imagine(agent, agent.context(segments), state, noise)
    world = world_of(agent)
    for t in range(horizon - 1):
        step = world.step(imagined.actions[:, t], noise.step(t))
        torch.testing.assert_close(agent.observe_imagined(world.state), imagined.observations[:, t + 1], rtol=0, atol=0)
        assert torch.equal(step.terminations, imagined.terminations[:, t])
        if not getattr(agent.world_model, "ensemble", None):
            assert torch.equal(step.rewards, imagined.rewards[:, t])


def test_training_goes_on_in_its_own_mode(agent: Agent) -> None:
    before = agent.world_model.mode
    world_of(agent, temperature=0.0).step(some_actions(agent, 1)[0])
    assert agent.world_model.mode is before


def test_at_temperature_0_the_uniforms_do_not_matter(agent: Agent) -> None:
    worlds = [world_of(agent, temperature=0.0, seed=seed) for seed in range(2)]
    for actions in some_actions(agent, 3):
        first, second = (world.step(actions) for world in worlds)
        assert torch.equal(first.tokens, second.tokens) and torch.equal(first.terminations, second.terminations)


def test_the_memory_ends_and_the_episode_goes_on(agent: Agent) -> None:
    """Restarts come after memory - context steps, then at the same distance; frames never exceed the memory."""
    memory = agent.context_frames + 2
    world = world_of(agent, memory)
    restarts = []
    for index, actions in enumerate(some_actions(agent, 9)):
        restarts += [index] if world.step(actions).has_restarted else []
        assert world.frames <= memory
    if isinstance(agent, ConsistencyAgent):  # nothing is ever forgotten
        assert not restarts and world.frames == memory
        return
    assert restarts, "the memory never ended"
    distance = memory - agent.frames_after_restart
    assert all(after - before <= distance for before, after in pairwise(restarts))
    assert restarts[0] <= memory - agent.context_frames


BLOCKS = 7  # for which a backbone has room: frames, of Delta-IRIS what is between them
WITH_CONTEXT: dict[str, Callable[[int], Agent]] = {
    "rem": cache(lambda frames: small.rem_agent(context=frames, max_blocks=BLOCKS)),
    "delta_iris": cache(lambda frames: small.delta_agent(context_frames=frames, max_blocks=BLOCKS)),
}


@given(st.sampled_from(list(WITH_CONTEXT)), st.integers(1, 4), st.integers(1, 9), st.integers(0, 16))
@settings(deadline=None, max_examples=20)
def test_restarts_follow_from_memory_and_context(name: str, context: int, more: int, steps: int) -> None:
    """The first one when the memory, or the backbone, is full of the context and what followed; the others at one
    distance."""
    agent = WITH_CONTEXT[name](context)
    memory = context + more
    world = ImaginedWorld(agent, small.generator(), memory)
    world.begin(segments_for(agent, length=5))
    restarts, frames = [], [world.frames]
    for index in range(steps):
        restarts += [index] if world.step(torch.zeros(BATCH, dtype=torch.int64)).has_restarted else []
        frames.append(world.frames)
    room = min(memory, BLOCKS + (name == "delta_iris"))
    assert restarts == list(range(room - context, steps, room - agent.frames_after_restart))
    assert frames[0] == context and max(frames) <= room


def test_a_restart_reads_the_last_frames_again(agent: Agent) -> None:
    """What follows a restart equals what follows in a new world that begins with the remembered frames."""
    actions = some_actions(agent, 6)
    memory = agent.context_frames + 2
    world = world_of(agent, memory)
    for some in actions:
        before = world.state
        noise = world._draw(BATCH)
        if world.step(some, noise).has_restarted and world.frames == agent.frames_after_restart + 1:
            fresh = world_of(agent)
            fresh.state = agent.restart(before)
            fresh.step(some, noise)
            torch.testing.assert_close(fresh.pictures(), world.pictures(), rtol=0, atol=0)
            return
    assert isinstance(agent, ConsistencyAgent), "no restart"


def test_observations_have_the_form_of_real_ones(agent: Agent) -> None:
    world = world_of(agent)
    world.step(some_actions(agent, 1)[0])
    for name, values in world.observations().items():
        part = small.spec_of(agent).observation[name]
        assert values.shape == (BATCH, *part.shape)
        assert values.dtype.is_floating_point == (part.dtype.kind == "f")


def test_rows_are_replaced_and_the_others_go_on(agent: Agent) -> None:
    """The others from their last frames, as after a restart; the new ones as if they had begun there."""
    rows, noise, actions = torch.tensor([1]), world_of(agent)._draw(BATCH), some_actions(agent, 3)
    worlds = [world_of(agent) for _ in range(2)]
    for some in actions[:2]:
        for world in worlds:
            world.step(some)
    replaced, untouched = worlds
    spec = small.spec_of(agent)
    new = small.buffer([5], spec=spec, seed=7).segments(torch.zeros(1, dtype=int), torch.ones(1, dtype=int), 3)
    fresh = ImaginedWorld(agent, small.generator(), UNLIMITED)
    fresh.begin(new)
    replaced.replace(rows, new)

    def assert_rows() -> None:
        torch.testing.assert_close(replaced.pictures()[[0, 2]], untouched.pictures()[[0, 2]])
        torch.testing.assert_close(replaced.pictures()[rows], fresh.pictures())

    assert_rows()
    fresh.state, untouched.state = agent.restart(fresh.state), agent.restart(untouched.state)
    untouched.step(actions[2], noise)
    alone = StepNoise(noise.reward[rows], noise.end[rows], noise.tokens[:, rows])
    fresh.step(actions[2][rows], alone)
    step = replaced.step(actions[2], noise)
    assert step.has_restarted != isinstance(agent, ConsistencyAgent)
    assert replaced.frames == (agent.frames_after_restart + 1 if step.has_restarted else UNLIMITED)
    assert_rows()
    assert not replaced.step(actions[0]).has_restarted
