"""Who trains the components of an agent over observation tokens, by what is in its world model's place."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tokenworlds.config import Decoding

if TYPE_CHECKING:
    from tokenworlds.methods.token import Learner

LEARNERS = {  # module, imported when it is chosen, and class
    Decoding.autoregressive: ("token", "Learner"),
    Decoding.pop: ("token", "Learner"),
    Decoding.frame: ("token", "Learner"),
    Decoding.oracle: ("oracle", "OracleLearner"),
}


def build(decoding: Decoding, *arguments: Any) -> "Learner":
    """The learner of a decoding, with the arguments of ``token.Learner``."""
    module, kind = LEARNERS[decoding]
    return getattr(import_module(f"{__package__}.{module}"), kind)(*arguments)
