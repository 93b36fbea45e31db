"""The game Crafter, reproducible from its seed and several times faster. Needs the package `crafter`.

The package keeps creatures in sets, ordered by their addresses in memory, and removes creatures by their position
there: two runs from one seed soon differ. Here they are kept in the order in which they were added, so the choice has
the same distribution and follows from the seed. Everything else is exactly the package's game; noise and pictures are
computed in larger pieces.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from itertools import product
from typing import Any

import crafter
import gymnasium
import numpy as np
import opensimplex
from crafter import constants, engine, objects, worldgen
from numpy.typing import NDArray

from tokenworlds.envs.crafter.noise import Noise
from tokenworlds.envs.spec import Frame, Information

SEEDS = 2**31 - 1
GRADIENTS = np.asarray(opensimplex.constants.GRADIENTS3, dtype=np.float64).reshape(-1, 3)

# Layers of noise of which a world is made: depth, and pixels per unit along x and y (see `crafter.worldgen`).
LAYERS = [(8, 3), (3, 15), (3, 5), (0, 15), (0, 5), (6, 7), (1, 8), (2, 6), (6, 5), (4, 9), (5, 7)]


class Creatures(dict[Any, None]):
    """A set in the order of insertion."""

    def add(self, creature: Any) -> None:
        self[creature] = None

    def remove(self, creature: Any) -> None:
        del self[creature]


class World(engine.World):  # type: ignore[misc]
    """The package's world, with creatures in the order in which they were added."""

    def reset(self, seed: int | None = None) -> None:
        super().reset(seed)
        self._chunks: defaultdict[Any, Creatures] = defaultdict(Creatures)


class WorldNoise:
    """One seed's noise at all points that the world generator evaluates; replaces ``opensimplex.OpenSimplex``."""

    def __init__(self, seed: int, area: tuple[int, int]) -> None:
        self._index, layers = _points(area)
        simplex = opensimplex.OpenSimplex(seed)
        gradients = GRADIENTS[simplex._perm_grad_index3 // 3]
        self._values = [value for noise in layers for value in noise(simplex._perm, gradients).tolist()]

    def noise3(self, x: float, y: float, z: int) -> float:
        return float(self._values[self._index[x, y, z]])


@functools.cache
def _points(area: tuple[int, int]) -> tuple[dict[tuple[float, float, float], int], list[Noise]]:
    """Points at which noise is evaluated: the number of every point, and the noise of every layer."""
    cells = np.array(list(product(range(area[0]), range(area[1]))))
    x, y = cells.T
    layers = [(x / size, y / size, depth) for depth, size in LAYERS]
    layers += [(2 * x / 3, y / 5 / 3, 7), (x / 5 / 3, 2 * y / 3, 7)]  # tunnels
    points = [np.stack([across, down, np.full(len(cells), float(depth))], axis=1) for across, down, depth in layers]
    numbered = enumerate(np.concatenate(points).tolist())
    return {(x, y, z): number for number, (x, y, z) in numbered}, [Noise(layer) for layer in points]


def generate_world(world: Any, player: Any) -> None:
    """``crafter.worldgen.generate_world``, with the noise of all cells computed at once."""
    simplex = WorldNoise(world.random.randint(0, SEEDS), world.area)
    tunnels = np.zeros(world.area, bool)
    cells = list(product(range(world.area[0]), range(world.area[1])))
    for cell in cells:
        worldgen._set_material(world, cell, player, tunnels, simplex)
    for cell in cells:
        worldgen._set_object(world, cell, player, tunnels)


class LocalView(engine.LocalView):  # type: ignore[misc]
    """The package's view of the surroundings, with all tiles drawn in one go."""

    _tiles: NDArray[np.uint8] | None = None

    def __call__(self, player: Any, unit: Any) -> Any:
        columns, rows = self._grid
        width, height = (int(pixels) for pixels in unit)
        left, top = np.array(player.pos) - self._offset
        across, down = np.arange(left, left + columns), np.arange(top, top + rows)
        visible = np.ix_(across.clip(0, self._area[0] - 1), down.clip(0, self._area[1] - 1))
        inside = np.outer((across >= 0) & (across < self._area[0]), (down >= 0) & (down < self._area[1]))
        if self._tiles is None or self._tiles.shape[1:3] != (width, height):
            self._tiles = self._draw_tiles(width, height)
        canvas = self._tiles[np.where(inside, self._world._mat_map[visible], len(self._tiles) - 1)]
        canvas = canvas.transpose(0, 2, 1, 3, 4).reshape(columns * width, rows * height, 3)
        creatures = np.where(inside, self._world._obj_map[visible], 0)
        for x, y in np.argwhere(creatures).tolist():
            texture = self._textures.get(self._world._objects[creatures[x, y]].texture, unit)
            engine._draw_alpha(canvas, np.array((x, y)) * unit, texture)
        canvas = self._light(canvas, self._world.daylight)
        return self._sleep(canvas) if player.sleeping else canvas

    def _draw_tiles(self, width: int, height: int) -> NDArray[np.uint8]:
        """Tiles (materials + 1, width, height, 3) by number in the map; the last one is outside of the world."""
        names = self._world._mat_names
        tiles = np.full((len(names) + 1, width, height, 3), 127, dtype=np.uint8)
        for number, name in names.items():
            tiles[number] = self._textures.get(name, (width, height))[..., :3]
        return tiles

    def _vignette(self, shape: tuple[int, ...], stddev: float) -> Any:
        return _vignette(shape, stddev)


@functools.cache
def _vignette(shape: tuple[int, ...], stddev: float) -> Any:
    """The package's vignette, whose own cache is shared by all games and too small for sixteen."""
    return engine.LocalView._vignette.__wrapped__(None, shape, stddev)


class ItemView(engine.ItemView):  # type: ignore[misc]
    """The package's view of the inventory, drawn when it has changed."""

    _drawn: tuple[Any, Any] = (None, None)

    def __call__(self, inventory: dict[str, int], unit: Any) -> Any:
        shown = (*inventory.values(), *unit.tolist())
        if shown != self._drawn[0]:
            self._drawn = (shown, super().__call__(inventory, unit))
        return self._drawn[1]


class Game(crafter.Env):  # type: ignore[misc]
    """The package's game with the parts above."""

    def __init__(self, size: int, length: int) -> None:
        super().__init__(size=(size, size), length=length, seed=0)
        self._world = World(self._area, constants.materials, (12, 12))
        rows = -(-len(constants.items) // self._view[0])  # of the inventory
        self._local_view = LocalView(self._world, self._textures, [self._view[0], self._view[1] - rows])
        self._item_view = ItemView(self._textures, [self._view[0], rows])
        self._sem_view = lambda: None  # a map that is not used

    def reset(self, seed: int | None = None) -> Any:
        """As the package's; returns the first picture of the next episode, or of the seed's first one."""
        if seed is not None:
            self._seed, self._episode = seed, 0
        self._episode += 1
        self._step = 0
        self._world.reset(seed=hash((self._seed, self._episode)) % SEEDS)  # of integers: the same in every process
        self._update_time()
        self._player = objects.Player(self._world, (self._area[0] // 2, self._area[1] // 2))
        self._last_health = self._player.health
        self._world.add(self._player)
        self._unlocked: set[str] = set()
        generate_world(self._world, self._player)
        return self._obs()


class CrafterGame(gymnasium.Env[Frame, Any]):
    """Crafter with its published rewards; running out of steps truncates.

    An episode follows from its seed and its actions alone. ``info["achievements"]`` of its last step names what was
    unlocked in it.
    """

    achievements: tuple[str, ...] = tuple(constants.achievements)
    action_meanings: tuple[str, ...] = tuple(constants.actions)

    def __init__(self, size: int, length: int) -> None:
        self._game = Game(size, length)
        self._picture = np.zeros((size, size, 3), dtype=np.uint8)
        self._is_seeded = False
        self.observation_space = gymnasium.spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(len(self.action_meanings))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Frame, Information]:
        super().reset(seed=seed)
        if seed is None and not self._is_seeded:
            seed = int(self.np_random.integers(SEEDS))
        self._is_seeded = True
        self._picture = self._game.reset(seed)
        return self._picture, {}

    def step(self, action: Any) -> tuple[Frame, float, bool, bool, Information]:
        self._picture, reward, is_over, details = self._game.step(int(action))
        is_dead = details["discount"] == 0
        info: Information = {}
        if is_over:
            info["achievements"] = tuple(name for name in self.achievements if details["achievements"][name] > 0)
        return self._picture, float(reward), is_dead, is_over and not is_dead, info

    def render(self) -> Any:
        """The last picture; drawing it again would sample new noise at night, and change the game."""
        return self._picture
