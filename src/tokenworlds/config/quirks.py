"""Peculiarities of released code that published scores were made with.

A sound implementation would do without them. They are kept because scores are comparable only with them; each has a
value that repairs it. ``quirks:`` in ``pipeline/<method>/params.yaml`` names those of a method with their source.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tokenworlds.config.ranges import integer

EndsAlignment = Enum("EndsAlignment", "aligned legacy")
"""Block whose prediction learns the termination of step t: the next one, from which imagination reads it, or
(legacy, released M3) block t, one too early."""

ImaginationStart = Enum("ImaginationStart", "aligned legacy")
"""First policy input in imagination: the last observation of the world model's context, or (legacy, released M3) the
one after it."""

BurnInActions = Enum("BurnInActions", "published detached every never")
"""Frames of the burn-in after which a policy with action input also takes the action.

``published`` (released REM): after frame i only where i + 1 is a multiple of the number of tokens (with 64 tokens
and 20 frames: never), and such a step learns, as if no frame followed it. ``detached``: the same frames, without
gradients through the burn-in. ``every``: each frame. ``never``: none (M3).
"""


@dataclass
class Quirks:
    """Quirks that every method may have."""

    truncation_is_end: bool = True  # whether a time limit is stored as a termination


@dataclass
class TokenQuirks(Quirks):
    """Quirks of the methods over observation tokens."""

    perceptual_dropout: bool = True  # whether the dropout of the perceptual network is active in training
    identical_layers: bool = False  # RetNet: all layers start with the same weights
    frozen_action_embeddings: bool = False  # the world model's action embeddings never learn
    shared_prediction_token: bool = False  # POP: one embedding for all prediction tokens
    burn_in_actions: BurnInActions = BurnInActions.every
    ends_alignment: EndsAlignment = EndsAlignment.aligned
    imagination_start: ImaginationStart = ImaginationStart.aligned
    entropy_of_last: bool = False  # whether the policy step that only bootstraps counts for the entropy bonus
    priority_lag: int = integer(0, 1000, default=0)  # batches by which losses miss their segments' priorities
