"""Parallel observation prediction over every backbone: what a prediction may see, steps against the parallel pass,
context, embeddings by the codebook."""

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests import small
from tests.synchronisation import without_synchronisation
from tests.world_models.test_token import (
    ACTIONS,
    BATCH,
    BLOCKS,
    LAYOUTS,
    ONE,
    TWO,
    batch,
    drawn_token,
    every_layout,
    random_actions,
    right_padded,
    token_error,
)
from tokenworlds.agents.imagination import ImaginationNoise
from tokenworlds.config import Attention, Backbone, Decoding, Embeddings, Initialisation
from tokenworlds.ops.categorical import sample_categorical
from tokenworlds.tokenizers.layout import TokenLayout
from tokenworlds.world_models.parallel import ParallelWorldModel
from tokenworlds.world_models.token import TokenWorldModel, WorldModelState

CONTEXT = 2
KINDS = {
    "retnet": {"backbone": Backbone.retnet},
    "transformer": {"backbone": Backbone.transformer},
    "block-causal": {"backbone": Backbone.transformer, "attention": Attention.block_causal},
    "lstm": {"backbone": Backbone.lstm},
    "gru": {"backbone": Backbone.gru},
}
every_kind = pytest.mark.parametrize("kind", KINDS)
full = torch.ones(BATCH, BLOCKS, dtype=torch.bool)


def model(layout: TokenLayout, kind: str = "retnet", **changes: object) -> TokenWorldModel:
    settings = {"decoding": Decoding.pop, "context": CONTEXT, "unscored_blocks": CONTEXT} | KINDS[kind] | changes
    return small.world_model(layout, actions=ACTIONS[layout.action_tokens], **settings).double()


# Training


@every_kind
@torch.no_grad()
def test_a_prediction_sees_the_blocks_before_it_and_nothing_else(kind: str) -> None:
    world_model, data = model(TWO, kind), batch(TWO, full)
    before = world_model.outputs(data["tokens"], data["actions"])
    for changed in range(BLOCKS):
        tokens, actions = data["tokens"].clone(), data["actions"].clone()
        tokens[:, changed] = (tokens[:, changed] + 1) % 5
        actions[:, changed] = (actions[:, changed] + 1) % small.ACTIONS
        predicting, read_out = world_model.outputs(tokens, actions)
        moved = (predicting - before[0]).abs().amax(dim=(0, 2, 3)) > 0
        assert moved.tolist() == [t > changed for t in range(BLOCKS)]
        assert ((read_out - before[1]).abs().amax(dim=(0, 2)) > 0).tolist() == [t >= changed for t in range(BLOCKS)]


@every_layout
@every_kind
@torch.no_grad()
def test_losses_are_means_over_the_blocks_behind_the_context(layout: TokenLayout, kind: str) -> None:
    world_model, data = model(layout, kind), batch(layout, right_padded())
    losses = world_model.loss(**data)
    predicting, read_out = world_model.outputs(data["tokens"], data["actions"])
    observations, rewards, ends = [], [], []
    for b, t in data["mask"].nonzero().tolist():
        if t < CONTEXT:
            continue
        for index in range(layout.num_tokens):
            observations.append(token_error(world_model, index, predicting[b, t, index], data["tokens"][b, t]))
        sign = data["rewards"][b, t].sign().long() + 1
        rewards.append(F.cross_entropy(world_model.head_reward(read_out[b, t]), sign))
        ends.append(F.cross_entropy(world_model.head_end(read_out[b, t]), data["ends"][b, t]))
    for found, expected in zip((losses.observations, losses.rewards, losses.ends), (observations, rewards, ends)):
        torch.testing.assert_close(found, torch.stack(expected).mean())


@pytest.mark.parametrize("decoding", small.DECODINGS, ids=lambda decoding: decoding.name)
@torch.no_grad()
def test_the_context_is_read_but_not_scored(decoding: Decoding) -> None:
    world_model, data = model(ONE, decoding=decoding), batch(ONE, full)
    before = world_model.loss(**data)
    for name in ("rewards", "ends"):
        data[name][:, :CONTEXT] = 0
    assert world_model.loss(**data).named() == before.named()
    data["tokens"][:, 0] = (data["tokens"][:, 0] + 1) % 8
    assert world_model.loss(**data).observations != before.observations


@pytest.mark.parametrize("decoding", small.DECODINGS, ids=lambda decoding: decoding.name)
@torch.no_grad()
def test_segments_with_nothing_to_score_have_no_loss(decoding: Decoding) -> None:
    mask = torch.arange(BLOCKS).expand(BATCH, -1) < CONTEXT
    assert not model(ONE, decoding=decoding).loss(**batch(ONE, mask)).total


@every_kind
@pytest.mark.parametrize("decoding", small.DECODINGS, ids=lambda decoding: decoding.name)
def test_an_update_waits_for_nothing(kind: str, decoding: Decoding) -> None:
    layout = LAYOUTS["all modalities, three numbers an action"]
    world_model, data = model(layout, kind, decoding=decoding), batch(layout, right_padded())
    world_model.loss(**data)  # what is made once
    with without_synchronisation():
        world_model.loss(**data).total.backward()


@every_kind
@every_layout
def test_every_parameter_is_trained(kind: str, layout: TokenLayout) -> None:
    world_model = model(layout, kind, seed=1)
    sum(world_model.loss(**batch(layout, full, seed)).total for seed in range(9)).backward()  # every symbol
    assert [name for name, p in world_model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_one_prediction_token_may_serve_for_all() -> None:
    one, many = model(ONE, shared_prediction_token=True), model(ONE)
    assert isinstance(one, ParallelWorldModel) and isinstance(many, ParallelWorldModel)
    assert len(one.prediction_tokens.weight) == 1 and len(many.prediction_tokens.weight) == ONE.num_tokens
    with torch.no_grad():
        many.load_state_dict(
            one.state_dict() | {"prediction_tokens.weight": one.prediction_tokens.weight.expand(4, -1)}
        )
        data = batch(ONE, full)
        assert many.loss(**data).total == one.loss(**data).total


def test_initial_weights_are_torchs_where_the_method_says_so() -> None:
    torch.manual_seed(0)
    layout = small.layout_of(image=(4, 512))
    settings = {"backbone": Backbone.retnet, "decoding": Decoding.pop, "initialisation": Initialisation.torch}
    fresh = small.fresh_world_model(layout, embed_dim=16, **settings)
    assert fresh.embed_observation["image"].weight.std().item() == pytest.approx(1, rel=0.05)
    assert fresh.head_observation["image"][2].weight.abs().max() <= 16**-0.5
    gpt = small.fresh_world_model(layout, embed_dim=16, **(settings | {"initialisation": Initialisation.gpt}))
    assert gpt.embed_observation["image"].weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert gpt.prediction_tokens.weight.std().item() == pytest.approx(0.02, rel=0.3)
    assert fresh.prediction_tokens.weight.std().item() == pytest.approx(1, rel=0.3)
    given = small.fresh_world_model(layout, embed_dim=16, prediction_token_std=0.02, **settings)
    assert given.prediction_tokens.weight.std().item() == pytest.approx(0.02, rel=0.3)
    assert given.embed_observation["image"].weight.std().item() == pytest.approx(1, rel=0.05)


# Embeddings


def shared(codes: Tensor, **changes: object) -> TokenWorldModel:
    return model(ONE, embeddings=Embeddings.codebook, coded={"image": small.Codes(codes)}, **changes)


def test_observation_tokens_are_embedded_by_the_codebook_as_it_is_now() -> None:
    codes = torch.randn(8, 8, dtype=torch.float64, generator=small.generator()).requires_grad_()
    world_model, data = shared(codes), batch(ONE, full)
    embedded = world_model.embed(data["tokens"], data["actions"]).unflatten(1, (-1, 5))[:, :, :-1]
    assert torch.equal(embedded, codes[data["tokens"]])
    assert not any("embed_observation" in key for key in world_model.state_dict())
    world_model.loss(**data).total.backward()
    assert codes.grad is None and world_model.embed_action.weight.grad.any()
    with torch.no_grad():
        codes.add_(1)
    assert torch.equal(world_model.embed_tokens(data["tokens"][:, 0], 0, 4), codes[data["tokens"][:, 0]])


def test_a_copied_agent_reads_its_own_codebook() -> None:
    agent = small.rem_agent()
    copied = copy.deepcopy(agent)
    with torch.no_grad():
        copied.tokenizer.part("image").embedding.weight.add_(1)
    tokens = small.tokens(ONE, 1)
    moved = copied.world_model.embed_tokens(tokens, 0, 4) - agent.world_model.embed_tokens(tokens, 0, 4)
    torch.testing.assert_close(moved, torch.ones_like(moved))


def test_frozen_action_embeddings_never_learn() -> None:
    world_model = model(ONE, decoding=Decoding.autoregressive, frozen_action_embeddings=True)
    world_model.loss(**batch(ONE, full)).total.backward()
    assert world_model.embed_action.weight.grad is None


# Imagination


def start(world_model: TokenWorldModel, horizon: int) -> tuple[WorldModelState, Tensor, ImaginationNoise]:
    layout = world_model.layout
    frames = small.tokens(layout, BATCH, CONTEXT)
    past = random_actions(layout, BATCH, CONTEXT - 1, seed=1)
    actions = random_actions(layout, BATCH, horizon, seed=2)
    noise = ImaginationNoise.sample(horizon, layout.num_symbols, BATCH, small.generator(3))
    return world_model.start(frames, past), actions, noise


@pytest.mark.parametrize(
    ("kind", "decoding"),
    [
        (kind, decoding)
        for kind in KINDS
        for decoding in small.TOKENWISE
        # tokens read one by one are no parallel pass where attention is full inside a block
        if (kind, decoding) != ("block-causal", Decoding.autoregressive)
    ],
)
@every_layout
@torch.no_grad()
def test_imagination_draws_from_the_logits_of_the_parallel_pass(
    kind: str, layout: TokenLayout, decoding: Decoding
) -> None:
    horizon = BLOCKS - CONTEXT + 1
    world_model = model(layout, kind, decoding=decoding)
    state, actions, noise = start(world_model, horizon)
    frames, past, rewards, ends = [state.frames], state.actions, [], []
    for t in range(horizon):
        state, reward, end = world_model.step(state, actions[:, t], noise.step(t), predict_observation=t < horizon - 1)
        rewards.append(reward)
        ends.append(end)
        if t < horizon - 1:
            frames.append(state.frames[:, -1:])
    tokens, taken = torch.cat(frames, dim=1), torch.cat([past, actions], dim=1)
    assert tokens.shape[1] == taken.shape[1] == BLOCKS
    predicting, read_out = world_model.outputs(tokens, taken)
    for t in range(horizon):
        at = t + CONTEXT - 1
        reward = sample_categorical(world_model.head_reward(read_out[:, at]), noise.rewards[t]) - 1.0
        assert torch.equal(rewards[t], reward)
        assert torch.equal(ends[t], sample_categorical(world_model.head_end(read_out[:, at]), noise.terminations[t]))
        for index in range(layout.num_tokens if t < horizon - 1 else 0):
            drawn = drawn_token(world_model, index, predicting[:, at + 1, index], noise.tokens[t])
            assert torch.equal(tokens[:, at + 1, layout.place(index)[1]], drawn)


@every_layout
@every_kind
@torch.no_grad()
def test_a_step_is_one_pass_whatever_the_number_of_tokens(kind: str, layout: TokenLayout) -> None:
    world_model = model(layout, kind)
    state, actions, noise = start(world_model, 1)
    calls = small.calls_of(world_model.backbone, "step_and_query")
    world_model.step(state, actions[:, 0], noise.step(0))
    (((_, x, query_tokens), _),) = calls
    assert x.shape[1] + query_tokens.shape[1] == layout.num_tokens + layout.block_size


@every_kind
@torch.no_grad()
def test_a_step_that_does_not_fit_starts_anew_from_the_context(kind: str) -> None:
    world_model = model(ONE, kind)
    state, actions, noise = start(world_model, 8)
    for t in range(8):
        fits = state.length + 2 * ONE.num_tokens + 1 <= world_model.backbone.max_tokens
        anew = world_model.start(state.frames, state.actions) if not fits else None
        state, reward, _ = world_model.step(state, actions[:, t], noise.step(t))
        if anew is not None:
            expected, expected_reward, _ = world_model.step(anew, actions[:, t], noise.step(t))
            assert torch.equal(state.tokens, expected.tokens) and torch.equal(reward, expected_reward)
            assert state.length == expected.length
            return
    raise AssertionError("the context never filled up")


def test_the_state_remembers_the_last_frames_and_the_actions_between_them() -> None:
    world_model = model(ONE, context=3, max_blocks=6)
    with torch.no_grad():
        frames, past = small.tokens(ONE, BATCH, 3), torch.zeros(BATCH, 2, dtype=torch.int64)
        state = world_model.start(frames, past)
        after, _, _ = world_model.step(state, torch.full((BATCH,), 2), small.step_noise(ONE, BATCH))
    assert torch.equal(after.frames[:, :2], frames[:, 1:])
    assert torch.equal(after.actions, torch.tensor([[0, 2]]).expand(BATCH, -1))
