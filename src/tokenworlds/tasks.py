"""Names of tasks: which of them share settings."""

import re
from collections.abc import Iterable

ANY = "gym"
"""Family of the tasks ``gym/[<module>:]<id>``: any environment that is registered with Gymnasium."""

ANY_TASK = re.compile(rf"{ANY}/([A-Za-z_]\w*(\.\w+)*:)?([\w-]+/)?\w[\w.-]*")
"""The names of these tasks: a module that registers the environment, a namespace, both or neither, and its name. They
are parts of paths: folders have the same slashes and colons."""


def is_any(task: str) -> bool:
    """Whether a task is any Gymnasium environment: one whose settings depend on what it shows."""
    return task.partition("/")[0] == ANY


def family_of(task: str) -> str:
    """The tasks that share settings and are compared: a benchmark, or a Gymnasium environment of its own."""
    return task if is_any(task) else task.partition("/")[0]


def others_of(games: Iterable[str], task: str) -> list[str]:
    """The games of the benchmark of a task that are another one."""
    return [game for game in games if game != task and family_of(game) == family_of(task)]
