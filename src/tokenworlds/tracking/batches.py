"""What MLflow takes in one request, and of one value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tokenworlds.redaction import redact

_METRICS, _PARAMS, _TAGS = 1000, 100, 100  # in one request
_PARAM_LENGTH, _TAG_LENGTH = 6000, 5000


def batches(
    metrics: Sequence[Any] = (), params: Mapping[str, Any] | None = None, tags: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Arguments of ``log_batch``, one request after the other; values are cut to what MLflow takes, passwords masked.

    Args:
        metrics: entities of MLflow.
    """
    from mlflow.entities import Param, RunTag

    for values in _parts(metrics, _METRICS):
        yield {"metrics": values}
    for items in _parts(list((params or {}).items()), _PARAMS):
        yield {"params": [Param(key, _text(value, _PARAM_LENGTH)) for key, value in items]}
    for items in _parts(list((tags or {}).items()), _TAGS):
        yield {"tags": [RunTag(key, _text(value, _TAG_LENGTH)) for key, value in items]}


def _parts(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for begin in range(0, len(values), size):
        yield values[begin : begin + size]


def _text(value: Any, limit: int) -> str:
    text = redact(str(value))  # journals of earlier versions hold addresses as they were given
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
