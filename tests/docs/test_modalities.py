"""The worked example of docs/modalities.md runs, and an agent trains on its modality beside a picture."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests import small
from tests.conftest import PROJECT
from tests.methods import support
from tokenworlds import methods
from tokenworlds.actor_critic import token_policy
from tokenworlds.envs import DiscreteActions, EnvironmentSpec, ImageSpec
from tokenworlds.replay import ReplayBuffer
from tokenworlds.rng import RandomStreams
from tokenworlds.tokenizers import observation
from tokenworlds.world_models import embeddings

PAGE = Path(PROJECT) / "docs" / "modalities.md"
STEPS, SIZE = 12, 32


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the blocks of the page define; the entries that they make are taken back."""
    registries: tuple[dict[Any, Any], ...] = (observation.TOKENIZERS, embeddings.EMBEDDINGS, token_policy.ENCODERS)
    known = [dict(registry) for registry in registries]
    module = ModuleType("angles")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), module.__dict__)
    yield module.__dict__
    for registry, before in zip(registries, known):
        registry.clear()
        registry.update(before)


def test_the_test_of_the_page_passes(example: dict[str, Any]) -> None:
    example["test_tokens_of_decoded_tokens_are_the_tokens"]()


def test_an_agent_trains_on_a_picture_and_the_new_modality(example: dict[str, Any]) -> None:
    config = support.configure("m3")
    modalities = {"image": ImageSpec(SIZE, SIZE), "angles": example["AngleSpec"](3)}
    spec = EnvironmentSpec(modalities, DiscreteActions(small.ACTIONS))
    agent = methods.get("m3").build_agent(config, spec)
    assert agent.tokenizer.layout.modalities[-1].name == "angles"
    buffer, draws = ReplayBuffer(spec, 2 * STEPS, small.CPU), small.generator()
    for _ in range(2):
        buffer.extend(
            {
                "image": torch.randint(256, (STEPS, 3, SIZE, SIZE), generator=draws, dtype=torch.uint8),
                "angles": torch.rand(STEPS, 3, generator=draws),
            },
            torch.randint(small.ACTIONS, (STEPS,), generator=draws),
            torch.rand(STEPS, generator=draws),
            torch.zeros(STEPS, dtype=torch.uint8),
            close=True,
        )
    for phase in methods.get("m3").build_components(config, agent, buffer, RandomStreams(0, small.CPU)):
        losses = phase.train(support.EPOCH)
        assert all(value.isfinite() for value in losses.values())
    assert type(agent.world_model.embed_observation["angles"]) is example["SectorEmbedding"]
    for part in (agent.world_model.head_observation, agent.world_model.embed_observation):
        assert all(parameter.grad is not None for parameter in part["angles"].parameters())
