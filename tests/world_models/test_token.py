"""The token world model: padding, several modalities, and imagination in steps against the parallel pass."""

from statistics import fmean

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests import small
from tokenworlds import backbones, world_models
from tokenworlds.agents.imagination import ImaginationNoise
from tokenworlds.config import Attention, Backbone, Decoding, Embeddings
from tokenworlds.envs import ActionSpec, ContinuousActions, MultiDiscreteActions
from tokenworlds.ops.categorical import sample_categorical
from tokenworlds.tokenizers.layout import TokenLayout
from tokenworlds.world_models.base import StepNoise
from tokenworlds.world_models.token import TokenWorldModel, WorldModelState

ONE = small.layout_of(image=(4, 8))
TWO = small.layout_of(image=(4, 8), map=(3, 5))
LAYOUTS = {
    "one modality": ONE,
    "two modalities": TWO,
    "a one-token modality first": small.layout_of(goal=(1, 6), image=(3, 8)),
    "a single token": small.layout_of(image=(1, 8)),
    "a grid first, two choices an action": small.layout_of(2, grid=(3, 4, 2), image=(2, 8)),
    "all modalities, three numbers an action": small.layout_of(
        3, image=(2, 8), vector=(2, 6), token=(1, 4), token_2d=(2, 3, 2, 5)
    ),
}
ACTIONS: dict[int, ActionSpec] = {  # by the number of their tokens
    1: small.DISCRETE,
    2: MultiDiscreteActions((3, 2)),
    3: ContinuousActions(3),
}
BATCH, BLOCKS = 3, 4

every_layout = pytest.mark.parametrize("layout", list(LAYOUTS.values()), ids=list(LAYOUTS))


def batch(layout: TokenLayout, mask: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """Random segments; what ``mask`` leaves out is blank, as the replay buffer gives it."""
    draws = small.generator(seed)
    shape = mask.shape
    return {
        "tokens": small.tokens(layout, *shape, seed=seed),
        "actions": random_actions(layout, *shape, seed=seed) * mask[(..., *(None,) * (layout.action_tokens > 1))],
        "rewards": torch.randn(shape, generator=draws, dtype=torch.float64) * mask,
        "ends": torch.randint(2, shape, generator=draws) * mask,
        "mask": mask,
    }


def random_actions(layout: TokenLayout, *shape: int, seed: int = 0) -> Tensor:
    """Numbers in double precision, as ``model`` is."""
    drawn = small.actions(ACTIONS[layout.action_tokens], *shape, draws=small.generator(seed))
    return drawn.double() if drawn.is_floating_point() else drawn


def right_padded() -> Tensor:
    return torch.arange(BLOCKS) < torch.tensor([4, 2, 1])[:, None]


def left_padded() -> Tensor:
    return right_padded().flip(1)


def model(layout: TokenLayout, **changes: object) -> TokenWorldModel:
    return small.world_model(layout, actions=ACTIONS[layout.action_tokens], **changes).double()


def token_logits(world_model: TokenWorldModel, index: int, output: Tensor) -> tuple[Tensor, ...]:
    """What an output says of the observation token with this index: logits of each of its symbols."""
    modality, _ = world_model.layout.place(index)
    return world_model.head_observation[modality.name](output).split(list(modality.vocab_sizes), dim=-1)


def token_error(world_model: TokenWorldModel, index: int, output: Tensor, symbols: Tensor) -> Tensor:
    """Cross-entropy of a token, where ``symbols`` are those of the whole observation."""
    labels = symbols[world_model.layout.place(index)[1]]
    return sum(map(F.cross_entropy, token_logits(world_model, index, output), labels))


def drawn_token(world_model: TokenWorldModel, index: int, output: Tensor, uniforms: Tensor) -> Tensor:
    """Its symbols (B, columns), each drawn with its own of the uniforms (S, B)."""
    where = world_model.layout.place(index)[1]
    columns = map(sample_categorical, token_logits(world_model, index, output), uniforms[where])
    return torch.stack(list(columns), dim=1)


def plain_losses(world_model: TokenWorldModel, data: dict[str, Tensor]) -> tuple[list[Tensor], list[float]]:
    """The definition, one label at a time: losses, and shares of tokens, rewards and ends that are right."""
    layout, mask = world_model.layout, data["mask"]
    outputs = world_model.backbone.parallel(world_model.embed(data["tokens"], data["actions"]))
    outputs = outputs.unflatten(1, (-1, layout.block_size))
    observations, rewards, ends = [], [], []
    right: tuple[list[bool], ...] = ([], [], [])
    for b, t in mask.nonzero().tolist():
        for index in range(layout.num_tokens):
            if index == 0 and t == 0:
                continue  # nothing before it
            before = outputs[b, t - 1, -1] if index == 0 else outputs[b, t, index - 1]
            observations.append(token_error(world_model, index, before, data["tokens"][b, t]))
            likely = [int(logits.argmax()) for logits in token_logits(world_model, index, before)]
            right[0].append(likely == data["tokens"][b, t, layout.place(index)[1]].tolist())
        action = outputs[b, t, -1]
        sign, end = data["rewards"][b, t].sign(), data["ends"][b, t]
        rewards.append(F.cross_entropy(world_model.head_reward(action), sign.long() + 1))
        ends.append(F.cross_entropy(world_model.head_end(action), end))
        chances = world_model.head_reward(action).softmax(dim=0)
        right[1].append(abs(float(chances[2] - chances[0] - sign)) < 0.5)
        right[2].append(int(world_model.head_end(action).argmax()) == end)
    return [torch.stack(errors).mean() for errors in (observations, rewards, ends)], [fmean(some) for some in right]


@every_layout
@pytest.mark.parametrize("mask", [right_padded(), left_padded()], ids=["right", "left"])
@torch.no_grad()
def test_losses_are_means_over_every_predicted_label(layout: TokenLayout, mask: Tensor) -> None:
    world_model, data = model(layout), batch(layout, mask)
    losses = world_model.loss(**data)
    expected, right = plain_losses(world_model, data)
    for value, plain in zip((losses.observations, losses.rewards, losses.ends), expected):
        torch.testing.assert_close(value, plain)
    assert [float(share) for share in losses.measured.values()] == pytest.approx(right)
    assert 0 < float(losses.measured["end_accuracy"]) < 1
    assert world_model.train().loss(**data).measured == {}  # training does not spend the time


@every_layout
@pytest.mark.parametrize("attention", list(Attention), ids=lambda attention: attention.name)
@torch.no_grad()
def test_what_stands_in_padding_never_changes_the_losses(layout: TokenLayout, attention: Attention) -> None:
    world_model, data = model(layout, attention=attention), batch(layout, right_padded())
    before = world_model.loss(**data)
    padding = ~data["mask"]
    other = batch(layout, torch.ones_like(padding), seed=1)
    for name in ("tokens", "actions", "rewards", "ends"):
        data[name][padding] = other[name][padding].to(data[name])
    for name, value in world_model.loss(**data).named().items():
        torch.testing.assert_close(value, before.named()[name])


@every_layout
def test_every_parameter_is_trained(layout: TokenLayout) -> None:
    world_model = model(layout)
    data = [batch(layout, torch.ones(BATCH, BLOCKS, dtype=torch.bool), seed) for seed in range(9)]  # every symbol
    sum(world_model.loss(**some).total for some in data).backward()
    assert [name for name, p in world_model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_initial_weights_are_the_published_ones() -> None:
    torch.manual_seed(0)
    backbone = backbones.build(Backbone.transformer, small.world_model_config(), ONE.block_size)
    layout = small.layout_of(image=(4, 512))
    fresh = world_models.build(Decoding.autoregressive, small.world_model_config(), backbone, layout, small.DISCRETE)
    for name, parameter in fresh.named_parameters():
        if "norm" in name:
            assert (parameter == (1 if name.endswith("weight") else 0)).all(), name
        elif name.endswith("bias"):
            assert not parameter.any(), name
    assert fresh.embed_observation["image"].weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert fresh.head_observation["image"][2].weight.std().item() == pytest.approx(0.02, rel=0.05)


@every_layout
@torch.no_grad()
def test_any_run_of_an_observations_tokens_is_embedded_as_in_whole_blocks(layout: TokenLayout) -> None:
    vectors = torch.randn(8, 5, dtype=torch.float64, generator=small.generator())
    for coded in ({}, {"image": small.Codes(vectors)}):
        world_model = model(layout, coded=coded, embeddings=Embeddings.codebook)
        tokens = small.tokens(layout, BATCH)
        whole = world_model.embed(tokens.unsqueeze(1), random_actions(layout, BATCH, 1))
        assert whole.shape[1] == layout.block_size
        for start in range(layout.num_tokens):
            for stop in range(start + 1, layout.num_tokens + 1):
                some = world_model.embed_tokens(tokens, start, stop)
                torch.testing.assert_close(some, whole[:, start:stop])


# Imagination


def begin(world_model: TokenWorldModel, tokens: Tensor) -> WorldModelState:
    """A context of one frame."""
    return world_model.start(tokens.unsqueeze(1), random_actions(world_model.layout, len(tokens), 0))


def rollout(
    world_model: TokenWorldModel, tokens: Tensor, actions: Tensor, noise: ImaginationNoise
) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (B, H, S) of the first H observations, rewards and ends (B, H); the last step predicts no observation."""
    state, seen, rewards, ends = begin(world_model, tokens), [], [], []
    horizon = actions.shape[1]
    for t in range(horizon):
        seen.append(state.tokens)
        is_last = t == horizon - 1
        state, reward, end = world_model.step(state, actions[:, t], noise.step(t), predict_observation=not is_last)
        rewards.append(reward)
        ends.append(end)
    return torch.stack(seen, 1), torch.stack(rewards, 1), torch.stack(ends, 1)


def random_rollout(world_model: TokenWorldModel, horizon: int) -> tuple[Tensor, ...]:
    layout = world_model.layout
    noise = ImaginationNoise.sample(horizon, layout.num_symbols, BATCH, small.generator(3))
    actions = random_actions(layout, BATCH, horizon, seed=4)
    tokens, rewards, ends = rollout(world_model, small.tokens(layout, BATCH), actions, noise)
    return tokens, actions, rewards, ends, noise


@every_layout
@torch.no_grad()
def test_imagination_draws_from_the_logits_of_the_parallel_pass(layout: TokenLayout) -> None:
    """For any context that fits: reading the pending token late changes nothing."""
    world_model = model(layout)
    tokens, actions, rewards, ends, noise = random_rollout(world_model, BLOCKS)
    outputs = world_model.backbone.parallel(world_model.embed(tokens, actions)).unflatten(1, (-1, layout.block_size))
    for t in range(BLOCKS):
        action = outputs[:, t, -1]
        assert torch.equal(rewards[:, t], sample_categorical(world_model.head_reward(action), noise.rewards[t]) - 1.0)
        assert torch.equal(ends[:, t], sample_categorical(world_model.head_end(action), noise.terminations[t]))
        for index in range(layout.num_tokens if t < BLOCKS - 1 else 0):
            before = action if index == 0 else outputs[:, t + 1, index - 1]
            drawn = drawn_token(world_model, index, before, noise.tokens[t])
            assert torch.equal(tokens[:, t + 1, layout.place(index)[1]], drawn)
    assert len(tokens.unique()) > 3 and len(rewards.unique()) > 1  # the comparison is not one of constants


@torch.no_grad()
def published_rollout(world_model: TokenWorldModel, tokens: Tensor, actions: Tensor, noise: ImaginationNoise) -> Tensor:
    """Tokens of the published procedure: all K tokens in one call, then the action and every new token in calls of
    their own."""
    k = world_model.layout.num_tokens
    embed = world_model.embed_observation["image"]
    _, state = world_model.backbone.step(world_model.backbone.init_state(len(tokens)), embed(tokens))
    seen = [tokens]
    for t in range(actions.shape[1] - 1):
        outputs, state = world_model.backbone.step(state, world_model.embed_action(actions[:, t]))
        drawn: list[Tensor] = []
        for index in range(k):
            drawn.append(
                sample_categorical(world_model.head_observation["image"](outputs[:, -1]), noise.tokens[t, index])
            )
            outputs, state = world_model.backbone.step(state, embed(drawn[-1].unsqueeze(1)))
        seen.append(torch.stack(drawn, dim=1))
    return torch.stack(seen, dim=1)


@pytest.mark.parametrize("attention", list(Attention), ids=lambda attention: attention.name)
def test_imagination_reads_as_the_published_agent_does(attention: Attention) -> None:
    """With full attention inside a block it matters which tokens are read together."""
    for seed in range(5):
        world_model = small.spread(
            model(ONE, attention=attention), std=0.8, seed=seed
        )  # so far that draws would differ
        with torch.no_grad():
            tokens, actions, _, _, noise = random_rollout(world_model, BLOCKS)
        assert torch.equal(tokens, published_rollout(world_model, tokens[:, 0], actions, noise))


@every_layout
@pytest.mark.parametrize("attention", list(Attention), ids=lambda attention: attention.name)
@torch.no_grad()
def test_a_step_that_does_not_fit_starts_anew_from_the_current_observation(
    layout: TokenLayout, attention: Attention
) -> None:
    world_model = model(layout, attention=attention)
    tokens, actions, *_, noise = random_rollout(world_model, BLOCKS)
    state = begin(world_model, tokens[:, 0])
    for t in range(BLOCKS - 1):  # now the context is full but for an action
        state, *_ = world_model.step(state, actions[:, t], noise.step(t))
    assert state.length + 1 + layout.block_size > world_model.backbone.max_tokens
    full = world_model.step(state, actions[:, 3], noise.step(3))
    anew = world_model.step(begin(world_model, state.tokens), actions[:, 3], noise.step(3))
    assert torch.equal(full[0].tokens, anew[0].tokens) and full[0].length == anew[0].length
    assert torch.equal(full[1], anew[1]) and torch.equal(full[2], anew[2])


@every_layout
@torch.no_grad()
def test_the_last_step_needs_room_for_its_action_alone(layout: TokenLayout) -> None:
    """A horizon of max_blocks fills the context exactly and drops nothing."""
    world_model = model(layout)
    tokens, actions, *_, noise = random_rollout(world_model, BLOCKS)
    state = begin(world_model, tokens[:, 0])
    for t in range(BLOCKS - 1):
        state, *_ = world_model.step(state, actions[:, t], noise.step(t))
    last, _, _ = world_model.step(state, actions[:, -1], noise.step(BLOCKS - 1), predict_observation=False)
    assert last.length == world_model.backbone.max_tokens == last.backbone.length
    assert torch.equal(last.tokens, state.tokens)


@torch.no_grad()
def test_the_state_counts_what_the_backbone_has_read() -> None:
    for attention in Attention:
        world_model = model(ONE, attention=attention)
        state = begin(world_model, small.tokens(ONE, BATCH))
        for t in range(6):
            assert state.length == state.backbone.length
            noise = small.step_noise(ONE, BATCH, seed=t)
            state, _, _ = world_model.step(state, torch.zeros(BATCH, dtype=torch.int64), noise)


@torch.no_grad()
def test_uniforms_of_zero_and_almost_one_draw_the_first_and_last_class() -> None:
    world_model = model(ONE)
    state = begin(world_model, small.tokens(ONE, BATCH))
    zeros = StepNoise(torch.zeros(BATCH), torch.zeros(BATCH), torch.zeros(4, BATCH))
    after, rewards, ends = world_model.step(state, torch.zeros(BATCH, dtype=torch.int64), zeros)
    assert not after.tokens.any() and (rewards == -1).all() and not ends.any()
    state = begin(world_model, small.tokens(ONE, BATCH))
    ones = StepNoise(*(torch.full_like(u, 1 - 1e-7) for u in (zeros.reward, zeros.end, zeros.tokens)))
    after, rewards, ends = world_model.step(state, torch.zeros(BATCH, dtype=torch.int64), ones)
    assert (after.tokens == 7).all() and (rewards == 1).all() and ends.all()
