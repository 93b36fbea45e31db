"""Samples of categorical distributions from prescribed uniforms."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

Sampler = Callable[[Tensor, Tensor], Tensor]
"""Logits (*B, V) and uniforms (*B) to classes (*B)."""


def sample_categorical(logits: Float[Tensor, "*B V"], uniforms: Float[Tensor, "*B"]) -> Int[Tensor, "*B"]:
    """Inverse-CDF sample: the number of entries of the cumulated probabilities that are <= u.

    The uniforms are an argument, so that sampling needs no host synchronisation, can be captured in a graph, and can be
    prescribed.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    cumulated = wide.softmax(dim=-1).cumsum(dim=-1)
    index = (cumulated <= uniforms.unsqueeze(-1)).sum(dim=-1)
    return index.clamp(max=logits.shape[-1] - 1)  # rounding may leave the last sum below a uniform close to 1


def sampler_at(temperature: float) -> Sampler:
    """``sample_categorical`` of softmax(logits / temperature); at temperature 0 the most likely class."""
    if temperature == 0:
        return lambda logits, uniforms: logits.argmax(dim=-1)
    if temperature == 1:
        return sample_categorical
    return lambda logits, uniforms: sample_categorical(logits / temperature, uniforms)
