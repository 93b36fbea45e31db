"""Where the project is: its configuration files, and the place for what outlives a temporary copy of it."""

from __future__ import annotations

from pathlib import Path


def project_root() -> Path:
    """The project around the working folder (so that a copy of it writes into itself), else the checkout of this
    package."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").is_file() and (folder / "pipeline").is_dir():
            return folder
    return Path(__file__).resolve().parents[3]


def workspace_root() -> Path:
    """The folder for checkpoints and the tracking database: the project, or the one whose copy this is. Queued and
    temporary experiments of DVC run in a copy below ``.dvc/tmp/exps`` that is deleted at their end."""
    root = project_root()
    places = [folder.parent for folder in root.parents if folder.name == ".dvc" and is_temporary(root)]
    return places[0] if places else root


def is_temporary(root: Path) -> bool:
    """Whether a project is DVC's copy for one experiment."""
    return any(folder.parts[-3:] == (".dvc", "tmp", "exps") for folder in root.parents)
