"""How alike two pictures are (Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment", 2004), also on several
scales (Wang, Simoncelli, Bovik, "Multi-scale structural similarity for image quality assessment", 2003)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

WINDOW, DEVIATION = 11, 1.5  # pixels: of the Gaussian that weights a neighbourhood
C1, C2 = 0.01**2, 0.03**2  # for pixels in [0, 1]
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # published exponents, from the finest scale on


def structural_similarity(x: Float[Tensor, "B C Y X"], y: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B"]:
    """SSIM of pictures in [0, 1]: 1 where they are equal, the mean over channels and over all neighbourhoods that lie
    inside; these are smaller in pictures of less than 11 pixels."""
    return _Neighbourhoods.of(x, y).similarity().mean(dim=(1, 2, 3))


def multi_scale_similarity(x: Float[Tensor, "B C Y X"], y: Float[Tensor, "B C Y X"], scales: int) -> Float[Tensor, "B"]:
    """MS-SSIM of pictures in [0, 1], the mean over channels.

    The product of the similarities of contrast and structure on all scales, each half as large as the one before, and
    at the coarsest of SSIM, to the power of the first ``scales`` published exponents, which are divided by their sum.
    Negative similarities count as 0.
    """
    exponents, product = SCALES[:scales], torch.ones_like(x[:, :, 0, 0])
    for scale, exponent in enumerate(exponents, 1):
        around = _Neighbourhoods.of(x, y)
        similarity = (around.similarity() if scale == scales else around.contrast()).mean(dim=(2, 3))
        product = product * _power(similarity, exponent / sum(exponents))
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return product.mean(dim=1)


def _power(base: Float[Tensor, "B C"], exponent: float) -> Float[Tensor, "B C"]:
    """0 below 0, where the gradient is 0, too."""
    return torch.where(base > 0, torch.where(base > 0, base, 1) ** exponent, 0)


@dataclass
class _Neighbourhoods:
    """Moments of two pictures in the neighbourhood of each pixel."""

    mean_x: Tensor
    mean_y: Tensor
    variance_x: Tensor
    variance_y: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, x: Float[Tensor, "B C Y X"], y: Float[Tensor, "B C Y X"]) -> "_Neighbourhoods":
        size = min(WINDOW, *x.shape[-2:])
        places = torch.arange(size, dtype=x.dtype, device=x.device) - (size - 1) / 2
        weights = (-(places**2) / (2 * DEVIATION**2)).exp()
        weights = weights / weights.sum()

        def mean(values: Tensor) -> Tensor:
            rows = F.conv2d(values.flatten(0, 1).unsqueeze(1), weights.view(1, 1, -1, 1))
            return F.conv2d(rows, weights.view(1, 1, 1, -1)).unflatten(0, values.shape[:2]).squeeze(2)

        mean_x, mean_y = mean(x), mean(y)
        variance_x, variance_y = mean(x * x) - mean_x * mean_x, mean(y * y) - mean_y * mean_y
        return cls(mean_x, mean_y, variance_x, variance_y, mean(x * y) - mean_x * mean_y)

    def similarity(self) -> Float[Tensor, "B C y x"]:
        """Of luminance, contrast and structure: SSIM."""
        similar = (2 * (self.mean_x * self.mean_y) + C1) * (2 * self.covariance + C2)
        means = self.mean_x * self.mean_x + self.mean_y * self.mean_y + C1
        return similar / (means * (self.variance_x + self.variance_y + C2))

    def contrast(self) -> Float[Tensor, "B C y x"]:
        """Of contrast and structure alone."""
        return (2 * self.covariance + C2) / (self.variance_x + self.variance_y + C2)
