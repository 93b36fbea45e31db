"""Samples of categorical distributions from prescribed uniforms."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def sample_categorical(logits: Float[Tensor, "*B V"], uniforms: Float[Tensor, "*B"]) -> Int[Tensor, "*B"]:
    """Inverse-CDF sample: the number of entries of the cumulated probabilities that are <= u.

    The uniforms are an argument, so that drawing needs no host synchronisation, can be captured in a graph, and can be
    prescribed.
    """
    cumulated = (
        logits.float().softmax(dim=-1).cumsum(dim=-1)
        if logits.dtype != torch.float64
        else logits.softmax(-1).cumsum(-1)
    )
    index = (cumulated <= uniforms.unsqueeze(-1)).sum(dim=-1)
    return index.clamp(max=logits.shape[-1] - 1)  # rounding may leave the last sum below a uniform close to 1
