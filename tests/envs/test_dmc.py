"""The Control Suite: as published, repeatable from seeds, resumable with real-valued actions."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.envs.support import play
from tokenworlds.config import EnvironmentConfig
from tokenworlds.envs import ContinuousActions, EnvironmentFactory, VectorEnvironment, VectorSpec, make
from tokenworlds.envs import dmc as benchmark
from tokenworlds.errors import UserError

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("dm_control") is None, reason="needs dm-control: pip install -e '.[dmc]'"
)

SIZES = {  # task -> numbers in a state, numbers in an action
    "acrobot-swingup": (6, 1),
    "ball_in_cup-catch": (8, 2),
    "cartpole-balance": (5, 1),
    "cartpole-balance_sparse": (5, 1),
    "cartpole-swingup": (5, 1),
    "cartpole-swingup_sparse": (5, 1),
    "cheetah-run": (17, 6),
    "finger-spin": (9, 2),
    "finger-turn_easy": (12, 2),
    "finger-turn_hard": (12, 2),
    "hopper-hop": (15, 4),
    "hopper-stand": (15, 4),
    "pendulum-swingup": (3, 1),
    "reacher-easy": (6, 2),
    "reacher-hard": (6, 2),
    "walker-run": (24, 6),
    "walker-stand": (24, 6),
    "walker-walk": (24, 6),
}
REPEAT = 2
SHORT = EnvironmentConfig(frame_skip=REPEAT, max_episode_steps=12, noop_max=0)


def config(**changes: int) -> EnvironmentConfig:
    return EnvironmentConfig(**({"noop_max": 0, "frame_skip": REPEAT} | changes))


def random_actions(count: int, size: int, seed: int = 0) -> np.ndarray:
    return ContinuousActions(size).random(np.random.default_rng(seed), count)


def test_the_tasks_are_the_published_ones() -> None:
    assert benchmark.names() == list(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_a_task_is_repeatable_and_its_episodes_differ(name: str) -> None:
    size, action_size = SIZES[name]
    used, fresh = (make(f"dmc/{name}", config()) for _ in range(2))
    assert used.environment_spec.observation == {"vector": VectorSpec(size)}
    assert used.environment_spec.actions == ContinuousActions(action_size)
    actions = random_actions(15, action_size)
    first = used.reset(seed=5)[0]["vector"]
    for action in actions:
        observation, reward, terminated, truncated, _ = used.step(action)
        assert used.observation_space.contains(observation)
        assert 0 <= reward <= REPEAT
        assert not terminated and not truncated
    another = used.reset()[0]["vector"]
    assert not np.array_equal(first, another)
    np.testing.assert_array_equal(used.reset(seed=5)[0]["vector"], fresh.reset(seed=5)[0]["vector"])
    for action in actions:
        one, other = used.step(action), fresh.step(action)
        np.testing.assert_array_equal(one[0]["vector"], other[0]["vector"])
        assert one[1] == other[1]


@pytest.mark.parametrize("name", ["walker-run", "finger-turn_hard"])
def test_a_step_holds_the_action_and_sums_the_rewards(name: str) -> None:
    env = make(f"dmc/{name}", config())  # before the import, which selects a renderer
    from dm_control import suite

    plain = suite.load(*name.split("-"))
    plain.task.random.seed(np.random.default_rng(3).integers(2**32, size=8))
    moment, (observation, _) = plain.reset(), env.reset(seed=3)
    for action in random_actions(20, SIZES[name][1]):
        expected = np.concatenate([np.ravel(part) for part in moment.observation.values()]).astype(np.float32)
        np.testing.assert_array_equal(observation["vector"], expected)
        moments = [plain.step(action.astype(np.float64)) for _ in range(REPEAT)]
        observation, reward, *_ = env.step(action)
        assert reward == sum(moment.reward for moment in moments)
        moment = moments[-1]


def test_an_episode_is_truncated_after_500_actions() -> None:
    env = make("dmc/cartpole-swingup", config())
    env.reset(seed=0)
    assert [env.step(np.zeros(1))[2:4] for _ in range(500)] == [(False, False)] * 499 + [(False, True)]


def test_a_shorter_limit_counts_actions_and_is_told_as_a_truncation() -> None:
    with VectorEnvironment([EnvironmentFactory("dmc/pendulum-swingup", SHORT)] * 2) as vector:
        vector.reset([0, 1])
        steps = [vector.step(np.zeros((2, 1))) for _ in range(12)]
    assert [ends.tolist() for _, _, ends, _ in steps] == [[False, False]] * 11 + [[True, True]]
    assert [infos for *_, infos in steps] == [[{}, {}]] * 11 + [[{"truncated": True}] * 2]


def test_a_restored_task_continues_identically() -> None:
    env, another = (make("dmc/walker-run", SHORT) for _ in range(2))
    actions = random_actions(60, 6)
    env.reset(seed=1)
    play(env, actions[:20])
    state = env.state()
    assert (state["episode"], state["actions"].shape, state["actions"].dtype) == (1, (8, 6), np.float32)
    another.reset(seed=8)
    another.restore(state)
    assert play(env, actions[20:]) == play(another, actions[20:])


def test_a_state_keeps_actions_that_the_caller_overwrites() -> None:
    env = make("dmc/pendulum-swingup", config())
    env.reset(seed=0)
    assert env.state()["actions"].shape == (0, 1)
    action = np.ones(1)
    env.step(action)
    action[:] = -1
    env.step(action)
    np.testing.assert_array_equal(env.state()["actions"], [[1], [-1]])


def test_it_needs_no_graphics_and_prints_nothing() -> None:
    program = (
        "import sys; from tokenworlds.config import *; from tokenworlds.envs import *\n"
        "make('dmc/cheetah-run', EnvironmentConfig()).reset(seed=0)\n"
        "assert 'torch' not in sys.modules"
    )
    without = {name: value for name, value in os.environ.items() if name not in ("MUJOCO_GL", "DISPLAY")}
    done = subprocess.run([sys.executable, "-c", program], env=without, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(os.environ.get("MUJOCO_GL", "disabled") != "disabled", reason="MUJOCO_GL allows drawing")
def test_drawing_without_graphics_says_what_to_set() -> None:
    env = make("dmc/pendulum-swingup", config())
    env.reset(seed=0)
    with pytest.raises(UserError, match="set MUJOCO_GL to egl or osmesa"):
        env.render()


def test_a_renderer_that_the_machine_lacks_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    monkeypatch.setitem(sys.modules, "dm_control", None)  # its import fails
    with pytest.raises(UserError, match=r"dm_control cannot draw with MUJOCO_GL=nonsense .*; unset it"):
        benchmark.ControlTask("pendulum", "swingup", 2)
