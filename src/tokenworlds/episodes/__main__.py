"""``python -m tokenworlds.episodes``: list the episodes that a run has kept, and export them for other programs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tokenworlds.cli import exit_status
from tokenworlds.episodes.episode import list_episodes, load
from tokenworlds.episodes.export import PATH, export_minari, folders
from tokenworlds.errors import UserError
from tokenworlds.files import shortened
from tokenworlds.runs.layout import KINDS, REPLAY


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tokenworlds.episodes", description=__doc__.partition(": ")[2])
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="print a line for each episode of a run")
    exporting = commands.add_parser(
        "export",
        help="write a run's episodes as data sets of another program",
        description="Write a data set for each kind of episode into a new folder, all arrays unchanged.",
        epilog=f"Read them with {PATH}=OUT and minari.load_dataset('iris/atari/Pong/0/test-v0').",
    )
    for each in (listing, exporting):
        each.add_argument("run", type=Path, help="folder of a finished run, such as results/runs/iris/atari/Pong/0")
    exporting.add_argument("--format", choices=["minari"], default="minari", help="whose format (default: %(default)s)")
    exporting.add_argument("--out", type=Path, required=True, help="folder to make; one that exists is refused")
    exporting.add_argument(
        "--kind",
        nargs="+",
        choices=[*KINDS, REPLAY],
        default=[],
        help="which episodes (default: all; replay is the whole experience of a run with runtime.keep_replay=true)",
    )
    options = parser.parse_args(arguments)

    def command() -> None:
        if options.command == "list":
            print_episodes(options.run)
        else:
            for name in export_minari(options.run, options.out, options.kind):
                print(f"{options.out}: {name}")

    return exit_status(command)


def print_episodes(run: Path) -> None:
    """A line for each kept episode; of the whole experience its size."""
    found = folders(run)
    if not run.is_dir():
        raise UserError(f"there is no folder {shortened(run)}; give that of a run.")
    if not found:
        raise UserError(f"{shortened(run)} holds no episodes; see runtime.kept_episodes in docs/runs.md.")
    for kind, folder in found.items():
        files = list_episodes(folder)
        if kind == REPLAY:
            size = sum(path.stat().st_size for path in files) / 1e6
            print(f"{kind}: {len(files)} episodes, {size:.1f} MB")
            continue
        for path in files:
            episode = load(path)
            length = episode.facts.get("length", len(episode))
            kept = "" if length == len(episode) else f", the first {len(episode)} kept"
            print(f"{kind}/{path.name}  return {episode.facts.get('return', 0):.2f}  {length} steps{kept}")


if __name__ == "__main__":
    sys.exit(main())
