"""Token-based world-model agents as one reproducible pipeline.

``tokenworlds.load(path)`` reads a trained agent; what it needs is imported when it is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenworlds.loading import TrainedAgent, load

__version__ = "0.1.0"
__all__ = ["TrainedAgent", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tokenworlds import loading

    return getattr(loading, name)
