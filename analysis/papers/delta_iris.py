"""Delta-IRIS: the numbers that third-party summaries quote from the paper, as tables, and the items of the paper."""

from collections.abc import Mapping
from functools import partial

import pandas as pd

from analysis.comparisons import DELTA_IRIS, ours_of
from analysis.context import Context
from analysis.data import naming
from analysis.data.defects import MARK
from analysis.data.published import ATARI
from analysis.data.secondary import MISSING, SECONDARY, SUBJECT, called, read_secondary
from analysis.draw.artefacts import Table
from analysis.draw.tables import NOT_APPLICABLE, Cell, per_game_table, render
from analysis.item import Item, picture
from analysis.papers import crafter
from analysis.papers.hyperparameters import hyperparameter_table, require_yaml
from analysis.stats import metrics

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
    ours = [name for name in ours_of(suite, [SUBJECT]) if naming.twin(name) == SUBJECT]
    for name in ours:
        own = {**dict(zip(suite.tasks, metrics.task_means(suite.raw[name]))), **metrics.points(suite.scores[name])}
        for (record, line), (key, form) in zip(rows, [*((game, "{:.1f}") for game in suite.tasks), *forms.items()]):
            record[name] = own[key]
            line.append(Cell(form.format(own[key])))
    headers = ["Game", "Paper, as quoted", f"Released scores{MARK}", "Difference", *map(naming.shown, ours)]
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


ITEMS = (
    Item("DIRIS-T-atari", "delta_iris", "table", "Atari-100k per game", partial(per_game_table, DELTA_IRIS)),
    Item("DIRIS-T-paper", "delta_iris", "table", "The paper's Atari table and the released scores", paper_table),
    Item("DIRIS-T-crafter", "delta_iris", "table", "Crafter at 1, 5 and 10 million frames", crafter.milestones_table,
         compares=crafter.methods),
    Item(
        "DIRIS-F-crafter", "delta_iris", "figure", "Crafter: return against frames", crafter.curves_figure,
        crafter.evaluations, crafter.methods,
    ),
    Item(
        "DIRIS-F-success", "delta_iris", "figure", "Crafter: success rates", crafter.achievements_figure,
        crafter.achievements,
    ),
    Item(
        "DIRIS-T-success", "delta_iris", "table", "Crafter: success rates in numbers", crafter.achievements_table,
        crafter.achievements,
    ),
    Item("DIRIS-T-tok", "delta_iris", "table", "Crafter: reconstruction of the tokenizers", tokenizer_table),
    Item("DIRIS-T-abl", "delta_iris", "table", "Crafter: with and without frame tokens", frame_tokens_table),
    Item(
        "DIRIS-T-hp", "delta_iris", "table", "Hyper-parameters", partial(hyperparameter_table, "delta_iris"),
        require_yaml,
    ),
    picture("DIRIS-F-rec", "delta_iris", "Worst reconstructions"),
    picture("DIRIS-F-delta", "delta_iris", "Frames without delta tokens and with others"),
    picture("DIRIS-F-imag", "delta_iris", "Imagined trajectories"),
)  # fmt: skip
