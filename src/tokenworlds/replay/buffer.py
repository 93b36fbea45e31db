"""Replay: steps in one preallocated block of memory on the training device, episodes as chunks of it (``table``).

Row 0 is a blank step (zeros everywhere): padding is a gather of row 0, so a batch is one indexed read a field. An
episode may hold one entry more than it has steps: the observation behind the last of them (M3).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

from tokenworlds.envs.spec import EnvironmentSpec
from tokenworlds.replay.table import EpisodeTable

Observations = dict[str, Tensor]


@dataclass
class Segments:
    """A batch of segments. Where ``mask`` is false a step is padding: zeros everywhere."""

    observations: Observations  # modality -> (B, T, ...), as stored: images uint8 (C, Y, X)
    actions: Shaped[Tensor, "B T *action"]
    rewards: Float[Tensor, "B T"]
    terminations: UInt8[Tensor, "B T"]
    mask: Bool[Tensor, "B T"]
    rows: Int[Tensor, "B T"]  # rows of the buffer, 0 for padding

    def steps(self, which: slice) -> Segments:
        """Some of the T steps."""
        observations = {name: values[:, which] for name, values in self.observations.items()}
        others = (getattr(self, entry.name)[:, which] for entry in fields(self)[1:])
        return Segments(observations, *others)


class ReplayBuffer:
    """Episodes of steps (observation, action, reward, end); grows by doubling when ``capacity`` entries are exceeded.

    Several episodes may run at a time, one a stream; rows are never moved or changed once they are written.
    Observations may lie elsewhere (``storage``) where the device has no room for them: then every read waits for a
    copy.
    """

    def __init__(
        self, spec: EnvironmentSpec, capacity: int, device: torch.device, storage: torch.device | None = None
    ) -> None:
        self.device = device
        self._storage = storage or device
        rows = capacity + 1
        self._observations = {
            name: _blank((rows, *part.shape), part.dtype, self._storage) for name, part in spec.observation.items()
        }
        self._actions = _blank((rows, *spec.actions.shape), spec.actions.dtype, device)
        self._rewards = torch.zeros(rows, dtype=torch.float32, device=device)
        self._terminations = torch.zeros(rows, dtype=torch.uint8, device=device)
        self.clear()

    def clear(self) -> None:
        self._table = EpisodeTable(self.device)

    @property
    def rows(self) -> int:
        """Rows in use, the blank one included."""
        return self._table.rows

    @property
    def num_steps(self) -> int:
        """Steps of the environment: entries without the final observations."""
        return self._table.num_steps

    @property
    def num_episodes(self) -> int:
        return len(self._table.lengths)

    @property
    def lengths(self) -> Int[Tensor, "episodes"]:
        """Entries of each episode."""
        return self._table.places.lengths

    def settle(self) -> None:
        """Bring the table of episodes to the device, if steps were added: else the next one who needs it waits."""
        _ = self._table.places

    @property
    def capacity(self) -> int:
        return len(self._actions) - 1

    def episode_length(self, index: int) -> int:
        """Number of entries, without asking the device."""
        return self._table.lengths[index]

    def episode_steps(self, index: int) -> int:
        """Number of steps of the environment: entries without the final observation."""
        return self._table.episode_steps(index)

    def episode_rows(self, index: int) -> Int[Tensor, "entries"]:
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

    def locate(self, rows: Int[Tensor, "B"]) -> tuple[Int[Tensor, "B"], Int[Tensor, "B"]]:
        """Episodes of these rows (not row 0), and how far they are behind its first."""
        return self._table.locate(rows)

    def extend(
        self,
        observations: Observations,
        actions: Tensor,
        rewards: Tensor,
        terminations: Tensor,
        *,
        stream: int = 0,
        close: bool = False,
        final: Observations | None = None,
    ) -> None:
        """Append steps (leading axis T) to the stream's open episode, or to a new one if there is none.

        An episode is cut right after its first end. ``close`` ends the episode although no end was seen. ``final`` is
        the observation behind the last step (no leading axis): if the episode ends here, it becomes an entry of its
        own, with action and reward zero and no end.
        """
        finished = torch.nonzero(terminations.cpu())
        length = int(finished[0]) + 1 if len(finished) else len(actions)
        if length == 0:
            return
        is_last = bool(len(finished)) or close
        steps = {name: values[:length] for name, values in observations.items()}
        self._write(self.rows, steps, actions[:length], rewards[:length], terminations[:length])
        has_final = False
        if is_last and final is not None:
            has_final, entry = True, {name: value[None] for name, value in final.items()}
            nothing = (torch.zeros_like(values[:1]) for values in (actions, rewards, terminations))
            self._write(self.rows + length, entry, *nothing)
        self._table.append(length + has_final, stream, is_last=is_last, has_final=has_final)

    def _write(
        self, first: int, observations: Observations, actions: Tensor, rewards: Tensor, terminations: Tensor
    ) -> None:
        """Entries into the rows from ``first`` on."""
        self._reserve(first + len(actions) - 1)
        rows = slice(first, first + len(actions))
        for name, values in self._observations.items():
            values[rows] = observations[name].to(self._storage)
        for values, given in ((self._actions, actions), (self._rewards, rewards), (self._terminations, terminations)):
            values[rows] = given.to(self.device)

    def _reserve(self, entries: int) -> None:
        if entries <= self.capacity:
            return
        extra = max(entries, 2 * self.capacity) - self.capacity

        def grow(values: Tensor) -> Tensor:
            return torch.cat([values, values.new_zeros(extra, *values.shape[1:])])

        self._observations = {name: grow(values) for name, values in self._observations.items()}
        self._actions, self._rewards, self._terminations = (
            grow(self._actions),
            grow(self._rewards),
            grow(self._terminations),
        )

    def observations(self, rows: Tensor | slice) -> Observations:
        where = rows if isinstance(rows, slice) else rows.to(self._storage)
        return {name: values[where].to(self.device) for name, values in self._observations.items()}

    def segments(
        self, episodes: Int[Tensor, "B"], starts: Int[Tensor, "B"], length: int, *, with_observations: bool = True
    ) -> Segments:
        """Segments [start, start + length) of the given episodes; what lies outside an episode, on either side, is
        padding.

        Without ``with_observations`` the observations are left out, for a caller that has cached what it needs of them.
        """
        offsets = starts[:, None] + torch.arange(length, device=self.device)
        return self.read(self._table.find(episodes, offsets), with_observations=with_observations)

    def read(self, rows: Int[Tensor, "B T"], *, with_observations: bool = True) -> Segments:
        """The steps in these rows; row 0 is padding."""
        observations = {}
        if with_observations:
            where = rows.to(self._storage)
            observations = {name: _gather(v, where).to(self.device) for name, v in self._observations.items()}
        return Segments(
            observations=observations,
            actions=self._actions[rows],
            rewards=self._rewards[rows],
            terminations=self._terminations[rows],
            mask=rows > 0,
            rows=rows,
        )

    def state(self, first_row: int = 1) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Rows from ``first_row`` on as tensors, and the episode table."""
        rows = slice(first_row, self.rows)
        tensors = {f"observations.{name}": values[rows] for name, values in self._observations.items()}
        tensors |= {"actions": self._actions[rows], "rewards": self._rewards[rows], "ends": self._terminations[rows]}
        return tensors, self._table.state()

    def load_rows(self, tensors: dict[str, Tensor], first_row: int) -> None:
        """Write rows saved by ``state(first_row)`` back."""
        observations = {name: tensors[f"observations.{name}"] for name in self._observations}
        self._write(first_row, observations, *(tensors[name] for name in ("actions", "rewards", "ends")))

    def load_table(self, table: dict[str, Any]) -> None:
        """Take over the episode table of ``state``."""
        self._table.load_state(table)


def _blank(shape: tuple[int, ...], dtype: np.dtype[Any], device: torch.device) -> Shaped[Tensor, "rows ..."]:
    """Zeros; on a host they take memory only when they are written (those of torch at once)."""
    if device.type == "cpu":
        return torch.from_numpy(np.zeros(shape, dtype=dtype))
    return torch.zeros(shape, dtype=torch.from_numpy(np.zeros(0, dtype=dtype)).dtype, device=device)


def _gather(values: Shaped[Tensor, "rows ..."], rows: Int[Tensor, "B T"]) -> Shaped[Tensor, "B T ..."]:
    """``values[rows]``; whole rows are copied as wide words, which is several times faster on a CPU."""
    words = values.flatten(1).view(torch.uint8)
    for wide in (torch.int64, torch.int32, torch.int16):
        if words.shape[1] % wide.itemsize == 0:
            words = words.view(wide)
            break
    return words.index_select(0, rows.flatten()).view(values.dtype).view(*rows.shape, *values.shape[1:])
