"""Focal frequency loss (Jiang, Dai, Wu, Loy, ICCV 2021)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tokenworlds.config import FocalFrequencyTermConfig
from tokenworlds.tokenizers.terms.base import Scene, Term


class FocalFrequencyTerm(Term[FocalFrequencyTermConfig]):
    """mean(w |D|^2), D the difference of the orthonormal spectra of pixels in [-1, 1], and w = |D|^alpha, divided by
    its maximum over the frequencies of each channel of each frame, without a gradient. 0 if and only if the pictures
    are equal."""

    name = "ffl"

    def value(self, scene: Scene) -> Float[Tensor, ""]:
        error = scene.reconstruction.to(scene.frames.dtype) - scene.frames
        spectrum = torch.fft.fft2(error, norm="ortho")  # of the difference: the transform is linear
        power = spectrum.real.square() + spectrum.imag.square()
        weights = power.detach() ** (self.settings.alpha / 2)
        largest = weights.amax(dim=(-2, -1), keepdim=True)
        return (weights / largest.where(largest > 0, 1) * power).mean()
