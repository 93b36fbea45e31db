"""World models: over the tokens of observations (``build``), and over frames and delta tokens (``delta``)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tokenworlds.config import Decoding

if TYPE_CHECKING:
    from tokenworlds.world_models.token import TokenWorldModel

DECODINGS = {  # module, imported when it is chosen, and class
    Decoding.autoregressive: ("autoregressive", "AutoregressiveWorldModel"),
    Decoding.pop: ("parallel", "ParallelWorldModel"),
}


def build(decoding: Decoding, *arguments: Any) -> "TokenWorldModel":
    """The world model that predicts observations by ``decoding``, with the arguments of ``TokenWorldModel``."""
    module, kind = DECODINGS[decoding]
    return getattr(import_module(f"{__name__}.{module}"), kind)(*arguments)
