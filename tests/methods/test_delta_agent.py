"""Delta-IRIS: the data of each component, the policy's training in imagination, and the published sizes."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

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
    published_config,
    replay,
    snapshot,
    train,
)
from tokenworlds.actor_critic import actor_critic_losses, lambda_returns, until_end
from tokenworlds.actor_critic.losses import Trajectory
from tokenworlds.agents.delta import DeltaAgent, DeltaContext
from tokenworlds.config import DeltaRunConfig, Scalar
from tokenworlds.methods import delta as delta_agent
from tokenworlds.methods.component import ComponentTrainer
from tokenworlds.replay import LeastUsedSampler, ReplayBuffer, Segments
from tokenworlds.rng import RandomStreams
from tokenworlds.tokenizers.pictures import to_float


def learner(*overrides: str) -> delta_agent.Learner:
    """With random end flags in imagination, and a target that is not the policy."""
    config = configure("delta_iris", *overrides)
    agent = build_agent(config)
    assert isinstance(config, DeltaRunConfig) and isinstance(agent, DeltaAgent)
    small.spread(agent.target, seed=5)
    small.spread(agent.policy, seed=6)
    buffer = replay(config.environment.train.size)
    return delta_agent.Learner(config, agent, buffer, RandomStreams(0, small.CPU))


@pytest.mark.parametrize(
    "overrides",
    [
        ("training.actor_critic.burn_in=1",),
        ("training.actor_critic.horizon=1",),
        ("training.precision=bf16", "training.actor_critic.precision=bf16"),
        ("training.actor_critic.gradient_accumulation=2", "training.world_model.gradient_accumulation=2"),
        ("model.world_model.rewards=two_hot", "model.policy.values=two_hot"),
        ("model.policy.recurrence=gru",),
        ("training.sequence_length=2", "training.tokenizer_sequence_length=2"),
        ("training.actor_critic.stop_at_end=false",),
        ("model.tokenizer.revival_updates=null", "training.sampling_exponent=5"),
    ],
    ids=lambda overrides: overrides[0],
)
def test_every_component_runs_with(overrides: tuple[str, ...]) -> None:
    _, components = build("delta_iris", *overrides)
    train(components)


# Segments and delta tokens of each component


def test_each_component_draws_segments_of_its_own_length_and_kind() -> None:
    """Those of the policy end with a real step: imagination starts there."""
    settings = ("training.tokenizer_sequence_length=3", "training.sequence_length=4", "training.actor_critic.burn_in=5")
    _, components = build("delta_iris", *settings, "model.world_model.max_blocks=12")
    lengths = {"tokenizer": 3, "world_model": 4, "actor_critic": 6}
    for component in components:
        segments = drawn_by(component)
        component.train(EPOCH)
        assert len(segments) == 2
        masks = torch.cat([some.mask for some in segments])
        assert masks.shape == (4, lengths[component.name])
        assert component.name != "actor_critic" or masks[:, -1].all()
        assert isinstance(component.sampler, LeastUsedSampler)


def test_each_component_counts_its_own_draws_from_the_second_epoch_on() -> None:
    _, components = build("delta_iris", "training.tokenizer.updates_first_epoch=3")
    for component in components:
        component.train(1)
        assert component.updates == (3 if component.name == "tokenizer" else 2)
        assert not component.sampler.state()["uses"].any()
    components[0].train(2)
    assert [int(component.sampler.state()["uses"].sum()) for component in components] == [2 * 2, 0, 0]


@pytest.mark.parametrize("updates", [1, 3], ids=["encoded at the draw", "encoded beforehand"])
def test_the_world_model_learns_the_tokens_of_the_frozen_tokenizer(updates: int) -> None:
    training = learner(f"training.world_model.updates_per_epoch={updates}")
    agent, tokenizer = training.agent, training.tokenizer()
    world_model = training.world_model(tokenizer)
    segments, learnt = drawn_by(world_model), small.calls_of(agent.world_model, "loss")
    for epoch in (2, 3):
        tokenizer.train(epoch)
        before = agent.tokenizer.quantiser.updates.clone()
        world_model.train(epoch)
        assert training.transitions._is_filled == (updates * 2 * 4 > training.buffer.num_steps)
        assert agent.tokenizer.quantiser.updates == before
        for some, (given, _) in zip(segments, learnt):
            frames = to_float(some.observations["image"])
            expected = (
                frames,
                some.actions,
                agent.tokens(frames, some.actions[:, :-1]),
                some.rewards,
                some.terminations,
            )
            assert all(torch.equal(*pair) for pair in zip(given, (*expected, some.mask)))
        assert len(learnt) == updates
        segments.clear()
        learnt.clear()


@pytest.mark.parametrize(("precision", "imagined"), [("bf16", "tf32"), ("tf32", "bf16"), ("bf16", "null")])
def test_precision_is_that_of_the_component(precision: str, imagined: str) -> None:
    """Published: bfloat16 for tokenizer and world model, the encoding of the delta tokens that it learns from included;
    everything in imagination in full precision. Of this the encoding remains so, whatever the setting."""
    training = learner(f"training.precision={precision}", f"training.actor_critic.precision={imagined}")
    tokenizer = training.tokenizer()
    components = [tokenizer, training.world_model(tokenizer), training.actor_critic(tokenizer)]
    networks: dict[str, set[bool]] = {component.name: set() for component in components}
    encoder: dict[str, set[bool]] = {component.name: set() for component in components}
    running: list[str] = []
    for name, module in training.agent.named_modules():
        found = encoder if name.startswith(("tokenizer.encoder", "tokenizer.quantiser.project_in")) else networks
        module.register_forward_pre_hook(
            lambda *_, found=found: found[running[-1]].add(torch.is_autocast_enabled("cpu"))
        )
    for component in components:
        running.append(component.name)
        component.train(EPOCH)
    learning, imagination = {precision == "bf16"}, {(precision if imagined == "null" else imagined) == "bf16"}
    assert networks == {"tokenizer": learning, "world_model": learning, "actor_critic": imagination}
    assert encoder == {"tokenizer": learning, "world_model": learning, "actor_critic": {False}}


@pytest.mark.parametrize("imagined", ["bf16", "tf32", "null"])
def test_imagination_starts_behind_the_tokens_of_full_precision(imagined: str) -> None:
    """Encoded at the draw or known, also where those of bfloat16 are known, some of which differ."""
    training = learner("training.precision=bf16", f"training.actor_critic.precision={imagined}")
    agent, starts = training.agent, []
    component = actor_critic_without_networks(training, starts)
    training.transitions.refresh(0, 10_000)
    segments = drawn_by(component)
    for draws in (0, 10_000):
        training.past_transitions.refresh(0, draws)
        component.sampler.refresh(EPOCH)
        with pytest.raises(Begun):
            component.losses()
    for some, (_, _, deltas) in zip(segments, starts, strict=True):
        assert torch.equal(deltas, agent.tokens(to_float(some.observations["image"]), some.actions[:, :-1]))
    assert len(starts) == 2 and training.past_transitions._is_filled
    assert not torch.equal(training.transitions._leaving, training.past_transitions._leaving)


class Begun(Exception):
    """Imagination would start now."""


def actor_critic_without_networks(training: delta_agent.Learner, starts: list[DeltaContext]) -> ComponentTrainer:
    """A component that stops where imagination starts, and writes down from what."""

    def stop(context: DeltaContext, *_: Any) -> Trajectory:
        starts.append(context)
        raise Begun

    training.rollout = stop
    return training.actor_critic(training.tokenizer())


def test_each_precision_is_made_known_for_its_own_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both are the same tokens, for whichever component draws more of them."""
    settings = ("training.precision=bf16", "training.actor_critic.precision=tf32", "training.actor_critic.burn_in=5")
    training = learner(*settings)
    tokenizer = training.tokenizer()
    asked: list[tuple[str, int]] = []
    for name in ("transitions", "past_transitions"):
        cache = getattr(training, name)
        monkeypatch.setattr(cache, "refresh", lambda updates, draws, name=name: asked.append((name, draws)))
    training.world_model(tokenizer).prepare(9)
    training.actor_critic(tokenizer).prepare(2)
    assert asked == [("transitions", 9 * 2 * 4), ("past_transitions", 2 * 2 * 6)]


# Actor-critic


def actor_critic(training: delta_agent.Learner) -> ComponentTrainer:
    return training.actor_critic(training.tokenizer())


@pytest.mark.parametrize(("burn_in", "draws"), [(1, 16), (5, 24)], ids=["fewer", "more"])
def test_imagination_knows_the_delta_tokens_that_the_world_model_learned_from(
    burn_in: int, draws: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The larger of the two numbers of draws decides whether the cache is filled, not their sum."""
    training = learner(f"training.actor_critic.burn_in={burn_in}")
    tokenizer = training.tokenizer()
    component = training.actor_critic(tokenizer)
    asked: list[tuple[int, int]] = []
    tokenizer.updates = 7
    monkeypatch.setattr(training.transitions, "refresh", lambda *given: asked.append(given))
    component.train(EPOCH)
    world_model, own = training.training.world_model, training.training.actor_critic
    read = world_model.updates_per_epoch * world_model.gradient_accumulation * world_model.batch_size
    read *= training.training.sequence_length
    assert asked == [(7, draws)] and {read, own.updates_per_epoch * own.batch_size * (burn_in + 1)} >= {16, draws}


def test_the_policy_takes_one_step_more_than_the_horizon_from_the_real_frame_on() -> None:
    training = learner("training.actor_critic.batch_size=3", "training.actor_critic.horizon=4")
    component, rolled = actor_critic(training), small.calls_of(training, "rollout")
    segments = drawn_by(component)
    component.train(EPOCH)
    assert len(rolled) == len(segments) == 2
    for (((frames, past_actions, _), state, _), imagined), some in zip(rolled, segments):
        assert torch.equal(frames, to_float(some.observations["image"])) and frames.shape[:2] == (3, 2 + 1)
        assert torch.equal(past_actions, some.actions[:, :-1])
        assert imagined.observations.shape[:2] == (3, 4 + 1) and imagined.rewards.shape == (3, 4)
        assert torch.equal(imagined.observations[:, 0], frames[:, -1])
        assert state.hidden.shape == (3, 32) and not imagined.observations.requires_grad


def test_policy_and_target_are_warmed_up_by_all_frames_before_black_ones_included() -> None:
    """Each with its own state."""
    training = learner("training.actor_critic.burn_in=6", "training.actor_critic.batch_size=8")
    agent, component = training.agent, actor_critic(training)
    ours, theirs = (small.calls_of(policy, "burn_in") for policy in (agent.policy, agent.target))
    segments = drawn_by(component)
    training.agent.train()
    component.losses()
    ((some,), (((seen, actions, mask), state),), ((target_past, target_state),)) = segments, ours, theirs
    assert not some.mask.all()  # some segments begin before their episode
    assert torch.equal(seen, to_float(some.observations["image"])[:, :-1]) and mask.all() and mask.shape == (8, 6)
    assert all(torch.equal(*pair) for pair in zip((seen, actions, mask), target_past))
    assert torch.equal(actions, some.actions[:, :-1])
    assert not torch.equal(state.hidden, target_state.hidden)


@pytest.mark.parametrize("values", [Scalar.regression, Scalar.two_hot], ids=lambda kind: kind.name)
def test_losses_are_those_of_the_imagined_steps_up_to_the_first_end_judged_by_the_target(values: Scalar) -> None:
    training = learner(f"model.policy.values={values.name}", "training.actor_critic.batch_size=4")
    agent, config, rolled = training.agent, training.training.actor_critic, small.calls_of(training, "rollout")
    assert config.stop_at_end and config.target_decay == 0.995
    small.spread(agent.world_model, seed=3)
    losses = actor_critic(training).losses()
    ((((frames, past_actions, _), state, _), imagined),) = rolled
    mask = until_end(imagined.terminations)
    assert imagined.terminations.any() and not mask.all()
    target = build_agent(configure("delta_iris", f"model.policy.values={values.name}")).policy
    small.spread(target, seed=5)  # as the target was
    target_state = target.burn_in(frames[:, :-1], past_actions, torch.ones_like(past_actions, dtype=torch.bool))
    with torch.no_grad():
        judged = target.values.mean(target.unroll(imagined.observations, imagined.actions, target_state)[1])
    logits, outputs, _ = agent.policy.unroll(imagined.observations[:, :-1], imagined.actions[:, :-1], state)
    expected = actor_critic_losses(
        logits,
        outputs,
        imagined.actions[:, :-1],
        lambda_returns(imagined.rewards, judged, imagined.terminations, config.gamma, config.lambda_),
        judged[:, :-1],
        agent.policy.values,
        agent.policy.actions,
        entropy_weight=config.entropy_weight,
        mask=mask,
    )
    for name, value in expected.named().items():
        torch.testing.assert_close(losses.named()[name], value)


def test_the_target_follows_before_the_optimisers_step() -> None:
    """The policy's weights that it takes over are those from before the update: once a batch."""
    training = learner("training.actor_critic.gradient_accumulation=2", "training.actor_critic.learning_rate=0.1")
    agent, component = training.agent, actor_critic(training)
    target, policy = snapshot(agent.target), snapshot(agent.policy)
    seen: list[dict[str, Tensor]] = []
    component.optimizer.register_step_pre_hook(lambda *_: seen.append(snapshot(agent.target)))
    component.module.train()
    component.update()
    assert not are_equal(snapshot(agent.policy), policy)
    for name, value in snapshot(agent.target).items():
        torch.testing.assert_close(value, 0.995**2 * target[name] + (1 - 0.995**2) * policy[name])
        assert torch.equal(value, seen[0][name])


# Evaluation


@torch.no_grad()
def test_held_out_losses_are_those_of_consecutive_chunks() -> None:
    """Of all episodes together; the rest of an episode that holds no transition is left out. Nothing is learnt."""
    config = configure("delta_iris", "evaluation.tokenizer_batch_size=2", "evaluation.world_model_batch_size=3")
    agent = build_agent(config)
    assert isinstance(config, DeltaRunConfig) and isinstance(agent, DeltaAgent)
    buffer, before = small.buffer([6, 1, 4]), snapshot(agent)

    def chunks(length: int, *places: tuple[int, int]) -> Segments:
        return buffer.segments(*(torch.tensor(part) for part in zip(*places)), length)

    found = list(delta_agent.held_out(config, agent, buffer, "tokenizer"))
    batches = [chunks(3, (0, 0), (0, 3)), chunks(3, (2, 0))]
    assert len(found) == len(batches)
    for losses, some in zip(found, batches):
        expected = agent.tokenizer.loss(some.observations["image"], some.actions, some.mask)
        assert losses.named() == expected.named() and not losses.measured
    found = list(delta_agent.held_out(config, agent, buffer, "world_model"))
    batches = [chunks(4, (0, 0), (0, 4), (2, 0))]
    assert len(found) == len(batches)
    for losses, some in zip(found, batches):
        frames = to_float(some.observations["image"])
        given = (
            frames,
            some.actions,
            agent.tokens(frames, some.actions[:, :-1]),
            some.rewards,
            some.terminations,
            some.mask,
        )
        expected = agent.world_model.loss(*given)
        assert losses.named() == expected.named() and losses.measured == expected.measured
    assert are_equal(snapshot(agent), before)
    assert list(delta_agent.held_out(config, agent, small.buffer([1, 1]), "world_model")) == []


# Sizes


@pytest.mark.parametrize(
    ("task", "actions", "tokenizer", "world_model", "policies"),
    [("crafter/Reward", 17, 5_409_611, 11_948_457, 7_490_432), ("atari/Alien", 9, 4_087_475, 3_578_537, 7_221_620)],
)
def test_the_agent_has_the_published_number_of_parameters(
    task: str, actions: int, tokenizer: int, world_model: int, policies: int
) -> None:
    agent = published("delta_iris", task=task, actions=actions)
    assert count(agent.tokenizer) == tokenizer and count(agent.world_model) == world_model
    assert count(agent.policy) + count(agent.target) == policies


def test_the_first_epoch_of_crafter_is_long() -> None:
    crafter, atari = (schedules(task) for task in ("crafter/Reward", "atari/Alien"))
    assert [component.updates_in(1) for component in crafter] == [5000, 2500, 500]
    assert [component.updates_in(2) for component in crafter] == [500, 500, 500] and all(
        component.is_active(1) for component in crafter
    )
    assert [component.updates_in(1) for component in atari] == [200, 120, 200]
    assert [[component.is_active(epoch) for epoch in (5, 6, 51, 76)].index(True) for component in atari] == [1, 2, 3]


def schedules(task: str) -> list[ComponentTrainer]:
    """Component trainers on the published schedule of a task, of tiny networks."""
    config = configure("delta_iris")
    assert isinstance(config, DeltaRunConfig)
    agent = build_agent(config)
    training = replace(published_config("delta_iris", task=task).training, precision=config.training.precision)
    buffer = ReplayBuffer(small.picture_spec(), 1, small.CPU)
    return delta_agent.build_components(replace(config, training=training), agent, buffer, RandomStreams(0, small.CPU))
