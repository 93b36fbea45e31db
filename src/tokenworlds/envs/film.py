"""Films of tasks that are seen as numbers: the body in the place of its coordinates.

A recorded episode is played again, from its seed and its actions, in a process of its own. Only there may the simulator
draw: the run's own environments neither load a graphics library nor notice.
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
    """Whether an observation says so little to the eye that its body has to be drawn: numbers, no picture, no map."""
    return any(isinstance(part, VectorSpec) for part in spec.observation.values()) and all(
        len(part.shape) == 1 for part in spec.observation.values()
    )


def film(factory: Factory, state: RecordedState, steps: int) -> NDArray[np.uint8]:
    """Pictures (T, Y, X, 3) of at most so many steps of an episode.

    Raises:
        UserError: nothing can draw here; which renderers were tried, and what was wrong with them.
    """
    chosen = os.environ.get(SWITCH, "").strip().lower()
    if chosen in DISABLED:
        raise UserError(f"{SWITCH} is {chosen}; set it to {' or '.join(RENDERERS)}.")
    renderers = (chosen,) if chosen else RENDERERS
    for renderer in renderers:
        if renderer in _failed:
            continue
        try:
            return _play(factory, state, steps, renderer)
        except UserError as error:
            _failed[renderer] = str(error)
    reasons = "; ".join(f"{name}: {brief(_failed[name], 60)}" for name in renderers)
    raise UserError(f"MuJoCo has no off-screen renderer here ({SWITCH}={'|'.join(RENDERERS)}; {reasons}).")


def _play(factory: Factory, state: RecordedState, steps: int, renderer: str) -> NDArray[np.uint8]:
    member = WorkerMember(factory, 0, quiet=True, variables={SWITCH: renderer})

    def ask(*command: object) -> object:
        member.send(*command)  # type: ignore[arg-type]
        return member.receive()

    try:
        _ = member.spec  # its start
        beginning: RecordedState = {**state, "actions": state["actions"][:0], "life_resets": []}
        ask("restore", beginning)
        frames = [ask("render")]
        for index, action in enumerate(state["actions"][:steps], start=1):
            ask("step", action)
            if index % STRIDE == 0:
                frames.append(ask("render"))
    finally:
        member.close()
    return np.stack(frames)  # type: ignore[arg-type]
