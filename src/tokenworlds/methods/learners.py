"""Who trains the components of an agent over observation tokens, by what is in its world model's place."""

from importlib import import_module
from typing import Any, Protocol

from tokenworlds.config import Decoding
from tokenworlds.methods.component import ComponentTrainer

LEARNERS = {  # module, imported when it is chosen, and class
    Decoding.autoregressive: ("token", "Learner"),
    Decoding.pop: ("token", "Learner"),
    Decoding.frame: ("token", "Learner"),
    Decoding.oracle: ("oracle", "OracleLearner"),
}


class Learner(Protocol):
    def components(self) -> list[ComponentTrainer]:
        """In the order in which an epoch trains them."""
        ...


def build(decoding: Decoding, *arguments: Any) -> Learner:
    """The learner of a decoding, with the arguments of ``token.Learner``."""
    module, kind = LEARNERS[decoding]
    return getattr(import_module(f"{__package__}.{module}"), kind)(*arguments)
