"""Groups of environments: workers and one process agree, ends reset, crashes are reported."""

import os
import signal
import sys
import time
from typing import Any

import gymnasium
import numpy as np
import pytest

from tokenworlds.envs import EnvironmentConfig, EnvironmentFactory, Recorded, VectorEnvironment
from tokenworlds.envs.vector import WorkerMember
from tokenworlds.errors import UserError

BREAKOUT = EnvironmentFactory("atari/Breakout", "train", EnvironmentConfig())
GRID = EnvironmentFactory("minigrid/Empty-Random-5x5", "train", EnvironmentConfig(max_episode_steps=20, noop_max=0))


class Fragile(gymnasium.Env[Any, Any]):
    """Action 1 raises, 2 kills the process, 3 leaves it."""

    observation_space = gymnasium.spaces.Dict({"image": gymnasium.spaces.Box(0, 255, (3, 4, 4), np.uint8)})
    action_space = gymnasium.spaces.Discrete(4)
    action_meanings = ("nothing", "raise", "kill", "exit")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return {"image": np.zeros((3, 4, 4), np.uint8)}, {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if action == 1:
            raise ValueError("the fragile world broke")
        if action == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if action == 3:
            os._exit(3)
        return self.reset()[0], 0.0, False, False, {}


def make_fragile() -> Recorded:
    return Recorded(Fragile())


def make_impossible() -> Recorded:
    raise UserError("this world cannot be made.")


def roll(vector: VectorEnvironment, actions: np.ndarray) -> list[Any]:
    return [vector.step(row) for row in actions]


def assert_same(first: list[Any], second: list[Any]) -> None:
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one[0]["image"], other[0]["image"])
        np.testing.assert_array_equal(one[1], other[1])
        np.testing.assert_array_equal(one[2], other[2])
        assert one[3] == other[3]


def test_workers_and_one_process_give_the_same_steps() -> None:
    actions = np.random.default_rng(0).integers(4, size=(130, 2))
    with (
        VectorEnvironment([BREAKOUT] * 2, workers=False) as local,
        VectorEnvironment([BREAKOUT] * 2, workers=True) as spread,
    ):
        first = local.reset([1, 2])
        np.testing.assert_array_equal(first["image"], spread.reset([1, 2])["image"])
        assert first["image"].shape == (2, 3, 64, 64)
        assert first["image"].dtype == np.uint8
        steps = roll(local, actions)
        assert_same(steps, roll(spread, actions))
        assert sum(ends.sum() for _, _, ends, _ in steps) >= 1
        assert steps[0][1].dtype == np.float32
        assert local.render()[0].shape == (210, 160, 3)


@pytest.mark.parametrize("workers", [False, True])
def test_a_restored_group_continues_identically(workers: bool) -> None:
    actions = np.random.default_rng(0).integers(7, size=(90, 2))
    with VectorEnvironment([GRID] * 2, workers) as vector, VectorEnvironment([GRID] * 2, workers=False) as another:
        vector.reset([1, 2])
        *_, last = roll(vector, actions[:47])
        state = vector.state()
        np.testing.assert_array_equal(another.restore(state)["image"], last[0]["image"])
        assert_same(roll(vector, actions[47:]), roll(another, actions[47:]))


def test_an_environment_resets_itself_at_the_end() -> None:
    with VectorEnvironment([GRID]) as vector, VectorEnvironment([GRID]) as fresh:
        vector.reset([5])
        fresh.reset([5])
        for step in range(1, 21):
            observations, _, ends, infos = vector.step([0])
            assert ends[0] == (step == 20)
        assert infos[0]["time_limit"]
        start = fresh._members[0]._env.reset()[0]  # type: ignore[attr-defined]
        np.testing.assert_array_equal(observations["image"][0], start["image"])


def test_a_new_round_leaves_environments_at_a_start_alone() -> None:
    with VectorEnvironment([GRID] * 2) as vector:
        before = vector.reset([5, 6])
        np.testing.assert_array_equal(before["image"], vector.reset()["image"])
        vector.step([0, 0])
        episodes = [state["episode"] for state in vector.state()]
        vector.reset()
        assert [state["episode"] for state in vector.state()] == [episode + 1 for episode in episodes]


def test_returned_observations_are_copies() -> None:
    with VectorEnvironment([GRID], workers=True) as vector:
        first = vector.reset([0])["image"]
        kept = first.copy()
        vector.step([2])
        vector.step([1])
        np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    ("action", "message"),
    [(1, "failed with ValueError: the fragile world broke"), (2, "was ended by SIGKILL"), (3, "ended with status 3")],
)
def test_a_crashed_worker_is_a_clear_error(action: int, message: str) -> None:
    with VectorEnvironment([make_fragile] * 2, workers=True) as vector:
        vector.reset([0, 1])
        begin = time.monotonic()
        with pytest.raises(UserError, match=f"environment worker 1 {message}"):
            vector.step([0, action])
        assert time.monotonic() - begin < 20


def test_a_world_that_cannot_be_made_says_why_and_leaves_no_process() -> None:
    with pytest.raises(UserError, match="this world cannot be made"):
        VectorEnvironment([make_fragile, make_impossible], workers=True)


def test_close_ends_the_workers_and_may_be_repeated() -> None:
    vector = VectorEnvironment([GRID] * 2, workers=True)
    processes = [member._process for member in vector._members if isinstance(member, WorkerMember)]
    assert len(processes) == 2
    vector.close()
    vector.close()
    assert [process.poll() for process in processes] == [0, 0]


def test_a_forgotten_group_cleans_up_after_itself() -> None:
    vector = VectorEnvironment([GRID], workers=True)
    member = vector._members[0]
    assert isinstance(member, WorkerMember)
    process = member._process
    del member, vector
    assert process.poll() is not None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_do_not_import_torch() -> None:
    with VectorEnvironment([GRID], workers=True) as vector:
        member = vector._members[0]
        assert isinstance(member, WorkerMember)
        with open(f"/proc/{member._process.pid}/maps") as maps:
            assert "libtorch" not in maps.read()


def test_wrong_numbers_of_seeds_and_actions_are_refused() -> None:
    with VectorEnvironment([GRID] * 2) as vector:
        with pytest.raises(ValueError, match="expected 2 seeds"):
            vector.reset([1])
        vector.reset([1, 2])
        with pytest.raises(ValueError, match="expected 2 actions"):
            vector.step([1])
