"""Lookup-free quantisation."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from vector_quantize_pytorch import LFQ

from tests import small
from tests.methods.support import configure
from tokenworlds.config import Quantiser
from tokenworlds.errors import UserError
from tokenworlds.tokenizers.fsq import FiniteScalars
from tokenworlds.tokenizers.lfq import SignCodes, Signs


@given(st.integers(1, 9))
def test_every_token_has_signs_of_its_own_and_comes_back(bits: int) -> None:
    signs = Signs(bits)
    tokens = torch.arange(2**bits)
    codes = signs.codes(tokens)
    assert codes.shape == (2**bits, bits) and set(codes.unique().tolist()) == {-1, 1}
    assert torch.equal(signs.tokens(codes), tokens) and len(codes.unique(dim=0)) == 2**bits


def test_512_codes_of_9_bits_or_of_three_numbers_of_8_levels() -> None:
    assert len(Signs(9).table) == 512
    scalars = FiniteScalars([8, 8, 8])
    tokens = torch.arange(512)
    codes = scalars.scalars(tokens)
    assert len(codes.unique(dim=0)) == 512
    back = ((codes * scalars.below).round().long() + scalars.below) * scalars.steps
    assert torch.equal(back.sum(dim=-1), tokens)


def test_it_is_the_public_implementation() -> None:
    torch.manual_seed(0)
    ours = SignCodes(vocab_size=16, width=6, beta=0.25, entropy_weight=0.1)
    ours.project_in.bias.data.zero_()
    theirs = LFQ(dim=6, codebook_size=16, entropy_loss_weight=0.1, commitment_loss_weight=0.25).train()
    for name in ("project_in", "project_out"):
        getattr(theirs, name).load_state_dict(getattr(ours, name).state_dict())
    z = torch.randn(3, 6, 2, 2, generator=small.generator()) / 30  # entropies that are neither 0 nor the largest
    quantised = ours.straight_through(z)
    codes, tokens, loss = theirs(z)
    torch.testing.assert_close(quantised.codes, codes)
    assert torch.equal(ours.tokens(z), tokens)
    torch.testing.assert_close(quantised.further + quantised.commitment, loss, rtol=1e-3, atol=1e-5)
    assert 0.1 < quantised.measured["loss_entropy"].abs() < 2.7
    torch.testing.assert_close(quantised.further, 0.1 * quantised.measured["loss_entropy"])


def test_the_gradient_passes_straight_through() -> None:
    quantiser = SignCodes(vocab_size=8, width=3, beta=0.25, entropy_weight=0.0)
    numbers = torch.randn(1, 3, 2, 2, generator=small.generator()).requires_grad_()
    (gradient,) = torch.autograd.grad(quantiser.straight_through(numbers).codes.sum(), numbers)
    summed = quantiser.project_in.weight.T @ quantiser.project_out.weight.sum(dim=0)
    torch.testing.assert_close(gradient, summed.view(1, 3, 1, 1).expand_as(gradient))


def test_a_tokenizer_of_signs_learns() -> None:
    tokenizer = small.image_tokenizer(quantiser=Quantiser.lfq, projections=False, z_channels=8)
    losses = tokenizer.loss(small.frames(2))
    torch.testing.assert_close(losses.total, losses.reconstruction + losses.commitment + losses.further)
    losses.total.backward()
    assert all(parameter.grad is not None for parameter in tokenizer.parameters())
    with torch.no_grad():
        tokens = tokenizer.encode(small.frames(2))
        torch.testing.assert_close(
            tokenizer.codes(tokens), tokenizer.embedding.straight_through(tokenizer.latents(small.frames(2))).codes
        )


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("vocab_size=60", "projections=false"), "vocab_size that is a power of two, not 60"),
        (("vocab_size=64",), "quantiser=lfq needs model.tokenizer.projections=false"),
    ],
)
def test_what_cannot_be_is_refused(overrides: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        configure("iris", "model.tokenizer.quantiser=lfq", *(f"model.tokenizer.{one}" for one in overrides))
