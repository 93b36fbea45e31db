"""Observations of several modalities: one tokenizer each, tokens side by side."""

from typing import cast

import pytest
import torch

from tests import small
from tokenworlds.config import ImageTokenizerConfig
from tokenworlds.envs import DiscreteActions, EnvironmentSpec, GridSpec, ModalitySpec, TokenSpec, VectorSpec
from tokenworlds.tokenizers.image import ImageTokenizer
from tokenworlds.tokenizers.observation import ObservationTokenizer, build


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
    parts = [cast(ImageTokenizer, tokenizer.part(name)).loss(frames).named() for name, frames in observations.items()]
    for key, value in total.items():
        torch.testing.assert_close(value, parts[0][key] + parts[1][key])


MODALITIES: dict[str, ModalitySpec] = {  # in an order of their own
    "token_2d": GridSpec(2, 2, (5, 3)),
    "image": small.IMAGE,
    "token": TokenSpec(2, 7),
    "vector": VectorSpec(3),
}


def built(*names: str) -> ObservationTokenizer:
    config = small.image_tokenizer_config() if "image" in names else ImageTokenizerConfig()
    spec = EnvironmentSpec({name: MODALITIES[name] for name in names}, DiscreteActions(3))
    return build(config, spec, action_tokens=2).eval()


def test_modalities_stand_in_the_order_of_their_kinds() -> None:
    layout = built(*MODALITIES).layout
    assert layout.slices == {
        "image": slice(0, 4), "vector": slice(4, 7), "token": slice(7, 9), "token_2d": slice(9, 13),
    }  # fmt: skip
    assert layout.symbols["token_2d"] == slice(9, 17) and layout.num_symbols == 17
    assert layout.block_size == 13 + 2


@torch.no_grad()
def test_symbols_of_all_modalities_are_one_tensor() -> None:
    tokenizer = built(*MODALITIES)
    symbols = small.tokens(tokenizer.layout, 5)
    seen = tokenizer.decode(symbols)
    assert {name: values.shape[1:] for name, values in seen.items()} == {
        name: spec.shape for name, spec in MODALITIES.items()
    }
    again = tokenizer.encode(seen)
    assert again.dtype == torch.int64 and torch.equal(again[:, 4:], symbols[:, 4:])  # pictures may differ


def test_only_pictures_learn_and_have_code_vectors() -> None:
    mixed, fixed = built(*MODALITIES), built("vector", "token", "token_2d")
    assert mixed.learns and list(mixed.coded) == ["image"] and mixed.image is mixed.part("image")
    assert not fixed.learns and not list(fixed.parameters()) and not fixed.state_dict()
    frames = {"image": small.frames(2)}
    assert mixed.loss(frames).total == mixed.image.loss(frames["image"]).total
