"""Token churn: none without training, all where every code is another one."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests import small
from tokenworlds.agents.base import Agent
from tokenworlds.tracking.journal import Journal
from tokenworlds.training import token_churn
from tokenworlds.training.token_churn import NAME, PICTURES, churn, measures, tokens

AGENTS: dict[str, Callable[[], Agent]] = {
    "iris": small.agent, "delta_iris": small.delta_agent, "m3": small.m3_agent,
}  # fmt: skip


@pytest.mark.parametrize("method", AGENTS)
def test_tokens_of_a_tokenizer_that_is_not_trained_stay_and_nothing_is_drawn(method: str) -> None:
    agent = AGENTS[method]()
    buffer, random = small.buffer([9, 1, 30, 90], spec=small.spec_of(agent)), torch.random.get_rng_state()
    before = tokens(agent, buffer)
    assert churn(before, tokens(agent, buffer)) == {NAME: 0.0}
    assert [len(some) for some in before] == [PICTURES] and torch.equal(random, torch.random.get_rng_state())
    assert len(before[0].unique()) > 1


def test_other_codes_are_changed_tokens_and_the_same_ones_are_not() -> None:
    agent, buffer = small.agent(), small.buffer([9, 12])
    before, codebook = tokens(agent, buffer), agent.tokenizer.image.embedding.weight
    codebook.data = codebook.data.roll(1, dims=0)  # every vector has another number
    after = tokens(agent, buffer)
    assert churn(before, after) == {NAME: 1.0} and torch.equal(after[0], (before[0] + 1) % len(codebook))
    codebook.data = codebook.data.roll(-1, dims=0) * (1 + 1e-7)
    assert churn(before, tokens(agent, buffer)) == {NAME: 0.0}
    assert churn([torch.tensor([[0, 1], [2, 3]])], [torch.tensor([[0, 1], [2, 4]])]) == {NAME: 0.25}


def test_agents_without_learned_pictures_and_an_empty_replay_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = small.agent()
    assert tokens(agent, small.buffer([])) == [] and churn([], []) == {}
    monkeypatch.setattr(token_churn, "parts_of", lambda agent: {})
    assert tokens(agent, small.buffer([3])) == []


def test_a_run_has_the_mean_over_its_epochs_and_over_the_last_tenth(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "metrics.jsonl")
    assert measures(journal) == []
    for epoch in range(1, 21):
        journal.append("metrics", step=epoch, values={NAME: 0.5 if epoch < 19 else 0.1} if epoch > 1 else {})
    journal.append("metrics", step=20, final=True, values={"final/return_mean": 1.0})
    found = {row["measure"]: (row["value"], row["count"]) for row in measures(journal)}
    assert found["token_churn"] == (pytest.approx((17 * 0.5 + 2 * 0.1) / 19), 19)
    assert found["token_churn_late"] == (pytest.approx(0.1), 1)
