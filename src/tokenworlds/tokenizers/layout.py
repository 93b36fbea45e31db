"""How one environment step is laid out as tokens: the observation's tokens, modality after modality, then those of the
action.

A token holds one symbol or, in a grid, one a column. The S symbols of an observation are stored and sampled; its K
tokens are the inputs of a backbone. If every token holds one symbol, the two are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class ModalityTokens:
    name: str
    count: int  # tokens of one observation
    vocab_sizes: tuple[int, ...]  # one for each symbol of a token

    @property
    def num_symbols(self) -> int:
        return self.count * len(self.vocab_sizes)

    @property
    def vocab_size(self) -> int:
        """Logits that predict a token."""
        return sum(self.vocab_sizes)


@dataclass(frozen=True)
class TokenLayout:
    """A block is ``K`` observation tokens followed by the tokens of one action."""

    modalities: tuple[ModalityTokens, ...]
    action_tokens: int = 1

    @property
    def num_tokens(self) -> int:
        """K."""
        return sum(modality.count for modality in self.modalities)

    @property
    def num_symbols(self) -> int:
        """S."""
        return sum(modality.num_symbols for modality in self.modalities)

    @property
    def block_size(self) -> int:
        return self.num_tokens + self.action_tokens

    @property
    def slices(self) -> dict[str, slice]:
        """Range of each modality's tokens among the K."""
        return _ranges({modality.name: modality.count for modality in self.modalities})

    @property
    def symbols(self) -> dict[str, slice]:
        """Range of each modality's symbols among the S, token after token."""
        return _ranges({modality.name: modality.num_symbols for modality in self.modalities})

    def agreement(self, one: Int[Tensor, "*B S"], other: Int[Tensor, "*B S"]) -> Bool[Tensor, "*B K"]:
        """Whether each token is the same in two observations, with all of its symbols."""
        equal = one == other
        parts = [
            equal[..., span].unflatten(-1, (modality.count, -1)).all(dim=-1)
            for modality, span in zip(self.modalities, self.symbols.values())
        ]
        return torch.cat(parts, dim=-1)

    def place(self, token: int) -> tuple[ModalityTokens, slice]:
        """The modality of an observation's token with this index, and the range of its symbols among the S."""
        for modality in self.modalities:
            where, columns = self.slices[modality.name], len(modality.vocab_sizes)
            if token < where.stop:
                first = self.symbols[modality.name].start + (token - where.start) * columns
                return modality, slice(first, first + columns)
        raise IndexError(f"an observation has {self.num_tokens} tokens, there is no token {token}.")


def _ranges(sizes: dict[str, int]) -> dict[str, slice]:
    stops = accumulate(sizes.values())
    return {name: slice(stop - size, stop) for (name, size), stop in zip(sizes.items(), stops)}
