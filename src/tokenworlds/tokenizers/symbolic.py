"""Tokens of observations that are symbols already: categories, and maps with several symbols a cell (M3)."""

import math

import torch
from einops import rearrange
from jaxtyping import Float, Int, Integer
from torch import Tensor

from tokenworlds.envs.spec import GridSpec, TokenSpec
from tokenworlds.tokenizers import pictures
from tokenworlds.tokenizers.modality import ModalityTokenizer


class TokenTokenizer(ModalityTokenizer):
    """n categories, one token each, which are their own codes."""

    def __init__(self, spec: TokenSpec) -> None:
        super().__init__()
        self.num_tokens, self.vocab_sizes = spec.count, (spec.vocab_size,)

    def encode(self, observations: Integer[Tensor, "N n"]) -> Int[Tensor, "N n"]:
        return observations.long()

    def codes(self, symbols: Int[Tensor, "N n"]) -> Int[Tensor, "N n"]:
        return symbols

    decode = codes

    def render(self, observations: Integer[Tensor, "N n"]) -> Float[Tensor, "N 3 Y X"]:
        """A cell a category."""
        return pictures.column(pictures.categorical(observations))


class GridTokenizer(ModalityTokenizer):
    """One token a cell, one symbol a column of it."""

    marks: Tensor

    def __init__(self, spec: GridSpec) -> None:
        super().__init__()
        self.num_tokens, self.vocab_sizes = spec.height * spec.width, spec.vocab_sizes
        self.height = spec.height
        self.register_buffer("marks", _marks(len(spec.vocab_sizes)), persistent=False)

    def encode(self, observations: Integer[Tensor, "N cells columns"]) -> Int[Tensor, "N S"]:
        return observations.flatten(1).long()

    def codes(self, symbols: Int[Tensor, "N S"]) -> Int[Tensor, "N cells columns"]:
        return symbols.unflatten(1, (self.num_tokens, len(self.vocab_sizes)))

    decode = codes

    def render(self, observations: Integer[Tensor, "N cells columns"]) -> Float[Tensor, "N 3 Y X"]:
        """The map: a cell has the colour of its first symbol, with marks of its other symbols that are not 0."""
        columns = torch.arange(len(self.vocab_sizes), device=observations.device)
        colours = pictures.categorical(observations, columns)
        is_marked = (observations > 0) | (columns == 0)
        colours = torch.where(is_marked.unsqueeze(-1), colours, colours[..., :1, :])
        cells = colours[:, :, self.marks]
        return rearrange(cells, "n (h w) y x c -> n c (h y) (w x)", h=self.height)


def _marks(columns: int) -> Int[Tensor, "p p"]:
    """Index of the column drawn at each pixel of a cell: a square of the further ones, framed by the first."""
    side = math.isqrt(max(columns - 2, 0)) + 1
    marks = torch.zeros(side + 2, side + 2, dtype=torch.int64)
    inside = torch.arange(1, side**2 + 1)
    marks[1:-1, 1:-1] = torch.where(inside < columns, inside, 0).view(side, side)
    return marks
