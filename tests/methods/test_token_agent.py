"""IRIS and REM as a whole: no gradient crosses the border of a component, every phase runs with every variant,
backbone and decoding and at unusual settings, and the parts have the published sizes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests import small
from tokenworlds import methods
from tokenworlds.agent import Agent
from tokenworlds.config import Backbone, Decoding, load
from tokenworlds.envs import EnvironmentSpec, ImageSpec
from tokenworlds.errors import UserError
from tokenworlds.replay import ReplayBuffer
from tokenworlds.rng import RandomStreams
from tokenworlds.training.phase import Phase

SIZE = 32  # 4 or 16 tokens a frame, whatever the tokenizer
OVERRIDES = (
    "task=minigrid/Empty-5x5",
    "scale=smoke",
    f"environment.train.size={SIZE}",
    f"environment.test.size={SIZE}",
    "model.tokenizer.residual.attn_resolutions=[4]",
    "model.tokenizer.residual.num_res_blocks=0",
    *(f"training.{part}.updates_per_epoch=2" for part in ("tokenizer", "world_model", "actor_critic")),
    "runtime.device=cpu",
)
METHODS = ("iris", "rem")
VARIANTS = (
    ("iris", "block-causal"),
    ("iris", "64-tokens"),
    ("rem", "no-pop"),
    ("rem", "4x4-tokenizer"),
    ("rem", "no-latent-ac"),
    ("rem", "separate-embeddings"),
    ("rem", "no-action-input"),
)
every_method = pytest.mark.parametrize("method", METHODS)
every_variant = pytest.mark.parametrize(("method", "variant"), (*((method, None) for method in METHODS), *VARIANTS))


def spec(size: int, actions: int) -> EnvironmentSpec:
    return EnvironmentSpec({"image": ImageSpec(size, size)}, actions, tuple(map(str, range(actions))))


def replay() -> ReplayBuffer:
    """Three episodes of random steps."""
    lengths, draws = [7, 9, 4], small.generator()
    buffer = ReplayBuffer({"image": (3, SIZE, SIZE)}, sum(lengths), small.CPU)
    for length in lengths:
        frames = torch.randint(0, 256, (length, 3, SIZE, SIZE), generator=draws, dtype=torch.uint8)
        actions = torch.randint(small.ACTIONS, (length,), generator=draws)
        rewards = torch.randn(length, generator=draws)
        buffer.extend({"image": frames}, actions, rewards, torch.arange(length) == length - 1)
    return buffer


def build(method: str, *overrides: str, variant: str | None = None) -> tuple[Agent, list[Phase]]:
    chosen = (f"variant={variant}",) if variant else ()
    config = load([f"method={method}", *OVERRIDES, *chosen, *overrides])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        agent = methods.get(method).build_agent(config, spec(SIZE, small.ACTIONS))
    return agent, methods.get(method).build_phases(config, agent, replay(), RandomStreams(0, small.CPU))


def train(phases: list[Phase]) -> None:
    """One epoch's updates of every component; all losses and gradient norms are numbers."""
    for phase in phases:
        means = phase.train()
        assert all(value.isfinite() for value in means.values()), phase.name


@every_method
def test_components_are_trained_in_the_published_order(method: str) -> None:
    _, phases = build(method)
    assert [phase.name for phase in phases] == ["tokenizer", "world_model", "actor_critic"]


@every_variant
def test_each_phase_changes_its_own_component_alone(method: str, variant: str | None) -> None:
    agent, phases = build(method, variant=variant)
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


@every_variant
def test_every_parameter_is_trained(method: str, variant: str | None) -> None:
    _, phases = build(method, variant=variant)
    for phase in phases:
        phase.train()
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
        phase.train()
        assert set(modes) == {tuple(other is phase for other in phases)}


@every_method
@pytest.mark.parametrize("decoding", [decoding.name for decoding in Decoding])
@pytest.mark.parametrize("backbone", [backbone.name for backbone in Backbone])
def test_every_phase_runs_on_every_backbone(method: str, backbone: str, decoding: str) -> None:
    _, phases = build(method, f"model.backbone={backbone}", f"model.decoding={decoding}")
    train(phases)


@every_method
@pytest.mark.parametrize(
    "overrides",
    [
        ("training.actor_critic.burn_in=1",),
        ("training.actor_critic.horizon=12",),  # longer than the context
        ("training.precision=bf16",),
        ("training.actor_critic.gradient_accumulation=2", "training.world_model.gradient_accumulation=2"),
        ("model.backbone=transformer", "model.world_model.transformer.attention=block_causal"),
        ("training.sequence_length=1", "model.world_model.unscored_blocks=0"),
        ("training.sampling=episodes",),
        ("training.sampling=segments",),
        ("model.policy.recurrence=gru",),
        ("model.policy.input=codes", "model.policy.action_input=true", "model.policy.burn_in_actions=every"),
        ("model.world_model.context=3",),
        ("model.world_model.shared_prediction_token=true", "model.decoding=pop"),
        ("model.world_model.frozen_action_embeddings=true", "model.decoding=autoregressive"),
    ],
    ids=lambda overrides: overrides[0],
)
def test_every_phase_runs_with(method: str, overrides: tuple[str, ...]) -> None:
    _, phases = build(method, *overrides)
    train(phases)


def test_no_burn_in_needs_a_context_of_one_frame() -> None:
    _, phases = build("iris", "training.actor_critic.burn_in=0")
    train(phases)


@every_variant
def test_the_same_streams_give_the_same_updates(method: str, variant: str | None) -> None:
    results = []
    for _ in range(2):
        agent, phases = build(method, variant=variant)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            means = [{name: value.item() for name, value in phase.train().items()} for phase in phases]
        results.append((means, [parameter.detach().clone() for parameter in agent.parameters()]))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(one, other) for one, other in zip(results[0][1], results[1][1]))


# Sizes


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def published(method: str, *overrides: str, actions: int = 18) -> Agent:
    """The networks of the published size."""
    config = load([f"method={method}", "task=atari/Alien", "model.tokenizer.perceptual=none", *overrides])
    return methods.get(method).build_agent(config, spec(64, actions))


@pytest.mark.parametrize(
    ("variant", "tokenizer", "world_model", "policy"),
    [
        (None, 3_189_667, 4_760_581, 4_586_707),
        ("no-pop", 3_189_667, 4_743_941, 4_586_707),
        ("4x4-tokenizer", 7_339_043, 4_748_293, 3_013_843),
        ("no-latent-ac", 3_189_667, 4_760_581, 3_225_139),
    ],
)
def test_rem_has_the_published_number_of_parameters(
    variant: str | None, tokenizer: int, world_model: int, policy: int
) -> None:
    agent = published("rem", *([f"variant={variant}"] if variant else []))
    assert count(agent.tokenizer) == tokenizer and count(agent.policy) == policy
    # The original's tables have rows that nothing uses: of observation tokens (which the codebook embeds), of padding,
    # of the action among the prediction tokens.
    unused = 256 * (512 + 1 + (variant != "no-pop"))
    assert count(agent.world_model) == world_model - unused


@every_method
def test_backbones_are_of_equal_size(method: str) -> None:
    """Within 5 %: a comparison of backbones is not one of sizes."""
    own = count(published(method).world_model.backbone)
    for backbone in Backbone:
        size = count(published(method, f"model.backbone={backbone.name}").world_model.backbone)
        assert abs(size / own - 1) < 0.05, (backbone, size, own)


def test_an_unknown_method_is_an_error() -> None:
    with pytest.raises(UserError, match="unknown method 'irsi': did you mean iris"):
        methods.get("irsi")
