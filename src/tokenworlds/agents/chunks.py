"""How many stored frames are encoded at once, and room for what comes of them."""

import torch
from torch import Tensor


def chunk_size(device: torch.device) -> int:
    """Frames encoded and decoded at once: few on a CPU, where larger batches exceed the caches (measured:
    benchmarks/), many on a GPU."""
    return 4 if device.type == "cpu" else 512


def enlarged(values: Tensor, rows: int) -> Tensor:
    """``values``, padded with zeros to at least that many rows."""
    if len(values) >= rows:
        return values
    return torch.cat([values, values.new_zeros(rows - len(values), *values.shape[1:])])
