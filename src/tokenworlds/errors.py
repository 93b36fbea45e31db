"""The one exception that is shown to people."""

import difflib
from collections.abc import Iterable

from tokenworlds.redaction import redact


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
    return f"known: {', '.join(shown) or 'none'}."
