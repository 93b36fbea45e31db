"""List DVC's experiments in columns, and in rows what differs between them: ``make experiments``.

python -m pipeline.experiments [options of `dvc exp show`]

`dvc exp show` has a column for every number of every method and every dependency; here the table grows downwards.
"""

import io
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tokenworlds.cli import exit_status
from tokenworlds.errors import UserError

COMMAND = ("dvc", "exp", "show", "--csv", "--only-changed")
OF_AN_EXPERIMENT = ("rev", "typ", "parent", "State", "Executor", "Experiment")  # columns that are no results
METHODS = "results/aggregated/methods/"  # folder of the metrics' files, <scale>/<method>/<benchmark>.json
WIDTH, MOST_LETTERS = 120, 26  # of the table, and of a column


def transposed(text: str) -> pd.DataFrame:
    """A row for each parameter and metric and a column for each experiment, from DVC's table; dependencies, which are
    paths in the workspace, are left out."""
    table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    names = table["Experiment"].where(table["Experiment"] != "", table["rev"]) if "Experiment" in table else table.rev
    rows = [name for name in table if name not in OF_AN_EXPERIMENT and not Path(name).exists()]
    result = table[rows].set_axis(names.rename(None)).T
    return result.rename(index=lambda name: str(name).removeprefix(METHODS).replace(".json:", " "))


def experiments(arguments: Sequence[str]) -> None:
    """Print the table."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"DVC cannot list experiments: {done.stderr.strip().splitlines()[-1]}")
    if not done.stdout.strip():
        print("no experiment differs from this one; make one with `dvc exp run --downstream -S KEY=VALUE ...`")
        return
    print(rendered(transposed(done.stdout)))


def rendered(table: pd.DataFrame) -> str:
    """The table in lines of at most ``WIDTH`` letters: experiments for which there is no room follow below."""
    return table.map(_cut).rename(columns=_cut).to_string(max_colwidth=WIDTH, line_width=WIDTH)


def _cut(text: str) -> str:
    """The text in a column's width; names of rows are never cut."""
    return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 1]}…"


def main() -> int:
    """Entry point."""
    return exit_status(lambda: experiments(sys.argv[1:]))


if __name__ == "__main__":
    raise SystemExit(main())
