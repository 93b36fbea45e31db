"""Named losses, summed in one place."""

from dataclasses import dataclass, field, fields

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass
class Losses:
    """Base of the loss dataclasses: every field is a scalar tensor that already carries its weight. What is
    ``measured`` on the way is logged beside the losses and has no part in their sum."""

    measured: dict[str, Tensor] = field(default_factory=dict, kw_only=True)

    def named(self) -> dict[str, Tensor]:
        """The losses: the fields that are given by position."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self) if not entry.kw_only}

    @property
    def total(self) -> Tensor:
        first, *rest = self.named().values()
        return sum(rest, start=first)


def masked_mean(values: Float[Tensor, "*B"], mask: Bool[Tensor, "*B"]) -> Float[Tensor, ""]:
    """Mean of the values where the mask is true; 0 where it is true nowhere."""
    return (values * mask).sum() / mask.sum().clamp(min=1)
