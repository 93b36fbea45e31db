"""Tables in Markdown, LaTeX, HTML and CSV, and the per-game table of the IRIS paper."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis import metrics, style
from analysis.artefacts import Table
from analysis.context import Context
from analysis.published import ATARI

NOT_APPLICABLE = "N/A"
TABLE1_METHODS = ("MuZero", "EfficientZero", "SimPLe", "CURL", "DrQ(eps)", "SPR", "IRIS")
REFERENCE_COLUMNS = 2  # random and human come first and are never highlighted
FIRST_WITHOUT_LOOKAHEAD = 4  # bold is the best from this column on, underlined the best of all methods
METRIC_ROWS = {
    "superhuman": "#Superhuman (↑)",
    "mean": "Mean (↑)",
    "median": "Median (↑)",
    "iqm": "IQM (↑)",
    "optimality_gap": "Optimality gap (↓)",
}
# Of the random policy and of the human, by definition of the normalisation.
REFERENCE_METRICS: dict[str, tuple[float | None, float | None]] = {
    "superhuman": (0.0, None),
    "mean": (0.0, 1.0),
    "median": (0.0, 1.0),
    "iqm": (0.0, 1.0),
    "optimality_gap": (1.0, 0.0),
}
# A single printed value per game has no runs to trim or clip: the papers print N/A.
NEEDS_RUNS = ("iqm", "optimality_gap")
LATEX_TEXT = {
    **{character: "\\" + character for character in "#%&_$"},
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "ε": r"$\epsilon$", "±": r"$\pm$", "–": "--",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One cell and how it is highlighted."""

    text: str
    bold: bool = False
    underlined: bool = False

    def markdown(self) -> str:
        """``**bold**``, ``<u>underlined</u>``."""
        text = self.text.replace("|", r"\|")
        text = f"**{text}**" if self.bold else text
        return f"<u>{text}</u>" if self.underlined else text

    def html(self) -> str:
        """The same marks as Markdown's."""
        text = html.escape(self.text)
        text = f"<b>{text}</b>" if self.bold else text
        return f"<u>{text}</u>" if self.underlined else text

    def latex(self) -> str:
        """Text with LaTeX's special characters escaped."""
        text = "".join(LATEX_TEXT.get(character, character) for character in self.text)
        text = rf"\textbf{{{text}}}" if self.bold else text
        return rf"\underline{{{text}}}" if self.underlined else text


def render(
    headers: Sequence[str],
    lines: Sequence[Sequence[Cell]],
    numbers: pd.DataFrame,
    caption: str,
    text_columns: int = 1,
    rule_before: int | None = None,
) -> Table:
    """The table in all languages; the first ``text_columns`` are left-aligned, a rule precedes line ``rule_before``."""
    right = len(headers) - text_columns
    head = [Cell(header) for header in headers]
    markdown = [_markdown_line(head), "|" + " --- |" * text_columns + " ---: |" * right]
    latex = [
        f"% {caption}",
        r"% needs \usepackage{booktabs}",
        r"\begin{tabular}{" + "l" * text_columns + "r" * right + "}",
        r"\toprule",
        _latex_line(head),
        r"\midrule",
    ]
    for number, line in enumerate(lines):
        markdown.append(_markdown_line(line))
        latex += [r"\midrule"] if number == rule_before else []
        latex.append(_latex_line(line))
    latex += [r"\bottomrule", r"\end{tabular}"]
    page = _html(head, lines, text_columns, rule_before)
    return Table("\n".join([*markdown, "", caption]), "\n".join(latex), page, numbers, caption)


def _html(head: Sequence[Cell], lines: Sequence[Sequence[Cell]], text_columns: int, rule_before: int | None) -> str:
    """A bare ``<table>``; the page that shows it brings the style."""

    def row(tag: str, cells: Sequence[Cell], css_class: str = "") -> str:
        kinds = [' class="text"' if index < text_columns else "" for index in range(len(cells))]
        body = "".join(f"<{tag}{kind}>{cell.html()}</{tag}>" for kind, cell in zip(kinds, cells))
        return f"<tr{css_class}>{body}</tr>"

    rows = [row("td", line, ' class="rule"' if number == rule_before else "") for number, line in enumerate(lines)]
    return "\n".join(["<table>", f"<thead>{row('th', head)}</thead>", "<tbody>", *rows, "</tbody>", "</table>"])


def _markdown_line(cells: Sequence[Cell]) -> str:
    return "| " + " | ".join(cell.markdown() for cell in cells) + " |"


def _latex_line(cells: Sequence[Cell]) -> str:
    return " & ".join(cell.latex() for cell in cells) + r" \\"


def iris_table1(context: Context) -> Table:
    """IRIS-T1: mean raw score per game, then the aggregates of human-normalised scores."""
    suite, references = context.suites[ATARI], context.references
    ours = [method for method in suite.scores if style.is_ours(method)]
    methods = [*TABLE1_METHODS, *ours]
    headers = ["Game", "Random", "Human", *(style.shown(method) for method in methods)]
    lines: list[list[Cell]] = []
    records: list[list[object]] = []
    for column, game in enumerate(suite.tasks):
        means = [float(suite.raw[method][:, column].mean()) for method in methods]
        values = [float(references.random[column]), float(references.human[column]), *means]
        lines.append([Cell(game), *_highlighted(values, "{:.1f}", low_is_good=False)])
        records.append([game, *values])
    for metric, title in METRIC_ROWS.items():
        aggregated = [*REFERENCE_METRICS[metric], *(_aggregate(suite.scores[method], metric) for method in methods)]
        form = "{:.0f}" if metric == "superhuman" else "{:.3f}"
        lines.append([Cell(title), *_highlighted(aggregated, form, low_is_good=metric == "optimality_gap")])
        records.append([title, *aggregated])
    caption = (
        "Atari-100k: mean score over runs per game, and aggregates of human-normalised scores. Bold: best without "
        "lookahead search; underlined: best of all published methods; N/A: one printed value per game, no runs. CURL "
        "is mapped back from normalised scores." + (" Our runs are not ranked." if ours else "")
    )
    numbers = pd.DataFrame(records, columns=headers)
    return render(headers, lines, numbers, caption, rule_before=len(suite.tasks))


def _aggregate(scores: metrics.Matrix, metric: str) -> float | None:
    if len(scores) == 1 and metric in NEEDS_RUNS:
        return None
    return metrics.points(scores)[metric]


def _highlighted(values: Sequence[float | None], form: str, low_is_good: bool) -> list[Cell]:
    """Cells of one row; our runs, after the published methods, are not ranked."""
    last = REFERENCE_COLUMNS + len(TABLE1_METHODS)
    bold = _best(values, FIRST_WITHOUT_LOOKAHEAD, last, low_is_good)
    underlined = _best(values, REFERENCE_COLUMNS, last, low_is_good)
    return [
        Cell(NOT_APPLICABLE if value is None else form.format(value), index in bold, index in underlined)
        for index, value in enumerate(values)
    ]


def _best(values: Sequence[float | None], first: int, last: int, low_is_good: bool) -> set[int]:
    """Positions of the best value (ties: all of them) among the columns first..last-1."""
    candidates = {index: values[index] for index in range(first, last)}
    present = [value for value in candidates.values() if value is not None]
    target = min(present) if low_is_good else max(present)
    return {index for index, value in candidates.items() if value == target}
