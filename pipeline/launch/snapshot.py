"""The code of launched runs: a git worktree of the revision at launch, so that edits of the project during the days of
training change nothing.

Edits that are not committed are part of it: they make a commit of their own, which is on no branch;
``git show refs/tokenworlds/<revision>`` shows it, also when the worktree is gone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.launch.attempts import jobs, launch_folder
from tokenworlds.config import project_root
from tokenworlds.errors import UserError, brief
from tokenworlds.files import shortened
from tokenworlds.runs.identity import RunId
from tokenworlds.tracking.revision import RECORDS

REFERENCES = "refs/tokenworlds"
SOURCES = ("src", "pipeline")  # folders whose files count, with these endings
ENDINGS = (".py", ".yaml")
AUTHOR = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in {"NAME": "tokenworlds", "EMAIL": "launch@tokenworlds", "DATE": "2000-01-01T00:00:00Z"}.items()
}
"""The same edits make the same commit, whoever launches them, and when."""


@dataclass(frozen=True)
class Snapshot:
    """The sources at launch.

    Args:
        folder: of the project in them.
        revision: commit.
    """

    folder: Path
    revision: str


def take(runs: Iterable[RunId] = ()) -> Snapshot:
    """The sources as they are now, in a worktree below the launch folder; one that is there is used again.

    Args:
        runs: to be launched; modules of their environments have to be known to git.

    Raises:
        UserError: no git repository or no commit, files that count and that git does not know, or a worktree that
            somebody has changed.
    """
    try:
        _git("rev-parse", "--verify", "--quiet", "HEAD")
    except (UserError, FileNotFoundError) as error:
        raise UserError(
            "launched runs work from a git worktree, and there is no git repository with a commit here: run git init, "
            "git add --all and git commit, or train one run after the other with `make repro`."
        ) from error
    _refuse_unknown(runs)
    revision = current_revision()
    _git("update-ref", f"{REFERENCES}/{revision[:12]}", revision)
    worktree = _worktrees() / revision[:12]
    if not worktree.exists():
        # Without hooks: DVC's own would check out results.
        _git("-c", "core.hooksPath=/dev/null", "worktree", "add", "--quiet", "--force", "--detach", worktree, revision)
    if _git("-C", worktree, "status", "--porcelain") or _git("-C", worktree, "rev-parse", "HEAD") != revision:
        raise UserError(
            f"{shortened(worktree)}, from which runs are launched, was changed: save what you want to keep of it, then "
            f"`git worktree remove --force {worktree}`, and launch again."
        )
    return Snapshot(worktree / _git("rev-parse", "--show-prefix"), revision)


def prune() -> None:
    """Remove worktrees of the launcher that no run needs: none is unfinished, no result is left in them, nobody has
    changed them."""
    needed = {job.code for job in jobs() if job.is_unfinished}
    for worktree in sorted(_worktrees().glob("*")):
        folder = worktree / _git("rev-parse", "--show-prefix")
        results = (
            *(folder / "results/runs").rglob("scores.json"),
            *(folder / "results/tokenizers").rglob("agent.json"),
        )
        if str(folder) not in needed and not results:
            try:
                _git("worktree", "remove", worktree)
            except UserError:  # somebody has files in it
                continue


def _worktrees() -> Path:
    return launch_folder() / "code"


def _refuse_unknown(runs: Iterable[RunId]) -> None:
    """Refuse to leave out files that git does not know and that can change a run."""
    modules = {run.task.removeprefix("gym/").partition(":")[0].partition(".")[0] for run in runs if ":" in run.task}
    places = (*SOURCES, *(f"{module}{end}" for module in sorted(modules) for end in ("", ".py")))
    listed = _git("ls-files", "--others", "--exclude-standard", "-z", "--", *places).split("\0")
    if unknown := [name for name in listed if name.endswith(ENDINGS)]:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise UserError(
            f"git does not know {', '.join(unknown[:3])}{more}, which launched runs may need: git add, or move away."
        )


def current_revision() -> str:
    """HEAD, or a commit with the tracked files as they are now; index and branch stay as they are.

    Raises:
        UserError: git fails.
    """
    index = project_root() / _git("rev-parse", "--git-path", "index")
    with TemporaryDirectory() as folder:
        shutil.copy2(index, Path(folder, "index"))  # with its time, by which git notices edits of the same second
        variables = {"GIT_INDEX_FILE": str(Path(folder, "index")), **AUTHOR}
        _git("add", "--update", "--", ":(top)", *RECORDS, variables=variables)
        tree = _git("write-tree", variables=variables)
        if tree == _git("rev-parse", "HEAD^{tree}"):
            return _git("rev-parse", "HEAD")
        return _git("commit-tree", tree, "-p", "HEAD", "-m", "Code of launched runs", variables=variables)


def _git(*arguments: str | Path, variables: dict[str, str] | None = None) -> str:
    """What a command of git in the project prints.

    Raises:
        UserError: it fails; the message ends with what git said.
    """
    command: Sequence[str] = ("git", *map(str, arguments))
    settings = {"cwd": project_root(), "env": os.environ | (variables or {})}
    done = subprocess.run(command, **settings, capture_output=True, text=True, check=False)  # type: ignore[call-overload]
    if done.returncode:
        raise UserError(f"git {arguments[0]} failed: {brief(done.stderr)}.")
    return str(done.stdout).strip("\n")
