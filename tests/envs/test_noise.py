"""Noise on observed pictures: each environment's own, repeated with its seed, and never on what people are shown."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.envs.support import content, play
from tokenworlds.config import EnvironmentConfig, load
from tokenworlds.config.environments import NoiseConfig
from tokenworlds.config.values import to_dict
from tokenworlds.envs import EnvironmentFactory, Recorded, VectorEnvironment, make
from tokenworlds.envs.noise import CLEAN, clean
from tokenworlds.errors import UserError

CONFIG = EnvironmentConfig(size=32, noop_max=0, noise=NoiseConfig(std=0.1))
GRID, LIVES = "minigrid/Empty-Random-5x5", "atari/Breakout"


def actions(count: int, env: Recorded, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(env.environment_spec.num_actions, size=count)


@pytest.mark.parametrize("task", [GRID, LIVES])
@pytest.mark.parametrize("std", [0.05, 0.2])
def test_noise_has_its_deviation_and_is_rounded_to_bytes(task: str, std: float) -> None:
    config = replace(CONFIG, size=64, noise=NoiseConfig(std=std))
    env = EnvironmentFactory(task, config, keeps_clean=True)()
    observation, _ = env.reset(seed=3)
    picture, without = observation["image"].astype(int), observation[f"{CLEAN}image"].astype(int)
    assert observation["image"].dtype == np.uint8
    for _ in range(3):  # each frame has its own
        observation = env.step(0)[0]
        assert (observation["image"].astype(int) - observation[f"{CLEAN}image"] != picture - without).any()
    # half of the noise on black is cut off, so that the standard normal's E[max(eps, 0)] is left
    black = picture[without == 0]
    assert black.size > 1000 and black.mean() == pytest.approx(255 * std / np.sqrt(2 * np.pi), rel=0.1)


def test_noise_is_not_biased_by_rounding() -> None:
    """Truncation would darken every pixel by half a level."""
    env = EnvironmentFactory(GRID, replace(CONFIG, noise=NoiseConfig(std=0.02)), keeps_clean=True)()
    frames = [env.reset(seed=seed)[0] for seed in range(20)]
    picture, without = (np.stack([frame[name] for frame in frames]).astype(float) for name in ("image", "clean_image"))
    is_inside = (without > 50) & (without < 205)
    difference = (picture - without)[is_inside]
    assert difference.size > 5000 and abs(difference.mean()) < 0.2 and difference.std() == pytest.approx(5.1, rel=0.05)


@pytest.mark.parametrize("workers", [False, True])
def test_environments_of_a_group_differ_and_seeds_repeat_them(workers: bool) -> None:
    factory = EnvironmentFactory("minigrid/Empty-5x5", CONFIG)  # which begins always alike
    with VectorEnvironment([factory] * 2, workers=workers) as group:
        first = group.reset([1, 2])["image"]
        again = group.reset([1, 2])["image"]
    assert (first[0] != first[1]).mean() > 0.5
    np.testing.assert_array_equal(first, again)


def test_the_episodes_of_an_environment_differ() -> None:
    env = make("minigrid/Empty-5x5", CONFIG)
    assert content(env.reset(seed=1)[0]) != content(env.reset()[0])


@pytest.mark.parametrize(("task", "steps"), [(GRID, 130), (LIVES, 330)])
def test_a_restored_environment_continues_with_the_same_noise(task: str, steps: int) -> None:
    config = replace(CONFIG, max_episode_steps=None if task == GRID else 20_000)
    env = make(task, config)
    env.reset(seed=7)
    seen = play(env, actions(steps, env))
    state = env.state()
    assert state["episode"] >= 1 and (task == GRID or state["life_resets"])
    another = make(task, config)
    assert content(another.restore(state)) == seen[-1][0]
    more = actions(150, env, seed=1)
    assert play(env, more) == play(another, more)


@pytest.mark.parametrize("task", [GRID, LIVES])
def test_without_a_deviation_nothing_changes(task: str) -> None:
    plain = make(task, replace(CONFIG, noise=None))
    none = make(task, replace(CONFIG, noise=NoiseConfig(std=0)))
    for env in (plain, none):
        env.reset(seed=7)
    assert play(plain, actions(60, plain)) == play(none, actions(60, none))


@pytest.mark.parametrize("task", [GRID, LIVES])
def test_the_game_and_its_pictures_for_people_are_those_without_noise(task: str) -> None:
    plain = make(task, replace(CONFIG, noise=None))
    noisy = EnvironmentFactory(task, CONFIG, keeps_clean=True)()
    shown, seen = plain.reset(seed=5)[0], noisy.reset(seed=5)[0]
    for action in actions(40, plain):
        assert content(clean(dict(seen))) == (shown["image"].tobytes(), seen[f"{CLEAN}image"].tobytes())
        assert (seen["image"] != shown["image"]).any()
        np.testing.assert_array_equal(plain.render(), noisy.render())
        (shown, *one), (seen, *other) = plain.step(int(action)), noisy.step(int(action))
        assert one[:3] == other[:3]
        if one[1]:
            break


def test_only_evaluation_observes_clean_pictures() -> None:
    assert set(make(GRID, CONFIG).environment_spec.observation) == {"image"}


def test_a_task_without_pictures_is_refused() -> None:
    with pytest.raises(UserError, match=r"environment.noise is for pictures, the task shows token_2d; leave it out\."):
        make("minigrid_symbolic/Empty-5x5", CONFIG)


def settings(*overrides: str) -> tuple[Any, str]:
    config = load(["method=iris", "task=minigrid/Empty-5x5", "scale=smoke", *overrides])
    return to_dict(config.environment), config.hash()


@pytest.mark.parametrize(("variant", "std"), [("noise-005", 0.05), ("noise-01", 0.1), ("noise-02", 0.2)])
def test_variants_are_noisy_in_training_and_in_tests(variant: str, std: float) -> None:
    environment, _ = settings(f"variant={variant}")
    assert [environment[split]["noise"] for split in ("train", "test")] == [{"std": std}] * 2


def test_a_deviation_of_zero_is_the_same_run() -> None:
    plain, none = settings(), settings("environment.train.noise.std=0", "environment.test.noise.std=0.0")
    one = settings("environment.train.noise.std=0.1")
    assert plain == none and "noise" not in plain[0]["train"]
    assert one[1] != plain[1] and "noise" not in one[0]["test"]
