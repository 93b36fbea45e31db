"""``python -m tokenworlds.tracking``: commands about MLflow."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tokenworlds.cli import exit_status
from tokenworlds.errors import UserError
from tokenworlds.redaction import redact
from tokenworlds.runs.settings import MIXED, REFUSE
from tokenworlds.tracking.store import describe_error, prepare, resolve_uri
from tokenworlds.tracking.sync import sync
from tokenworlds.tracking.views import addresses


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m tokenworlds.tracking", description="Commands about MLflow tracking."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    about = {
        "sync": "send what MLflow lacks of finished or interrupted runs",
        "prepare": "create or upgrade the tracking database, before many runs start",
        "views": "print the addresses of MLflow's pages of scores and of curves",
    }
    parsers = [commands.add_parser(name, help=text) for name, text in about.items()]
    for each in parsers:
        each.add_argument("--uri", help="MLflow's address (default: $MLFLOW_TRACKING_URI, else the project's database)")
    parsers[0].add_argument(
        "folders", nargs="*", type=Path, help="run folders, or folders with runs (default: results/runs)"
    )
    parsers[0].add_argument(
        "--mixed", choices=MIXED, default=REFUSE, help="runs of several settings under one name (default: %(default)s)"
    )
    parsers[2].add_argument("--server", required=True, help="address under which MLflow will be browsed")
    options = parser.parse_args(arguments)

    def command() -> None:
        if options.command == "sync":
            sync(options.folders, options.uri, options.mixed)
        elif options.command == "prepare":
            _prepare(options.uri)
            print(redact(f"{resolve_uri(options.uri)} is ready."))
        else:
            print("\n".join(addresses(options.server, _prepare(options.uri))))

    return exit_status(command)


def _prepare(uri: str | None) -> str:
    """Id of the experiment; any failure of MLflow becomes one sentence."""
    address = resolve_uri(uri)
    try:
        return prepare(uri)[1]
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"MLflow at {address} could not be prepared ({describe_error(error)}); mend that, then repeat."
        ) from error


if __name__ == "__main__":
    sys.exit(main())
