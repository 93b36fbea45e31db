"""What agents see, what they imagine from, and what a delta agent makes of it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests import small
from tokenworlds.agents.base import Agent
from tokenworlds.agents.chunks import chunk_size
from tokenworlds.agents.delta import DeltaAgent, DeltaContext
from tokenworlds.agents.imagination import ImaginationNoise, imagine
from tokenworlds.agents.token import TokenAgent
from tokenworlds.config import Backbone
from tokenworlds.ops.categorical import sample_categorical
from tokenworlds.replay import Segments

BATCH, FRAMES = 3, 3
AGENTS: dict[str, Callable[[], Agent]] = {
    "iris": small.agent,
    "rem": small.rem_agent,
    "m3": small.m3_agent,
    "delta_iris": small.delta_agent,
}


@pytest.fixture(scope="module", params=AGENTS)
def agent(request: pytest.FixtureRequest) -> Agent:
    return AGENTS[request.param]()


@pytest.fixture(scope="module")
def delta() -> DeltaAgent:
    return small.delta_agent()


def segments(length: int = FRAMES, first: int = 0) -> Segments:
    """Of three episodes of which the second is shorter than ``FRAMES`` and the last longer: a last real step each."""
    buffer = small.buffer([FRAMES, FRAMES - 1, FRAMES + 2], spec=small.mixed_spec())
    return buffer.segments(torch.arange(BATCH), buffer.lengths - length + first, length)


# All agents


@torch.no_grad()
def test_actions_are_drawn_at_a_temperature_from_what_is_seen(agent: Agent) -> None:
    observations = small.observations(small.mixed_spec(), BATCH)
    state = agent.policy.initial_state(BATCH)
    uniforms = torch.rand(1, BATCH, generator=small.generator())
    logits, _, after = agent.policy(agent.observe(observations), state)
    for temperature in (0.01, 1.0, 1e6):
        actions, found = agent.act(observations, state, small.generator(), temperature)
        assert torch.equal(actions, sample_categorical(logits / temperature, uniforms[0]))
        assert torch.equal(found.hidden, agent.policy.observe_action(actions, after).hidden)
    assert torch.equal(actions, (uniforms[0] * small.ACTIONS).long())  # at the last, uniform
    assert torch.equal(agent.act(observations, state, small.generator(), 0.0)[0], logits.argmax(dim=-1))


@torch.no_grad()
def test_padding_in_front_of_an_episode_is_skipped_or_taken_in(agent: Agent) -> None:
    """IRIS, REM and M3 wait for the first frame; Delta-IRIS looks at black frames before it."""
    padded = segments()
    assert padded.mask[1].tolist() == [False, True, True]
    state, alone = agent.burn_in(padded), agent.burn_in(padded.steps(slice(1, None)))
    is_same = torch.isclose(state.hidden, alone.hidden, atol=1e-6).all(dim=1)
    assert is_same.tolist() == [False, not isinstance(agent, DeltaAgent), False]
    flat = {name: values.flatten(0, 1) for name, values in padded.observations.items()}
    seen = agent.observe(flat).unflatten(0, (BATCH, FRAMES))
    expected = agent.policy.initial_state(BATCH)
    for t in range(FRAMES):
        _, _, after = agent.policy(seen[:, t], expected)
        if agent.policy.burn_in_every is not None:
            after = agent.policy.observe_action(padded.actions[:, t], after)
        is_taken = padded.mask[:, t] | agent.pads_burn_in
        expected = after.where(is_taken, expected)
    torch.testing.assert_close(state.hidden, expected.hidden)


@torch.no_grad()
def test_no_burn_in_is_the_initial_state(agent: Agent) -> None:
    state = agent.burn_in(segments().steps(slice(0, 0)))
    assert state.hidden.shape[0] == BATCH and not state.hidden.any()


@torch.no_grad()
def test_imagination_starts_from_the_last_frames_and_the_actions_between_them(agent: Agent) -> None:
    given = segments()
    context = agent.context(given)
    frames, past_actions, *_ = context
    count = agent.context_frames
    assert frames.shape[:2] == (BATCH, count)
    assert torch.equal(past_actions, given.actions[:, FRAMES - count : -1])
    state = agent.start(context)
    current = {name: values[:, -1] for name, values in given.observations.items()}
    torch.testing.assert_close(agent.observe_imagined(state), agent.observe(current))
    pictures = agent.render(state)
    assert pictures.shape == agent.render_segments(given)[:, -1].shape
    assert pictures.min() >= 0 and pictures.max() <= 1


@torch.no_grad()
def test_the_tokens_of_a_token_agent_say_what_it_sees() -> None:
    for agent in (small.agent(), small.rem_agent(), small.m3_agent()):
        given = segments()
        tokens = agent.tokens(given)
        first = {name: values[:, 0] for name, values in given.observations.items()}
        assert torch.equal(tokens[:, 0], agent.encode(first))
        none = {name: values[:0] for name, values in first.items()}
        assert agent.encode(none).shape == (0, agent.num_tokens)
        assert len(agent.observe(none)) == 0
        assert torch.equal(agent.context(given).tokens, tokens[:, -agent.context_frames :])
        flat = {name: values.flatten(0, 1) for name, values in given.observations.items()}
        torch.testing.assert_close(agent.observe(flat), agent.policy_input(tokens.flatten(0, 1)))
        reconstruction = agent.reconstruct(given)["reconstruction"]
        decoded = agent.decode(tokens.flatten(0, 1))
        torch.testing.assert_close(reconstruction.flatten(0, 1), agent.tokenizer.render(decoded))
        assert decoded["image"].shape[1:] == (3, small.RESOLUTION, small.RESOLUTION)


@torch.no_grad()
def test_an_agent_of_every_modality_sees_and_draws_them_all() -> None:
    agent, given, other = small.m3_agent(), segments(), small.observations(small.mixed_spec(), BATCH, seed=9)
    layout, tokens = agent.tokenizer.layout, agent.tokens(given)
    assert tokens.shape == (BATCH, FRAMES, agent.num_tokens) and agent.num_tokens > layout.num_tokens
    for name, where in layout.symbols.items():
        changed = segments()
        changed.observations[name][:, -1] = other[name]
        moved = (agent.tokens(changed) != tokens).any(dim=0)
        assert moved[-1, where].any() and moved.sum() == moved[-1, where].sum(), name
        for draw in (agent.render_segments, lambda some: agent.reconstruct(some)["reconstruction"]):
            assert not torch.equal(draw(changed)[:, -1], draw(given)[:, -1]), name


@pytest.mark.parametrize("make", [small.rem_agent, small.m3_agent])
@torch.no_grad()
def test_the_policy_may_first_observe_other_tokens(make: Callable[[], TokenAgent]) -> None:
    """Those behind the context's last; the world model starts from the context alone."""
    agent, given = make(), segments()
    context, tokens = agent.context(given.steps(slice(None, -1))), agent.tokens(given)[:, -1]
    ahead = context._replace(first_tokens=tokens)
    assert torch.equal(agent.first_input(ahead), agent.policy_input(tokens))
    assert torch.equal(agent.first_input(context), agent.observe_imagined(agent.start(ahead)))
    assert not torch.equal(agent.first_input(context), agent.first_input(ahead))
    noise = ImaginationNoise.sample(2, agent.num_tokens, BATCH, small.generator())
    trajectory = imagine(agent, ahead, agent.policy.initial_state(BATCH), noise)
    assert torch.equal(trajectory.observations[:, 0], agent.first_input(ahead))
    after, *_ = agent.step(agent.start(context), trajectory.actions[:, 0], noise.step(0))
    assert torch.equal(trajectory.observations[:, 1], agent.observe_imagined(after))


# The delta agent


def given_to(delta: DeltaAgent) -> tuple[Tensor, Tensor, Tensor]:
    """Frames and actions of the context, and its delta tokens by the tokenizer."""
    frames, actions, found = delta.context(segments())
    before, after = frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1)
    deltas: Tensor = delta.tokenizer.encode(before, actions.flatten(), after).unflatten(0, actions.shape)
    assert torch.equal(found, deltas)
    return frames, actions, deltas


def noise(delta: DeltaAgent, horizon: int = 1) -> ImaginationNoise:
    return ImaginationNoise.sample(horizon, delta.num_tokens, BATCH, small.generator())


def assert_8_bit(frames: Tensor) -> None:
    assert torch.equal(frames, (frames * 255).round() / 255) and frames.min() >= 0 and frames.max() <= 1


@torch.no_grad()
def test_delta_tokens_are_the_tokenizers_however_many_are_encoded_at_once(delta: DeltaAgent) -> None:
    frames, actions = small.frames(4, 4).float() / 255, torch.arange(12).view(4, 3) % small.ACTIONS
    assert actions.numel() > chunk_size(frames.device)
    found = delta.tokens(frames, actions)
    for b in range(4):
        assert torch.equal(found[b], delta.tokenizer.encode(frames[b, :-1], actions[b], frames[b, 1:]))
    assert len(found.unique()) > 3
    deltas = found.flatten(0, 1)
    whole = delta.tokenizer.decode(frames[:, :3].flatten(0, 1), actions.flatten(), deltas)
    pictures = delta.decode(frames[:, :3].flatten(0, 1), actions.flatten(), deltas)
    torch.testing.assert_close(pictures, whole, rtol=0, atol=1.01 / 255)  # rounding may fall the other way
    assert (pictures != whole).float().mean() < 1e-3
    assert_8_bit(pictures)


@torch.no_grad()
def test_a_delta_agent_starts_behind_the_transitions_of_its_context(delta: DeltaAgent) -> None:
    frames, actions, deltas = given_to(delta)
    state, expected = (
        delta.start(DeltaContext(frames, actions, deltas)),
        delta.world_model.start(frames, actions, deltas),
    )
    assert state.length == expected.length == 2 * (delta.num_tokens + 2) + 1
    assert torch.equal(state.backbone.keys[..., : state.length, :], expected.backbone.keys[..., : state.length, :])
    assert torch.equal(state.frames, frames[:, -1])
    alone = delta.start(DeltaContext(frames[:, -1:], actions[:, :0], deltas[:, :0]))
    assert alone.length == 1 and torch.equal(alone.frames, frames[:, -1])


@torch.no_grad()
def test_an_imagined_frame_is_decoded_from_the_frame_before_it_of_8_bits(delta: DeltaAgent) -> None:
    frames, actions, deltas = given_to(delta)
    taken = torch.tensor([0, 1, 2])
    state, rewards, ends = delta.step(delta.start(DeltaContext(frames, actions, deltas)), taken, noise(delta).step(0))
    _, drawn, *expected = delta.world_model.step(
        delta.world_model.start(frames, actions, deltas), taken, noise(delta).step(0)
    )
    assert drawn is not None
    assert torch.equal(state.frames, delta.tokenizer.decode(frames[:, -1], taken, drawn))
    assert torch.equal(rewards, expected[0]) and torch.equal(ends, expected[1])
    assert torch.equal(delta.observe_imagined(state), state.frames) and torch.equal(delta.render(state), state.frames)
    assert_8_bit(state.frames)
    assert not torch.equal(state.frames, frames[:, -1])


@pytest.mark.parametrize("backbone", [Backbone.transformer, Backbone.retnet], ids=lambda backbone: backbone.name)
@torch.no_grad()
def test_imagined_frames_are_read_by_the_steps_after_them(backbone: Backbone) -> None:
    """The parallel pass over frames, actions and delta tokens of a rollout gives its draws."""
    delta = small.delta_agent(backbone=backbone)
    frames, past_actions, deltas = given_to(delta)
    horizon = 4
    draws = noise(delta, horizon)
    trajectory = imagine(delta, DeltaContext(frames, past_actions, deltas), delta.policy.initial_state(BATCH), draws)
    assert torch.equal(trajectory.observations[:, 0], frames[:, -1])
    assert_8_bit(trajectory.observations)
    seen = torch.cat([frames[:, :-1], trajectory.observations], dim=1)
    taken = torch.cat([past_actions, trajectory.actions], dim=1)
    known = [deltas]
    for t in range(horizon - 1):  # each from the logits of the pass over all before it
        blank = torch.zeros(BATCH, 1, delta.num_tokens, dtype=torch.int64)
        steps = slice(0, FRAMES + t)
        for index in range(delta.num_tokens):
            predicting, _ = delta.world_model.outputs(seen[:, steps], taken[:, steps], torch.cat([*known, blank], 1))
            logits = delta.world_model.head_delta(predicting[:, -1, index])
            blank[:, 0, index] = sample_categorical(logits, draws.tokens[t, index])
        known.append(blank)
        after = delta.tokenizer.decode(trajectory.observations[:, t], trajectory.actions[:, t], blank[:, 0])
        assert torch.equal(after, trajectory.observations[:, t + 1])


def test_the_target_begins_as_the_policy_and_is_not_trained() -> None:
    policy, other = small.frame_policy(seed=0), small.frame_policy(seed=1)
    assert not torch.equal(policy.actor.weight, other.actor.weight)
    delta = DeltaAgent(small.delta_tokenizer(), small.delta_world_model(), policy, other)
    for (name, ours), theirs in zip(delta.policy.named_parameters(), delta.target.parameters()):
        assert torch.equal(ours, theirs) and ours.data_ptr() != theirs.data_ptr(), name
        assert ours.requires_grad and not theirs.requires_grad
    assert {key.split(".")[0] for key in delta.state_dict()} == {"tokenizer", "world_model", "policy", "target"}


@torch.no_grad()
def test_reconstructions_show_what_is_in_the_delta_tokens(delta: DeltaAgent) -> None:
    frames, actions, deltas = given_to(delta)
    before = torch.random.get_rng_state()
    ways = delta.reconstruct(segments())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert list(ways) == ["reconstruction", "no delta tokens", "other delta tokens"]
    for pictures in ways.values():
        assert torch.equal(pictures[:, 0], frames[:, 0])  # there is nothing before it
        assert_8_bit(pictures)
    given, taken = frames[:, :-1].flatten(0, 1), actions.flatten()
    expected = delta.tokenizer.decode(given, taken, deltas.flatten(0, 1))
    assert torch.equal(ways["reconstruction"][:, 1:].flatten(0, 1), expected)
    nothing = torch.zeros(len(taken), delta.num_tokens, delta.tokenizer.quantiser.project_out.out_features)
    expected = delta.tokenizer.decode_codes(given, taken, nothing)
    assert torch.equal(ways["no delta tokens"][:, 1:].flatten(0, 1), expected)
    others = ways["other delta tokens"][:, 1:].flatten(0, 1)
    by_source = [delta.tokenizer.decode(given, taken, some.expand(len(taken), -1)) for some in deltas.flatten(0, 1)]
    sources = [
        [source for source, after in enumerate(by_source) if torch.equal(after[at], others[at])] for at in range(6)
    ]
    assert sorted(found for (found,) in sources) == list(range(6))  # every transition's tokens, once
    assert [found for (found,) in sources] != list(range(6))
    assert torch.equal(delta.reconstruct(segments())["other delta tokens"], ways["other delta tokens"])
