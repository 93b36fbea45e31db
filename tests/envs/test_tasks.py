"""Tasks by name, their specifications, and what their pictures and ends look like."""

import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from tokenworlds.config import EnvironmentConfig
from tokenworlds.envs import DiscreteActions, ImageSpec, Recorded, check_task, known_tasks, make, minigrid
from tokenworlds.envs.atari import preprocess
from tokenworlds.envs.minigrid import tile_pixels
from tokenworlds.errors import UserError, installing

MINIGRID = ("minigrid", "minigrid_symbolic", "minigrid_mixed")


@pytest.mark.parametrize(
    ("task", "actions", "first"),
    [("atari/Breakout", 4, "NOOP"), ("atari/Pong", 6, "NOOP"), ("minigrid/Empty-5x5", 7, "left")],
)
def test_an_environment_is_as_specified(task: str, actions: int, first: str) -> None:
    env = make(task, EnvironmentConfig(noop_max=1, done_on_life_loss=False))
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
    ("task", "reason"),
    [
        ("atari/Backgammon", "its actions lack the one that does nothing"),
        ("atari/VideoCheckers", "its actions lack the one that does nothing"),
        ("atari/Combat", "it needs two players"),
        *((f"{benchmark}/WFC-MazeSimple", "minigrid lacks the pattern pictures") for benchmark in MINIGRID),
    ],
)
def test_what_cannot_be_played_is_not_listed_and_says_why(task: str, reason: str) -> None:
    assert task not in known_tasks()
    with pytest.raises(UserError, match=f"^{task} cannot be played: .*{reason}.*; choose another task"):
        make(task, EnvironmentConfig())


def test_worlds_with_their_pattern_pictures_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_dir", lambda _: True)
    assert "WFC-MazeSimple" in minigrid.names() and minigrid.left_out() == {}


ONE_OF_A_KIND = [
    *(f"atari/{name}" for name in ("Adventure", "Pacman", "TicTacToe3D")),
    *(f"{benchmark}/{name}" for benchmark in MINIGRID for name in ("Dynamic-Obstacles-5x5", "LavaCrossingS9N1")),
    "crafter/Reward",
]


@pytest.mark.parametrize("task", ONE_OF_A_KIND)
def test_a_listed_task_is_made_played_saved_and_restored(task: str) -> None:
    played_and_restored(task)


@pytest.mark.slow
def test_every_listed_task_is_made_played_saved_and_restored() -> None:
    extras = {"craftax": "craftax", "dmc": "dm_control", "crafter": "crafter"}
    for task in known_tasks():
        package = extras.get(task.partition("/")[0])
        if package is None or importlib.util.find_spec(package):
            played_and_restored(task)


def played_and_restored(task: str) -> None:
    draws = np.random.default_rng(0)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # worlds of older versions
        env = make(task, EnvironmentConfig())
    env.reset(seed=1)
    for action in env.environment_spec.actions.random(draws, 20):
        observation, reward, terminated, truncated, _ = env.step(action)
        for name, part in env.environment_spec.observation.items():
            assert (observation[name].shape, observation[name].dtype) == (part.shape, part.dtype), task
        assert np.isfinite(reward), task
        if terminated or truncated:
            break
    again = env.restore(env.state())
    assert all((again[name] == observation[name]).all() for name in again), task


class Nameless(gymnasium.Env[Any, Any]):
    """Three actions that have no names."""

    observation_space: Any = gymnasium.spaces.Dict({"image": gymnasium.spaces.Box(0, 255, (3, 4, 4), np.uint8)})
    action_space: Any = gymnasium.spaces.Discrete(3)


class Flat(Nameless):
    action_meanings = ("noop", "left", "right")
    observation_space = gymnasium.spaces.Box(0, 1, (3,), np.float32)


class Unbounded(Nameless):
    action_space = gymnasium.spaces.Box(-2, 2, (3,), np.float32)


class Text(Nameless):
    action_space = gymnasium.spaces.Text(3)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Nameless, "the environment Nameless has discrete actions but no `action_meanings`; give it this attribute"),
        (Flat, "the environment Flat shows Box.*, not a Dict of uint8 pictures"),
        (Unbounded, r"has actions Box.*; continuous ones must be a vector in \[-1, 1\]"),
        (Text, "has actions Text.*; known are Discrete"),
    ],
)
def test_an_environment_that_does_not_say_enough_is_one_sentence(kind: type[Nameless], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        Recorded(kind())
    assert len(str(error.value)) <= 300


def test_a_game_whose_first_action_does_something_is_refused() -> None:
    game = Flat()
    with pytest.raises(UserError, match=r"the game's action 0 is noop, but it must do nothing \(NOOP\)"):
        preprocess(game, EnvironmentConfig())


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
        "import sys; from tokenworlds.config import *; from tokenworlds.envs import *;"
        "make('atari/Pong', EnvironmentConfig()).reset(seed=0);"
        "make('minigrid_mixed/Empty-5x5', EnvironmentConfig()).reset(seed=0);"
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
        make(task, EnvironmentConfig())
    assert str(error.value) == (
        f"{task} needs the package {package}: pip install -c constraints.txt -e '.[{extra}]' installs it."
    )


@pytest.mark.parametrize(
    ("version", "said"), [((3, 12), "'.[dmc]'"), ((3, 13), "docs/install.md"), ((3, 14), "docs/install.md")]
)
def test_dm_control_is_installed_otherwise_on_new_versions(
    version: tuple[int, int], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    assert said in installing("dmc") and "'.[hub]'" in installing("hub")


def test_a_lost_life_ends_the_episode_but_not_the_game() -> None:
    env = make("atari/Breakout", EnvironmentConfig())
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
    env = make(task, EnvironmentConfig(max_episode_steps=42, noop_max=1))
    env.reset(seed=0)
    ends, infos = [], []
    while not any(ends):
        _, _, end, truncated, info = env.step(0)
        assert not truncated
        ends.append(end)
        infos.append(info)
    assert infos[-1]["truncated"] and not any("truncated" in info for info in infos[:-1])
    assert len(ends) == (11 if task.startswith("atari") else 42)  # Atari: 1 no-op and 41 frames, 4 a step


def test_the_goal_is_rewarded_and_clipping_gives_the_sign() -> None:
    for is_clipped in (False, True):
        env = make("minigrid/Empty-5x5", EnvironmentConfig(clip_reward=is_clipped))
        env.reset(seed=0)
        *_, last = [env.step(action) for action in (2, 2, 1, 2, 2)]
        assert last[2]
        assert last[1] == (1.0 if is_clipped else pytest.approx(1 - 0.9 * 5 / 100))
        assert "truncated" not in last[4]


@pytest.mark.parametrize("cells", [5, 6, 7, 8, 9, 10, 16])
def test_small_grids_are_reduced_by_a_whole_factor(cells: int) -> None:
    assert tile_pixels(cells, 64) * cells % 64 == 0


def test_minigrid_pictures_show_position_and_direction() -> None:
    env = make("minigrid/Empty-5x5", EnvironmentConfig())
    pictures = [env.reset(seed=0)[0]["image"], *(env.step(action)[0]["image"] for action in (1, 1, 1, 2))]
    assert len({picture.tobytes() for picture in pictures}) == 4  # the last step bumps into the wall
    red = (pictures[0][0] > 150) & (pictures[0][1] < 60)
    assert red.any()
    assert np.argwhere(red).max() < 26  # the agent starts in the first cell inside the wall
