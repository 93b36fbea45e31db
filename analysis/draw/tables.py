"""Tables in Markdown, LaTeX, HTML and CSV, and the papers' per-game table."""

import html
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.comparisons import Comparison
from analysis.context import Context
from analysis.data import naming
from analysis.data.defects import MARK, Defect
from analysis.data.notes import MARK as NOTE_MARK
from analysis.data.scores import Suite
from analysis.draw.artefacts import Table
from analysis.stats import metrics

NOT_APPLICABLE = "N/A"
NO_RUN = "–"  # no value: not run, not recorded, or not computable
REFERENCE_COLUMNS = 2  # random and human come first and are never highlighted
METRIC_ROWS = {
    "superhuman": ("#Superhuman", "↑"),
    "mean": ("Mean", "↑"),
    "median": ("Median", "↑"),
    "iqm": ("IQM", "↑"),
    "optimality_gap": ("Optimality gap", "↓"),
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
    **{character: "\\" + character for character in "#%&_${}"},
    **{character: f"${character}$" for character in "<>|"},  # the old text fonts hold other letters in their places
    "\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", '"': "''",
    "`": r"\textasciigrave{}", "−": "$-$", "≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$", "√": r"$\surd$",
    "τ": r"$\tau$", "²": "$^2$", "→": r"$\rightarrow$", "·": r"$\cdot$", "…": r"\ldots{}", "\u200b": "{}",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "ε": r"$\epsilon$", "±": r"$\pm$", "–": "--",
    "×": r"$\times$", MARK: r"\textsuperscript{\textdagger}",
    NOTE_MARK: r"\textsuperscript{\textdaggerdbl}",
}  # fmt: skip
MARKDOWN_MARKS = re.compile(r"[|*]|<(?=[A-Za-z/!])")  # of a column, of emphasis, of HTML
MINUS = re.compile(r"(?<![\w-])-(?=[\d.])")  # of a number: in text, LaTeX makes a hyphen of it
LONG_TEXT = 45  # letters: wider columns are paragraphs in LaTeX


@dataclass(frozen=True)
class Cell:
    """One cell and how it is highlighted."""

    text: str
    bold: bool = False
    underlined: bool = False

    def markdown(self) -> str:
        """``**bold**``, ``<u>underlined</u>``."""
        text = MARKDOWN_MARKS.sub(r"\\\g<0>", self.text)
        text = f"**{text}**" if self.bold else text
        return f"<u>{text}</u>" if self.underlined else text

    def html(self) -> str:
        """Markup of the cell in HTML, with Markdown's highlights."""
        text = html.escape(self.text)
        text = f"<b>{text}</b>" if self.bold else text
        return f"<u>{text}</u>" if self.underlined else text

    def latex(self) -> str:
        """Text with LaTeX's special characters escaped."""
        plain = MINUS.sub("−", self.text).replace("--", "-\u200b-")  # options of a command are no dashes
        text = "".join(LATEX_TEXT.get(character, character) for character in plain)
        text = rf"\textbf{{{text}}}" if self.bold else text
        return rf"\underline{{{text}}}" if self.underlined else text


def render(
    headers: Sequence[str],
    lines: Sequence[Sequence[Cell | str]],
    numbers: pd.DataFrame,
    caption: str,
    text_columns: int = 1,
    rules: Collection[int] = (),
    defects: tuple[Defect, ...] = (),
) -> Table:
    """The table in all languages; the first ``text_columns`` are left-aligned, a rule precedes each line of ``rules``.

    Defects are printed below the lines, in LaTeX inside the table, so that a copied table keeps them.
    """
    rows = [[part if isinstance(part, Cell) else Cell(part) for part in line] for line in lines]
    right = len(headers) - text_columns
    head = [Cell(header) for header in headers]
    markdown = [_markdown_line(head), "|" + " --- |" * text_columns + " ---: |" * right]
    latex = [
        f"% {caption}",
        r"% needs \usepackage{booktabs}",
        r"\begin{tabular}{" + _latex_columns([head, *rows], text_columns) + "}",
        r"\toprule",
        _latex_line(head),
        r"\midrule",
    ]
    for number, line in enumerate(rows):
        markdown.append(_markdown_line(line))
        latex += [r"\midrule"] if number in rules else []
        latex.append(_latex_line(line))
    latex.append(r"\bottomrule")
    notes = [f"{defect.mark} {defect}" for defect in defects]
    if notes:
        body = r"\newline ".join(Cell(note).latex() for note in notes)
        latex.append(rf"\multicolumn{{{len(headers)}}}{{p{{\linewidth}}}}{{\footnotesize {body}}}")
    latex.append(r"\end{tabular}")
    page = _html(head, rows, text_columns, rules)
    text = "\n\n".join(["\n".join(markdown), caption, *(Cell(note).markdown() for note in notes)])
    return Table(text, "\n".join(latex), page, numbers, caption, defects)


def _html(head: Sequence[Cell], lines: Sequence[Sequence[Cell]], text_columns: int, rules: Collection[int]) -> str:
    """A bare ``<table>``; the page that shows it brings the style."""

    def row(tag: str, cells: Sequence[Cell], css_class: str = "") -> str:
        kinds = [' class="text"' if index < text_columns else "" for index in range(len(cells))]
        body = "".join(f"<{tag}{kind}>{cell.html()}</{tag}>" for kind, cell in zip(kinds, cells))
        return f"<tr{css_class}>{body}</tr>"

    rows = [row("td", line, ' class="rule"' if number in rules else "") for number, line in enumerate(lines)]
    return "\n".join(["<table>", f"<thead>{row('th', head)}</thead>", "<tbody>", *rows, "</tbody>", "</table>"])


def _markdown_line(cells: Sequence[Cell]) -> str:
    return "| " + " | ".join(cell.markdown() for cell in cells) + " |"


def _latex_line(cells: Sequence[Cell]) -> str:
    line = " & ".join(cell.latex() for cell in cells) + r" \\"
    return f"{{}}{line}" if line.startswith(("[", "*")) else line  # else an argument of the line break before


def _latex_columns(lines: Sequence[Sequence[Cell]], text_columns: int) -> str:
    """Text to the left, numbers to the right; columns of long text are paragraphs that share most of the page."""
    longest = [max(len(cell.text) for cell in column) for column in zip(*lines)]
    paragraphs = {index for index, length in enumerate(longest[:text_columns]) if length > LONG_TEXT}
    width = f"p{{{0.8 / max(1, len(paragraphs)):.2f}\\linewidth}}"
    kinds = ["l"] * text_columns + ["r"] * (len(longest) - text_columns)
    return "".join(width if index in paragraphs else kind for index, kind in enumerate(kinds))


@dataclass(frozen=True)
class Row:
    """Numbers of random policy, human and methods: None does not apply, NaN was not run; ``marked`` are the methods
    whose number is in doubt."""

    title: str
    values: list[float | None]
    form: str
    low_is_good: bool = False
    marked: frozenset[str] = frozenset()


def per_game_table(comparison: Comparison, context: Context) -> Table:
    """Mean raw score of every game, then the aggregates, and these once more without the games in doubt."""
    comparison = comparison.chosen(context)
    ours = comparison.ours(context)
    published = [*comparison.table_only, *(name for name in comparison.columns(context) if name not in ours)]
    methods = [*published, *comparison.partial(context), *ours]
    games = _game_rows(comparison, context, methods)
    aggregates = _aggregate_rows(context.suites[comparison.suite], methods, "")
    rules = [len(games)]
    if comparison.without is not None:
        rules.append(len(games) + len(aggregates))
        suffix = f" without {comparison.left_out(context)}"
        aggregates += _aggregate_rows(context.suites[comparison.without], methods, suffix)
    bold = [REFERENCE_COLUMNS + methods.index(method) for method in comparison.group]
    underlined = [REFERENCE_COLUMNS + index for index in range(len(published))]
    rows = [*games, *aggregates]
    lines = [
        _cells(row, methods, bold, underlined if comparison.group_name and underlined != bold else []) for row in rows
    ]
    headers = ["Game", "Random", "Human", *(naming.shown(method) for method in methods)]
    defects = comparison.defects(context)
    marks = [""] * (REFERENCE_COLUMNS + 1) + [header_marks(method, defects) for method in methods]
    numbers = pd.DataFrame([[row.title, *row.values] for row in rows], columns=headers)
    caption = _per_game_caption(comparison, context)
    titles = [header + mark for header, mark in zip(headers, marks)]  # of a defect on all games
    return render(titles, lines, numbers, caption, rules=rules, defects=defects)


def header_marks(method: str, defects: Sequence[Defect]) -> str:
    """The marks of what is said of a method on all tasks."""
    marks = [defect.mark for defect in defects if not defect.tasks and method in defect.methods]
    return "".join(dict.fromkeys(marks))


def _game_rows(comparison: Comparison, context: Context, methods: Sequence[str]) -> list[Row]:
    suite, references = context.suites[comparison.suite], context.references
    raw = {**suite.partial_raw, **suite.raw}
    defects = comparison.defects(context)
    all_means = {method: metrics.task_means(raw[method]) for method in methods}
    rows = []
    for column, (game, reference) in enumerate(zip(suite.tasks, references.columns(suite.tasks))):
        means = [float(all_means[method][column]) for method in methods]
        values: list[float | None] = [float(references.random[reference]), float(references.human[reference]), *means]
        doubts = [defect.methods for defect in defects if game in defect.tasks]
        rows.append(Row(game, values, "{:.1f}", marked=frozenset().union(*doubts)))
    return rows


def _aggregate_rows(suite: Suite, methods: Sequence[str], suffix: str) -> list[Row]:
    rows = []
    for metric, (title, arrow) in METRIC_ROWS.items():
        values = [*REFERENCE_METRICS[metric], *(_aggregate(suite.scores.get(method), metric) for method in methods)]
        form = "{:.0f}" if metric == "superhuman" else "{:.3f}"
        rows.append(Row(f"{title}{suffix} ({arrow})", values, form, low_is_good=metric == "optimality_gap"))
    return rows


def _cells(row: Row, methods: Sequence[str], bold: Sequence[int], underlined: Sequence[int]) -> list[Cell]:
    """The row's title and numbers, the best among each of two sets of columns highlighted."""
    best = [_best(row.values, columns, row.low_is_good) for columns in (bold, underlined)]
    marks = [""] * REFERENCE_COLUMNS + [MARK if method in row.marked else "" for method in methods]
    texts = [number_text(value, row.form) for value in row.values]
    numbers = enumerate(zip(texts, marks))
    return [
        Cell(row.title),
        *(Cell(text + mark, index in best[0], index in best[1]) for index, (text, mark) in numbers),
    ]


def number_text(value: float | None, form: str) -> str:
    """The number, or why there is none."""
    if value is None:
        return NOT_APPLICABLE
    return NO_RUN if math.isnan(value) else form.format(value)


def number(value: Any, form: str, unit: float = 1.0) -> Cell:
    """``value / unit`` in the format ``form``, a dash where there is no value."""
    return Cell(NO_RUN if value is None or pd.isna(value) else form.format(float(value) / unit))


Form = str | Callable[[Mapping[str, Any]], Cell | str]
Columns = Mapping[str, tuple[str, Form] | tuple[str, str, float]]
"""Key of the records -> header, format of its numbers ("" for text and labels) or function of the record, and unit."""


def records_table(
    records: Sequence[Mapping[str, Any]], columns: Columns, caption: str, text_columns: int | None = None, **more: Any
) -> Table:
    """A line per record with these columns, those of text first; ``more`` are arguments of ``render``."""

    def cell(record: Mapping[str, Any], key: str, form: Form, unit: float = 1.0) -> Cell | str:
        if isinstance(form, str):
            return number(record[key], form, unit) if form else naming.shown(str(record[key]))
        return form(record)

    lines = [[cell(record, key, *form) for key, (_, *form) in columns.items()] for record in records]
    headers = [header for header, *_ in columns.values()]
    if text_columns is None:
        text_columns = sum(not form for _, form, *_ in columns.values())
    return render(headers, lines, pd.DataFrame(records), caption, text_columns=text_columns, **more)


def _per_game_caption(comparison: Comparison, context: Context) -> str:
    scores = context.suites[comparison.suite].scores
    added = [*comparison.contributed(context), *comparison.ours(context)]
    every = "published and contributed" if comparison.contributed(context) else "published"
    ranks = f"Bold: best {comparison.group_name}; underlined: best of all {every} methods."
    parts = [
        f"{comparison.heading(context)}: mean score over runs per game, and aggregates of human-normalised scores.",
        ranks if comparison.group_name else "Bold: best.",
        "N/A: one printed value per game, no runs." if comparison.table_only else "",
        "N/A: one run per game." if any(len(scores[name]) == 1 for name in added) else "",
        "CURL is mapped back from normalised scores." if "CURL" in comparison.methods else "",
        f"{NO_RUN}: not run; such methods are not ranked." if comparison.partial(context) else "",
        "Our runs are not ranked." if comparison.ours(context) else "",
    ]
    return " ".join(filter(None, parts))


def _aggregate(scores: metrics.Matrix | None, metric: str) -> float | None:
    if scores is None:  # partial: of too few games
        return math.nan
    if len(scores) == 1 and metric in NEEDS_RUNS:
        return None
    return metrics.points(scores)[metric]


def _best(values: Sequence[float | None], columns: Sequence[int], low_is_good: bool) -> set[int]:
    """Positions of the best value (ties: all of them) among these columns."""
    present = {index: value for index in columns if (value := values[index]) is not None and not math.isnan(value)}
    target = (min if low_is_good else max)(present.values(), default=math.nan)
    return {index for index, value in present.items() if math.isclose(value, target, rel_tol=1e-12)}
