"""Dropout of a CPU against torch's, forward and backward, at the size of a hidden layer of REM's feed-forward.

    python -m benchmarks.dropout [--repetitions N] [--threads N]

The three are timed in turns; the identity shows the cost of reading, writing and the backward pass without any dropout.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.timing import Work, command_line, compare, machine, parse
from tokenworlds.ops.dropout import Dropout

SHAPE = (8, 1290, 1024)
RATE = 0.1


def pass_through(layer: Callable[[Tensor], Tensor]) -> Work:
    x, gradient = torch.randn(SHAPE, requires_grad=True), torch.randn(SHAPE)

    def work() -> None:
        x.grad = None
        (layer(x) * 1.0).backward(gradient)

    return work


def main() -> int:
    options = parse(command_line(".dropout", __doc__, 11))
    layers = {"identity": nn.Identity(), "torch": nn.Dropout(RATE), "ours": Dropout(RATE)}
    seconds = dict(zip(layers, compare([pass_through(layer) for layer in layers.values()], options.repetitions)))
    print(f"{SHAPE}, rate {RATE}, {machine()}")
    for name, value in seconds.items():
        print(f"{name:10s} {value * 1000:7.1f} ms")
    own = {name: value - seconds["identity"] for name, value in seconds.items()}
    print(f"without the identity's share: torch / ours {own['torch'] / own['ours']:.2f}x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
