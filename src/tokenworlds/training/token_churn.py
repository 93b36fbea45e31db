"""Token churn: the share of the tokens of stored pictures that an epoch of training changes."""

from __future__ import annotations

from statistics import fmean

import torch
from jaxtyping import Int
from torch import Tensor

from tokenworlds.agents.base import Agent
from tokenworlds.replay import ReplayBuffer
from tokenworlds.runs.columns import OF_TOKENIZER
from tokenworlds.tracking.journal import Journal
from tokenworlds.training.tokenizer_quality import parts_of
from tokenworlds.training.world_model_quality import Row, row

PICTURES = 64  # spread evenly over the replay
NAME = "tokenizer/eval/token_churn"


@torch.no_grad()
def tokens(agent: Agent, buffer: ReplayBuffer) -> list[Int[Tensor, "N K"]]:
    """Tokens of the same pictures as long as the replay stays as it is, of each modality whose tokenizer learns.
    Nothing is drawn."""
    rows = torch.linspace(1, buffer.rows - 1, min(PICTURES, buffer.num_steps), device=buffer.device).long()
    parts = {name: part for name, part in parts_of(agent).items() if part.num_codes}
    if not parts or not len(rows):
        return []
    episodes, steps = buffer.locate(rows)
    segments = buffer.segments(episodes, steps - 1, 2)
    return [
        part.coded(seen[:, 0], segments.actions[:, 0], seen[:, 1])[1]
        for name, part in parts.items()
        for seen in [segments.observations[name]]
    ]


def measures(journal: Journal) -> list[Row]:
    """Means over the epochs of a run, and over the last tenth of them (at least one); nothing where there is none."""
    records = (record for record in journal.read() if record["kind"] == "metrics")
    found = [record["values"][NAME] for record in records if NAME in record["values"]]
    late = found[-max(1, len(found) // 10) :]
    named = {"token_churn": found, "token_churn_late": late} if found else {}
    return [row(OF_TOKENIZER, name, fmean(values), len(values)) for name, values in named.items()]


def churn(before: list[Int[Tensor, "N K"]], after: list[Int[Tensor, "N K"]]) -> dict[str, float]:
    """The share of the tokens that are others now, as the metric of an epoch; nothing where there are none."""
    changed = [(old != new).flatten() for old, new in zip(before, after)]
    return {NAME: float(torch.cat(changed).float().mean())} if changed else {}
