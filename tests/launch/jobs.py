"""Jobs to launch in tests."""

from pathlib import Path

from pipeline.launch.attempts import Job
from tests.conftest import PROJECT
from tokenworlds.runs.identity import RunId
from tokenworlds.training.run_folder import scratch_root

SEEDS = 90_000  # from here on: no run of a developer


def make_job(*command: str, index: int = 0, code: Path = PROJECT, gpu_share: float = 0.0, inputs: str = "same") -> Job:
    """A job that runs any command; ``python`` is this one."""
    run = RunId("iris", "", "atari/Pong", SEEDS + index, "smoke")
    scratch = str(scratch_root() / f"{run.name}-hash")
    return Job(run, "stage", command, str(code), "revision", {"code": inputs}, "hash", scratch, gpu_share, 1)
