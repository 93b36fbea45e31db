"""The recurrent policy: unrolling is stepping, burn-in skips padding, actions are remembered."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests import small
from tokenworlds.actor_critic import CodeEncoder, FlatEncoder, PixelEncoder, Policy, PolicyState, build_frame_policy
from tokenworlds.actor_critic.token_policy import build_policy
from tokenworlds.config import (
    BurnInActions,
    DeltaPolicyConfig,
    EncoderConfig,
    PolicyInput,
    Recurrence,
    Scalar,
    TokenizerNetwork,
    TokenPolicyConfig,
)
from tokenworlds.envs import ActionSpec, ContinuousActions, MultiDiscreteActions
from tokenworlds.ops.convolutions import FrameEncoder
from tokenworlds.tokenizers.observation import ObservationTokenizer

BATCH, TIME = 3, 5
KINDS = {
    "pixels": (PolicyInput.pixels, Recurrence.lstm, False),
    "codes": (PolicyInput.codes, Recurrence.lstm, True),
    "codes-gru": (PolicyInput.codes, Recurrence.gru, True),
    "codes-no-actions": (PolicyInput.codes, Recurrence.lstm, False),
    "pixels-gru-actions": (PolicyInput.pixels, Recurrence.gru, True),
    "frames": (None, Recurrence.lstm, False),
}
FRAME_ENCODER = EncoderConfig(32, [1, 1], [1, 1], latent_dim=2)


def make(kind: str, every: int = 1) -> Policy:
    seen, recurrence, action_input = KINDS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder: PixelEncoder | CodeEncoder | FlatEncoder
        if seen is None:
            encoder = FlatEncoder(FRAME_ENCODER, small.RESOLUTION, 3)
        else:
            encoder = PixelEncoder(small.RESOLUTION) if seen is PolicyInput.pixels else CodeEncoder(8, 2, 6)
        values = Scalar.two_hot if seen is None else Scalar.regression
        return Policy(encoder, recurrence, 8, small.DISCRETE, action_input, every, values)


@pytest.fixture(scope="module", params=KINDS)
def policy(request: pytest.FixtureRequest) -> Policy:
    return make(request.param)


def pictures(policy: Policy, *shape: int, seed: int = 0) -> Tensor:
    """What this policy sees: frames in [0, 1] or codes."""
    if isinstance(policy.encoder, PixelEncoder | FlatEncoder):
        return small.frames(*shape, seed=seed).float() / 255
    return torch.randn(*shape, 8, 2, 2, generator=small.generator(seed))


def choices(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(small.ACTIONS, shape, generator=small.generator(seed))


def assert_same(state: PolicyState, other: PolicyState) -> None:
    torch.testing.assert_close(state.hidden, other.hidden)
    torch.testing.assert_close(state.cell, other.cell)


def test_unrolling_equals_single_steps_in_outputs_and_gradients(policy: Policy) -> None:
    frames, actions = pictures(policy, BATCH, TIME), choices(BATCH, TIME)
    state = policy.burn_in(pictures(policy, BATCH, 2, seed=1), choices(BATCH, 2, seed=1), torch.ones(BATCH, 2) > 0)
    gradients = []
    for is_unrolled in (True, False):
        policy.zero_grad()
        if is_unrolled:
            logits, outputs, last = policy.unroll(frames, actions, state)
        else:
            current, steps = state, []
            for t in range(TIME):
                *step, current = policy(frames[:, t], current)
                current = policy.observe_action(actions[:, t], current)
                steps.append(step)
            assert_same(current, last)
            torch.testing.assert_close(torch.stack([s[0] for s in steps], dim=1), logits)
            torch.testing.assert_close(torch.stack([s[1] for s in steps], dim=1), outputs)
            logits, outputs = torch.stack([s[0] for s in steps], dim=1), torch.stack([s[1] for s in steps], dim=1)
        (logits.square().sum() + outputs.square().sum()).backward()
        gradients.append([parameter.grad.clone() for parameter in policy.parameters() if parameter.grad is not None])
    assert len(gradients[0]) == len(list(policy.parameters()))
    for unrolled, stepped in zip(*gradients):
        torch.testing.assert_close(unrolled, stepped, rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=15)
@given(valid=st.lists(st.integers(0, TIME), min_size=BATCH, max_size=BATCH), every=st.integers(1, TIME + 1))
def test_burn_in_of_a_padded_row_is_the_burn_in_of_its_real_steps(policy: Policy, valid: list[int], every: int) -> None:
    frames, actions = pictures(policy, BATCH, TIME), choices(BATCH, TIME)
    mask = torch.arange(TIME) >= TIME - torch.tensor(valid)[:, None]
    policy.burn_in_every = every
    state = policy.burn_in(frames, actions, mask)
    policy.burn_in_every = 1
    for row, count in enumerate(valid):
        alone, one = policy.initial_state(1), slice(row, row + 1)
        with torch.no_grad():
            for t in range(TIME - count, TIME):
                alone = policy(frames[one, t], alone)[2]
                if (t + 1) % every == 0:  # frames are counted with the padding
                    alone = policy.observe_action(actions[one, t], alone)
        torch.testing.assert_close(state.hidden[one], alone.hidden)
        torch.testing.assert_close(state.cell[one], alone.cell)


def test_burn_in_has_no_gradient_and_ignores_what_stands_in_padding(policy: Policy) -> None:
    frames, mask = pictures(policy, BATCH, TIME), torch.arange(TIME).expand(BATCH, -1) >= 2
    actions = choices(BATCH, TIME)
    state = policy.burn_in(frames, actions, mask)
    assert not state.hidden.requires_grad
    other = torch.where(mask[..., None, None, None], frames, pictures(policy, BATCH, TIME, seed=9))
    others = torch.where(mask, actions, (actions + 1) % small.ACTIONS)
    assert torch.equal(policy.burn_in(other, others, mask).hidden, state.hidden)


def test_burn_in_convolves_all_frames_in_one_batch(policy: Policy) -> None:
    sizes: list[int] = []
    hook = policy.encoder.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    policy.burn_in(pictures(policy, BATCH, TIME), choices(BATCH, TIME), torch.ones(BATCH, TIME) > 0)
    policy.unroll(pictures(policy, BATCH, TIME), choices(BATCH, TIME), policy.initial_state(BATCH))
    hook.remove()
    assert sizes == [BATCH * TIME, BATCH * TIME]


def test_gradient_flows_through_time_but_not_into_the_burn_in(policy: Policy) -> None:
    frames = pictures(policy, 1, 3).requires_grad_()
    state = policy.burn_in(frames, choices(1, 3), torch.ones(1, 3, dtype=torch.bool))
    more = pictures(policy, 1, 3, seed=1).requires_grad_()
    logits, _, _ = policy.unroll(more, choices(1, 3), state)
    logits[:, -1].sum().backward()
    assert frames.grad is None
    assert more.grad is not None and more.grad.flatten(2).any(dim=-1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_an_action_changes_what_follows_it_only_where_actions_are_an_input(kind: str) -> None:
    policy, takes_actions = make(kind), KINDS[kind][2]
    frames, actions = pictures(policy, BATCH, 3), choices(BATCH, 3)
    others = actions.clone()
    others[:, 1] = (others[:, 1] + 1) % small.ACTIONS
    start = policy.initial_state(BATCH)
    logits, changed = policy.unroll(frames, actions, start)[0], policy.unroll(frames, others, start)[0]
    assert torch.equal(logits[:, :2], changed[:, :2])
    assert torch.equal(logits[:, 2], changed[:, 2]) is not takes_actions
    state = policy(frames[:, 0], start)[2]
    assert (policy.observe_action(actions[:, 0], state) is state) is not takes_actions


@pytest.mark.parametrize(
    ("actions", "every"), [(BurnInActions.every, 1), (BurnInActions.published, 4), (BurnInActions.detached, 4)]
)
def test_burn_in_takes_actions_as_configured(actions: BurnInActions, every: int) -> None:
    """As published: only after frame i where i + 1 is a multiple of the number of tokens, here 4."""
    tokenizer = small.image_tokenizer(network=TokenizerNetwork.conv)
    policy = small.policy(tokenizer, input=PolicyInput.codes, action_input=True, burn_in_actions=actions)
    frames, mask = pictures(policy, BATCH, TIME), torch.ones(BATCH, TIME, dtype=torch.bool)
    played = choices(BATCH, TIME)
    state = policy.burn_in(frames, played, mask)
    for t in range(TIME):
        others = played.clone()
        others[:, t] = (others[:, t] + 1) % small.ACTIONS
        assert torch.equal(policy.burn_in(frames, others, mask).hidden, state.hidden) is ((t + 1) % every != 0)


def learning(policy: Policy, every: int) -> Policy:
    policy.burn_in_every, policy.burn_in_learns = every, True
    return policy


def gradients(policy: Policy, of: PolicyState) -> dict[str, Tensor]:
    """Of a weighted sum of the state's values, where there are any."""
    policy.zero_grad()
    parts = [part for part in (of.hidden, of.cell) if part.numel()]
    torch.stack([(part * torch.linspace(-1, 2, part.numel()).view_as(part)).sum() for part in parts]).sum().backward()
    return {name: parameter.grad for name, parameter in policy.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("recurrence", Recurrence)
@pytest.mark.parametrize("every", [2, 4])
def test_in_a_burn_in_that_learns_the_gradient_skips_the_frames(recurrence: Recurrence, every: int) -> None:
    """As published: the steps on actions are differentiated as if they followed one another, each at the values that
    the frames since the last have made of the state."""
    policy = Policy(CodeEncoder(8, 2, 6), recurrence, 8, small.DISCRETE, True)
    frames, actions = pictures(policy, BATCH, TIME), choices(BATCH, TIME)
    mask = torch.arange(TIME) >= torch.tensor([0, 2, 4])[:, None]
    plain = learning(policy, every).burn_in(frames, actions, torch.ones_like(mask))
    policy.burn_in_learns = False
    assert_same(plain, policy.burn_in(frames, actions, torch.ones_like(mask)))
    found = gradients(policy, learning(policy, every).burn_in(frames, actions, mask))
    assert found.keys() == {name for name, _ in policy.named_parameters() if "recurrence" in name or "embed" in name}
    start = policy.initial_state(BATCH)
    state = PolicyState(start.hidden, start.cell.clone())
    for t in range(TIME):
        with torch.no_grad():
            values = policy(frames[:, t], state)[2].where(mask[:, t], state)
        for of, became in ((state.hidden, values.hidden), (state.cell, values.cell)):
            of.data = became.data  # behind the back of the gradient
        if (t + 1) % every == 0:
            given = PolicyState(state.hidden.clone(), state.cell.clone())
            state = policy.observe_action(actions[:, t], given).where(mask[:, t], given)
    for name, gradient in gradients(policy, state).items():
        torch.testing.assert_close(found[name], gradient, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(
    ("settings", "learns"),
    [
        ({"burn_in_actions": BurnInActions.published}, True),
        ({"burn_in_actions": BurnInActions.detached}, False),
        ({"burn_in_actions": BurnInActions.every}, False),
        ({"burn_in_actions": BurnInActions.never}, False),
        ({"burn_in_actions": BurnInActions.published, "action_input": False}, False),
    ],
    ids=str,
)
def test_burn_in_learns_as_configured(settings: dict[str, Any], learns: bool) -> None:
    """Where it reaches the frame whose action the policy takes, here the fourth, and gradients are asked for."""
    tokenizer = small.image_tokenizer(network=TokenizerNetwork.conv)
    policy = small.policy(tokenizer, **{"input": PolicyInput.codes, "action_input": True} | settings)
    frames, actions, mask = pictures(policy, BATCH, TIME), choices(BATCH, TIME), torch.ones(BATCH, TIME) > 0
    assert policy.burn_in(frames, actions, mask).hidden.requires_grad is learns
    assert not policy.burn_in(frames[:, :3], actions[:, :3], mask[:, :3]).hidden.requires_grad
    with torch.no_grad():
        assert not policy.burn_in(frames, actions, mask).hidden.requires_grad


# With a network of its own for the values (M3)


@pytest.fixture(params=[Recurrence.lstm, Recurrence.gru])
def parted(request: pytest.FixtureRequest) -> Policy:
    """Over codes, with action inputs."""
    encoders = [CodeEncoder(8, 2, 6) for _ in range(2)]
    policy = Policy(encoders[0], request.param, 8, small.DISCRETE, True, critic_encoder=encoders[1])
    return small.spread(policy)


def test_a_state_holds_those_of_both_networks(parted: Policy) -> None:
    frames, actions, start = pictures(parted, BATCH, TIME), choices(BATCH, TIME), parted.initial_state(BATCH)
    assert start.hidden.shape == (BATCH, 16) and start.cell.shape[1] in (0, 16)
    logits, outputs, _ = parted.unroll(frames, actions, start)
    recurrence = Recurrence.lstm if start.cell.shape[1] else Recurrence.gru
    for network, heads, of_both in ((parted, "actor", logits), (parted.critic_network, "critic", outputs)):
        assert network is not None
        alone = Policy(network.encoder, recurrence, 8, small.DISCRETE, True)
        alone.recurrence, alone.embed_action = network.recurrence, network.embed_action
        alone.actor, alone.critic = parted.actor, parted.critic
        found = alone.unroll(frames, actions, alone.initial_state(BATCH))
        torch.testing.assert_close(found[0 if heads == "actor" else 1], of_both)


def test_burn_in_is_stepping_with_two_networks(parted: Policy) -> None:
    frames, actions = pictures(parted, BATCH, TIME), choices(BATCH, TIME)
    everything = torch.ones(BATCH, TIME, dtype=torch.bool)
    state = parted.burn_in(frames, actions, everything)
    _, _, last = parted.unroll(frames, actions, parted.initial_state(BATCH))
    assert_same(state, last)


def test_actor_and_values_share_nothing(parted: Policy) -> None:
    frames, actions = pictures(parted, BATCH, TIME), choices(BATCH, TIME)
    logits, outputs, _ = parted.unroll(frames, actions, parted.initial_state(BATCH))
    of_values = {name for name, _ in parted.named_parameters() if name.startswith("critic")}
    for result, used in ((logits, lambda name: name not in of_values), (outputs, lambda name: name in of_values)):
        parted.zero_grad()
        result.square().sum().backward(retain_graph=True)
        for name, parameter in parted.named_parameters():
            assert (parameter.grad is not None) is used(name), name


def test_burn_in_may_take_no_actions() -> None:
    tokenizer = small.image_tokenizer(network=TokenizerNetwork.conv)
    settings = {"input": PolicyInput.codes, "burn_in_actions": BurnInActions.never}
    with_actions, without = (small.policy(tokenizer, **settings, action_input=some) for some in (True, False))
    frames, mask = pictures(with_actions, BATCH, TIME), torch.ones(BATCH, TIME, dtype=torch.bool)
    without.load_state_dict(with_actions.state_dict(), strict=False)
    state = with_actions.burn_in(frames, choices(BATCH, TIME), mask)
    assert_same(state, without.burn_in(frames, choices(BATCH, TIME), mask))


def test_values_by_classes_start_with_their_bias() -> None:
    policy = Policy(CodeEncoder(8, 2, 6), Recurrence.lstm, 8, small.DISCRETE, values=Scalar.hl_gauss, value_bins=33)
    assert policy.critic.out_features == 33 and policy.critic.weight.any()
    torch.testing.assert_close(policy.critic.bias.detach(), policy.values.initial_bias())


@pytest.mark.parametrize("actions", [MultiDiscreteActions((3, 2)), ContinuousActions(2)])
def test_other_actions(actions: ActionSpec) -> None:
    policy = Policy(CodeEncoder(8, 2, 6), Recurrence.lstm, 8, actions, True, levels=5)
    frames, state = pictures(policy, BATCH, TIME), policy.initial_state(BATCH)
    taken = torch.from_numpy(actions.random(np.random.default_rng(0), BATCH * TIME)).unflatten(0, (BATCH, TIME))
    logits, _, last = policy.unroll(frames, taken, state)
    assert logits.shape == (BATCH, TIME, policy.actions.width)
    assert_same(policy.burn_in(frames, taken, torch.ones(BATCH, TIME, dtype=torch.bool)), last)


# Over frames (Delta-IRIS)


def test_features_of_a_frame_are_its_map_row_by_row() -> None:
    encoder = FlatEncoder(FRAME_ENCODER, small.RESOLUTION, 3)
    frames = small.frames(2).float() / 255
    features, grid = encoder(frames), small.RESOLUTION // 4
    assert features.shape == (2, encoder.width) and encoder.width == 2 * grid**2
    expected = FrameEncoder.forward(encoder, frames).permute(0, 2, 3, 1)
    assert torch.equal(features.unflatten(1, (grid, grid, 2)), expected)


@pytest.mark.parametrize(("values", "width"), [(Scalar.two_hot, 255), (Scalar.regression, 1)])
def test_a_policy_over_frames_starts_with_values_of_zero(values: Scalar, width: int) -> None:
    config = DeltaPolicyConfig(Recurrence.lstm, 8, values, FRAME_ENCODER)
    policy = build_frame_policy(config, small.picture_spec())
    logits, outputs, _ = policy(small.frames(BATCH).float() / 255, policy.initial_state(BATCH))
    assert outputs.shape == (BATCH, width) and not outputs.any() and logits.all()
    torch.testing.assert_close(policy.values.mean(outputs), torch.zeros(BATCH), atol=1e-5, rtol=0)


@pytest.mark.parametrize("values", [Scalar.two_hot, Scalar.regression])
def test_other_policies_start_with_values_of_zero_where_they_are_two_hot(values: Scalar) -> None:
    config = TokenPolicyConfig(Recurrence.lstm, 8, values, PolicyInput.pixels, False)
    tokenizer = ObservationTokenizer({"image": small.image_tokenizer()})
    policy = build_policy(config, small.picture_spec(), tokenizer)
    _, outputs, _ = policy(small.frames(BATCH).float() / 255, policy.initial_state(BATCH))
    assert outputs.any() == policy.critic.bias.any() == (values is not Scalar.two_hot)


def test_embeddings_of_actions_start_with_unit_variance() -> None:
    wide = Policy(CodeEncoder(8, 2, 4096), Recurrence.lstm, 8, small.DISCRETE, True)
    assert wide.embed_action is not None and abs(wide.embed_action.weight.std() - 1) < 0.05
