"""Dropout of a CPU against torch's, forward and backward, at the size of a hidden layer of REM's feed-forward.

    python -m benchmarks.dropout [--repetitions N] [--threads N]

The three are timed in turns; the identity is what reading, writing and the backward pass cost without any dropout.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.decoding import compare
from tokenworlds.ops.dropout import Dropout
from tokenworlds.tracking.revision import git_revision
from tokenworlds.training.run import hardware

SHAPE = (8, 1290, 1024)
RATE = 0.1


def pass_through(layer: Callable[[Tensor], Tensor]) -> Callable[[], None]:
    x, gradient = torch.randn(SHAPE, requires_grad=True), torch.randn(SHAPE)

    def work() -> None:
        x.grad = None
        (layer(x) * 1.0).backward(gradient)

    return work


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dropout", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=11)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    layers = {"identity": nn.Identity(), "torch": nn.Dropout(RATE), "ours": Dropout(RATE)}
    works: list[Callable[[], object]] = [pass_through(layer) for layer in layers.values()]
    device = torch.device("cpu")
    seconds = dict(zip(layers, compare(works, options.repetitions, device)))
    print(f"{SHAPE}, rate {RATE}, {hardware(device)}, torch {torch.__version__}, {git_revision()}")
    for name, value in seconds.items():
        print(f"{name:10s} {value * 1000:7.1f} ms")
    own = {name: value - seconds["identity"] for name, value in seconds.items()}
    print(f"without the identity's share: torch / ours {own['torch'] / own['ours']:.2f}x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
