"""Checkpoints of a running training: atomic writes, two kept, resuming continues bit for bit.

A checkpoint is ``epoch_<n>.safetensors`` (networks, optimisers, random states) and ``epoch_<n>.json`` (everything else,
and the digests of all files that belong to it). The JSON file is written last: without it the checkpoint does not
exist. Replay rows never change once written, so they are saved as shards ``replay_<first row>_<row after the
last>.safetensors``, each once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from tokenworlds.epoch_files import checksum, digest, heads, last_epoch, read_last
from tokenworlds.errors import UserError
from tokenworlds.files import write_atomic
from tokenworlds.replay import ReplayBuffer

KEPT = 2


class CheckpointFolder:
    """Checkpoints and replay shards of one run. With a ``remedy`` for what is damaged they are those of another run,
    which are only read."""

    def __init__(self, folder: Path, config_hash: str, remedy: str | None = None) -> None:
        self.folder, self.config_hash, self.remedy = folder, config_hash, remedy
        self._shards: dict[str, str] = {}  # digests of the last checkpoint's replay shards, in the order of their rows

    def save(self, epoch: int, tensors: dict[str, Tensor], state: dict[str, Any], buffer: ReplayBuffer) -> None:
        self._save_replay(buffer)
        content = save({key: value.detach().contiguous().cpu() for key, value in tensors.items()})
        name = f"epoch_{epoch:05d}"
        write_atomic(self.folder / f"{name}.safetensors", content)
        _, table = buffer.state(buffer.rows)
        head = {
            "epoch": epoch,
            "config_hash": self.config_hash,
            "sha256": digest(content),
            "replay": table | {"shards": self._shards},
            "state": state,
        }
        head["checksum"] = checksum(head)
        write_atomic(self.folder / f"{name}.json", json.dumps(head).encode())
        self._remove_old()

    def last_epoch(self) -> int | None:
        """Epoch of the newest checkpoint; None when there is none."""
        return last_epoch(self.folder)

    def latest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and head of the newest checkpoint (``epoch_files.read_last``)."""
        return read_last(self.folder, self.config_hash, self.remedy)

    def load_replay(self, buffer: ReplayBuffer, table: dict[str, Any]) -> None:
        """Fill ``buffer`` from the shards of the checkpoint, and delete those written after it: their rows will be
        collected again.

        Raises:
            UserError: a shard is missing or damaged.
        """
        self._shards = table["shards"]
        for name, recorded in self._shards.items():
            path = self.folder / name
            if not path.is_file() or digest(content := path.read_bytes()) != recorded:
                state = "damaged" if path.is_file() else "missing"
                remedy = self.remedy or f"delete {self.folder} to start again"
                raise UserError(f"replay shard {path} is {state}: {remedy}.")
            buffer.load_rows(load(content), int(path.stem.split("_")[1]))
        buffer.load_table(table)
        for path in () if self.remedy else self.folder.glob("replay_*.safetensors"):
            if path.name not in self._shards:
                path.unlink()

    def _save_replay(self, buffer: ReplayBuffer) -> None:
        if not all((self.folder / name).is_file() for name in self._shards):
            self._shards = {}  # deleted during the run: all rows again
        first = int(Path(list(self._shards)[-1]).stem.split("_")[2]) if self._shards else 1
        if buffer.rows > first:
            tensors, _ = buffer.state(first)
            content = save({key: value.contiguous().cpu() for key, value in tensors.items()})
            name = f"replay_{first:09d}_{buffer.rows:09d}.safetensors"
            write_atomic(self.folder / name, content)
            self._shards = {**self._shards, name: digest(content)}

    def _remove_old(self) -> None:
        for head in heads(self.folder)[:-KEPT]:
            head.unlink()
            head.with_suffix(".safetensors").unlink(missing_ok=True)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of an Adam-like optimiser as flat tensors ``<parameter index>.<name>``."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, entries in state.items() for name, value in entries.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
