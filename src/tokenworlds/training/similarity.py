"""How alike two pictures are (Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment", 2004)."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

WINDOW, DEVIATION = 11, 1.5  # pixels: of the Gaussian that weights a neighbourhood
C1, C2 = 0.01**2, 0.03**2  # for pixels in [0, 1]


def structural_similarity(x: Float[Tensor, "B C Y X"], y: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B"]:
    """SSIM of pictures in [0, 1]: 1 where they are equal, the mean over channels and over all neighbourhoods that lie
    inside; these are smaller in pictures of less than 11 pixels."""
    size = min(WINDOW, *x.shape[-2:])
    places = torch.arange(size, dtype=x.dtype, device=x.device) - (size - 1) / 2
    weights = (-(places**2) / (2 * DEVIATION**2)).exp()
    weights = weights / weights.sum()

    def mean(values: Tensor) -> Tensor:
        rows = F.conv2d(values.flatten(0, 1).unsqueeze(1), weights.view(1, 1, -1, 1))
        return F.conv2d(rows, weights.view(1, 1, 1, -1)).unflatten(0, values.shape[:2]).squeeze(2)

    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x * mean_x, mean(y * y) - mean_y * mean_y
    covariance = mean(x * y) - mean_x * mean_y
    similar = (2 * (mean_x * mean_y) + C1) * (2 * covariance + C2)
    return (similar / ((mean_x * mean_x + mean_y * mean_y + C1) * (variance_x + variance_y + C2))).mean(dim=(1, 2, 3))
