"""Groups of environments: workers and one process agree, who finishes waits, crashes are reported."""

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import gymnasium
import numpy as np
import pytest

from tokenworlds.config import EnvironmentConfig
from tokenworlds.envs import (
    DiscreteActions,
    EnvironmentFactory,
    EnvironmentSpec,
    ImageSpec,
    Recorded,
    VectorEnvironment,
)
from tokenworlds.envs.vector import members
from tokenworlds.envs.vector.commands import SharedObservation, shortage
from tokenworlds.envs.vector.members import WorkerMember
from tokenworlds.errors import UserError

BREAKOUT = EnvironmentFactory("atari/Breakout", EnvironmentConfig())
GRID = EnvironmentFactory("minigrid/Empty-Random-5x5", EnvironmentConfig(max_episode_steps=20, noop_max=0))
SHORT = EnvironmentFactory("minigrid/Empty-Random-5x5", EnvironmentConfig(max_episode_steps=6, noop_max=0))


class Fragile(gymnasium.Env[Any, Any]):
    """Action 1 raises, 2 kills the process, 3 leaves it, 4 never returns, 5 terminates it, 6 finds no memory."""

    observation_space = gymnasium.spaces.Dict({"image": gymnasium.spaces.Box(0, 255, (3, 4, 4), np.uint8)})
    action_space = gymnasium.spaces.Discrete(7)
    action_meanings = ("nothing", "raise", "kill", "exit", "hang", "terminate", "exhaust")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return {"image": np.zeros((3, 4, 4), np.uint8)}, {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if action == 1:
            raise ValueError("the fragile world broke")
        if action == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if action == 3:
            os._exit(3)
        if action == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        if action == 6:
            raise MemoryError
        while action == 4:
            time.sleep(0.1)
        return self.reset()[0], 0.0, False, False, {}


def make_fragile() -> Recorded:
    return Recorded(Fragile())


def make_impossible() -> Recorded:
    raise UserError("this world cannot be made.")


def make_slow() -> Recorded:
    time.sleep(600)
    return make_fragile()


def make_dying() -> Recorded:
    os._exit(5)


def roll(vector: VectorEnvironment, actions: np.ndarray) -> list[Any]:
    """Steps in rounds; what they returned."""
    steps = []
    for row in actions:
        if vector.finished.all():
            vector.reset()
        steps.append(vector.step(row))
    return steps


def processes(vector: VectorEnvironment) -> list["subprocess.Popen[bytes]"]:
    return [member._process for member in vector._members if isinstance(member, WorkerMember)]


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


def restored_as_saved(vector: VectorEnvironment, another: VectorEnvironment, actions: np.ndarray) -> None:
    """Goes on with the saved and with the restored group."""
    before = vector.observations["image"]
    np.testing.assert_array_equal(another.restore(vector.state())["image"], before)
    np.testing.assert_array_equal(another.finished, vector.finished)
    assert_same(roll(vector, actions), roll(another, actions))


# Rounds of twenty: the short one runs, has finished, both have.
@pytest.mark.parametrize(("steps", "workers"), [(43, False), (58, False), (60, False), (58, True)])
def test_a_restored_group_continues_identically(steps: int, workers: bool) -> None:
    actions = np.random.default_rng(0).integers(2, size=(100, 2))  # never reaches the goal
    group = [SHORT, GRID]
    with VectorEnvironment(group, workers) as vector, VectorEnvironment(group, workers=False) as another:
        vector.reset([1, 2])
        roll(vector, actions[:steps])
        assert vector.finished.tolist() == {43: [False, False], 58: [True, False], 60: [True, True]}[steps]
        restored_as_saved(vector, another, actions[steps:])


def test_what_has_finished_waits_for_the_next_round() -> None:
    with VectorEnvironment([SHORT, GRID]) as vector:
        vector.reset([5, 6])
        assert not vector.finished.any()
        for step in range(1, 21):
            observations, rewards, ends, infos = vector.step([step % 2, 0])
            assert ends.tolist() == [step >= 6, step == 20] == vector.finished.tolist()
            if step == 6:
                last = observations["image"][0]
                assert infos[0]["truncated"]
            if step > 6:
                np.testing.assert_array_equal(observations["image"][0], last)
                assert rewards[0] == 0 and infos[0] == {}
        states = vector.state()
        assert [len(state["actions"]) for state in states] == [6, 20]  # no surplus
        with pytest.raises(RuntimeError, match=r"all environments have finished; reset\(\)"):
            vector.step([0, 0])
        vector.reset()
        assert not vector.finished.any()
        assert [state["episode"] for state in vector.state()] == [1, 1]


def test_a_new_round_leaves_running_environments_alone() -> None:
    with VectorEnvironment([SHORT, GRID]) as vector:
        assert vector.finished.all()
        vector.reset([5, 6])
        roll(vector, np.zeros((8, 2), dtype=int))
        assert vector.finished.tolist() == [True, False]
        before = vector.observations["image"]
        after = vector.reset()["image"]
        np.testing.assert_array_equal(after[1], before[1])
        assert [state["episode"] for state in vector.state()] == [1, 0]
        assert not vector.finished.any()


@pytest.mark.parametrize("factory", [BREAKOUT, GRID])
def test_one_environment_plays_its_episodes_one_after_another(factory: EnvironmentFactory) -> None:
    plain = factory()
    with VectorEnvironment([factory]) as vector:
        expected, seen = plain.reset(seed=3)[0], vector.reset([3])
        ends = 0
        for action in np.random.default_rng(0).integers(plain.environment_spec.num_actions, size=330):
            np.testing.assert_array_equal(expected["image"], seen["image"][0])
            expected, reward, is_over, _, _ = plain.step(int(action))
            seen, rewards, flags, _ = vector.step([action])
            assert (rewards[0], flags[0]) == (np.float32(reward), is_over)
            if is_over:
                ends += 1
                expected, seen = plain.reset()[0], vector.reset()
        assert ends >= 5


def test_returned_observations_are_copies() -> None:
    with VectorEnvironment([GRID], workers=True) as vector:
        first = vector.reset([0])["image"]
        kept = first.copy()
        vector.step([2])
        vector.step([1])
        np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    ("action", "message", "status"),
    [
        (1, "failed with ValueError: the fragile world broke", 2),
        (2, "was ended by SIGKILL", 3),  # which the system sends where memory is exhausted
        (3, "ended with status 3", 2),
        (4, "has not answered for 2 s", 128 + signal.SIGALRM),
        (5, "was ended by SIGTERM", 128 + signal.SIGTERM),
        (6, "failed with MemoryError", 3),
    ],
)
def test_a_crashed_worker_is_a_clear_error(
    action: int, message: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with VectorEnvironment([make_fragile] * 2, workers=True) as vector:
        vector.reset([0, 1])
        monkeypatch.setattr(members, "_ANSWER_SECONDS", 2.0)
        begin = time.monotonic()
        with pytest.raises(UserError, match=f"environment worker 1 {message}.*start the run again") as caught:
            vector.step([0, action])
    assert caught.value.status == status
    assert time.monotonic() - begin < 20
    assert all(process.poll() is not None for process in processes(vector))


def test_stuck_workers_are_ended_together() -> None:
    vector = VectorEnvironment([make_fragile] * 8, workers=True)
    vector.reset(list(range(8)))
    for member in vector._members:
        member.send("step", 4)
    begin = time.monotonic()
    vector.close()
    assert time.monotonic() - begin < 8  # each needs a second or two
    assert all(process.poll() is not None for process in processes(vector))


TRAINER = """
import sys, time
from tests.envs.test_vector import *
state = sys.argv[1]
if state == "starting":
    members = [WorkerMember(make_slow, index) for index in range(2)]
    print(*(member._process.pid for member in members), flush=True)
    time.sleep(600)
vector = VectorEnvironment([make_fragile] * 2, workers=True)
vector.reset([0, 1])
if state == "stuck":
    vector._members[0].send("step", 4)
print(*(process.pid for process in processes(vector)), flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc, which only Linux has, whether a process still runs")
@pytest.mark.parametrize("state", ["starting", "waiting", "stuck"])
def test_workers_leave_at_once_when_the_trainer_is_killed(state: str) -> None:
    search_path = os.pathsep.join(path or os.getcwd() for path in sys.path)
    environment = os.environ | {"PYTHONPATH": search_path}
    command = [sys.executable, "-c", TRAINER, state]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout is not None
        workers = [int(word) for word in trainer.stdout.readline().split()]
        have_started = eventually(lambda: all(map(is_worker, workers)), seconds=20)  # their programs are being loaded
        trainer.kill()
    assert len(workers) == 2 and have_started
    assert eventually(lambda: not any(map(is_worker, workers)), seconds=1), "a worker outlives its trainer"


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc, which only Linux has, whether a process still runs")
def test_workers_outlive_the_thread_that_made_them() -> None:
    made: list[VectorEnvironment] = []
    thread = threading.Thread(target=lambda: made.append(VectorEnvironment([make_fragile] * 2, workers=True)))
    thread.start()
    thread.join()
    with made[0] as vector:
        vector.reset([0, 1])
        vector.step([0, 0])


def eventually(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def is_worker(process: int) -> bool:
    """Whether it still runs our program: a zombie that nobody has collected yet has no command line."""
    try:
        with open(f"/proc/{process}/cmdline") as line:
            return "tokenworlds.envs.vector.worker" in line.read()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_world_that_cannot_be_made_says_why_and_leaves_no_process() -> None:
    with pytest.raises(UserError, match="this world cannot be made"):
        VectorEnvironment([make_fragile, make_impossible], workers=True)


def test_close_ends_the_workers_and_may_be_repeated() -> None:
    vector = VectorEnvironment([GRID] * 2, workers=True)
    vector.close()
    vector.close()
    assert [process.poll() for process in processes(vector)] == [0, 0]


def test_a_forgotten_group_cleans_up_after_itself() -> None:
    vector = VectorEnvironment([GRID], workers=True)
    (process,) = processes(vector)
    del vector
    assert process.poll() is not None


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc, which only Linux has, what a process has loaded")
def test_workers_do_not_import_torch() -> None:
    with VectorEnvironment([GRID], workers=True) as vector, open(f"/proc/{processes(vector)[0].pid}/maps") as maps:
        assert "libtorch" not in maps.read()


def test_wrong_numbers_of_seeds_and_actions_are_refused() -> None:
    with VectorEnvironment([GRID] * 2) as vector:
        with pytest.raises(ValueError, match="expected 2 seeds"):
            vector.reset([1])
        vector.reset([1, 2])
        with pytest.raises(ValueError, match="expected 2 actions"):
            vector.step([1])


# What the system lacks


def test_too_few_file_descriptors_are_named_with_their_remedy() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/dev/fd"))
    held = [os.dup(0)]
    while held[-1] <= highest:  # no gap is left below the limit
        held.append(os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (held[-1] + 6, limits[1]))
    try:
        with pytest.raises(UserError, match=r"worker \d+: too many open files \(the limit is \d+\); raise it"):
            VectorEnvironment([make_slow] * 16, workers=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in held:
            os.close(descriptor)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "is full: it must hold an observation of each environment; free some of it, enlarge it"),
        (errno.EAGAIN, "no further process for an environment"),
        (errno.EPERM, "it cannot be started:"),
    ],
)
def test_a_start_that_the_system_refuses_is_one_sentence(
    number: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", Mock(side_effect=OSError(number, os.strerror(number))))
    with pytest.raises(UserError, match=message) as error:
        VectorEnvironment([make_fragile] * 2, workers=True)
    assert len(str(error.value)) <= 300


def test_memory_that_is_shared_is_reserved_and_not_only_promised(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = EnvironmentSpec({"image": ImageSpec(64, 64)}, DiscreteActions(2))
    with (tmp_path / "memory").open("w+b") as file:
        SharedObservation(spec, file.fileno())
        assert os.fstat(file.fileno()).st_blocks * 512 >= 3 * 64 * 64
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, "posix_fallocate", Mock(side_effect=full))
    with (tmp_path / "full").open("w+b") as file, pytest.raises(OSError, match="No space left") as error:
        SharedObservation(spec, file.fileno())
    assert "is full" in str(shortage(error.value))


def test_a_system_without_affinity_counts_its_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    with VectorEnvironment([GRID] * 2) as vector:
        assert vector.num_envs == 2


def test_a_worker_that_dies_at_its_start_says_so() -> None:
    with pytest.raises(UserError, match="environment worker 0 ended with status 5 while it started, what it said"):
        VectorEnvironment([make_dying] * 2, workers=True)
