"""Numbers of the Delta-IRIS paper that were read in third-party summaries (``results/data/secondary.csv``).

They are labelled as secondary wherever they are shown, and enter no statistic. Methods are called as runs of ours would
be: ``Delta-IRIS+no-frame-tokens``.
"""

from pathlib import Path

import pandas as pd

from analysis.data import naming
from analysis.data.scores import DATA, read_table

SECONDARY = (
    "Secondary: quoted from the paper in third-party summaries, not seen in the paper itself, no raw scores published."
)
SUBJECT = "Delta-IRIS"
MISSING = "–"
NAMES = {"IRIS": "IRIS, 16 tokens"}  # where it is compared with other token budgets


def read_secondary(table: str, data: Path = DATA) -> pd.DataFrame:
    """The rows of one table: method, quantity, env_steps (NaN where it means nothing), value, source."""
    columns = ["table", "method", "quantity", "env_steps", "value", "source"]
    frame = read_table(data / "secondary.csv", columns, ["env_steps", "value"])
    return frame[frame.table == table].drop(columns="table").reset_index(drop=True)


def called(method: str) -> str:
    """A method's name in these tables and their figures."""
    return NAMES.get(method) or naming.shown(method)
