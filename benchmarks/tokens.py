"""Whether tokens show a reward: what a tokenizer keeps of what ``benchmarks.rewards`` sees in the pixels.

    python -m benchmarks.tokens atari/Krull [--method rem] [--with "SETTING=VALUE ..."]... [--updates 1000]

A uniformly random policy plays; the tokenizer of a method at scale ``laptop`` learns from three quarters of the frames,
as shipped and then once with each given set of settings. A small network then learns, from the tokens of two frames
and the action, what ``benchmarks.rewards`` says of pixels: whether this step has a positive reward, whether one of the
next nine has, and whether the episode ends. A row has the reconstruction loss, the codes in use, and the areas under
the ROC curve in the last quarter of the steps. Each tokenizer takes a few minutes of one core.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import rewards
from benchmarks.timing import command_line
from tokenworlds import methods
from tokenworlds.agents.token import TokenAgent
from tokenworlds.cli import exit_status
from tokenworlds.config import RunConfig, load
from tokenworlds.envs import EnvironmentSpec, check_task, make
from tokenworlds.errors import UserError
from tokenworlds.replay import ReplayBuffer
from tokenworlds.rng import RandomStreams

CPU = torch.device("cpu")
BATCH = 64  # frames that are encoded at once
LEARNED = 1500  # updates of the small network
Played = tuple[Tensor, Tensor, NDArray[np.float32], NDArray[np.bool_], int]


class Network(nn.Module):
    """Logits (B, 3) from the tokens (B, 2, K) of two frames and the action (B,)."""

    def __init__(self, vocabulary: int, tokens: int, actions: int, width: int = 16) -> None:
        super().__init__()
        self.see, self.actions = nn.Embedding(vocabulary, width), actions
        self.hidden = nn.Linear(2 * tokens * width + actions, 256)
        self.out = nn.Linear(256, len(rewards.OUTCOMES))

    def forward(self, tokens: Tensor, actions: Tensor) -> Tensor:
        taken = F.one_hot(actions, self.actions).float()
        logits: Tensor = self.out(F.relu(self.hidden(torch.cat([self.see(tokens).flatten(1), taken], dim=1))))
        return logits


def untrained(
    task: str, method: str, settings: Sequence[str], seed: int
) -> tuple[RunConfig, EnvironmentSpec, TokenAgent, RandomStreams]:
    """The agent at the beginning of a run.

    Raises:
        UserError: there is no such task, a setting cannot be, or the method's tokens are not those of frames.
    """
    check_task(task)
    config = load([f"method={method}", f"task={task}", "scale=laptop", f"seed={seed}", *settings])
    with make(config.task, config.environment.train) as env:
        spec = env.environment_spec
    streams = RandomStreams(seed, CPU)
    streams.seed_global()
    agent = methods.get(method).build_agent(config, spec)
    if not isinstance(agent, TokenAgent):
        raise UserError(f"tokens of {method} are not those of single frames; choose another --method.")
    return config, spec, agent, streams


def tokens_of(task: str, method: str, settings: Sequence[str], played: Played, seed: int) -> tuple[Tensor, float]:
    """Tokens (T, K) of all frames, by a tokenizer that has learned from the first ones; its reconstruction loss."""
    config, spec, agent, streams = untrained(task, method, settings, seed)
    frames, actions, given, ends, _ = played
    first = rewards.held_out_from(len(frames))
    buffer = ReplayBuffer(spec, first, CPU)
    for some in np.split(np.arange(first), np.flatnonzero(ends[:first]) + 1):
        end = torch.from_numpy(ends[some])
        buffer.extend({"image": frames[some]}, actions[some], torch.from_numpy(given[some]), end)
    tokenizer, *_ = methods.get(method).build_components(config, agent, buffer, streams)
    losses = tokenizer.train(1)
    with torch.no_grad():
        tokens = torch.cat([agent.encode({"image": some}) for some in frames.split(BATCH)])
    return tokens.flatten(1).long(), float(losses["loss_reconstruction"])


def measure(
    task: str, method: str, settings: Sequence[str], played: Played, seed: int
) -> tuple[float, int, list[float]]:
    """Reconstruction loss, codes in use, and areas of ``rewards.OUTCOMES``."""
    _, actions, given, ends, count = played
    tokens, loss = tokens_of(task, method, settings, played, seed)
    before = rewards.frames_before(ends)
    torch.manual_seed(seed)
    network = Network(int(tokens.max()) + 1, tokens.shape[1], count)

    def see(rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        return torch.stack([tokens[before[rows]], tokens[rows]], dim=1), actions[rows]

    areas = rewards.learn(network, see, rewards.outcomes(given, ends), LEARNED, seed)
    return loss, tokens.unique().numel(), areas


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_line(".tokens", __doc__)
    parser.add_argument("tasks", nargs="+", metavar="TASK")
    parser.add_argument("--method", default="rem", help="whose tokenizer (default: rem)")
    parser.add_argument(
        "--with", action="append", default=[], dest="settings", metavar="SETTINGS",
        help="once more with these, such as 'model.tokenizer.loss.value.weight=0.01'; may be repeated",
    )  # fmt: skip
    parser.add_argument("--steps", type=int, default=7000, help="of the random policy (default: 7000)")
    parser.add_argument("--updates", type=int, default=1000, help="of the tokenizer (default: 1000)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.steps < 100 or options.updates < 1:
        raise UserError("--steps must be at least 100, --updates at least 1.")
    shipped = f"training.tokenizer.updates_first_epoch={options.updates}"
    chosen = {text or "as shipped": [shipped, *text.split()] for text in ["", *options.settings]}
    for task in options.tasks:
        for settings in chosen.values():
            untrained(task, options.method, settings, options.seed)  # refused before minutes of work
    print(f"{'':<16} {'loss':>8} {'codes':>6}   area under the curve: {', '.join(rewards.OUTCOMES)}")
    for task in options.tasks:
        played = rewards.play(task, options.steps, options.seed)
        for text, settings in chosen.items():
            loss, codes, areas = measure(task, options.method, settings, played, options.seed)
            numbers = "".join(f"{one:8.3f}" for one in areas)
            print(f"{task:<16} {loss:>8.4f} {codes:>6}   {numbers}   {text}", flush=True)


if __name__ == "__main__":
    sys.exit(exit_status(main))
