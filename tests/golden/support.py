"""Reading of the golden vectors: ``<case>.json`` (configuration, tolerances) and ``<case>.safetensors`` (all tensors).

The folder is that of the environment variable ``GOLDEN_DIR`` (one folder per method inside), by default the copy
beside this file, which lacks the cases of ``left_out.py``. Nothing about sizes may be assumed: another set has the same
case names with other seeds and sizes.
"""

import json
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from tokenworlds.replay import Segments

COPY = Path(__file__).parent
ADDED = ("rem_burnin_gradient",)
"""Folders of cases that stand beside those of the methods: a set may hold none of its own."""


def golden_dir(method: str) -> Path:
    """The folder of one method's cases; an added one is that of the copy where the set is complete without it."""
    found = Path(os.environ.get("GOLDEN_DIR", COPY)).resolve() / method
    return COPY / method if method in ADDED and not found.is_dir() else found


def _existing(method: str, name: str) -> Path:
    path = golden_dir(method) / name
    if not path.is_file():
        raise FileNotFoundError(f"the golden set lacks {path}: a missing case is an error, not a skip.")
    return path


def load_json(method: str, name: str) -> dict[str, Any]:
    """A JSON file of the set, name without ending."""
    content: dict[str, Any] = json.loads(_existing(method, f"{name}.json").read_text())
    return content


def load_tensors(method: str, name: str) -> dict[str, Tensor]:
    """A tensor file of the set, name without ending."""
    return load_file(_existing(method, f"{name}.safetensors"))


@dataclass(frozen=True)
class Case:
    """One case; ``json`` is the whole description."""

    name: str
    json: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.json["config"]
        return config

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key]

    def array(self, key: str) -> np.ndarray:
        return self.tensors[key].numpy()

    def group(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose key starts with ``prefix``, by the rest of the key."""
        found = {key.removeprefix(prefix): tensor for key, tensor in self.tensors.items() if key.startswith(prefix)}
        if not found:
            raise KeyError(f"case {self.name} has no tensors under {prefix}*")
        return found

    def tolerance(self, key: str, dtype: str | None = None) -> tuple[float, float]:
        """(rtol, atol) stated for a tensor, (0, 0) for integers; ``dtype`` names another entry of ``tolerances``."""
        tolerances = self.json["tolerances"]
        if dtype is None:
            if not self.tensors[key].is_floating_point():
                return 0.0, 0.0
            is_updated = key.startswith("after") and "after*" in tolerances
            dtype = "after*" if is_updated else str(self.tensors[key].dtype).removeprefix("torch.")
        stated = tolerances[dtype] if dtype in tolerances else tolerances["float"]
        return (0.0, 0.0) if stated == "exact" else (stated["rtol"], stated["atol"])

    def assert_close(self, actual: Tensor | np.ndarray | float, key: str, dtype: str | None = None) -> None:
        """Compare with the tensor ``key`` within its tolerance; shapes must be equal, number formats need not."""
        expected = self.tensors[key]
        found = torch.as_tensor(actual).detach().cpu()
        assert found.shape == expected.shape, f"{self.name} {key}: shapes {found.shape} and {expected.shape}"
        rtol, atol = self.tolerance(key, dtype)
        if rtol == atol == 0.0:
            assert torch.equal(found.to(expected.dtype), expected), f"{self.name} {key}: not equal"
            return
        torch.testing.assert_close(
            found.double(), expected.double(), rtol=rtol, atol=atol, msg=lambda text: f"{self.name} {key}: {text}"
        )


def load_case(method: str, name: str) -> Case:
    """A case by method and name; a missing one is an error."""
    return Case(name, load_json(method, name), load_tensors(method, name))


def assert_segment(case: Case, segment: Segments, key: str) -> None:
    """Compare the only segment with the tensors ``key.*``."""
    case.assert_close(segment.observations["image"][0], f"{key}.observations")
    case.assert_close(segment.actions[0], f"{key}.actions")
    case.assert_close(segment.rewards[0], f"{key}.rewards")
    case.assert_close(segment.terminations[0].long(), f"{key}.ends")
    case.assert_close(segment.mask[0].to(torch.uint8), f"{key}.mask_padding")


def hashed_uniforms(key: str, count: int) -> np.ndarray:
    """The fill rule of agents of published size: a 32-bit integer hash of the index, offset by the key's checksum;
    uniform in [0, 2^32)."""
    low = np.uint64(0xFFFFFFFF)
    u = (np.arange(count, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(zlib.crc32(key.encode()))) & low
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        u ^= u >> np.uint64(shift)
        u = (u * np.uint64(factor)) & low
    return u ^ (u >> np.uint64(16))


def filled(key: str, shape: list[int], salt: str) -> Tensor:
    """A parameter of a published name by the rule."""
    x = (2 * hashed_uniforms(salt + key, math.prod(shape)) / 2**32 - 1).reshape(shape)
    if key.endswith(("embedding.weight", "emb.weight")) or "embedding_tables" in key:
        x = 0.5 * x
    elif key.endswith("quantizer.codebook"):
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    elif len(shape) == 1:
        x = 1 + 0.1 * x if key.endswith("weight") else 0.05 * x
    else:
        x = math.sqrt(3 / math.prod(shape[1:])) * x
    return torch.from_numpy(x.astype(np.float32))


def assert_filled(frames: np.ndarray, salt: str) -> None:
    """Compare frames (T, C, 64, 64) with the rule: 8 x 8 squares of one colour."""
    shape = (*frames.shape[:2], 8, 8)
    small = hashed_uniforms(f"{salt}frames", math.prod(shape)).reshape(shape) * 256 // 2**32
    assert np.array_equal(small.repeat(8, 2).repeat(8, 3), frames)


# The cases of components whose networks fit together, and what their parameters' names lack in front.
ASSEMBLED = {
    "iris": {"tokenizer_a": "tokenizer.", "imagine_refill": ""},
    "delta_iris": {"tokenizer": "tokenizer.", "world_model_two_hot": "", "actor_critic_two_hot": ""},
}


def assembled_agent(method: str) -> dict[str, Tensor]:
    """A small agent in the published layout: rem's reference agent, the others' put together from their components,
    because the copy beside this file lacks their reference agents."""
    if method not in ASSEMBLED:
        return load_tensors(method, "reference_agent")
    return {
        prefix + key: value
        for name, prefix in ASSEMBLED[method].items()
        for key, value in load_case(method, name).group("param.").items()
    }
