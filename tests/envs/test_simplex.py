"""Noise on fixed points equals the package's, which computes one point at a time."""

import numpy as np
import opensimplex
import pytest

from tokenworlds.envs.crafter.game import GRADIENTS
from tokenworlds.envs.crafter.noise import Noise


def some_points() -> np.ndarray:
    generator = np.random.default_rng(0)
    anywhere = generator.uniform(-20, 20, (1500, 3))
    fractions = generator.integers(-40, 40, (1500, 3)) / generator.integers(1, 8, (1500, 1))  # edges and faces of cells
    corners = generator.integers(-9, 9, (200, 3))
    return np.concatenate([anywhere, fractions, corners])


@pytest.mark.parametrize("seed", [0, 5, 2**31 - 2])
def test_noise_equals_the_package_to_the_last_bit(seed: int) -> None:
    points = some_points()
    simplex = opensimplex.OpenSimplex(seed)
    ours = Noise(points)(simplex._perm, GRADIENTS[simplex._perm_grad_index3 // 3])
    theirs = [simplex.noise3(*point) for point in points.tolist()]
    np.testing.assert_array_equal(ours, theirs)
    assert np.ptp(ours) > 1
