"""Checkpoints of a running training: atomic writes, two kept, resuming continues bit for bit.

A checkpoint is ``epoch_<n>.safetensors`` (networks, optimisers, random states) and ``epoch_<n>.json`` (everything else,
and the digests of all files that belong to it). The JSON file is written last: without it the checkpoint does not
exist. Replay rows never change once written, so they are saved as shards ``replay_<first row>_<row after the
last>.safetensors``, each once.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from tokenworlds.errors import UserError
from tokenworlds.files import write_atomic
from tokenworlds.replay import ReplayBuffer

KEPT = 2


class CheckpointFolder:
    """Checkpoints and replay shards of one run."""

    def __init__(self, folder: Path, config_hash: str) -> None:
        self.folder = folder
        self.config_hash = config_hash
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
            "sha256": _digest(content),
            "replay": table | {"shards": self._shards},
            "state": state,
        }
        head["checksum"] = _checksum(head)
        write_atomic(self.folder / f"{name}.json", json.dumps(head).encode())
        self._remove_old()

    def last_epoch(self) -> int | None:
        """Epoch of the newest checkpoint; None when there is none."""
        return max((int(path.stem.removeprefix("epoch_")) for path in self.folder.glob("epoch_*.json")), default=None)

    def latest(self, remedy: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and head of the newest checkpoint; None when there is none.

        Args:
            remedy: what who only reads should do about an error; by default what who trains should.

        Raises:
            UserError: it is damaged, or belongs to another configuration.
        """
        heads = sorted(self.folder.glob("epoch_*.json"))
        if not heads:
            return None
        path = heads[-1]
        remedy = remedy or f"delete {path} to resume from the checkpoint before it, or {self.folder} to start again"
        try:
            head: dict[str, Any] = json.loads(path.read_text())
            is_intact = head.pop("checksum") == _checksum(head)
            content = path.with_suffix(".safetensors").read_bytes()
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise UserError(f"checkpoint {path} cannot be read ({type(error).__name__}): {remedy}.") from error
        if not is_intact:
            raise UserError(f"checkpoint {path} is damaged (its checksum differs from the recorded one): {remedy}.")
        if head["config_hash"] != self.config_hash:
            found = f"{head['config_hash']}, not {self.config_hash}"
            raise UserError(f"checkpoint {path} belongs to another configuration ({found}): {remedy}.")
        if _digest(content) != head["sha256"]:
            weights = path.with_suffix(".safetensors")
            raise UserError(f"checkpoint {weights} is damaged (its digest differs from the recorded one): {remedy}.")
        return load(content), head

    def load_replay(self, buffer: ReplayBuffer, table: dict[str, Any]) -> None:
        """Fill ``buffer`` from the shards of the checkpoint, and delete those written after it: their rows will be
        collected again.

        Raises:
            UserError: a shard is missing or damaged.
        """
        self._shards = table["shards"]
        for name, digest in self._shards.items():
            path = self.folder / name
            if not path.is_file() or _digest(content := path.read_bytes()) != digest:
                state = "damaged" if path.is_file() else "missing"
                raise UserError(f"replay shard {path} is {state}: delete {self.folder} to start again.")
            buffer.load_rows(load(content), int(path.stem.split("_")[1]))
        buffer.load_table(table)
        for path in self.folder.glob("replay_*.safetensors"):
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
            self._shards = {**self._shards, name: _digest(content)}

    def _remove_old(self) -> None:
        for head in sorted(self.folder.glob("epoch_*.json"))[:-KEPT]:
            head.unlink()
            head.with_suffix(".safetensors").unlink(missing_ok=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _checksum(head: dict[str, Any]) -> str:
    """Digest of a head's values, however they are spelled."""
    return _digest(json.dumps(head, sort_keys=True).encode())


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
