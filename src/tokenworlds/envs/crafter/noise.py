"""OpenSimplex noise (Kurt Spencer, 2014) in three dimensions at fixed points, for many seeds, in NumPy.

Only the table of gradients depends on the seed. Which lattice points contribute to a point, and their displacements,
are computed once; a seed then costs a few table lookups. Operations are in the order of the package `opensimplex`, so
the numbers are equal to its numbers to the last bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (N, 3)

_STRETCH, _SQUISH = -1.0 / 6, 1.0 / 3
_NORM = 103
_AXES = np.array([1, 2, 4])  # a corner of the unit cube as bits

# Corners that always count, in the order they are added, by region: around (0, 0, 0), around (1, 1, 1), between.
_CORNERS = {0: (0, 1, 2, 4), 1: (3, 5, 6, 7), 2: (1, 2, 4, 3, 5, 6)}
_SLOTS = 8  # at most six corners, and two points outside the cell


def _bits(corner: NDArray[Any]) -> NDArray[np.int64]:
    return np.minimum(corner[:, None] & _AXES, 1)


def _outside_lower(inside: NDArray[np.float64], total: NDArray[np.float64]) -> tuple[NDArray[np.int64], ...]:
    """Points outside the cell for the tetrahedron at (0, 0, 0): two (N, 3) and their ``late`` parts (see ``Noise``)."""
    x, y, z = inside.T
    takes_b, takes_a = (x >= y) & (z > y), (x < y) & (z > x)
    a, a_score = np.where(takes_a, 4, 1), np.where(takes_a, z, x)
    b, b_score = np.where(takes_b, 4, 2), np.where(takes_b, z, y)
    near = (1 - total > a_score) | (1 - total > b_score)
    nearest = _bits(np.where(b_score > a_score, b, a))
    pair = _bits(a | b)
    later = np.array([1, 0, 0]) * (1 - nearest)  # the first of the two other axes takes -1 in the first point
    later = np.where(nearest[:, :1] == 1, np.array([0, 1, 0]), later)
    first = np.where(near[:, None], nearest - later, pair)
    second = np.where(near[:, None], nearest - (1 - nearest - later), pair - (1 - pair))
    return first, second, np.zeros_like(first), np.zeros_like(first)


def _outside_upper(inside: NDArray[np.float64], total: NDArray[np.float64]) -> tuple[NDArray[np.int64], ...]:
    """The same for the tetrahedron at (1, 1, 1)."""
    x, y, z = inside.T
    takes_b, takes_a = (x <= y) & (z < y), (x > y) & (z < x)
    a, a_score = np.where(takes_a, 3, 6), np.where(takes_a, z, x)
    b, b_score = np.where(takes_b, 3, 5), np.where(takes_b, z, y)
    near = (3 - total < a_score) | (3 - total < b_score)
    nearest = _bits(np.where(b_score < a_score, b, a))  # two of three axes
    shared = _bits(a & b)
    leading = np.where(nearest[:, :1] == 1, np.array([1, 0, 0]), np.array([0, 1, 0]))  # its first axis
    first = np.where(near[:, None], nearest + leading, shared)
    second = np.where(near[:, None], nearest + (nearest - leading), 2 * shared)
    is_second_axis = np.array([0, 1, 0])
    late = [np.where(near[:, None] & (point == 2), is_second_axis, 0) for point in (first, second)]
    return first, second, *late


def _outside_middle(inside: NDArray[np.float64]) -> tuple[NDArray[np.int64], ...]:
    """The same for the octahedron between them."""
    x, y, z = inside.T
    sums = x + y, x + z, y + z
    a, b = np.where(sums[0] > 1, 3, 4), np.where(sums[1] > 1, 5, 2)
    a_score, b_score, score = (np.where(some > 1, some - 1, 1 - some) for some in sums)
    third = np.where(sums[2] > 1, 6, 1)
    takes_a, takes_b = (a_score <= b_score) & (a_score < score), (a_score > b_score) & (b_score < score)
    a, b = np.where(takes_a, third, a), np.where(takes_b, third, b)
    is_far = [np.isin(point, (3, 5, 6)) for point in (a, b)]
    both_far, both_near = is_far[0] & is_far[1], ~is_far[0] & ~is_far[1]
    far, close = _bits(np.where(is_far[0], a, b)), _bits(np.where(is_far[0], b, a))
    first = 2 * far - 1  # mixed: the missing axis of the far corner takes -1
    first = np.where(both_far[:, None], 1, np.where(both_near[:, None], 0, first))
    second = 2 * close
    second = np.where(both_far[:, None], 2 * _bits(a & b), second)
    second = np.where(both_near[:, None], 2 * _bits(a | b) - 1, second)
    late = np.where((both_far | both_near)[:, None], 0, second)
    return first, second, np.zeros_like(first), late


class Noise:
    """Noise of any seed at ``points``.

    Around a point p, lattice point v (seen from the origin of p's cell, at displacement d_0) has the displacement
    d = d_0 - v - s sum(v) with s = 1/3 and weighs max(0, 2 - |d|^2)^4; the noise is the weighted sum of d times v's
    gradient. Roundings depend on the order of the subtractions, hence a part of v that is subtracted last (``late``).
    """

    def __init__(self, points: Points) -> None:
        x, y, z = points.T
        skewed = points + ((x + y + z) * _STRETCH)[:, None]
        base = np.floor(skewed)
        inside = skewed - base
        total = inside[:, 0] + inside[:, 1] + inside[:, 2]
        origin = points - (base + ((base[:, 0] + base[:, 1] + base[:, 2]) * _SQUISH)[:, None])
        region = np.where(total <= 1, 0, np.where(total >= 2, 1, 2))
        vertices = np.zeros((len(points), _SLOTS, 3), dtype=np.int64)
        late = np.zeros_like(vertices)
        used = np.zeros((len(points), _SLOTS), dtype=bool)
        outside = (_outside_lower(inside, total), _outside_upper(inside, total), _outside_middle(inside))
        for index, corners in _CORNERS.items():
            rows = region == index
            vertices[rows, : len(corners)] = _bits(np.array(corners))
            used[rows, : len(corners)] = True
            for slot in (0, 1):
                vertices[rows, _SLOTS - 2 + slot] = outside[index][slot][rows]
                late[rows, _SLOTS - 2 + slot] = outside[index][2 + slot][rows]
        used[:, _SLOTS - 2 :] = True
        squish = vertices.sum(axis=2, keepdims=True) * _SQUISH
        displacements = origin[:, None] - (vertices - late) - squish - late
        dx, dy, dz = np.moveaxis(displacements, 2, 0)
        attenuation = 2 - dx * dx - dy * dy - dz * dz
        attenuation = np.where(used & (attenuation > 0), attenuation, 0.0)
        attenuation *= attenuation
        self._weights = (attenuation * attenuation).T.copy()  # (slots, N), like all that follow
        self._displacements = dx.T.copy(), dy.T.copy(), dz.T.copy()
        lattice = base[:, None].astype(np.int64) + vertices
        self._lattice = [(lattice[..., axis].T & 0xFF).astype(np.uint8) for axis in range(3)]

    def __call__(self, permutation: NDArray[np.int64], gradients: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) values for a seed's permutation (256,) and its gradients (256, 3) by hashed lattice point."""
        table = permutation.astype(np.uint8)  # sums are taken modulo 256
        i, j, k = self._lattice
        hashed = table[table[i] + j] + k
        dx, dy, dz = self._displacements
        gx, gy, gz = (column[hashed] for column in gradients.T.copy())
        value = np.zeros(hashed.shape[1])
        for contribution in self._weights * (gx * dx + gy * dy + gz * dz):
            value += contribution
        return value / _NORM
