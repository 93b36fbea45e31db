"""How one environment step is laid out as tokens: the observation's tokens, modality after modality, then those of the
action.

A token holds one symbol or, in a grid, one a column. The symbols of an observation, S of them, are what is stored and
drawn; its K tokens are what a backbone reads. Where every token holds one symbol, the two are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


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
        """Where each modality's tokens stand among the K."""
        return dict(_slices((modality.name, modality.count) for modality in self.modalities))

    @property
    def symbols(self) -> dict[str, slice]:
        """Where each modality's symbols stand among the S: token after token."""
        return dict(_slices((modality.name, modality.num_symbols) for modality in self.modalities))

    def place(self, token: int) -> tuple[ModalityTokens, slice]:
        """The modality of the observation token with this index, and where the token's symbols stand among the S."""
        for modality in self.modalities:
            where, columns = self.slices[modality.name], len(modality.vocab_sizes)
            if token < where.stop:
                first = self.symbols[modality.name].start + (token - where.start) * columns
                return modality, slice(first, first + columns)
        raise IndexError(f"an observation has {self.num_tokens} tokens, there is no token {token}.")


def _slices(sizes: Iterator[tuple[str, int]]) -> Iterator[tuple[str, slice]]:
    """Consecutive ones."""
    start = 0
    for name, size in sizes:
        yield name, slice(start, start + size)
        start += size
