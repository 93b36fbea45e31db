"""Write Vega beside the page of `dvc plots show`, which otherwise fetches it from the network: ``make plots``.

python -m pipeline.vega [--out dvc_plots]

`.dvc/plots.html`, the template of that page, expects it there. It comes from the package vl-convert-python (Vega and
vl-convert: BSD-3-Clause).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import vl_convert

from tokenworlds.cli import exit_status
from tokenworlds.files import write_atomic

SCRIPT = "vega.js"
SCHEMA = "5."  # of Vega-Lite, in DVC's templates


def bundle() -> bytes:
    """JavaScript that defines ``vegaEmbed``, with the newest Vega-Lite that reads DVC's templates."""
    versions = [version for version in vl_convert.get_vegalite_versions() if version.startswith(SCHEMA)]
    newest = max(versions, key=lambda version: int(version.split(".")[1]))
    # a module's names are its own, but what a page's other scripts call has to be there before they run
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", newest)
    return f"(() => {{{script}}})();\n".encode()


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.vega", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("dvc_plots"), help="folder of the page (dvc plots show --out)")
    options = parser.parse_args(arguments)

    def command() -> None:
        options.out.mkdir(parents=True, exist_ok=True)
        write_atomic(options.out / SCRIPT, bundle())

    return exit_status(command)


if __name__ == "__main__":
    raise SystemExit(main())
