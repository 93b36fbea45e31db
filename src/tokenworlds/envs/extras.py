"""Packages of environments that are not installed with the project itself."""

from __future__ import annotations

import importlib.util

from tokenworlds.errors import UserError


def require(task: str, package: str, module: str | None = None) -> None:
    """Nothing, where the package of a task can be imported (as ``module``, by default its own name).

    Raises:
        UserError: it is not installed. The message names the extra, which is called like the task's family.
    """
    if importlib.util.find_spec(module or package) is None:
        family = task.partition("/")[0]
        raise UserError(
            f"{task} needs the package {package}: pip install -c constraints.txt -e '.[{family}]' installs it."
        )
