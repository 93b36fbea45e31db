"""CPU seconds that DVC takes to find out what is to be done, in suites of several sizes of which everything is trained.

    python -m benchmarks.pipeline [--stages 130 550 1395]

A clone of the last commit gets the suite `paper`, cut to size: in every stage group the same share of the tasks, and so
many seeds. Its outputs are small files, registered by `dvc commit`; nothing is trained.
"""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from benchmarks.timing import command_line, machine
from pipeline import suite
from pipeline.inputs import files_of
from pipeline.plan import Plan, plan_of
from tokenworlds.config import known_methods, project_root

MOST_TASKS, MOST_SEEDS = 26, 5  # of a stage group of the suite `paper`
# The published loss of tokenizers needs weights that are not part of the project.
SETTINGS = {"model": {"backbone": None, "decoding": None, "tokenizer": {"perceptual": "none"}}}


def cut(grid: dict[str, Any], stages: int) -> dict[str, Any]:
    """A part of the suite with about ``stages`` runs."""
    sizes = itertools.product(range(1, MOST_TASKS + 1), range(1, MOST_SEEDS + 1))
    return min((_part(grid, *size) for size in sizes), key=lambda part: abs(len(plan_of(part).runs) - stages))


def _part(grid: dict[str, Any], tasks: int, seeds: int) -> dict[str, Any]:
    def part(axes: dict[str, Any]) -> dict[str, Any]:
        chosen = -(-len(axes["tasks"]) * tasks // MOST_TASKS)
        return axes | {"tasks": axes["tasks"][:chosen], "seeds": axes["seeds"][:seeds]}

    return {
        name: {group: part(axes) for group, axes in value.items()} if isinstance(value, dict) else value
        for name, value in grid.items()
    }


class Checkout:
    """A clone of the project's last commit in which a suite counts as trained."""

    def __init__(self, folder: Path, grid: dict[str, Any]) -> None:
        self.folder = folder
        subprocess.run(["git", "clone", "--quiet", str(project_root()), str(folder)], check=True)
        (folder / "pipeline" / "grid.yaml").write_text(yaml.safe_dump({"grid": grid}))
        (folder / "params.yaml").write_text(yaml.safe_dump(SETTINGS))
        self.plan = plan_of(grid)
        self.run("-m", "pipeline.inputs")
        self._fabricate(self.plan)

    def _fabricate(self, plan: Plan) -> None:
        stages = yaml.safe_load((self.folder / "dvc.yaml").read_text())["stages"].values()
        names = [Path(name) for stage in stages for name in (*stage["outs"], *stage.get("metrics", ()))]
        outputs = [name if name.suffix else name / "made" for name in names]
        for run in plan.runs:
            outputs += [Path(f"results/runs/{run.name}/agent.json"), Path(f"results/scores/{run.name}.json")]
        for name in outputs:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(f"{name}\n")

    def run(self, *command: str) -> tuple[float, str]:
        """User and system seconds of a Python command, and its output."""
        paths = {"PYTHONPATH": os.pathsep.join(map(str, (self.folder / "src", self.folder)))}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=os.environ | paths,
            check=True,
            capture_output=True,
            text=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout

    def dvc(self, *arguments: str) -> tuple[float, str]:
        return self.run("-m", "dvc", *arguments)


def measure(checkout: Checkout) -> Iterator[tuple[str, float]]:
    """Seconds of every command; ends where one finds anything to do."""
    files = [*(f"pipeline/{method}/dvc.yaml" for method in known_methods()), "dvc.yaml"]
    stage = f"pipeline/rem/dvc.yaml:atari@{checkout.plan.runs[-1].task.partition('/')[2]}-0"
    yield "dvc commit -f of everything", checkout.dvc("commit", "--force", "--quiet", *files)[0]
    yield "python -m pipeline.inputs", checkout.run("-m", "pipeline.inputs")[0]
    for name in ("status", "repro -P", "repro -P --dry", f"repro -s {stage}"):
        seconds, output = checkout.dvc(*name.split())
        assert "Running stage" not in output and "changed" not in output, output
        yield f"dvc {name}", seconds


def main() -> int:
    parser = command_line(".pipeline", __doc__)
    parser.add_argument("--stages", type=int, nargs="+", default=[130, 550, 1395])
    options = parser.parse_args()
    grid = yaml.safe_load(suite.grid_text("paper"))["grid"]
    print(f"CPU seconds, {machine()}")
    for stages in options.stages:
        with tempfile.TemporaryDirectory() as folder:
            checkout = Checkout(Path(folder) / "project", cut(grid, stages))
            files = {name for run in checkout.plan.runs for name in files_of(run)}
            print(f"{len(checkout.plan.runs)} training stages, {len(files)} files of inputs", flush=True)
            for name, seconds in measure(checkout):
                print(f"  {name:44s} {seconds:7.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
