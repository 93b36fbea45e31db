"""What becomes of a run after an attempt at it has ended."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import takewhile

from tokenworlds import cli


@dataclass(frozen=True)
class End:
    """How an attempt ended.

    Args:
        status: exit status of the command, negative: the signal that ended it; None: nobody knows, it is lost.
        reason: why it is lost, or the last line of its output.
        has_progressed: it has finished an epoch.
        gpu_share: of a GPU that it had.
    """

    status: int | None
    reason: str
    has_progressed: bool = False
    gpu_share: float = 0.0

    @property
    def is_interruption(self) -> bool:
        """The program is not to blame: a signal, or the machine."""
        return self.status is None or self.status < 0 or self.status > 128

    def __str__(self) -> str:
        match self.status:
            case None:
                return f"lost ({self.reason})"
            case _ if self.reason.startswith("error: "):
                return self.reason.removeprefix("error: ")
            case status if not self.is_interruption:
                return self.reason or f"exit status {status}"
            case status:
                name = _signal_name(abs(status) % 128)
                return f"ended by {name}" + (" (is the memory exhausted?)" if name == "SIGKILL" else "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Next(Enum):
    """What follows."""

    COLLECT = "finished"
    AGAIN = "again"
    LATER = "again when the other trainer has ended"
    FAIL = "failed"


@dataclass(frozen=True)
class Verdict:
    """What follows, and why."""

    next: Next
    reason: str
    whole_gpu: bool = False


def judge(ends: Sequence[End], retries: int) -> Verdict:
    """What follows the last of the attempts at a run.

    Args:
        ends: of all attempts that this launcher has seen, the last one last.
        retries: how many attempts in a row may be interrupted without having finished an epoch. One that has gone
            further counts from the start again, so that preemption for days ends no run.
    """
    last = ends[-1]
    whole_gpu = last.gpu_share > 0 and any(end.status == cli.STATUS_MEMORY for end in ends)
    match last.status:
        case 0:
            return Verdict(Next.COLLECT, "finished")
        case cli.STATUS_BUSY:
            return Verdict(Next.LATER, str(last), whole_gpu)
        case cli.STATUS_MEMORY:
            return _judge_memory(ends)
    if not last.is_interruption:
        return Verdict(Next.FAIL, str(last))
    interrupted = [end for end in ends if end.is_interruption]
    idle = len(list(takewhile(lambda end: not end.has_progressed, reversed(interrupted))))
    if idle >= retries:
        return Verdict(Next.FAIL, f"{last}; {idle} attempts in a row have not finished an epoch")
    return Verdict(Next.AGAIN, str(last), whole_gpu)


def _judge_memory(ends: Sequence[End]) -> Verdict:
    """Once more with a whole GPU, or, where there is none, once more."""
    last = ends[-1]
    earlier = sum(end.status == cli.STATUS_MEMORY for end in ends[:-1])
    if earlier or last.gpu_share >= 1:
        return Verdict(Next.FAIL, str(last))
    return Verdict(Next.AGAIN, str(last), whole_gpu=last.gpu_share > 0)
