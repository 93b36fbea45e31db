"""Which code made a result."""

import subprocess

from tokenworlds.config import project_root


def git_revision() -> str:
    """The checkout's commit, marked when tracked files differ from it; ``unknown`` outside git."""
    try:
        command = ["git", "-C", str(project_root()), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
