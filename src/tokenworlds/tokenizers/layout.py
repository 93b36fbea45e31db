"""How one environment step is laid out as tokens: the observation's tokens, modality after modality, then the action
token."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModalityTokens:
    name: str
    count: int  # tokens of one observation
    vocab_size: int


@dataclass(frozen=True)
class TokenLayout:
    """A block is ``K`` observation tokens followed by one action token."""

    modalities: tuple[ModalityTokens, ...]

    @property
    def num_tokens(self) -> int:
        """K."""
        return sum(modality.count for modality in self.modalities)

    @property
    def block_size(self) -> int:
        return self.num_tokens + 1

    @property
    def slices(self) -> dict[str, slice]:
        """Where each modality's tokens stand among the K."""
        result, start = {}, 0
        for modality in self.modalities:
            result[modality.name] = slice(start, start + modality.count)
            start += modality.count
        return result

    def modality_of(self, token: int) -> str:
        """The modality of the observation token with this index."""
        return next(name for name, where in self.slices.items() if where.start <= token < where.stop)
