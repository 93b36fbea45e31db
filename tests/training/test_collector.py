"""Collection from scripted environments: stored steps, rounds, burn-in of the policy, exploration, resuming."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from tests import small
from tests.training import scripted
from tokenworlds.actor_critic import PolicyState
from tokenworlds.agents.actor import AgentActor
from tokenworlds.config import CollectionConfig
from tokenworlds.envs import Recorded, VectorEnvironment
from tokenworlds.errors import UserError
from tokenworlds.replay import ReplayBuffer
from tokenworlds.rng import RandomStreams
from tokenworlds.training.collector import Collector, EpisodeStats, RandomActor


def config(**changes: Any) -> CollectionConfig:
    return CollectionConfig(**({"num_envs": 1, "epsilon": 0.0, "temperature": 1.0, "burn_in": 2} | changes))


class Recorder:
    """Always plays action 1; its state is the number of observations since it was made."""

    def __init__(self) -> None:
        self.starts: list[tuple[int, Sequence[int | None]]] = []  # steps and running episodes when a call began
        self.restarts = 0
        self.seen: list[list[int]] = []
        self.states: list[int] = []

    def start(self, buffer: ReplayBuffer, episodes: Sequence[int | None]) -> int:
        self.starts.append((buffer.num_steps, episodes))
        return 0

    def restart(self, num_envs: int) -> int:
        self.restarts += 1
        return 0

    def act(self, observations: dict[str, Tensor], state: int) -> tuple[Tensor, int]:
        self.seen.append(observations["image"][:, 0, 0, 0].tolist())
        self.states.append(state)
        return torch.ones(len(observations["image"]), dtype=torch.int64), state + 1


def collector(
    *lengths: list[int],
    seed: int = 0,
    environment: dict[str, Any] | None = None,
    truncation_is_end: bool = True,
    **changes: Any,
) -> Collector:
    envs = scripted.vector(*lengths, **(environment or {}))
    buffer = ReplayBuffer(envs.spec, 20, small.CPU)
    settings, streams = config(num_envs=len(lengths), **changes), RandomStreams(seed, small.CPU)
    return Collector(envs, buffer, settings, streams, "train", truncation_is_end)


def stored(collector: Collector) -> list[list[int]]:
    """The pictures of every episode, by their number."""
    buffer = collector.buffer
    rows = map(buffer.episode_rows, range(buffer.num_episodes))
    return [buffer.observations(some)["image"][:, 0, 0, 0].tolist() for some in rows]


def test_an_episode_goes_on_across_calls() -> None:
    training, actor = collector([5, 3]), Recorder()
    first = training.collect(actor, steps=4)
    assert (first.steps, first.returns) == (4, [])
    assert stored(training) == [[0, 1, 2, 3]] and training.buffer.open_episode() == 0
    second = training.collect(actor, steps=4)
    assert stored(training) == [[0, 1, 2, 3, 4], [10, 11, 12]] and training.buffer.open_episode() is None
    assert second.lengths == [5, 3]
    assert second.returns == pytest.approx([1 + 2 + 3 + 4 + 5 + 0.05, 1 + 2 + 3 + 0.03])  # of the whole episode
    assert second.steps == 4 and training.buffer.num_steps == 8


def test_the_observation_before_a_step_is_stored_with_it() -> None:
    training = collector([3])
    training.collect(Recorder(), steps=3)
    segment = training.buffer.segments(torch.tensor([0]), torch.tensor([0]), 3)
    assert segment.observations["image"][0, :, 0, 0, 0].tolist() == [0, 1, 2]
    assert segment.rewards[0].tolist() == pytest.approx([1.01, 2.01, 3.01])
    assert segment.terminations[0].tolist() == [0, 0, 1] and segment.actions[0].tolist() == [1, 1, 1]


def test_the_state_starts_anew_with_every_call_and_every_episode() -> None:
    training, actor = collector([3, 4]), Recorder()
    training.collect(actor, steps=5)
    assert actor.states == [0, 1, 2, 0, 1] and actor.starts == [(0, [None])] and actor.restarts == 1
    training.collect(actor, steps=1)
    assert actor.states[-1] == 0 and actor.starts[1:] == [(5, [1])] and actor.restarts == 1


def test_final_observations_are_stored_behind_the_last_steps() -> None:
    """Of finished episodes; they are no steps."""
    training = collector([3, 4], [1, 9], final_observation=True)
    result = training.collect(Recorder(), steps=6)
    assert stored(training) == [[0, 1, 2, 3], [0, 1], [10], [10]]
    assert (result.steps, result.lengths, training.buffer.num_steps) == (6, [3, 1], 6)
    assert result.returns == pytest.approx([6.03, 1.01])
    entries = training.buffer.segments(torch.tensor([0, 1]), torch.tensor([0, 0]), 4)
    assert entries.terminations.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    assert entries.actions.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]] and entries.rewards[0, 3] == 0
    training.collect(Recorder(), steps=3 + 1)  # the one ends, and waits
    assert stored(training)[2:] == [[10, 11, 12], [10, 11, 12]]
    training.collect(Recorder(), steps=2)
    assert stored(training)[2:] == [[10, 11, 12, 13, 14], [10, 11, 12, 13]]


@pytest.mark.parametrize("is_end", [True, False])
@pytest.mark.parametrize("has_final", [True, False])
def test_a_time_limit_closes_an_episode_and_may_count_as_an_end(is_end: bool, has_final: bool) -> None:
    environment = {"truncates": True}
    training = collector([2, 3], environment=environment, truncation_is_end=is_end, final_observation=has_final)
    result = training.collect(Recorder(), steps=5)
    assert result.lengths == [2, 3] and training.buffer.num_episodes == 2
    entries = training.buffer.segments(torch.tensor([0, 1]), torch.tensor([0, 0]), 4)
    assert entries.terminations.tolist() == [[0, int(is_end), 0, 0], [0, 0, int(is_end), 0]]
    assert entries.mask.sum(dim=1).tolist() == [2 + has_final, 3 + has_final]


def test_rounds_of_several_environments_wait_for_the_longest() -> None:
    testing, actor = collector([2, 9], [4, 3]), Recorder()
    collected = testing.collect(actor, episodes=2)
    assert sorted(stored(testing)) == [[0, 1], [0, 1, 2, 3]]
    assert collected.lengths == [2, 4] and collected.steps == 2 + 4  # waiting is not counted
    assert actor.seen == [[0, 0], [1, 1], [2, 2], [2, 3]]
    more = testing.collect(actor, episodes=1)  # whole rounds: two episodes
    assert len(more.returns) == 2


def test_several_running_episodes_go_on_across_calls() -> None:
    training, actor = collector([5, 2], [3, 4]), Recorder()
    assert training.collect(actor, steps=4).returns == []
    assert stored(training) == [[0, 1], [0, 1]]
    assert [training.buffer.open_episode(stream) for stream in (0, 1)] == [0, 1]
    assert training.collect(actor, steps=3).returns == []  # the second environment finishes, and waits
    assert stored(training) == [[0, 1, 2, 3], [0, 1, 2]] and training.buffer.open_episode(1) is None
    ended = training.collect(actor, steps=2)  # the round is over, a new one begins
    assert stored(training) == [[0, 1, 2, 3, 4], [0, 1, 2], [10], [10]]
    assert ended.lengths == [5, 3] and ended.returns == pytest.approx([15.05, 6.03])
    assert [episodes for _, episodes in actor.starts] == [[None, None], [0, 1], [0, 1]]
    assert [seen[1] for seen in actor.seen] == [0, 1, 2, 3, 3, 10] and actor.restarts == 1


def test_steps_beyond_those_asked_for_are_taken_off_the_next_call() -> None:
    training = collector([50], [50], [50])
    assert training.collect(Recorder(), steps=4).steps == 6
    assert training.collect(Recorder(), steps=4).steps == 3  # two were missing
    assert training.collect(Recorder(), steps=4).steps == 3
    assert training.collect(Recorder(), steps=3).steps == 3
    assert training.buffer.num_steps == 15 == 4 + 4 + 4 + 3


def test_a_call_may_ask_for_no_more_than_is_there() -> None:
    training, actor = collector([50], [50], [50]), Recorder()
    training.collect(actor, steps=1)
    assert training.collect(actor, steps=1).steps == 0
    assert training.collect(actor, steps=1).steps == 0 and len(actor.seen) == 1
    assert training.collect(actor, steps=2).steps == 3


@pytest.mark.parametrize(("num_envs", "steps"), [(1, 3), (3, 1), (4, 6), (16, 10)])
def test_no_more_is_ever_played_than_a_step_of_all_environments_beyond_what_was_asked_for(
    num_envs: int, steps: int
) -> None:
    training = collector(*[[50]] * num_envs)
    for call in range(1, 13):
        training.collect(Recorder(), steps=steps)
        assert steps * call <= training.buffer.num_steps < steps * call + num_envs


class Achieving(scripted.Scripted):
    """Unlocks the number of its episode, and with every step one more thing."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, end, truncated, info = super().step(action)
        return (
            observation,
            reward,
            end,
            truncated,
            info | ({"achievements": [f"episode {self._episode}"]} if end else {}),
        )


def test_the_achievements_of_each_episode_are_reported() -> None:
    members = [lambda lengths=lengths: Recorded(Achieving(lengths)) for lengths in ([1, 2], [3])]
    buffer = ReplayBuffer(small.picture_spec(*scripted.SHAPE), 20, small.CPU)
    envs = VectorEnvironment(members, workers=False)
    training = Collector(envs, buffer, config(num_envs=2), RandomStreams(0, small.CPU), "train")
    assert training.collect(Recorder(), steps=3).achievements == []
    both = training.collect(Recorder(), steps=1 + 5)
    assert both.achievements == [["episode 0"], ["episode 0"], ["episode 1"], ["episode 1"]]
    assert collector([1]).collect(Recorder(), episodes=2).achievements == [[], []]


class Recalling(AgentActor):
    """Remembers the states it started with, at a call and in a new round."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.started: list[PolicyState] = []

    def start(self, buffer: ReplayBuffer, episodes: Sequence[int | None]) -> PolicyState:
        self.started.append(super().start(buffer, episodes))
        return self.started[-1]


def test_the_policy_is_warmed_up_with_the_last_frames_of_the_running_episode() -> None:
    training, agent = collector([9]), small.agent()
    actor = Recalling(agent, config(burn_in=2), small.generator())
    training.collect(actor, steps=5)
    assert not actor.started[0].hidden.any()
    training.collect(actor, steps=1)
    frames = torch.tensor([3, 4], dtype=torch.uint8)[:, None, None, None].expand(-1, *scripted.SHAPE)
    seen = agent.observe({"image": frames}).unsqueeze(0)
    expected = agent.policy.burn_in(seen, torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2, dtype=torch.bool))
    assert torch.equal(actor.started[1].hidden, expected.hidden) and torch.equal(actor.started[1].cell, expected.cell)


@pytest.mark.parametrize("pads", [False, True])
def test_every_environment_is_warmed_up_by_its_own_episode_even_a_finished_one(pads: bool) -> None:
    training, agent = collector([9], [3], [9]), small.agent()
    agent.pads_burn_in = pads
    actor = Recalling(agent, config(burn_in=4), small.generator())
    training.collect(actor, steps=3 * 3 + 2)  # the second one has finished
    training.collect(actor, steps=1)
    numbers = torch.tensor([[1, 2, 3, 4], [0, 0, 1, 2], [1, 2, 3, 4]], dtype=torch.uint8)
    frames = numbers.flatten()[:, None, None, None].expand(-1, *scripted.SHAPE)
    mask = torch.tensor([[True] * 4, [pads, True, True, True], [True] * 4])
    rows = [training.buffer.episode_rows(index).tolist() for index in range(3)]
    actions = training.buffer.read(torch.tensor([rows[0][-4:], [0, *rows[1]], rows[2][-4:]])).actions
    expected = agent.policy.burn_in(agent.observe({"image": frames}).unflatten(0, (3, 4)), actions, mask)
    assert torch.equal(actor.started[1].hidden, expected.hidden) and torch.equal(actor.started[1].cell, expected.cell)


def test_black_frames_before_the_first_episodes_are_taken_in_by_agents_that_do_so_at_the_start_of_a_call() -> None:
    training, agent = collector([3], [2]), small.agent()
    agent.pads_burn_in = True
    actor = Recalling(agent, config(burn_in=2), small.generator())
    training.collect(actor, steps=5)
    black = agent.observe({"image": torch.zeros(4, *scripted.SHAPE, dtype=torch.uint8)}).unflatten(0, (2, 2))
    nothing = torch.zeros(2, 2, dtype=torch.int64)
    expected = agent.policy.burn_in(black, nothing, torch.ones(2, 2, dtype=torch.bool))
    training.collect(actor, steps=1)  # in a new round
    for state in actor.started:
        assert torch.equal(state.hidden, expected.hidden) and torch.equal(state.cell, expected.cell)
    assert not actor.restart(2).hidden.any()


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


def test_exploring_draws_are_those_of_the_action_spec() -> None:
    training = collector([50], [50], epsilon=1.0)
    training.collect(Recorder(), steps=20)
    draws = RandomStreams(0, small.CPU).numpy("train/epsilon")
    expected = []
    for _ in range(10):
        assert draws.random() < 1
        expected.append(draws.integers(small.ACTIONS, size=2).tolist())
    assert training.buffer.state()[0]["actions"].reshape(2, 10).T.tolist() == expected


SPACES: dict[str, tuple[gymnasium.Space[Any], torch.dtype]] = {
    "multi-discrete": (gymnasium.spaces.MultiDiscrete([2, 5]), torch.int64),
    "continuous": (gymnasium.spaces.Box(-1, 1, (2,), np.float32), torch.float32),
}


class Repeating(Recorder):
    """Plays the same action of two numbers in every environment."""

    def __init__(self, action: Tensor) -> None:
        super().__init__()
        self._action = action

    def act(self, observations: dict[str, Tensor], state: int) -> tuple[Tensor, int]:
        actions, state = super().act(observations, state)
        return self._action.expand(len(actions), -1), state


@pytest.mark.parametrize("kind", SPACES)
def test_actions_of_several_numbers_are_played_and_stored(kind: str) -> None:
    space, dtype = SPACES[kind]
    training = collector([3], [3], environment={"action_space": space}, final_observation=True)
    action = torch.tensor([1, 4]) if kind == "multi-discrete" else torch.tensor([0.25, -0.75])
    result = training.collect(Repeating(action), steps=6)
    actions = training.buffer.state()[0]["actions"]
    assert actions.dtype == dtype and torch.equal(actions[:3], action.expand(3, 2)) and not actions[3].any()
    assert result.returns == pytest.approx([6 + 0.03 * float(action.sum())] * 2)


@pytest.mark.parametrize("kind", SPACES)
def test_exploration_and_the_random_policy_use_all_of_an_action_space(kind: str) -> None:
    space, _ = SPACES[kind]
    environment = {"action_space": space}
    exploring, random = (
        collector([4000], environment=environment, epsilon=epsilon, final_observation=True) for epsilon in (1.0, 0.0)
    )
    nothing = torch.zeros(2, dtype=SPACES[kind][1])
    exploring.collect(Repeating(nothing), steps=2000)
    random.collect(RandomActor(random.envs.spec.actions, small.generator()), steps=2000)
    for training in (exploring, random):
        actions = training.buffer.state()[0]["actions"]
        assert actions.shape == (2000, 2)
        if kind == "continuous":
            assert (actions.abs() <= 1).all() and (actions.mean(dim=0).abs() < 5 * (1 / 3 / 2000) ** 0.5).all()
            assert ((actions.square().mean(dim=0) - 1 / 3).abs() < 0.04).all()
        else:
            for column, choices in zip(actions.T, (2, 5)):
                deviation = (2000 / choices * (1 - 1 / choices)) ** 0.5
                assert ((column.bincount(minlength=choices) - 2000 / choices).abs() < 5 * deviation).all()


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
    training.collect(RandomActor(small.DISCRETE, small.generator()), steps=3000)
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


def test_a_saved_collector_continues_the_round() -> None:
    """One environment waits, two run, some steps are owed: everything goes on as without the interruption."""
    lengths = ([9, 4], [2, 3], [6, 5])

    def played(interrupted: bool) -> tuple[list[list[int]], list[EpisodeStats]]:
        training = collector(*lengths, epsilon=0.3, final_observation=True)
        first = training.collect(Recorder(), steps=9)
        assert first.steps == 10
        if interrupted:
            tensors, state = training.state()
            tensors = {key: value.clone() for key, value in tensors.items()}
            rows, table = training.buffer.state()
            streams = training._random.bit_generator.state
            training = collector(*lengths, epsilon=0.3, final_observation=True)
            training.buffer.load_rows(rows, 1)
            training.buffer.load_table(json.loads(json.dumps(table)))
            training.load_state(tensors, json.loads(json.dumps(state)))
            training._random.bit_generator.state = streams
        rest = [training.collect(Recorder(), steps=steps) for steps in (3, 2, 20)]
        return stored(training), [first, *rest]

    assert played(interrupted=True) == played(interrupted=False)


@pytest.mark.parametrize("compare", [True, False])
def test_an_episode_that_shows_something_else_is_refused_unless_any_code_may_go_on(compare: bool) -> None:
    training = collector([9])
    training.collect(Recorder(), steps=3)
    tensors, state = training.state()
    state["environments"][0]["checksum"] += 1
    with nullcontext() if not compare else pytest.raises(UserError, match=r"shows something else.*any_code"):
        collector([9]).load_state(tensors, state, compare)


def test_a_collector_that_has_not_played_has_nothing_to_save() -> None:
    tensors, state = collector([5]).state()
    assert tensors == {} and state["environments"] == []
    fresh = collector([5])
    fresh.load_state(tensors, json.loads(json.dumps(state)))
    assert fresh.observations is None
    assert fresh.collect(Recorder(), steps=5).lengths == [5]
