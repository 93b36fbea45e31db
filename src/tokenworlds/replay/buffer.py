"""Replay: steps in one preallocated block of memory on the training device, episodes as chunks of it (``table``).

Row 0 is a blank step (black frame, action 0, reward 0, no end): padding is a gather of row 0, so a batch is one indexed
read a field.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from tokenworlds.replay.table import EpisodeTable

Observations = dict[str, Tensor]


@dataclass
class Segments:
    """A batch of segments. Where ``mask`` is false a step is padding: black frame, action 0, reward 0, no end."""

    observations: Observations  # modality -> (B, T, ...), images uint8 (C, Y, X)
    actions: Int[Tensor, "B T"]
    rewards: Float[Tensor, "B T"]
    ends: UInt8[Tensor, "B T"]
    mask: Bool[Tensor, "B T"]
    rows: Int[Tensor, "B T"]  # rows of the buffer, 0 for padding

    def steps(self, which: slice) -> Segments:
        """Some of the T steps."""
        observations = {name: values[:, which] for name, values in self.observations.items()}
        others = (getattr(self, entry.name)[:, which] for entry in fields(self)[1:])
        return Segments(observations, *others)


class ReplayBuffer:
    """Episodes of steps (observation, action, reward, end); grows by doubling when ``capacity`` is exceeded.

    Several episodes may run at a time, one a stream; rows are never moved or changed once they are written.
    Observations may lie elsewhere (``storage``) where the device has no room for them: then every read waits for a
    copy.
    """

    def __init__(
        self,
        shapes: dict[str, tuple[int, ...]],
        capacity: int,
        device: torch.device,
        storage: torch.device | None = None,
    ) -> None:
        self.device = device
        self._storage = storage or device
        self._observations = {name: _blank((capacity + 1, *shape), self._storage) for name, shape in shapes.items()}
        self._actions = torch.zeros(capacity + 1, dtype=torch.int64, device=device)
        self._rewards = torch.zeros(capacity + 1, dtype=torch.float32, device=device)
        self._ends = torch.zeros(capacity + 1, dtype=torch.uint8, device=device)
        self.clear()

    def clear(self) -> None:
        self._table = EpisodeTable(self.device)

    @property
    def rows(self) -> int:
        """Rows in use, the blank one included."""
        return self._table.rows

    @property
    def num_steps(self) -> int:
        return self.rows - 1

    @property
    def num_episodes(self) -> int:
        return len(self._table.lengths)

    @property
    def lengths(self) -> Int[Tensor, "episodes"]:
        return self._table.places.lengths

    def settle(self) -> None:
        """Bring the table of episodes to the device, if steps were added: else the next one who needs it waits."""
        _ = self._table.places

    @property
    def capacity(self) -> int:
        return len(self._actions) - 1

    def episode_length(self, index: int) -> int:
        """Number of steps, without asking the device."""
        return self._table.lengths[index]

    def episode_rows(self, index: int) -> Int[Tensor, "steps"]:
        """The rows of an episode, in the order of its steps; negative indices count from the end."""
        return self._table.episode_rows(index)

    def episode_return(self, index: int) -> float:
        return float(self._rewards[self.episode_rows(index)].sum())

    def open_episode(self, stream: int = 0) -> int | None:
        """The index of the episode that the stream goes on with, if there is one."""
        return self._table.open_episode(stream)

    def successors(self) -> Int[Tensor, "rows"]:
        """For every row in use that of the next step of the same episode, 0 where there is none (yet)."""
        return self._table.successors()

    def extend(
        self,
        observations: Observations,
        actions: Tensor,
        rewards: Tensor,
        ends: Tensor,
        *,
        stream: int = 0,
        close: bool = False,
    ) -> None:
        """Append steps (leading axis T) to the stream's open episode, or to a new one if there is none.

        An episode is cut right after its first end. ``close`` ends the episode although no end was seen.
        """
        finished = torch.nonzero(ends.cpu())
        length = int(finished[0]) + 1 if len(finished) else len(actions)
        if length == 0:
            return
        self._reserve(self.num_steps + length)
        rows = slice(self.rows, self.rows + length)
        for name, values in observations.items():
            self._observations[name][rows] = values[:length].to(self._storage)
        self._actions[rows] = actions[:length].to(self.device)
        self._rewards[rows] = rewards[:length].to(self.device, torch.float32)
        self._ends[rows] = ends[:length].to(self.device, torch.uint8)
        self._table.append(length, stream, is_last=bool(len(finished)) or close)

    def _reserve(self, steps: int) -> None:
        if steps <= self.capacity:
            return
        extra = max(steps, 2 * self.capacity) - self.capacity

        def grow(values: Tensor) -> Tensor:
            return torch.cat([values, values.new_zeros(extra, *values.shape[1:])])

        self._observations = {name: grow(values) for name, values in self._observations.items()}
        self._actions, self._rewards, self._ends = grow(self._actions), grow(self._rewards), grow(self._ends)

    def observations(self, rows: Tensor | slice) -> Observations:
        where = rows if isinstance(rows, slice) else rows.to(self._storage)
        return {name: values[where].to(self.device) for name, values in self._observations.items()}

    def segments(
        self, episodes: Int[Tensor, "B"], starts: Int[Tensor, "B"], length: int, *, look: bool = True
    ) -> Segments:
        """Segments [start, start + length) of the given episodes; what lies outside an episode, on either side, is
        padding.

        Without ``look`` the observations are left out: for those who read what is cached about the rows instead.
        """
        offsets = starts[:, None] + torch.arange(length, device=self.device)
        return self.read(self._table.find(episodes, offsets), look=look)

    def read(self, rows: Int[Tensor, "B T"], *, look: bool = True) -> Segments:
        """The steps in these rows; row 0 is padding."""
        observations = {}
        if look:
            where = rows.to(self._storage)
            observations = {name: _gather(v, where).to(self.device) for name, v in self._observations.items()}
        return Segments(
            observations=observations,
            actions=self._actions[rows],
            rewards=self._rewards[rows],
            ends=self._ends[rows],
            mask=rows > 0,
            rows=rows,
        )

    def state(self, first_row: int = 1) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Rows from ``first_row`` on as tensors, and the episode table."""
        rows = slice(first_row, self.rows)
        tensors = {f"observations.{name}": values[rows] for name, values in self._observations.items()}
        tensors |= {"actions": self._actions[rows], "rewards": self._rewards[rows], "ends": self._ends[rows]}
        return tensors, self._table.state()

    def load_rows(self, tensors: dict[str, Tensor], first_row: int) -> None:
        """Write rows saved by ``state(first_row)`` back."""
        self._reserve(first_row + len(tensors["actions"]) - 1)
        rows = slice(first_row, first_row + len(tensors["actions"]))
        for name, values in self._observations.items():
            values[rows] = tensors[f"observations.{name}"].to(self._storage)
        self._actions[rows] = tensors["actions"].to(self.device)
        self._rewards[rows] = tensors["rewards"].to(self.device)
        self._ends[rows] = tensors["ends"].to(self.device)

    def load_table(self, table: dict[str, Any]) -> None:
        """Take over the episode table of ``state``."""
        self._table.load_state(table)


def _blank(shape: tuple[int, ...], device: torch.device) -> UInt8[Tensor, "rows ..."]:
    """Zeros; on a host they take memory only when they are written (those of torch at once)."""
    if device.type == "cpu":
        return torch.from_numpy(np.zeros(shape, dtype=np.uint8))
    return torch.zeros(shape, dtype=torch.uint8, device=device)


def _gather(values: UInt8[Tensor, "rows ..."], rows: Int[Tensor, "B T"]) -> UInt8[Tensor, "B T ..."]:
    """``values[rows]`` for bytes; whole rows are copied as wide words, which is several times faster on a CPU."""
    words = values.flatten(1)
    for wide in (torch.int64, torch.int32, torch.int16):
        if words.shape[1] % wide.itemsize == 0:
            words = words.view(wide)
            break
    return words.index_select(0, rows.flatten()).view(values.dtype).view(*rows.shape, *values.shape[1:])
