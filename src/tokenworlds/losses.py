"""Named losses, summed in one place."""

from dataclasses import dataclass, fields

from torch import Tensor


@dataclass
class Losses:
    """Base of the loss dataclasses: every field is a scalar tensor that already carries its weight."""

    def named(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def total(self) -> Tensor:
        first, *rest = self.named().values()
        return sum(rest, start=first)
