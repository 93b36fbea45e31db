"""Common parts of the layouts of published checkpoints: one file a game, a flat mapping with the prefixes
``tokenizer.``, ``world_model.`` and ``actor_critic.``; the tokenizer may hold the perceptual network."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from tokenworlds.tokenizers import lpips

Renamings = tuple[tuple[str, str], ...]  # (published, ours), patterns of the beginnings of keys

PERCEPTUAL = "tokenizer.lpips."


def rename(key: str, renamings: Renamings) -> str:
    """Rename by the first pattern that matches; a key of another layout is kept, and loading reports it."""
    for pattern, replacement in renamings:
        if re.match(pattern, key):
            return re.sub(f"^{pattern}", replacement, key)
    return key


def perceptual(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The perceptual network inside a published state dict, under our names."""
    inside = {key.removeprefix(PERCEPTUAL): value for key, value in state.items() if key.startswith(PERCEPTUAL)}
    return {f"tokenizer.parts.image.lpips.{key}": value for key, value in lpips.from_reference(inside).items()}


def indices(state: Iterable[str], pattern: str) -> list[int]:
    """The numbers that the first group of ``pattern`` matches at the beginnings of the keys, each once, ascending."""
    return sorted({int(match[1]) for key in state if (match := re.match(pattern, key))})


def overrides(section: dict[str, Any], prefix: str = "model") -> list[str]:
    """A nested section as overrides such as ``model.world_model.embed_dim=256``."""
    result = []
    for key, value in section.items():
        name = f"{prefix}.{key}"
        result += overrides(value, name) if isinstance(value, dict) else [f"{name}={value}"]
    return result
