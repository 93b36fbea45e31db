"""Discounted returns of stored steps, and the steps whose return is known."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenworlds.errors import UserError
from tokenworlds.replay.buffer import ReplayBuffer, Segments, Steps
from tokenworlds.replay.companions import Companion


class Returns(Companion):
    """sum_k gamma^k r_(t+k) from each step t to the end of its episode, of rewards and ends of training: computed anew
    when rows were added, because that changes the returns of all that came before in their episodes.

    The last ``unfinished`` steps of an episode that still runs are not sampled: too little is known of what follows.
    """

    def __init__(self, buffer: ReplayBuffer, modality: str = "", *, gamma: float, unfinished: int) -> None:
        self.buffer, self.gamma, self.unfinished = buffer, gamma, unfinished
        self._rows, self._returns = 0, torch.zeros(0)

    def of(self, rows: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        self.settle()
        return self._returns[rows]

    def known(self, steps: Steps) -> Steps:
        return FinishedSteps(self)

    def settle(self) -> None:
        """Compute them now, where rows were added, so that no later use waits for the device."""
        if self._rows != self.buffer.rows:
            self._rows, self._returns = self.buffer.rows, discounted(self.buffer, self.gamma)


def discounted(buffer: ReplayBuffer, gamma: float) -> Float[Tensor, "rows"]:
    """Returns of all rows in use, that of row 0 is 0.

    By doubling: what is known of the next 2^i steps is added to what is known of these, discounted, so that the longest
    episode takes log2 of its length operations on all rows at once.
    """
    rows = torch.arange(buffer.rows, device=buffer.device).unsqueeze(0)
    stored = buffer.as_trained(buffer.read(rows, with_observations=False))
    returns = stored.rewards.squeeze(0).double()
    following = torch.where(stored.terminations.squeeze(0).bool(), 0, buffer.successors())
    longest = max((buffer.episode_length(index) for index in range(buffer.num_episodes)), default=0)
    for i in range(longest.bit_length()):
        returns = returns + gamma ** (2**i) * returns[following]
        following = following[following]
    return returns.float()


class FinishedSteps(Steps):
    """The steps of a replay buffer without the last ones of each episode that still runs, for samplers. Episodes of
    which nothing is left are left out, so that they have other numbers here."""

    def __init__(self, returns: Returns) -> None:
        self.returns, self.buffer, self.unfinished = returns, returns.buffer, returns.unfinished
        self.device = self.buffer.device
        self._rows = 0

    def settle(self) -> None:
        """Find them, and all returns, where rows were added.

        Raises:
            UserError: there are none.
        """
        if self._rows == self.buffer.rows:
            return
        running = self.buffer.running_episodes
        lengths = (self.buffer.episode_length(index) for index in range(self.buffer.num_episodes))
        left = ((i, length - self.unfinished * (i in running)) for i, length in enumerate(lengths))
        found = [(i, length) for i, length in left if length > 0]
        if not found:
            raise UserError(
                f"no stored frame has a return yet: all episodes still run, and have at most {self.unfinished} steps; "
                "collect for more epochs before the tokenizer is trained (training.tokenizer.start_after_epochs), or "
                "lower model.tokenizer.loss.value.unfinished."
            )
        self._rows, self._found = self.buffer.rows, found
        self.buffer.settle()
        self.returns.settle()
        numbers = torch.tensor(found).to(self.device)
        self._episodes, self._lengths = numbers[:, 0].contiguous(), numbers[:, 1].contiguous()

    @property
    def num_episodes(self) -> int:
        self.settle()
        return len(self._found)

    @property
    def lengths(self) -> Int[Tensor, "episodes"]:
        self.settle()
        return self._lengths

    def episode_length(self, index: int) -> int:
        self.settle()
        return self._found[index][1]

    def segment_rows(self, episodes: Int[Tensor, "B"], starts: Int[Tensor, "B"], length: int) -> Int[Tensor, "B T"]:
        return self.buffer.segment_rows(self._episodes[episodes], starts, length)

    def read(self, rows: Int[Tensor, "B T"], *, with_observations: bool = True) -> Segments:
        return self.buffer.read(rows, with_observations=with_observations)
