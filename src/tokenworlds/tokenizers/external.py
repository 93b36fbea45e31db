"""An image tokenizer of another program, which is used as it is (docs/experiments.md)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Protocol, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenworlds.config import ImageTokenizerConfig
from tokenworlds.errors import UserError, brief
from tokenworlds.tokenizers import pixels
from tokenworlds.tokenizers.image import ImageTokenizer, TokenizerLosses
from tokenworlds.tokenizers.lpips import LPIPS
from tokenworlds.tokenizers.pictures import to_float

KEY = "model.tokenizer.external.factory"


class ExternalTokenizer(Protocol):
    """What a module of another program offers; frames are floats (N, C, Y, X) in [0, 1]."""

    vocab_size: int
    tokens_per_obs: int

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (N, K), whole numbers below ``vocab_size``, and the latents that they stand for."""
        ...

    def decode(self, tokens: Tensor) -> Tensor:
        """Frames."""
        ...


class Tokenizer(ImageTokenizer):
    """Tokens of the other program's module; nothing of it is trained, and its code vectors are not known."""

    embed_dim = 0  # of code vectors

    def __init__(
        self, config: ImageTokenizerConfig, resolution: int, channels: int = 3, perceptual: LPIPS | None = None
    ) -> None:
        nn.Module.__init__(self)
        self.terms = nn.ModuleDict()  # of the loss: none
        self.lpips, self.perceptual_dropout = perceptual, True
        self.distance = pixels.distance(config)
        assert config.external is not None
        self.network = _made(config.external.factory, resolution)
        named = cast(ExternalTokenizer, self.network)
        self.num_tokens, self.vocab_sizes = int(named.tokens_per_obs), (int(named.vocab_size),)
        self._refuse_misfit(config.external.factory, torch.zeros(2, channels, resolution, resolution))

    def coded(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        tokens, latents = cast(ExternalTokenizer, self.network).encode(to_float(frames))
        return latents, tokens

    def decode(self, symbols: Int[Tensor, "N K"]) -> Float[Tensor, "N C Y X"]:
        frames: Tensor = cast(ExternalTokenizer, self.network).decode(symbols)
        return frames.clamp(0, 1)

    @torch.no_grad()
    def loss(self, frames: Tensor, given: Mapping[str, Tensor] | None = None) -> TokenizerLosses:
        """Reconstruction and perceptual distance, in the units of our own tokenizers; there is no commitment, and no
        further term."""
        x = to_float(frames)
        reconstruction = self.decode(self.encode(frames))
        pair = (reconstruction * 2 - 1, x * 2 - 1)
        perceptual = x.new_zeros(()) if self.lpips is None else self.lpips(pair[1], pair[0]).mean()
        return TokenizerLosses(x.new_zeros(()), self.distance(*pair), perceptual)

    @torch.no_grad()
    def _refuse_misfit(self, factory: str, frames: Tensor) -> None:
        """Try it on black pictures.

        Raises:
            UserError: tokens or reconstructions have other shapes or values than it says.
        """
        tokens, count = self.encode(frames), self.num_tokens
        is_of_count = tokens.shape == (len(frames), count) and not tokens.is_floating_point()
        if not is_of_count or not 0 <= int(tokens.min()) <= int(tokens.max()) < self.vocab_sizes[0]:
            raise UserError(
                f"{KEY}={factory} encodes {tuple(frames.shape)} as {tokens.dtype} {tuple(tokens.shape)}, not as "
                f"whole numbers ({len(frames)}, {count}) below {self.vocab_sizes[0]}, as it says itself."
            )
        if (found := self.decode(tokens).shape) != frames.shape:
            raise UserError(f"{KEY}={factory} decodes to {tuple(found)}, not to {tuple(frames.shape)} as it was given.")


def _made(factory: str, resolution: int) -> nn.Module:
    """The module that a function of another program returns for pictures of this side."""
    module, _, name = factory.partition(":")
    try:
        made = getattr(import_module(module), name)(resolution)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{KEY}={factory} cannot be imported here ({brief(error, 120)}).") from error
    lacking = [need for need in ("encode", "decode", "vocab_size", "tokens_per_obs") if not hasattr(made, need)]
    if not isinstance(made, nn.Module) or lacking:
        raise UserError(
            f"{KEY}={factory} must return a torch module with encode, decode, vocab_size and tokens_per_obs; it lacks "
            f"{lacking[0] if lacking else 'the class torch.nn.Module'}."
        )
    return made.eval().requires_grad_(False)
