"""The agent in the content of a file: published layouts, and wrappers that training programs add around one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from tokenworlds import tensor_files
from tokenworlds.errors import UserError, brief
from tokenworlds.files import shortened

EMBEDDING, NORM = "tokenizer.embedding.weight", "world_model._model.layers.0.norm1.weight"
ACTOR = "actor_critic.actor_linear.weight"
MARKS = {  # tensors by which a method is recognised
    "iris": (EMBEDDING, "world_model.pos_emb.weight", ACTOR),
    "rem": (EMBEDDING, NORM, ACTOR),
    "delta_iris": (
        "tokenizer.quantizer.codebook",
        "world_model.latents_emb.weight",
        "actor_critic.model.actor_linear.weight",
    ),
    "m3": ("world_model.head_rewards.head.linear.weight", NORM),
}
VALUELESS = re.compile(r"world_model\.curiosity_head\.\w+\.meta_model\.")  # M3's, which its agents never use
WRAPPERS = ("module", "_orig_mod")  # names that DataParallel and compiled networks insert
DEPTH = 3  # levels of nested mappings that are searched


@dataclass
class Found:
    """An agent in one of the published layouts."""

    method: str
    state: dict[str, Tensor]
    place: str = ""  # the entries of the file that lead to it
    stripped: list[str] = field(default_factory=list)  # wrappers removed from its names
    left_out: list[str] = field(default_factory=list)  # other entries of the file

    def notes(self, file: Path) -> list[str]:
        """How it was found, a line for each step."""
        more = f" and {len(self.left_out) - 5} more" if len(self.left_out) > 5 else ""
        names = brief(", ".join(self.left_out[:5]))
        steps = {
            f"read its entry '{self.place}'": self.place,
            f"took {' and '.join(map(repr, self.stripped))} out of the names": self.stripped,
            f"left out {names}{more}, no tensors of the agent": self.left_out,
        }
        return [f"{shortened(file)}: {step}." for step, was_taken in steps.items() if was_taken]


def method_of(state: Mapping[str, Any]) -> str | None:
    """The method whose published layout this is."""
    return next((method for method, marks in MARKS.items() if all(mark in state for mark in marks)), None)


def agent_in(file: Path, loaded: Any) -> Found:
    """The only agent in what ``file`` holds.

    Raises:
        UserError: none, several, or one whose tensors hold no plain numbers.
    """
    found = list(_search(file, loaded, (), DEPTH))
    if len(found) > 1:
        places = ", ".join(repr(one.place) for one in found[:4])
        raise UserError(
            f"{shortened(file)} holds {len(found)} agents ({brief(places)}); save the one that you mean alone."
        )
    if not found:
        raise UserError(
            f"{shortened(file)} has not the layout of a published IRIS, REM, Delta-IRIS or M3 checkpoint "
            f"(tokenizer.*, world_model.*, actor_critic.*){_entries(loaded)}."
        )
    agent = found[0]
    agent.state = {key: value for key, value in agent.state.items() if not VALUELESS.match(key)}
    if reason := tensor_files.unusable(agent.state):
        raise UserError(f"{shortened(file)}: {reason}; save the agent with plain tensors.")
    return agent


def _entries(loaded: Any) -> str:
    if not isinstance(loaded, Mapping):
        return f" but is a {type(loaded).__name__}"
    names = sorted({str(key).split(".")[0] for key in loaded})
    more = ", ..." if len(names) > 4 else ""
    return f"; it holds {brief(', '.join(names[:4]), 80)}{more}" if names else "; it is empty"


def _search(file: Path, value: Any, path: tuple[str, ...], depth: int) -> Iterator[Found]:
    if not isinstance(value, Mapping):
        return
    named = {key: one for key, one in value.items() if isinstance(key, str) and isinstance(one, Tensor)}
    here = list(_in_names(file, named))
    for found in here:
        found.place = ".".join(path)
        others = [str(key) for key in value if key not in named]
        found.left_out = [*others, *found.left_out]
        yield found
    if not here and depth:
        for key, one in value.items():
            for found in _search(file, one, (*path, str(key)), depth - 1):
                found.left_out = [*(str(other) for other in value if other != key), *found.left_out]
                yield found


def _in_names(file: Path, named: dict[str, Tensor]) -> Iterator[Found]:
    """Agents among tensors of one mapping: their names may have wrappers inside and a common beginning."""
    wrappers = [name for name in WRAPPERS if any(name in key.split(".") for key in named)]
    bare = {key: ".".join(part for part in key.split(".") if part not in wrappers) for key in named}
    if len(set(bare.values())) < len(bare):  # the wrapped and the bare network side by side
        twice = next(name for name in bare.values() if list(bare.values()).count(name) > 1)
        raise UserError(
            f"{shortened(file)} has {brief(twice, 80)} both with and without the wrapper {' or '.join(wrappers)}; "
            "save one of the two networks alone."
        )
    state = {bare[key]: value for key, value in named.items()}
    stripped = [f"{name}." for name in wrappers]
    if method := method_of(state):
        yield Found(method, state, stripped=stripped)
        return
    ends = {marks[0] for marks in MARKS.values()}
    beginnings = {match[1] for key in state for end in ends if (match := re.fullmatch(rf"(.+\.){re.escape(end)}", key))}
    for beginning in sorted(beginnings):
        inner = {key.removeprefix(beginning): value for key, value in state.items() if key.startswith(beginning)}
        if method := method_of(inner):
            rest = [key for key in state if not key.startswith(beginning)]
            yield Found(method, inner, stripped=[*stripped, beginning], left_out=rest)
