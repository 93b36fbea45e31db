"""IRIS, REM and M3: unusual settings, the context of imagination, the priorities of segments, published sizes."""

import math
from dataclasses import replace

import pytest
import torch

from tests import small
from tests.methods.support import (
    EPOCH,
    are_equal,
    build,
    build_agent,
    configure,
    count,
    drawn_by,
    published,
    replay,
    snapshot,
    train,
)
from tokenworlds.agents.imagination import ImaginationNoise, imagine
from tokenworlds.agents.token import TokenAgent, TokenContext
from tokenworlds.config import ImaginationStart, TokenRunConfig, TokenWorldModelConfig
from tokenworlds.envs import ActionSpec, ContinuousActions, EnvironmentSpec, ModalitySpec, MultiDiscreteActions
from tokenworlds.methods import token as token_agent
from tokenworlds.replay import PrioritisedSampler
from tokenworlds.replay.prioritised import NEW
from tokenworlds.rng import RandomStreams

# with 16 tokens at most, in a burn-in of more frames
AT_ACTIONS = (
    "model.world_model.read_out=action",
    "quirks.imagination_start=aligned",
    *(f"collection.{kind}.final_observation=false" for kind in ("train", "test")),
)
LEARNING_BURN_IN = (
    "quirks.burn_in_actions=published",
    "model.policy.input=codes",
    "model.policy.action_input=true",
    "training.actor_critic.burn_in=17",
)


@pytest.mark.parametrize("method", ["iris", "rem"])
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
        ("model.policy.input=codes", "model.policy.action_input=true", "quirks.burn_in_actions=every"),
        (*LEARNING_BURN_IN, "training.precision=bf16"),
        (*LEARNING_BURN_IN, "training.actor_critic.gradient_accumulation=2"),
        ("model.world_model.context=3",),
        ("quirks.shared_prediction_token=true", "model.decoding=pop"),
        ("quirks.frozen_action_embeddings=true", "model.decoding=autoregressive"),
        ("model.world_model.rewards=two_hot", "model.policy.values=two_hot"),
        ("training.actor_critic.stop_at_end=true",),
    ],
    ids=lambda overrides: overrides[0],
)
def test_every_component_runs_with(method: str, overrides: tuple[str, ...]) -> None:
    _, components = build(method, *overrides)
    train(components)


@pytest.mark.parametrize(
    "overrides",
    [
        ("training.actor_critic.burn_in=1",),
        ("training.actor_critic.horizon=12",),  # longer than the context
        ("training.precision=bf16",),
        ("training.actor_critic.gradient_accumulation=2", "training.world_model.gradient_accumulation=2"),
        ("quirks.imagination_start=aligned", "quirks.entropy_of_last=false"),
        ("training.actor_critic.stop_at_end=true", "training.actor_critic.return_window=null"),
        ("training.actor_critic.critic_warmup_epochs=1",),
        ("model.policy.separate_critic=true", "model.policy.recurrence=gru"),
        ("model.policy.fuser=[16, 8]", "quirks.burn_in_actions=every"),
        ("model.policy.input=pixels",),
        AT_ACTIONS,
        (*AT_ACTIONS, "model.decoding=autoregressive"),
        ("model.world_model.embeddings=own", "quirks.shared_prediction_token=true"),
        ("model.tokenizer.quantiser=fsq",),
        ("model.backbone=transformer", "model.world_model.transformer.suffix_attention=full"),
        ("quirks.priority_lag=3", "training.uniform_fraction=0"),
    ],
    ids=" ".join,
)
def test_every_component_of_m3_runs_with(overrides: tuple[str, ...]) -> None:
    _, components = build("m3", *overrides)
    train(components)


SYMBOLS = {name: part for name, part in small.MODALITIES.items() if name != "image"}
ACTIONS = (small.DISCRETE, MultiDiscreteActions((3, 2, 4)), ContinuousActions(2))


@pytest.mark.parametrize("actions", ACTIONS, ids=lambda actions: type(actions).__name__)
@pytest.mark.parametrize("seen", [*({name: part} for name, part in SYMBOLS.items()), small.MODALITIES], ids=" ".join)
def test_m3_learns_from_any_observations_with_any_actions(seen: dict[str, ModalitySpec], actions: ActionSpec) -> None:
    """Where no modality is learned, there is no tokenizer to train."""
    agent, components = build("m3", seen=EnvironmentSpec(seen, actions))
    learns = "image" in seen
    assert agent.tokenizer.learns == learns
    names = ["tokenizer", "world_model", "actor_critic"]
    assert [component.name for component in components] == (names if learns else names[1:])
    before = snapshot(agent)
    train(components)
    after = snapshot(agent)
    for part in ("world_model", "policy"):
        assert not are_equal(*({k: v for k, v in of.items() if k.startswith(part)} for of in (before, after)))


def test_continuous_actions_may_be_one_token() -> None:
    seen = EnvironmentSpec(SYMBOLS, ContinuousActions(3))
    tokens = []
    for is_tokenized in (True, False):
        agent, components = build("m3", f"model.world_model.tokenized_actions={is_tokenized}", seen=seen)
        train(components)
        tokens.append(agent.world_model.layout.action_tokens)
    assert tokens == [3, 1]


@pytest.mark.parametrize("component", ["tokenizer", "world_model"])
def test_held_out_losses_of_every_modality(component: str) -> None:
    """Of all steps, the last batches of any size."""
    config, seen = configure("m3"), small.mixed_spec()
    config = replace(config, evaluation=replace(config.evaluation, tokenizer_batch_size=3, world_model_batch_size=3))
    agent, buffer = build_agent(config, seen), small.buffer([7, 9, 4], spec=seen)
    assert isinstance(config, TokenRunConfig) and isinstance(agent, TokenAgent)
    with torch.no_grad():
        found = [losses.total for losses in token_agent.held_out(config, agent, buffer, component)]
    assert len(found) > 1 and all(loss.isfinite() and loss > 0 for loss in found)


# The context of imagination


def learner(method: str, *overrides: str) -> token_agent.Learner:
    config = configure(method, *overrides)
    agent = build_agent(config)
    assert isinstance(config, TokenRunConfig) and isinstance(agent, TokenAgent)
    return token_agent.Learner(config, agent, replay(config.environment.train.size), RandomStreams(0, small.CPU))


@pytest.mark.parametrize(
    ("method", "start", "is_final_stored"),
    [
        ("m3", ImaginationStart.legacy, True),
        ("m3", ImaginationStart.aligned, True),
        ("rem", ImaginationStart.aligned, True),
        ("rem", ImaginationStart.aligned, False),
    ],
    ids=["m3 legacy", "m3 aligned", "rem with final observations", "rem"],
)
def test_imagination_starts_behind_or_ahead_of_the_world_model(
    method: str, start: ImaginationStart, is_final_stored: bool
) -> None:
    """Of T stored observations, of which the last may be an episode's final one, the world model of published M3 gets
    those up to T-2, and its policy, burnt in on all before T-1, first observes T-1. The repair: both start at T-2.
    Where no final observations are stored, both start at T-1."""
    key, stored = "training.actor_critic", f"collection.train.final_observation={is_final_stored}"
    read_out = f"model.world_model.read_out={'prediction' if is_final_stored else 'action'}"
    sizes = (f"{key}.burn_in=4", f"{key}.batch_size=8")
    training = learner(method, f"quirks.imagination_start={start.name}", stored, read_out, *sizes)
    agent, context = training.agent, training.model.world_model.context
    component = training.actor_critic(training.tokenizer())
    rolled, warmed = small.calls_of(training, "rollout"), small.calls_of(agent.policy, "burn_in")
    segments = drawn_by(component)
    component.train(EPOCH)
    is_legacy = start is ImaginationStart.legacy
    assert context == 2 and len(segments) == len(rolled) == len(warmed) == 2
    for some, ((given, *_), imagined), ((seen, actions, mask), _) in zip(segments, rolled, warmed):
        last = some.mask.shape[1] - 1 - is_final_stored  # step of the world model's observation
        first = last + is_legacy  # of what the policy sees first
        assert last == 4 and some.mask[:, last - context + 1 :].all()
        tokens = agent.tokens(training.buffer.read(some.rows))
        assert torch.equal(given.tokens, tokens[:, last - context + 1 : last + 1])
        assert torch.equal(given.actions, some.actions[:, last - context + 1 : last])
        assert torch.equal(given.first_tokens, tokens[:, first]) if is_legacy else given.first_tokens is None
        assert torch.equal(imagined.observations[:, 0], agent.policy_input(tokens[:, first]))
        before = agent.policy_input(tokens[:, :first].flatten(0, 1)).unflatten(0, mask.shape)
        assert torch.equal(seen, before) and torch.equal(mask, some.mask[:, :first])
        assert torch.equal(actions, some.actions[:, :first])
    assert not torch.cat([some.mask for some in segments]).all()  # some segments begin before their episode


def test_a_rollout_of_the_published_length_reads_its_context_once() -> None:
    """max_blocks - context + 1 looks, told of the last action too, without forgetting what was before."""
    config = configure("m3")
    agent, world = build_agent(config), config.model.world_model
    assert isinstance(world, TokenWorldModelConfig) and isinstance(agent, TokenAgent)
    horizon = world.max_blocks - world.context + 1
    starts = small.calls_of(agent.world_model, "start")
    tokens, actions = small.tokens(agent.tokenizer.layout, 2, world.context), torch.zeros(2, world.context - 1).long()
    noise = ImaginationNoise.sample(horizon, agent.num_tokens, 2, small.generator())
    imagine(agent, TokenContext(tokens, actions), agent.policy.initial_state(2), noise, to_the_end=True)
    assert len(starts) == 1


# Priorities


def test_the_last_loss_of_a_segment_is_its_priority() -> None:
    """Through a whole epoch; those that were not drawn keep that of new ones."""
    training = learner("m3", "training.world_model.updates_per_epoch=3")
    component, found = training.world_model(training.tokenizer()), small.calls_of(training.agent.world_model, "loss")
    segments = drawn_by(component)
    component.train(EPOCH)
    assert isinstance(component.sampler, PrioritisedSampler) and len(found) == len(segments) == 3
    expected: dict[int, float] = {}
    for some, (_, losses) in zip(segments, found):
        assert some.rows.shape == (4, training.training.sequence_length)
        expected |= dict(zip(some.rows[:, 0].tolist(), losses.segments.tolist()))
    priorities = component.sampler.state()["priorities"].tolist()
    given = {row: value for row, value in enumerate(priorities) if value > -math.inf}
    drawn = {row: given[row] for row in expected}
    assert drawn == pytest.approx(expected) and len(set(expected.values())) > 4
    assert {value for row, value in given.items() if row not in expected} == {NEW}


def test_only_the_critic_learns_while_it_warms_up() -> None:
    agent, (*_, component) = build("m3", "training.actor_critic.critic_warmup_epochs=2")
    for epoch in (1, 2, 3):
        actor, critic = agent.policy.actor.weight.clone(), agent.policy.critic.weight.clone()
        means = component.train(epoch)
        is_warming_up = epoch < 3
        for name in ("loss_actions", "loss_entropy"):
            assert (means[name] == 0) == is_warming_up
        assert torch.equal(agent.policy.actor.weight, actor) == is_warming_up
        assert not torch.equal(agent.policy.critic.weight, critic)


# Sizes


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
