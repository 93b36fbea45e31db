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
    """A block is ``K`` observation tokens followed by one action token.

    Position p < K - 1 predicts token p + 1 of the same observation; the action's position K predicts token 0 of the
    *next* observation. The last observation token (position K - 1) predicts nothing: the action comes next, and actions
    are not predicted.
    """

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

    def predicting_positions(self, name: str) -> frozenset[int]:
        """In-block positions whose output predicts a token of this modality."""
        where = self.slices[name]
        return frozenset(self.num_tokens if token == 0 else token - 1 for token in range(where.start, where.stop))
