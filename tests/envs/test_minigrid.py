"""Grid worlds as symbols and in all modalities: the same worlds as in pictures."""

import numpy as np
import pytest

from tokenworlds.config import EnvironmentConfig
from tokenworlds.envs import EnvironmentFactory, GridSpec, ImageSpec, TokenSpec, VectorEnvironment, VectorSpec, make

EMPTY, WALL, DOOR, KEY, GOAL, AGENT = 1, 2, 4, 5, 8, 10
LEFT, RIGHT, FORWARD = 0, 1, 2


def config(**changes: int) -> EnvironmentConfig:
    return EnvironmentConfig(**({"noop_max": 0, "size": 16} | changes))


def test_every_cell_has_object_colour_and_state() -> None:
    env = make("minigrid_symbolic/Empty-5x5", config())
    assert env.environment_spec.observation == {"token_2d": GridSpec(5, 5, (11, 6, 4))}
    start = env.reset(seed=0)[0]["token_2d"]
    objects = start.reshape(5, 5, 3)[..., 0]
    assert (objects[[0, -1]] == WALL).all() and (objects[:, [0, -1]] == WALL).all()
    assert (objects[1, 1], objects[3, 3], objects[2, 2]) == (AGENT, GOAL, EMPTY)
    assert start.dtype == np.uint8
    path = [env.step(action)[0]["token_2d"].reshape(5, 5, 3) for action in (FORWARD, RIGHT, FORWARD, LEFT)]
    places = [tuple(np.argwhere(cells[..., 0] == AGENT).squeeze().tolist()) for cells in path]  # row, column
    assert places == [(1, 2), (1, 2), (2, 2), (2, 2)]
    assert [cells[place][2] for cells, place in zip(path, places)] == [0, 1, 1, 0]


def test_a_door_has_its_colour_and_state() -> None:
    cells = make("minigrid_symbolic/DoorKey-5x5", config()).reset(seed=3)[0]["token_2d"]
    [door], [key] = (cells[cells[:, 0] == kind] for kind in (DOOR, KEY))
    assert door[1] == key[1]
    assert (door[2], key[2]) == (2, 0)  # locked


def test_rows_come_before_columns_in_a_world_that_is_not_square() -> None:
    env = make("minigrid_symbolic/KeyCorridorS3R1", config())
    assert env.environment_spec.observation == {"token_2d": GridSpec(3, 7, (11, 6, 4))}
    cells = env.reset(seed=0)[0]["token_2d"].reshape(3, 7, 3)
    assert (cells[[0, -1], :, 0] == WALL).all()
    [[row, column]] = np.argwhere(cells[..., 0] == AGENT)
    assert (column, row) == tuple(env.get_wrapper_attr("agent_pos"))


def test_the_mixed_world_shows_all_modalities_in_their_order() -> None:
    env = make("minigrid_mixed/Empty-5x5", config(max_episode_steps=40))
    spec = env.environment_spec.observation
    assert list(spec.items()) == [
        ("image", ImageSpec(16, 16)),
        ("vector", VectorSpec(3)),
        ("token", TokenSpec(1, 4)),
        ("token_2d", GridSpec(5, 5, (11, 6, 4))),
    ]
    env.reset(seed=0)
    for action in (FORWARD, FORWARD, RIGHT, FORWARD):
        observation = env.step(action)[0]
    np.testing.assert_array_equal(observation["vector"], np.float32([3, 2, 4 / 40]))
    np.testing.assert_array_equal(observation["token"], [1])
    for name, part in spec.items():
        assert (observation[name].shape, observation[name].dtype) == (part.shape, part.dtype)


@pytest.mark.parametrize("name", ["Empty-Random-6x6", "DoorKey-5x5", "Dynamic-Obstacles-5x5"])
def test_all_benchmarks_play_the_same_world(name: str) -> None:
    benchmarks = [
        make(f"{benchmark}/{name}", config()) for benchmark in ("minigrid", "minigrid_symbolic", "minigrid_mixed")
    ]
    picture, symbols, mixed = (env.reset(seed=11)[0] for env in benchmarks)
    for action in np.random.default_rng(0).integers(benchmarks[0].environment_spec.num_actions, size=150):
        np.testing.assert_array_equal(picture["image"], mixed["image"])
        np.testing.assert_array_equal(symbols["token_2d"], mixed["token_2d"])
        assert mixed["token_2d"].reshape(-1, 3)[:, 0].tolist().count(AGENT) == 1
        steps = [env.step(action) for env in benchmarks]
        assert len({step[1:4] for step in steps}) == 1
        assert all(env.observation_space.contains(step[0]) for env, step in zip(benchmarks, steps))
        picture, symbols, mixed = (env.reset()[0] if step[2] else step[0] for env, step in zip(benchmarks, steps))


def test_the_world_s_own_limit_is_an_end_that_says_truncated() -> None:
    env = make("minigrid_symbolic/Empty-5x5", config())
    env.reset(seed=0)
    *earlier, last = [env.step(LEFT) for _ in range(100)]
    assert last[2:] == (True, False, {"truncated": True})
    assert not any(step[2] for step in earlier)


@pytest.mark.parametrize("task", ["minigrid_symbolic/Empty-Random-5x5", "minigrid_mixed/Empty-Random-5x5"])
def test_workers_restore_and_one_process_agree_in_every_modality(task: str) -> None:
    group = [EnvironmentFactory(task, config(max_episode_steps=20))] * 2
    actions = np.random.default_rng(0).integers(3, size=(60, 2))
    with VectorEnvironment(group, workers=True) as spread, VectorEnvironment(group, workers=False) as local:
        spread.reset([1, 2])
        local.reset([1, 2])
        for step, row in enumerate(actions):
            if step == 30:
                local.restore(spread.state())
            if local.finished.all():
                local.reset()
                spread.reset()
            one, other = local.step(row), spread.step(row)
            assert list(one[0]) == list(local.spec.observation)
            for name, values in one[0].items():
                assert values.dtype == local.spec.observation[name].dtype
                np.testing.assert_array_equal(values, other[0][name])
            assert one[3] == other[3]
