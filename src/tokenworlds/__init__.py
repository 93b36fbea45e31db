"""Token-based world-model agents as one reproducible pipeline.

``tokenworlds.load(path)`` reads a trained agent, ``tokenworlds.evaluate(agent)`` plays its test episodes; what they
need is imported when they are asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenworlds.evaluation import evaluate
    from tokenworlds.loading import TrainedAgent, load

__version__ = "0.1.0"
__all__ = ["TrainedAgent", "evaluate", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "evaluate":
        from tokenworlds import evaluation

        return evaluation.evaluate
    from tokenworlds import loading

    return getattr(loading, name)
