"""The quality of world models: exact where the prediction is perfect or known, for every method and episode length."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import small
from tests.methods.support import configure
from tokenworlds.agents.base import Agent
from tokenworlds.agents.delta import DeltaAgent
from tokenworlds.agents.imagined_world import ImaginedWorld
from tokenworlds.config import RunConfig
from tokenworlds.ops.symlog import symlog
from tokenworlds.replay import EvaluationBuffer, ReplayBuffer, Segments
from tokenworlds.runs.columns import OPEN_LOOP, OTHER, STILL, TEACHER_FORCED, TOKENIZER
from tokenworlds.training import world_model_quality as quality
from tokenworlds.training.evaluator import Evaluator
from tokenworlds.training.world_model_quality import (
    HORIZONS,
    STARTS,
    Quality,
    Row,
    frames_of,
    loss_on_random_play,
    measure,
)
from tokenworlds.world_models.heads import BucketHead
from tokenworlds.world_models.predictions import OutcomePredictions

AGENTS: dict[str, Callable[[], Agent]] = {
    "iris": small.agent, "rem": small.rem_agent, "delta_iris": small.delta_agent, "m3": small.m3_agent,
}  # fmt: skip
LENGTHS = [70, 12, 9]


@pytest.fixture(params=AGENTS)
def agent(request: pytest.FixtureRequest) -> Agent:
    return AGENTS[request.param]()


def method_of(agent: Agent) -> str:
    if isinstance(agent, DeltaAgent):
        return "delta_iris"
    return "iris" if agent.context_frames == 1 else "m3" if getattr(agent.world_model, "ensemble", None) else "rem"


def config_of(agent: Agent) -> RunConfig:
    """Training sequences that the agent's memory holds."""
    return configure(method_of(agent), "training.sequence_length=4")


def measured(agent: Agent, lengths: list[int] | ReplayBuffer = LENGTHS, seed: int = 0, episodes: int = 99) -> Quality:
    buffer = lengths if isinstance(lengths, ReplayBuffer) else small.buffer(lengths, spec=small.spec_of(agent))
    return measure(config_of(agent), agent, buffer, small.generator(seed), episodes)


def values(found: Quality, **wanted: Any) -> list[float]:
    return [row["value"] for row in found.rows if all(row[key] == value for key, value in wanted.items())]


def of(row: Row) -> tuple[Any, ...]:
    return tuple(row[key] for key in ("episode", "predictor", "horizon", "part", "measure"))


def test_the_same_uniforms_give_the_same_numbers_and_the_agent_stays_as_it_is(agent: Agent) -> None:
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    first, again, other = (measured(agent, seed=seed) for seed in (0, 0, 1))
    assert first == again and first.rows != other.rows
    assert [of(row) for row in first.rows] == list(dict.fromkeys(of(row) for row in first.rows))
    for predictor in (STILL, OTHER, TOKENIZER, TEACHER_FORCED):  # nothing in them is sampled
        assert [row for row in first.rows if row["predictor"] == predictor] == [
            row for row in other.rows if row["predictor"] == predictor
        ]
    assert all(torch.equal(value, before[name]) for name, value in agent.state_dict().items())
    assert not any(module._forward_hooks for module in agent.modules())


class PerfectWorld:
    """Knows what happened: the rows of the buffer that follow the start."""

    def __init__(self, agent: Agent, buffer: ReplayBuffer) -> None:
        self.agent, self.buffer, self.generator = agent, buffer, small.generator()

    def __call__(self, agent: Agent, generator: torch.Generator, memory: int) -> "PerfectWorld":
        return self

    def begin(self, segments: Segments) -> None:
        self.rows = segments.rows[:, -1]

    def step(self, actions: Tensor) -> "PerfectWorld":
        steps, model = self.buffer.read(self.rows.unsqueeze(1)), self.agent.world_model
        rewards = model.rewards.target(steps.rewards[:, 0])
        is_bucket = isinstance(model.rewards, BucketHead)
        right = model.rewards.weights(symlog(rewards)) if is_bucket else torch.eye(3)[rewards.long() + 1]
        model.head_reward((right + 1e-30).log())
        self.terminations = steps.terminations[:, 0].long()
        model.head_end((torch.eye(2)[self.terminations] + 1e-30).log())
        self.rows = (self.rows + 1).clamp(max=self.buffer.rows - 1)
        pair = self.buffer.read(torch.stack([self.rows - 1, self.rows], dim=1))
        self.now = {name: seen[:, 1] for name, seen in pair.observations.items()}
        is_delta = isinstance(self.agent, DeltaAgent)
        self.tokens = self.agent.tokens(pair.observations["image"], actions[:, None])[:, 0] if is_delta else None
        if not is_delta:
            self.tokens = self.agent.encode(self.now)
        return self

    def observations(self) -> dict[str, Tensor]:
        return self.now


def test_a_perfect_world_model_has_no_error(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = small.buffer(LENGTHS, spec=small.spec_of(agent))
    agent.world_model.head_reward = agent.world_model.head_end = nn.Identity()
    agent.world_model.head_end = nn.Identity()
    monkeypatch.setattr(quality, "ImaginedWorld", PerfectWorld(agent, buffer))
    monkeypatch.setattr(quality, "_teacher_forced", lambda *arguments: [])
    found = measured(agent, buffer)
    best = {"ssim": 1.0, "accuracy": 1.0}
    best |= dict.fromkeys(("mse", "symlog_error", "reward_squared_error", "end_error"), 0.0)
    for name, value in best.items():
        own = values(found, predictor=OPEN_LOOP, measure=name)
        assert own == pytest.approx(
            [value] * len(own), abs=0.1 if name == "reward_squared_error" and "m3" in method_of(agent) else 1e-6
        )
        if own and name not in ("end_error", "symlog_error"):
            assert values(found, predictor=OTHER, measure=name) != own
    for kind in ("reward", "end"):
        assert values(found, measure=f"{kind}_predicted") == pytest.approx(
            values(found, measure=f"{kind}_observed"), abs=0.2
        )


def episodes_of_shades(lengths: list[int], first: list[int], step: int) -> ReplayBuffer:
    """Plain pictures that brighten by ``step`` of 255; the reward is 2 at every third step."""
    buffer = ReplayBuffer(small.picture_spec(), sum(lengths), small.CPU)
    for length, shade in zip(lengths, first):
        shades = torch.tensor([shade + step * index for index in range(length)], dtype=torch.uint8)
        frames = shades[:, None, None, None].expand(-1, 3, small.RESOLUTION, small.RESOLUTION)
        rewards = torch.tensor([2.0 * (index % 3 == 2) for index in range(length)])
        ends = torch.arange(length) == length - 1
        buffer.extend({"image": frames}, torch.zeros(length, dtype=torch.int64), rewards, ends)
    return buffer


def test_baselines_are_what_they_are_computed_by_hand() -> None:
    """Two episodes of 9 steps, all of whose frames up to the last are starts: 0 ... 7 and, for rewards, 8, too."""
    found = measured(small.agent(), episodes_of_shades([9, 9], [0, 40], 4))
    for horizon in (1, 5):
        of_episode = {"episode": 0, "horizon": horizon}
        assert values(found, **of_episode, predictor=STILL, measure="mse") == pytest.approx([(4 * horizon / 255) ** 2])
        assert values(found, **of_episode, predictor=OTHER, measure="mse") == pytest.approx([(40 / 255) ** 2])
    (row,) = (row for row in found.rows if of(row) == (0, STILL, 5, "image", "mse"))
    starts = frames_of(9, 0)
    assert row["count"] == sum(start + 5 <= 8 for start in starts)
    steps = [step for start in starts for step in range(start, min(start + 5, 9))]
    assert values(found, episode=0, predictor=STILL, horizon=5, measure="reward_squared_error") == pytest.approx(
        [sum(step % 3 == 2 for step in steps) / len(steps)]  # of the sign, which the model learns
    )
    assert values(found, episode=0, predictor=STILL, horizon=5, measure="end_error") == pytest.approx(
        [sum(step == 8 for step in steps) / len(steps)]
    )
    assert values(found, episode=0, predictor=OTHER, horizon=5, measure="reward_squared_error") == [0.0]
    assert not values(found, horizon=10, measure="mse")


def test_rewards_and_ends_count_as_training_gives_them(agent: Agent) -> None:
    """The numbers are those of the rewards that training gives; of lives there are several ends."""
    spec, length = small.spec_of(agent), 20
    actions, frames = small.actions(spec.actions, length, draws=small.generator()), small.observations(spec, length)
    signs, ends = torch.arange(float(length)) % 3 - 1, torch.arange(length) == length - 1
    lives = ends | (torch.arange(length) % 7 == 6)

    def found(buffer: ReplayBuffer, rewards: Tensor, *trained: Tensor) -> Quality:
        buffer.extend(frames, actions, rewards, ends, trained=trained)
        return measured(agent, buffer)

    plain = found(ReplayBuffer(spec, length, small.CPU), signs)
    games, of_lives = (
        found(EvaluationBuffer(spec, length, small.CPU), 8 * signs, signs, given) for given in (ends, lives)
    )
    assert games.rows == plain.rows and games.measures == plain.measures
    counts = [{row["measure"]: row["count"] for row in one.measures}.get("end_f1", 0) for one in (games, of_lives)]
    assert counts[1] - counts[0] == int(lives.sum() - ends.sum())  # M3 has no block behind the last step
    errors = [values(one, predictor=STILL, measure="end_error", horizon=20)[0] for one in (games, of_lives)]
    assert errors[0] < errors[1]


def test_open_loop_remembers_as_much_as_the_published_agent(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    memories = list[int]()

    class Recorded(ImaginedWorld):
        def __init__(self, agent: Agent, generator: torch.Generator, memory: int) -> None:
            memories.append(memory)
            super().__init__(agent, generator, memory)

    monkeypatch.setattr(quality, "ImaginedWorld", Recorded)
    config = config_of(agent)
    measure(config, agent, small.buffer([9], spec=small.spec_of(agent)), small.generator(), 1)
    assert memories == [config.model.world_model.max_blocks if isinstance(agent, DeltaAgent) else 4] != [0]


@pytest.mark.parametrize(("lengths", "left_out"), [([1, 1], 2), ([1, 9, 2, 3], 2), ([2, 2, 2], 3)])
def test_episodes_shorter_than_the_context_are_left_out_and_counted(lengths: list[int], left_out: int) -> None:
    """REM starts after two steps."""
    found = measured(small.rem_agent(), lengths)
    assert (found.episodes, found.left_out) == (len(lengths) - left_out, left_out)
    assert {row["episode"] for row in found.rows} == {index for index, length in enumerate(lengths) if length > 2}
    assert bool(values(found, predictor=OTHER)) == (found.episodes > 1)


@pytest.mark.parametrize("length", [1, 2, 9, 51, 52, 400])
@pytest.mark.parametrize("first", [0, 3])
def test_starts_are_spread_over_what_follows_the_context(length: int, first: int) -> None:
    frames = frames_of(length, first)
    assert len(frames) == min(STARTS, max(length - first, 0)) and sorted(set(frames)) == frames
    assert all(first <= frame < length for frame in frames)
    gaps = [after - before for before, after in pairwise(frames)]
    assert not gaps or max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("lengths", [[60, 8], [5, 53, 2]])
def test_every_horizon_counts_the_starts_that_so_many_frames_follow(agent: Agent, lengths: list[int]) -> None:
    found = measured(agent, lengths)
    context = 2 if method_of(agent) in ("rem", "m3") else agent.context_frames - 1
    for index, length in enumerate(lengths):
        for horizon in HORIZONS:
            expected = sum(start + horizon < length for start in frames_of(length, context))
            counts = [row["count"] for row in found.rows if of(row) == (index, OPEN_LOOP, horizon, "", "accuracy")]
            assert counts == ([expected] if expected else [])


def test_other_episodes_are_not_measured(agent: Agent) -> None:
    assert {row["episode"] for row in measured(agent, episodes=2).rows} == {0, 1}


@torch.no_grad()
def test_teacher_forced_losses_are_the_held_out_ones_without_weights(agent: Agent) -> None:
    buffer = small.buffer([4], spec=small.spec_of(agent))
    expected = Evaluator(config_of(agent), agent, small.CPU)._held_out("world_model", buffer)
    found = measured(agent, buffer)
    weights = vars(agent.world_model.weights) if isinstance(agent, DeltaAgent) else {}
    for name in ("observations", "rewards", "ends"):
        (value,) = values(found, predictor=TEACHER_FORCED, measure=f"loss_{name}")
        assert value * weights.get(name, 1.0) == pytest.approx(expected[f"world_model/eval/loss_{name}"], rel=1e-5)
    for name in ("reward_accuracy", "end_accuracy"):
        assert values(found, predictor=TEACHER_FORCED, measure=name) == pytest.approx(
            [expected[f"world_model/eval/{name}"]]
        )


@torch.no_grad()
def test_the_number_of_batches_changes_nothing_teacher_forced(agent: Agent) -> None:
    """Every step of an episode counts, those of a short last batch, too, and none twice, where segments overlap."""
    buffer, found = small.buffer([23, 9], spec=small.spec_of(agent)), []
    for size in (1, 4, 99):
        config = configure(method_of(agent), f"evaluation.world_model_batch_size={size}", "training.sequence_length=4")
        rows = measure(config, agent, buffer, small.generator(0), 9).rows
        found.append({of(row): row for row in rows if row["predictor"] == TEACHER_FORCED})
        (random_play,) = loss_on_random_play(config, agent, buffer)
        tokens = [row for what, row in found[-1].items() if what[-1] == "loss_observations"]
        mean = sum(row["value"] * row["count"] for row in tokens) / sum(row["count"] for row in tokens)
        assert random_play["value"] == pytest.approx(mean, rel=1e-5)
    assert found[0].keys() == found[1].keys() == found[2].keys()
    for what, row in found[2].items():
        for some in found[:2]:
            assert some[what]["count"] == row["count"] and some[what]["value"] == pytest.approx(row["value"], rel=1e-5)
    (scored,) = {row["count"] for what, row in found[0].items() if what[0] == 0 and what[-1] == "loss_rewards"}
    assert 23 - 8 < scored <= 23


@torch.no_grad()
def test_a_consistency_loss_is_not_that_of_a_token() -> None:
    config = configure("delta_iris", "training.sequence_length=4", variant="consistency")
    found = measure(config, small.consistency_agent(), small.buffer([9]), small.generator(0), 9)
    assert not values(found, measure="loss_observations")
    assert all(values(found, measure=name) for name in ("loss_rewards", "loss_ends", "mse"))


@torch.no_grad()
def test_by_place_and_context_the_numbers_are_those_of_all_tokens(agent: Agent) -> None:
    """Weighted by how many tokens each is of."""
    found = measured(agent, small.buffer([13], spec=small.spec_of(agent)))
    known = {"rem": 2, "m3": 2, "delta_iris": 1}.get(method_of(agent), 0)
    for name, whole in (("accuracy_at_position", "accuracy"), ("loss_at_context", "loss_observations")):
        rows = [row for row in found.rows if row["measure"] == name]
        first = 0 if whole == "accuracy" else known
        assert [int(row["part"]) for row in rows] == list(range(first, first + len(rows))) and len(rows) > 1
        mean = sum(row["value"] * row["count"] for row in rows) / sum(row["count"] for row in rows)
        assert [mean] == pytest.approx(values(found, measure=whole, predictor=TEACHER_FORCED), rel=1e-5)
    assert "reward_macro_f1" in {row["measure"] for row in found.measures}


def test_outcomes_of_all_batches_are_told_apart_together_without_padding() -> None:
    """Two batches; the third step of each is padding."""
    logits = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [0.0, 9.0]], [[1.0, 0.0], [0.0, 3.0], [0.0, 9.0]]])
    batches = [
        OutcomePredictions(
            torch.tensor([signs]),
            torch.tensor([[0, 1, 1]]),
            some[None],
            torch.tensor([ends]),
            torch.tensor([[True, True, False]]),
        )
        for signs, some, ends in zip(([0, 1, -1], [0, 0, -1]), logits, ([0, 0, 1], [1, 1, 1]))
    ]
    found = {one["measure"]: (one["value"], one["count"]) for one in quality._of_outcomes(batches)}
    assert found["reward_macro_f1"] == (pytest.approx((4 / 5 + 2 / 3) / 2), 4)
    assert found["end_f1"] == (pytest.approx(2 / 4), 2)  # one of two ends, and a step that is none
    assert found["end_average_precision"] == (pytest.approx((1 + 2 / 3) / 2), 2)
    quiet = OutcomePredictions(*(torch.zeros(1, 2).long() for _ in range(2)), torch.eye(2)[None, [0, 0]],
                               torch.zeros(1, 2).long(), torch.ones(1, 2).bool())  # fmt: skip
    assert [one["measure"] for one in quality._of_outcomes([quiet])] == ["reward_macro_f1"]


@pytest.mark.parametrize(("late", "share"), [(0, 1.0), (2, 1.0), (3, 0.0)])
def test_an_end_counts_up_to_two_steps_from_the_real_one(
    late: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real ends are 9, 8, 7, 6, 4, 3, 2 and 1 steps after the starts; a horizon of 5 sees the last three."""
    agent, buffer = small.agent(), episodes_of_shades([9, 9], [0, 40], 4)
    agent.world_model.head_reward = agent.world_model.head_end = nn.Identity()
    agent.world_model.head_end = nn.Identity()

    class Late(PerfectWorld):
        def step(self, actions: Tensor) -> PerfectWorld:
            self.calls = getattr(self, "calls", 0) + 1
            done = super().step(actions)
            left = torch.tensor([9 - start for start in frames_of(9, 0)] * 2)
            self.terminations = (left + late == self.calls).long()
            return done

        def begin(self, segments: Segments) -> None:
            super().begin(segments)
            self.calls = 0

    monkeypatch.setattr(quality, "ImaginedWorld", Late(agent, buffer))
    monkeypatch.setattr(quality, "_teacher_forced", lambda *arguments: [])
    found = measured(agent, buffer)
    rows = [row for row in found.rows if (row["measure"], row["predictor"]) == ("end_within_2", OPEN_LOOP)]
    seen = {5: 3, 10: 7, 20: 8, 50: 8}
    assert [(row["horizon"], row["value"], row["count"]) for row in rows] == [
        (horizon, share, count) for horizon, count in seen.items() for _ in range(2)
    ]
    assert set(values(found, measure="end_within_2", predictor=STILL)) == {0.0}
    assert set(values(found, measure="end_within_2", predictor=OTHER)) == {1.0}  # which end at the same steps


def test_errors_of_sums_of_rewards_may_cancel() -> None:
    """Nothing is expected of a frame that stands still; the sums are those of the real rewards, 1 at every third
    step."""
    found = measured(small.agent(), episodes_of_shades([9, 9], [0, 40], 4))
    starts = frames_of(9, 0)
    sums = [sum(step % 3 == 2 for step in range(start, min(start + 5, 9))) for start in starts]
    assert values(found, episode=0, predictor=STILL, horizon=5, measure="reward_sum_error") == pytest.approx(
        [sum(sums) / len(sums)]
    )


def test_a_trained_world_model_is_better_than_one_with_shuffled_weights() -> None:
    """Plain episodes: the tokens stay as they are."""
    agent = small.agent(max_blocks=4)
    buffer = episodes_of_shades([12, 12], [20, 200], 0)
    segments = buffer.segments(torch.tensor([0, 1]), torch.tensor([3, 3]), 4)
    data = (segments.actions, segments.rewards, segments.terminations, segments.mask)
    optimizer = torch.optim.Adam(agent.world_model.parameters(), 0.03)
    with torch.no_grad():
        tokens = agent.tokens(segments)
    for _ in range(60):
        optimizer.zero_grad()
        agent.world_model.loss(tokens, *data).total.backward()
        optimizer.step()
    trained = values(measured(agent, buffer), predictor=OPEN_LOOP, horizon=5, measure="accuracy")
    for parameter in agent.world_model.parameters():
        order = torch.randperm(parameter.numel(), generator=small.generator())
        parameter.data = parameter.data.flatten()[order].view_as(parameter)
    shuffled = values(measured(agent, buffer), predictor=OPEN_LOOP, horizon=5, measure="accuracy")
    assert min(trained) > 0.9 > 0.6 > max(shuffled)
