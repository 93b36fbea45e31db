"""Index of episodes over the rows of a replay buffer.

Rows are assigned as steps arrive and never move, so an episode that is written in several pieces, while others run
beside it, is a list of chunks of consecutive rows. Concatenated, episode after episode, the chunks give every step a
position; a search among the chunks leads from positions to rows, and back. Row 0 means that there is no such step. An
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
    """The index on the device."""

    begins: Int[Tensor, "episodes"]  # position of an episode's first step
    lengths: Int[Tensor, "episodes"]
    stops: Int[Tensor, "chunks"]  # position behind a chunk, in the order of positions
    shifts: Int[Tensor, "chunks"]  # from the positions of a chunk to its rows
    row_stops: Int[Tensor, "chunks"]  # row behind a chunk, in the order of rows, as all that follows
    row_episodes: Int[Tensor, "chunks"]
    row_shifts: Int[Tensor, "chunks"]  # from the rows of a chunk to the offsets in its episode


class EpisodeTable:
    """Episodes by number, in the order in which they began; a stream (an environment) runs at most one at a time.

    Negative numbers of episodes count from the end.
    """

    rows: int  # in use, the blank one included
    _lengths: list[int]  # entries of each episode
    _chunk_episodes: list[int]  # in the order of rows
    _chunk_lengths: list[int]
    _open: dict[int, int]  # stream -> its running episode
    _finals: set[int]  # episodes whose last entry is no step
    _places: _Places | None

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.clear()

    def clear(self) -> None:
        self.load_table({"episodes": [], "lengths": [], "open": [], "finals": []})

    def append(self, entries: int, stream: int, *, is_last: bool, has_final: bool = False) -> None:
        """Assign the next ``entries`` rows to the stream's running episode, or to a new one if there is none; the last
        of them may be an observation alone."""
        episode = self._open.pop(stream, self.num_episodes)
        if episode == self.num_episodes:
            self._lengths.append(0)
        if self._chunk_episodes and self._chunk_episodes[-1] == episode:
            self._chunk_lengths[-1] += entries
        else:
            self._chunk_episodes.append(episode)
            self._chunk_lengths.append(entries)
        self._lengths[episode] += entries
        self.rows += entries
        if not is_last:
            self._open[stream] = episode
        if has_final:
            self._finals.add(episode)
        self._places = None

    def open_episode(self, stream: int = 0) -> int | None:
        """The running episode of a stream."""
        return self._open.get(stream)

    @property
    def running_episodes(self) -> set[int]:
        """Those of all streams."""
        return set(self._open.values())

    @property
    def num_episodes(self) -> int:
        return len(self._lengths)

    @property
    def num_steps(self) -> int:
        """Steps of the environment: entries without the final observations."""
        return self.rows - 1 - len(self._finals)

    @property
    def lengths(self) -> Int[Tensor, "episodes"]:
        """Entries of each episode, on the device."""
        return self.places.lengths

    def episode_length(self, index: int) -> int:
        """Number of entries, without asking the device."""
        return self._lengths[index]

    def episode_steps(self, index: int) -> int:
        """Number of steps of the environment: entries without the final observation."""
        return self._lengths[index] - (index % self.num_episodes in self._finals)

    @property
    def places(self) -> _Places:
        """The index, brought to the device at the first use after rows were added."""
        if self._places is None:
            episodes, counts, firsts = self._chunks()
            order = np.argsort(episodes, kind="stable")
            stops = counts[order].cumsum()
            lengths = np.array(self._lengths, dtype=np.int64)
            begins, shifts = lengths.cumsum() - lengths, firsts[order] - (stops - counts[order])
            row_shifts = np.empty_like(shifts)
            row_shifts[order] = -shifts - begins[episodes[order]]
            parts = (begins, lengths, stops, shifts, firsts + counts, episodes, row_shifts)
            self._places = _Places(*(torch.from_numpy(part).to(self.device) for part in parts))
        return self._places

    def settle(self) -> None:
        """Bring the index to the device now, so that no later use waits for it."""
        _ = self.places

    def segment_rows(self, episodes: Int[Tensor, "B"], starts: Int[Tensor, "B"], length: int) -> Int[Tensor, "B T"]:
        """Rows of the steps [start, start + length) of these episodes; 0 outside of an episode."""
        places, offsets = self.places, starts[:, None] + torch.arange(length, device=self.device)
        is_inside = (offsets >= 0) & (offsets < places.lengths[episodes][:, None])
        positions = torch.where(is_inside, places.begins[episodes][:, None] + offsets, 0)
        return torch.where(is_inside, self._rows_at(positions), 0)

    def locate(self, rows: Int[Tensor, "B"]) -> tuple[Int[Tensor, "B"], Int[Tensor, "B"]]:
        """Episodes of these rows (not row 0), and their offsets from its first step: ``segment_rows`` in
        reverse."""
        places = self.places
        chunks = torch.searchsorted(places.row_stops, rows, right=True)
        return places.row_episodes[chunks], rows + places.row_shifts[chunks]

    def episode_rows(self, index: int) -> Int[Tensor, "entries"]:
        """Rows of one episode in the order of its steps."""
        return self._rows_at(self.places.begins[index] + torch.arange(self._lengths[index], device=self.device))

    def successors(self) -> Int[Tensor, "rows"]:
        """For every row in use that of the next step of the same episode, 0 where there is none (yet)."""
        episodes, counts, firsts = self._chunks()
        order = np.argsort(episodes, kind="stable")
        following = np.zeros_like(firsts)
        goes_on = episodes[order][:-1] == episodes[order][1:]
        following[order[:-1][goes_on]] = firsts[order[1:][goes_on]]
        rows = torch.arange(1, self.rows + 1, device=self.device)
        rows[0] = 0
        rows[torch.from_numpy(firsts + counts - 1).to(self.device)] = torch.from_numpy(following).to(self.device)
        return rows

    def _rows_at(self, positions: Int[Tensor, "*B"]) -> Int[Tensor, "*B"]:
        chunks = torch.searchsorted(self.places.stops, positions, right=True)
        return positions + self.places.shifts[chunks]

    def _chunks(self) -> tuple[_Integers, _Integers, _Integers]:
        """Episode, length and first row of every chunk, in the order of rows."""
        episodes = np.array(self._chunk_episodes, dtype=np.int64)
        counts = np.array(self._chunk_lengths, dtype=np.int64)
        return episodes, counts, 1 + counts.cumsum() - counts

    def table_state(self) -> dict[str, Any]:
        """Chunks, running episodes and those with a final observation, from which all else follows."""
        return {
            "episodes": list(self._chunk_episodes),
            "lengths": list(self._chunk_lengths),
            "open": list(self._open.items()),
            "finals": sorted(self._finals),
        }

    def load_table(self, table: dict[str, Any]) -> None:
        """Continue where ``table_state`` was taken."""
        self._chunk_episodes, self._chunk_lengths = list(table["episodes"]), list(table["lengths"])
        self._open, self._finals = dict(table["open"]), set(table["finals"])
        self.rows = 1 + sum(self._chunk_lengths)
        self._lengths = [0] * (1 + max(self._chunk_episodes, default=-1))
        for episode, entries in zip(self._chunk_episodes, self._chunk_lengths):
            self._lengths[episode] += entries
        self._places = None
