"""``python -m tokenworlds``: commands about the installation as a whole."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tokenworlds.cli import exit_status

OTHERS = """\
commands of parts, each with --help:
  python -m tokenworlds.checkpoints   agents that others have trained
  python -m tokenworlds.episodes      episodes that a run has kept
  python -m tokenworlds.tracking      MLflow
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m tokenworlds",
        description="Commands about the installation as a whole.",
        epilog=OTHERS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    doctor = commands.add_parser(
        "doctor",
        help="check versions, hardware, folders, games and what every suite needs",
        description="Check versions, hardware, folders, games and what every suite needs; nothing is changed.",
        epilog="Each line begins with ok, note (works without; what it would bring, and how) or mend (what to do). "
        "Exit status: 0, or 1 if something has to be mended before the active suite can be trained.",
    )
    doctor.add_argument("--json", action="store_true", help="print one JSON object: ok, and the lines")
    options = parser.parse_args(arguments)

    def command() -> int:
        from tokenworlds.doctor import report

        return report(options.json)

    return exit_status(command)


if __name__ == "__main__":
    sys.exit(main())
