"""Curves of our runs for `dvc plots show` and `dvc plots diff`: a file for each method and task."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from analysis.context import Context
from analysis.draw.curves import over_seeds
from tokenworlds.files import refuse_foreign, remove_own
from tokenworlds.runs.columns import COMPONENTS

DIGITS = 6
OWN = ("returns/*/*/*/*.json", "losses/*/*/*/*.json")  # <kind>/<scale>/<method>/<family>/<task>
REMEDY = "give another folder with --out"


def check_plots(folder: Path) -> None:
    """Refuse a folder with anything in it but curves of an earlier call: all of it is replaced."""
    refuse_foreign(folder, OWN, REMEDY)


def write_plots(context: Context, folder: Path) -> None:
    """Replace all curves; those of runs that are no longer collected disappear."""
    check_plots(folder)
    remove_own(folder, OWN)
    folder.mkdir(parents=True, exist_ok=True)
    for kind, curves in (("returns", returns(context)), ("losses", losses(context))):
        for name, table in curves:
            path = folder / kind / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(as_json(table) + "\n", encoding="utf-8")


def as_json(table: pd.DataFrame) -> str:
    """A list of records with null where there is no number: DVC would draw an empty field of a CSV as zero."""
    return str(table.round(DIGITS).to_json(orient="records")).replace("},{", "},\n {")


def returns(context: Context) -> Iterator[tuple[str, pd.DataFrame]]:
    """Mean test return over seeds against agent steps."""
    for name, rows in _runs(context.evaluations):
        points = over_seeds(rows).rename(columns={"mean": "return_mean"})
        yield name, points[["env_steps", "return_mean", "seeds"]]


def losses(context: Context) -> Iterator[tuple[str, pd.DataFrame]]:
    """Total training loss of each component against epochs, mean over seeds."""
    frame = context.losses
    for name, rows in _runs(frame[(frame.split == "train") & (frame.loss == "total")]):
        table = rows.pivot_table(index="epoch", columns="component", values="value", aggfunc="mean")
        yield name, table.reindex(columns=list(COMPONENTS)).reset_index()


def _runs(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """``smoke/iris+64-tokens/atari/Pong``, and the rows of its seeds."""
    for (scale, method, variant, task), rows in frame.groupby(["scale", "method", "variant", "task"], sort=True):
        yield f"{scale}/{method}{'+' if variant else ''}{variant}/{task}", rows
