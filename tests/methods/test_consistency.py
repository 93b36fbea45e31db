"""Consistency models in Delta-IRIS: what a checkpoint has to hold, and how training plans its levels."""

import copy

import pytest
import torch

from tests import small
from tests.methods.support import EPOCH, are_equal, build_agent, configure, replay, snapshot
from tokenworlds.config import DeltaRunConfig
from tokenworlds.methods import delta
from tokenworlds.methods.component import ComponentTrainer
from tokenworlds.methods.consistency import ConsistencyLearner
from tokenworlds.rng import RandomStreams


def learner() -> tuple[ConsistencyLearner, ComponentTrainer]:
    """With the trainer of its world model."""
    config = configure("delta_iris", variant="consistency")
    assert isinstance(config, DeltaRunConfig)
    buffer = replay(config.environment.train.size)
    training = ConsistencyLearner(config, build_agent(config), buffer, RandomStreams(0, small.CPU))  # type: ignore[arg-type]
    return training, training.world_model(training.tokenizer())


def test_weights_streams_and_samplers_are_all_that_training_goes_on_from() -> None:
    """As a checkpoint holds them: the root mean square of deltas and the draws of levels and noise among them."""
    (first, trainer), (second, other) = learner(), learner()
    trainer.train(EPOCH)
    other.module.load_state_dict(trainer.module.state_dict())
    other.optimizer.load_state_dict(copy.deepcopy(trainer.optimizer.state_dict()))
    other.sampler.load_state(trainer.sampler.state())
    other.updates = trainer.updates
    second.streams.load_state(*first.streams.state())
    means = [{name: float(value) for name, value in some.train(EPOCH).items()} for some in (trainer, other)]
    assert means[0] == means[1]
    assert are_equal(snapshot(trainer.module), snapshot(other.module))


@torch.no_grad()
@pytest.mark.parametrize("length", [3, 4, 6])
@pytest.mark.parametrize("size", [1, 2, 8])
def test_every_step_of_an_episode_is_scored_once(length: int, size: int) -> None:
    """But those of episodes of a single step, and a last one that ends nothing and that no frame follows; no batch is
    without a step that is scored."""
    config = configure(
        "delta_iris",
        f"training.sequence_length={length}",
        f"evaluation.world_model_batch_size={size}",
        variant="consistency",
    )
    buffer = small.buffer([length + 1, 1, 2, 7, 13, 5], is_open=True)
    counts, ends = [], 0
    for losses in delta.held_out(config, build_agent(config), buffer, "world_model"):  # type: ignore[arg-type]
        found = losses.predictions.outcomes  # type: ignore[attr-defined]
        counts.append(int(found.counts.sum()))
        ends += int(found.ends[found.counts].sum())
    assert min(counts) > 0 and ends == 4
    assert sum(counts) == length + 1 + 2 + 7 + 13 + 4


def test_the_plan_is_the_updates_of_all_epochs() -> None:
    """Of four epochs the world model trains in the last three, two updates each."""
    training, trainer = learner()
    assert training.planned == 3 * 2
    grids: list[int] = []
    intervals = training.intervals
    for update in range(6):
        trainer.updates = update
        segments = trainer.sampler.sample()
        frames, _, deltas = training.agent.context(segments)
        drawn = small.calls_of(training.agent.world_model, "draw")
        with torch.no_grad():
            training.world_model_losses(segments, frames, deltas)
        grids.append(len(drawn[-1].given[2].levels))
    assert grids == [11, 21, 41, 81, 161, 321] and set(grids) <= intervals.keys()
