"""Consistency models in Delta-IRIS: the boundary, levels, what reaches what in training, imagination, sizes."""

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import small
from tests.methods.support import build, count, published
from tests.world_models import consistency_toy as toy
from tokenworlds.agents.consistency import ConsistencyAgent
from tokenworlds.config import Context
from tokenworlds.errors import UserError
from tokenworlds.replay import Segments
from tokenworlds.world_models.base import StepNoise
from tokenworlds.world_models.consistency import schedules
from tokenworlds.world_models.consistency.schedules import Intervals
from tokenworlds.world_models.consistency.world_model import ConsistencyLosses, ConsistencyWorldModel, Draws

BATCH, LENGTH = 3, 6
SIGMA_MIN = 0.002
both = pytest.mark.parametrize("context", list(Context), ids=lambda context: context.name)


def given(world_model: ConsistencyWorldModel, batch: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """A delta, context states and actions."""
    draws, n = small.generator(1), world_model.context_states
    shape = world_model.shape
    deltas, context = torch.randn(batch, *shape, generator=draws), torch.randn(batch, n, *shape, generator=draws)
    return deltas, context, torch.randint(small.ACTIONS, (batch, n), generator=draws)


def segments(lengths: tuple[int, ...] = (LENGTH,) * BATCH, start: int = 0) -> Segments:
    buffer = small.buffer(list(lengths))
    starts = torch.full((len(lengths),), start, dtype=torch.int64)
    return buffer.segments(torch.arange(len(lengths)), starts, LENGTH)


def drawn(world_model: ConsistencyWorldModel, points: int = 11, batch: int = BATCH) -> Draws:
    return world_model.draw(batch, LENGTH, Intervals.of(points, world_model.generator, small.CPU), small.generator(2))


def losses(agent: ConsistencyAgent, some: Segments, draws: Draws) -> ConsistencyLosses:
    frames, _, deltas = agent.context(some)
    outcomes = some.rewards, some.terminations, some.mask
    result = agent.world_model.loss(frames, some.actions, deltas, *outcomes, draws)
    assert isinstance(result, ConsistencyLosses)
    return result


# The function and its levels


@torch.no_grad()
def test_the_lowest_level_is_the_boundary() -> None:
    """There nothing changes, and at high levels the network alone decides."""
    world_model = small.spread(small.consistency_world_model())
    noisy, context, actions = given(world_model)
    at_boundary = world_model.function(noisy, torch.full((4,), SIGMA_MIN), context, actions)
    torch.testing.assert_close(at_boundary, noisy, rtol=0, atol=0)
    _, skip, out, _ = world_model.function.coefficients(torch.tensor([1e5]))
    assert skip.item() < 1e-9 and out.item() == pytest.approx(0.5, abs=1e-6)


@torch.no_grad()
def test_a_fresh_network_is_the_bias_of_its_last_convolution() -> None:
    world_model = small.consistency_world_model()
    noisy, context, actions = given(world_model)
    network = world_model.function.network
    output = network(noisy, torch.linspace(-1, 1, 4), context, actions)
    assert torch.equal(output, network.conv_out.bias[:, None, None].expand_as(output))


def test_the_number_of_levels_doubles_in_equal_stages() -> None:
    found = [schedules.points(update, 8_000, 10, 1280) for update in range(8_000)]
    stages = [11, 21, 41, 81, 161, 321, 641, 1281]
    assert schedules.all_points(10, 1280) == stages
    assert found == [count for count in stages for _ in range(1_000)]
    assert schedules.points(9, 3, 10, 1280) == 1281  # fewer updates than stages
    assert {schedules.points(update, 100, 3, 50) for update in range(200)} <= set(schedules.all_points(3, 50))


def test_intervals_are_drawn_by_their_probabilities() -> None:
    config = small.consistency_world_model().generator
    levels = schedules.grid(11, config)
    assert (levels[0].item(), levels[-1].item()) == (config.sigma_min, config.sigma_max)
    expected = schedules.probabilities(levels, config.level_mean, config.level_std)
    assert expected.sum().item() == pytest.approx(1)
    index = Intervals.of(11, config, small.CPU).draw(torch.rand(100_000, generator=small.generator()))
    frequencies = torch.bincount(index, minlength=10) / len(index)
    torch.testing.assert_close(frequencies, expected.float(), rtol=0, atol=0.01)
    assert Intervals.of(11, config, small.CPU).draw(torch.tensor([0.0, 1 - 2**-24])).tolist() == [0, 9]


@torch.no_grad()
def test_a_published_ladder_ends_with_an_evaluation_that_changes_nothing() -> None:
    """With three levels; one level is one evaluation."""
    world_model = small.spread(small.consistency_world_model())
    world_model.function.ladder = schedules.ladder(replace(world_model.generator, published_noise=True))
    assert world_model.function.ladder == pytest.approx([80, 40.001, 0.002])
    results: list[Tensor] = []
    world_model.function.register_forward_hook(lambda module, given, output: results.append(output))
    _, context, actions = given(world_model)
    noise = torch.randn(3, 4, *world_model.shape, generator=small.generator())
    world_model.function.sample(context, actions, noise)
    assert len(results) == 3
    torch.testing.assert_close(results[2], results[1], rtol=0, atol=1e-6)
    single = schedules.ladder(replace(world_model.generator, evaluations=1))
    assert single == [80.0]
    world_model.function.ladder = single
    world_model.function.sample(context, actions, noise[:1])
    assert len(results) == 4


# Training


def test_the_network_wakes_up_from_its_end() -> None:
    """The first update moves its last convolution alone, the third has moved all of it."""
    agent = small.consistency_agent()
    agent.world_model = small.consistency_world_model()
    network = agent.world_model.function.network
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    optimizer = torch.optim.Adam(agent.world_model.parameters(), 1e-2)
    moved: list[set[str]] = []
    for _ in range(3):
        optimizer.zero_grad()
        losses(agent, segments(), drawn(agent.world_model)).total.backward()
        optimizer.step()
        moved.append({name for name, value in network.named_parameters() if not torch.equal(value, before[name])})
    assert moved[0] == {"conv_out.weight", "conv_out.bias"}
    assert moved[2] == before.keys()


@both
def test_no_gradient_passes_the_teacher_or_a_generated_delta(context: Context) -> None:
    """Neither later predictions nor the head teach the ones whose deltas they read."""
    agent = small.consistency_agent(context=context)
    denoised, errors = (small.calls_of(agent.world_model, name) for name in ("_denoised", "_generation_errors"))
    losses(agent, segments(), drawn(agent.world_model))
    found = errors[0].given[0]
    assert not found.teacher.requires_grad
    students = [call.result[0] for call in denoised]
    assert len(students) == (1 if context is Context.real else found.student.shape[1])
    for index, student in enumerate(students):
        reading = torch.stack([part.sum() for part in (*students[index + 1 :], found.outputs)]).sum()
        assert student.requires_grad and reading.requires_grad
        assert torch.autograd.grad(reading, student, retain_graph=True, allow_unused=True) == (None,)


@both
def test_contexts_hold_what_was_generated_or_what_was_real(context: Context) -> None:
    """Another noise for the first prediction changes the second, or it does not."""
    agent = small.consistency_agent(context=context)
    draws = drawn(agent.world_model)
    other = copy.deepcopy(draws)
    other.student[:, 0] += 1
    calls = small.calls_of(agent.world_model, "_generation_errors")
    for some in (draws, other):
        losses(agent, segments(), some)
    one, two = (call.given[0].student for call in calls)
    assert not torch.equal(one[:, 0], two[:, 0])
    assert torch.equal(one[:, 1], two[:, 1]) == (context is Context.real)


def test_a_context_knows_nothing_of_the_frame_to_come() -> None:
    """What is generated depends on the action before it, and not on the next frame."""
    agent = small.consistency_agent(context=Context.real)
    some = segments()
    frames, _, deltas = agent.context(some)
    contexts = small.calls_of(agent.world_model, "_denoised")
    changed_frames = frames.clone()
    changed_frames[:, 2] = 1 - changed_frames[:, 2]
    changed_deltas = agent.tokens(changed_frames, some.actions[:, :-1])
    changed_actions = (some.actions + 1) % small.ACTIONS
    outcomes = some.rewards, some.terminations, some.mask
    draws = drawn(agent.world_model)
    for pictures, actions, moves in (
        (frames, some.actions, deltas),
        (changed_frames, some.actions, changed_deltas),
        (frames, changed_actions, deltas),
    ):
        agent.world_model.loss(pictures, actions, moves, *outcomes, draws)
    read = [call.given[1].unflatten(0, (BATCH, -1)) for call in contexts]
    assert torch.equal(read[0][:, 0], read[1][:, 0])  # of the prediction of frame 2
    assert not torch.equal(read[0][:, 1], read[1][:, 1])
    generated = [call.result[0].unflatten(0, (BATCH, -1)) for call in contexts]
    assert not torch.allclose(generated[0][:, 0], generated[2][:, 0])


def test_the_steps_that_count_are_followed_by_a_frame_or_end_an_episode() -> None:
    agent = small.consistency_agent()
    calls = small.calls_of(agent.world_model, "_generation_errors")
    buffer = small.buffer([6, 4, 4], is_open=True)
    some = buffer.segments(torch.tensor([0, 1, 2]), torch.tensor([-3, 0, 0]), LENGTH)
    losses(agent, some, drawn(agent.world_model))
    counts = calls[0].given[3]
    assert counts.tolist() == [[False, False, True, True], [True, True, True, False], [True, True, False, False]]


def test_the_running_mean_square_begins_with_the_first_batch() -> None:
    """Transitions into padding or out of it do not count, and evaluation leaves it alone."""
    agent = small.consistency_agent()
    world_model, some = agent.world_model, segments((6, 4, 3))
    _, _, deltas = agent.context(some)
    is_real = some.mask[:, :-1] & some.mask[:, 1:]
    expected = deltas[is_real].square().mean()
    losses(agent, some, drawn(world_model))
    assert not world_model.is_measured and world_model.mean_square == 1
    world_model.train()
    losses(agent, some, drawn(world_model))
    torch.testing.assert_close(world_model.mean_square, expected)
    world_model.measure(2 * deltas, is_real)
    torch.testing.assert_close(world_model.mean_square, expected * (1 + 0.01 * 3))
    world_model.measure(deltas, torch.zeros_like(is_real))
    torch.testing.assert_close(world_model.mean_square, expected * (1 + 0.01 * 3))


def test_the_prediction_loss_is_scaled_to_the_consistency_loss() -> None:
    agent = small.consistency_agent()
    found = losses(agent, segments(), drawn(agent.world_model))
    ratio = (found.observations / (0.5 * found.measured["prediction_error"])).clamp(0.1, 10)
    torch.testing.assert_close(found.prediction, 0.5 * ratio * found.measured["prediction_error"])
    without = small.consistency_agent(prediction_weight=0.0)
    assert losses(without, segments(), drawn(without.world_model)).prediction == 0


def test_student_and_teacher_share_their_noise_unless_as_published() -> None:
    shared, separate = (
        drawn(small.consistency_world_model(published_noise=published_noise)) for published_noise in (False, True)
    )
    assert torch.equal(shared.student, shared.teacher)
    assert not torch.equal(separate.student, separate.teacher)


# Imagination


def step_noise(agent: ConsistencyAgent, batch: int, seed: int = 0) -> StepNoise:
    uniforms = torch.rand(agent.num_draws + 2, batch, generator=small.generator(seed))
    return StepNoise(uniforms[0], uniforms[1], uniforms[2:])


@torch.no_grad()
def test_true_deltas_show_what_the_tokenizer_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, some = small.consistency_agent(), segments()
    frames, actions, deltas = agent.context(some)
    agent.world_model.mean_square.fill_(0.3)
    true = agent.world_model.scaled(deltas[:, 2])
    monkeypatch.setattr(agent.world_model.function, "sample", lambda *_: true)
    state = agent.start(agent.context(some.steps(slice(0, 3))))
    state, _, _ = agent.step(state, actions[:, 2], step_noise(agent, BATCH))
    expected = agent.reconstruct(some)["reconstruction"][:, 3]
    torch.testing.assert_close(state.frames, expected, rtol=0, atol=1 / 255 + 1e-6)
    assert (state.frames - frames[:, 3]).abs().max() > 0


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_short_history_is_one_behind_black_frames(length: int) -> None:
    """Padding of a segment and frames that are missing are the same: frame 0, action 0, delta 0."""
    agent = small.consistency_agent(context_states=4, context_frames=5)
    buffer = small.buffer([LENGTH])
    one = torch.zeros(1, dtype=torch.int64)
    short = agent.start(agent.context(buffer.segments(one, one, length)))
    padded = agent.start(agent.context(buffer.segments(one, one - 5 + length, 5)))
    for name in ("past", "actions", "frames"):
        torch.testing.assert_close(getattr(short, name), getattr(padded, name))
    assert short.past.shape[1] == short.actions.shape[1] == 3


@torch.no_grad()
def test_the_action_and_the_temperature_matter() -> None:
    agent = small.consistency_agent()
    state = agent.start(agent.context(segments()))
    actions, noise = torch.zeros(BATCH, dtype=torch.int64), step_noise(agent, BATCH)
    sampled = small.calls_of(agent.world_model.function, "sample")
    for some in (actions, actions, actions + 1):
        agent.step(state, some, noise)
    one, again, other = (call.result for call in sampled)
    assert torch.equal(one, again) and not torch.allclose(one, other)


# Configuration and sizes


@pytest.mark.parametrize("actions", [9, 18])
def test_published_sizes(actions: int) -> None:
    agent = published("delta_iris", "variant=consistency", actions=actions)
    world_model = agent.world_model
    network = world_model.function.network
    assert count(world_model) == 107_843_620 + 64 * actions
    assert count(agent.tokenizer) == 3_916_147 + 4_352 * actions
    parts = (network.unet, network.conv_in, network.condition, network.conv_out, network.norm_out)
    assert [count(part) for part in parts] == [88_657_920, 1_475_072, 131_584, 294_976, 1_024]
    others = (world_model.head, world_model.frame_encoder, world_model.mixer)
    assert [count(part) for part in others] == [16_801_792, 442_020, 39_232]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("channels=[32]", "one number for each level"),
        ("channels=[40,40]", "multiples of 32"),
        ("condition_dim=33", "a multiple of 2"),
        ("sigma_min=1", "below sigma_max"),
        ("first_intervals=2000", "must not exceed last_intervals"),
        ("context_states=16", "must be less than training.sequence_length"),
    ],
)
def test_what_cannot_work_is_refused(setting: str, message: str) -> None:
    more = ("model.world_model.generator.sigma_max=0.5",) if setting.startswith("sigma") else ()
    variant = {"kind": "consistency", "context_states": 2, "channels": "[32,32]", "depths": "[1,1]"}
    variant |= {"attention": "[0,0]", "condition_dim": 32}
    settings = [f"model.world_model.generator.{name}={value}" for name, value in variant.items()]
    with pytest.raises(UserError, match=message):
        build("delta_iris", *settings, f"model.world_model.generator.{setting}", *more)


# Learning


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("seed", "changes", "one", "six"),
    [(0, {}, 0.95, 0.7), (1, {}, 0.95, 0.7), (0, {"prediction_weight": 0.0}, 0.95, 0.8)],
)
def test_a_moving_dot_is_learned(seed: int, changes: dict[str, Any], one: float, six: float) -> None:
    shares = toy.measured(toy.trained(seed, **changes))
    assert shares.right[0] >= one and shares.right[-1] >= six
    assert shares.rewards > shares.majority + 0.2
    assert math.isfinite(float(shares.right.sum()))
