"""Keyboards of the benchmarks, from the meanings of their actions. Names of keys as in ``KeyboardEvent.key``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenworlds.envs import ActionSpec, ContinuousActions, DiscreteActions

LEFT, RIGHT, UP, DOWN = "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"
SPARE = "1234567890qweasdzxcrfvtgbyhnujmikolp"  # for actions without a key of their own
PAIRS = ((LEFT, RIGHT), (DOWN, UP), ("a", "d"), ("s", "w"), ("f", "h"), ("g", "t"), ("j", "l"), ("k", "i"))

ATARI = {
    " ": "FIRE", "w": "UP", "d": "RIGHT", "a": "LEFT", "s": "DOWN",
    "t": "UPRIGHT", "r": "UPLEFT", "g": "DOWNRIGHT", "f": "DOWNLEFT",
    UP: "UPFIRE", RIGHT: "RIGHTFIRE", LEFT: "LEFTFIRE", DOWN: "DOWNFIRE",
    "u": "UPRIGHTFIRE", "y": "UPLEFTFIRE", "j": "DOWNRIGHTFIRE", "h": "DOWNLEFTFIRE",
}  # fmt: skip
CRAFTER = {
    "a": "move_left", "d": "move_right", "w": "move_up", "s": "move_down",
    LEFT: "move_left", RIGHT: "move_right", UP: "move_up", DOWN: "move_down",
    " ": "do", "Tab": "sleep", "r": "place_stone", "t": "place_table", "f": "place_furnace", "p": "place_plant",
    "1": "make_wood_pickaxe", "2": "make_stone_pickaxe", "3": "make_iron_pickaxe",
    "4": "make_wood_sword", "5": "make_stone_sword", "6": "make_iron_sword",
}  # fmt: skip
CRAFTAX = {
    "a": "left", "d": "right", "w": "up", "s": "down", LEFT: "left", RIGHT: "right", UP: "up", DOWN: "down",
    " ": "do", "Tab": "sleep", "e": "rest", "r": "place_stone", "t": "place_table", "f": "place_furnace",
    "p": "place_plant", "o": "place_torch", "1": "make_wood_pickaxe", "2": "make_stone_pickaxe",
    "3": "make_iron_pickaxe", "4": "make_diamond_pickaxe", "5": "make_wood_sword", "6": "make_stone_sword",
    "7": "make_iron_sword", "8": "make_diamond_sword", "y": "make_iron_armour", "u": "make_diamond_armour",
    "i": "shoot_arrow", "g": "cast_fireball", "h": "cast_iceball", "c": "descend", "v": "ascend",
}  # fmt: skip
MINIGRID = {
    "a": "left", "d": "right", "w": "forward", LEFT: "left", RIGHT: "right", UP: "forward",
    "p": "pickup", "o": "drop", " ": "toggle", "x": "done",
}  # fmt: skip
FAMILIES = {
    "atari": ATARI,
    "crafter": CRAFTER,
    "craftax": CRAFTAX,
    "minigrid": MINIGRID,
    "minigrid_symbolic": MINIGRID,
    "minigrid_mixed": MINIGRID,
}
IDLE = ("noop",)  # meanings, in small letters, of the action that does nothing
PARTS = ("UP", "DOWN", "LEFT", "RIGHT", "FIRE")  # of Atari's actions


def _parts(meaning: str) -> frozenset[str]:
    """What a joystick does: UPRIGHTFIRE is UP, RIGHT and FIRE."""
    return frozenset(part for part in PARTS if part in meaning)


@dataclass(frozen=True)
class Keyboard:
    """Actions of a task by keys."""

    labels: dict[str, str]
    """Key to what it does, in the order of precedence."""

    def card(self) -> dict[str, Any]:
        """What there is to choose, in plain values."""
        return {"kind": "none"}

    def action(self, keys: frozenset[str], sliders: tuple[float, ...] | None) -> NDArray[Any] | None:
        """The action of what is held; None where nothing is held and no action does nothing: the game waits."""
        return None

    def describe(self, action: NDArray[Any]) -> str:
        """The meaning of an action."""
        return " ".join(f"{value:g}" for value in action)


@dataclass(frozen=True)
class Buttons(Keyboard):
    """Discrete actions."""

    meanings: tuple[str, ...]
    indices: dict[str, int]
    """Key to action."""
    joystick: bool
    """Whether keys that are held together add up: space and w are UPFIRE."""

    def card(self) -> dict[str, Any]:
        return {"kind": "discrete", "meanings": list(self.meanings)}

    def describe(self, action: NDArray[Any]) -> str:
        return self.meanings[int(action)]

    def action(self, keys: frozenset[str], sliders: tuple[float, ...] | None) -> NDArray[Any] | None:
        held = [index for key, index in self.indices.items() if key in keys]
        idle = [index for index, meaning in enumerate(self.meanings) if meaning.lower() in IDLE]
        if len(held) > 1 and self.joystick:
            together = frozenset[str]().union(*(_parts(self.meanings[index]) for index in held))
            held = [index for index, meaning in enumerate(self.meanings) if _parts(meaning) == together] or held
        chosen = next(iter(held or idle), None)
        return None if chosen is None else np.asarray(chosen, dtype=np.int64)


@dataclass(frozen=True)
class Sliders(Keyboard):
    """Continuous actions: a pair of keys each, or sliders; a key that is held wins."""

    directions: dict[str, tuple[int, float]]
    """Key to dimension and value."""
    size: int

    def card(self) -> dict[str, Any]:
        return {"kind": "continuous", "names": [f"action {index + 1}" for index in range(self.size)]}

    def describe(self, action: NDArray[Any]) -> str:
        return " ".join(f"{value:+.2f}" for value in action)

    def action(self, keys: frozenset[str], sliders: tuple[float, ...] | None) -> NDArray[Any]:
        values = np.zeros(self.size, dtype=np.float32)
        if sliders is not None and len(sliders) == self.size:
            values[:] = np.nan_to_num(np.clip(sliders, -1, 1))
        for dimension in {self.directions[key][0] for key in keys & self.directions.keys()}:
            held = (value for key, (where, value) in self.directions.items() if key in keys and where == dimension)
            values[dimension] = sum(held)  # both directions: none
        return values


def keyboard(task: str, actions: ActionSpec) -> Keyboard:
    """The keys of a task: those of its benchmark for the actions that it has, and further ones for any others."""
    match actions:
        case DiscreteActions(count=count, meanings=named):
            meanings = named or tuple(f"action {index}" for index in range(count))
            benchmark = task.partition("/")[0]
            indices = dict(_buttons(FAMILIES.get(benchmark, {}), meanings))
            labels = {key: meanings[index].replace("_", " ").lower() for key, index in indices.items()}
            return Buttons(labels, meanings, indices, joystick=benchmark == "atari")
        case ContinuousActions(size=size):
            pairs = list(enumerate(PAIRS[:size]))
            directions = {key: (index, sign) for index, pair in pairs for key, sign in zip(pair, (-1.0, 1.0))}
            labels = {
                key: f"action {index + 1} {'+' if sign > 0 else '-'}" for key, (index, sign) in directions.items()
            }
            return Sliders(labels, directions, size)
        case _:
            return Keyboard({})


def _buttons(family: dict[str, str], meanings: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """Keys and actions."""
    for key, meaning in family.items():
        without_fire = meaning.removesuffix("FIRE")  # where a game does not fire while it moves, arrows just move
        chosen = meaning if meaning in meanings or not key.startswith("Arrow") else without_fire
        if chosen in meanings:
            yield key, meanings.index(chosen)
    spare = (key for key in SPARE if family.get(key) not in meanings)
    known = {*family.values()} | {meaning for meaning in meanings if meaning.lower() in IDLE}
    yield from zip(spare, (index for index, meaning in enumerate(meanings) if meaning not in known))
