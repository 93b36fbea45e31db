"""Frames as floats, and colours of observations that are no pictures.

Colours are red, green and blue in [0, 1], in the last dimension until a picture is put together.
"""

import math

import torch
from einops import repeat
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional as F

RED, BLUE = (0.70, 0.09, 0.17), (0.13, 0.40, 0.67)
CELL, MOST_ROWS, GAP = (4, 8), 16, 1  # pixels of a cell, height and width; cells of a column; pixels between pictures
GOLDEN = 0.6180339887498949  # its multiples, modulo one, keep the largest distances from each other


def to_float(frames: Tensor) -> Tensor:
    """uint8 frames as floats in [0, 1]; floats unchanged."""
    return frames.float().div_(255) if frames.dtype == torch.uint8 else frames


def to_bytes(frames: Tensor) -> Tensor:
    """Frames in [0, 1] as uint8; uint8 unchanged."""
    return (frames.float().clamp(0, 1) * 255).round().byte() if frames.is_floating_point() else frames


def diverging(x: Float[Tensor, "*B"]) -> Float[Tensor, "*B 3"]:
    """White at zero, red above, blue below, with the strongest contrast near zero."""
    strength = x.abs().tanh().unsqueeze(-1)
    ends = torch.where(x.unsqueeze(-1) > 0, x.new_tensor(RED), x.new_tensor(BLUE))
    return 1 - strength * (1 - ends)


def categorical(symbols: Integer[Tensor, "*B"], kind: Integer[Tensor, "..."] | int = 0) -> Float[Tensor, "*B 3"]:
    """A hue a symbol, in one of three shades; symbols of different kinds begin at different hues."""
    hue = (symbols * GOLDEN + kind * GOLDEN / 2).frac().unsqueeze(-1)
    shade = 0.95 - 0.2 * (symbols % 3).unsqueeze(-1)
    wheel = torch.tensor([0.0, 4.0, 2.0], device=symbols.device)
    saturated = (((hue * 6 + wheel) % 6 - 3).abs() - 1).clamp(0, 1)
    return shade * (0.45 + 0.55 * saturated)


def column(colours: Float[Tensor, "N n 3"]) -> Float[Tensor, "N 3 Y X"]:
    """Cells below each other, in several columns if there are many."""
    count = colours.shape[1]
    columns = math.ceil(count / MOST_ROWS)
    rows = math.ceil(count / columns)
    filled = F.pad(colours, (0, 0, 0, rows * columns - count), value=1.0)
    return repeat(filled, "n (w h) c -> n c (h y) (w x)", h=rows, y=CELL[0], x=CELL[1])


def side_by_side(pictures: list[Float[Tensor, "N 3 _ _"]]) -> Float[Tensor, "N 3 Y X"]:
    """Pictures of any sizes in one, on white."""
    height = max(picture.shape[2] for picture in pictures)
    padded = [F.pad(picture, (0, GAP, 0, height - picture.shape[2]), value=1.0) for picture in pictures]
    return torch.cat(padded, dim=3)[..., :-GAP]
