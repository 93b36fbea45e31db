"""Two revisions of this project in turn, phase by phase: what a change gained or cost, on a machine whose speed drifts.

    git worktree add ../before REVISION
    python -m benchmarks.duel ../before [--method m3_dmc_vector] [--only imagination] [--rounds 12] [--threads 1]

Each revision runs in a process of its own; one waits while the other works. Counted are instructions where the system
counts them (Linux with access to the processor's counters, so rarely in a virtual machine), else the seconds of
processor time of all threads. Printed are the medians of both and the median ratio of neighbouring calls, before
through after, with the quartiles of those ratios: with instructions, or with a few dozen rounds, differences of 3 % are
visible. Threads that wait for each other count, too: so there is one unless --threads asks for more.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

from tqdm import tqdm

from benchmarks.phases import AGENTS
from benchmarks.timing import command_line

HERE = Path(__file__).resolve().parents[1]
WORKER = """
import sys
sys.path.append(sys.argv[1])
import counters  # of this revision, for both
unit, count = counters.counter()  # before torch starts threads, which then count, too
import torch
from benchmarks.phases import build
method, threads, only = sys.argv[2], int(sys.argv[3]), sys.argv[4:]
torch.set_num_threads(threads)
phases = build(method, torch.device("cpu")).all()
names = [name for name in phases if not only or any(name.startswith(some) for some in only)]
print(unit, *names, sep="\\t", flush=True)
works = {}
for line in sys.stdin:
    name = line.strip()
    if name not in works:
        works = {name: phases[name]()}
        works[name](), works[name]()
    before = count()
    works[name]()
    print(count() - before, flush=True)
"""


class Revision:
    """A process that runs phases of a checkout on demand."""

    def __init__(self, checkout: Path, method: str, threads: int, only: list[str]) -> None:
        self.checkout = checkout
        command = [sys.executable, "-c", WORKER, str(HERE / "benchmarks"), method, str(threads), *only]
        environment = {**os.environ, "PYTHONPATH": f"{checkout / 'src'}{os.pathsep}{checkout}"}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=checkout, env=environment, stdin=pipe, stdout=pipe, text=True)
        self.unit, *self.names = self._answer().split("\t")

    def cost(self, name: str) -> float:
        """Of a call of a phase."""
        assert self.process.stdin is not None
        print(name, file=self.process.stdin, flush=True)
        return float(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"error: the benchmark in {self.checkout} stopped; its message is above.")
        return line.strip()


def main() -> int:
    parser = command_line(".duel", __doc__)
    parser.add_argument("before", type=Path, help="a checkout of the other revision")
    parser.add_argument("--method", choices=AGENTS, default="m3_dmc_vector")
    parser.add_argument("--only", nargs="+", default=[], metavar="PHASE", help="some phases, by their beginnings")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    options = parser.parse_args()
    if not (options.before / "benchmarks" / "phases.py").exists():
        print(f"error: {options.before} is no checkout of this project.", file=sys.stderr)
        return 2
    before, after = (
        Revision(path, options.method, options.threads, options.only) for path in (options.before.resolve(), HERE)
    )
    names = [name for name in after.names if name in before.names and name]
    if not names:
        print("error: the two revisions have no such phase in common.", file=sys.stderr)
        return 2
    for name in names:
        pairs = []
        for turn in tqdm(range(options.rounds), desc=name, leave=False, disable=not sys.stderr.isatty()):
            order = (before, after) if turn % 2 else (after, before)
            costs = {revision: revision.cost(name) for revision in order}
            pairs.append((costs[before], costs[after]))
        ratios = [old / new for old, new in pairs]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        old, new = (statistics.median(costs) for costs in zip(*pairs))
        print(f"{name:45} {old:10.4g} {new:10.4g} {after.unit} {middle:6.3f}x ({low:.3f} to {high:.3f})", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
