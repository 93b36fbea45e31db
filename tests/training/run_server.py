"""Runs trainings in forked processes, so that ten of them import torch once; a program of its own, run by test_resume.

Reads one JSON job a line: the overrides of a run, a file for its output, and optionally where it is to be struck by a
signal, or which other code it shall seem to be made of. Answers with the exit status, minus the signal that ended it,
or "stopped". ``{"continue": pid}`` wakes a stopped one. The main process never computes anything: a fork of a process
whose threads have computed may hang.
"""

import fnmatch
import json
import math
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch._dynamo
import torch._inductor.config  # noqa: F401  # what deterministic mode imports

from tokenworlds.cli import exit_status
from tokenworlds.config import load
from tokenworlds.methods.component import ComponentTrainer
from tokenworlds.tracking import revision
from tokenworlds.training import checkpoint
from tokenworlds.training.run import run_training
from tokenworlds.training.trainer import Trainer


def before(owner: Any, name: str, condition: Callable[..., bool], action: Callable[..., None]) -> None:
    """Call ``action`` before ``owner.name`` is called with arguments that fulfil ``condition``."""
    original = getattr(owner, name)

    def replacement(*arguments: Any, **named: Any) -> Any:
        if condition(*arguments):
            action(*arguments)
        return original(*arguments, **named)

    setattr(owner, name, replacement)


def arm(point: str, which: str | int, number: int) -> None:
    """Send ``number`` to this process group at the ``which``-th update, or at a moment in the life of a file."""

    def strike(*_: Any) -> None:
        os.killpg(os.getpgid(0), number)

    def write_half(path: Path, content: bytes) -> None:
        path.with_name(path.name + ".tmp").write_bytes(content[: len(content) // 2])
        strike()

    def vanish(component: ComponentTrainer) -> None:
        shutil.rmtree(Path(os.environ["SCRATCH"]))

    if point == "spoil":  # weights after the last epoch

        def spoil(trainer: Trainer) -> None:
            next(iter(trainer.agent.tokenizer.parameters())).data.fill_(math.nan)

        before(Trainer, "trained_state", lambda trainer: trainer.epoch == trainer.config.training.epochs, spoil)
    elif point == "vanish":
        remaining = iter(range(int(which), -1, -1))
        before(ComponentTrainer, "update", lambda *_: next(remaining, -1) == 0, vanish)
    elif point == "update":
        remaining = iter(range(int(which), -1, -1))
        before(ComponentTrainer, "update", lambda *_: next(remaining, -1) == 0, strike)
    elif point == "write":
        before(checkpoint, "write_atomic", lambda path, _: fnmatch.fnmatch(path.name, str(which)), write_half)
    elif point == "rename":
        before(os, "replace", lambda _, target: fnmatch.fnmatch(Path(target).name, str(which)), strike)
    else:
        before(Path, "unlink", lambda path: fnmatch.fnmatch(path.name, str(which)), strike)


def change_code(name: str) -> None:
    """Let the code be that of revision ``name``, whose losses differ."""
    in_use, digest_of, losses = revision.code_in_use, revision._digest_of, "tokenworlds.losses"
    revision.git_revision = lambda: name
    revision.code_in_use = lambda method: in_use(method) | {losses: name}
    revision._digest_of = lambda module: name if module == losses else digest_of(module)


def work(job: dict[str, Any]) -> int:
    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.setsid()
    os.environ["SCRATCH"] = job["scratch"]
    if job.get("strike"):
        arm(*job["strike"])
    if job.get("revision"):
        change_code(job["revision"])
    return exit_status(lambda: run_training(load(job["overrides"])))


def wait(pid: int) -> dict[str, Any]:
    _, status = os.waitpid(pid, os.WUNTRACED)
    outcome = "stopped" if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)
    return {"pid": pid, "outcome": outcome}


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        if "continue" in job:
            os.killpg(job["continue"], signal.SIGCONT)
            print(json.dumps(wait(job["continue"])), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = work(job)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        print(json.dumps(wait(pid)), flush=True)


if __name__ == "__main__":
    main()
