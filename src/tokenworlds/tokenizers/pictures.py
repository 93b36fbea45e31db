"""Frames as floats, and colours of observations that are no pictures.

Colours are red, green and blue in [0, 1], in the last dimension until a picture is put together.
"""

import math

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional as F

RED, BLUE, AXIS = (0.70, 0.09, 0.17), (0.13, 0.40, 0.67), (0.75, 0.75, 0.75)
BAR, LONGEST = (6, 33), 3.0  # pixels of a bar, height and width; the number from which it is full, 19 in symlog
CELL, MOST_ROWS, GAP = (4, 8), 16, 1  # pixels of a cell, height and width; cells of a column; pixels between pictures
GOLDEN = 0.6180339887498949  # its multiples, modulo one, keep the largest distances from each other


def to_float(frames: Tensor) -> Tensor:
    """uint8 frames as floats in [0, 1]; floats unchanged."""
    return frames.float().div_(255) if frames.dtype == torch.uint8 else frames


def to_bytes(frames: Tensor) -> Tensor:
    """Frames in [0, 1] as uint8; uint8 unchanged."""
    return (frames.float().clamp(0, 1) * 255).round().byte() if frames.is_floating_point() else frames


def categorical(symbols: Integer[Tensor, "*B"], kind: Integer[Tensor, "..."] | int = 0) -> Float[Tensor, "*B 3"]:
    """A hue a symbol, in one of three shades; symbols of different kinds begin at different hues."""
    hue = (symbols * GOLDEN + kind * GOLDEN / 2).frac().unsqueeze(-1)
    shade = 0.95 - 0.2 * (symbols % 3).unsqueeze(-1)
    wheel = torch.tensor([0.0, 4.0, 2.0], device=symbols.device)
    saturated = (((hue * 6 + wheel) % 6 - 3).abs() - 1).clamp(0, 1)
    return shade * (0.45 + 0.55 * saturated)


def column(colours: Float[Tensor, "N n 3"]) -> Float[Tensor, "N 3 Y X"]:
    """Cells below each other, in several columns if there are many."""
    return _in_columns(repeat(colours, "n k c -> n k y x c", y=CELL[0], x=CELL[1]))


def _in_columns(cells: Float[Tensor, "N n y x 3"]) -> Float[Tensor, "N 3 Y X"]:
    count = cells.shape[1]
    columns = math.ceil(count / MOST_ROWS)
    rows = math.ceil(count / columns)
    filled = F.pad(cells, (0, 0, 0, 0, 0, 0, 0, rows * columns - count), value=1.0)
    return rearrange(filled, "n (w h) y x c -> n c (h y) (w x)", h=rows)


def bars(x: Float[Tensor, "N n"]) -> Float[Tensor, "N 3 Y X"]:
    """A bar a number, below each other, in several columns if there are many: from the middle to the right, red, above
    zero, to the left, blue, below; of full length from ``LONGEST`` on."""
    height, width = BAR
    place = torch.arange(width, device=x.device) - width // 2
    length = (x / LONGEST * (width // 2)).round().unsqueeze(-1)
    is_filled = (place * length > 0) & (place.abs() <= length.abs())
    colours = torch.where(place.unsqueeze(-1) > 0, x.new_tensor(RED), x.new_tensor(BLUE))
    ground = torch.where(place.unsqueeze(-1) == 0, x.new_tensor(AXIS), x.new_tensor(1.0))
    rows = torch.where(is_filled.unsqueeze(-1), colours, ground)
    return _in_columns(F.pad(repeat(rows, "n k x c -> n k y x c", y=height - 1), (0, 0, 0, 0, 0, 1), value=1.0))


def side_by_side(pictures: list[Float[Tensor, "N 3 _ _"]]) -> Float[Tensor, "N 3 Y X"]:
    """Pictures of any sizes in one, on white."""
    height = max(picture.shape[2] for picture in pictures)
    padded = [F.pad(picture, (0, GAP, 0, height - picture.shape[2]), value=1.0) for picture in pictures]
    return torch.cat(padded, dim=3)[..., :-GAP]
