"""An image tokenizer without training, as an example of one that comes from another program (docs/experiments.md).

python -m pipeline.train method=iris variant=tokenizer-external task=minigrid/Empty-5x5 scale=smoke
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GRID, LEVELS = 4, 8  # patches a side; shades of each of the three colours


class PatchQuantiser(nn.Module):
    """The mean colour of each patch, rounded to a palette.

    Args:
        size: side of the pictures in pixels.
    """

    vocab_size, tokens_per_obs = LEVELS**3, GRID**2
    palette: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        shades = torch.linspace(0, 1, LEVELS)
        self.register_buffer("palette", torch.cartesian_prod(shades, shades, shades))

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (N, K) and mean colours (N, K, 3) of frames (N, 3, Y, X) in [0, 1]."""
        colours = F.adaptive_avg_pool2d(frames, GRID).flatten(2).transpose(1, 2)
        shades = (colours * (LEVELS - 1)).round().long()
        return (shades * shades.new_tensor([LEVELS**2, LEVELS, 1])).sum(-1), colours

    def decode(self, tokens: Tensor) -> Tensor:
        """Frames of one colour a patch."""
        colours = self.palette[tokens].transpose(1, 2).unflatten(2, (GRID, GRID))
        return F.interpolate(colours, size=(self.size, self.size), mode="nearest")
