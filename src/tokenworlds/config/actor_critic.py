"""Settings of actor and critic."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from tokenworlds.config.ranges import MISSING, WIDTH, integer, integers, require
from tokenworlds.config.tokenizers import EncoderConfig
from tokenworlds.config.world_models import Scalar

PolicyInput = Enum("PolicyInput", "pixels codes tokens")
"""Input of the policy: pixels decoded from an observation's tokens (IRIS), their code vectors (REM), or the tokens
of every modality (M3)."""

Recurrence = Enum("Recurrence", "lstm gru")
"""Recurrent cell of the policy."""


@dataclass
class PolicyConfig:
    recurrence: Recurrence = MISSING
    hidden_dim: int = integer(1, WIDTH)
    values: Scalar = MISSING

    def check(self) -> None:
        require(
            self.values not in (Scalar.sign, Scalar.symlog),
            "model.policy.values must be regression, two_hot or hl_gauss.",
        )


@dataclass
class TokenPolicyConfig(PolicyConfig):
    """Over the tokens of an observation (IRIS, REM, M3)."""

    input: PolicyInput = MISSING
    action_input: bool = MISSING  # whether the policy also takes each action that it has chosen
    # Widths of the layers that join the modalities (input: tokens)
    fuser: list[int] = integers(1, WIDTH, longest=8, default=[])
    token_dim: int = integer(1, WIDTH, default=64)  # embeddings of categories in the policy
    separate_critic: bool = False  # whether the values have a network of their own
    value_bins: int = integer(2, 4096, default=129)  # of values: hl_gauss

    def check(self) -> None:
        super().check()
        require(
            self.input is not PolicyInput.tokens or min(self.fuser, default=0) > 0,
            f"model.policy.input=tokens needs model.policy.fuser, the widths of the layers that join the modalities; "
            f"{self.fuser} does not do.",
        )


@dataclass
class DeltaPolicyConfig(PolicyConfig):
    """Over frames, real or imagined (Delta-IRIS)."""

    frame_encoder: EncoderConfig = field(default_factory=EncoderConfig)
