"""Which segments a batch is made of (IRIS: episodes uniformly with replacement, not weighted by their length)."""

from collections.abc import Iterator

import torch

from tokenworlds.replay.buffer import ReplayBuffer, Segments


def sample_from_start(
    buffer: ReplayBuffer, count: int, length: int, generator: torch.Generator, *, look: bool = True
) -> Segments:
    """``count`` segments whose first step is real: start ~ U{0..len-1}, padding on the right."""
    episodes, lengths = _draw_episodes(buffer, count, generator)
    starts = _uniform_below(lengths, generator)
    return buffer.segments(episodes, starts, length, look=look)


def sample_from_end(
    buffer: ReplayBuffer, count: int, length: int, generator: torch.Generator, *, look: bool = True
) -> Segments:
    """``count`` segments whose last step is real: stop ~ U{1..len}, padding on the left."""
    episodes, lengths = _draw_episodes(buffer, count, generator)
    stops = 1 + _uniform_below(lengths, generator)
    return buffer.segments(episodes, stops - length, length, look=look)


def traverse(buffer: ReplayBuffer, count: int, length: int) -> Iterator[Segments]:
    """Every episode once, in consecutive chunks of ``length`` (the last one padded), at most ``count`` chunks a batch
    of one episode."""
    for index in range(buffer.num_episodes):
        starts = torch.arange(0, buffer.episode(index)[1], length, device=buffer.device)
        for some in starts.split(count):
            yield buffer.segments(torch.full_like(some, index), some, length)


def _draw_episodes(buffer: ReplayBuffer, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    episodes = torch.randint(buffer.num_episodes, (count,), generator=generator, device=buffer.device)
    return episodes, buffer.lengths[episodes]


def _uniform_below(limits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """One integer uniform in {0..limit-1} for each limit."""
    uniforms = torch.rand(limits.shape, generator=generator, device=limits.device, dtype=torch.float64)
    return torch.minimum((uniforms * limits).long(), limits - 1)
