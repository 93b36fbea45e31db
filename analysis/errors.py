"""Why an item of the report cannot be made now."""

from collections.abc import Sized
from typing import TypeVar

Found = TypeVar("Found", bound=Sized)


class NoData(Exception):
    """There is nothing to make an item from; the message says why, and how to get it."""


def require(found: Found, reason: str) -> Found:
    """``found``, which must not be empty.

    Raises:
        NoData: it is, for that reason.
    """
    if not len(found):
        raise NoData(reason)
    return found
