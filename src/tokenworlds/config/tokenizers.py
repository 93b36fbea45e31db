"""Settings of tokenizers, and of the convolutional stacks of Delta-IRIS."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import ClassVar, cast

from tokenworlds.config.ranges import (
    LAYERS,
    MISSING,
    PIXELS,
    STEPS,
    UPDATES,
    VOCABULARY,
    WEIGHT,
    WIDTH,
    Range,
    dropout,
    integer,
    integers,
    later,
    number,
    one_of,
    positive,
    probability,
    require,
    text,
)
from tokenworlds.errors import UserError

_KEY = "model.tokenizer"
PERCEPTUAL_FILES = ("vgg16-397923af.pth", "vgg.pth")
"""The files of a folder of perceptual weights: VGG16 as torchvision names it, and the heads of LPIPS."""

TokenizerNetwork = Enum("TokenizerNetwork", "resnet conv external")
"""Encoder and decoder of the image tokenizer: residual blocks and attention (IRIS), convolutions without shortcuts
(REM), or a module of another program."""

Quantiser = Enum("Quantiser", "nearest fsq ema lfq")
"""From latents of a picture to tokens: the nearest vector of a codebook that is learned by gradient, finite scalar
quantisation (Simulus-A), the nearest vector of a codebook of moving averages, or the signs of a few numbers."""

DecoderNorm = Enum("DecoderNorm", "none batch group")
"""Layer before the first convolution of a ``conv`` decoder: nothing (REM), batch normalisation (M3) or group
normalisation (Simulus-A)."""

Support = Enum("Support", "published uniform")
"""Values to which the numbers of a vector are rounded: M3's, dense near zero, or evenly spaced ones."""

Perceptual = Enum("Perceptual", "none lpips random")
"""Perceptual term of the tokenizer's loss: none, LPIPS, or the same distance on features of random weights."""

Reconstruction = Enum("Reconstruction", "l1 mse huber charbonnier logit_laplace")
"""Distance of a frame from its reconstruction: mean absolute error (IRIS), mean squared error, or one of those in
``tokenizers.pixels``."""

ReturnTarget = Enum("ReturnTarget", "raw symlog sign")
"""What the critic of the value loss predicts: the discounted return, its symlog, or its sign."""


@dataclass
class ResNetConfig:
    """Encoder and decoder of IRIS (appendix A.1): one level per entry of ``ch_mult``, halving between levels."""

    ch: int = integer(1, WIDTH)
    ch_mult: list[int] = integers(1, 64, longest=10)
    num_res_blocks: int = integer(0, LAYERS)
    attn_resolutions: list[int] = integers(1, PIXELS, longest=16)
    dropout: float = dropout()

    @property
    def num_halvings(self) -> int:
        return len(self.ch_mult) - 1

    def check(self, z_channels: int) -> None:
        """Widths against group norms."""
        widths = [self.ch * multiplier for multiplier in self.ch_mult]
        require(
            all(width % 32 == 0 for width in widths),
            f"{_KEY}.resnet.ch x ch_mult gives widths {widths}; each must be a multiple of 32 (group normalisation).",
        )


@dataclass
class ConvConfig:
    """Encoder and decoder of REM: convolutions without shortcuts, widths doubling from ``ch`` at every halving."""

    ch: int = integer(1, WIDTH)
    num_halvings: int = integer(1, 10)
    num_groups: int = integer(1, WIDTH)  # of the group norms
    decoder_groups: int = integer(1, WIDTH)  # of those in the decoder's blocks; 32 in the first public release
    convolutions: int = integer(1, 2, default=2)  # a block, 1 or 2
    mirrored: bool = False  # whether the decoder has the encoder's widths in reverse; else they follow from z_channels
    decoder_norm: DecoderNorm = DecoderNorm.none

    def check(self, z_channels: int) -> None:
        """Widths against group norms."""
        widths = [self.ch * 2**level for level in range(self.num_halvings, 0, -1)]
        if not self.mirrored:
            widths = [max(z_channels // 2**level, self.ch) for level in range(self.num_halvings)]
        require(
            self.ch % self.num_groups == 0,
            f"{_KEY}.conv.ch ({self.ch}) must be a multiple of num_groups ({self.num_groups}).",
        )
        require(
            all(width % self.decoder_groups == 0 for width in widths),
            f"{_KEY} gives the decoder's blocks widths {widths}; each must be a multiple of {_KEY}.conv.decoder_groups "
            f"({self.decoder_groups}).",
        )


@dataclass
class ExternalConfig:
    """An image tokenizer of another program (docs/experiments.md)."""

    # module:function; the function gets the side of the pictures in pixels and returns the tokenizer
    factory: str = one_of(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", "module:function, both importable")
    num_halvings: ClassVar[int] = 0

    def check(self, z_channels: int) -> None:
        """Nothing: the module is known when it is built."""


@dataclass
class VectorTokenizerConfig:
    """Numbers to the nearest of fixed values, in symlog (M3). ``count`` and ``limit`` apply to uniform values."""

    support: Support = Support.published
    count: int = integer(2, VOCABULARY, default=129)
    limit: float = positive(50, default=7.0)


@dataclass
class TermConfig:
    """A further term of the tokenizer's loss; with weight 0 it is not evaluated, and has no parameters."""

    weight: float = number(0, WEIGHT, default=0.0)

    def check(self, key: str, size: int) -> None:
        """Refuse settings that do not fit frames of ``size`` pixels; ``key`` is the key of this section."""


@dataclass
class ValueTermConfig(TermConfig):
    """Squared error of a critic, which reads the quantised latents, against the discounted return of the frame."""

    target: ReturnTarget = ReturnTarget.raw
    hidden_dim: int = integer(1, WIDTH, default=512)
    num_layers: int = integer(1, LAYERS, default=2)  # hidden ones
    gamma: float = probability(default=0.99)
    unfinished: int = integer(0, STEPS, default=200)  # last steps of a running episode, whose return is not known yet


@dataclass
class SimilarityTermConfig(TermConfig):
    """1 - SSIM, or 1 - MS-SSIM over several scales, each half as large as the one before."""

    scales: int = integer(1, 5, default=1)

    def check(self, key: str, size: int) -> None:
        """The window of 11 pixels must fit the smallest scale."""
        fitting = max((scales for scales in range(1, 6) if size > 10 * 2 ** (scales - 1)), default=0)
        remedy = f"at most {fitting} fit" if fitting else f"leave out {key}"
        require(
            self.scales <= fitting,
            f"{key}.scales={self.scales} needs frames of more than {10 * 2 ** (self.scales - 1)} pixels a side, "
            f"environment.train.size is {size}: {remedy}.",
        )


@dataclass
class FocalFrequencyTermConfig(TermConfig):
    """Squared error of the spectrum, weighted by the size of the error to the power of ``alpha``."""

    alpha: float = number(0, 10, default=1.0)


@dataclass
class AdversarialTermConfig(TermConfig):
    """A discriminator of patches, with an optimiser of its own; ``weight`` multiplies the adapted weight."""

    start_step: int = integer(0, 100_000_000, default=20_000)  # updates of the tokenizer without it
    channels: int = integer(1, WIDTH, default=64)
    num_layers: int = integer(1, 8, default=3)
    learning_rate: float = positive(1, default=1e-4)

    def check(self, key: str, size: int) -> None:
        """The convolutions must leave a patch: halvings, then two that take a pixel each."""
        require(
            size // 2**self.num_layers >= 3,
            f"{key}.num_layers={self.num_layers} needs frames of at least {3 * 2**self.num_layers} pixels a side, "
            f"environment.train.size is {size}: choose fewer.",
        )


@dataclass
class MotionTermConfig(TermConfig):
    """The pixel distance again, weighted by how much a pixel changed since the frame before."""


@dataclass
class TokenizerLossConfig:
    """Further terms of the tokenizer's loss, a section each (``tokenizers.terms``)."""

    value: ValueTermConfig | None = None
    ssim: SimilarityTermConfig | None = None
    ffl: FocalFrequencyTermConfig | None = None
    adversarial: AdversarialTermConfig | None = None
    motion: MotionTermConfig | None = None

    def check(self, size: int) -> None:
        """Check the terms that are evaluated against frames of ``size`` pixels."""
        for name, term in evaluated_terms(self).items():
            term.check(f"{_KEY}.loss.{name}", size)


def evaluated_terms(loss: TokenizerLossConfig | None) -> dict[str, TermConfig]:
    """Sections of the further terms with a weight above 0, by name."""
    given: dict[str, TermConfig | None] = {} if loss is None else {f.name: getattr(loss, f.name) for f in fields(loss)}
    return {name: term for name, term in given.items() if term is not None and term.weight > 0}


@dataclass
class PixelDistanceConfig:
    """Sizes of robust pixel distances, in units of pixels in [-1, 1]."""

    huber: float = positive(2, default=0.1)  # error from which the Huber loss is linear
    charbonnier: float = positive(2, default=0.001)  # error below which the Charbonnier loss is quadratic


@dataclass
class MovingCodebookConfig:
    """A codebook of moving averages (quantiser ``ema``)."""

    decay: float = probability(default=0.99)
    # Updates without use after which a code is replaced by a latent of the batch; 0: never
    reset_after: int = integer(0, 100 * UPDATES, default=0)


@dataclass
class SignCodesConfig:
    """Lookup-free quantisation (quantiser ``lfq``); the bits of a code follow from ``vocab_size``."""

    entropy_weight: float = number(0, WEIGHT, default=0.1)


@dataclass
class RandomFeaturesConfig:
    """The perceptual network with random weights, which follow from the seed."""

    channels: int = integer(1, 64, default=64)  # of the first layers; 64 is VGG16
    seed: int = integer(0, 1_000_000, default=0)


@dataclass
class ImageTokenizerConfig:
    """Discrete autoencoder: frames to a grid of codes. Of other modalities only vectors have settings."""

    network: TokenizerNetwork = MISSING
    vocab_size: int = integer(2, VOCABULARY)
    embed_dim: int = integer(1, WIDTH)
    z_channels: int = integer(1, WIDTH)  # between the network and the 1x1 convolutions around the codes
    beta: float = number(0, WEIGHT)  # weight of the encoder's commitment against the codebook's
    reconstruction: Reconstruction = MISSING
    perceptual: Perceptual = MISSING
    # Folder or file with the VGG16 and head weights, see tokenizers/lpips.py
    perceptual_weights: str | None = text("a file or folder: `validate` checks that it exists", default=None)
    perceptual_weight: float | None = later(Range(0, WEIGHT))  # of the perceptual distance; None: 1
    quantiser: Quantiser = Quantiser.nearest
    fsq_levels: list[int] = integers(2, VOCABULARY, longest=16, default=[])  # a dimension of finite scalar quantisation
    projections: bool = True  # 1x1 convolutions around the codes
    resnet: ResNetConfig | None = None
    conv: ConvConfig | None = None
    external: ExternalConfig | None = None
    vectors: VectorTokenizerConfig = field(default_factory=VectorTokenizerConfig)
    loss: TokenizerLossConfig | None = None
    pixels: PixelDistanceConfig | None = None
    ema: MovingCodebookConfig | None = None
    lfq: SignCodesConfig | None = None
    random_features: RandomFeaturesConfig | None = None

    def check(self, size: int) -> None:
        """Widths against group norms, halvings and terms against frames of ``size`` pixels, levels and bits against the
        vocabulary, and the weights of the perceptual term."""
        if self.loss is not None:
            self.loss.check(size)
        if self.quantiser is Quantiser.fsq:
            levels, codes = self.fsq_levels, math.prod(self.fsq_levels)
            require(
                min(levels, default=0) >= 2 and codes == self.vocab_size,
                f"{_KEY}.fsq_levels {levels} make {codes} codes; they must be at least 2 each and make "
                f"{_KEY}.vocab_size ({self.vocab_size}).",
            )
        if self.quantiser is Quantiser.lfq:
            require(
                self.vocab_size.bit_count() == 1,
                f"{_KEY}.quantiser=lfq needs a {_KEY}.vocab_size that is a power of two, not {self.vocab_size}.",
            )
        if self.quantiser in (Quantiser.fsq, Quantiser.lfq):
            name = self.quantiser.name
            require(not self.projections, f"{_KEY}.quantiser={name} needs {_KEY}.projections=false: it has its own.")
        require(
            self.projections or self.z_channels == self.embed_dim,
            f"{_KEY}.projections=false needs {_KEY}.z_channels ({self.z_channels}) equal to "
            f"{_KEY}.embed_dim ({self.embed_dim}).",
        )
        key = f"{_KEY}.{self.network.name}"
        network = cast(ResNetConfig | ConvConfig | ExternalConfig | None, getattr(self, self.network.name))
        if network is None:
            raise UserError(f"{_KEY}.network={self.network.name} needs a section {key} in the method's params.yaml.")
        network.check(self.z_channels)
        halvings = network.num_halvings
        require(
            size % 2**halvings == 0 and size >= 2 ** (halvings + 1),
            f"environment.train.size ({size}) cannot be halved {halvings} times to 2 pixels or more ({key}).",
        )
        require(
            self.perceptual_weight is None or self.perceptual is not Perceptual.none,
            f"{_KEY}.perceptual_weight needs a perceptual distance: leave it out, or choose one with "
            f"{_KEY}.perceptual.",
        )
        if self.perceptual is Perceptual.lpips:
            path = self.perceptual_weights
            require(
                path is not None,
                f"{_KEY}.perceptual=lpips needs {_KEY}.perceptual_weights=FILE (docs/paper_scale.md).",
            )
            require(
                Path(str(path)).exists(),
                f"{_KEY}.perceptual_weights: there is no file {path} (docs/paper_scale.md).",
            )


@dataclass
class StackConfig:
    """A convolutional stack of Delta-IRIS: per level a residual block, and a halving where ``halve`` is 1."""

    channels: int = integer(1, WIDTH)
    multipliers: list[int] = integers(1, 64, longest=10)  # of the channels, one a level
    halve: list[int] = integers(0, 1, longest=10)  # 0 or 1, one a level
    patch_size: int | None = later(Range(2, 64))  # pixels by pixels, the channels of the first map; None: 1

    def check(self, key: str, size: int) -> None:
        """Widths against group norms, halvings against frames of ``size`` pixels; ``key`` is this section's."""
        require(
            len(self.multipliers) == len(self.halve),
            f"{key}.multipliers {self.multipliers} and {key}.halve {self.halve} must be as long as each other, the "
            "latter of zeros and ones.",
        )
        widths = [self.channels, *(self.channels * multiplier for multiplier in self.multipliers)]
        require(
            all(width % 32 == 0 for width in widths),
            f"{key}.channels x multipliers gives widths {widths}; each must be a multiple of 32 (group normalisation).",
        )
        patch = self.patch_size or 1
        require(size % patch == 0, f"environment.train.size ({size}) must be a multiple of {key}.patch_size ({patch}).")
        require(
            size % reduction(self) == 0,
            f"environment.train.size ({size}){f' in patches of {patch}' if patch > 1 else ''} cannot be halved "
            f"{sum(self.halve)} times ({key}.halve).",
        )


def reduction(stack: StackConfig) -> int:
    """Factor by which a stack's map is narrower than the frame."""
    return (stack.patch_size or 1) * 2 ** sum(stack.halve)


@dataclass
class EncoderConfig(StackConfig):
    """A stack from frames to a map of ``latent_dim`` channels."""

    latent_dim: int = integer(1, WIDTH)


@dataclass
class DeltaTokenizerConfig:
    """Discrete autoencoder of what is new in a frame, given the frame before and the action (Delta-IRIS)."""

    num_tokens: int = integer(1, 4_096)  # K, a square number
    vocab_size: int = integer(2, VOCABULARY)
    embed_dim: int = integer(1, WIDTH)  # of the codes, which have unit length
    action_channels: int = integer(1, WIDTH)  # of the action's map in the decoder
    # Updates in which unused codes are revived; None: all of them
    revival_updates: int | None = integer(0, 100_000_000)
    l1_weight: float = number(0, WEIGHT)
    l2_weight: float = number(0, WEIGHT)
    worst_pixel_weight: float = number(0, WEIGHT)
    commitment_weight: float = number(0, WEIGHT)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)  # (frame, action, next frame) to what is quantised
    frame_encoder: EncoderConfig = field(default_factory=EncoderConfig)  # the frame before, for the decoder
    decoder: StackConfig = field(default_factory=StackConfig)

    def check(self, size: int) -> None:
        """One size for all maps, which delta tokens divide into equal patches."""
        stacks = {"encoder": self.encoder, "frame_encoder": self.frame_encoder, "decoder": self.decoder}
        total = reduction(self.encoder)
        for name, stack in stacks.items():
            stack.check(f"{_KEY}.{name}", size)
            require(
                reduction(stack) == total,
                f"{_KEY}.{name} divides the side of a frame by {reduction(stack)} (patch_size, halve), {_KEY}.encoder "
                f"by {total}: their maps must have one size.",
            )
        grid, side = size // total, math.isqrt(self.num_tokens)
        require(
            side**2 == self.num_tokens and 1 <= side <= grid and grid % side == 0,
            f"{_KEY}.num_tokens ({self.num_tokens}) must be a square that divides the map of {grid} x {grid} into "
            "equal patches.",
        )
