"""Observations of several modalities: one tokenizer each, tokens side by side."""

from __future__ import annotations

import pytest
import torch

from tests import small
from tokenworlds.tokenizers import ObservationTokenizer


@pytest.fixture(scope="module")
def tokenizer() -> ObservationTokenizer:
    """Two pictures with 4 tokens of 8, and 1 token of 5."""
    parts = {"image": small.image_tokenizer(), "map": small.image_tokenizer(levels=5, vocab_size=5, seed=1)}
    return ObservationTokenizer(parts).eval()


@torch.no_grad()
def test_tokens_of_modalities_stand_side_by_side(tokenizer: ObservationTokenizer) -> None:
    observations = {
        "map": small.frames(3, seed=1),
        "image": small.frames(3),
    }  # the order of the layout counts, not this one
    tokens = tokenizer.encode(observations)
    assert tokens.shape == (3, 5) and tokenizer.layout.num_tokens == 5
    assert torch.equal(tokens[:, :4], tokenizer.part("image").encode(observations["image"]))
    assert torch.equal(tokens[:, 4:], tokenizer.part("map").encode(observations["map"]))


@torch.no_grad()
def test_every_modality_is_decoded_from_its_own_tokens(tokenizer: ObservationTokenizer) -> None:
    tokens = small.tokens(tokenizer.layout, 2)
    seen = tokenizer.decode(tokens)
    assert list(seen) == ["image", "map"]
    assert torch.equal(seen["image"], tokenizer.part("image").decode(tokens[:, :4]))
    assert torch.equal(seen["map"], tokenizer.part("map").decode(tokens[:, 4:]))
    tokens[:, 4] = (tokens[:, 4] + 1) % 5
    assert torch.equal(tokenizer.decode(tokens)["image"], seen["image"])


def test_losses_are_sums_over_the_modalities(tokenizer: ObservationTokenizer) -> None:
    observations = {"image": small.frames(2), "map": small.frames(2, seed=1)}
    total = tokenizer.loss(observations).named()
    parts = [tokenizer.part(name).loss(frames).named() for name, frames in observations.items()]
    for key, value in total.items():
        torch.testing.assert_close(value, parts[0][key] + parts[1][key])
