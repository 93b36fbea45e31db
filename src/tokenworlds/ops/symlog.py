"""The symmetric logarithm (DreamerV3, section "Robust predictions")."""

from jaxtyping import Float
from torch import Tensor


def symlog(x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """sign(x) ln(1 + |x|)."""
    return x.sign() * x.abs().log1p()


def symexp(x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """sign(x) (e^|x| - 1), the inverse of ``symlog``."""
    return x.sign() * x.abs().expm1()
