"""All quantisers of image tokenizers, by what they have in common."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import small
from tokenworlds.config import MovingCodebookConfig, Quantiser
from tokenworlds.tokenizers import codebook

SETTINGS: dict[Quantiser, dict[str, Any]] = {
    Quantiser.nearest: {},
    Quantiser.fsq: {"fsq_levels": [4, 2], "projections": False},
    Quantiser.ema: {"ema": MovingCodebookConfig(reset_after=1)},
    Quantiser.lfq: {"projections": False},
}
every_quantiser = pytest.mark.parametrize("kind", Quantiser)


def build(kind: Quantiser, width: int) -> Any:
    """With 8 codes."""
    return codebook.build(small.image_tokenizer_config(quantiser=kind, embed_dim=width, **SETTINGS[kind]))


@every_quantiser
@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.integers(0, 1000))
def test_codes_are_laid_out_as_latents_and_are_those_of_the_tokens(
    kind: Quantiser, count: int, width: int, rows: int, columns: int, seed: int
) -> None:
    quantiser = build(kind, width).eval()
    z = torch.randn(count, width, rows, columns, generator=small.generator(seed))
    quantised, tokens = quantiser.straight_through(z), quantiser.tokens(z)
    assert quantised.codes.shape == z.shape and tokens.shape == (count, rows, columns)
    assert tokens.min() >= 0 and tokens.max() < 8
    torch.testing.assert_close(quantised.codes, quantiser(tokens).movedim(-1, 1), rtol=1e-4, atol=1e-5)
    alone = quantiser.tokens(z[:1])  # whatever the rest of the batch
    assert torch.equal(alone, tokens[:1])


@every_quantiser
def test_losses_are_numbers_with_a_gradient_for_the_latents(kind: Quantiser) -> None:
    z = torch.randn(3, 6, 2, 2, generator=small.generator()).requires_grad_()
    quantised = build(kind, 6).train().straight_through(z)
    total = quantised.codes.square().sum() + quantised.commitment + (quantised.further or 0)
    total.backward()
    assert z.grad is not None and z.grad.isfinite().all() and z.grad.any()
    assert quantised.commitment.ndim == 0 and all(value.ndim == 0 for value in quantised.measured.values())
