"""An agent's actions: those of the trainer, row by row, and what is refused."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tests.inference import support
from tests.inference.support import KINDS, observations, rows
from tokenworlds.agents.actor import AgentActor
from tokenworlds.envs import EnvironmentFactory, VectorEnvironment
from tokenworlds.errors import UserError
from tokenworlds.evaluation import evaluate
from tokenworlds.loading import TrainedAgent
from tokenworlds.replay import ReplayBuffer
from tokenworlds.rng import RandomStreams, derive_seed


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest) -> TrainedAgent:
    return limited(support.trained(request.param), 12)


@pytest.fixture(scope="module")
def iris() -> TrainedAgent:
    return support.trained("iris")


def limited(agent: TrainedAgent, steps: int) -> TrainedAgent:
    """Its test episodes are cut after so many steps."""
    environment = agent.config.environment
    changed = replace(environment, test=replace(environment.test, max_episode_steps=steps))
    return replace(agent, config=replace(agent.config, environment=changed))


def test_an_evaluation_is_repeated_action_by_action(trained: TrainedAgent) -> None:
    """The trainer's actor, collector and recurrent state there, ``act`` and nothing else of the agent here."""
    played = evaluate(trained, episodes=2, num_envs=2)
    streams = RandomStreams(derive_seed(trained.config.seed, "evaluation/final"), trained.device)
    factory = EnvironmentFactory(trained.config.task, trained.config.environment.test)
    envs = VectorEnvironment([factory] * 2, workers=False)
    given = envs.reset([int(seed) for seed in streams.numpy("test/seeds").integers(2**31, size=2)])
    trained.reset(seed=derive_seed(streams.seed, "policy"))
    totals, lengths = np.zeros(2), np.zeros(2)
    while not envs.finished.all():
        running = ~envs.finished
        given, rewards, _, _ = envs.step(trained.act(given))
        totals, lengths = totals + rewards * running, lengths + running
    assert lengths.tolist() == played.lengths
    assert totals.tolist() == pytest.approx(played.returns)
    envs.close()


def test_actions_are_those_of_the_trainers_actor(trained: TrainedAgent) -> None:
    """Step after step of three environments, with uniforms from the same seed."""
    generator = torch.Generator().manual_seed(3)
    actor = AgentActor(trained.agent, trained.config.collection.test, generator)
    state = actor.start(ReplayBuffer(trained.spec, 1, trained.device), [None] * 3)
    trained.reset(seed=3)
    chosen = []
    for step in range(6):
        given = observations(trained, 3, seed=step)
        expected, state = actor.act({name: torch.from_numpy(values) for name, values in given.items()}, state)
        chosen.append(trained.act(given))
        assert np.array_equal(chosen[-1], expected.numpy())
    assert len(np.unique(np.stack(chosen), axis=0)) > 1


def test_a_row_of_a_batch_is_that_environment_alone(trained: TrainedAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given the row's uniforms, also where the row begins anew while the others go on."""
    steps, batch, anew = 5, 3, 2
    draws = trained.agent.policy.actions.draws
    uniforms = torch.rand(steps, draws, batch, generator=torch.Generator().manual_seed(0))
    given = [observations(trained, batch, seed=step) for step in range(steps)]

    def play(row: int | None) -> list[Any]:
        drawn = iter(uniforms if row is None else uniforms[:, :, row : row + 1])
        monkeypatch.setattr(torch, "rand", lambda *shape, **options: next(drawn))
        trained.reset()
        taken = []
        for step, seen in enumerate(given):
            if step == anew:
                trained.reset(rows=[False, True, False] if row is None else row == 1)
            taken.append(trained.act(seen if row is None else rows(seen, row)))
        monkeypatch.undo()
        return taken

    together = play(None)
    for row in range(batch):
        alone = play(row)
        assert all(np.array_equal(one, batch_of[row]) for one, batch_of in zip(alone, together))


def test_an_environment_takes_the_actions_as_they_are(trained: TrainedAgent) -> None:
    env = trained.make_env()
    observation, _ = env.reset(seed=0)
    taken = []
    for _ in range(2):
        trained.reset(seed=1)
        taken.append([trained.act(observation), trained.act(observation)])
    action = taken[0][0]
    assert action in env.action_space and np.array_equal(taken[0], taken[1])
    assert isinstance(action, int) or (action.shape, action.dtype) == (env.action_space.shape, np.float32)
    env.step(action)
    env.close()


def test_temperature_0_is_the_likeliest_action(trained: TrainedAgent) -> None:
    given, found = observations(trained), []
    for seed, temperature in ((0, 0), (1, 0), (2, 0.001)):
        trained.reset(seed=seed)
        found.append(trained.act(given, temperature))
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])
    batch = observations(trained, 64)
    trained.reset(seed=0)
    assert len(np.unique(trained.act(batch, temperature=1000), axis=0)) > 1


def test_a_picture_may_be_given_alone_and_with_its_channels_last(iris: TrainedAgent) -> None:
    for picture in (observations(iris)["image"], observations(iris, 2)["image"]):
        taken = []
        for given in ({"image": picture}, picture, np.moveaxis(picture, -3, -1), picture.astype(np.int64)):
            iris.reset(seed=0)
            taken.append([iris.act(given, 1.0), iris.act(given, 1.0)])
        assert all(np.array_equal(one, taken[0]) for one in taken)


def test_what_a_user_changes_afterwards_changes_nothing(iris: TrainedAgent) -> None:
    given = observations(iris, 2)
    iris.reset(seed=0)
    iris.act(given)[:] = 99
    before = iris.imagine(None, [0], temperature=0)
    given["image"][:] = 0
    assert np.array_equal(iris.imagine(None, [0], temperature=0).tokens, before.tokens)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_rows_of_a_vector_environment_begin_anew_where_their_episodes_do(
    iris: TrainedAgent, mode: AutoresetMode
) -> None:
    """As docs/loading.md does it, the state after two steps of the second episode is that of a single environment."""
    agent, steps = limited(iris, 3), {AutoresetMode.NEXT_STEP: 6, AutoresetMode.SAME_STEP: 5}[mode]
    single, expected = agent.make_env(), []
    for seed in range(2):
        observation, _ = single.reset(seed=seed)
        for _ in range(3):
            observation, *_ = single.step(0)
        observation, _ = single.reset()
        agent.reset()
        for _ in range(2):
            agent.act(observation)
            observation, *_ = single.step(0)
        expected.append(agent._acting._state.hidden[0])
    vector = SyncVectorEnv([agent.make_env] * 2, autoreset_mode=mode)
    given, _ = vector.reset(seed=0)
    agent.reset()
    ended = np.zeros(2, dtype=bool)
    for step in range(steps):
        agent.act(given)
        if step < steps - 1:
            given, _, terminated, truncated, _ = vector.step(np.zeros(2, dtype=np.int64))
            before, ended = ended, terminated | truncated
            agent.reset(rows=before if mode is AutoresetMode.NEXT_STEP else ended)
    assert torch.allclose(agent._acting._state.hidden, torch.stack(expected), atol=1e-6)
    vector.close()


REFUSED: dict[str, tuple[Callable[[TrainedAgent], Any], str]] = {
    "another size": (
        lambda agent: agent.act(np.zeros((3, 64, 64), np.uint8)),
        "image has the shape (3, 64, 64); the agent observes (3, 32, 32) or (32, 32, 3), alone or in a batch",
    ),
    "two batch dimensions": (lambda agent: agent.act(observations(agent, 2, 2)), "the observations are (2, 2)"),
    "none": (lambda agent: agent.act(observations(agent, 0)), "the observations are (0,)"),
    "fractions": (lambda agent: agent.act(np.full((3, 32, 32), 0.5)), "image holds float64 values that are no uint8"),
    "too great": (lambda agent: agent.act(np.full((3, 32, 32), 256)), "image holds int64 values that are no uint8"),
    "unknown": (lambda agent: agent.act({"state": 0}), "the agent observes image, but the observation holds state"),
    "missing": (lambda agent: agent.act({}), "the agent observes image, but the observation holds nothing"),
    "other rows": (
        lambda agent: [agent.act(observations(agent, rows)) for rows in (2, 3)],
        "3 observations follow on 2, each of which has its own memory; call reset",
    ),
    "rows by number": (
        lambda agent: [agent.act(observations(agent, 2)), agent.reset(rows=[1])],
        "rows are int64 (1,); give a bool for each of the 2 rows",
    ),
    "cold": (lambda agent: agent.act(observations(agent), temperature=-1), "temperature is -1; it must be 0"),
    "no number": (lambda agent: agent.act(observations(agent), float("nan")), "temperature is nan; it must be 0"),
    "a word": (lambda agent: agent.act(observations(agent), "hot"), "temperature is 'hot'; it must be 0"),
    "lengths": (lambda agent: agent.act([[1], [1, 2]]), "image cannot be read as an array"),
    "half a seed": (lambda agent: agent.reset(seed=1.5), "seed is 1.5; it must be a whole number"),
    "a large seed": (
        lambda agent: agent.reset(seed=2**70),
        "it must be a whole number from 0 to 9,223,372,036,",
    ),
    "a split": (lambda agent: agent.make_env("valid"), "there is no environment 'valid'; give train or test"),
    "truth for a number": (lambda agent: evaluate(agent, 1, True), "num_envs is True; it must be a whole number"),
    "half an episode": (
        lambda agent: evaluate(agent, episodes=1.5),
        "episodes is 1.5; it must be a whole number from 1 on",
    ),
    "a path": (lambda agent: evaluate("results/runs"), "evaluate takes the agent that tokenworlds.load returns"),
    "nothing seen": (lambda agent: agent.imagine(None, [0]), "nothing has been observed since the last reset"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(iris: TrainedAgent, case: str) -> None:
    call, message = REFUSED[case]
    iris.reset()
    with pytest.raises(UserError, match=re.escape(message)) as refused:
        call(iris)
    assert "\n" not in str(refused.value)


def test_several_modalities_need_their_names() -> None:
    agent = support.trained("m3")
    with pytest.raises(UserError, match="the agent observes image, "):
        agent.act(observations(agent)["image"])
    with pytest.raises(UserError, match="different numbers of observations"):
        agent.act(observations(agent, 2) | {"image": observations(agent, 3)["image"]})
    assert agent.act(observations(agent)) in range(agent.spec.num_actions)
    for name in ("token", "token_2d"):
        if name in agent.spec.observation:
            with pytest.raises(UserError, match=f"{name} has categories out of range; the least is 0, the greatest"):
                agent.act(observations(agent) | {name: np.full(agent.spec.observation[name].shape, 200)})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_are_finite(value: float) -> None:
    agent = support.trained("m3 on a vector")
    with pytest.raises(UserError, match="vector has NaN or infinite values"):
        agent.act(np.full(agent.spec.observation["vector"].shape, value, np.float32))
