"""User errors, and texts that keep them short."""

import difflib
import errno
import sys
from collections.abc import Iterable

from tokenworlds.redaction import redact

LONGEST_LIST = 150  # characters: half a message
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "status_alloc_failed")  # CUDA, the host, CUDA's libraries


class UserError(Exception):
    """An error that the user can fix. The message is one sentence: what was expected, what was found, what to do.

    Entry points print it without a traceback and exit with ``status`` (docs/runs.md). Passwords in addresses are
    masked.
    """

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(redact(str(message)))
        self.status = status


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the host's memory or a GPU's was exhausted; torch raises a ``RuntimeError`` of its own for either."""
    text = str(error).lower()
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(mark in text for mark in OUT_OF_MEMORY)
    )


def near_matches(name: str, known: Iterable[str], limit: int = 5) -> str:
    """``did you mean ...?`` with the known names closest to ``name``, else a list of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=limit, cutoff=0.5)
    if close:
        return f"did you mean {', '.join(close)}?"
    shown = names if len(names) <= 12 else [*names[:12], "..."]
    while len(", ".join(shown)) > LONGEST_LIST:
        shown = [*shown[:-2], "..."] if shown[-1] == "..." else [*shown[:-1], "..."]
    return f"known: {', '.join(shown) or 'none'}."


def excerpt(value: object, longest: int = 40) -> str:
    """A value for a message: on one line, passwords masked, then cut to ``longest`` characters."""
    shown = redact(" ".join(str(value).split()) if isinstance(value, str) else _plain(value))
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."


def _plain(value: object) -> str:
    try:
        return str(value)
    except ValueError:  # a whole number of more digits than Python writes
        return "a number of thousands of digits"


def installing(extra: str) -> str:
    """What installs an extra of this project: the end of a sentence about a missing package."""
    if extra == "dmc" and sys.version_info >= (3, 13):  # pip finds no wheel of all that dm-control asks for
        return "docs/install.md says how to install it on Python 3.13"
    return f"pip install -c constraints.txt -e '.[{extra}]' installs it"


def brief(reason: object, limit: int = 120) -> str:
    """First line of another program's message, without its full stop, cut to ``limit`` characters."""
    text = str(reason).strip()
    line = text.splitlines()[0].rstrip(".") if text else "no reason given"
    return line if len(line) <= limit else f"{line[: limit - 3]}..."
