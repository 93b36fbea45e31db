"""Keyboards of the benchmarks."""

import numpy as np
import pytest

from tokenworlds.envs import ActionSpec, ContinuousActions, DiscreteActions, MultiDiscreteActions
from tokenworlds.viewer.keys import keyboard

PARTS = ("UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT")
FULL = ["NOOP", "FIRE", *PARTS, *(f"{part}FIRE" for part in PARTS)]
PONG = ["NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE"]
BREAKOUT = ["NOOP", "FIRE", "RIGHT", "LEFT"]
CRAFTER = ["noop", "move_left", "move_right", "move_up", "move_down", "do", "sleep", "place_stone", "place_table"]
MINIGRID = ["left", "right", "forward", "pickup", "drop", "toggle", "done"]


def actions(*meanings: str) -> DiscreteActions:
    return DiscreteActions(len(meanings), meanings)


@pytest.mark.parametrize(
    ("task", "meanings", "keys", "expected"),
    [
        ("atari/Alien", FULL, "", "NOOP"),
        ("atari/Alien", FULL, " ", "FIRE"),
        ("atari/Alien", FULL, "g", "DOWNRIGHT"),
        ("atari/Alien", FULL, "h", "DOWNLEFTFIRE"),
        ("atari/Alien", FULL, "ArrowUp", "UPFIRE"),
        ("atari/Alien", FULL, "w d", "UPRIGHT"),
        ("atari/Alien", FULL, "ArrowUp a", "UPLEFTFIRE"),
        ("atari/Pong", PONG, "ArrowLeft", "LEFTFIRE"),
        ("atari/Pong", PONG, "w", "NOOP"),
        ("atari/Breakout", BREAKOUT, "ArrowLeft", "LEFT"),
        ("atari/Breakout", BREAKOUT, "a d", "RIGHT"),
        ("crafter/Reward", CRAFTER, "Tab", "sleep"),
        ("crafter/Reward", CRAFTER, "d t", "move_right"),
        ("crafter/Reward", CRAFTER, "x", "noop"),
        ("minigrid/Empty", MINIGRID, "ArrowUp", "forward"),
        ("minigrid/Empty", MINIGRID, "q", None),
        ("other/Task", ["noop", "jump", "dive"], "2", "dive"),
        ("craftax/Symbolic", ["noop", "left", "enchant_bow"], "1", "enchant_bow"),
    ],
)
def test_keys_choose_actions(task: str, meanings: list[str], keys: str, expected: str | None) -> None:
    held = frozenset([" "] if keys == " " else keys.split())
    board = keyboard(task, actions(*meanings))
    action = board.action(held, None)
    assert (None if action is None else board.describe(action)) == expected
    assert action is None or (action.dtype == np.int64 and action.shape == ())


@pytest.mark.parametrize(
    ("task", "spec"),
    [
        *(
            (task, actions(*some))
            for task, some in (("atari/A", FULL), ("crafter/A", CRAFTER), ("minigrid/A", MINIGRID))
        ),
        ("x/A", actions(*(f"a{index}" for index in range(30)))),
        ("dmc/A", ContinuousActions(6)),
    ],
)
def test_every_action_has_a_key(task: str, spec: ActionSpec) -> None:
    board = keyboard(task, spec)
    reached = {
        board.describe(found) for key in board.labels if (found := board.action(frozenset({key}), None)) is not None
    }
    wanted = (
        spec.count - ("NOOP" in spec.meanings or "noop" in spec.meanings) if isinstance(spec, DiscreteActions) else 12
    )
    assert len(reached) == wanted and not board.labels.keys() & {"Enter", ".", ",", "/", "=", "[", "]", "+", "-"}


def test_sliders_and_keys_move_continuous_actions() -> None:
    board = keyboard("dmc/cartpole-balance", ContinuousActions(2))
    for keys, sliders, expected in (
        ("", None, [0, 0]),
        ("", (0.25, -7.0), [0.25, -1]),
        ("", (float("nan"), 0.5), [0, 0.5]),
        ("", (0.25,), [0, 0]),
        ("ArrowLeft", (0.25, 0.5), [-1, 0.5]),
        ("ArrowLeft ArrowRight ArrowUp", (0.25, 0.5), [0, 1]),
    ):
        action = board.action(frozenset(keys.split()), sliders)
        assert action is not None and action.dtype == np.float32 and action.tolist() == expected


def test_several_choices_at_once_have_no_keys() -> None:
    board = keyboard("x/A", MultiDiscreteActions((2, 3)))
    assert not board.labels and board.card() == {"kind": "none"} and board.action(frozenset("w"), None) is None
