"""Craftax: the coding of its observations, and (slow: it has to be compiled) the package's game exactly."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.envs.support import ends, play
from tokenworlds.config import EnvironmentConfig
from tokenworlds.envs import (
    DiscreteActions,
    EnvironmentFactory,
    GridSpec,
    TokenSpec,
    VectorEnvironment,
    VectorSpec,
    make,
    registry,
)
from tokenworlds.envs import craftax as benchmark
from tokenworlds.envs.craftax.observation import MODALITIES, decode_observation

needs_game = pytest.mark.skipif(
    importlib.util.find_spec("craftax") is None, reason="needs craftax and jax: pip install -e '.[craftax]'"
)
CELLS = 99


def flat_observation(
    blocks: np.ndarray, items: np.ndarray, mobs: np.ndarray, light: np.ndarray, statistics: np.ndarray, direction: int
) -> np.ndarray:
    """The package's form of an observation; a mob of -1 is none."""
    one_hots = [np.eye(size)[values] for size, values in ((37, blocks), (5, items))]
    one_hots.append(np.vstack([np.eye(40), np.zeros(40)])[mobs])
    cells = np.concatenate([*one_hots, light[:, None]], axis=1)
    parts = [cells.ravel(), statistics[:31], np.eye(4)[direction], statistics[31:]]
    return np.concatenate(parts).astype(np.float32)


@given(st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_what_was_coded_is_decoded(seed: int, direction: int) -> None:
    generator = np.random.default_rng(seed)
    blocks, items, mobs = (generator.integers(low, high, CELLS) for low, high in ((0, 37), (0, 5), (-1, 40)))
    steps = generator.integers(20, size=CELLS)
    statistics = generator.normal(size=47).astype(np.float32)
    flat = flat_observation(blocks, items, mobs, (steps + 0.5) * 0.05, statistics, direction)
    assert flat.shape == (8268,)
    decoded = decode_observation(flat)
    expected = np.stack([blocks, items, np.maximum(mobs, 0), steps], axis=1)
    np.testing.assert_array_equal(decoded["token_2d"], expected)
    np.testing.assert_array_equal(decoded["token"], [direction])
    np.testing.assert_array_equal(decoded["vector"], statistics)
    for name, part in MODALITIES.items():
        assert (decoded[name].shape, decoded[name].dtype) == (part.shape, part.dtype)
    batch = decode_observation(np.stack([flat] * 3))
    assert all((batch[name] == decoded[name]).all() for name in decoded)


def test_full_light_is_the_last_of_the_vocabulary() -> None:
    """In float32, 1 / 0.05 is just below 20."""
    none = np.zeros(CELLS, dtype=int)
    light = np.linspace(0, 1, CELLS)
    columns = decode_observation(flat_observation(none, none, none, light, np.zeros(47), 0))["token_2d"][:, 3]
    assert (columns[0], columns[-1], columns.max()) == (0, 19, 19)


def test_an_unwritable_home_means_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".cache" / "tokenworlds" / "jax"
    assert benchmark._compilation_cache() == str(folder) and folder.is_dir()
    occupied = tmp_path / "file"
    occupied.touch()
    monkeypatch.setenv("HOME", str(occupied))
    assert benchmark._compilation_cache() is None


def config(**changes: int) -> EnvironmentConfig:
    return EnvironmentConfig(**({"noop_max": 0} | changes))


def random_actions(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(43, size=count)


@needs_game
@pytest.mark.slow
def test_the_task_is_as_published() -> None:
    env = make("craftax/Symbolic", config())
    spec = env.environment_spec
    assert list(spec.observation.items()) == [
        ("vector", VectorSpec(47)),
        ("token", TokenSpec(1, 4)),
        ("token_2d", GridSpec(9, 11, (37, 5, 40, 20))),
    ]
    assert isinstance(spec.actions, DiscreteActions)
    assert (spec.num_actions, spec.actions.meanings[0], spec.actions.meanings[-1]) == (43, "noop", "enchant_bow")
    assert len(spec.achievements) == len(set(spec.achievements)) == 67
    assert (spec.achievements[0], spec.achievements[-1]) == ("collect_wood", "defeat_archer")
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert observation["token_2d"][:, 3].max() == 19  # it begins by day


@needs_game
@pytest.mark.slow
def test_published_keys_give_the_package_s_own_game() -> None:
    env = make("craftax/Symbolic", config(legacy_keys=True))
    observation, _ = env.reset(seed=1234)
    import jax
    from craftax.craftax_env import make_craftax_env_from_name

    game = make_craftax_env_from_name("Craftax-Symbolic-v1", auto_reset=True)
    key = jax.random.PRNGKey(0)
    key, start = jax.random.split(key)
    flat, state = game.reset(start)
    count = 0
    for action in random_actions(450):
        expected = decode_observation(np.array(flat))
        assert all((observation[name] == expected[name]).all() for name in expected)
        key, step = jax.random.split(key)
        flat, state, reward, is_over, details = game.step(step, state, int(action))
        observation, our_reward, terminated, truncated, info = env.step(int(action))
        assert (terminated, truncated) == (bool(is_over), False)
        assert our_reward == float(reward)
        if is_over:
            count += 1
            unlocked = {name.removeprefix("Achievements/") for name, rate in details.items() if rate == 100}
            assert set(info["achievements"]) == unlocked and unlocked
            key, start = jax.random.split(key)
            flat, state = game.reset(start)
            observation, _ = env.reset()
    assert count >= 1


@needs_game
@pytest.mark.slow
def test_episodes_follow_from_seeds() -> None:
    first, second = (make("craftax/Symbolic", config()) for _ in range(2))
    starts = []
    for seed in (7, None, 8, 7 + 2**40):
        one, other = (env.reset(seed=seed)[0] for env in (first, second))
        assert all((one[name] == other[name]).all() for name in one)
        starts.append(one["token_2d"].tobytes())
    assert len(set(starts)) == 4
    first.reset(seed=7)
    second.reset(seed=7)
    assert play(first, random_actions(50)) == play(second, random_actions(50))


@needs_game
@pytest.mark.slow
@pytest.mark.parametrize("legacy_keys", [False, True])
def test_a_restored_episode_continues_identically(legacy_keys: bool) -> None:
    settings = config(legacy_keys=legacy_keys)
    env, another = (make("craftax/Symbolic", settings) for _ in range(2))
    first, second = env.reset(seed=7)[0], another.reset(seed=8)[0]
    assert (first["token_2d"].tobytes() == second["token_2d"].tobytes()) == legacy_keys
    count = ends(play(env, random_actions(450)))
    state = env.state()
    assert state["episode"] == count > 0
    another.restore(state)
    more = random_actions(300, seed=1)
    assert play(env, more) == play(another, more)


@needs_game
@pytest.mark.slow
def test_a_limit_is_a_truncation_that_tells_the_achievements_in_workers_too() -> None:
    group = [EnvironmentFactory("craftax/Symbolic", config(max_episode_steps=9))] * 2
    with VectorEnvironment(group, workers=True) as spread, VectorEnvironment(group, workers=False) as local:
        spread.reset([1, 2])
        local.reset([1, 2])
        infos = []
        for _ in range(9):
            one, other = local.step([0, 0]), spread.step([0, 0])  # nothing is done
            for name, values in one[0].items():
                np.testing.assert_array_equal(values, other[0][name])
            assert one[3] == other[3]
            infos.append(one[3])
    assert infos == [[{}, {}]] * 8 + [[{"truncated": True, "achievements": ()}] * 2]


# The notice


def test_a_person_is_told_once_what_takes_minutes_and_workers_say_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(benchmark, "make", lambda *_: (_ for _ in ()).throw(RuntimeError("compiled")))
    registry.announce.cache_clear()
    factory = EnvironmentFactory("craftax/Symbolic", EnvironmentConfig())
    with pytest.raises(RuntimeError, match="compiled"):
        factory()  # as in a worker
    assert capsys.readouterr().out == ""
    for _ in range(2):
        with pytest.raises(RuntimeError, match="compiled"):
            VectorEnvironment([factory] * 2, workers=False)
    with pytest.raises(RuntimeError, match="compiled"):
        make("craftax/Symbolic", EnvironmentConfig())
    assert capsys.readouterr().out == f"compiling Craftax, minutes on the first start; kept in {tmp_path}\n"
    registry.announce.cache_clear()


def test_nothing_is_announced_of_a_game_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    registry.announce.cache_clear()
    registry.announce("craftax/Symbolic")
    assert capsys.readouterr().out == ""
    registry.announce.cache_clear()
