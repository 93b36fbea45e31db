"""What an agent imagines: the same from every form of a context, and as the imagined world has it."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.inference import support
from tests.inference.support import KINDS, actions, observations, rows
from tokenworlds.agents.imagined_world import ImaginedWorld, published_memory
from tokenworlds.episodes import Episode
from tokenworlds.errors import UserError
from tokenworlds.inference import Imagined
from tokenworlds.loading import TrainedAgent
from tokenworlds.replay import ReplayBuffer

STEPS, FRAMES, BATCH = 4, 5, 3


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest) -> TrainedAgent:
    return support.trained(request.param)


@pytest.fixture(scope="module")
def rem() -> TrainedAgent:
    """Its context has two frames."""
    return support.trained("rem")


def arrays(imagined: Imagined) -> dict[str, Any]:
    named = {name: getattr(imagined, name) for name in ("rewards", "terminations", "tokens")}
    return imagined.observations | named


def assert_equal(one: Imagined, other: Imagined, row: Any = ...) -> None:
    expected = arrays(other)
    for name, values in arrays(one).items():
        assert values.dtype == expected[name].dtype and np.array_equal(values, expected[name][row]), name


def test_it_is_the_imagined_world(trained: TrainedAgent) -> None:
    """After the last frames of an episode in a replay buffer, with the same seed."""
    seen, taken, planned = observations(trained, FRAMES), actions(trained, FRAMES), actions(trained, STEPS, seed=1)
    buffer = ReplayBuffer(trained.spec, FRAMES, trained.device)
    tensors = {name: torch.from_numpy(values) for name, values in seen.items()}
    buffer.extend(tensors, torch.from_numpy(taken), torch.zeros(FRAMES), torch.zeros(FRAMES), close=True)
    world = ImaginedWorld(trained.agent, torch.Generator().manual_seed(5), published_memory(trained.config))
    length = trained.agent.context_frames
    world.begin(buffer.segments(torch.tensor([0]), torch.tensor([FRAMES - length]), length))
    expected = [world.observations()]
    steps = []
    for action in planned:
        steps.append(world.step(torch.from_numpy(np.asarray(action)[None])))
        expected.append(world.observations())
    found = trained.imagine((seen, taken[:-1]), planned, seed=5)
    for name, part in trained.spec.observation.items():
        assert found.observations[name].shape == (STEPS + 1, *part.shape)
        assert found.observations[name].dtype == part.dtype
        assert np.array_equal(found.observations[name], torch.cat([one[name] for one in expected]).numpy())
    assert np.array_equal(found.rewards, torch.cat([step.rewards for step in steps]).numpy())
    assert np.array_equal(found.terminations, torch.cat([step.terminations for step in steps]).bool().numpy())
    assert np.array_equal(found.tokens, torch.cat([step.tokens for step in steps]).numpy())
    assert (found.rewards.shape, found.terminations.shape, found.tokens.shape[:1]) == ((STEPS,), (STEPS,), (STEPS,))


def test_every_form_of_a_context_says_the_same(trained: TrainedAgent) -> None:
    """What ``act`` has seen and chosen, the last frames and the actions between them, a whole episode."""
    seen, planned, taken = observations(trained, FRAMES), actions(trained, STEPS), []
    trained.reset(seed=0)
    for t in range(FRAMES):
        taken.append(trained.act(rows(seen, t)))
    own = trained.imagine(None, planned, seed=1)
    played = np.array(taken, dtype=trained.spec.actions.dtype)
    assert_equal(own, trained.imagine((seen, played[:-1]), planned, seed=1))
    zeros = np.zeros(FRAMES, np.float32)
    whole = Episode(seen, played, zeros, zeros.astype(bool), None, {})
    assert_equal(own, trained.imagine(whole, planned, seed=1))
    behind = Episode(seen, played[:-1], zeros[1:], zeros[1:].astype(bool), None, {})  # with its last observation
    assert_equal(own, trained.imagine(behind, planned, seed=1))
    trained.reset()
    trained.act(rows(seen, 0))
    assert_equal(trained.imagine(None, planned, seed=1), trained.imagine(rows(seen, 0), planned, seed=1))


def test_a_batch_of_contexts_and_of_plans(trained: TrainedAgent) -> None:
    seen, between = observations(trained, BATCH, FRAMES), actions(trained, BATCH, FRAMES - 1)
    planned = actions(trained, BATCH, STEPS, seed=1)
    many = trained.imagine((seen, between), planned, temperature=0)
    for name, values in arrays(many).items():
        assert values.shape[:2] == (BATCH, STEPS + (name in many.observations)), name
    for row in range(BATCH):
        alone = trained.imagine((rows(seen, row), between[row]), planned[row], temperature=0)
        assert np.array_equal(alone.tokens, many.tokens[row])
    one = trained.imagine((rows(seen, 0), between[0]), planned, temperature=0)
    assert np.array_equal(one.tokens[0], many.tokens[0]) and one.tokens.shape == many.tokens.shape
    shared = trained.imagine((seen, between), planned[1], temperature=0)
    assert np.array_equal(shared.tokens[1], many.tokens[1]) and shared.tokens.shape == many.tokens.shape


def test_seeds_and_what_is_not_decoded(trained: TrainedAgent) -> None:
    seen, planned = observations(trained, 1), actions(trained, STEPS)
    found = trained.imagine(seen, planned, seed=3)
    assert found.rewards.shape == (1, STEPS)  # a batch of one
    assert_equal(found, trained.imagine(seen, planned, seed=3))
    assert not np.array_equal(found.tokens, trained.imagine(seen, planned, seed=4).tokens)
    blind = trained.imagine(seen, planned, seed=3, observe=False)
    assert blind.observations == {} and np.array_equal(blind.tokens, found.tokens)
    assert np.array_equal(blind.rewards, found.rewards)


def test_a_row_that_has_begun_later_remembers_no_older_frames(trained: TrainedAgent) -> None:
    """Black ones stand before its first, as in a replay buffer."""
    seen, planned = [observations(trained, 2, seed=step) for step in range(FRAMES)], actions(trained, 1)
    trained.reset(seed=0)
    for step, given in enumerate(seen):
        if step == FRAMES - 1:
            trained.reset(rows=[False, True])
        trained.act(given)
    segments, is_batch = trained._acting.recent()
    length = segments.mask.shape[1]
    assert is_batch and length == min(FRAMES, trained.agent.context_frames)
    assert segments.mask.tolist() == [[True] * length, [False] * (length - 1) + [True]]
    for name, values in segments.observations.items():
        assert not values[1, :-1].any() and np.array_equal(values[:, -1].numpy(), seen[-1][name])
        assert length == 1 or values[0, :-1].any()
    assert trained.imagine(None, planned).rewards.shape == (2, 1)


REFUSED: dict[str, tuple[Callable[[TrainedAgent], Any], str]] = {
    "actions between": (
        lambda agent: agent.imagine((observations(agent, 3), [0, 0, 0]), [0]),
        "the context has observations (3,) and actions (3,); give an observation",
    ),
    "no frame": (lambda agent: agent.imagine((observations(agent, 0), []), [0]), "the context has observations (0,)"),
    "three dimensions": (lambda agent: agent.imagine(observations(agent, 2, 2), [0]), "has observations (2, 2, 1)"),
    "no action": (lambda agent: agent.imagine(observations(agent), np.zeros(0, np.int64)), "the actions are (0,)"),
    "one action": (lambda agent: agent.imagine(observations(agent), 0), "the actions are () and the context has 1"),
    "other rows": (
        lambda agent: agent.imagine(observations(agent, 2), np.zeros((3, 4), np.int64)),
        "the actions are (3, 4) and the context has 2 rows",
    ),
    "out of range": (lambda agent: agent.imagine(observations(agent), [7]), "the least is 0, the greatest 6"),
    "fractions": (
        lambda agent: agent.imagine(observations(agent), [0.5]),
        "the action holds float64 values that are no int64",
    ),
    "cold": (lambda agent: agent.imagine(observations(agent), [0], temperature=-1), "temperature is -1; it must be 0"),
    "hot": (lambda agent: agent.imagine(observations(agent), [0], temperature=np.inf), "temperature is inf; it must"),
    "a seed of words": (
        lambda agent: agent.imagine(observations(agent), [0], seed="one"),
        "seed is 'one'; it must be a",
    ),
    "lengths": (
        lambda agent: agent.imagine(observations(agent), [[0], [0, 1]]),
        "the action cannot be read as an array",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(rem: TrainedAgent, case: str) -> None:
    call, message = REFUSED[case]
    with pytest.raises(UserError, match=re.escape(message)) as refused:
        call(rem)
    assert "\n" not in str(refused.value)


def test_continuous_actions_are_checked() -> None:
    agent = support.trained("m3 on a vector")
    for wrong, message in (([[1.5]], "out of range"), ([[np.nan]], "out of range"), ([1.0, 0.0], "has the shape (1,)")):
        with pytest.raises(UserError, match=re.escape(message)):
            agent.imagine(observations(agent), wrong)
