"""Finite scalar quantisation."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import small
from tokenworlds.config import Quantiser
from tokenworlds.tokenizers.fsq import FiniteScalars, ScalarCodes

levels_of_codes = st.lists(st.integers(2, 9), min_size=1, max_size=4)


@given(levels_of_codes)
def test_every_token_has_scalars_of_its_own(levels: list[int]) -> None:
    scalars = FiniteScalars(levels)
    tokens = torch.arange(math.prod(levels))
    codes = scalars.scalars(tokens)
    assert len(codes.unique(dim=0)) == len(tokens)
    assert codes.min() >= -1 and codes.max() <= 1
    assert [len(column.unique()) for column in codes.unbind(1)] == levels


@given(levels_of_codes, st.integers(0, 1000))
def test_rounding_gives_the_scalars_of_the_token(levels: list[int], seed: int) -> None:
    scalars = FiniteScalars(levels)
    z = 3 * torch.randn(50, len(levels), generator=small.generator(seed))
    tokens = scalars.tokens(z)
    assert tokens.min() >= 0 and tokens.max() < math.prod(levels)
    torch.testing.assert_close(scalars(z), scalars.scalars(tokens))


@given(levels_of_codes)
def test_no_number_leaves_the_levels(levels: list[int]) -> None:
    scalars = FiniteScalars(levels)
    for far in (-1e6, 1e6):
        expected = 0 if far < 0 else math.prod(levels) - 1
        assert scalars.tokens(torch.full((len(levels),), far)) == expected


def test_the_first_number_counts_least() -> None:
    scalars = FiniteScalars([3, 4])
    far = torch.tensor([[9.0, -9.0], [-9.0, 9.0]])
    assert scalars.tokens(far).tolist() == [2, 9]


def test_the_gradient_passes_straight_through() -> None:
    scalars, z = FiniteScalars([8, 5]), torch.randn(6, 2, generator=small.generator()).requires_grad_()
    straight = torch.autograd.grad(scalars(z).square().sum(), z)[0]
    codes = scalars.scalars(scalars.tokens(z)).requires_grad_()
    (upstream,) = torch.autograd.grad(codes.square().sum(), codes)
    expected = torch.autograd.grad((scalars.bound(z) / torch.tensor([4, 2])), z, upstream)[0]
    torch.testing.assert_close(straight, expected)


def test_code_vectors_are_those_of_the_tokens() -> None:
    quantiser, z = ScalarCodes([4, 4], 6), torch.randn(2, 6, 3, 3, generator=small.generator())
    quantised = quantiser.straight_through(z)
    torch.testing.assert_close(quantised.codes, quantiser(quantiser.tokens(z)).permute(0, 3, 1, 2))
    assert quantised.commitment == 0 and quantised.further is None


def test_a_tokenizer_of_scalars_learns_without_commitment() -> None:
    tokenizer = small.image_tokenizer(quantiser=Quantiser.fsq, fsq_levels=[4, 2], projections=False, z_channels=8)
    losses = tokenizer.loss(small.frames(2))
    losses.total.backward()
    assert losses.commitment == 0
    assert all(parameter.grad is not None for parameter in tokenizer.parameters())
    with torch.no_grad():
        tokens = tokenizer.encode(small.frames(2))
        z = tokenizer.latents(small.frames(2))
        torch.testing.assert_close(tokenizer.codes(tokens), tokenizer.quantise(z)[1])
    assert tokenizer.vectors(tokens).shape == (*tokens.shape, tokenizer.embed_dim)
