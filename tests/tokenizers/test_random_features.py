"""The perceptual distance on features of random weights."""

import pytest
import torch

from tests import small
from tokenworlds.config import Perceptual, RandomFeaturesConfig
from tokenworlds.tokenizers import lpips, observation


def test_random_features_follow_from_their_seed_alone() -> None:
    """So that a resumed run and a loaded agent have the same ones, which no file holds."""
    one, again, other = (lpips.random(channels=4, seed=seed) for seed in (0, 0, 1))
    x, y = (torch.rand(2, 3, 32, 32, generator=small.generator(seed)) * 2 - 1 for seed in (0, 1))
    assert torch.equal(one(x, y), again(x, y)) and not torch.equal(one(x, y), other(x, y))
    assert (one(x, x) == 0).all() and (one(x, y) > 0).all()
    assert not any(parameter.requires_grad for parameter in one.parameters())


def test_random_features_of_full_width_have_the_shape_of_vgg16() -> None:
    random, published = lpips.random().state_dict(), lpips.LPIPS().state_dict()
    assert {name: value.shape for name, value in random.items()} == {
        name: value.shape for name, value in published.items()
    }
    assert random["slices.4.0.weight"].std().item() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)


def test_a_tokenizer_takes_random_features_without_a_file() -> None:
    random = {"perceptual": Perceptual.random, "random_features": RandomFeaturesConfig(channels=2)}
    tokenizer = observation.build(small.image_tokenizer_config(**random), small.picture_spec()).image.eval()
    losses = tokenizer.loss(small.frames(2))
    assert losses.perceptual > 0 and torch.autograd.grad(losses.perceptual, tokenizer.decoder.conv_out.weight)[0].any()
