"""Tokens of a whole observation: one tokenizer a modality, their tokens side by side in the order of the layout."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenworlds.config import ImageTokenizerConfig, Perceptual
from tokenworlds.envs.spec import EnvironmentSpec, GridSpec, ImageSpec, ModalitySpec, TokenSpec, VectorSpec
from tokenworlds.replay.companions import Needs
from tokenworlds.tokenizers import pictures
from tokenworlds.tokenizers.image import ImageTokenizer, TokenizerLosses, network_of
from tokenworlds.tokenizers.layout import ModalityTokens, TokenLayout
from tokenworlds.tokenizers.modality import ModalityTokenizer


class ObservationTokenizer(nn.Module):
    """Observations are dictionaries modality -> (N, ...); an image-only environment is the one-entry case. Their
    symbols, S of each, are those of all modalities side by side (``layout``)."""

    def __init__(self, parts: dict[str, ModalityTokenizer], action_tokens: int = 1) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        self.layout = TokenLayout(
            tuple(ModalityTokens(name, part.num_tokens, part.vocab_sizes) for name, part in parts.items()),
            action_tokens,
        )

    def part(self, name: str) -> ModalityTokenizer:
        return cast(ModalityTokenizer, self.parts[name])

    @property
    def coded(self) -> dict[str, ImageTokenizer]:
        """The learned tokenizers, whose tokens stand for code vectors."""
        return {name: cast(ImageTokenizer, part) for name, part in self.parts.items() if part.learns}

    @property
    def image(self) -> ImageTokenizer:
        """The tokenizer of the picture, for policies with no other input."""
        return self.coded["image"]

    @property
    def learns(self) -> bool:
        """Whether any part is trained."""
        return bool(self.coded)

    def encode(self, observations: dict[str, Tensor]) -> Int[Tensor, "N S"]:
        return torch.cat([self.part(name).encode(observations[name]) for name in self.layout.symbols], dim=1)

    def decode(self, symbols: Int[Tensor, "N S"]) -> dict[str, Tensor]:
        return {name: self.part(name).decode(symbols[:, where]) for name, where in self.layout.symbols.items()}

    def stored(self, decoded: dict[str, Tensor]) -> dict[str, Tensor]:
        """Decoded observations with pictures in uint8, as real ones are stored."""
        return {name: pictures.to_bytes(v) if name in self.coded else v for name, v in decoded.items()}

    def render(self, observations: dict[str, Tensor]) -> Float[Tensor, "N 3 Y X"]:
        """All modalities of an observation, stored or decoded, in one picture."""
        return pictures.side_by_side([self.part(name).render(observations[name]) for name in self.layout.symbols])

    @property
    def needs(self) -> dict[str, Needs]:
        """What the loss of each modality needs besides its observations."""
        parts = ((name, part.needs) for name, part in self.coded.items())
        return {name: needs for name, needs in parts if needs}

    def loss(
        self, observations: dict[str, Tensor], given: Mapping[str, Mapping[str, Tensor]] | None = None
    ) -> TokenizerLosses:
        """Losses, each summed over the learned modalities. ``given`` is what they need besides, by modality."""
        losses = [part.loss(observations[name], (given or {}).get(name)) for name, part in self.coded.items()]
        named = [loss.named() for loss in losses]
        total = TokenizerLosses(*(torch.stack([loss[key] for loss in named]).sum() for key in named[0]))
        for loss in losses:
            total.add(loss.further, loss.measured)
        return total


def build(
    config: ImageTokenizerConfig, spec: EnvironmentSpec, action_tokens: int = 1, perceptual_dropout: bool = True
) -> ObservationTokenizer:
    """A part for each modality of the environment; ``config`` is that of pictures, with one for vectors."""
    modalities = sorted(spec.observation.items(), key=lambda entry: entry[1].order)
    parts = {name: TOKENIZERS[type(one)](one, config) for name, one in modalities}
    tokenizer = ObservationTokenizer(parts, action_tokens)
    for part in tokenizer.coded.values():
        part.perceptual_dropout = perceptual_dropout
    return tokenizer


def _image_tokenizer(spec: ImageSpec, config: ImageTokenizerConfig) -> ImageTokenizer:
    make: type[ImageTokenizer] = getattr(network_of(config), "Tokenizer", ImageTokenizer)
    if config.perceptual is Perceptual.none:
        return make(config, spec.height, spec.channels)
    from tokenworlds.tokenizers import lpips

    return make(config, spec.height, spec.channels, lpips.of(config))


def _vector_tokenizer(spec: VectorSpec, config: ImageTokenizerConfig) -> ModalityTokenizer:
    from tokenworlds.tokenizers.vector import VectorTokenizer

    return VectorTokenizer(spec, config.vectors)


def _symbolic_tokenizer(spec: TokenSpec | GridSpec, _: ImageTokenizerConfig) -> ModalityTokenizer:
    from tokenworlds.tokenizers.symbolic import GridTokenizer, TokenTokenizer

    return GridTokenizer(spec) if isinstance(spec, GridSpec) else TokenTokenizer(spec)


# They import their modules themselves, so that an agent imports only those of its modalities
TOKENIZERS: dict[type[ModalitySpec], Callable[[Any, ImageTokenizerConfig], ModalityTokenizer]] = {
    ImageSpec: _image_tokenizer,
    VectorSpec: _vector_tokenizer,
    TokenSpec: _symbolic_tokenizer,
    GridSpec: _symbolic_tokenizer,
}
