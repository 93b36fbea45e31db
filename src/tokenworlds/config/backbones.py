"""Sequence models of the world models, and the settings of each.

A further one is a member of ``Backbone``, a section here under the same name, and a line in ``backbones.BACKBONES``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import cast

from tokenworlds.config.ranges import HEADS, LAYERS, MEMORY, MISSING, WIDTH, dropout, integer, number, positive, require
from tokenworlds.errors import UserError

_KEY = "model.world_model"


Backbone = Enum("Backbone", "transformer retnet lstm gru transformer_xl mamba cfc llama")
"""Sequence models that a world model can run on."""

Attention = Enum("Attention", "causal block_causal")
"""Mask of the transformer: lower triangular, or full inside a block and causal across blocks."""

Positions = Enum("Positions", "learned rotary sinusoidal")
"""Positional encoding of a transformer: a learned table (IRIS), rotated queries and keys, or added sinusoids."""

Norm = Enum("Norm", "pre post")
"""Layer normalisation before every layer's two halves and at the end, or after them (Simulus-A)."""

SuffixAttention = Enum("SuffixAttention", "causal full")
"""Query tokens (POP) of the same suffix that a query token attends to: those up to itself, or all."""


class BackboneConfig:
    """Settings of a sequence model."""

    def check(self, key: str, embed_dim: int) -> None:
        """Refuse settings that do not fit a width; ``key`` is the key of this section."""


@dataclass
class TransformerConfig(BackboneConfig):
    """GPT-style transformer (IRIS section 2.2)."""

    num_layers: int = integer(1, LAYERS)
    num_heads: int = integer(1, HEADS)
    attention: Attention = MISSING
    embed_dropout: float = dropout()
    residual_dropout: float = dropout()
    attention_dropout: float = dropout()
    positions: Positions = Positions.learned
    norm: Norm = Norm.pre
    attention_bias: bool = True
    suffix_attention: SuffixAttention = SuffixAttention.causal

    def check(self, key: str, embed_dim: int) -> None:
        _check_heads(key, embed_dim, self.num_heads)


@dataclass
class RetNetConfig(BackboneConfig):
    """Retentive network (REM section 3)."""

    num_layers: int = integer(1, LAYERS)
    num_heads: int = integer(1, HEADS)
    value_dim: int = integer(1, WIDTH)  # width of values and gate; queries and keys are as wide as the model
    hidden_dim: int = integer(1, WIDTH)  # of the feed-forward layers
    dropout: float = dropout()
    # The decay of the first head is 1 - 1/this, in tokens or blocks
    shortest_memory: float = positive(MEMORY, above=1, default=32.0)
    longest_memory: float = positive(MEMORY, above=1, default=512.0)  # that of the last head
    memory_in_blocks: bool = False

    def check(self, key: str, embed_dim: int) -> None:
        _check_heads(key, embed_dim, self.num_heads)
        for name, width in {f"{_KEY}.embed_dim": embed_dim, f"{key}.value_dim": self.value_dim}.items():
            require(
                width % (2 * self.num_heads) == 0,
                f"{name} ({width}) must be a multiple of twice {key}.num_heads ({self.num_heads}): heads need even "
                "widths.",
            )


@dataclass
class RecurrentConfig(BackboneConfig):
    """Stacked LSTM or GRU between two linear projections."""

    num_layers: int = integer(1, LAYERS)
    hidden_dim: int = integer(1, WIDTH)


@dataclass
class TransformerXLConfig(BackboneConfig):
    """Transformer with relative positions (Transformer-XL)."""

    num_layers: int = integer(1, LAYERS)
    num_heads: int = integer(1, HEADS)
    embed_dropout: float = dropout()
    residual_dropout: float = dropout()
    attention_dropout: float = dropout()

    def check(self, key: str, embed_dim: int) -> None:
        _check_heads(key, embed_dim, self.num_heads)
        require(embed_dim % 2 == 0, f"{_KEY}.embed_dim ({embed_dim}) must be even: distances are sinusoids in pairs.")


@dataclass
class MambaConfig(BackboneConfig):
    """Selective state space model."""

    num_layers: int = integer(1, LAYERS)
    expand: int = integer(1, 64)  # inner width as a multiple of the model's
    state_dim: int = integer(1, WIDTH)  # states of each inner channel
    conv_width: int = integer(2, 64)  # tokens
    step_rank: int = integer(1, WIDTH)  # of the projection to the step sizes


@dataclass
class CfCConfig(BackboneConfig):
    """Closed-form continuous-time cells of three stages: inter, command and motor neurons."""

    num_layers: int = integer(1, LAYERS)
    hidden_dim: int = integer(3, WIDTH)  # inter and command neurons; the model's width are the motor neurons
    # Of the wiring of a neural circuit policy, the share of absent connections; None: none is absent
    sparsity: float | None = number(0.1, 1, default=None)
    wiring_seed: int = integer(0, 2**32 - 1, default=22222)
    dropout: float = dropout()
    block_positions: bool = True  # whether a learned vector for the position inside the block is added to the inputs


@dataclass
class LlamaConfig(BackboneConfig):
    """Transformer of Llama: rotary positions, norms by the root mean square, a gated MLP, keys and values that several
    query heads share."""

    num_layers: int = integer(1, LAYERS)
    num_heads: int = integer(1, HEADS)
    num_kv_heads: int = integer(1, HEADS)  # of keys and values
    hidden_dim: int = integer(1, WIDTH)  # of the MLP
    rope_base: float = positive(1e9, above=1, default=10_000.0)
    norm_epsilon: float = positive(1, default=1e-5)

    def check(self, key: str, embed_dim: int) -> None:
        _check_heads(key, embed_dim, 2 * self.num_heads)
        require(
            self.num_heads % self.num_kv_heads == 0,
            f"{key}.num_heads ({self.num_heads}) must be a multiple of {key}.num_kv_heads ({self.num_kv_heads}).",
        )


@dataclass
class BackboneSections:
    """A section per sequence model, of which the one that ``model.backbone`` names is required."""

    transformer: TransformerConfig | None = None
    retnet: RetNetConfig | None = None
    lstm: RecurrentConfig | None = None
    gru: RecurrentConfig | None = None
    transformer_xl: TransformerXLConfig | None = None
    mamba: MambaConfig | None = None
    cfc: CfCConfig | None = None
    llama: LlamaConfig | None = None

    def check_backbone(self, chosen: Backbone, embed_dim: int) -> None:
        key, section = f"{_KEY}.{chosen.name}", cast(BackboneConfig | None, getattr(self, chosen.name))
        if section is None:
            raise UserError(f"model.backbone={chosen.name} needs a section {key} in the method's params.yaml.")
        section.check(key, embed_dim)


def _check_heads(key: str, embed_dim: int, num_heads: int) -> None:
    require(
        embed_dim % num_heads == 0,
        f"{_KEY}.embed_dim ({embed_dim}) must be a multiple of {key}.num_heads ({num_heads}).",
    )
