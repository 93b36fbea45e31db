"""Which methods and tasks there are, asked of files of runs before they are counted."""

from __future__ import annotations

from functools import cache

from tokenworlds.config import known_methods
from tokenworlds.envs import known_tasks
from tokenworlds.errors import excerpt, near_matches

LONGEST = 100  # letters of a list of near matches


@cache
def _tasks() -> dict[str, frozenset[str]]:
    """Names of the tasks of each family."""
    found: dict[str, set[str]] = {}
    for task in known_tasks():
        family, _, name = task.partition("/")
        found.setdefault(family, set()).add(name)
    return {family: frozenset(names) for family, names in found.items()}


def unknown_part(method: object, task: object, seed: object) -> str:
    """What of a run's identity cannot be, as the object of "holds"; empty where all of it can."""
    if not isinstance(method, str) or method not in known_methods():
        return f"the unknown method {excerpt(repr(method))}: {_near(str(method), known_methods())}"
    family, _, name = task.partition("/") if isinstance(task, str) else ("", "", "")
    if family not in _tasks():
        return f"the unknown task {excerpt(repr(task))}, expected FAMILY/NAME with a family of: {', '.join(_tasks())}."
    if name not in _tasks()[family]:
        return f"the unknown task {excerpt(repr(task))}: {_near(name, _tasks()[family])}"
    if isinstance(seed, bool) or not str(seed).isascii() or not str(seed).isdigit():
        return f"the seed {excerpt(repr(seed))} where a whole number from 0 on is expected; train that run again."
    return ""


def _near(name: str, known: frozenset[str] | list[str]) -> str:
    """Known names near this one, none left in the middle."""
    text = near_matches(name[:LONGEST], known)
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rpartition(',')[0]}, ..."
