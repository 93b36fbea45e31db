"""The frame before each stored one."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from tokenworlds.replay.buffer import ReplayBuffer
from tokenworlds.replay.companions import Companion


class PreviousFrames(Companion):
    """The observation one step before, of one modality; the first of an episode precedes itself."""

    def __init__(self, buffer: ReplayBuffer, modality: str) -> None:
        self.buffer, self.modality = buffer, modality

    def of(self, rows: Int[Tensor, "B"]) -> Tensor:
        episodes, offsets = self.buffer.locate(rows)
        before = self.buffer.segment_rows(episodes, offsets - 1, 1).squeeze(1)
        return self.buffer.observations(torch.where(before > 0, before, rows))[self.modality]
