"""``python -m tokenworlds.checkpoints``: published agents as run folders (``import``, ``fetch``), and finished runs to
and from a hub (``card``, ``push``, ``pull``)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tokenworlds.checkpoints import card, fetch, hub
from tokenworlds.checkpoints.importing import extract_perceptual, fetch_agent, import_agent
from tokenworlds.cli import exit_status
from tokenworlds.files import require_file, write_atomic
from tokenworlds.runs.layout import refuse_in_run


def fetch_or_list(chosen: argparse.Namespace) -> None:
    """Fetch a published agent, or print which are known."""
    if chosen.agent is None or chosen.list:
        print(fetch.overview())
    else:
        fetch_agent(chosen.agent, chosen.file, chosen.out, chosen.set)


def write_card(chosen: argparse.Namespace) -> None:
    """Write the card of a run with its pictures beside it, or print it."""
    run, out = chosen.folder, chosen.out
    shown = card.pictures(run)
    text = card.model_card(run, shown)
    if out is None:
        print(text, end="")
        return
    refuse_in_run(out, "--out")
    is_own = card.is_unedited(out)
    files = {out.name: card.signed(text).encode(), **shown}
    for name in files:
        require_file(out.parent / name, lambda _: is_own, "name another file with --out")
    for name, content in files.items():
        write_atomic(out.parent / name, content)
    print(f"{out}: the card, and the pictures that it shows in {out.parent / 'media'}")


def push(chosen: argparse.Namespace) -> None:
    """Push runs, and print where they are."""
    options = {name: getattr(chosen, name) for name in ("private", "revision", "replace", "dry_run")}
    print(hub.push(chosen.runs, chosen.repo, **options))


def pull(chosen: argparse.Namespace) -> None:
    """Pull an agent into a new folder."""
    hub.pull_to(chosen.reference, chosen.out)
    print(f"{chosen.out}: play it with python -m pipeline.play {chosen.out}")


def _add_importing(commands: Any) -> None:
    """The commands for agents that their authors have published (docs/runs.md)."""
    importing = commands.add_parser("import", help="a published IRIS, REM, Delta-IRIS or M3 agent as a run folder")
    importing.add_argument("file", type=Path, help="<Game>.pt or last.pt, or the same tensors as .safetensors")
    importing.add_argument(
        "--task", required=True, help="the task that it was trained on, such as atari/Breakout or dmc/walker-run"
    )
    importing.add_argument("--out", type=Path, required=True, help="folder to write")
    importing.add_argument(
        "--num-heads",
        type=int,
        help="attention heads of a transformer (default: as published, 8 in Delta-IRIS's agent of Crafter, else 4)",
    )
    importing.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="settings that its shapes do not show, such as variant=no-action-input",
    )
    importing.set_defaults(
        run=lambda given: import_agent(given.file, given.task, given.out, given.num_heads, given.set)
    )
    fetching = commands.add_parser("fetch", help="an agent that its authors have published, downloaded and imported")
    fetching.add_argument("agent", nargs="?", help="such as iris/Breakout (default: list them)")
    fetching.add_argument("--list", action="store_true", help="list the published agents that are known")
    fetching.add_argument("--out", type=Path, help="folder to write (default: results/published/<agent>)")
    fetching.add_argument("--file", help="path in the repository, where it is not to be found out")
    fetching.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="as of import")
    fetching.set_defaults(run=fetch_or_list)
    extracting = commands.add_parser("lpips", help="the perceptual network of a published checkpoint as one file")
    extracting.add_argument(
        "file", type=Path, help="a published <Game>.pt, or vgg16-397923af.pth (or a folder with it and vgg.pth)"
    )
    extracting.add_argument("--out", type=Path, required=True, help="file to write (.safetensors)")
    extracting.set_defaults(run=lambda given: extract_perceptual(given.file, given.out))


def _add_sharing(commands: Any) -> None:
    """The commands that share runs (docs/sharing.md)."""
    carding = commands.add_parser("card", help="the model card of a finished run")
    carding.add_argument(
        "folder", type=Path, metavar="run", help="folder of a finished run, such as results/runs/rem/atari/Pong/0"
    )
    carding.add_argument("--out", type=Path, help="file to write, such as card/README.md (default: print the card)")
    carding.set_defaults(run=write_card)
    pushing = commands.add_parser("push", help="finished runs of one method to a repository of the Hugging Face Hub")
    pushing.add_argument("runs", type=Path, nargs="+", metavar="run", help="folder of a finished run")
    pushing.add_argument("--repo", required=True, metavar="OWNER/NAME", help="repository, made where it is missing")
    pushing.add_argument("--private", action="store_true", help="only for its owner to see")
    pushing.add_argument("--revision", metavar="BRANCH", help="made where it is missing (default: main)")
    pushing.add_argument("--replace", action="store_true", help="replace another run that is in the same folder")
    pushing.add_argument("--dry-run", action="store_true", help="check, and say what would be written")
    pushing.set_defaults(run=push)
    pulling = commands.add_parser("pull", help="an agent from a repository of the Hugging Face Hub")
    pulling.add_argument("reference", help="[hub:]OWNER/NAME/FOLDER[@REVISION], such as OWNER/NAME/atari/Pong/0")
    pulling.add_argument("--out", type=Path, required=True, help="folder to make; one that exists is refused")
    pulling.set_defaults(run=pull)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tokenworlds.checkpoints", description=__doc__)
    commands = parser.add_subparsers(required=True)
    _add_importing(commands)
    _add_sharing(commands)
    chosen = parser.parse_args(arguments)
    return exit_status(lambda: chosen.run(chosen))


if __name__ == "__main__":
    sys.exit(main())
