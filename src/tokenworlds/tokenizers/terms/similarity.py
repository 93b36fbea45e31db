"""Structural similarity of frame and reconstruction, on one scale or several."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from tokenworlds.config import SimilarityTermConfig
from tokenworlds.ops import precision
from tokenworlds.ops.similarity import multi_scale_similarity, structural_similarity
from tokenworlds.tokenizers.terms.base import Scene, Term


class SimilarityTerm(Term[SimilarityTermConfig]):
    """1 - (MS-)SSIM of pixels in [0, 1], in float32: variances are small differences of large numbers."""

    name = "ssim"

    def value(self, scene: Scene) -> Float[Tensor, ""]:
        x, y = ((pixels.to(scene.frames.dtype) + 1) / 2 for pixels in (scene.reconstruction, scene.frames))
        with precision.without_autocast(x.device.type), precision.without_tf32():
            return 1 - self._similarity(x, y).mean()

    def _similarity(self, x: Float[Tensor, "N C Y X"], y: Float[Tensor, "N C Y X"]) -> Float[Tensor, "N"]:
        """SSIM itself on one scale, where negative values count, too."""
        scales = self.settings.scales
        return structural_similarity(x, y) if scales == 1 else multi_scale_similarity(x, y, scales)
