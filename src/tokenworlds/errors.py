"""The one exception that is shown to people."""

import difflib
from collections.abc import Iterable

from tokenworlds.redaction import redact

LONGEST_LIST = 150  # characters: half a message


class UserError(Exception):
    """Something a user can mend. The message is one sentence: what was expected, what was found, what to do.

    Entry points print it without a traceback and exit with status 2. Passwords in addresses are masked.
    """

    def __init__(self, message: str) -> None:
        super().__init__(redact(str(message)))


def near_matches(name: str, known: Iterable[str], limit: int = 5) -> str:
    """A sentence that offers the known names closest to ``name`` (all of them when there are few)."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=limit, cutoff=0.5)
    if close:
        return f"did you mean {', '.join(close)}?"
    shown = names if len(names) <= 12 else [*names[:12], "..."]
    while len(", ".join(shown)) > LONGEST_LIST:
        shown = [*shown[:-2], "..."] if shown[-1] == "..." else [*shown[:-1], "..."]
    return f"known: {', '.join(shown) or 'none'}."


def excerpt(value: object, longest: int = 40) -> str:
    """A value as a message shows it: on one line, and cut where it is long, after passwords are masked."""
    shown = redact(" ".join(str(value).split()) if isinstance(value, str) else _plain(value))
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."


def _plain(value: object) -> str:
    try:
        return str(value)
    except ValueError:  # a whole number of more digits than Python writes
        return "a number of thousands of digits"


def brief(reason: object, limit: int = 120) -> str:
    """The first line of another program's message, without its full stop and cut where it would fill the sentence."""
    text = str(reason).strip()
    line = text.splitlines()[0].rstrip(".") if text else "no reason given"
    return line if len(line) <= limit else f"{line[: limit - 3]}..."
