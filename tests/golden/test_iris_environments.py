"""Environment semantics of IRIS against golden traces of a scripted raw game, and which of a group have finished."""

from typing import Any

import gymnasium
import numpy as np
import pytest

from tests.golden.support import Case, load_case
from tokenworlds.config import EnvironmentConfig
from tokenworlds.envs import Recorded, VectorEnvironment
from tokenworlds.envs.atari import preprocess
from tokenworlds.envs.wrappers import NoopReset


class ScriptedGame(gymnasium.Env[np.ndarray, int]):
    """The raw game that the cases describe: pictures, rewards and lives are formulae of the raw step t."""

    action_meanings = ("NOOP", "FIRE", "RIGHT")

    def __init__(self, game_len: int, life_steps: list[int]) -> None:
        self.observation_space = gymnasium.spaces.Box(0, 255, (210, 160, 3), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(3)
        self.game_len, self.life_steps = game_len, life_steps
        self.episode = -1

    def _frame(self, action: int) -> np.ndarray:
        y, x, channel = np.mgrid[:210, :160, :3]
        pattern = 11 * self.t * ((y // 30 + x // 40) % 3)
        return ((3 * y + 5 * x + 7 * channel + pattern + 31 * self.episode + 13 * action) % 256).astype(np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.t, self.lives, self.episode = 0, 3, self.episode + 1
        return self._frame(0), {"lives": self.lives}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.t += 1
        self.lives -= self.t in self.life_steps
        is_over = self.t >= self.game_len or self.lives == 0
        return self._frame(action), (7 * self.t) % 5 - 1, is_over, False, {"lives": self.lives}


def assert_same_pictures(actual: np.ndarray, expected: np.ndarray) -> None:
    """Off by one on at most 0.1 % of the pixels, else exact (the tolerance that the cases state in words)."""
    assert actual.shape == expected.shape
    difference = np.abs(actual.astype(int) - expected.astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 0.001


def roll(case: Case, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, list[float], list[bool], list[int]]:
    config = dict(case.config)
    forced_noops, game_len, life_steps = (config.pop(key) for key in ("forced_noops", "game_len", "life_steps"))
    monkeypatch.setattr(NoopReset, "draw_noops", lambda self: forced_noops)
    env = preprocess(ScriptedGame(game_len, life_steps), EnvironmentConfig(**config))
    observations = [env.reset(seed=0)[0]["image"]]
    rewards, ends, lives = [], [], []
    for action in case.array("input.actions"):
        observation, reward, end, truncated, info = env.step(int(action))
        assert not truncated
        observations.append(observation["image"])
        rewards.append(float(reward))
        ends.append(end)
        lives.append(info["lives"])
        if end:
            observations.append(env.reset(options={"scope": "life"})[0]["image"])
    return np.stack(observations).transpose(0, 2, 3, 1), rewards, ends, lives


@pytest.mark.parametrize("name", ["env_wrappers_train", "env_wrappers_test"])
def test_wrappers_reproduce_the_trace(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = load_case("iris", name)
    observations, rewards, ends, lives = roll(case, monkeypatch)
    assert_same_pictures(observations, case.array("expected.observations"))
    np.testing.assert_array_equal(rewards, case.array("expected.rewards"))
    np.testing.assert_array_equal(ends, case.array("expected.dones").astype(bool))
    np.testing.assert_array_equal(lives, case.array("expected.lives_after"))


class Countdown(gymnasium.Env[dict[str, np.ndarray], int]):
    """Ends where its column of flags says so for the first time."""

    observation_space = gymnasium.spaces.Dict({"image": gymnasium.spaces.Box(0, 255, (3, 1, 1), np.uint8)})
    action_space = gymnasium.spaces.Discrete(1)
    action_meanings = ("NOOP",)

    def __init__(self, flags: np.ndarray) -> None:
        self.flags = iter(flags.tolist())

    def reset(self, **_: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return {"image": np.zeros((3, 1, 1), np.uint8)}, {}

    def step(self, action: int) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        return self.reset()[0], 0.0, bool(next(self.flags)), False, {}


@pytest.mark.parametrize("method", ["iris", "delta_iris"])
def test_finished_environments_reproduce_the_trace(method: str) -> None:
    """States of the reference, 0 running, 1 finished in this step, 2 finished earlier: finished before + after it."""
    case = load_case(method, "done_tracker")
    flags = case.array("input.dones")
    group = VectorEnvironment([lambda own=own: Recorded(Countdown(own)) for own in flags.T], workers=False)
    group.reset(range(case.config["num_envs"]))
    states, counts = [], []
    for _ in flags:
        before = group.finished
        if not before.all():
            group.step([0] * len(before))
        states.append(before.astype(int) + group.finished)
        counts.append([(~before).sum(), group.finished.sum()])
    case.assert_close(np.stack(states), "expected.tracker")
    if method == "iris":
        case.assert_close(np.array(counts)[:, 0], "expected.counted_steps")
        case.assert_close(np.array(counts)[:, 1], "expected.num_envs_done")
    else:
        case.assert_close(np.array(counts), "expected.counted_and_done")
