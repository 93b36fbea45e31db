"""Journals and weights as a run leaves them, in small."""

import json
from pathlib import Path

from tokenworlds.tracking.journal import Journal


def write_journal(folder: Path, epochs: list[dict[str, object]], settings: dict[str, object] | None = None) -> Path:
    """A journal with the metrics of these epochs, counted from 1, and the configuration by dotted key."""
    path = folder / "metrics.jsonl"
    journal = Journal(path)
    if settings is not None:
        journal.append("params", values=settings)
    for epoch, values in enumerate(epochs, start=1):
        journal.append("metrics", step=epoch, values=values)
    return path


def write_weights(folder: Path, shapes: dict[str, list[int]]) -> Path:
    """A safetensors file with these shapes and no data."""
    tensors = {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    header = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    path = folder / "agent.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    return path
