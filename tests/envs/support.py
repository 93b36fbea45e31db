"""Playing an environment that is to be compared with another, or with itself."""

from collections.abc import Iterable

import numpy as np

from tokenworlds.envs import Recorded

Step = tuple[tuple[bytes, ...], float, bool, bool]


def content(observation: dict[str, np.ndarray]) -> tuple[bytes, ...]:
    """Every modality's."""
    return tuple(values.tobytes() for values in observation.values())


def play(env: Recorded, actions: Iterable[np.ndarray]) -> list[Step]:
    """Observation, reward, termination and truncation of every step, and the observation of the reset at an end."""
    seen: list[Step] = []
    for action in actions:
        observation, reward, terminated, truncated, _ = env.step(action if action.ndim else int(action))
        seen.append((content(observation), float(reward), bool(terminated), bool(truncated)))
        if terminated or truncated:
            seen.append((content(env.reset()[0]), 0.0, False, False))
    return seen


def ends(seen: list[Step]) -> int:
    return sum(terminated or truncated for *_, terminated, truncated in seen)
