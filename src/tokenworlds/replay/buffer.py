"""Replay: steps in one preallocated block of memory on the training device, episodes as chunks of it (``table``).

Row 0 is a blank step (zeros everywhere): padding is a gather of row 0, so a batch is one indexed read a field. An
episode may hold one entry more than it has steps: the observation behind the last of them (M3).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from numpy.typing import DTypeLike
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

    @classmethod
    def of_frames(cls, observations: Observations, actions: Tensor, mask: Tensor | None = None) -> Segments:
        """Frames (B, T, ...) and the actions after them, of which neither rewards nor rows are known."""
        numbers = torch.zeros(actions.shape[:2], device=actions.device)
        mask = numbers == 0 if mask is None else mask
        return cls(observations, actions, numbers, numbers.byte(), mask, numbers.long())

    def steps(self, which: slice) -> Segments:
        """The segments restricted to some of their T steps."""
        return self.map(lambda values: values[:, which])

    def map(self, change: Callable[[Tensor], Tensor]) -> Segments:
        """The segments with every tensor (B, T, ...) changed."""
        observations = {name: change(values) for name, values in self.observations.items()}
        return Segments(observations, *(change(getattr(self, entry.name)) for entry in fields(self)[1:]))


class Steps(ABC):
    """Stored steps as samplers see them: those of ``ReplayBuffer``, or some of them."""

    device: torch.device

    @property
    @abstractmethod
    def num_episodes(self) -> int: ...
    @property
    @abstractmethod
    def lengths(self) -> Int[Tensor, "episodes"]: ...
    @abstractmethod
    def episode_length(self, index: int) -> int: ...
    @abstractmethod
    def settle(self) -> None: ...
    @abstractmethod
    def segment_rows(self, episodes: Int[Tensor, "B"], starts: Int[Tensor, "B"], length: int) -> Int[Tensor, "B T"]: ...
    @abstractmethod
    def read(self, rows: Int[Tensor, "B T"], *, with_observations: bool = True) -> Segments: ...


class ReplayBuffer(EpisodeTable, Steps):
    """Episodes of steps (observation, action, reward, termination); doubles its memory when ``capacity`` entries are
    exceeded.

    Several episodes may run at a time, one a stream; rows are never moved or changed once they are written.
    Observations may be kept elsewhere (``storage``) where the device has no room for them: then every read waits for a
    copy.
    """

    def __init__(
        self, spec: EnvironmentSpec, capacity: int, device: torch.device, storage: torch.device | None = None
    ) -> None:
        super().__init__(device)
        self._storage = storage or device
        rows = capacity + 1
        self._observations = {
            name: _blank((rows, *part.shape), part.dtype, self._storage) for name, part in spec.observation.items()
        }
        self._steps = {  # by key in a checkpoint
            "actions": _blank((rows, *spec.actions.shape), spec.actions.dtype, device),
            "rewards": _blank((rows,), np.float32, device),
            "ends": _blank((rows,), np.uint8, device),
        }

    @property
    def capacity(self) -> int:
        return len(self._steps["actions"]) - 1

    def episode_return(self, index: int) -> float:
        return float(self._steps["rewards"][self.episode_rows(index)].sum())

    def extend(
        self,
        observations: Observations,
        actions: Tensor,
        rewards: Tensor,
        terminations: Tensor,
        *,
        trained: Sequence[Tensor] = (),
        stream: int = 0,
        close: bool = False,
        final: Observations | None = None,
    ) -> None:
        """Append steps (leading axis T) to the stream's open episode, or to a new one if there is none.

        An episode is cut right after its first termination. ``close`` ends the episode without one. ``final`` is the
        observation behind the last step (no leading axis): if the episode ends here, it becomes an entry of its own,
        with action and reward zero and no termination. ``trained`` is for an ``EvaluationBuffer``.
        """
        terminated = torch.nonzero(terminations.cpu())
        length = int(terminated[0]) + 1 if len(terminated) else len(actions)
        if length == 0:
            return
        is_last = bool(len(terminated)) or close
        steps = [values[:length] for values in (actions, rewards, terminations, *trained)[: len(self._steps)]]
        self._write(self.rows, {name: values[:length] for name, values in observations.items()}, steps)
        has_final = is_last and final is not None
        if is_last and final is not None:
            entry = {name: value[None] for name, value in final.items()}
            self._write(self.rows + length, entry, [torch.zeros_like(values[:1]) for values in steps])
        self.append(length + has_final, stream, is_last=is_last, has_final=has_final)

    def _write(self, first: int, observations: Observations, steps: list[Tensor]) -> None:
        """Write entries into the rows from ``first`` on."""
        rows = slice(first, first + len(steps[0]))
        if rows.stop - 1 > self.capacity:
            self._grow(max(rows.stop - 1, 2 * self.capacity) - self.capacity)
        for name, values in self._observations.items():
            values[rows] = observations[name].to(self._storage)
        for values, given in zip(self._steps.values(), steps, strict=True):
            values[rows] = given.to(self.device)

    def _grow(self, entries: int) -> None:
        for some in (self._observations, self._steps):
            for name, values in some.items():
                dtype = torch.empty(0, dtype=values.dtype).numpy().dtype
                some[name] = _blank((len(values) + entries, *values.shape[1:]), dtype, values.device)
                some[name][: len(values)] = values

    def observations(self, rows: Tensor | slice) -> Observations:
        where = rows if isinstance(rows, slice) else rows.to(self._storage)
        return {name: values[where].to(self.device) for name, values in self._observations.items()}

    def segments(self, episodes: Int[Tensor, "B"], starts: Int[Tensor, "B"], length: int) -> Segments:
        """Segments [start, start + length) of these episodes, padded where they leave the episode on either side."""
        return self.read(self.segment_rows(episodes, starts, length))

    def read(self, rows: Int[Tensor, "B T"], *, with_observations: bool = True) -> Segments:
        """The steps in these rows; row 0 is padding.

        Without ``with_observations`` the observations are left out, for a caller that has cached what it needs of them.
        """
        observations = {}
        if with_observations:
            where = rows.to(self._storage)
            observations = {name: _gather(v, where).to(self.device) for name, v in self._observations.items()}
        actions, rewards, terminations = (self._steps[name][rows] for name in ("actions", "rewards", "ends"))
        return Segments(observations, actions, rewards, terminations, mask=rows > 0, rows=rows)

    def as_trained(self, segments: Segments) -> Segments:
        """Segments of this buffer with rewards and ends as environments of training give them."""
        return segments

    def state(self, first_row: int = 1) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Rows from ``first_row`` on as tensors, and the table of episodes."""
        stored = {f"observations.{name}": values for name, values in self._observations.items()} | self._steps
        return {name: values[first_row : self.rows] for name, values in stored.items()}, self.table_state()

    def load_rows(self, tensors: dict[str, Tensor], first_row: int) -> None:
        """Write rows saved by ``state(first_row)``; ``load_table`` has to follow."""
        observations = {name: tensors[f"observations.{name}"] for name in self._observations}
        self._write(first_row, observations, [tensors[name] for name in self._steps])


def _blank(shape: tuple[int, ...], dtype: DTypeLike, device: torch.device) -> Shaped[Tensor, "rows ..."]:
    """Zeros; NumPy's take memory only when they are written, torch's at once."""
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
