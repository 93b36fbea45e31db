"""How a tokenizer is trained before the run that begins with it (docs/experiments.md)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tokenworlds.config.initialization import DIGEST
from tokenworlds.config.ranges import MISSING, STEPS, UPDATES, Text, integer, later, require, texts
from tokenworlds.tasks import others_of

_KEY = "pretraining"

FrameSource = Enum("FrameSource", "random_policy other_games replay")
"""Frames that a tokenizer is pretrained on: of a uniformly random policy in the same game, or in other games, or those
that finished runs have kept."""


@dataclass
class PretrainingConfig:
    """Of the tokenizer in the folder ``initialization.tokenizer``, which ``python -m pipeline.pretrain`` makes."""

    source: FrameSource = MISSING
    frames: int = integer(1, STEPS)  # in all
    updates: int = integer(1, UPDATES)
    counts_toward_budget: bool = MISSING  # whether the frames are agent steps of the run
    games: list[str] = texts("tasks, which must exist", 1_000)  # other_games: those of the benchmark but the run's own
    # Source replay: run folders with their whole experience, or their last training episodes
    runs: list[str] = texts("runs, read when training begins", 1_000)
    digest: str | None = later(Text("", DIGEST, "12 hexadecimal digits"))  # of their frames; found out where it is None

    def check(self, task: str, updates_per_epoch: int) -> None:
        """Checks against the run's task and the tokenizer's schedule."""
        needed = {
            FrameSource.other_games: ("games", others_of(self.games, task)),
            FrameSource.replay: ("runs", self.runs),
        }
        name, found = needed.get(self.source, ("", [task]))
        require(bool(found), f"{_KEY}.source={self.source.name} needs {_KEY}.{name}, other than the run's own.")
        require(
            self.frames >= len(found), f"{_KEY}.frames ({self.frames}) must be at least one for each of {len(found)}."
        )
        require(
            self.updates % updates_per_epoch == 0,
            f"{_KEY}.updates ({self.updates}) must be a multiple of training.tokenizer.updates_per_epoch "
            f"({updates_per_epoch}): a checkpoint is written after so many.",
        )
