"""``python -m tokenworlds.tracking``: commands about MLflow."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tokenworlds.cli import exit_status
from tokenworlds.config import project_root
from tokenworlds.errors import UserError, excerpt, near_matches
from tokenworlds.redaction import redact
from tokenworlds.runs.settings import MIXED, REFUSE
from tokenworlds.tracking.over_seeds import summarise
from tokenworlds.tracking.store import (
    EXPERIMENT,
    SUMMARIES,
    connect,
    describe_error,
    experiments,
    of_suite,
    prepare,
    resolve_uri,
)
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
        "summarise": "send means over the seeds of every method and task, with intervals, as runs to compare",
        "prepare": "create or upgrade the tracking database, and experiments, before many runs start",
        "views": "print the addresses of MLflow's pages of scores and of curves",
    }
    parsers = {name: commands.add_parser(name, help=text, description=text) for name, text in about.items()}
    for each in parsers.values():
        each.add_argument("--uri", help="MLflow's address (default: $MLFLOW_TRACKING_URI, else the project's database)")
    for each in (parsers["sync"], parsers["summarise"]):
        each.add_argument(
            "folders", nargs="*", type=Path, help="run folders, or folders with runs (default: results/runs)"
        )
        each.add_argument(
            "--mixed",
            choices=MIXED,
            default=REFUSE,
            help="runs of several settings under one name (default: %(default)s)",
        )
    parsers["prepare"].add_argument("suites", nargs="*", help="whose experiments are made (default: runs of no suite)")
    parsers["views"].add_argument("--server", required=True, help="address under which MLflow will be browsed")
    options = parser.parse_args(arguments)

    def command() -> None:
        if options.command == "sync":
            sync(options.folders, options.uri, options.mixed)
        elif options.command == "summarise":
            print(summarise(options.folders, options.uri, options.mixed))
        elif options.command == "prepare":
            known = {path.stem for path in (project_root() / "pipeline" / "suites").glob("*.yaml")}
            if unknown := next((suite for suite in options.suites if suite not in known), None):
                raise UserError(f"unknown suite '{excerpt(unknown, 60)}': {near_matches(unknown, known)}")
            _prepare(options.uri, options.suites or [""])
            print(redact(f"{resolve_uri(options.uri)} is ready."))
        else:
            print("\n".join(addresses(options.server, _prepare(options.uri))))

    return exit_status(command)


def _prepare(uri: str | None, suites: Sequence[str] = ()) -> dict[str, str]:
    """Ids of all experiments by name, once those of the suites are made; any failure of MLflow becomes one sentence."""
    try:
        client = connect(uri)
        for suite in suites:
            prepare(uri, of_suite(suite))
        found = experiments(client) | experiments(client, SUMMARIES)
        return found or {EXPERIMENT: prepare(uri)[1]}
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"MLflow at {resolve_uri(uri)} could not be prepared ({describe_error(error)}); mend that, then repeat."
        ) from error


if __name__ == "__main__":
    sys.exit(main())
