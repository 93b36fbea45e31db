"""Where the steps of each episode lie in the rows of a replay buffer.

Rows are handed out as steps arrive and never move, so an episode that is written in several goes, while others run
beside it, is a list of chunks of consecutive rows. Laid end to end, episode after episode, the chunks give every step a
position; a search among the chunks leads from positions to rows, and back. Row 0 stands for all that is not there. An
episode may end with an entry that is no step: the observation behind its last one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

_Integers = NDArray[np.int64]


@dataclass
class _Places:
    """The table on the device."""

    begins: Int[Tensor, "episodes"]  # position of an episode's first step
    lengths: Int[Tensor, "episodes"]
    stops: Int[Tensor, "chunks"]  # position behind a chunk, in the order of positions
    shifts: Int[Tensor, "chunks"]  # from the positions of a chunk to its rows
    row_stops: Int[Tensor, "chunks"]  # row behind a chunk, in the order of rows, as all that follows
    row_episodes: Int[Tensor, "chunks"]
    row_shifts: Int[Tensor, "chunks"]  # from the rows of a chunk to the offsets in its episode


class EpisodeTable:
    """Episodes by number, in the order in which they began; a stream (an environment) runs at most one at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.rows = 1  # in use, the blank one included
        self.lengths: list[int] = []  # entries of each episode
        self._chunk_episodes: list[int] = []  # in the order of rows
        self._chunk_lengths: list[int] = []
        self._open: dict[int, int] = {}  # stream -> its running episode
        self._finals: set[int] = set()  # episodes whose last entry is no step
        self._places: _Places | None = None

    def append(self, entries: int, stream: int, *, is_last: bool, has_final: bool = False) -> None:
        """The next ``entries`` rows belong to the stream's running episode, or to a new one if there is none; the last
        of them may be an observation alone."""
        episode = self._open.pop(stream, len(self.lengths))
        if episode == len(self.lengths):
            self.lengths.append(0)
        if self._chunk_episodes and self._chunk_episodes[-1] == episode:
            self._chunk_lengths[-1] += entries
        else:
            self._chunk_episodes.append(episode)
            self._chunk_lengths.append(entries)
        self.lengths[episode] += entries
        self.rows += entries
        if not is_last:
            self._open[stream] = episode
        if has_final:
            self._finals.add(episode)
        self._places = None

    def open_episode(self, stream: int) -> int | None:
        return self._open.get(stream)

    @property
    def num_steps(self) -> int:
        return self.rows - 1 - len(self._finals)

    def episode_steps(self, index: int) -> int:
        """Entries of one episode but for its final observation; negative indices count from the end."""
        return self.lengths[index] - (index % len(self.lengths) in self._finals)

    @property
    def places(self) -> _Places:
        """Made anew at the first question after rows were added."""
        if self._places is None:
            episodes, counts, firsts = self._chunks()
            order = np.argsort(episodes, kind="stable")
            stops = counts[order].cumsum()
            lengths = np.array(self.lengths, dtype=np.int64)
            begins, shifts = lengths.cumsum() - lengths, firsts[order] - (stops - counts[order])
            row_shifts = np.empty_like(shifts)
            row_shifts[order] = -shifts - begins[episodes[order]]
            parts = (begins, lengths, stops, shifts, firsts + counts, episodes, row_shifts)
            self._places = _Places(*(torch.from_numpy(part).to(self._device) for part in parts))
        return self._places

    def find(self, episodes: Int[Tensor, "B"], offsets: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
        """Rows of the steps at these offsets from the first step of their episode; 0 outside of it."""
        places = self.places
        is_inside = (offsets >= 0) & (offsets < places.lengths[episodes][:, None])
        positions = torch.where(is_inside, places.begins[episodes][:, None] + offsets, 0)
        return torch.where(is_inside, self._rows_at(positions), 0)

    def locate(self, rows: Int[Tensor, "B"]) -> tuple[Int[Tensor, "B"], Int[Tensor, "B"]]:
        """Episodes of these rows (not row 0), and their offsets from its first step: ``find`` in reverse."""
        places = self.places
        chunks = torch.searchsorted(places.row_stops, rows, right=True)
        return places.row_episodes[chunks], rows + places.row_shifts[chunks]

    def episode_rows(self, index: int) -> Int[Tensor, "entries"]:
        """The rows of one episode, in the order of its steps; negative indices count from the end."""
        entries = torch.arange(self.lengths[index], device=self._device)
        return self._rows_at(self.places.begins[index] + entries)

    def successors(self) -> Int[Tensor, "rows"]:
        """For every row that of the next step of the same episode, 0 where there is none (yet)."""
        episodes, counts, firsts = self._chunks()
        order = np.argsort(episodes, kind="stable")
        following = np.zeros_like(firsts)
        goes_on = episodes[order][:-1] == episodes[order][1:]
        following[order[:-1][goes_on]] = firsts[order[1:][goes_on]]
        rows = torch.arange(1, self.rows + 1, device=self._device)
        rows[0] = 0
        rows[torch.from_numpy(firsts + counts - 1).to(self._device)] = torch.from_numpy(following).to(self._device)
        return rows

    def _rows_at(self, positions: Int[Tensor, "*B"]) -> Int[Tensor, "*B"]:
        chunks = torch.searchsorted(self.places.stops, positions, right=True)
        return positions + self.places.shifts[chunks]

    def _chunks(self) -> tuple[_Integers, _Integers, _Integers]:
        """Episode, length and first row of every chunk, in the order of rows."""
        episodes = np.array(self._chunk_episodes, dtype=np.int64)
        counts = np.array(self._chunk_lengths, dtype=np.int64)
        return episodes, counts, 1 + counts.cumsum() - counts

    def state(self) -> dict[str, Any]:
        """The chunks, the running episodes, and those with a final observation: all else follows from them."""
        return {
            "episodes": list(self._chunk_episodes),
            "lengths": list(self._chunk_lengths),
            "open": list(self._open.items()),
            "finals": sorted(self._finals),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self._chunk_episodes, self._chunk_lengths = list(state["episodes"]), list(state["lengths"])
        self._open, self._finals = dict(state["open"]), set(state["finals"])
        self.rows = 1 + sum(self._chunk_lengths)
        self.lengths = [0] * (1 + max(self._chunk_episodes, default=-1))
        for episode, entries in zip(self._chunk_episodes, self._chunk_lengths):
            self.lengths[episode] += entries
        self._places = None
