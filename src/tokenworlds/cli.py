"""Errors and exit statuses of every command: one line on stderr, and a status by kind of error."""

import argparse
import errno
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from tokenworlds.errors import UserError, brief, is_out_of_memory
from tokenworlds.redaction import redact

STATUS_BUG = 1
STATUS_ERROR = 2
STATUS_MEMORY = 3
STATUS_BUSY = 4
STATUS_INTERRUPTED = 128 + signal.SIGINT
STATUS_TERMINATED = 128 + signal.SIGTERM
STATUS_UNREAD = 128 + signal.SIGPIPE
MENDABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOSPC, errno.EDQUOT)
OUT_OF_MEMORY = (
    "free some, or use a machine or GPU with more; a training needs less of a GPU with runtime.replay=host or smaller "
    "batches, and may use more of a shared one with a higher runtime.gpu_share."
)
RESUME = "nothing is lost but the unfinished epoch: the same command resumes the run"


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised in the main thread so that locks are released and the journal is closed as after Ctrl-C."""


def print_error(message: str) -> None:
    """``error: <one sentence>`` on stderr, passwords in addresses masked."""
    print(f"error: {' '.join(redact(str(message)).split())}", file=sys.stderr, flush=True)


def unexpected() -> int:
    """Print the traceback of the exception that is being handled, and return the status for it."""
    print(redact(traceback.format_exc()), end="", file=sys.stderr, flush=True)
    return STATUS_BUG


def exit_status(command: Callable[[], int | None], remedy: str = "") -> int:
    """Run ``command``; report a user error in one line without a traceback.

    Args:
        remedy: what to do after an interruption.

    Returns:
        The command's own status (None counts as 0), that of a ``UserError`` (2; 4 where another process is at work on
        the same), 3 where memory was exhausted, 130 after Ctrl-C, 143 after SIGTERM, 141 where nobody reads the output
        any more (``| head``), 1 after an error of this program, whose traceback is shown with passwords in addresses
        masked.
    """
    try:
        status = command() or 0
        sys.stdout.flush()  # here, where an error has a status
        return status
    except UserError as error:
        print_error(str(error))
        return error.status
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _is_output_unread():
            return STATUS_UNREAD
        if is_out_of_memory(error):
            print_error(f"out of memory ({brief(error)}): {OUT_OF_MEMORY}")
            return STATUS_MEMORY
        if not isinstance(error, OSError) or error.errno not in MENDABLE:
            return unexpected()
        print_error(f"cannot write {error.filename or 'a file'}: {error.strerror}; give another place or make room.")
        return STATUS_ERROR
    except Terminated:
        print(f"terminated; {remedy}".rstrip("; "), file=sys.stderr, flush=True)
        return STATUS_TERMINATED
    except KeyboardInterrupt:
        print(f"\ninterrupted; {remedy}".rstrip("; "), file=sys.stderr, flush=True)
        return STATUS_INTERRUPTED


def _is_output_unread() -> bool:
    """Whether the reader of the standard output is gone, and not the other end of another pipe; what could not be
    written is dropped then."""
    output, poll = 1, select.poll()
    poll.register(output, 0)  # a pipe without a reader is reported unasked
    is_unread = bool(poll.poll(0))
    if is_unread:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)  # or Python complains when it ends
    return is_unread


def given(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> set[str]:
    """Names of the options that are on a command line, also with their defaults."""
    unset = argparse.Namespace(**dict.fromkeys(vars(parser.parse_args(arguments))))
    return {name for name, value in vars(parser.parse_args(arguments, unset)).items() if value is not None}


def raise_on_sigterm() -> None:
    """Make SIGTERM unwind the main process like Ctrl-C; forked workers, which inherit the handler, just exit."""
    owner = os.getpid()

    def handler(signum: int, frame: FrameType | None) -> NoReturn:
        if os.getpid() != owner:
            os._exit(STATUS_TERMINATED)
        raise Terminated

    signal.signal(signal.SIGTERM, handler)
