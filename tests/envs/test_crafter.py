"""Crafter: the package's game exactly, repeatable from its seed; its achievements and its score."""

import os
import subprocess
import sys

import crafter as package
import numpy as np
import pytest

from tests.envs.support import play
from tokenworlds.config import EnvironmentConfig
from tokenworlds.envs import (
    DiscreteActions,
    EnvironmentFactory,
    EnvironmentSpec,
    ImageSpec,
    VectorEnvironment,
    make,
    summary,
)
from tokenworlds.envs.crafter.game import CrafterGame, World
from tokenworlds.errors import UserError
from tokenworlds.scores import crafter_score

TOOLS = [f"make_{material}_{tool}" for tool in ("pickaxe", "sword") for material in ("wood", "stone", "iron")]
MOVES = [f"move_{direction}" for direction in ("left", "right", "up", "down")]
PLACES = [f"place_{thing}" for thing in ("stone", "table", "furnace", "plant")]
ACTIONS = ["noop", *MOVES, "do", "sleep", *PLACES, *TOOLS]
SLEEP = ACTIONS.index("sleep")


def config(**changes: int) -> EnvironmentConfig:
    return EnvironmentConfig(**({"noop_max": 0, "done_on_life_loss": False} | changes))


def plain_game(seed: int, size: int) -> package.Env:
    """The package's game; only its creatures are kept in order."""
    game = package.Env(size=(size, size), seed=seed)
    game._world.__class__ = World
    return game


@pytest.mark.parametrize(("seed", "size"), [(1, 64), (2**62 + 5, 32)])
def test_the_game_equals_the_package(seed: int, size: int) -> None:
    plain, ours = plain_game(seed, size), CrafterGame(size, 10_000)
    np.testing.assert_array_equal(plain.reset(), ours.reset(seed=seed)[0])
    generator = np.random.default_rng(0)
    nights = asleep = ends = 0
    for step in range(450):
        action = SLEEP if 180 < step < 300 else int(generator.choice([5, generator.integers(17)]))
        picture, reward, is_over, details = plain.step(action)
        same, our_reward, is_dead, is_truncated, _ = ours.step(action)
        np.testing.assert_array_equal(picture, same, err_msg=f"picture of step {step}")
        assert (picture.dtype, reward, is_over) == (same.dtype, our_reward, is_dead or is_truncated)
        assert details["inventory"] == ours._game._player.inventory
        nights += plain._world.daylight < 0.5
        asleep += plain._player.sleeping
        if is_over:
            ends += 1
            np.testing.assert_array_equal(plain.reset(), ours.reset()[0])
        else:
            plain._player.health = ours._game._player.health = 9 if step < 390 or ends else 0
    assert min(nights, asleep) > 50 and ends >= 1


def test_the_edge_of_the_world_is_drawn_as_in_the_package() -> None:
    plain, ours = plain_game(3, 64), CrafterGame(64, 10_000)
    plain.reset()
    ours.reset(seed=3)
    for world, player in ((plain._world, plain._player), (ours._game._world, ours._game._player)):
        corner = next((x, y) for x in range(4) for y in range(4) if world[x, y][1] is None)
        world.move(player, corner)
    picture = ours.step(0)[0]
    np.testing.assert_array_equal(plain.step(0)[0], picture)
    assert len(np.unique(picture[:7, :7].reshape(-1, 3), axis=0)) == 1  # outside: grey


EPISODES = """
import hashlib, sys
import numpy as np
from tokenworlds.config import EnvironmentConfig
from tokenworlds.envs import make
padding = [object() for _ in range(int(sys.argv[1]))]  # other addresses in memory
env = make("crafter/Reward", EnvironmentConfig(size=32))
seen = hashlib.sha256(env.reset(seed=5)[0]["image"])
generator = np.random.default_rng(0)
for action in generator.integers(17, size=700):
    observation, reward, end, _, _ = env.step(int(action))
    if end:
        observation, _ = env.reset()
    seen.update(observation["image"])
    seen.update(np.float64(reward))
print(seen.hexdigest())
"""


def test_a_seed_gives_the_same_episodes_in_every_process() -> None:
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", EPISODES, padding],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed, padding in (("1", "0"), ("2", "12345"))
    ]
    outputs = [run.communicate(timeout=300)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert outputs[0] == outputs[1] and len(outputs[0].strip()) == 64


def test_a_restored_episode_continues_identically() -> None:
    env, another = (make("crafter/Reward", config(size=32)) for _ in range(2))
    env.reset(seed=7)
    actions = np.random.default_rng(1).integers(17, size=700)
    play(env, actions[:400])
    state = env.state()
    assert state["episode"] >= 1 and state["snapshot"] is None
    env.render()  # must not draw anything
    another.reset(seed=99)
    another.restore(state)
    assert play(env, actions[400:]) == play(another, actions[400:])


@pytest.mark.parametrize("size", [64, 32])
def test_the_task_is_as_published(size: int) -> None:
    env = make("crafter/Reward", config(size=size))
    spec = env.environment_spec
    assert spec.observation == {"image": ImageSpec(size, size, 3)}
    assert spec.actions == DiscreteActions(17, tuple(ACTIONS))
    assert spec.achievements == tuple(package.constants.achievements)
    starts = [env.reset(seed=seed)[0]["image"].tobytes() for seed in (1, None, 2, 1)]
    assert len(set(starts)) == 3 and starts[0] == starts[3]
    assert env.observation_space.contains(env.reset(seed=0)[0])
    assert env.render().shape == (size, size, 3)
    assert env.get_wrapper_attr("_game")._length == 10_000


def test_the_first_of_an_achievement_is_rewarded_and_health_counts_a_tenth() -> None:
    env = make("crafter/Reward", config(size=18, max_episode_steps=300))
    rewards, infos, player = [], [], None
    env.reset(seed=4)
    player = env.get_wrapper_attr("_game")._player
    player.inventory["sapling"] = 2
    place, world = ACTIONS.index("place_plant"), player.world
    world[player.pos + np.array(player.facing)] = "grass"
    health = player.health
    rewards.append(env.step(place)[1])
    assert rewards[0] == pytest.approx(1 + (player.health - health) / 10)
    player.facing = (-1, 0)
    world[player.pos + np.array(player.facing)] = "grass"
    rewards.append(env.step(place)[1])
    assert player.achievements["place_plant"] == 2 and rewards[1] < 0.5
    end = False
    while not end:
        _, _, end, truncated, info = env.step(0)
        infos.append(info)
        assert not truncated
    assert infos[-1]["achievements"] == ("place_plant",)
    assert not any("achievements" in info for info in infos[:-1])


def test_a_shorter_limit_is_an_ordinary_end_that_tells_the_achievements() -> None:
    factory = EnvironmentFactory("crafter/Reward", config(size=18, max_episode_steps=9, frame_skip=7))
    with VectorEnvironment([factory]) as vector:
        vector.reset([0])
        infos = []
        while not vector.finished.all():
            infos.append(vector.step([SLEEP])[3][0])
    assert infos == [{}] * 8 + [{"truncated": True, "achievements": ()}]


@pytest.mark.parametrize(("clips", "expected"), [(False, -0.9), (True, -1.0)])
def test_a_death_is_no_truncation_and_rewards_can_be_clipped(clips: bool, expected: float) -> None:
    env = make("crafter/Reward", config(size=18, clip_reward=clips))
    env.reset(seed=0)
    env.get_wrapper_attr("_game")._player.health = 0
    _, reward, end, truncated, info = env.step(0)
    assert (end, truncated, info, reward) == (True, False, {"achievements": ()}, pytest.approx(expected))


def test_a_size_without_room_for_the_inventory_is_refused() -> None:
    with pytest.raises(UserError, match=r"environment\.size must be at least 18 for Crafter, but is 16"):
        make("crafter/Reward", config(size=16))


@pytest.mark.parametrize(
    ("rates", "expected"),
    [([0.0] * 22, 0), ([100.0] * 22, 100), ([25.0] * 22, 25), ([90.0, 50.0] + [0.0] * 20, (91 * 51) ** (1 / 22) - 1)],
)
def test_the_score_is_a_geometric_mean_of_percentages(rates: list[float], expected: float) -> None:
    assert crafter_score(rates) == pytest.approx(expected)


def test_success_rates_are_percentages_of_the_episodes_of_which_only_crafter_makes_a_score() -> None:
    spec = EnvironmentSpec({}, DiscreteActions(2), achievements=("wood", "stone", "iron"))
    rates = spec.success_rates([["wood"], [], ["wood", "stone"], ["wood"]])
    assert rates == {"wood": 75, "stone": 25, "iron": 0}
    assert summary("crafter/Reward", rates) == {"crafter_score": pytest.approx((76 * 26) ** (1 / 3) - 1)}
    assert summary("craftax/Symbolic", rates) == summary("atari/Pong", rates) == summary("crafter/Reward", {}) == {}
