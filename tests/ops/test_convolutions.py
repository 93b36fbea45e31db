"""Convolutional stacks: sizes, numbering of the layers, and the fast paths against the plain ones."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests import small
from tokenworlds.config import EncoderConfig, StackConfig
from tokenworlds.ops import convolutions
from tokenworlds.ops.convolutions import FastUpsample, FrameDecoder, FrameEncoder, ResidualBlock, Upsample, flatten_map

LEVELS = ([1, 1, 2], [1, 0, 1])  # multipliers, halvings


def encoder(channels: int = 3) -> FrameEncoder:
    return small.spread(FrameEncoder(EncoderConfig(32, *LEVELS, 5), small.RESOLUTION, channels), std=0.1)


def decoder() -> FrameDecoder:
    return small.spread(FrameDecoder(StackConfig(32, *LEVELS), 5, 3), std=0.1)


def pictures(count: int, channels: int = 3, side: int = small.RESOLUTION) -> Tensor:
    return torch.randn(count, channels, side, side, generator=small.generator(1))


@pytest.mark.parametrize("channels", [1, 3, 7])
def test_a_decoder_is_as_large_as_the_encoder_sees(channels: int) -> None:
    stack = encoder(channels)
    z = stack(pictures(2, channels))
    assert stack.grid == small.RESOLUTION // 4
    assert z.shape == (2, stack.latent_dim, stack.grid, stack.grid)
    assert FrameDecoder(StackConfig(32, *LEVELS), 5, channels)(z).shape == (2, channels, 16, 16)


def test_patches_make_smaller_maps_of_the_same_frames() -> None:
    """Each pixel of a patch is heard, and drawn."""
    down = small.spread(FrameEncoder(EncoderConfig(32, *LEVELS, 5, patch_size=2), small.RESOLUTION, 3), std=0.1)
    up = small.spread(FrameDecoder(StackConfig(32, *LEVELS, patch_size=2), 5, 3), std=0.1)
    frame = pictures(1)
    z = down(frame)
    assert down.grid == small.RESOLUTION // 8 and z.shape == (1, 5, down.grid, down.grid)
    drawn = up(z)
    assert drawn.shape == frame.shape
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        changed = frame.clone()
        changed[:, :, row, column] += 1
        assert not torch.equal(down(changed), z)
    patch = drawn[0, :, :2, :2].flatten(1)
    assert len(patch.unique(dim=1).T) == 4


def test_the_published_stacks_are_numbered_as_published() -> None:
    """Specified as tables of layers; what an index holds decides where a published tensor goes."""
    levels = ([1, 1, 2, 2, 4], [1, 0, 1, 1, 0])
    down, up = FrameEncoder(EncoderConfig(64, *levels, 8), 64, 3), FrameDecoder(StackConfig(64, *levels), 76, 3)
    assert down.grid == 8

    def kinds(stack: FrameEncoder | FrameDecoder) -> list[str]:
        return [type(layer).__name__ for layer in stack.layers]

    ends = ["GroupNorm", "SiLU", "Conv2d"]
    block = "ResidualBlock"
    inner = [block, "Downsample", block, block, "Downsample", block, "Downsample", block]
    assert kinds(down) == ["Conv2d", *inner, *ends]
    assert kinds(up) == [
        "Conv2d",
        *(["FastUpsample" if name == "Downsample" else name for name in reversed(inner)]),
        *ends,
    ]
    widths = [64, 64, 64, 128, 128, 256]
    blocks = [layer for layer in down.layers if isinstance(layer, ResidualBlock)]
    assert [layer.conv1.in_channels for layer in blocks] == widths[:-1]
    assert [layer.conv1.out_channels for layer in blocks] == widths[1:]
    mirrored = [layer for layer in up.layers if isinstance(layer, ResidualBlock)]
    assert [layer.conv1.in_channels for layer in mirrored] == widths[:0:-1]
    assert [layer.conv1.out_channels for layer in mirrored] == widths[-2::-1]
    assert {layer.eps for layer in up.modules() if isinstance(layer, nn.GroupNorm)} == {1e-5}


def test_a_residual_block_is_its_equation() -> None:
    block, x = small.spread(ResidualBlock(32, 64)).eval(), pictures(2, 32, 8)
    h = F.conv2d(F.silu(F.group_norm(x, 32, block.norm1.weight, block.norm1.bias, 1e-5)), block.conv1.weight, padding=1)
    h = h + block.conv1.bias.view(-1, 1, 1)
    h = F.conv2d(F.silu(F.group_norm(h, 32, block.norm2.weight, block.norm2.bias, 1e-5)), block.conv2.weight, padding=1)
    shortcut = torch.einsum("nchw,oc->nohw", x, block.nin_shortcut.weight[..., 0, 0])
    biases = (block.conv2.bias + block.nin_shortcut.bias).view(-1, 1, 1)
    torch.testing.assert_close(block(x), shortcut + h + biases, rtol=1e-4, atol=1e-4)


def test_a_map_is_flattened_by_row_column_channel() -> None:
    x = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    assert torch.equal(flatten_map(x), x.permute(0, 2, 3, 1).reshape(2, 60))


def outputs_and_gradients(module: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = module(x)
    weights = torch.randn(out.shape, generator=small.generator(2)).to(out.dtype)
    return [out, *torch.autograd.grad((out * weights).sum(), [x, *module.parameters()])]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (3, 5)])
def test_doubling_after_the_convolution_is_doubling_before_it(
    size: tuple[int, int], layout: torch.memory_format
) -> None:
    fast = small.spread(FastUpsample(6)).double()
    plain = Upsample(6).double()
    plain.load_state_dict(fast.state_dict())
    x = torch.randn(2, 6, *size, dtype=torch.float64, generator=small.generator(3)).contiguous(memory_format=layout)
    for ours, expected in zip(outputs_and_gradients(fast, x), outputs_and_gradients(plain, x), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("build", [encoder, decoder])
@pytest.mark.parametrize("count", [1, 4, 7])
def test_chunks_change_nothing(
    build: type[FrameEncoder | FrameDecoder], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of three frames; the plain path is the container of the layers."""
    monkeypatch.setattr(convolutions, "CHUNK", 3 * 32 * small.RESOLUTION**2)
    stack = build().double()
    x = (pictures(count) if build is encoder else pictures(count, 5, 4)).double()
    seen: list[int] = []
    handle = stack.layers.register_forward_hook(lambda _module, inputs, _out: seen.append(len(inputs[0])))
    chunked = outputs_and_gradients(stack, x)
    assert seen == {1: [1], 4: [3, 1], 7: [3, 3, 1]}[count]
    handle.remove()
    stack.forward = stack.layers.forward
    for ours, expected in zip(chunked, outputs_and_gradients(stack, x), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-11)


@torch.no_grad()
def test_stacks_are_exact_to_single_precision_also_far_from_zero() -> None:
    """Of large equal pictures, whose group normalisation is delicate, with and without chunks."""
    stack = encoder()
    x = pictures(3) + 30
    exact = encoder().double()(x.double())
    torch.testing.assert_close(stack(x), exact.float(), rtol=1e-3, atol=1e-3)
