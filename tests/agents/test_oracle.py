"""Copies of the real environment in the world model's place: what the policy meets there, where rollouts begin, and
that an epoch can be repeated."""

from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import small
from tokenworlds.actor_critic import Trajectory
from tokenworlds.agents.imagination import ImaginationNoise
from tokenworlds.agents.oracle import EnvironmentCopies
from tokenworlds.agents.token import TokenAgent
from tokenworlds.config import EnvironmentConfig
from tokenworlds.envs import EnvironmentFactory, Recorded
from tokenworlds.rng import derive_seed

COUNT, HORIZON, BURN_IN, SEED = 3, 4, 5, 7
CONFIG = EnvironmentConfig(
    size=small.RESOLUTION, noop_max=0, max_episode_steps=7
)  # rollouts cross the ends of episodes
FACTORY = EnvironmentFactory("minigrid/Empty-Random-5x5", CONFIG)


def copies(agent: TokenAgent, seed: int = SEED, factory: object = FACTORY) -> EnvironmentCopies:
    return EnvironmentCopies(agent, factory, COUNT, BURN_IN, seed, workers=False)


def noise_of(agent: TokenAgent, seed: int) -> ImaginationNoise:
    draws = agent.policy.actions.draws
    return ImaginationNoise.sample(HORIZON, agent.num_tokens, COUNT, small.generator(seed), draws)


def rolled(agent: TokenAgent, times: int, epoch: int = 1, seed: int = SEED) -> list[Trajectory]:
    oracle = copies(agent, seed)
    oracle.refresh(epoch)
    return [oracle.roll(noise_of(agent, index))[1] for index in range(times)]


@dataclass
class Steps:
    """What an environment shows before, and gives for, each of T actions; and the observation after them."""

    frames: list[np.ndarray]
    rewards: list[float]
    ends: list[bool]
    begins: list[int]  # steps at which an episode begins


def played(env: Recorded, seed: int, actions: Tensor) -> Steps:
    """An environment alone, which begins the next episode after an end."""
    seen = Steps([env.reset(seed=seed)[0]["image"]], [], [], [0])
    for action in actions.tolist():
        observation, reward, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            observation, _ = env.reset()
            seen.begins.append(len(seen.frames))
        seen.frames.append(observation["image"])
        seen.rewards.append(reward)
        seen.ends.append(terminated or truncated)
    return seen


def assert_equal(one: Trajectory, other: Trajectory) -> None:
    for field in fields(Trajectory):
        assert torch.equal(getattr(one, field.name), getattr(other, field.name)), field.name


def test_a_policy_meets_the_environment_through_the_tokenizer_and_goes_on_where_it_was() -> None:
    agent, times = small.agent(), 4
    oracle = copies(agent)
    oracle.refresh(3)
    rollouts = [oracle.roll(noise_of(agent, index)) for index in range(times)]
    steps = HORIZON - 1
    crossed = 0
    for index in range(COUNT):
        # The last action of a rollout is not carried out
        taken = torch.cat([trajectory.actions[index, :-1] for _, trajectory in rollouts])
        alone = played(FACTORY(), derive_seed(SEED, f"oracle/3/{index}") % 2**31, taken)
        inputs = agent.observe({"image": torch.from_numpy(np.stack(alone.frames))})
        for number, (state, trajectory) in enumerate(rollouts):
            first = number * steps
            torch.testing.assert_close(trajectory.observations[index], inputs[first : first + HORIZON])
            assert trajectory.rewards[index].tolist() == np.sign(alone.rewards[first : first + steps]).tolist()
            assert trajectory.terminations[index].tolist() == alone.ends[first : first + steps]
            # Burnt in on the last frames of the running episode
            begin = max(max(at for at in alone.begins if at <= first), first - BURN_IN)
            own = slice(begin, first)
            mask = torch.ones(1, first - begin, dtype=torch.bool)
            expected = agent.policy.burn_in(inputs[own].unsqueeze(0), taken[own].unsqueeze(0), mask)
            torch.testing.assert_close(state.hidden[index], expected.hidden[0])
            torch.testing.assert_close(state.cell[index], expected.cell[0])
        crossed += len(alone.begins) - 1
    assert crossed >= COUNT, "the test needs episodes that end within a rollout"
    assert oracle.steps == times * steps * COUNT


def test_rewards_are_reduced_to_their_sign() -> None:
    class Generous(Recorded):
        def step(self, action: object) -> tuple[object, float, bool, bool, dict[str, object]]:
            observation, _, *rest = super().step(action)
            return observation, -3.5 if action else 2.5, *rest

    agent = small.agent()
    oracle = copies(agent, factory=lambda: Generous(FACTORY().env))
    oracle.refresh(1)
    _, trajectory = oracle.roll(noise_of(agent, 0))
    assert trajectory.rewards.dtype is torch.float32 and trajectory.actions[:, :-1].unique().numel() > 1
    assert torch.equal(trajectory.rewards, torch.where(trajectory.actions[:, :-1] == 0, 1.0, -1.0))


def test_an_epoch_can_be_repeated_and_is_no_other() -> None:
    agent = small.agent()
    first = rolled(agent, 3)
    for one, other in zip(first, rolled(agent, 3)):
        assert_equal(one, other)
    starts = [rolled(agent, 1, *other)[0].observations[:, 0] for other in ((2, SEED), (1, SEED + 1))]
    assert all(not torch.equal(first[0].observations[:, 0], start) for start in starts)


def test_a_new_epoch_forgets_where_the_copies_stood() -> None:
    agent = small.agent()
    oracle = copies(agent)
    for _ in range(2):
        oracle.refresh(5)
        state, trajectory = oracle.roll(noise_of(agent, 0))
        assert not state.hidden.any()
        assert_equal(trajectory, rolled(agent, 1, epoch=5)[0])


def test_steps_are_counted_across_a_resume() -> None:
    agent = small.agent()
    oracle, resumed = copies(agent), copies(agent)
    oracle.refresh(1)
    oracle.roll(noise_of(agent, 0))
    resumed.load_state(oracle.state())
    resumed.refresh(2)
    resumed.roll(noise_of(agent, 1))
    assert resumed.steps == 2 * (HORIZON - 1) * COUNT


@pytest.mark.parametrize("burn_in", [0, 1])
def test_a_short_burn_in_is_possible(burn_in: int) -> None:
    agent = small.agent()
    oracle = EnvironmentCopies(agent, FACTORY, COUNT, burn_in, SEED, workers=False)
    oracle.refresh(1)
    states = [oracle.roll(noise_of(agent, index))[0] for index in range(2)]
    assert bool(states[1].hidden.any()) == (burn_in > 0)
