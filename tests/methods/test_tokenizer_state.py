"""Tokenizers with a state beyond the weights of IRIS's go on from a checkpoint's tensors with the same bits.

Whole runs that are killed: tests/training/test_resume.py.
"""

import pytest
import torch
from torch import Tensor

from tests import small
from tests.methods.support import EPOCH, are_equal, build_agent, configure, experience, snapshot
from tokenworlds import methods
from tokenworlds.methods.component import ComponentTrainer
from tokenworlds.rng import RandomStreams
from tokenworlds.training.checkpoint import load_optimizer, optimizer_tensors

LOSSES = {
    "value": ("loss.value.weight=0.1", "loss.value.hidden_dim=8", "loss.value.unfinished=2"),
    "moving averages": ("quantiser=ema", "ema.reset_after=3"),
    "adversarial": ("loss.adversarial.weight=0.1", "loss.adversarial.channels=2", "loss.adversarial.start_step=1"),
}


class Training:
    """Agent, trainer of its tokenizer, and random streams, made anew."""

    def __init__(self, overrides: tuple[str, ...]) -> None:
        config = configure("iris", *(f"model.tokenizer.{one}" for one in overrides))
        self.streams = RandomStreams(0, small.CPU)
        self.agent = build_agent(config)
        self.trainer: ComponentTrainer = methods.get("iris").build_components(
            config, self.agent, experience(config), self.streams
        )[0]

    def load(self, other: "Training") -> None:
        """Take over what a checkpoint holds."""
        self.agent.load_state_dict(other.agent.state_dict())
        moments = optimizer_tensors(other.trainer.optimizer)
        load_optimizer(self.trainer.optimizer, {name: value.clone() for name, value in moments.items()})
        self.streams.load_state(*other.streams.state())


@pytest.mark.parametrize("which", LOSSES)
def test_training_goes_on_with_the_same_bits(which: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        whole, resumed, fresh = (Training(LOSSES[which]) for _ in range(3))
        whole.trainer.train(EPOCH)
        resumed.load(whole)
        state = torch.get_rng_state()
        ends: list[dict[str, Tensor]] = []
        for one in (whole, resumed, fresh):
            torch.set_rng_state(state)
            one.trainer.train(EPOCH)
            ends.append(snapshot(one.agent))
    assert are_equal(ends[0], ends[1])
    assert not are_equal(ends[0], ends[2])
