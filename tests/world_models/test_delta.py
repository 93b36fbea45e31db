"""The delta world model: what its losses count, steps against the parallel pass, and when the past is dropped."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tests import small
from tests.synchronisation import without_synchronisation
from tokenworlds.agents.imagination import ImaginationNoise
from tokenworlds.config import Backbone, Scalar
from tokenworlds.ops.categorical import sample_categorical
from tokenworlds.world_models import heads as scalars
from tokenworlds.world_models.delta import DeltaState, DeltaWorldModel

BATCH, BLOCKS, K, VOCAB = 3, 4, 4, 8
every_backbone = pytest.mark.parametrize("backbone", list(Backbone), ids=lambda backbone: backbone.name)
every_layout = pytest.mark.parametrize("frame_tokens", [True, False], ids=["frame tokens", "no frame tokens"])
every_kind_of_reward = pytest.mark.parametrize("rewards", [Scalar.sign, Scalar.two_hot], ids=lambda kind: kind.name)


def model(**changes: Any) -> DeltaWorldModel:
    return small.delta_world_model(**({"max_blocks": BLOCKS} | changes)).double()


def batch(mask: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """Random segments; what ``mask`` leaves out is blank, as the replay buffer gives it. Delta tokens are never."""
    draws, shape = small.generator(seed), mask.shape
    return {
        "frames": small.frames(*shape, seed=seed).double() / 255 * mask[..., None, None, None],
        "actions": torch.randint(small.ACTIONS, shape, generator=draws) * mask,
        "deltas": torch.randint(VOCAB, (shape[0], shape[1] - 1, K), generator=draws),
        "rewards": 3 * torch.randn(shape, generator=draws, dtype=torch.float64) * mask,
        "ends": torch.randint(2, shape, generator=draws) * mask,
        "mask": mask,
    }


full = torch.ones(BATCH, BLOCKS, dtype=torch.bool)
# whole; padded on the right; on both sides
padded = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 0]], dtype=torch.bool)


def heads(world_model: DeltaWorldModel, data: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The logits (B, T, K, V) of every delta token, those of the last block too, of rewards and of ends (B, T, ...), by
    counting the places of a sequence."""
    k, lead = world_model.num_tokens, 0 if world_model.has_frame_tokens else 1
    deltas = F.pad(data["deltas"], (0, 0, 0, 1))  # nothing follows the last frame
    outputs = world_model.backbone.parallel(world_model.embed(data["frames"], data["actions"], deltas))
    block = k + 2 - lead
    assert outputs.shape[1] == lead + deltas.shape[1] * block
    at_actions = [lead + t * block + 1 - lead for t in range(deltas.shape[1])]
    logits = torch.stack([world_model.head_delta(outputs[:, place : place + k]) for place in at_actions], dim=1)
    return logits, world_model.head_reward(outputs[:, at_actions]), world_model.head_end(outputs[:, at_actions])


def plain_losses(world_model: DeltaWorldModel, data: dict[str, Tensor], rewards: Scalar) -> tuple[Tensor, ...]:
    """The definition, one label at a time: losses, and how many delta tokens, rewards and ends would be right."""
    logits, reward, end = heads(world_model, data)
    last, kind = data["mask"].shape[1] - 1, scalars.build(rewards)
    observations, rewarded, ended, right, right_rewards, right_ends = [], [], [], [], [], []
    for b, t in data["mask"].nonzero().tolist():
        for index in range(world_model.num_tokens if t < last else 0):  # into padding, too
            label = data["deltas"][b, t, index]
            observations.append(F.cross_entropy(logits[b, t, index], label))
            right.append(float(logits[b, t, index].argmax() == label))
        rewarded.append(kind.loss(reward[b, t : t + 1], data["rewards"][b, t : t + 1]))
        ended.append(F.cross_entropy(end[b, t], data["ends"][b, t]))
        target = data["rewards"][b, t].sign() if rewards is Scalar.sign else data["rewards"][b, t]
        right_rewards.append(float((kind.mean(reward[b, t]) - target).abs() < 0.5))
        right_ends.append(float(end[b, t].argmax() == data["ends"][b, t]))

    def mean(values: list[Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64).mean() if values else torch.zeros((), dtype=torch.float64)

    shares = (mean(some).float() for some in (right, right_rewards, right_ends))
    return 0.5 * mean(observations), 2.0 * mean(rewarded), 3.0 * mean(ended), *shares


def assert_losses(world_model: DeltaWorldModel, data: dict[str, Tensor], rewards: Scalar = Scalar.sign) -> None:
    losses = world_model.loss(**data)
    found = (losses.observations, losses.rewards, losses.ends, *losses.measured.values())
    for value, expected in zip(found, plain_losses(world_model, data, rewards)):
        torch.testing.assert_close(value, expected)
    assert losses.total == sum(found[:3])
    assert list(losses.measured) == ["delta_accuracy", "reward_accuracy", "end_accuracy"]
    assert list(world_model.train().loss(**data).measured) == ["delta_accuracy"]  # training does not spend the time
    world_model.eval()


# Training


@every_kind_of_reward
@every_layout
@torch.no_grad()
def test_losses_are_weighted_means_over_every_predicted_label(frame_tokens: bool, rewards: Scalar) -> None:
    world_model = model(frame_tokens=frame_tokens, rewards=rewards)
    data = batch(padded)
    assert_losses(world_model, data, rewards)


SHARED = {frame_tokens: model(frame_tokens=frame_tokens) for frame_tokens in (True, False)}


@settings(max_examples=25, deadline=None)
@given(shape=st.tuples(st.integers(1, 3), st.integers(1, BLOCKS)), frame_tokens=st.booleans(), data=st.data())
def test_losses_of_any_shape_and_mask(shape: tuple[int, int], frame_tokens: bool, data: st.DataObject) -> None:
    """Also of segments of one step, and of nothing but padding."""
    steps = st.lists(st.booleans(), min_size=shape[1], max_size=shape[1])
    mask = torch.tensor(data.draw(st.lists(steps, min_size=shape[0], max_size=shape[0])))
    with torch.no_grad():
        assert_losses(SHARED[frame_tokens], batch(mask, seed=data.draw(st.integers(0, 99))))


@every_layout
@torch.no_grad()
def test_the_transition_into_padding_counts_and_what_stands_in_padding_does_not(frame_tokens: bool) -> None:
    """As published: the last real step of an episode is trained to predict a transition into the black frame."""
    world_model, data = model(frame_tokens=frame_tokens), batch(padded)
    before = world_model.loss(**data)
    into = data | {"deltas": data["deltas"].clone()}
    into["deltas"][1, 1] = (into["deltas"][1, 1] + 1) % VOCAB  # from the last real step of the second segment
    assert world_model.loss(**into).observations != before.observations
    behind = {name: values.clone() for name, values in data.items()}
    behind["deltas"][1, 2] = (behind["deltas"][1, 2] + 1) % VOCAB
    for name in ("frames", "actions", "rewards", "ends"):
        behind[name][1, 2:] += 1
        behind[name][2, 3:] += 1
    for name, value in world_model.loss(**behind).named().items():
        torch.testing.assert_close(value, before.named()[name])


@every_backbone
@every_layout
@torch.no_grad()
def test_a_label_is_predicted_from_what_comes_before_it(frame_tokens: bool, backbone: Backbone) -> None:
    """From the frame before the transition, the action and the delta tokens before, and from nothing later."""
    world_model, data = model(frame_tokens=frame_tokens, backbone=backbone), batch(full)
    before = heads(world_model, data)

    def moved(name: str, *place: int) -> list[list[bool]]:
        """Where the logits of any delta token change with an input, and those of rewards: by block."""
        other = data | {name: data[name].clone()}
        other[name][(slice(None), *place)] = (
            1 - other[name][(slice(None), *place)] if name == "frames" else (other[name][(slice(None), *place)] + 1) % 3
        )
        after = heads(world_model, other)
        return [((a - b).abs().amax(dim=(0, -1)) > 0).tolist() for a, b in zip(after[:2], before[:2])]

    for t in range(BLOCKS - 1):
        deltas, rewards = moved("actions", t)
        assert deltas == [[at >= t] * K for at in range(BLOCKS)] and rewards == [at >= t for at in range(BLOCKS)]
        deltas, rewards = moved("deltas", t, 1)
        assert deltas == [[at > t or (at == t and index > 1) for index in range(K)] for at in range(BLOCKS)]
        assert rewards == [at > t for at in range(BLOCKS)]
    deltas, rewards = moved("frames", 1)
    expected = [frame_tokens and at >= 1 for at in range(BLOCKS)]
    assert deltas == [[is_moved] * K for is_moved in expected] and rewards == expected
    assert all(all(some) for some in moved("frames", 0)[0])


@every_backbone
@every_layout
def test_every_parameter_is_trained(frame_tokens: bool, backbone: Backbone) -> None:
    """Biases of convolutions in front of a normalisation of single channels have no effect."""
    world_model = model(frame_tokens=frame_tokens, backbone=backbone)
    world_model.loss(**batch(full)).total.backward()
    gradients = {name: p.grad for name, p in world_model.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    unreached = {name for name, gradient in gradients.items() if gradient is not None and not gradient.any()}
    assert all(name.startswith("frame_encoder.layers") and name.endswith("bias") for name in unreached), unreached


@every_kind_of_reward
@every_layout
@every_backbone
def test_an_update_waits_for_nothing(backbone: Backbone, frame_tokens: bool, rewards: Scalar) -> None:
    world_model = small.delta_world_model(backbone=backbone, frame_tokens=frame_tokens, rewards=rewards)
    data = {name: values.float() if values.is_floating_point() else values for name, values in batch(padded).items()}
    world_model.loss(**data)  # what is made once
    with without_synchronisation():
        world_model.loss(**data).total.backward()


def test_initial_weights_are_the_published_ones() -> None:
    """Of linear layers and embeddings; convolutions keep torch's."""
    torch.manual_seed(0)
    fresh = small.fresh_delta_world_model(vocab_size=512)
    for name, part in fresh.named_modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            tolerance = 3 / (2 * part.weight.numel()) ** 0.5
            assert part.weight.std().item() == pytest.approx(0.02, rel=tolerance), name
        if isinstance(part, nn.Linear):
            assert not part.bias.any(), name
        if isinstance(part, nn.LayerNorm | nn.GroupNorm):
            assert (part.weight == 1).all() and not part.bias.any(), name
        if isinstance(part, nn.Conv2d):
            limit = part.weight[0].numel() ** -0.5
            assert 0.9 * limit < part.weight.abs().max() <= limit and part.bias is not None and part.bias.any(), name


# Imagination


def start(world_model: DeltaWorldModel, context: int, horizon: int) -> tuple[dict[str, Tensor], ImaginationNoise]:
    """Frames and actions of the context and of the steps after it (what the tokenizer would decode is not the world
    model's concern), the context's delta tokens, and the noise."""
    draws, blocks = small.generator(5), context + horizon - 1
    data = {
        "frames": small.frames(BATCH, blocks, seed=6).double() / 255,
        "actions": torch.randint(small.ACTIONS, (BATCH, blocks), generator=draws),
        "deltas": torch.randint(VOCAB, (BATCH, context - 1, K), generator=draws),
    }
    return data, ImaginationNoise.sample(horizon, world_model.num_tokens, BATCH, small.generator(7))


def begin(world_model: DeltaWorldModel, data: dict[str, Tensor]) -> DeltaState:
    context = data["deltas"].shape[1] + 1
    return world_model.start(data["frames"][:, :context], data["actions"][:, : context - 1], data["deltas"])


def advance(
    world_model: DeltaWorldModel, state: DeltaState, data: dict[str, Tensor], noise: ImaginationNoise, t: int
) -> tuple[DeltaState, Tensor | None, Tensor, Tensor]:
    """Imagined step t: the state with the next frames, if there are any, delta tokens, rewards, ends."""
    at = data["deltas"].shape[1] + t
    is_last = at == data["frames"].shape[1] - 1
    state, *drawn = world_model.step(state, data["actions"][:, at], noise.step(t), predict_observation=not is_last)
    assert (drawn[0] is None) == is_last
    return state if is_last else replace(state, frames=data["frames"][:, at + 1]), *drawn


@pytest.mark.parametrize("context", [1, 3])
@every_kind_of_reward
@every_layout
@every_backbone
@torch.no_grad()
def test_imagination_draws_from_the_logits_of_the_parallel_pass(
    backbone: Backbone, frame_tokens: bool, rewards: Scalar, context: int
) -> None:
    """To the last block of the backbone's memory: reading the last delta token and the frame late changes nothing."""
    world_model = model(backbone=backbone, frame_tokens=frame_tokens, rewards=rewards)
    horizon = BLOCKS - context + 1
    data, noise = start(world_model, context, horizon)
    state, deltas, rewarded, ended = begin(world_model, data), [data["deltas"]], [], []
    for t in range(horizon):
        length = state.length
        state, drawn, reward, end = advance(world_model, state, data, noise, t)
        deltas += [] if drawn is None else [drawn.unsqueeze(1)]
        rewarded.append(reward)
        ended.append(end)
        assert state.length > length  # nothing was dropped
    logits, reward_outputs, end_logits = heads(world_model, data | {"deltas": torch.cat(deltas, dim=1)})
    kind = scalars.build(rewards)
    for t in range(horizon):
        at = context - 1 + t
        torch.testing.assert_close(rewarded[t], kind.sample(reward_outputs[:, at], noise.rewards[t]).to(rewarded[t]))
        assert torch.equal(ended[t], sample_categorical(end_logits[:, at], noise.terminations[t]))
        for index in range(K if t < horizon - 1 else 0):
            expected = sample_categorical(logits[:, at, index], noise.tokens[t, index])
            assert torch.equal(deltas[1 + t][:, 0, index], expected)
    assert len(torch.cat(deltas, dim=1).unique()) > 3 and len(torch.stack(rewarded).unique()) > 1  # of no constants


@pytest.mark.parametrize("context", [1, 3])
@every_layout
@torch.no_grad()
def test_the_state_counts_what_the_backbone_has_read(frame_tokens: bool, context: int) -> None:
    """b (K + 2) + 1 tokens of a context of b transitions, then (K + 2) a step, but for the last delta token and the
    frame's own, which the next step reads; without frame tokens one token less a block."""
    world_model, steps = model(frame_tokens=frame_tokens, max_blocks=9), 4
    data, noise = start(world_model, context, steps)
    block, b = K + 1 + frame_tokens, context - 1
    state = begin(world_model, data)
    assert state.length == state.backbone.length == b * block + 1
    for n in range(1, steps):
        state, *_ = advance(world_model, state, data, noise, n - 1)
        first = 1 + K - 1  # the action; the frame's token is there already
        assert state.length == state.backbone.length == b * block + 1 + first + (n - 1) * block
        assert state.deltas is not None and not state.is_frame_read
    before = state.length
    state, *_ = advance(world_model, state, data, noise, steps - 1)  # predicts no observation
    assert state.length == state.backbone.length == before + 2 + frame_tokens
    assert state.deltas is None and torch.equal(state.frames, data["frames"][:, -1])


@every_layout
@every_backbone
@torch.no_grad()
def test_with_at_most_a_block_left_the_past_is_dropped(backbone: Backbone, frame_tokens: bool) -> None:
    """And imagination goes on from the current frame alone, as if it had begun there."""
    world_model = model(backbone=backbone, frame_tokens=frame_tokens)
    data, noise = start(world_model, 2, 8)
    state, dropped = begin(world_model, data), []
    for t in range(8):
        is_full = world_model.backbone.max_tokens - state.length <= world_model.block_size
        anew = world_model.start(state.frames.unsqueeze(1), data["actions"][:, :0], data["deltas"][:, :0])
        state, *drawn = advance(world_model, state, data, noise, t)
        expected, *expected_drawn = advance(world_model, anew, data, noise, t) if is_full else (state, *drawn)
        for one, other in zip(drawn, expected_drawn):
            assert (one is None and other is None) or torch.equal(one, other)
        assert state.length == expected.length
        dropped += [t] if is_full else []
    assert dropped == [BLOCKS - 2 + 1, BLOCKS - 2 + 1 + BLOCKS]  # blocks are full, then as many again


@every_layout
@torch.no_grad()
def test_a_context_that_leaves_no_room_is_dropped_but_for_its_last_frame(frame_tokens: bool) -> None:
    world_model = model(frame_tokens=frame_tokens)
    data, noise = start(world_model, BLOCKS, 2)
    whole = begin(world_model, data)
    assert whole.length == (BLOCKS - 1) * world_model.block_size + 1
    alone = world_model.start(whole.frames.unsqueeze(1), data["actions"][:, :0], data["deltas"][:, :0])
    (one, *drawn), (other, *expected) = (advance(world_model, state, data, noise, 0) for state in (whole, alone))
    assert one.length == other.length and all(torch.equal(a, b) for a, b in zip(drawn, expected))
    longer, _ = start(world_model, BLOCKS + 2, 2)
    with pytest.raises(ValueError, match="start a new one"):
        begin(world_model, longer)
