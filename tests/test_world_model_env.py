"""A world model as an environment of Gymnasium's, alone and side by side."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from tests import small
from tests.conftest import PROJECT
from tests.methods.support import build_agent, configure
from tests.test_loading import begun
from tokenworlds import envs
from tokenworlds.agents.imagined_world import ImaginedStep, ImaginedWorld
from tokenworlds.envs import PlayedContexts, RecordedContexts, WorldModelEnv, WorldModelVectorEnv
from tokenworlds.episodes import Episode, save
from tokenworlds.errors import UserError
from tokenworlds.loading import TrainedAgent

ID = "tokenworlds.world_model_env:tokenworlds/WorldModel-v0"
KINDS = {
    "iris": ("iris", "minigrid/Empty-5x5"),
    "rem": ("rem", "minigrid/Empty-5x5"),
    "delta_iris": ("delta_iris", "minigrid/Empty-5x5"),
    "m3": ("m3", "minigrid/Empty-5x5"),
    "m3 on a map": ("m3", "minigrid_symbolic/Empty-5x5"),
    "m3 on a vector": ("m3", "dmc/cartpole-balance"),
}
ROWS = 3


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest) -> TrainedAgent:
    """Initial weights, with which episodes do not end."""
    if "dmc" in KINDS[request.param][1] and importlib.util.find_spec("dm_control") is None:
        pytest.skip("needs dm-control: pip install -e '.[dmc]'")
    return untrained(*KINDS[request.param])


def untrained(method: str, task: str = "minigrid/Empty-5x5") -> TrainedAgent:
    config = configure(method, f"task={task}")
    with envs.make(task, config.environment.test) as real:
        spec = real.environment_spec
    agent = build_agent(config, spec)
    agent.world_model.head_end[-1].bias.data.copy_(torch.tensor([30.0, -30.0]))
    if (
        method == "delta_iris"
    ):  # fresh, it makes a difference of two frames four times as large a step: also of rounding
        agent.tokenizer.decoder.layers[-1].weight.data.mul_(0.1)
    return TrainedAgent(Path("run"), config, spec, agent, small.CPU, None)


@pytest.fixture(scope="module")
def delta() -> TrainedAgent:
    """Its first observation is the real frame itself."""
    return untrained("delta_iris")


def some_actions(trained: TrainedAgent, steps: int, rows: int = ROWS) -> Any:
    generator = np.random.default_rng(0)
    return [trained.spec.actions.random(generator, rows) for _ in range(steps)]


def assert_alike(found: Any, expected: Any) -> None:
    """Equal but for the rounding of batches of another size."""
    assert found.keys() == expected.keys()
    for name, values in found.items():
        tolerance = 1 if values.dtype == np.uint8 else 1e-4
        np.testing.assert_allclose(values.astype(float), expected[name].astype(float), rtol=0, atol=tolerance)


@pytest.mark.filterwarnings("ignore:.*A Box observation space m.* value is:UserWarning")  # as of the real one
def test_gymnasium_accepts_it(trained: TrainedAgent) -> None:
    env = gymnasium.make(ID, run=trained, render_mode="rgb_array")
    check_env(env.unwrapped)
    with envs.make(trained.config.task, trained.config.environment.test) as real:
        assert (env.observation_space, env.action_space) == (real.observation_space, real.action_space)
    env.close()
    env.close()


def test_rows_are_single_environments(trained: TrainedAgent) -> None:
    """Row i is the environment with seed + i, through restarts of the memory."""
    memory = trained.agent.context_frames + 2
    vector = gymnasium.make_vec(ID, ROWS, run=trained, memory=memory)
    singles = [WorldModelEnv(trained, memory=memory) for _ in range(ROWS)]
    observations, _ = vector.reset(seed=5)
    for row, single in enumerate(singles):
        assert_alike({name: values[row] for name, values in observations.items()}, single.reset(seed=5 + row)[0])
    restarts = 0
    for actions in some_actions(trained, 6):
        observations, rewards, terminations, truncations, infos = vector.step(actions)
        assert observations in vector.observation_space
        restarts += infos["memory_restarted"].all()
        for row, single in enumerate(singles):
            observation, reward, terminated, truncated, info = single.step(actions[row])
            assert_alike({name: values[row] for name, values in observations.items()}, observation)
            assert reward == pytest.approx(rewards[row], abs=1e-4)
            assert (terminated, truncated) == (terminations[row], truncations[row]) == (False, False)
            assert (info["tokens"] == infos["tokens"][row]).all()
            assert info["memory_restarted"] == infos["memory_restarted"][row]
    assert restarts > 0


def ends(monkeypatch: pytest.MonkeyPatch, row: int, at: int) -> None:
    """The row's episode ends in that step (from 1 on)."""
    step, calls = ImaginedWorld.step, iter(range(1, 100))

    def ending(self: ImaginedWorld, *given: Any) -> ImaginedStep:
        result = step(self, *given)
        result.terminations[row] = int(next(calls) == at)
        return result

    monkeypatch.setattr(ImaginedWorld, "step", ending)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_an_episode_that_ended_begins_anew_alone(
    trained: TrainedAgent, mode: AutoresetMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other rows go on from their frames: up to the reset nothing changes for them."""
    single = WorldModelEnv(trained)
    single.reset(seed=1)
    second_episode, _ = single.reset()
    before, after, ended = some_actions(trained, 3)
    undisturbed = WorldModelVectorEnv(trained, ROWS)
    undisturbed.reset(seed=0)
    undisturbed.step(before)
    last = undisturbed.step(after)[0]
    final = undisturbed.step(ended)[0] if mode is AutoresetMode.NEXT_STEP else last

    ends(monkeypatch, row=1, at=2)
    vector = WorldModelVectorEnv(trained, ROWS, autoreset_mode=mode)
    assert vector.metadata["autoreset_mode"] is mode
    vector.reset(seed=0)
    assert not vector.step(before)[2].any()
    observations, rewards, terminations, _, infos = vector.step(after)
    assert terminations.tolist() == [False, True, False]
    if mode is AutoresetMode.SAME_STEP:
        assert infos["_final_obs"].tolist() == [False, True, False]
        assert_alike(infos["final_obs"][1], {name: values[1] for name, values in last.items()})
    else:
        assert_alike({name: values[1] for name, values in observations.items()}, {n: v[1] for n, v in last.items()})
        observations, rewards, terminations, _, infos = vector.step(ended)
        assert rewards[1] == 0 and not terminations.any()
        assert infos["_tokens"].tolist() == [True, False, True]
    assert_alike({name: values[1] for name, values in observations.items()}, second_episode)
    for row in (0, 2):
        assert_alike({n: v[row] for n, v in observations.items()}, {n: v[row] for n, v in final.items()})
    observations, _, terminations, _, infos = vector.step(before)
    assert infos["memory_restarted"].all() and not terminations.any() and observations in vector.observation_space


@pytest.mark.parametrize("vectorised", [False, True])
def test_episodes_are_truncated(delta: TrainedAgent, vectorised: bool) -> None:
    settings: Any = {"max_episode_steps": 2}
    env: Any = WorldModelVectorEnv(delta, 2, **settings) if vectorised else WorldModelEnv(delta, **settings)
    env.reset(seed=0)
    truncations = [np.all(env.step(env.action_space.sample())[3]) for _ in range(2)]
    env.reset()
    assert [*truncations, np.all(env.step(env.action_space.sample())[3])] == [False, True, False]


def test_one_modality_alone(trained: TrainedAgent) -> None:
    whole = WorldModelEnv(trained, render_mode="rgb_array")
    expected, _ = whole.reset(seed=0)
    for name, values in expected.items():
        env = WorldModelEnv(trained, observation=name)
        observation, _ = env.reset(seed=0)
        assert observation in env.observation_space
        assert np.array_equal(observation, np.moveaxis(values, 0, -1) if name == "image" else values)
    if list(expected) == ["image"]:
        assert np.array_equal(whole.render(), np.moveaxis(expected["image"], 0, -1))


def test_episodes_begin_where_those_of_the_real_environment_do(delta: TrainedAgent) -> None:
    generator = np.random.default_rng(0)
    contexts = PlayedContexts()
    with envs.make(delta.config.task, delta.config.environment.test) as real:
        first = real.reset(seed=0)[0]["image"]
    for _ in range(3):
        segments = contexts.draw(delta, generator)
        assert segments.mask.shape == (1, delta.agent.context_frames) and segments.mask.all()
        assert np.array_equal(segments.observations["image"][0, 0].numpy(), first)
    contexts.close()


def test_contexts_that_two_world_models_share_are_of_the_task_of_each(delta: TrainedAgent) -> None:
    contexts, other = PlayedContexts(), untrained("delta_iris", "minigrid/DoorKey-5x5")
    for trained in (delta, other, delta):
        shared, own = (WorldModelEnv(trained, contexts=given) for given in (contexts, PlayedContexts()))
        assert np.array_equal(shared.reset(seed=0)[0]["image"], own.reset(seed=0)[0]["image"])
        own.close()
    contexts.close()


@pytest.mark.parametrize("is_random", [False, True])
def test_a_warm_up_leads_elsewhere(delta: TrainedAgent, is_random: bool) -> None:
    env = WorldModelEnv(delta, contexts=PlayedContexts(warm_up=30, is_random=is_random))
    seen = {env.reset(seed=0 if index == 0 else None)[0]["image"].tobytes() for index in range(12)}
    assert len(seen) > 2
    env.close()


def recorded(trained: TrainedAgent, folder: Path, length: int, index: int = 0, **facts: Any) -> Episode:
    read = small.buffer([length], spec=trained.spec).read(torch.arange(1, length + 1)[None])
    observations = {name: values[0].numpy() for name, values in read.observations.items()}
    steps = (read.actions[0].numpy(), read.rewards[0].numpy(), read.terminations[0].bool().numpy())
    episode = Episode(observations, *steps, tokens=None, facts=facts)
    save(episode, folder / f"episode_{index:05}.npz")
    return episode


@pytest.mark.parametrize("length", [1, 9])
def test_episodes_begin_at_recorded_frames(delta: TrainedAgent, tmp_path: Path, length: int) -> None:
    """Also those of an episode shorter than the context."""
    episode = recorded(delta, tmp_path, length)
    env = WorldModelEnv(delta, contexts=RecordedContexts(tmp_path))
    found = set()
    for _ in range(40):
        observation, _ = env.reset(seed=None)
        found |= {
            index for index, frame in enumerate(episode.observations["image"]) if (frame == observation["image"]).all()
        }
    assert found == set(range(min(delta.agent.context_frames, length) - 1, length))


def test_recorded_episodes_of_another_environment_are_refused(delta: TrainedAgent, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there are no episodes"):
        RecordedContexts(tmp_path)
    recorded(untrained("rem"), tmp_path, 4)
    with pytest.raises(UserError, match=r"not .* as the run"):
        WorldModelEnv(delta, contexts=RecordedContexts(tmp_path)).reset()


def test_recorded_episodes_of_another_task_are_refused(delta: TrainedAgent, tmp_path: Path) -> None:
    """Also where their observations have the same shape, and before the one that is of another is drawn."""
    recorded(delta, tmp_path, 4, 0, task=delta.config.task)
    WorldModelEnv(delta, contexts=RecordedContexts(tmp_path)).reset(seed=0)
    recorded(delta, tmp_path, 4, 1, task="minigrid/DoorKey-5x5")
    for seed in range(4):
        with pytest.raises(UserError, match=r"episodes of minigrid/DoorKey-5x5, not of minigrid/Empty-5x5 as the run"):
            WorldModelEnv(delta, contexts=RecordedContexts(tmp_path)).reset(seed=seed)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"memory": 1}, "memory is 1; it must be a whole number from 4 on"),
        ({"temperature": -1.0}, "temperature is -1.0; it must be 0"),
        ({"memory": "x"}, "memory is 'x'; it must be"),
        ({"max_episode_steps": 0}, "max_episode_steps is 0; it must be"),
        ({"max_episode_steps": 1.5}, "max_episode_steps is 1.5; it must be a whole number from 1 on"),
        ({"contexts": "episodes"}, "contexts cannot be episodes: give PlayedContexts.., or RecordedContexts"),
        ({"observation": "sound"}, "observes image, not sound"),
        ({"render_mode": "human"}, "render_mode is"),
    ],
)
def test_what_makes_no_sense_is_refused(delta: TrainedAgent, wrong: Any, sentence: str) -> None:
    for make in (WorldModelEnv, lambda run, **given: WorldModelVectorEnv(run, 2, **given)):
        with pytest.raises(UserError, match=sentence):
            make(delta, **wrong)
    with pytest.raises(UserError, match="warm_up is -1; it must be a whole number from 0 on"):
        PlayedContexts(-1)


@pytest.mark.parametrize("mode", [AutoresetMode.DISABLED, "NextStep", None])
def test_only_two_ways_to_begin_anew_are_known(delta: TrainedAgent, mode: Any) -> None:
    with pytest.raises(UserError, match=r"must be AutoresetMode.NEXT_STEP or SAME_STEP"):
        WorldModelVectorEnv(delta, 2, autoreset_mode=mode)


@pytest.mark.parametrize("action", [-1, 7, 1.0, [1], "left", None])
def test_wrong_actions_are_refused(delta: TrainedAgent, action: Any) -> None:
    env = WorldModelEnv(delta)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="expected an action"):
        env.step(action)


def test_rows_have_a_seed_each(delta: TrainedAgent) -> None:
    vector = WorldModelVectorEnv(delta, 2, contexts=PlayedContexts(warm_up=30, is_random=True))
    with pytest.raises(gymnasium.error.ResetNeeded):
        vector.step(vector.action_space.sample())
    with pytest.raises(ValueError, match="expected 2 seeds"):
        vector.reset(seed=[1])
    images = [vector.reset(seed=seed)[0]["image"] for seed in (np.int64(3), [3, 4], [4, None])]
    assert np.array_equal(images[0], images[1]) and np.array_equal(images[1][1], images[2][0])


@pytest.mark.integration
def test_the_example_trains_a_ppo(tmp_path: Path) -> None:
    begun(tmp_path, configure("rem", "collection.train.parallel=false"))
    command = [sys.executable, "examples/train_in_world_model.py", str(tmp_path), "--seconds", "2"]
    options = ["--episodes", "2", "--num-envs", "2", "--max-steps", "20", "--save", str(tmp_path / "ppo.zip")]
    done = subprocess.run([*command, *options], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("return") == 4 and "imagined steps" in done.stdout
    assert (tmp_path / "ppo.zip").is_file()
