"""Gymnasium's own environments, ``gym/[<module>:]<id>``: found, made, and what kind of observation they show.

The kind chooses a run's settings (``family_defaults`` of the methods), hence this stands below the configuration.
"""

from __future__ import annotations

import functools
import importlib
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs import registration

from tokenworlds.errors import UserError, brief, excerpt, near_matches
from tokenworlds.tasks import ANY, ANY_TASK

Space = gymnasium.Space[Any]
Part = Enum("Part", "image vector token token_2d")
"""What an entry of an observation is read as: a picture, real numbers, categories, a map of categories."""

Kind = Enum("Kind", "image vector symbols mixed")
"""Of a whole observation: one picture; numbers, and maybe categories; categories alone; pictures and something else."""

SHOWN = {
    Kind.image: "one picture",
    Kind.vector: "numbers",
    Kind.symbols: "categories",
    Kind.mixed: "pictures and more",
}

_SMALLEST_PICTURE = 8  # pixels a side; a smaller array is numbers
_MOST_TOKENS = 1024  # numbers and categories of an observation, of which each is a token
_MOST_CATEGORIES = 16_384  # of which each has an embedding


def find(task: str) -> registration.EnvSpec:
    """The registered environment of a task; a module in its name is imported, which registers its environments.

    Raises:
        UserError: no such name, no such module or one that fails, or no such environment in the registry (with near
            matches).
    """
    if not ANY_TASK.fullmatch(task):
        raise UserError(f"'{excerpt(task, 60)}' is no Gymnasium environment: write {ANY}/<id> or {ANY}/<module>:<id>.")
    module, _, name = task.partition("/")[2].rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:  # of whatever a module does when it is imported
            remedy = "put its folder on PYTHONPATH, or install its package"
            raise UserError(
                f"{excerpt(task, 60)}: the module {excerpt(module)} cannot be imported ({brief(error, 100)}); {remedy}."
            ) from error
    if name in registration.registry:
        return registration.registry[name]
    prefix = f"{ANY}/{module}:" if module else f"{ANY}/"
    hint = near_matches(f"{prefix}{name}", (f"{prefix}{known}" for known in registration.registry))
    if not module:
        hint = f"{hint.rstrip('.?')}; one of another package is {ANY}/<module>:<id>."
    raise UserError(f"unknown task '{excerpt(task, 60)}': {hint}")


def construct(task: str, max_episode_steps: int | None = None) -> gymnasium.Env[Any, Any]:
    """The environment itself, with the time limit of its registration or a shorter one; it can draw itself if it
    offers pictures.

    Raises:
        UserError: it is not registered, or cannot be made here.
    """
    registered = find(task)
    limits = [limit for limit in (registered.max_episode_steps, max_episode_steps) if limit is not None]
    drawing: dict[str, Any] = {}
    try:
        creator: Any = registered.entry_point
        creator = registration.load_env_creator(creator) if isinstance(creator, str) else creator
        if "rgb_array" in (getattr(creator, "metadata", None) or {}).get("render_modes", ()):
            drawing = {"render_mode": "rgb_array"}
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of an older version of it
            return gymnasium.make(registered, min(limits, default=None), disable_env_checker=True, **drawing)
    except (Exception, SystemExit) as error:  # of whatever an environment does when it is made
        reason = f"{type(error).__name__}: {brief(error, 140)}"
        raise UserError(f"{excerpt(task, 60)} cannot be made ({reason}); install what it lacks.") from error


def entries(space: Space, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Space]]:
    """The spaces that dictionaries and tuples hold, with the keys that lead to each, in the order of the space."""
    match space:
        case spaces.Dict():
            for key, inner in space.spaces.items():
                yield from entries(inner, (*path, key))
        case spaces.Tuple():
            for index, inner in enumerate(space.spaces):
                yield from entries(inner, (*path, index))
        case _:
            yield path, space


def categories(space: Space) -> np.ndarray | None:
    """How many values each component of a space of categories has; None of any other space."""
    match space:
        case spaces.Discrete(n=count):
            return np.array([count])
        case spaces.MultiDiscrete(nvec=counts):
            return np.asarray(counts)
        case spaces.MultiBinary():
            return np.full(space.shape, 2)
        case spaces.Box(dtype=np.bool_):
            return np.full(space.shape, 2)
    return None


def part(space: Space) -> Part:
    """What one entry of an observation is read as.

    Raises:
        UserError: no agent can read it.
    """
    if 0 in (space.shape or ()):
        raise UserError(f"an observation is {excerpt(space, 60)}, which holds nothing: leave it out.")
    if (counts := categories(space)) is not None:
        if (most := int(counts.max())) > _MOST_CATEGORIES:
            raise UserError(
                f"an observation has {most:,} categories, of which each has an embedding; at most {_MOST_CATEGORIES:,} "
                "are taken: show them as several choices, or as a number in a Box."
            )
        cells = counts.reshape(*counts.shape[:2], -1) if counts.ndim in (2, 3) else None
        return Part.token_2d if cells is not None and (cells == cells[0, 0]).all() else Part.token
    if not isinstance(space, spaces.Box):
        raise UserError(
            f"an observation is {excerpt(space, 60)}; known are Box, Discrete, MultiDiscrete, MultiBinary, and Dict "
            "or Tuple of these."
        )
    if not _is_picture(space):
        return Part.vector
    if channels_last(space.shape) is None:
        raise UserError(
            f"a picture has the shape {space.shape}; known are (Y, X), (Y, X, 1), (Y, X, 3), (1, Y, X) and (3, Y, X): "
            "wrap it in gymnasium.wrappers.TransformObservation."
        )
    return Part.image


def _is_picture(box: spaces.Box) -> bool:
    is_bytes = box.dtype == np.uint8 and (box.low == 0).all() and (box.high == 255).all()
    is_unit = box.dtype.kind == "f" and (box.low == 0).all() and (box.high == 1).all()
    sides = sorted(box.shape)[-2:]
    has_sides = len(sides) == 2 and sides[0] >= _SMALLEST_PICTURE
    return bool(has_sides and ((len(box.shape) == 3 and (is_bytes or is_unit)) or (len(box.shape) == 2 and is_bytes)))


def channels_last(shape: tuple[int, ...]) -> bool | None:
    """Whether the channels of a picture are its last axis; None of one with other than one or three."""
    return True if len(shape) == 2 or shape[-1] in (1, 3) else False if shape[0] in (1, 3) else None


@dataclass(frozen=True)
class Entry:
    """An entry of an observation."""

    path: tuple[str | int, ...]
    space: Space
    part: Part


def observed(space: Space) -> list[Entry]:
    """The entries of a space of observations.

    Raises:
        UserError: one that no agent can read, or so many numbers that no agent would get far.
    """
    found = []
    for path, inner in entries(space):
        try:
            found.append(Entry(path, inner, part(inner)))
        except UserError as error:
            name = ".".join(map(str, path))
            raise UserError(f"{name}: {error}" if name else str(error)) from error
    if not found:
        raise UserError("an observation holds nothing: give a space with an entry.")
    single = (entry.space for entry in found if entry.part in (Part.vector, Part.token))
    tokens = sum(math.prod(cast(tuple[int, ...], inner.shape)) for inner in single)
    if tokens > _MOST_TOKENS:
        raise UserError(
            f"an observation has {tokens:,} numbers, of which each is a token; at most {_MOST_TOKENS:,} are taken: "
            "choose some with gymnasium.wrappers.TransformObservation, or show a picture."
        )
    return found


def require_actions(space: Space) -> None:
    """Refuse a space of actions from which no agent can choose."""
    match space:
        case spaces.Discrete() | spaces.MultiDiscrete() | spaces.MultiBinary():
            return
        case spaces.Box() if space.dtype.kind == "f" and space.is_bounded():
            return
    raise UserError(
        f"its actions are {excerpt(space, 80)}; known are Discrete, MultiDiscrete, MultiBinary, and real Box "
        "with finite bounds (gymnasium.wrappers.ClipAction, RescaleAction)."
    )


@functools.cache
def kind(task: str) -> Kind:
    """The kind of observation that an environment shows; it is made once in a process to find out.

    Raises:
        UserError: the environment cannot be made, or no agent can read what it shows or act in it.
    """
    env = construct(task)
    try:
        parts = [entry.part for entry in observed(env.observation_space)]
        require_actions(env.action_space)
    except UserError as error:
        raise UserError(f"{excerpt(task, 60)}: {error}") from error
    finally:
        env.close()
    if Part.image in parts:
        return Kind.image if len(parts) == 1 else Kind.mixed
    return Kind.vector if Part.vector in parts else Kind.symbols
