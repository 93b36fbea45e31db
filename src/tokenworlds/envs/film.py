"""Films of tasks that are observed as numbers: the simulated body instead of its coordinates.

A recorded episode is played again, from its seed and its actions, in a process of its own. Only there may the simulator
draw: the run's own environments neither load a graphics library nor are disturbed by one.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from tokenworlds.envs.recorded import RecordedState
from tokenworlds.envs.spec import EnvironmentSpec, VectorSpec
from tokenworlds.envs.vector.members import Factory, WorkerMember
from tokenworlds.errors import UserError, brief

SWITCH = "MUJOCO_GL"
RENDERERS = ("egl", "osmesa")  # MuJoCo's for machines without a screen: a graphics driver, or Mesa's software library
DISABLED = ("disabled", "disable", "off", "0", "false")
STRIDE = 2  # steps a frame

_failed: dict[str, str] = {}  # renderers that have been tried in this process, and what was wrong with them


def shows_no_picture(spec: EnvironmentSpec) -> bool:
    """Whether an observation is a vector without any picture or map, so that the body has to be drawn."""
    parts = spec.observation.values()
    return any(isinstance(part, VectorSpec) for part in parts) and all(len(part.shape) == 1 for part in parts)


def film(factory: Factory, state: RecordedState, steps: int) -> NDArray[np.uint8]:
    """Pictures (T, Y, X, 3) of at most so many steps of an episode.

    Raises:
        UserError: nothing can draw here; which renderers were tried, and what was wrong with them.
    """
    chosen = os.environ.get(SWITCH, "").strip().lower()
    if chosen in DISABLED:
        raise UserError(f"{SWITCH} is {chosen}; set it to {' or '.join(RENDERERS)}.")
    with factory() as environment:
        if environment.render_mode != "rgb_array":  # no renderer could, here or for other tasks
            raise UserError("the environment offers no pictures (render mode rgb_array).")
    renderers = (chosen,) if chosen else RENDERERS
    for renderer in renderers:
        if renderer not in _failed:
            try:
                return _play(factory, state, steps, renderer)
            except UserError as error:
                _failed[renderer] = str(error)
    reasons = "; ".join(f"{name}: {brief(_failed[name], 60)}" for name in renderers)
    raise UserError(f"there is no off-screen renderer here ({SWITCH}={'|'.join(RENDERERS)}; {reasons}).")


def _play(factory: Factory, state: RecordedState, steps: int, renderer: str) -> NDArray[np.uint8]:
    member = WorkerMember(factory, 0, quiet=True, variables={SWITCH: renderer})
    try:
        _ = member.spec  # waits until the worker has started
        beginning: RecordedState = {**state, "actions": state["actions"][:0], "life_resets": [], "checksum": None}
        member.ask("restore", beginning)
        frames = [member.ask("render")]
        for index, action in enumerate(state["actions"][:steps], start=1):
            member.ask("step", action)
            if index % STRIDE == 0:
                frames.append(member.ask("render"))
    finally:
        member.close()
    return np.stack(frames)
