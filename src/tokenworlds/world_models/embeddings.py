"""Embeddings of observation and action tokens, for world models and policies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenworlds.envs.spec import ActionSpec, ContinuousActions, DiscreteActions, MultiDiscreteActions
from tokenworlds.tokenizers.layout import ModalityTokens


@runtime_checkable
class CodedTokenizer(Protocol):
    """A tokenizer whose tokens stand for code vectors."""

    embed_dim: int

    def vectors(self, tokens: Int[Tensor, "*B"]) -> Float[Tensor, "*B E"]: ...


class CodeEmbedding(nn.Module):
    """The tokenizer's current code vectors without gradient, projected where the model has another width. The tokenizer
    is not part of this module's state dict."""

    def __init__(self, tokenizer: CodedTokenizer, width: int) -> None:
        super().__init__()
        self._tokenizer = (tokenizer,)  # in a tuple, which hides it from the module
        self.project = nn.Identity() if tokenizer.embed_dim == width else nn.Linear(tokenizer.embed_dim, width)

    def forward(self, tokens: Int[Tensor, "*B n"]) -> Float[Tensor, "*B n D"]:
        return self.project(self._tokenizer[0].vectors(tokens).detach())


class ColumnsEmbedding(nn.Module):
    """The mean of the embeddings of a token's symbols, from a table a column (a cell in M3)."""

    def __init__(self, vocab_sizes: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, width) for size in vocab_sizes)

    def forward(self, symbols: Int[Tensor, "*B S"]) -> Float[Tensor, "*B n D"]:
        columns = symbols.unflatten(-1, (-1, len(self.tables))).unbind(-1)
        return torch.stack([table(column) for table, column in zip(self.tables, columns)]).mean(dim=0)


# Modalities, by name, with an embedding other than tables; called like ``embed_observation``
EMBEDDINGS: dict[str, Callable[[ModalityTokens, int], nn.Module]] = {}


def embed_observation(modality: ModalityTokens, width: int) -> nn.Module:
    """Embedding of a modality's symbols (*B, n) as (*B, tokens, D), shared by all positions: one table, or one for each
    symbol of a token."""
    if modality.name in EMBEDDINGS:
        return EMBEDDINGS[modality.name](modality, width)
    if len(modality.vocab_sizes) == 1:
        return nn.Embedding(modality.vocab_size, width)
    return ColumnsEmbedding(modality.vocab_sizes, width)


class DiscreteEmbedding(nn.Embedding):
    """One token for a discrete action."""

    def forward(self, actions: Int[Tensor, "*B"]) -> Float[Tensor, "*B 1 D"]:
        return super().forward(actions).unsqueeze(-2)


class MultiDiscreteEmbedding(nn.Module):
    """One token for each component of an action, from a table each."""

    def __init__(self, counts: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(count, width) for count in counts)

    def forward(self, actions: Int[Tensor, "*B n"]) -> Float[Tensor, "*B n D"]:
        return torch.stack([table(part) for table, part in zip(self.tables, actions.unbind(-1))], dim=-2)


class LevelsEmbedding(nn.Module):
    """One token for each dimension of a continuous action, all from one table: the nearest of ``levels`` values, even
    in [-1, 1], the upper one on ties."""

    thresholds: Float[Tensor, "levels1"]

    def __init__(self, levels: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(levels, width)
        values = torch.from_numpy(np.linspace(-1, 1, levels, dtype=np.float32))  # torch's differ in the last bit
        self.register_buffer("thresholds", (values[1:] + values[:-1]) / 2, persistent=False)

    def tokens(self, actions: Float[Tensor, "*B"]) -> Int[Tensor, "*B"]:
        return torch.bucketize(actions.contiguous(), self.thresholds, right=True)

    def forward(self, actions: Float[Tensor, "*B n"]) -> Float[Tensor, "*B n D"]:
        return self.table(self.tokens(actions))


class ProjectedEmbedding(nn.Linear):
    """One token for a whole continuous action: a linear map of it."""

    def forward(self, actions: Float[Tensor, "*B n"]) -> Float[Tensor, "*B 1 D"]:
        return super().forward(actions.to(self.weight.dtype)).unsqueeze(-2)


def embed_action(spec: ActionSpec, width: int, levels: int, tokenized: bool) -> nn.Module:
    """Actions (*B, *shape) to (*B, tokens, D)."""
    match spec:
        case DiscreteActions(count=count):
            return DiscreteEmbedding(count, width)
        case MultiDiscreteActions(counts=counts):
            return MultiDiscreteEmbedding(counts, width)
        case ContinuousActions(size=size):
            return LevelsEmbedding(levels, width) if tokenized else ProjectedEmbedding(size, width)


def action_tokens(spec: ActionSpec, tokenized: bool) -> int:
    """Number of tokens that ``embed_action`` makes of one action."""
    is_one = isinstance(spec, DiscreteActions) or (isinstance(spec, ContinuousActions) and not tokenized)
    return 1 if is_one else spec.shape[0]
