"""One step a frame: the published numbers, which blocks a prediction sees, imagination in steps against the parallel
pass, and how it begins. That an update waits for nothing is in ``test_parallel``."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests import small
from tests.methods.support import count, published, published_config
from tests.world_models.test_token import ACTIONS, BATCH, BLOCKS, ONE, batch, every_layout, random_actions, right_padded
from tokenworlds.agents.imagination import ImaginationNoise
from tokenworlds.config import Backbone, Decoding
from tokenworlds.config.world_models import FrameConfig
from tokenworlds.ops.categorical import sample_categorical
from tokenworlds.tokenizers.layout import TokenLayout
from tokenworlds.world_models.token import TokenWorldModel

CONTEXT = 2
full = torch.ones(BATCH, BLOCKS, dtype=torch.bool)


def model(layout: TokenLayout, **changes: object) -> TokenWorldModel:
    settings = {"backbone": Backbone.cfc, "decoding": Decoding.frame} | changes
    return small.world_model(layout, actions=ACTIONS[layout.action_tokens], **settings).double()


def test_the_published_size() -> None:
    """Breakout, 4 actions: what each part has by the specification, and all of them."""
    world_model = published("iris", "variant=ncp-frame", actions=4).world_model
    norm, cell = 2 * 2176, 32_021_668
    sizes = {
        "backbone": 2 * (norm + cell),
        "embed_action": 4 * 128,
        "embed_observation": 512 * 128,
        "head_observation": 2176 * 2176 + 2176 + 2176 * 16 * 512 + 16 * 512,
        "head_reward": 2176 * 128 + 128 + 128 * 3 + 3,
        "head_end": 2176 * 128 + 128 + 128 * 2 + 2,
    }
    found = {name: count(part) for name, part in world_model.named_children()}
    assert {name: size for name, size in found.items() if size} == sizes
    assert sum(sizes.values()) == 87_247_181


def test_the_published_settings() -> None:
    config = published_config("iris", "variant=ncp-frame")
    world, optimiser = config.model.world_model, config.training.world_model
    assert (world.frame.embed_dropout, world.cfc.dropout, world.frame.compat_reset) == (0.1, 0.1, False)
    assert (world.cfc.num_layers, world.cfc.sparsity, world.cfc.wiring_seed) == (2, 0.5, 22222)
    assert (optimiser.learning_rate, optimiser.weight_decay, config.training.sequence_length) == (1e-4, 0.0, 20)


@every_layout
@torch.no_grad()
def test_a_prediction_sees_the_blocks_before_it_and_nothing_else(layout: TokenLayout) -> None:
    world_model, data = model(layout), batch(layout, full)
    before = world_model.outputs(data["tokens"], data["actions"])
    assert not before[0][:, 0].any()
    for changed in range(BLOCKS):
        tokens = data["tokens"].clone()
        tokens[:, changed] = (tokens[:, changed] + 1) % 2
        predicting, read_out = world_model.outputs(tokens, data["actions"])
        moved = (predicting - before[0]).abs().amax(dim=(0, 2, 3)) > 0
        assert moved.tolist() == [t > changed for t in range(BLOCKS)]
        assert ((read_out - before[1]).abs().amax(dim=(0, 2)) > 0).tolist() == [t >= changed for t in range(BLOCKS)]


@every_layout
@torch.no_grad()
def test_losses_score_the_outputs_of_a_frame_against_the_tokens_of_the_next(layout: TokenLayout) -> None:
    world_model, data = model(layout), batch(layout, right_padded())
    losses = world_model.loss(**data)
    blocks = world_model.embed(data["tokens"], data["actions"]).unflatten(1, (BLOCKS, -1)).flatten(2)
    outputs = world_model.backbone.parallel(blocks)
    observations, rewards, ends = [], [], []
    for b, t in data["mask"].nonzero().tolist():
        output, sign = outputs[b, t], data["rewards"][b, t].sign().long() + 1
        rewards.append(F.cross_entropy(world_model.head_reward(output), sign))
        ends.append(F.cross_entropy(world_model.head_end(output), data["ends"][b, t]))
        if t:
            before = outputs[b, t - 1]
            for index in range(layout.num_tokens):
                labels = data["tokens"][b, t, layout.place(index)[1]]
                observations.append(sum(map(F.cross_entropy, token_logits(world_model, index, before), labels)))
    for found, expected in zip((losses.observations, losses.rewards, losses.ends), (observations, rewards, ends)):
        torch.testing.assert_close(found, torch.stack(expected).mean())
    assert 0 <= losses.measured["token_accuracy"] <= 1


def token_logits(world_model: TokenWorldModel, index: int, output: Tensor) -> tuple[Tensor, ...]:
    """What an output (*B, W) says of the token with this index of the next observation: logits of its symbols."""
    modality, _ = world_model.layout.place(index)
    first, _, last, _ = world_model.head_observation[modality.name]
    per_token = last(first(output).relu()).unflatten(-1, (modality.count, modality.vocab_size))
    own = index - world_model.layout.slices[modality.name].start
    return per_token[..., own, :].split(list(modality.vocab_sizes), dim=-1)


@every_layout
@pytest.mark.parametrize("backbone", list(Backbone), ids=lambda backbone: backbone.name)
@torch.no_grad()
def test_imagination_draws_from_the_logits_of_the_parallel_pass(backbone: Backbone, layout: TokenLayout) -> None:
    world_model, horizon = model(layout, backbone=backbone, context=CONTEXT), BLOCKS - CONTEXT + 1
    actions = random_actions(layout, BATCH, BLOCKS, seed=2)
    noise = ImaginationNoise.sample(horizon, layout.num_symbols, BATCH, small.generator(3))
    state = world_model.start(small.tokens(layout, BATCH, CONTEXT), actions[:, : CONTEXT - 1])
    frames, told = [state.frames], []
    for t in range(horizon):
        state, *outcome = world_model.step(
            state, actions[:, CONTEXT - 1 + t], noise.step(t), predict_observation=t < horizon - 1
        )
        told.append(outcome)
        frames += [state.frames[:, -1:]] if t < horizon - 1 else []
    tokens = torch.cat(frames, dim=1)
    _, outputs = world_model.outputs(tokens, actions)
    for t, (rewards, ends) in enumerate(told):
        output = outputs[:, CONTEXT - 1 + t]
        assert torch.equal(rewards, sample_categorical(world_model.head_reward(output), noise.rewards[t]) - 1.0)
        assert torch.equal(ends, sample_categorical(world_model.head_end(output), noise.terminations[t]))
        for index in range(layout.num_tokens if t < horizon - 1 else 0):
            where = layout.place(index)[1]
            drawn = map(sample_categorical, token_logits(world_model, index, output), noise.tokens[t, where])
            assert torch.equal(tokens[:, CONTEXT + t, where], torch.stack(list(drawn), dim=1))


def test_every_parameter_is_trained() -> None:
    world_model = model(ONE, seed=1)
    sum(world_model.loss(**batch(ONE, full, seed)).total for seed in range(9)).backward()  # every symbol
    assert [name for name, p in world_model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_embeddings_are_dropped_in_training_alone() -> None:
    world_model, data = model(ONE, frame=FrameConfig(embed_dropout=0.5)), batch(ONE, full)
    x = world_model.embed(data["tokens"], data["actions"])
    assert not (world_model._blocks(x) == 0).any()
    shares = (world_model.train()._blocks(x) == 0).double().mean()
    assert 0.4 < shares < 0.6


@pytest.mark.parametrize("context", [1, 3])
@pytest.mark.parametrize("compat_reset", [False, True])
@torch.no_grad()
def test_imagination_reads_each_frame_once_or_the_current_one_twice(context: int, compat_reset: bool) -> None:
    """The seed study feeds it first with an action 0 that nobody took."""
    settings = {"context": context, "max_blocks": 5, "frame": FrameConfig(compat_reset=compat_reset)}
    world_model = model(ONE, **settings)
    frames, actions = small.tokens(ONE, BATCH, context), random_actions(ONE, BATCH, context, seed=1)
    actions[:, -1] = 1  # not 0
    noise = ImaginationNoise.sample(1, ONE.num_symbols, BATCH, small.generator(3))
    calls = small.calls_of(world_model.backbone, "step")
    state = world_model.start(frames, actions[:, :-1])
    world_model.step(state, actions[:, -1], noise.step(0))
    read = torch.cat([x for ((_, x), _) in calls], dim=1)
    again = (frames[:, -1:], torch.zeros_like(actions[:, -1:])) if compat_reset else (frames[:, :0], actions[:, :0])
    seen = torch.cat([frames[:, :-1], again[0], frames[:, -1:]], dim=1)
    taken = torch.cat([actions[:, :-1], again[1], actions[:, -1:]], dim=1)
    assert torch.equal(read, world_model.embed(seen, taken).unflatten(1, (seen.shape[1], -1)).flatten(2))
    assert torch.equal(state.frames, frames) and torch.equal(state.actions, actions[:, :-1])


@torch.no_grad()
def test_a_state_holds_as_many_frames_as_a_training_segment() -> None:
    world_model = model(ONE)
    frames, actions = small.tokens(ONE, BATCH, 1), random_actions(ONE, BATCH, 2 * BLOCKS, seed=1)
    noise = ImaginationNoise.sample(2 * BLOCKS, ONE.num_symbols, BATCH, small.generator(3))
    state, lengths = world_model.start(frames, actions[:, :0]), []
    for t in range(2 * BLOCKS):
        state, *_ = world_model.step(state, actions[:, t], noise.step(t))
        lengths.append(state.length // ONE.block_size)
    assert lengths == [*range(1, BLOCKS + 1)] * 2
