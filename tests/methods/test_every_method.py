"""Agents as a whole: no gradient crosses the border of a component, every phase runs with every variant and backbone,
the same draws give the same updates, and none of them waits for the device."""

from __future__ import annotations

import pytest
import torch

from tests.methods.support import EPOCH, are_equal, build, count, published, snapshot, train
from tests.synchronisation import without_synchronisation
from tokenworlds import methods
from tokenworlds.config import Backbone, Decoding
from tokenworlds.errors import UserError

METHODS = tuple(methods.METHODS)
VARIANTS = (
    ("iris", "block-causal"),
    ("iris", "64-tokens"),
    ("rem", "no-pop"),
    ("rem", "4x4-tokenizer"),
    ("rem", "no-latent-ac"),
    ("rem", "separate-embeddings"),
    ("rem", "no-action-input"),
    ("delta_iris", "no-frame-tokens"),
    ("delta_iris", "no-worst-pixel"),
    ("delta_iris", "1-token"),
    ("delta_iris", "16-tokens"),
)
DECODINGS = {method: tuple(Decoding) for method in ("iris", "rem")} | {"delta_iris": (Decoding.autoregressive,)}
every_method = pytest.mark.parametrize("method", METHODS)
every_variant = pytest.mark.parametrize(("method", "variant"), (*((method, None) for method in METHODS), *VARIANTS))


@every_method
def test_components_are_trained_in_the_published_order(method: str) -> None:
    _, phases = build(method)
    assert [phase.name for phase in phases] == ["tokenizer", "world_model", "actor_critic"]


@every_variant
def test_each_phase_changes_its_own_component_alone(method: str, variant: str | None) -> None:
    """A target network moves with the policy, but no gradient reaches it; a codebook may move without one."""
    agent, phases = build(method, variant=variant)
    own = {"tokenizer": ["tokenizer"], "world_model": ["world_model"], "actor_critic": ["policy", "target"]}
    for phase in phases:
        agent.zero_grad()
        before = {name: snapshot(module) for name, module in agent.named_children()}
        phase.train(EPOCH)
        for name, module in agent.named_children():
            assert are_equal(snapshot(module), before[name]) == (name not in own[phase.name]), (phase.name, name)
            has_gradient = any(p.grad is not None for p in module.parameters())
            assert has_gradient == (name == own[phase.name][0]), (phase.name, name)
        assert not any(module.training for module in agent.modules())


@every_variant
def test_every_parameter_is_trained(method: str, variant: str | None) -> None:
    _, phases = build(method, variant=variant)
    for phase in phases:
        phase.train(EPOCH)
        unreached = {name for name, parameter in phase.module.named_parameters() if parameter.grad is None}
        assert not unreached, (phase.name, unreached)


@every_method
def test_other_components_are_frozen_in_evaluation_mode_while_one_trains(method: str) -> None:
    agent, phases = build(method)
    for phase in phases:
        modes: list[tuple[bool, bool, bool]] = []
        inner = phase.losses

        def losses(inner=inner, modes=modes):  # type: ignore[no-untyped-def]
            modes.append((agent.tokenizer.training, agent.world_model.training, agent.policy.training))
            return inner()

        phase.losses = losses
        phase.train(EPOCH)
        assert set(modes) == {tuple(other is phase for other in phases)}


@every_method
def test_updates_wait_for_nothing(method: str) -> None:
    """From the draw of the segments to the optimiser's step."""
    _, phases = build(method)
    for phase in phases:
        phase.train(EPOCH)  # what is made once
        phase.module.train()
        with without_synchronisation():
            phase.update()


@pytest.mark.parametrize(
    ("method", "decoding"), [(method, decoding.name) for method in METHODS for decoding in DECODINGS[method]]
)
@pytest.mark.parametrize("backbone", [backbone.name for backbone in Backbone])
def test_every_phase_runs_on_every_backbone(method: str, backbone: str, decoding: str) -> None:
    _, phases = build(method, f"model.backbone={backbone}", f"model.decoding={decoding}")
    train(phases)


@pytest.mark.parametrize("method", ["iris", "delta_iris"])
def test_no_burn_in_needs_a_context_of_one_frame(method: str) -> None:
    _, phases = build(method, "training.actor_critic.burn_in=0")
    train(phases)


@every_variant
def test_the_same_streams_give_the_same_updates(method: str, variant: str | None) -> None:
    results = []
    for _ in range(2):
        agent, phases = build(method, variant=variant)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            means = [{name: value.item() for name, value in phase.train(EPOCH).items()} for phase in phases]
        results.append((means, snapshot(agent)))
    assert results[0][0] == results[1][0] and are_equal(results[0][1], results[1][1])


@pytest.mark.parametrize(
    ("method", "task"), [*((method, "atari/Alien") for method in METHODS), ("delta_iris", "crafter/Reward")]
)
def test_backbones_are_of_equal_size(method: str, task: str) -> None:
    """Within 5 %: a comparison of backbones is not one of sizes."""
    own = count(published(method, task=task).world_model.backbone)
    for backbone in Backbone:
        size = count(published(method, f"model.backbone={backbone.name}", task=task).world_model.backbone)
        assert abs(size / own - 1) < 0.05, (backbone, size, own)


def test_an_unknown_method_is_an_error() -> None:
    with pytest.raises(UserError, match="unknown method 'irsi': did you mean iris"):
        methods.get("irsi")
