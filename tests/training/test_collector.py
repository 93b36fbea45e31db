"""Collection from scripted environments: what is stored, when the policy's state starts anew, what an exploring step
does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests import small
from tests.training import scripted
from tokenworlds.actor_critic import PolicyState
from tokenworlds.config import CollectionConfig
from tokenworlds.replay import ReplayBuffer
from tokenworlds.rng import RandomStreams
from tokenworlds.training.collector import AgentActor, Collected, Collector, RandomActor


def config(**changes: Any) -> CollectionConfig:
    return CollectionConfig(**({"num_envs": 1, "epsilon": 0.0, "temperature": 1.0, "burn_in": 2} | changes))


class Recorder:
    """Always plays action 1; its state is the number of observations since it was made."""

    def __init__(self) -> None:
        self.starts: list[int] = []  # steps in the buffer when a state was made
        self.seen: list[list[int]] = []
        self.states: list[int] = []

    def start(self, buffer: ReplayBuffer, num_envs: int) -> int:
        self.starts.append(buffer.num_steps)
        return 0

    def act(self, observations: dict[str, Tensor], state: int) -> tuple[Tensor, int]:
        self.seen.append(observations["image"][:, 0, 0, 0].tolist())
        self.states.append(state)
        return torch.ones(len(observations["image"]), dtype=torch.int64), state + 1


def collector(*lengths: list[int], seed: int = 0, **changes: Any) -> Collector:
    buffer = ReplayBuffer({"image": scripted.SHAPE}, 20, small.CPU)
    settings = config(num_envs=len(lengths), **changes)
    return Collector(scripted.vector(*lengths), buffer, settings, RandomStreams(seed, small.CPU), "train")


def stored(collector: Collector) -> list[list[int]]:
    """The pictures of every episode, by their number."""
    buffer = collector.buffer
    rows = [slice(start, start + length) for start, length in map(buffer.episode, range(buffer.num_episodes))]
    return [buffer.observations(some)["image"][:, 0, 0, 0].tolist() for some in rows]


def test_an_episode_goes_on_across_calls() -> None:
    training, actor = collector([5, 3]), Recorder()
    first = training.collect(actor, steps=4)
    assert (first.steps, first.returns) == (4, [])
    assert stored(training) == [[0, 1, 2, 3]] and training.buffer.has_open_episode
    second = training.collect(actor, steps=4)
    assert stored(training) == [[0, 1, 2, 3, 4], [10, 11, 12]] and not training.buffer.has_open_episode
    assert second.lengths == [5, 3]
    assert second.returns == pytest.approx([1 + 2 + 3 + 4 + 5 + 0.05, 1 + 2 + 3 + 0.03])  # of the whole episode
    assert second.steps == 4 and training.buffer.num_steps == 8


def test_the_observation_before_a_step_is_stored_with_it() -> None:
    training = collector([3])
    training.collect(Recorder(), steps=3)
    segment = training.buffer.segments(torch.tensor([0]), torch.tensor([0]), 3)
    assert segment.observations["image"][0, :, 0, 0, 0].tolist() == [0, 1, 2]
    assert segment.rewards[0].tolist() == pytest.approx([1.01, 2.01, 3.01])
    assert segment.ends[0].tolist() == [0, 0, 1] and segment.actions[0].tolist() == [1, 1, 1]


def test_the_state_starts_anew_with_every_call_and_every_episode() -> None:
    training, actor = collector([3, 4]), Recorder()
    training.collect(actor, steps=5)
    assert actor.states == [0, 1, 2, 0, 1] and actor.starts == [0, 3]
    training.collect(actor, steps=1)
    assert actor.states[-1] == 0 and actor.starts == [0, 3, 5]


def test_rounds_of_several_environments_wait_for_the_longest_and_drop_the_surplus() -> None:
    testing, actor = collector([2, 9], [4, 3]), Recorder()
    collected = testing.collect(actor, episodes=2)
    assert sorted(stored(testing)) == [[0, 1], [0, 1, 2, 3]]
    assert collected.lengths == [2, 4] and collected.steps == 2 + 4  # surplus steps are not counted
    assert len(actor.seen) == 4
    more = testing.collect(actor, episodes=1)  # whole rounds: two episodes
    assert len(more.returns) == 2


def test_the_round_after_a_surplus_starts_new_games() -> None:
    testing, actor = collector([2, 9, 2], [4]), Recorder()
    testing.collect(actor, episodes=4)
    assert stored(testing) == [[0, 1], [0, 1, 2, 3], [20, 21], [10, 11, 12, 13]]


class Recalling(AgentActor):
    """Remembers the states it started with."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.started: list[PolicyState] = []

    def start(self, buffer: ReplayBuffer, num_envs: int) -> PolicyState:
        self.started.append(super().start(buffer, num_envs))
        return self.started[-1]


def test_the_policy_is_warmed_up_with_the_last_frames_of_the_running_episode() -> None:
    training, agent = collector([9]), small.agent()
    actor = Recalling(agent, config(burn_in=2), small.generator())
    training.collect(actor, steps=5)
    assert not actor.started[0].hidden.any()
    training.collect(actor, steps=1)
    frames = torch.tensor([3, 4], dtype=torch.uint8)[:, None, None, None].expand(-1, *scripted.SHAPE)
    seen = agent.see(agent.encode({"image": frames})).unsqueeze(0)
    expected = agent.policy.burn_in(seen, torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2, dtype=torch.bool))
    assert torch.equal(actor.started[1].hidden, expected.hidden) and torch.equal(actor.started[1].cell, expected.cell)


def test_an_episode_shorter_than_the_burn_in_is_used_whole_and_a_finished_one_not_at_all() -> None:
    training, agent = collector([3]), small.agent()
    actor = Recalling(agent, config(burn_in=20), small.generator())
    training.collect(actor, steps=2)
    training.collect(actor, steps=1)  # ends the episode
    training.collect(actor, steps=1)
    assert [bool(state.hidden.any()) for state in actor.started] == [False, True, False, False]


def test_no_burn_in_is_the_zero_state() -> None:
    training = collector([9])
    actor = Recalling(small.agent(), config(burn_in=0), small.generator())
    training.collect(actor, steps=2)
    training.collect(actor, steps=1)
    assert not any(state.hidden.any() for state in actor.started)


def test_actions_are_sampled_by_the_given_generator_and_temperature() -> None:
    def actions(seed: int, temperature: float) -> list[int]:
        training = collector([50])
        actor = AgentActor(small.agent(), config(temperature=temperature), small.generator(seed))
        training.collect(actor, steps=12)
        return training.buffer.state()[0]["actions"].tolist()

    assert actions(0, 1.0) == actions(0, 1.0)
    assert len({tuple(actions(seed, 1.0)) for seed in range(4)}) > 1
    assert len({tuple(actions(seed, 1e-6)) for seed in range(4)}) == 1  # as cold as this it is the arg-max


def test_epsilon_replaces_all_actions_at_once() -> None:
    training = collector(*[[300]] * 3, epsilon=0.5)
    training.collect(Recorder(), steps=900)  # steps of all three
    actions = training.buffer.state()[0]["actions"].reshape(3, -1).numpy()
    explored = (actions != 1).any(axis=0)
    # an exploring step keeps all three at action 1 with probability 1/27
    assert 0.5 * 26 / 27 - 0.15 < explored.mean() < 0.5 * 26 / 27 + 0.15
    assert set(actions[:, explored].flatten()) == {0, 1, 2}
    assert (actions[:, explored] == 1).mean() < 0.45  # uniform: about a third


def test_epsilon_zero_draws_nothing() -> None:
    training = collector([50], epsilon=0.0)
    training.collect(Recorder(), steps=20)
    assert set(training.buffer.state()[0]["actions"].tolist()) == {1}


def test_exploration_does_not_stop_the_recurrent_state() -> None:
    training, actor = collector([50], epsilon=1.0), Recorder()
    training.collect(actor, steps=6)
    assert actor.states == list(range(6))


def test_the_random_policy_uses_all_actions_equally() -> None:
    training = collector([4000])
    training.collect(RandomActor(small.ACTIONS, small.generator()), steps=3000)
    counts = training.buffer.state()[0]["actions"].bincount(minlength=3)
    deviation = (3000 / 3 * 2 / 3) ** 0.5
    assert ((counts - 1000).abs() < 5 * deviation).all()


def test_progress_counts_steps_or_episodes() -> None:
    ticks: list[int] = []
    collector([3]).collect(Recorder(), steps=4, tick=ticks.append)
    assert ticks == [1, 2, 3, 4]
    ticks.clear()
    collector([2]).collect(Recorder(), episodes=2, tick=ticks.append)
    assert ticks[-1] <= 2 and max(ticks) >= 1


def test_a_saved_collector_continues_the_running_episode() -> None:
    training = collector([5, 6], epsilon=0.3)
    training.collect(Recorder(), steps=7)
    tensors, state = training.state()
    tensors = {key: value.clone() for key, value in tensors.items()}
    resumed = collector([5, 6], epsilon=0.3)
    resumed.load_state(tensors, state)
    observations = resumed.observations
    assert observations is not None and training.observations is not None
    assert resumed._return == training._return != 0
    # a scripted episode is replayed on a fresh environment, which counts episodes from its own start
    assert int(observations["image"].flat[0]) % 10 == int(training.observations["image"].flat[0]) % 10 == 2


def test_a_collector_that_has_not_played_has_nothing_to_save() -> None:
    tensors, state = collector([5]).state()
    assert tensors == {} and state == {"environments": [], "return": 0.0}
    fresh = collector([5])
    fresh.load_state(tensors, state)
    assert fresh.observations is None


def test_collected_starts_empty() -> None:
    assert Collected() == Collected(0, [], [])
