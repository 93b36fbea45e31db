"""Traversal of every stored step in a fixed order, for losses in evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from tokenworlds.replay.buffer import ReplayBuffer, Segments


def traverse(
    buffer: ReplayBuffer, count: int, length: int, context: int = 0, episodes: Iterable[int] | None = None
) -> Iterator[Segments]:
    """Traverse these episodes (by default all) in chunks of ``length`` (the last one padded), at most ``count`` chunks
    of one episode a batch.

    The first ``context`` steps of a chunk repeat the last ones of the previous chunk, so every step but the first
    ``context`` of an episode follows such a context exactly once.
    """
    for index in range(buffer.num_episodes) if episodes is None else episodes:
        steps = buffer.episode_length(index)
        if steps > context:
            starts = torch.arange(0, steps - context, length - context, device=buffer.device)
            for some in starts.split(count):
                yield buffer.segments(torch.full_like(some, index), some, length)


def traverse_chunks(
    buffer: ReplayBuffer, count: int, length: int, episodes: Iterable[int] | None = None
) -> Iterator[Segments]:
    """Traverse these episodes (by default all) in consecutive chunks of ``length`` > 1 (the last one of an episode
    padded), ``count`` a batch across episodes. Chunks with fewer than two real steps hold no transition and are left
    out."""
    chunks = [
        (index, start)
        for index in (range(buffer.num_episodes) if episodes is None else episodes)
        for start in range(0, buffer.episode_length(index) - 1, length)
    ]
    yield from _batches(buffer, chunks, count, length)


def traverse_between(
    buffer: ReplayBuffer, count: int, length: int, before: int, episodes: Iterable[int] | None = None
) -> Iterator[Segments]:
    """Traverse these episodes (by default all) in chunks of ``length`` > ``before`` + 2, ``count`` a batch across
    episodes, so that every step has in exactly one chunk at least ``before`` others in front of it and one behind it;
    in front of an episode and behind it these are padding.

    The last chunk of an episode ends one behind its last step, so that each holds such a step which a real one follows.
    Episodes of a single step are left out.
    """
    advance = length - before - 1
    chunks = [
        (index, first - before)
        for index in (range(buffer.num_episodes) if episodes is None else episodes)
        if (steps := buffer.episode_length(index)) > 1
        for first in range(-(-steps % advance), steps, advance)
    ]
    yield from _batches(buffer, chunks, count, length)


def _batches(buffer: ReplayBuffer, chunks: list[tuple[int, int]], count: int, length: int) -> Iterator[Segments]:
    """Chunks of ``length`` by episode and first step, ``count`` a batch."""
    for first in range(0, len(chunks), count):
        chosen, starts = torch.tensor(chunks[first : first + count], device=buffer.device).unbind(1)
        yield buffer.segments(chosen, starts, length)
