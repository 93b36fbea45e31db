"""Structural similarity, on pictures whose value is known."""

import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim, ssim
from scipy.ndimage import gaussian_filter

from tests import small
from tokenworlds.ops.similarity import SCALES, multi_scale_similarity, structural_similarity

C1, C2 = 1e-4, 9e-4


def pictures(size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    draws = small.generator()
    x = torch.rand(2, 3, size, size, generator=draws, dtype=torch.float64)
    return x, (x + 0.2 * torch.rand(x.shape, generator=draws, dtype=torch.float64)).clamp(0, 1)


@pytest.mark.parametrize("size", [7, 16])
def test_equal_pictures_are_1_and_it_does_not_matter_which_comes_first(size: int) -> None:
    x, y = pictures(size)
    assert structural_similarity(x.float(), x.float()).tolist() == [1.0, 1.0]
    torch.testing.assert_close(structural_similarity(x, y), structural_similarity(y, x))
    assert (structural_similarity(x, y) < 0.99).all()


def test_plain_pictures_differ_by_their_means_alone() -> None:
    x, y = torch.full((1, 1, 12, 12), 0.2), torch.full((1, 1, 12, 12), 0.6)
    expected = (2 * 0.2 * 0.6 + C1) / (0.2**2 + 0.6**2 + C1)
    assert structural_similarity(x, y).item() == pytest.approx(expected, rel=1e-4)


def test_it_is_that_of_a_gaussian_filter_inside_the_border() -> None:
    """scipy's filter with the same window, 5 pixels to each side."""

    def mean(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, 1.5, radius=5)[5:-5, 5:-5]

    x, y = pictures()
    expected = []
    for a, b in zip(x[1].numpy(), y[1].numpy()):
        ma, mb = mean(a), mean(b)
        va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
        expected.append(((2 * ma * mb + C1) * (2 * cov + C2) / ((ma**2 + mb**2 + C1) * (va + vb + C2))).mean())
    assert structural_similarity(x, y)[1].item() == pytest.approx(np.mean(expected), rel=1e-9)


@pytest.mark.parametrize(("size", "scales"), [(176, 2), (176, 3), (208, 5)])
def test_several_scales_are_those_of_the_public_implementation(size: int, scales: int) -> None:
    """It takes pictures of more than 160 pixels alone, whatever the scales."""
    x, y = pictures(size)
    weights = [weight / sum(SCALES[:scales]) for weight in SCALES[:scales]]
    expected = ms_ssim(x, y, data_range=1, size_average=False, weights=weights)
    torch.testing.assert_close(multi_scale_similarity(x, y, scales), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        structural_similarity(x, y), ssim(x, y, data_range=1, size_average=False), rtol=1e-6, atol=0
    )


def test_on_the_smallest_pictures_with_three_scales_it_is_a_number_with_a_gradient() -> None:
    x, y = (1 - picture for picture in pictures(41))
    y = (1 - y).requires_grad_()  # the negative: similarities below 0
    similarity = multi_scale_similarity(x, y, 3)
    similarity.sum().backward()
    assert (similarity >= 0).all() and y.grad is not None and y.grad.isfinite().all()
    assert multi_scale_similarity(x, x, 3).tolist() == pytest.approx([1, 1])
