"""Environments that are saved and restored go on exactly as if nothing had happened."""

import json

import numpy as np
import pytest

from tests.envs.support import content, ends, play
from tokenworlds.config import EnvironmentConfig
from tokenworlds.envs import make
from tokenworlds.envs.recorded import episode_seed

TRAIN = EnvironmentConfig(max_episode_steps=20_000)


def random_actions(count: int, num_actions: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(num_actions, size=count)


# Breakout: several lives a game. Assault: the emulator's memory of the previous game changes the next one.
@pytest.mark.parametrize(("task", "steps"), [("atari/Breakout", 90), ("atari/Breakout", 330), ("atari/Assault", 400)])
def test_a_restored_game_continues_identically(task: str, steps: int) -> None:
    env = make(task, TRAIN)
    env.reset(seed=7)
    actions = random_actions(steps, env.environment_spec.num_actions)
    seen = play(env, actions)
    assert ends(seen) >= 2, "the test needs lost lives before the point of restoring"
    state = env.state()
    if (task, steps) == ("atari/Breakout", 330):  # a later game, and a later life of it
        assert state["episode"] >= 1 and state["snapshot"] is not None and len(state["life_resets"]) >= 1
    more = random_actions(250, env.environment_spec.num_actions, seed=1)
    expected = play(env, more)
    another = make(task, TRAIN)
    another.reset(seed=99)
    play(another, actions[:30])
    assert content(another.restore(state)) == seen[-1][0]
    again = another.state()
    assert again["life_resets"] == state["life_resets"] and (again["actions"] == state["actions"]).all()
    assert expected == play(another, more)
    assert ends(expected) >= 1, "the continuation should cross an end"


def test_a_state_survives_json() -> None:
    env = make("minigrid/Empty-Random-5x5", EnvironmentConfig())
    env.reset(seed=3)
    play(env, random_actions(130, 7))
    state = env.state()
    text = json.dumps({**state, "actions": state["actions"].tolist()})
    restored = make("minigrid/Empty-Random-5x5", EnvironmentConfig())
    restored.restore({**json.loads(text), "actions": np.array(json.loads(text)["actions"])})
    more = random_actions(60, 7, seed=2)
    assert play(env, more) == play(restored, more)


def test_equal_seeds_give_equal_runs_and_episodes_differ() -> None:
    first, second = (make("minigrid/Empty-Random-6x6", EnvironmentConfig()) for _ in range(2))
    starts = []
    for _ in range(8):
        seed = 11 if not starts else None
        one, other = first.reset(seed=seed)[0]["image"], second.reset(seed=seed)[0]["image"]
        np.testing.assert_array_equal(one, other)
        starts.append(one.tobytes())
    assert len(set(starts)) > 3
    assert episode_seed(11, 0) == 11


def test_a_state_before_the_first_reset_is_refused() -> None:
    with pytest.raises(RuntimeError, match="before its first reset"):
        make("minigrid/Empty-5x5", EnvironmentConfig()).state()
