"""Rewards and ends read from the prediction of the next observation (M3), and the loss of each segment."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests import small
from tests.world_models.test_parallel import CONTEXT, KINDS, full, model, start
from tests.world_models.test_token import (
    BATCH,
    BLOCKS,
    LAYOUTS,
    ONE,
    batch,
    drawn_token,
    every_layout,
    right_padded,
    token_error,
)
from tests.world_models.test_token import model as reading_model
from tokenworlds.config import CuriosityConfig, Decoding, EndsAlignment, ReadOut
from tokenworlds.ops.categorical import sample_categorical
from tokenworlds.tokenizers.layout import TokenLayout
from tokenworlds.world_models.token import TokenWorldModel

MIXED = LAYOUTS["all modalities, three numbers an action"]
PREDICTION = {"read_out": ReadOut.prediction}
every_alignment = pytest.mark.parametrize("alignment", list(EndsAlignment), ids=lambda alignment: alignment.name)


def told_losses(world_model: TokenWorldModel, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The definition, one step at a time: rewards and ends are told where the step and the next one are real."""
    predicting, _ = world_model.outputs(data["tokens"], data["actions"])
    is_aligned, rewards, ends = world_model.ends_alignment is EndsAlignment.aligned, [], []
    for b, t in data["mask"].nonzero().tolist():
        if t + 1 == BLOCKS or not data["mask"][b, t + 1]:
            continue
        behind, its_own = predicting[b, t + 1, -1], predicting[b, t, -1]
        sign = data["rewards"][b, t].sign().long() + 1
        rewards.append(F.cross_entropy(world_model.head_reward(behind), sign))
        ends.append(F.cross_entropy(world_model.head_end(behind if is_aligned else its_own), data["ends"][b, t]))
    return torch.stack(rewards).mean(), torch.stack(ends).mean()


@every_alignment
@every_layout
@torch.no_grad()
def test_a_step_is_told_by_the_last_prediction_of_the_next_one(layout: TokenLayout, alignment: EndsAlignment) -> None:
    """Those of the context, too: what is given of an observation says nothing of the rewards. An end is learned there,
    or as published from the prediction of its own observation, which cannot know."""
    world_model = model(layout, **PREDICTION, ends_alignment=alignment)
    assert world_model.unscored_blocks == CONTEXT
    for mask in (full, right_padded()):
        data = batch(layout, mask)
        losses, (rewards, ends) = world_model.loss(**data), told_losses(world_model, data)
        torch.testing.assert_close(losses.rewards, rewards)
        torch.testing.assert_close(losses.ends, ends)
        usual = model(layout).loss(**data)
        torch.testing.assert_close(losses.observations, usual.observations)


@every_alignment
@torch.no_grad()
def test_the_last_reward_and_the_last_end_of_a_segment_are_not_learned(alignment: EndsAlignment) -> None:
    world_model, data = model(ONE, **PREDICTION, ends_alignment=alignment), batch(ONE, full)
    before = world_model.loss(**data)
    data["rewards"][:, -1] = -data["rewards"][:, -1]
    data["ends"][:, -1] = 1 - data["ends"][:, -1]
    assert world_model.loss(**data).named() == before.named()
    data["ends"][:, -2] = 1 - data["ends"][:, -2]
    assert world_model.loss(**data).ends != before.ends


@torch.no_grad()
def test_segments_of_one_step_tell_nothing() -> None:
    world_model, data = model(ONE, **PREDICTION), batch(ONE, torch.arange(BLOCKS).expand(BATCH, -1) < 1)
    losses = world_model.loss(**data)
    assert not losses.total and torch.equal(losses.segments, torch.zeros(BATCH).double())


@every_layout
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_imagination_reads_where_the_parallel_pass_is_read(kind: str, layout: TokenLayout) -> None:
    """Behind the block of the next observation; up to one block behind the context that fits."""
    horizon = BLOCKS - CONTEXT + 1
    world_model = model(layout, kind, **PREDICTION)
    state, actions, noise = start(world_model, horizon)
    frames, past, told = [state.frames], state.actions, []
    for t in range(horizon):
        assert state.length + 2 * layout.num_tokens + layout.action_tokens <= world_model.backbone.max_tokens
        state, *some = world_model.step(state, actions[:, t], noise.step(t))
        told.append(some)
        frames.append(state.tokens.unsqueeze(1))
    tokens, taken = torch.cat(frames, dim=1), torch.cat([past, actions, actions[:, :1]], dim=1)
    predicting, _ = world_model.outputs(tokens, taken)
    for t, (rewards, ends) in enumerate(told):
        outputs = predicting[:, t + CONTEXT]
        expected = sample_categorical(world_model.head_reward(outputs[:, -1]), noise.rewards[t]) - 1.0
        assert torch.equal(rewards, expected)
        assert torch.equal(ends, sample_categorical(world_model.head_end(outputs[:, -1]), noise.terminations[t]))
        for index in range(layout.num_tokens):
            drawn = drawn_token(world_model, index, outputs[:, index], noise.tokens[t])
            assert torch.equal(tokens[:, t + CONTEXT, layout.place(index)[1]], drawn)


@pytest.mark.parametrize("decoding", small.TOKENWISE, ids=lambda decoding: decoding.name)
@pytest.mark.parametrize("read_out", list(ReadOut), ids=lambda read_out: read_out.name)
@pytest.mark.parametrize("members", [0, 2])
@torch.no_grad()
def test_a_step_is_told_likewise_where_the_next_observation_is_not_asked_for(
    decoding: Decoding, read_out: ReadOut, members: int
) -> None:
    """Rewards that need the prediction get it."""
    if (decoding, read_out) == (Decoding.autoregressive, ReadOut.prediction):
        return  # refused with the configuration: the last prediction comes before the last token
    curiosity = CuriosityConfig(members, real_weight=1.0, intrinsic_weight=1.0)
    world_model = model(MIXED, decoding=decoding, read_out=read_out, curiosity=curiosity)
    told: dict[bool, list[Tensor]] = {True: [], False: []}
    for is_asked, rewards_and_ends in told.items():
        state, actions, noise = start(world_model, 2)
        state, *_ = world_model.step(state, actions[:, 0], noise.step(0))
        _, *some = world_model.step(state, actions[:, 1], noise.step(1), predict_observation=is_asked)
        rewards_and_ends += some
    for one, other in zip(told[True], told[False], strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("members", [0, 2])
@torch.no_grad()
def test_predicted_rewards_are_weighed_with_and_without_an_ensemble(members: int) -> None:
    """A task's weight of rewards stays where curiosity is taken away."""
    rewards = []
    for weight in (1.0, 100.0):
        world_model = model(MIXED, **PREDICTION, curiosity=CuriosityConfig(members, weight, intrinsic_weight=0.0))
        state, actions, noise = start(world_model, 1)
        rewards.append(world_model.step(state, actions[:, 0], noise.step(0))[1])
    assert rewards[0].count_nonzero()
    torch.testing.assert_close(rewards[1], 100 * rewards[0])


# Segments


@every_layout
@pytest.mark.parametrize("decoding", small.TOKENWISE, ids=lambda decoding: decoding.name)
@torch.no_grad()
def test_a_segment_costs_the_means_of_its_observations_and_rewards(layout: TokenLayout, decoding: Decoding) -> None:
    """What a segment of its own would cost, where rewards are read from actions as well as from predictions."""
    read_outs = [ReadOut.action] if decoding is Decoding.autoregressive else list(ReadOut)
    for read_out in read_outs:
        world_model = model(layout, decoding=decoding, read_out=read_out)
        data = batch(layout, right_padded().roll(1, dims=0))
        losses = world_model.loss(**data)
        assert losses.segments is not None and "segments" not in losses.named()
        for b, found in enumerate(losses.segments):
            alone = world_model.loss(**{name: values[b : b + 1] for name, values in data.items()})
            torch.testing.assert_close(found, alone.observations + alone.rewards)
        assert len(losses.segments.unique()) > 1


def test_the_cost_of_a_segment_carries_no_gradient() -> None:
    assert not model(ONE, **PREDICTION).loss(**batch(ONE, full)).segments.requires_grad


@torch.no_grad()
def test_a_token_costs_the_sum_over_its_symbols() -> None:
    """And an observation the mean over its tokens, however many symbols they have."""
    layout = LAYOUTS["a grid first, two choices an action"]
    world_model, data = reading_model(layout, decoding=Decoding.pop), batch(layout, full)
    predicting, _ = world_model.outputs(data["tokens"], data["actions"])
    errors = [
        token_error(world_model, index, predicting[b, t, index], data["tokens"][b, t])
        for b in range(BATCH)
        for t in range(BLOCKS)
        for index in range(layout.num_tokens)
    ]
    assert len(errors) == BATCH * BLOCKS * 5 and layout.num_symbols == 8
    torch.testing.assert_close(world_model.loss(**data).observations, torch.stack(errors).mean())
    one = small.layout_of(grid=(1, 4, 2))
    world_model, data = reading_model(one, decoding=Decoding.pop), batch(one, full)
    predicting, _ = world_model.outputs(data["tokens"], data["actions"])
    first, second = world_model.head_observation["grid"](predicting[:, :, 0]).split([4, 2], dim=-1)
    expected = sum(
        F.cross_entropy(logits.flatten(0, 1), data["tokens"][..., column].flatten())
        for column, logits in enumerate((first, second))
    )
    torch.testing.assert_close(world_model.loss(**data).observations, expected)
