"""Episodes to test with."""

import numpy as np

from tokenworlds.episodes import Episode


def an_episode(steps: int = 5, *, has_last: bool = True, kind: str = "test", seed: int = 0, side: int = 8) -> Episode:
    """An episode of small pictures that ends with a termination."""
    generator = np.random.default_rng(seed)
    return Episode(
        {"image": generator.integers(256, size=(steps + has_last, 3, side, side), dtype=np.uint8)},
        actions=generator.integers(4, size=steps),
        rewards=generator.normal(size=steps).astype(np.float32),
        terminations=np.arange(steps) == steps - 1,
        tokens=None,
        facts={"kind": kind, "index": seed, "task": "atari/Breakout", "seed": 1, "return": 0.5},
    )
