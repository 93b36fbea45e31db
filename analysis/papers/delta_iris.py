"""Numbers of the Delta-IRIS paper that were read in third-party summaries, as tables of their own.

They stand in ``results/data/secondary.csv`` with their source, are labelled as secondary wherever they are shown, and
enter no statistic. Methods are called as runs of ours would be: ``Delta-IRIS+no-frame-tokens``.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from analysis.context import Context
from analysis.data.defects import MARK
from analysis.data.published import ATARI
from analysis.data.scores import DATA, read_table
from analysis.draw import style
from analysis.draw.artefacts import Table
from analysis.draw.tables import NOT_APPLICABLE, Cell, render

SECONDARY = (
    "Secondary: quoted from the paper in third-party summaries, not seen in the paper itself, no raw scores published."
)
SUBJECT = "Delta-IRIS"
MISSING = "–"
NAMES = {"IRIS": "IRIS, 16 tokens"}  # where it is compared with other token budgets

Columns = Mapping[str, tuple[str, str, float]]
"""Quantity -> header, format, unit that the value is divided by."""

TOKENIZER: Columns = {
    "l2": ("Squared error (↓)", "{:.6f}", 1.0),
    "worst_pixel": ("Largest error of a pixel (↓)", "{:.3f}", 1.0),
}
FRAME_TOKENS: Columns = {
    "token_cross_entropy": ("Cross-entropy of the next token (↓)", "{:.2f}", 1.0),
    "reward_cross_entropy": ("Cross-entropy of the reward (↓)", "{:.3f}", 1.0),
}


def read_secondary(table: str, data: Path = DATA) -> pd.DataFrame:
    """The rows of one table: method, quantity, env_steps (NaN where it means nothing), value, source."""
    columns = ["table", "method", "quantity", "env_steps", "value", "source"]
    frame = read_table(data / "secondary.csv", columns, ["env_steps", "value"])
    return frame[frame.table == table].drop(columns="table").reset_index(drop=True)


def called(method: str) -> str:
    """A method's name in these tables and their figures."""
    return NAMES.get(method) or style.shown(method)


def tokenizer_table(context: Context) -> Table:
    """DIRIS-T-tok: reconstruction by method and number of tokens, with and without the worst pixel in the loss."""
    return _plain("tokenizer", TOKENIZER, "Reconstruction of the tokenizers on Crafter.")


def frame_tokens_table(context: Context) -> Table:
    """DIRIS-T-abl: what the world model predicts with and without the embeddings of frames."""
    return _plain(
        "frame_tokens", FRAME_TOKENS, "World model of Delta-IRIS on Crafter with and without embeddings of frames."
    )


def _plain(table: str, columns: Columns, title: str) -> Table:
    """A row per method, a column per quantity."""
    numbers = read_secondary(table)
    lines = []
    for method, rows in numbers.groupby("method", sort=False):
        values = rows.set_index("quantity").value
        texts = [
            form.format(values[name] / unit) if name in values else MISSING for name, (_, form, unit) in columns.items()
        ]
        lines.append([Cell(called(str(method))), *map(Cell, texts)])
    headers = ["Method", *(header for header, _, _ in columns.values())]
    return render(headers, lines, numbers, f"{title} {SECONDARY}")


def paper_table(context: Context) -> Table:
    """DIRIS-T-paper: the paper's Atari table as quoted, beside the means of the released scores: they differ."""
    suite, quoted = context.suites[ATARI], read_secondary("atari100k").set_index("quantity").value
    released = pd.Series(suite.raw[SUBJECT].mean(axis=0), index=list(suite.tasks))
    points = {name: context.aggregates[ATARI][SUBJECT][name]["point"] for name in ("superhuman", "mean", "iqm")}
    titles = {"superhuman": "#Superhuman (↑)", "mean": "Mean (↑)", "iqm": "IQM (↑)"}
    forms = {"superhuman": "{:.0f}", "mean": "{:.2f}", "iqm": "{:.2f}"}
    games = [_compared(game, quoted.get(game), value, "{:.1f}") for game, value in released.items()]
    aggregates = [_compared(titles[name], quoted.get(name), points[name], forms[name]) for name in titles]
    rows = [*games, *aggregates]
    headers = ["Game", "Paper, as quoted", f"Released scores{MARK}", "Difference"]
    caption = (
        "Delta-IRIS on Atari-100k: mean score per game in the paper's table as quoted elsewhere, and in the file that "
        f"its authors released, of another configuration. {SECONDARY} {NOT_APPLICABLE}: not found."
    )
    return render(
        headers,
        [line for _, line in rows],
        pd.DataFrame([record for record, _ in rows]),
        caption,
        rules=[len(games)],
        defects=context.defects_of([SUBJECT], suite.tasks),
    )


def _compared(title: object, quoted: float | None, released: float, form: str) -> tuple[dict[str, object], list[Cell]]:
    """The quoted and the released number with their difference."""
    values = [quoted, released, None if quoted is None else released - quoted]
    forms = [form, form, form.replace(":", ":+")]
    texts = [NOT_APPLICABLE if value is None else shape.format(value) for value, shape in zip(values, forms)]
    record = dict(zip(("quoted", "released", "difference"), values))
    return {"game": title, **record}, [Cell(str(title)), *map(Cell, texts)]
