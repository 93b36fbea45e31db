"""Our bootstrap against rliable's, on the published scores of one agent.

    python -m benchmarks.bootstrap [--repetitions N]

Four aggregates of 5 runs on 26 games, the probability of improvement of REM over IRIS, and a performance profile: the
same intervals by both engines, one after the other. rliable's cost is linear in the repetitions, so it may be given
fewer than the papers' 50,000; ours then too.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

from analysis.data.published import ATARI, published_suites
from analysis.stats.engines import Engine, make_engine
from benchmarks.timing import command_line

METHODS = ("REM", "IRIS")
SHARE = {"four aggregates": 1.0, "probability of improvement": 0.02, "performance profile": 0.04}
"""Repetitions of the papers: 50,000, 1,000 and 2,000."""


def works(engine: Engine, repetitions: int) -> dict[str, Callable[[], object]]:
    """The three intervals by one engine."""
    scores = published_suites()[ATARI].scores
    x, y = (scores[method] for method in METHODS)
    counts = {name: max(int(share * repetitions), 1) for name, share in SHARE.items()}
    generator = np.random.default_rng(0)
    return {
        "four aggregates": lambda: engine.aggregates(x, generator, counts["four aggregates"]),
        "probability of improvement": lambda: engine.improvement(x, y, generator, counts["probability of improvement"]),
        "performance profile": lambda: engine.profile(x, generator, counts["performance profile"]),
    }


def main() -> int:
    parser = command_line(".bootstrap", __doc__)
    parser.add_argument("--repetitions", type=int, default=50_000, help="of the aggregates; others in proportion")
    options = parser.parse_args()
    both = {name: works(make_engine(name), options.repetitions) for name in ("fast", "rliable")}
    for phase, share in SHARE.items():
        seconds = {}
        for name, work in both.items():
            start = time.process_time()
            work[phase]()
            seconds[name] = time.process_time() - start
        print(
            f"{phase:28s} {max(int(share * options.repetitions), 1):6d} repetitions"
            f"  ours {seconds['fast']:8.3f} s  rliable {seconds['rliable']:8.2f} s"
            f"  {seconds['rliable'] / seconds['fast']:6.0f}x (processor time)",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
