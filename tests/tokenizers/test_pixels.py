"""Distances of pixels."""

import pytest
import torch
from torch.distributions import Laplace

from tests import small
from tokenworlds.config import PixelDistanceConfig, Reconstruction
from tokenworlds.tokenizers.pixels import distance

X = torch.linspace(-0.9, 0.9, 19)
Y = X.flip(0) * 0.7


@pytest.mark.parametrize("kind", Reconstruction)
def test_equal_pictures_have_no_distance_and_the_mean_is_that_of_the_values(kind: Reconstruction) -> None:
    measure = distance(small.image_tokenizer_config(reconstruction=kind))
    assert measure(X, X.clone()).abs() < 1e-6 and measure(X, Y) > 0
    values = measure(X, Y, reduction="none")
    assert values.shape == X.shape
    torch.testing.assert_close(values.mean(), measure(X, Y))


def test_robust_distances_are_squares_below_their_size_and_linear_above() -> None:
    config = {"pixels": PixelDistanceConfig(huber=0.5, charbonnier=0.5)}
    huber, charbonnier = (
        distance(small.image_tokenizer_config(reconstruction=kind, **config))
        for kind in (Reconstruction.huber, Reconstruction.charbonnier)
    )
    error = torch.tensor([0.2, 1.5])
    torch.testing.assert_close(huber(error, error * 0, reduction="none"), torch.tensor([0.02, 0.625]))
    expected = (error**2 + 0.25).sqrt() - 0.5
    torch.testing.assert_close(charbonnier(error, error * 0, reduction="none"), expected)


def test_logit_laplace_is_a_density_over_logits() -> None:
    measure = distance(small.image_tokenizer_config(reconstruction=Reconstruction.logit_laplace))
    logits = [((pixels + 1) / 2 * 0.8 + 0.1).logit() for pixels in (X, Y)]
    expected = -Laplace(logits[0], 1.0).log_prob(logits[1]) - torch.tensor(2.0).log()
    torch.testing.assert_close(measure(X, Y, reduction="none"), expected)


def test_logit_laplace_has_a_gradient_for_pixels_outside_of_the_range() -> None:
    measure = distance(small.image_tokenizer_config(reconstruction=Reconstruction.logit_laplace))
    x = torch.tensor([-3.0, 3.0], requires_grad=True)
    measure(x, torch.zeros(2)).backward()
    assert x.grad is not None and x.grad.tolist() == [-0.5, 0.5]
