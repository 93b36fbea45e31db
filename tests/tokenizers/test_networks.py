"""The plain network: its published sizes, and the details that shapes do not show."""

from typing import Any

import pytest
import torch
from torch import nn

from tests import small
from tokenworlds.config import (
    ConvConfig,
    DecoderNorm,
    ImageTokenizerConfig,
    Perceptual,
    Reconstruction,
    TokenizerNetwork,
)
from tokenworlds.tokenizers.conv import Block, Decoder, Encoder
from tokenworlds.tokenizers.image import ImageTokenizer


def published(num_halvings: int, decoder_groups: int = 8, ch: int = 32, **changes: Any) -> ImageTokenizer:
    """REM's, or with changes to the network M3's."""
    config = ImageTokenizerConfig(
        network=TokenizerNetwork.conv,
        vocab_size=512,
        embed_dim=256,
        z_channels=256,
        beta=1.0,
        reconstruction=Reconstruction.mse,
        perceptual=Perceptual.none,
        projections=not changes,
        conv=ConvConfig(ch=ch, num_halvings=num_halvings, num_groups=8, decoder_groups=decoder_groups, **changes),
    )
    with torch.device("meta"):
        return ImageTokenizer(config, resolution=64)


@pytest.mark.parametrize(("num_halvings", "grid", "count"), [(3, 8, 3_189_667), (4, 4, 7_339_043)])
def test_published_sizes(num_halvings: int, grid: int, count: int) -> None:
    tokenizer = published(num_halvings)
    assert sum(p.numel() for p in tokenizer.parameters()) == count
    assert tokenizer.grid == grid and tokenizer.num_tokens == grid**2
    assert tokenizer.encode(torch.zeros(2, 3, 64, 64, device="meta")).shape == (2, grid**2)
    assert tokenizer.decode(torch.zeros(2, grid**2, dtype=torch.long, device="meta")).shape == (2, 3, 64, 64)


@pytest.mark.parametrize(("norm", "kind"), [(DecoderNorm.batch, nn.BatchNorm2d), (DecoderNorm.group, nn.GroupNorm)])
def test_published_size_of_m3(norm: DecoderNorm, kind: type[nn.Module]) -> None:
    tokenizer = published(3, ch=64, convolutions=1, mirrored=True, decoder_norm=norm)
    assert sum(p.numel() for p in tokenizer.parameters()) == 5_596_931
    assert isinstance(tokenizer.decoder.norm_in, kind)
    assert [block.conv1.out_channels for block in tokenizer.encoder.down] == [128, 256, 512]
    assert [block.conv1.out_channels for block in tokenizer.decoder.up] == [256, 128, 64]
    assert tokenizer.decode(torch.zeros(2, 64, dtype=torch.long, device="meta")).shape == (2, 3, 64, 64)


def test_statistics_of_batches_are_learned_in_training_and_used_in_evaluation() -> None:
    config = ConvConfig(4, 2, 2, decoder_groups=2, decoder_norm=DecoderNorm.batch)
    decoder, z = Decoder(config, 16, 3, 6), torch.randn(5, 6, 4, 4, generator=small.generator())
    trained = decoder(z)
    torch.testing.assert_close(decoder.norm_in.running_mean, 0.1 * z.mean(dim=(0, 2, 3)))
    decoder.eval()
    torch.testing.assert_close(decoder(z)[:2], decoder(z[:2]))
    assert not torch.allclose(decoder(z), trained)


@pytest.mark.parametrize("decoder_groups", [8, 32])
def test_groups_of_the_decoders_blocks_are_a_setting_of_their_own(decoder_groups: int) -> None:
    tokenizer = published(3, decoder_groups)

    def groups(module: nn.Module) -> list[int]:
        return [child.num_groups for child in module.modules() if isinstance(child, nn.GroupNorm)]

    assert groups(tokenizer.encoder) == [8] * 4
    assert groups(tokenizer.decoder) == [decoder_groups] * 3 + [8]


def test_widths_double_on_the_way_down_and_halve_to_the_first_on_the_way_up() -> None:
    config = ConvConfig(ch=4, num_halvings=3, num_groups=2, decoder_groups=2)
    encoder, decoder = Encoder(config, 16, 3, 12), Decoder(config, 16, 3, 12)
    assert [block.conv1.out_channels for block in encoder.down] == [8, 16, 32]
    assert [block.conv1.out_channels for block in decoder.up] == [6, 4, 4]
    x = torch.randn(2, 3, 16, 16)
    assert encoder(x).shape == (2, 12, 2, 2) and decoder(encoder(x)).shape == x.shape


def identity(convolution: nn.Conv2d, row: int, column: int) -> None:
    """The convolution that takes one pixel of its window."""
    assert convolution.bias is not None
    convolution.weight.data.zero_()
    convolution.weight.data[0, 0, row, column] = 1
    convolution.bias.data.zero_()


@torch.no_grad()
def test_halving_pads_right_and_bottom() -> None:
    """The window of output pixel (i, j) begins at input pixel (2i, 2j), and only the last one reaches over the edge."""
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    block = Block(1, 1, 1, up=False)
    block.norm = nn.Identity()  # type: ignore[assignment]
    identity(block.conv2, 1, 1)
    activated = nn.functional.silu(x)
    identity(block.conv1, 0, 0)
    assert torch.equal(block(x), activated[..., ::2, ::2])
    identity(block.conv1, 2, 2)
    assert torch.equal(block(x)[..., 0, 0], activated[..., 2, 2])
    assert not block(x)[..., -1, :].any() and not block(x)[..., :, -1].any()


@torch.no_grad()
def test_doubling_repeats_the_nearest_pixel() -> None:
    x = torch.randn(1, 1, 3, 3)
    block = Block(1, 1, 1, up=True)
    block.norm = nn.Identity()  # type: ignore[assignment]
    identity(block.conv1, 1, 1)
    identity(block.conv2, 1, 1)
    assert torch.equal(block(x), nn.functional.silu(x).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
