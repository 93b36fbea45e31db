"""Delta-IRIS's replay, sampling and collection against the golden vectors."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from tests import small
from tests.golden.support import Case, assert_segment, load_case, load_json
from tokenworlds.actor_critic import PolicyState
from tokenworlds.actor_critic.actions import DiscreteHead
from tokenworlds.agents.actor import AgentActor
from tokenworlds.agents.base import Agent
from tokenworlds.config import CollectionConfig
from tokenworlds.envs import Recorded, VectorEnvironment
from tokenworlds.replay import LeastUsedSampler, ReplayBuffer, traverse_chunks
from tokenworlds.replay.sampling import Anchor
from tokenworlds.rng import RandomStreams
from tokenworlds.training.collector import Collector

FIELDS = ("observations", "actions", "rewards", "ends")


@pytest.fixture
def case() -> Case:
    return load_case("delta_iris", "data")


def episodes_of(case: Case) -> list[dict[str, Tensor]]:
    """The case's episodes; the last one without what is appended to it."""
    count = len(case["expected.lengths_after_append"])
    return [case.group(f"input.ep{index}.") for index in range(count)]


def extend(buffer: ReplayBuffer, episode: dict[str, Tensor], steps: slice, **options: Any) -> None:
    observations, actions, rewards, ends = (episode[name][steps] for name in FIELDS)
    buffer.extend({"image": observations}, actions, rewards, ends, **options)


def buffer_of(case: Case, *, is_pieced: bool = False) -> ReplayBuffer:
    """The episodes one after another, or all at the same time, two steps of each in rotate; then what is appended."""
    episodes = episodes_of(case)
    buffer = ReplayBuffer(small.picture_spec(*episodes[0]["observations"].shape[1:]), 4, small.CPU)
    size = 2 if is_pieced else max(len(episode["actions"]) for episode in episodes)
    lengths = [len(episode["actions"]) for episode in episodes]
    for start in range(0, max(lengths), size):
        for index, (episode, length) in enumerate(zip(episodes, lengths)):
            is_running = start == 0 or buffer.open_episode(index) is not None
            is_over = start + size >= length and index < len(episodes) - 1
            if is_running and start < length:
                extend(buffer, episode, slice(start, start + size), stream=index, close=is_over)
    assert buffer.open_episode(len(episodes) - 1) == len(episodes) - 1
    extend(buffer, case.group("input.append."), slice(None), stream=len(episodes) - 1)
    return buffer


@pytest.mark.parametrize("is_pieced", [False, True])
def test_an_episode_is_appended_to_and_cut_after_its_first_end(case: Case, is_pieced: bool) -> None:
    buffer = buffer_of(case, is_pieced=is_pieced)
    case.assert_close(buffer.lengths, "expected.lengths_after_append")
    case.assert_close(torch.tensor(buffer.num_steps), "expected.num_steps")
    case.assert_close(buffer.lengths.cumsum(0) - buffer.lengths, "expected.start_idx")


@pytest.mark.parametrize("is_pieced", [False, True])
def test_segments_with_padding_on_both_sides(case: Case, is_pieced: bool) -> None:
    buffer = buffer_of(case, is_pieced=is_pieced)
    for index, (episode, start, stop) in enumerate(case.config["segments"]):
        segment = buffer.segments(torch.tensor([episode]), torch.tensor([start]), stop - start)
        assert_segment(case, segment, f"expected.seg{index}")
        steps = torch.arange(start, stop)[segment.mask[0]]  # those inside the episode
        case.assert_close(torch.tensor([episode, steps[0], steps[-1] + 1]), f"expected.seg{index}.id")


def sampler_of(case: Case, anchor: Anchor, exponent: float) -> LeastUsedSampler:
    batch, length = (case.config["sampler"][key] for key in ("batch", "sequence_length"))
    buffer = buffer_of(case, is_pieced=True)
    sampler = LeastUsedSampler(buffer, batch, length, small.generator(), anchor=anchor, exponent=exponent)
    sampler.load_state({"uses": case["input.counts"]})
    return sampler


def test_probabilities_of_the_episodes(case: Case) -> None:
    keys = [key for key in case.tensors if key.startswith("expected.prob_alpha")]
    assert keys
    for key in keys:
        weights = sampler_of(case, "start", float(key.removeprefix("expected.prob_alpha"))).weights()
        assert weights.dtype == torch.float64
        case.assert_close(weights / weights.sum(), key)


@pytest.mark.parametrize(("anchor", "key"), [("start", "expected.sample_beyond"), ("end", "expected.sample_within")])
def test_a_batch_of_the_same_random_numbers(case: Case, anchor: Anchor, key: str) -> None:
    """The three draws as the reference makes them; what they lead to is ours."""
    settings = case.config["sampler"]
    sampler = sampler_of(case, anchor, float(settings["alpha"]))
    weights, lengths = sampler.weights().numpy(), case["expected.lengths_after_append"].numpy()
    draws = np.random.RandomState(settings["numpy_seed"])
    episodes = draws.choice(len(lengths), size=settings["batch"], p=weights / weights.sum())
    steps = draws.randint(low=0, high=lengths[episodes])
    places = draws.randint(0, settings["sequence_length"], size=settings["batch"])
    found = sampler.rows_of(*(torch.from_numpy(array) for array in (episodes, steps, places)))
    numbers, starts, stops = case[key].T
    assert (stops - starts == settings["sequence_length"]).all()
    expected = sampler.buffer.segments(numbers, starts, settings["sequence_length"])
    assert torch.equal(found, expected.rows)


def test_traversal_in_chunks(case: Case) -> None:
    buffer, settings = buffer_of(case, is_pieced=True), case.config["traverser"]
    batches = list(traverse_chunks(buffer, settings["batch"], settings["chunk"]))
    case.assert_close(torch.tensor(len(batches)), "expected.traverser_actual")
    rows = torch.cat([batch.rows for batch in batches])
    expected = case["expected.traverser_ids"]
    assert len(rows) == len(expected)
    for row, (episode, start, stop) in zip(rows, expected.tolist()):
        real = buffer.episode_rows(episode)[start:stop]
        assert row.tolist() == real.tolist() + [0] * (settings["chunk"] - len(real))


class Toy(gymnasium.Env[Any, Any]):
    """Environment i shows (i, number of the episode, number of the step) as the colour of its only pixel."""

    observation_space = gymnasium.spaces.Dict({"image": gymnasium.spaces.Box(0, 255, (3, 1, 1), np.uint8)})

    def __init__(self, index: int, lengths: list[int], num_actions: int) -> None:
        self.action_space = gymnasium.spaces.Discrete(num_actions)
        self.action_meanings = tuple(map(str, range(num_actions)))
        self._index, self._lengths, self._episode, self._step = index, lengths, -1, 0

    def _observation(self) -> dict[str, Any]:
        return {"image": np.array([self._index, self._episode, self._step], dtype=np.uint8).reshape(3, 1, 1)}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._episode, self._step = self._episode + 1, 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._step += 1
        end = self._step == self._lengths[self._episode % len(self._lengths)]
        return self._observation(), int(action) + 0.5, end, False, {}


class LoggingPolicy:
    """Writes down what it is asked."""

    actions = DiscreteHead(1)

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []

    def initial_state(self, batch: int) -> PolicyState:
        self.calls.append(["reset", batch])
        return PolicyState(torch.zeros(batch, 1), torch.zeros(batch, 1))

    def burn_in(self, seen: Tensor, actions: Tensor, mask: Tensor) -> PolicyState:
        assert mask.all()
        state = self.initial_state(len(seen))
        for frames in seen.unbind(1):
            self.look_at(frames)
        return state

    def look_at(self, frames: Tensor) -> None:
        self.calls.append(["act", frames.flatten(1).tolist()])


@Agent.register
class LoggingAgent:
    """Plays the number of the step that it sees."""

    pads_burn_in = True
    burn_in = Agent.burn_in

    def __init__(self, num_actions: int) -> None:
        self.policy, self._num_actions = LoggingPolicy(), num_actions

    def observe(self, observations: dict[str, Tensor]) -> Tensor:
        return observations["image"]

    def act(
        self, observations: dict[str, Tensor], state: PolicyState, generator: torch.Generator, temperature: float
    ) -> tuple[Tensor, PolicyState]:
        frames = self.observe(observations)
        self.policy.look_at(frames)
        return frames[:, 2, 0, 0].long() % self._num_actions, state


def test_collection_in_several_calls() -> None:
    case = load_json("delta_iris", "collector")
    config = case["config"]
    lengths, num_actions = config["env_lengths"], config["num_actions"]
    members = [lambda index=index, own=own: Recorded(Toy(index, own, num_actions)) for index, own in enumerate(lengths)]
    settings = CollectionConfig(len(lengths), epsilon=0.0, temperature=1.0, burn_in=config["burn_in_length"])
    buffer = ReplayBuffer(small.picture_spec(3, 1, 1), 100, small.CPU)
    envs = VectorEnvironment(members, workers=False)
    collector = Collector(envs, buffer, settings, RandomStreams(0, small.CPU), "train")
    agent: Any = LoggingAgent(num_actions)
    actor = AgentActor(agent, settings, small.generator())
    for expected in case["results"]:
        call = expected["call"]
        agent.policy.calls.clear()
        found = collector.collect(actor, steps=call.get("num_steps"), episodes=call.get("num_episodes"))
        assert [*agent.policy.calls, ["clear"]] == expected["policy_calls"]
        assert (buffer.num_episodes, buffer.num_steps) == (expected["num_episodes"], expected["num_steps"])
        assert buffer.lengths.tolist() == expected["lengths"]
        assert collector.state()[1]["surplus"] == expected["excess_steps"]
        last = [buffer.read(buffer.episode_rows(index)[None, -1:]) for index in range(buffer.num_episodes)]
        assert [int(segment.terminations) for segment in last] == expected["ends"]
        assert (found.returns, found.lengths) == (expected["logged_returns"], expected["logged_lengths"])
