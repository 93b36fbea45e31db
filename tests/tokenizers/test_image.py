"""The image tokenizer: who gets which gradient, how frames are scaled, what a token is."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests import small
from tokenworlds.config import Reconstruction, TokenizerNetwork
from tokenworlds.tokenizers.codebook import nearest_codes
from tokenworlds.tokenizers.image import ImageTokenizer
from tokenworlds.tokenizers.lpips import LPIPS
from tokenworlds.tokenizers.pictures import to_float

OWN = [network for network in TokenizerNetwork if network is not TokenizerNetwork.external]


@pytest.fixture(params=OWN)
def tokenizer(request: pytest.FixtureRequest) -> ImageTokenizer:
    return small.image_tokenizer(network=request.param)


def gradients(tokenizer: ImageTokenizer, loss: Tensor) -> dict[str, bool]:
    """Which parts a loss moves."""
    tokenizer.zero_grad()
    loss.backward()
    parts = ("encoder", "pre_quant_conv", "embedding", "post_quant_conv", "decoder")
    return {
        part: any(p.grad is not None and bool(p.grad.any()) for p in getattr(tokenizer, part).parameters())
        for part in parts
    }


def test_reconstruction_moves_everything_but_the_codebook(tokenizer: ImageTokenizer) -> None:
    moved = gradients(tokenizer, tokenizer.loss(small.frames(2)).reconstruction)
    assert not moved.pop("embedding") and all(moved.values())


def test_commitment_moves_codebook_and_encoder_but_not_the_decoder(tokenizer: ImageTokenizer) -> None:
    moved = gradients(tokenizer, tokenizer.loss(small.frames(2)).commitment)
    assert moved["embedding"] and moved["encoder"] and moved["pre_quant_conv"]
    assert not moved["decoder"] and not moved["post_quant_conv"]


def test_the_decoder_gradient_passes_straight_through(tokenizer: ImageTokenizer) -> None:
    """The encoder gets the gradient that the codes get: the decoder's input is z + sg(code - z)."""
    frames = small.frames(1)
    x = to_float(frames) * 2 - 1
    z = tokenizer.latents(frames)
    codes = tokenizer.quantise(z)[1].detach().requires_grad_()
    (x - tokenizer.decode_codes(codes)).abs().mean().backward()
    straight = torch.autograd.grad(z, tokenizer.pre_quant_conv.weight, codes.grad)[0]
    tokenizer.zero_grad()
    tokenizer.loss(frames).reconstruction.backward()
    torch.testing.assert_close(tokenizer.pre_quant_conv.weight.grad, straight)


def test_losses_are_the_published_terms(tokenizer: ImageTokenizer) -> None:
    frames = small.frames(3)
    losses = tokenizer.loss(frames)
    z = tokenizer.latents(frames)
    codes = tokenizer.quantise(z)[1]
    torch.testing.assert_close(losses.commitment, 2 * (z - codes).square().mean())
    reconstruction = tokenizer.decode_codes(codes)
    torch.testing.assert_close(losses.reconstruction, (to_float(frames) * 2 - 1 - reconstruction).abs().mean())
    assert losses.perceptual == 0
    torch.testing.assert_close(losses.total, losses.commitment + losses.reconstruction)


def test_reconstruction_may_be_a_squared_error() -> None:
    tokenizer, frames = small.image_tokenizer(reconstruction=Reconstruction.mse), small.frames(2)
    error = to_float(frames) * 2 - 1 - tokenizer.decode_codes(tokenizer.quantise(tokenizer.latents(frames))[1])
    torch.testing.assert_close(tokenizer.loss(frames).reconstruction, error.square().mean())


@torch.no_grad()
def test_decoded_frames_are_clamped_pictures(tokenizer: ImageTokenizer) -> None:
    tokenizer.decoder.conv_out.weight.mul_(50)
    seen = tokenizer.decode(torch.arange(8).reshape(2, 4))
    assert seen.shape == (2, 3, small.RESOLUTION, small.RESOLUTION)
    assert seen.min() == 0 and seen.max() == 1
    raw = tokenizer.decode_codes(tokenizer.codes(torch.arange(8).reshape(2, 4)))
    torch.testing.assert_close(seen, ((raw + 1) / 2).clamp(0, 1))


@torch.no_grad()
def test_tokens_are_in_row_major_order(tokenizer: ImageTokenizer) -> None:
    tokens = torch.tensor([[0, 1, 2, 3]])
    grid = tokenizer.codes(tokens)
    for index, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        assert torch.equal(grid[0, :, row, column], tokenizer.embedding.weight[index])
    assert torch.equal(tokenizer.quantise(grid)[0], tokens)


def test_the_first_of_equal_codes_is_chosen() -> None:
    codebook = torch.tensor([[1.0, 1.0], [0.0, 2.0], [0.0, 2.0], [2.0, 0.0], [1.0, 1.0]])
    z = torch.tensor([[1.0, 1.0], [0.0, 3.0], [1.0, -1.0], [1.0, 2.0]])
    assert nearest_codes(z, codebook).tolist() == [0, 1, 3, 0]  # the last is as far from code 0 as from code 1


def test_the_nearest_code_is_that_of_the_smallest_distance() -> None:
    z, codebook = torch.randn(50, 6, generator=small.generator(1)), torch.randn(8, 6, generator=small.generator(2))
    assert torch.equal(nearest_codes(z, codebook), torch.cdist(z.double(), codebook.double()).argmin(dim=1))


@pytest.mark.parametrize("network", OWN)
@pytest.mark.parametrize(("levels", "tokens"), [(5, 1), (4, 4), (3, 16)])
def test_a_level_less_gives_four_times_the_tokens(levels: int, tokens: int, network: TokenizerNetwork) -> None:
    tokenizer = small.image_tokenizer(levels, network=network)
    assert tokenizer.num_tokens == tokens
    assert tokenizer.encode(small.frames(2)).shape == (2, tokens)


@pytest.mark.parametrize("acts", [True, False])
def test_the_perceptual_dropout_may_be_off_in_training(acts: bool) -> None:
    tokenizer = ImageTokenizer(small.image_tokenizer_config(), small.RESOLUTION, perceptual=LPIPS((1, 1, 1, 1, 1)))
    tokenizer.perceptual_dropout = acts
    parent = nn.ModuleDict({"image": tokenizer}).eval().train()
    assert tokenizer.training and tokenizer.lpips is not None
    assert tokenizer.lpips.training is acts
    assert not parent.eval()["image"].lpips.training  # type: ignore[union-attr]


@pytest.mark.parametrize("weight", [0.0, 0.25, 3.0])
def test_the_perceptual_distance_is_measured_without_its_weight(weight: float) -> None:
    config = small.image_tokenizer_config()
    tokenizer = ImageTokenizer(config, small.RESOLUTION, perceptual=LPIPS((1, 1, 1, 1, 1))).eval()
    base = tokenizer.loss(small.frames(2))
    chosen = replace(config, perceptual_weight=weight)
    other = ImageTokenizer(chosen, small.RESOLUTION, perceptual=tokenizer.lpips).eval()
    other.load_state_dict(tokenizer.state_dict())
    losses = other.loss(small.frames(2))
    assert losses.perceptual == base.perceptual != 0
    torch.testing.assert_close(losses.total, base.total + (weight - 1) * base.perceptual)


def test_the_codebook_gets_the_gradient_of_its_own_term(tokenizer: ImageTokenizer) -> None:
    """d/de of mean |sg(z) - e|^2: 2 (e - z) / numel, summed over the positions that chose the code; nothing else."""
    frames = small.frames(2)
    tokenizer.loss(frames).total.backward()
    z = tokenizer.latents(frames).detach()
    chosen, codes = tokenizer.quantise(z)
    flat = (2 * (codes - z) / z.numel()).permute(0, 2, 3, 1).reshape(-1, z.shape[1])
    expected = torch.zeros_like(tokenizer.embedding.weight).index_add_(0, chosen.flatten(), flat.detach())
    torch.testing.assert_close(tokenizer.embedding.weight.grad, expected)


def test_a_small_beta_weakens_the_pull_on_the_encoder_alone() -> None:
    strong, weak = small.image_tokenizer(), small.image_tokenizer(beta=0.25)
    frames = small.frames(2)
    for tokenizer in (strong, weak):
        tokenizer.loss(frames).commitment.backward()
    assert strong.embedding.weight.grad is not None and weak.embedding.weight.grad is not None
    torch.testing.assert_close(weak.embedding.weight.grad, strong.embedding.weight.grad)
    assert strong.pre_quant_conv.weight.grad is not None
    torch.testing.assert_close(weak.pre_quant_conv.weight.grad, strong.pre_quant_conv.weight.grad / 4)
