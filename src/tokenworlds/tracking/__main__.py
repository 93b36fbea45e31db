"""``python -m tokenworlds.tracking``: commands about MLflow."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tokenworlds.errors import UserError
from tokenworlds.redaction import redact
from tokenworlds.runs.settings import MIXED, REFUSE
from tokenworlds.tracking.store import describe_error, prepare, resolve_uri
from tokenworlds.tracking.sync import sync


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tokenworlds.tracking", description="Commands about MLflow tracking."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    help_uri = "MLflow's address (default: $MLFLOW_TRACKING_URI, else the database in the project)"
    sync_parser = commands.add_parser("sync", help="send what MLflow lacks of finished or interrupted runs")
    sync_parser.add_argument(
        "folders", nargs="*", type=Path, help="run folders, or folders with runs (default: results/runs)"
    )
    sync_parser.add_argument("--uri", help=help_uri)
    sync_parser.add_argument(
        "--mixed", choices=MIXED, default=REFUSE, help="runs of several settings under one name (default: %(default)s)"
    )
    prepare_parser = commands.add_parser(
        "prepare", help="create or upgrade the tracking database, before many runs start"
    )
    prepare_parser.add_argument("--uri", help=help_uri)
    options = parser.parse_args(arguments)
    try:
        if options.command == "sync":
            sync(options.folders, options.uri, options.mixed)
        else:
            _prepare(options.uri)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _prepare(uri: str | None) -> None:
    address = resolve_uri(uri)
    try:
        prepare(uri)
    except UserError:
        raise
    except Exception as error:  # any failure of MLflow, said in one sentence
        raise UserError(
            f"MLflow at {address} could not be prepared ({describe_error(error)}); mend that, then repeat."
        ) from error
    print(redact(f"{address} is ready."))


if __name__ == "__main__":
    sys.exit(main())
