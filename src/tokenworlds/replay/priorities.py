"""Sampling a few of very many items by their priorities, in time that hardly depends on their number.

Leaves are log-weights; a node above them is the log of the sum of its children's weights, so that nothing over- or
underflows whatever the priorities. Sampling k leaves without replacement is a stochastic beam search (Kool, van Hoof,
Welling 2019): the k leaves whose log-weights are the largest after each was perturbed by Gumbel noise are exactly such
a sample, and the noise of a node is the maximum of that below it, so it can be sampled from the top down, in the
subtrees of the k best nodes alone.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

BRANCHING = 128  # children of a node: three levels for up to two million leaves


class PriorityTree:
    """Items 0..n-1 with log-weights, at first all absent (-inf). Everything stays on the device."""

    def __init__(self, device: torch.device, branching: int = BRANCHING) -> None:
        self._branching = branching
        self._levels: list[Tensor] = []  # from the leaves up, float64
        self._build(torch.full((branching,), -math.inf, dtype=torch.float64, device=device))

    @property
    def leaves(self) -> Float[Tensor, "leaves"]:
        """Log-weights of all items there is room for."""
        return self._levels[0]

    @property
    def total(self) -> Float[Tensor, ""]:
        """Log of the sum of all weights."""
        return self._levels[-1].logsumexp(0)

    def reserve(self, count: int) -> None:
        """Make room for items 0..count-1."""
        if count <= len(self.leaves):
            return
        span = 1  # leaves below a node of the highest level: all its nodes are complete
        while -(-count // span) > self._branching:
            span *= self._branching
        added = -(-count // span) * span - len(self.leaves)
        self._build(torch.cat([self.leaves, self.leaves.new_full((added,), -math.inf)]))

    def _build(self, leaves: Float[Tensor, "leaves"]) -> None:
        """Compute all levels above these leaves."""
        self._levels = [leaves]
        while len(self._levels[-1]) > self._branching:
            self._levels.append(self._groups(self._levels[-1]).logsumexp(1))

    def _groups(self, level: Float[Tensor, "nodes"]) -> Float[Tensor, "parents children"]:
        return level.view(-1, self._branching)

    def update(self, items: Int[Tensor, "k"], log_weights: Float[Tensor, "k"]) -> None:
        """Set log-weights; if an item occurs several times, the largest of its values holds."""
        self.leaves.scatter_reduce_(0, items, log_weights.to(self.leaves.dtype), "amax", include_self=False)
        for below, above in pairwise(self._levels):
            items = items // self._branching
            if len(items) < len(above):
                above[items] = self._groups(below)[items].logsumexp(1)
            else:
                above.copy_(self._groups(below).logsumexp(1))

    def sample(self, count: int, generator: torch.Generator) -> Int[Tensor, "k"]:
        """Sample ``count`` different items, one after another by weight among the remaining ones."""
        scores, nodes = perturbed(self._levels[-1], generator).topk(min(count, len(self._levels[-1])))
        for level in self._levels[-2::-1]:
            noisy = _with_maxima(perturbed(self._groups(level)[nodes], generator), scores).flatten()
            scores, places = noisy.topk(min(count, len(noisy)))
            nodes = nodes[places // self._branching] * self._branching + places % self._branching
        return nodes


def perturbed(log_weights: Float[Tensor, "*B"], generator: torch.Generator) -> Float[Tensor, "*B"]:
    """Log-weights plus standard Gumbel noise -log(-log(u))."""
    uniforms = torch.rand(log_weights.shape, generator=generator, dtype=torch.float64, device=log_weights.device)
    return log_weights - uniforms.clamp_(min=torch.finfo(uniforms.dtype).tiny).log_().neg_().log_()


def _with_maxima(noisy: Float[Tensor, "k children"], maxima: Float[Tensor, "k"]) -> Float[Tensor, "k children"]:
    """Perturbed log-weights g conditioned on the maximum of a row being T instead of the sampled Z:
    -log(exp(-T) - exp(-Z) + exp(-g)), computed as T - log(1 + exp(v)) with v = T - g + log(1 - exp(g - Z)) (Kool et
    al., appendix B.3)."""
    largest = noisy.amax(dim=1, keepdim=True)
    excess = maxima[:, None] - noisy + torch.log(-torch.expm1(noisy - largest))
    moved = maxima[:, None] - torch.logaddexp(excess, torch.zeros_like(excess))
    return torch.where(noisy == -math.inf, noisy, moved)
