"""Tasks by name, their specifications, and what their pictures and ends look like."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from tokenworlds.envs import DiscreteActions, EnvironmentConfig, ImageSpec, check_task, known_tasks, make
from tokenworlds.envs.minigrid import tile_pixels
from tokenworlds.errors import UserError


@pytest.mark.parametrize(
    ("task", "actions", "first"),
    [("atari/Breakout", 4, "NOOP"), ("atari/Pong", 6, "NOOP"), ("minigrid/Empty-5x5", 7, "left")],
)
def test_an_environment_is_as_specified(task: str, actions: int, first: str) -> None:
    env = make(task, "test", EnvironmentConfig(noop_max=1, done_on_life_loss=False))
    spec = env.environment_spec
    assert spec.observation == {"image": ImageSpec(64, 64, 3)}
    assert isinstance(spec.actions, DiscreteActions)
    assert (spec.num_actions, spec.actions.meanings[0]) == (actions, first)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert env.observation_space.contains(env.step(1)[0])
    assert env.render().shape[-1] == 3


def test_the_published_games_are_known() -> None:
    tasks = known_tasks()
    assert {"atari/MsPacman", "atari/UpNDown", "atari/KungFuMaster", "minigrid/Empty-5x5"} <= set(tasks)
    assert {"craftax/Symbolic", "dmc/walker-run", "minigrid_symbolic/Empty-5x5", "minigrid_mixed/Empty-5x5"} <= set(
        tasks
    )
    assert len(tasks) == len(set(tasks))


@pytest.mark.parametrize(
    ("task", "hint"),
    [
        ("atari/Pongg", "did you mean atari/Pong"),
        ("atari/pong", "atari/Pong"),
        ("attari/Breakout", "atari/Breakout"),
        ("Breakout", "atari/Breakout"),
        ("minigrid/Empty-5", "minigrid/Empty-5x5"),
        ("dmc/walker_run", "dmc/walker-run"),
        ("craftax/Pixels", "craftax/Symbolic"),
    ],
)
def test_an_unknown_task_lists_near_matches(task: str, hint: str) -> None:
    with pytest.raises(UserError, match=f"unknown task '{task}'.*{hint}"):
        check_task(task)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"frame_skip": 1}, "environment.frame_skip must be at least 2"),
        ({"max_episode_steps": 30}, "must exceed noop_max"),
    ],
)
def test_an_impossible_configuration_is_refused(values: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        EnvironmentConfig(**values)


def test_environments_print_nothing_and_import_only_their_own_packages() -> None:
    program = (
        "import sys; from tokenworlds.envs import *; make('atari/Pong', 'train', EnvironmentConfig()).reset(seed=0);"
        "make('minigrid_mixed/Empty-5x5', 'train', EnvironmentConfig()).reset(seed=0);"
        "assert not {'torch', 'dm_control', 'jax'} & set(sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("task", "module", "package"),
    [
        ("crafter/Reward", "crafter", "crafter"),
        ("craftax/Symbolic", "craftax", "craftax"),
        ("dmc/walker-run", "dm_control", "dm-control"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    task: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else object())
    assert task in known_tasks()
    extra = task.split("/")[0]
    with pytest.raises(UserError) as error:
        make(task, "train", EnvironmentConfig())
    assert str(error.value) == (
        f"{task} needs the package {package}: pip install -c constraints.txt -e '.[{extra}]' installs it."
    )


def test_a_lost_life_ends_the_episode_but_not_the_game() -> None:
    env = make("atari/Breakout", "train", EnvironmentConfig())
    env.reset(seed=0)
    lives, continued = [], []
    for step in range(600):
        _, _, end, _, info = env.step(step % 2)
        if end:
            lives.append(info["lives"])
            continued.append(bool(env.reset()[1].get("game_continues")))
        if len(lives) == 6:
            break
    assert lives == [4, 3, 2, 1, 0, 4]
    assert continued == [True, True, True, True, False, True]


@pytest.mark.parametrize("task", ["atari/Pong", "minigrid/Empty-5x5"])
def test_the_time_limit_is_an_end(task: str) -> None:
    env = make(task, "train", EnvironmentConfig(max_episode_steps=42, noop_max=1))
    env.reset(seed=0)
    ends, infos = [], []
    while not any(ends):
        _, _, end, truncated, info = env.step(0)
        assert not truncated
        ends.append(end)
        infos.append(info)
    assert infos[-1]["truncated"] and not any("truncated" in info for info in infos[:-1])
    assert len(ends) == (11 if task.startswith("atari") else 42)  # Atari: 1 no-op and 41 frames, 4 a step


def test_minigrid_ends_at_its_own_limit() -> None:
    env = make("minigrid/Empty-5x5", "train", EnvironmentConfig())
    env.reset(seed=0)
    ends = [env.step(0)[2] for _ in range(100)]
    assert ends.index(True) == 99


def test_the_goal_is_rewarded_and_clipping_gives_the_sign() -> None:
    for is_clipped in (False, True):
        env = make("minigrid/Empty-5x5", "train", EnvironmentConfig(clip_reward=is_clipped))
        env.reset(seed=0)
        *_, last = [env.step(action) for action in (2, 2, 1, 2, 2)]
        assert last[2]
        assert last[1] == (1.0 if is_clipped else pytest.approx(1 - 0.9 * 5 / 100))
        assert "truncated" not in last[4]


@pytest.mark.parametrize("cells", [5, 6, 7, 8, 9, 10, 16])
def test_small_grids_are_reduced_by_a_whole_factor(cells: int) -> None:
    assert tile_pixels(cells, 64) * cells % 64 == 0


def test_minigrid_pictures_show_position_and_direction() -> None:
    env = make("minigrid/Empty-5x5", "train", EnvironmentConfig())
    pictures = [env.reset(seed=0)[0]["image"], *(env.step(action)[0]["image"] for action in (1, 1, 1, 2))]
    assert len({picture.tobytes() for picture in pictures}) == 4  # the last step bumps into the wall
    red = (pictures[0][0] > 150) & (pictures[0][1] < 60)
    assert red.any()
    assert np.argwhere(red).max() < 26  # the agent starts in the first cell inside the wall
