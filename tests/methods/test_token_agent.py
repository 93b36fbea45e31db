"""IRIS as a whole: no gradient crosses the border of a component, and every phase runs at unusual settings."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests import small
from tokenworlds import methods
from tokenworlds.agent import Agent
from tokenworlds.config import load
from tokenworlds.envs import EnvironmentSpec, ImageSpec
from tokenworlds.errors import UserError
from tokenworlds.methods import iris
from tokenworlds.rng import RandomStreams
from tokenworlds.training.phase import Phase

OVERRIDES = (
    "method=iris",
    "task=minigrid/Empty-5x5",
    "scale=smoke",
    f"environment.train.size={small.RESOLUTION}",
    f"environment.test.size={small.RESOLUTION}",
    "model.tokenizer.ch_mult=[1,1,1,1]",
    "model.tokenizer.attn_resolutions=[4]",
    "model.tokenizer.num_res_blocks=0",
    *(f"training.{part}.updates_per_epoch=2" for part in ("tokenizer", "world_model", "actor_critic")),
    "runtime.device=cpu",
)


def build(*overrides: str) -> tuple[Agent, list[Phase]]:
    config = load([*OVERRIDES, *overrides])
    spec = EnvironmentSpec({"image": ImageSpec(small.RESOLUTION, small.RESOLUTION)}, small.ACTIONS, ("a", "b", "c"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        agent = iris.build_agent(config, spec)
    return agent, iris.build_phases(config, agent, small.buffer([7, 9, 2]), RandomStreams(0, small.CPU))


def test_components_are_trained_in_the_published_order() -> None:
    _, phases = build()
    assert [phase.name for phase in phases] == ["tokenizer", "world_model", "actor_critic"]


def test_each_phase_changes_its_own_component_alone() -> None:
    agent, phases = build()
    components: dict[str, nn.Module] = {
        "tokenizer": agent.tokenizer, "world_model": agent.world_model, "actor_critic": agent.policy,
    }  # fmt: skip
    for phase in phases:
        agent.zero_grad()
        before = {name: [p.clone() for p in module.parameters()] for name, module in components.items()}
        phase.train()
        for name, module in components.items():
            is_same = all(torch.equal(p, old) for p, old in zip(module.parameters(), before[name]))
            has_gradient = any(p.grad is not None for p in module.parameters())
            assert is_same == (name != phase.name) and has_gradient == (name == phase.name), (phase.name, name)
        assert not any(module.training for module in agent.modules())


def test_other_components_are_frozen_in_evaluation_mode_while_one_trains() -> None:
    agent, phases = build()
    for phase in phases:
        modes: list[tuple[bool, bool, bool]] = []
        inner = phase.losses

        def losses(inner=inner, modes=modes):  # type: ignore[no-untyped-def]
            modes.append((agent.tokenizer.training, agent.world_model.training, agent.policy.training))
            return inner()

        phase.losses = losses
        phase.train()
        assert set(modes) == {tuple(other is phase for other in phases)}


@pytest.mark.parametrize(
    "overrides",
    [
        ("training.actor_critic.burn_in=0",),
        ("training.actor_critic.horizon=12",),  # longer than the context
        ("training.precision=bf16",),
        ("training.actor_critic.gradient_accumulation=2", "training.world_model.gradient_accumulation=2"),
        ("model.world_model.attention=block_causal",),
        ("training.sequence_length=1",),
    ],
    ids=lambda overrides: overrides[0],
)
def test_every_phase_runs_with(overrides: tuple[str, ...]) -> None:
    _, phases = build(*overrides)
    for phase in phases:
        means = phase.train()
        assert all(value.isfinite() for value in means.values()), phase.name


def test_the_same_streams_give_the_same_updates() -> None:
    results = []
    for _ in range(2):
        agent, phases = build()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            means = [{name: value.item() for name, value in phase.train().items()} for phase in phases]
        results.append((means, [parameter.detach().clone() for parameter in agent.parameters()]))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(one, other) for one, other in zip(results[0][1], results[1][1]))


def test_an_unknown_method_is_an_error() -> None:
    with pytest.raises(UserError, match="unknown method 'irsi': did you mean iris"):
        methods.get("irsi")
