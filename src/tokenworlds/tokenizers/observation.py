"""Tokens of a whole observation: one tokenizer a modality, their tokens side by side in the order of the layout."""

from typing import cast

import torch
from jaxtyping import Int
from torch import Tensor, nn

from tokenworlds.config import ImageTokenizerConfig, Perceptual
from tokenworlds.envs.spec import EnvironmentSpec
from tokenworlds.tokenizers import lpips
from tokenworlds.tokenizers.image import ImageTokenizer, TokenizerLosses
from tokenworlds.tokenizers.layout import ModalityTokens, TokenLayout


class ObservationTokenizer(nn.Module):
    """Observations are dictionaries modality -> (N, ...); an image-only environment is the one-entry case."""

    def __init__(self, parts: dict[str, ImageTokenizer]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        self.layout = TokenLayout(
            tuple(ModalityTokens(name, part.num_tokens, part.vocab_size) for name, part in parts.items())
        )

    def part(self, name: str) -> ImageTokenizer:
        return cast(ImageTokenizer, self.parts[name])

    @property
    def codebooks(self) -> dict[str, nn.Embedding]:
        """The code vectors of each modality."""
        return {name: self.part(name).embedding for name in self.layout.slices}

    def encode(self, observations: dict[str, Tensor]) -> Int[Tensor, "N K"]:
        return torch.cat([self.part(name).encode(observations[name]) for name in self.layout.slices], dim=1)

    def decode(self, tokens: Int[Tensor, "N K"]) -> dict[str, Tensor]:
        return {name: self.part(name).decode(tokens[:, where]) for name, where in self.layout.slices.items()}

    def loss(self, observations: dict[str, Tensor]) -> TokenizerLosses:
        """Sums over the modalities of the terms of their losses."""
        losses = [self.part(name).loss(observations[name]).named() for name in self.layout.slices]
        return TokenizerLosses(*(torch.stack([loss[key] for loss in losses]).sum() for key in losses[0]))


def build(config: ImageTokenizerConfig, spec: EnvironmentSpec) -> ObservationTokenizer:
    parts = {}
    for name, modality in spec.observation.items():
        perceptual = lpips.load(str(config.perceptual_weights)) if config.perceptual is Perceptual.lpips else None
        parts[name] = ImageTokenizer(config, modality.height, modality.channels, perceptual)
    return ObservationTokenizer(parts)
