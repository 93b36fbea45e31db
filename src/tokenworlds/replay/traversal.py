"""Every stored step once, in a fixed order: what evaluation averages over."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from tokenworlds.replay.buffer import ReplayBuffer, Segments


def traverse(buffer: ReplayBuffer, count: int, length: int, context: int = 0) -> Iterator[Segments]:
    """Every episode in chunks of ``length`` (the last one padded), at most ``count`` chunks a batch of one episode.

    The first ``context`` steps of a chunk are the last ones of the chunk before: so every step but the first
    ``context`` of an episode stands behind such a context exactly once.
    """
    for index in range(buffer.num_episodes):
        steps = buffer.episode_length(index)
        if steps > context:
            starts = torch.arange(0, steps - context, length - context, device=buffer.device)
            for some in starts.split(count):
                yield buffer.segments(torch.full_like(some, index), some, length)


def traverse_chunks(buffer: ReplayBuffer, count: int, length: int) -> Iterator[Segments]:
    """All episodes in consecutive chunks of ``length`` > 1 (the last one of an episode padded), ``count`` a batch,
    whichever episodes they are of. Chunks with fewer than two real steps, which hold no transition, are left out."""
    numbers = (buffer.lengths + length - 2) // length  # of chunks with two steps or more
    episodes = torch.repeat_interleave(torch.arange(buffer.num_episodes, device=buffer.device), numbers)
    starts = length * (torch.arange(len(episodes), device=buffer.device) - (numbers.cumsum(0) - numbers)[episodes])
    for first in range(0, len(episodes), count):
        batch = slice(first, first + count)
        yield buffer.segments(episodes[batch], starts[batch], length)
