"""Policies over the tokens of observations: decoded pictures (IRIS), code vectors (REM), or the tokens of all
modalities, each with an encoder of its own (M3).

Shapes: N observations, S symbols of each, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenworlds.actor_critic.encoders import CodeEncoder, CodeMapEncoder, Encoder, PixelEncoder
from tokenworlds.actor_critic.policy import Policy
from tokenworlds.config import BurnInActions, PolicyInput, Scalar, TokenPolicyConfig
from tokenworlds.envs.spec import EnvironmentSpec, GridSpec, ImageSpec, ModalitySpec, TokenSpec, VectorSpec
from tokenworlds.tokenizers.image import ImageTokenizer
from tokenworlds.tokenizers.modality import ModalityTokenizer
from tokenworlds.tokenizers.observation import ObservationTokenizer
from tokenworlds.world_models.embeddings import ColumnsEmbedding


def build_policy(
    config: TokenPolicyConfig,
    spec: EnvironmentSpec,
    tokenizer: ObservationTokenizer,
    levels: int = 51,
    burn_in_actions: BurnInActions = BurnInActions.every,
) -> Policy:
    """The configured policy over the tokens of observations.

    Raises:
        UserError: the observations are not one picture, which pixels and codes need.
    """
    every = {
        BurnInActions.published: tokenizer.layout.num_tokens,
        BurnInActions.detached: tokenizer.layout.num_tokens,
        BurnInActions.every: 1,
        BurnInActions.never: None,
    }
    return Policy(
        _token_encoder(config, spec, tokenizer),
        config.recurrence,
        config.hidden_dim,
        spec.actions,
        config.action_input,
        every[burn_in_actions],
        config.values,
        zero_critic=config.values is Scalar.two_hot,
        value_bins=config.value_bins,
        levels=levels,
        critic_encoder=_token_encoder(config, spec, tokenizer) if config.separate_critic else None,
        burn_in_learns=burn_in_actions is BurnInActions.published,
    )


def _token_encoder(config: TokenPolicyConfig, spec: EnvironmentSpec, tokenizer: ObservationTokenizer) -> Encoder:
    match config.input:
        case PolicyInput.tokens:
            return SymbolEncoder(config, spec, tokenizer)
        case PolicyInput.pixels:
            return PixelEncoder(spec.image.height, spec.image.channels)
        case PolicyInput.codes:
            _ = spec.image  # refuses other observations
            return CodeEncoder(tokenizer.image.embed_dim, tokenizer.image.grid, config.hidden_dim)


class PictureEncoder(CodeMapEncoder):
    """Convolutions over a picture's code vectors."""

    def __init__(self, tokenizer: ModalityTokenizer, config: TokenPolicyConfig) -> None:
        assert isinstance(tokenizer, ImageTokenizer)
        super().__init__(tokenizer.embed_dim, tokenizer.grid)


class VectorEncoder(Encoder):
    """The numbers themselves, as the tokenizer rounds them, in symlog."""

    def __init__(self, tokenizer: ModalityTokenizer, config: TokenPolicyConfig) -> None:
        super().__init__()
        self.width = tokenizer.num_tokens

    def forward(self, numbers: Float[Tensor, "N F"]) -> Float[Tensor, "N F"]:
        return numbers


class CategoriesEncoder(Encoder):
    """Embeddings of the tokens side by side; one of several symbols, a cell of a map, has the mean of theirs."""

    def __init__(self, tokenizer: ModalityTokenizer, config: TokenPolicyConfig) -> None:
        super().__init__()
        self.embedding = ColumnsEmbedding(tokenizer.vocab_sizes, config.token_dim)
        self.width = tokenizer.num_tokens * config.token_dim

    def forward(self, symbols: Int[Tensor, "N *S"]) -> Float[Tensor, "N F"]:
        return self.embedding(symbols.flatten(1)).flatten(1)


ENCODERS: dict[type[ModalitySpec], Callable[[ModalityTokenizer, TokenPolicyConfig], Encoder]] = {
    ImageSpec: PictureEncoder,
    VectorSpec: VectorEncoder,
    TokenSpec: CategoriesEncoder,
    GridSpec: CategoriesEncoder,
}


class SymbolEncoder(Encoder):
    """Symbols (N, S) of whole observations to features, encoded modality by modality and fused by linear layers with
    normalisation. The tokenizer gets no gradient and is not part of this module's state."""

    def __init__(self, config: TokenPolicyConfig, spec: EnvironmentSpec, tokenizer: ObservationTokenizer) -> None:
        super().__init__()
        self._tokenizer = (tokenizer,)  # in a tuple, so that it is no submodule
        encoders = {
            name: ENCODERS[type(spec.observation[name])](tokenizer.part(name), config)
            for name in tokenizer.layout.symbols
        }
        widths = [sum(encoder.width for encoder in encoders.values()), *config.fuser]
        layers = ((nn.Linear(a, b), nn.LayerNorm(b), nn.SiLU()) for a, b in pairwise(widths))
        self.encoders = nn.ModuleDict(encoders)
        self.fuser = nn.Sequential(*(part for layer in layers for part in layer))
        self.width = widths[-1]

    def forward(self, symbols: Int[Tensor, "N S"]) -> Float[Tensor, "N F"]:
        (tokenizer,) = self._tokenizer
        with torch.no_grad():
            where = tokenizer.layout.symbols.items()
            codes = {name: tokenizer.part(name).codes(symbols[:, place]) for name, place in where}
        return self.fuser(torch.cat([self.encoders[name](some) for name, some in codes.items()], dim=1))
