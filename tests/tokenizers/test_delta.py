"""The tokenizer of what is new in a frame: layouts, losses and masks."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests import small
from tests.synchronisation import without_synchronisation
from tokenworlds.config import DeltaTokenizerConfig, EncoderConfig, StackConfig
from tokenworlds.tokenizers.delta import DeltaTokenizer
from tokenworlds.tokenizers.pictures import to_float

GRID = small.RESOLUTION // 2


def tokenizer(**changes: Any) -> DeltaTokenizer:
    """Maps of 8x8 and four tokens."""
    settings = {
        "vocab_size": 16,
        "action_channels": 2,
        "revival_updates": 0,
        "encoder": EncoderConfig(32, [1, 1], [1, 0], 3),
        "frame_encoder": EncoderConfig(32, [1], [1], 5),
        "decoder": StackConfig(32, [1, 1], [1, 0]),
    }
    return small.delta_tokenizer(**settings | changes)


def transitions(count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    actions = torch.randint(small.ACTIONS, (count,), generator=small.generator(seed))
    return small.frames(count, seed=seed), actions, small.frames(count, seed=seed + 1)


def batch(rows: int = 2, steps: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    actions = torch.randint(small.ACTIONS, (rows, steps), generator=small.generator(seed))
    return small.frames(rows, steps, seed=seed), actions


@pytest.mark.parametrize(("num_tokens", "side"), [(1, 1), (4, 2), (16, 4), (64, 8)])
@torch.no_grad()
def test_any_square_number_of_tokens_that_the_grid_allows(num_tokens: int, side: int) -> None:
    module = tokenizer(num_tokens=num_tokens)
    frames, actions, following = transitions(3)
    z = module.latents(frames, actions, following)
    assert z.shape == (3, num_tokens, 3 * (GRID // side) ** 2)
    tokens = module.encode(frames, actions, following)
    assert tokens.shape == (3, num_tokens) == (3, module.num_tokens)
    assert module.decode(frames, actions, tokens).shape == frames.shape
    torch.testing.assert_close(module.split(module.join(z)), z)


def test_a_token_is_a_patch_in_row_column_channel_order() -> None:
    module = tokenizer()
    z = torch.arange(3.0 * GRID * GRID).reshape(1, 3, GRID, GRID)
    patches = module.split(z)
    half = GRID // 2
    for token, (row, column) in enumerate([(0, 0), (0, half), (half, 0), (half, half)]):
        expected = z[0, :, row : row + half, column : column + half].permute(1, 2, 0).flatten()
        assert torch.equal(patches[0, token], expected)
    assert torch.equal(module.join(patches), z)


@torch.no_grad()
def test_everything_of_a_transition_matters_to_the_code() -> None:
    module = tokenizer()
    frames, actions, following = transitions(2)
    z = module.latents(frames, actions, following)
    for other in (
        module.latents(following, actions, following),
        module.latents(frames, (actions + 1) % small.ACTIONS, following),
        module.latents(frames, actions, frames),
    ):
        assert (z - other).abs().max() > 1e-3


@torch.no_grad()
def test_the_decoder_sees_frame_action_and_codes() -> None:
    module = tokenizer()
    frames, actions, following = transitions(2)
    codes = module.quantiser.embed(module.encode(frames, actions, following))
    out = module.reconstruct(frames, actions, codes)
    for other in (
        module.reconstruct(following, actions, codes),
        module.reconstruct(frames, (actions + 1) % small.ACTIONS, codes),
        module.reconstruct(frames, actions, codes + 1),
    ):
        assert (out - other).abs().max() > 1e-4


@torch.no_grad()
def test_decoded_frames_are_pictures_of_eight_bits() -> None:
    module = tokenizer()
    frames, actions, following = transitions(3)
    tokens = module.encode(frames, actions, following)
    module.decoder.layers[-1].weight.mul_(20)
    decoded = module.decode(frames, actions, tokens)
    raw = module.reconstruct(frames, actions, module.quantiser.embed(tokens))
    assert raw.min() < 0 and raw.max() > 1 and decoded.min() == 0 and decoded.max() == 1
    assert torch.equal(to_float(decoded.mul(255).round().byte()), decoded)
    assert (decoded - raw.clamp(0, 1)).abs().max() < 0.51 / 255


@torch.no_grad()
def test_losses_are_the_published_terms() -> None:
    module = tokenizer()
    frames, actions = batch()
    losses = module.loss(frames, actions, torch.ones(2, 4, dtype=torch.bool))
    x = to_float(frames)
    before, taken, following = x[:, :-1].flatten(0, 1), actions[:, :-1].flatten(), x[:, 1:].flatten(0, 1)
    quantised = module.quantiser(module.latents(before, taken, following))
    error = following - module.reconstruct(before, taken, quantised.codes)
    torch.testing.assert_close(losses.l1, 0.1 * error.abs().mean())
    torch.testing.assert_close(losses.l2, error.square().mean())
    torch.testing.assert_close(losses.worst_pixel, 0.01 * error.square().flatten(1).max(dim=1).values.mean())
    torch.testing.assert_close(losses.commitment, 0.02 * quantised.commitment)
    torch.testing.assert_close(losses.total, losses.l1 + losses.l2 + losses.worst_pixel + losses.commitment)


@torch.no_grad()
def test_transitions_from_or_into_padding_count_in_the_commitment_alone() -> None:
    module = tokenizer()
    frames, actions = batch(rows=1, steps=6)
    mask = torch.tensor([[False, True, True, True, True, False]])
    losses = module.loss(frames, actions, mask)
    inside = module.loss(frames[:, 1:5], actions[:, 1:5], mask[:, 1:5])
    for name in ("l1", "l2", "worst_pixel"):
        torch.testing.assert_close(losses.named()[name], inside.named()[name])
    whole = module.loss(frames, actions, torch.ones_like(mask))
    assert losses.commitment == whole.commitment != inside.commitment
    assert losses.l2 != whole.l2


def test_without_a_real_transition_the_reconstruction_is_zero_and_harmless() -> None:
    module = tokenizer()
    frames, actions = batch()
    mask = torch.tensor([[True, False, True, False], [False, False, False, True]])
    losses = module.loss(frames, actions, mask)
    assert losses.l1 == losses.l2 == losses.worst_pixel == 0 and losses.commitment > 0
    losses.total.backward()
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)


def test_training_moves_the_codebook_and_says_what_it_found() -> None:
    module = tokenizer().train()
    before = module.quantiser.codebook.clone()
    losses = module.loss(*batch(), torch.ones(2, 4, dtype=torch.bool))
    assert not torch.equal(module.quantiser.codebook, before) and module.quantiser.updates == 1
    assert set(losses.measured) == {"codebook_entropy", "codes_revived"}
    assert losses.measured["codebook_entropy"] > 0
    losses.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_an_update_does_not_wait_for_the_device() -> None:
    module = tokenizer().train()
    mask = torch.ones(2, 4, dtype=torch.bool)
    with without_synchronisation():
        module.loss(*batch(), mask).total.backward()


def test_initial_weights() -> None:
    """N(0, 0.02^2) for linear layers and embeddings, torch's defaults for convolutions."""
    config = EncoderConfig(32, [1], [1], 3)
    module = DeltaTokenizer(
        DeltaTokenizerConfig(4, 512, 64, 4, 0, 0.1, 1.0, 0.01, 0.02, config, config, StackConfig(32, [1], [1])),
        16,
        3,
        9,
    )
    for weight in (
        module.encoder_action.weight,
        module.decoder_action.weight,
        module.quantiser.project_in.weight,
        module.quantiser.project_out.weight,
    ):
        assert 0.018 < weight.std() < 0.022
    assert not module.quantiser.project_in.bias.any()
    assert module.quantiser.codebook.abs().max() <= 1 / 512 and module.quantiser.codebook.std() > 0.5 / 512
    assert module.decoder.layers[0].weight.abs().max() > 0.04
