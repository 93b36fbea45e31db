"""LaTeX of tables and figures: complete floats that fit the text of ``article``, in one column and in two.

The rule of a table's size, first that fits: letters of 9 or 8 points (the larger, unless it takes more pages) within
one column of two; the same within the width of the text (``table*``, in one column too); columns of long text as
paragraphs, 8 or 7 points; 7 points; parts, each with the first columns and some of the others, by the same rule. What
is higher than a page goes on on the next. Nothing is scaled. Letters are measured in Computer Modern, the widest of
the usual fonts of text.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from math import sqrt
from pathlib import Path
from typing import Protocol

import matplotlib
import numpy as np
from matplotlib.font_manager import get_font
from matplotlib.ft2font import LoadFlags

from analysis.data.defects import MARK
from analysis.data.notes import MARK as NOTE_MARK

COLUMN, PAGE, HEIGHT = 229.5, 345.0, 535.0  # points, of article: column of two, width of the text in one, height
SIZES, SMALLEST = (9, 8), 7  # points of letters; smaller ones cannot be read in print
LEADING = 1.2  # distance of lines, in sizes of letters
GAP = {9: 4.0, 8: 3.0, 7: 2.5}  # points on either side of a column
LONG_TEXT = 24  # letters; columns of text with longer cells may become paragraphs
CAPTION = 10  # points of its letters
BOLD = 1.15  # width against medium letters
DESIGN = {10: 1.0, 9: 1.028, 8: 1.063, 7: 1.139}  # Computer Modern is relatively wider in small sizes
UNKNOWN = 0.8  # width of symbols and of letters that the font lacks, in sizes
RULES = 30.0  # points: the rules of a table and the space around them
CAPTION_SPACE = 20.0

MARKS = re.compile(r"((?:\\textsuperscript\{\\textdagger(?:dbl)?\})+)(\}*)$")
BREAKS = re.compile(r"(\\_|/|;|\.)(?=[A-Za-z])")  # a long name may go on in the next line behind these


TEXT = {
    **{character: "\\" + character for character in "#%&_${}"},
    **{character: f"${character}$" for character in "<>|"},  # the old text fonts hold other letters in their places
    "\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", '"': "''",
    "`": r"\textasciigrave{}", "−": "$-$", "≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$", "√": r"$\surd$",
    "τ": r"$\tau$", "²": "$^2$", "→": r"$\rightarrow$", "·": r"$\cdot$", "…": r"\ldots{}", "\u200b": "{}",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "ε": r"$\epsilon$", "±": r"$\pm$", "–": "--",
    "×": r"$\times$", MARK: r"\textsuperscript{\textdagger}",
    NOTE_MARK: r"\textsuperscript{\textdaggerdbl}",
}  # fmt: skip
MINUS = re.compile(r"(?<![\w-])-(?=[\d.])")  # of a number: in text, LaTeX makes a hyphen of it


class Text(Protocol):
    """A cell."""

    @property
    def text(self) -> str:
        """Without markup."""
        ...

    @property
    def bold(self) -> bool:
        """Whether it is."""
        ...

    def latex(self) -> str:
        """With markup."""
        ...


def escaped(text: str) -> str:
    """The text with LaTeX's special characters escaped."""
    plain = MINUS.sub("−", text).replace("--", "-\u200b-")  # options of a command are no dashes
    return "".join(TEXT.get(character, character) for character in plain)


def needs(*packages: str) -> str:
    """Comment that names the packages of the preamble."""
    return "% needs: " + ", ".join(packages)


def width(text: str, size: int, bold: bool = False) -> float:
    """Width in points of text set in letters of ``size`` points."""
    return sum(map(_advance, text)) * size * DESIGN[size] * (BOLD if bold else 1.0)


@cache
def _advance(character: str) -> float:
    font = get_font(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "cmr10.ttf")))
    font.set_size(10, 72)
    if TEXT.get(character, "").startswith("$") or not font.get_char_index(ord(character)):
        return UNKNOWN
    return font.load_char(ord(character), flags=LoadFlags.NO_HINTING).linearHoriAdvance / 65536 / 10


def wrapped(text: str, room: float, measure: Callable[[str], float]) -> list[str]:
    """Lines of whole words, none wider than ``room`` unless one word is."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and measure(f"{lines[-1]} {word}") <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


@dataclass(frozen=True)
class Setting:
    """How a table is set: over the page or in a column, size of letters, columns of paragraphs, columns of parts."""

    page: bool
    size: int
    paragraphs: dict[int, float] = field(default_factory=dict)  # column -> width in points
    parts: tuple[tuple[int, ...], ...] = ()

    @property
    def width(self) -> float:
        """Points that are there."""
        return PAGE if self.page else COLUMN

    @property
    def leading(self) -> float:
        """Points from line to line."""
        return self.size * LEADING


@dataclass(frozen=True)
class Grid:
    """Cells of a table, of which the first ``text_columns`` are left-aligned; a rule precedes each row of ``rules``.

    ``caption`` includes the notes.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Text]]
    text_columns: int
    rules: Collection[int]
    caption: str

    def source(self, name: str) -> str:
        """The file ``name.tex``: one float, or several where the table is higher than a page."""
        setting = self.setting
        pages = self._pages(setting)
        packages = ["booktabs"] + ["tabularx"] * bool(setting.paragraphs) + ["caption"] * (len(pages) > 1)
        lines = [needs(*packages)]
        kind = "table*" if setting.page else "table"
        for number, blocks in enumerate(pages):
            title = [rf"\caption{{{broken(escaped(self.caption))}}}", rf"\label{{tab:{name}}}"]
            lines += [rf"\begin{{{kind}}}[tp]", r"\centering"]
            lines += [r"\ContinuedFloat", r"\caption[]{(continued)}"] if number else title
            lines.append(rf"\fontsize{{{setting.size}}}{{{setting.leading:.1f}}}\selectfont")
            lines.append(rf"\setlength{{\tabcolsep}}{{{GAP[setting.size]:g}pt}}")
            for place, block in enumerate(blocks):
                lines += [r"\par\bigskip"] * bool(place) + [self._tabular(*block, setting)]
            lines.append(rf"\end{{{kind}}}")
        return "\n".join(lines)

    @cached_property
    def setting(self) -> Setting:
        """The first that fits, by the rule of this module."""
        every = tuple(range(len(self.head)))
        kept, others = every[: max(1, self.text_columns)], every[max(1, self.text_columns) :]
        for count in range(1, max(1, len(others)) + 1):
            parts = tuple((*kept, *map(int, part)) for part in np.array_split(others, count))
            tries = [
                [Setting(False, size, parts=parts) for size in SIZES if count == 1 and self._fits(parts, size, COLUMN)],
                [Setting(True, size, parts=parts) for size in SIZES if self._fits(parts, size)],
                [
                    Setting(True, size, paragraphs, parts)
                    for size in (SIZES[-1], SMALLEST)
                    if (paragraphs := self._paragraphs(parts, size))
                ],
                [Setting(True, SMALLEST, parts=parts)] if self._fits(parts, SMALLEST) else [],
            ]
            for settings in tries:
                if settings:
                    return min(settings, key=lambda setting: len(self._pages(setting)))
        return Setting(True, SMALLEST, parts=(every,))

    def _fits(self, parts: Sequence[Sequence[int]], size: int, room: float = PAGE) -> bool:
        return all(self._width(part, size) <= room for part in parts)

    def _width(self, columns: Sequence[int], size: int) -> float:
        return sum(self._cells(column, size) for column in columns) + 2 * GAP[size] * (len(columns) - 1)

    def _cells(self, column: int, size: int) -> float:
        """Width of a column in points; its header is set in several lines where its words allow."""
        cells = max((width(self._bare(row[column], column), size, row[column].bold) for row in self.rows), default=0.0)
        header = self.head[column]
        return max(cells, width(header, size) / 2, *(width(word, size) for word in header.split(" ")))

    def _bare(self, cell: Text, column: int) -> str:
        """What of a cell takes room: numbers are aligned without their marks."""
        return cell.text if column < self.text_columns else cell.text.rstrip(MARK + NOTE_MARK)

    def _paragraphs(self, parts: Sequence[Sequence[int]], size: int) -> dict[int, float]:
        """Widths of the columns of long text that share what the others leave; empty where they do not fit."""
        length = {}
        for column in range(len(self.head)):
            longest = max((row[column].text for row in self.rows), key=len, default="")
            is_text = column < self.text_columns or not re.search(r"\d", longest)
            if is_text and len(longest) > LONG_TEXT:
                length[column] = sqrt(len(longest))
        others = [[column for column in part if column not in length] for part in parts]
        room = PAGE - max(self._width(part, size) for part in others) - 2 * GAP[size] * len(length)
        least = {column: self._longest_piece(column, size) for column in length}
        spare = room - sum(least.values())
        if spare < 0:
            return {}
        return {column: least[column] + spare * length[column] / sum(length.values()) for column in length}

    def _longest_piece(self, column: int, size: int) -> float:
        cells = [(self.head[column], False), *((row[column].text, row[column].bold) for row in self.rows)]
        return max(width(piece, size, bold) for text, bold in cells for piece in _pieces(text))

    def _pages(self, setting: Setting) -> list[list[tuple[tuple[int, ...], range]]]:
        """Blocks (columns and rows) for each float, so that none is higher than the page."""
        caption = wrapped(self.caption, setting.width, lambda text: width(text, CAPTION))
        used = len(caption) * CAPTION * LEADING + CAPTION_SPACE
        pages: list[list[tuple[tuple[int, ...], range]]] = [[]]
        for part in setting.parts:
            head = RULES + setting.leading * max(len(self._header(column, setting)) for column in part)
            heights = [self._height(row, part, setting) for row in self.rows]
            if pages[-1] and used + head + sum(heights) > HEIGHT:  # a part that fits on a page is not divided
                pages.append([])
                used = CAPTION_SPACE + CAPTION * LEADING
            start, used = 0, used + head
            for number, height in enumerate(heights):
                if used + height > HEIGHT and number > start:
                    pages[-1].append((part, range(start, number)))
                    pages.append([])
                    start, used = number, CAPTION_SPACE + CAPTION * LEADING + head
                used += height
            pages[-1].append((part, range(start, len(self.rows))))
        return pages

    def _height(self, row: Sequence[Text], part: Sequence[int], setting: Setting) -> float:
        lines = [
            len(wrapped(" ".join(_pieces(row[column].text)), points, lambda text: width(text, setting.size, bold=True)))
            for column, points in setting.paragraphs.items()
            if column in part
        ]
        return setting.leading * max(lines, default=1)

    def _header(self, column: int, setting: Setting) -> list[str]:
        room = setting.paragraphs.get(column) or self._cells(column, setting.size)
        return wrapped(self.head[column], room, lambda text: width(text, setting.size))

    def _tabular(self, columns: Sequence[int], rows: range, setting: Setting) -> str:
        shown = [column for column in setting.paragraphs if column in columns]
        share = sum(setting.paragraphs[column] for column in shown) / max(1, len(shown))

        def kind(column: int) -> str:
            if column in shown:
                side = "right" if column < self.text_columns else "left"
                return rf">{{\hsize={setting.paragraphs[column] / share:.3f}\hsize\ragged{side}\arraybackslash}}X"
            return "l" if column < self.text_columns else "r"

        def cell(text: Text, column: int) -> str:
            if column in shown:
                return broken(re.sub(r"^\\underline\{(.*)\}$", r"\1", text.latex()))  # underlined text has one line
            return text.latex() if column < self.text_columns else MARKS.sub(r"\\rlap{\1}\2", text.latex())

        def header(column: int) -> str:
            lines = r" \\ ".join(map(escaped, self._header(column, setting)))
            side = "l" if column < self.text_columns else "r"
            return rf"\shortstack[{side}]{{{lines}}}" if r"\\" in lines else lines

        def line(cells: Sequence[str]) -> str:
            text = " & ".join(cells) + r" \\"
            return f"{{}}{text}" if text.startswith(("[", "*")) else text  # else an argument of the line break before

        name, size = ("tabularx", r"{\linewidth}") if shown else ("tabular", "")
        lines = [
            rf"\begin{{{name}}}{size}{{@{{}}{''.join(map(kind, columns))}@{{}}}}",
            r"\toprule",
            line([header(column) for column in columns]),
            r"\midrule",
        ]
        for number in rows:
            lines += [r"\midrule"] if number in self.rules and number > rows.start else []
            lines.append(line([cell(self.rows[number][column], column) for column in columns]))
        return "\n".join([*lines, r"\bottomrule", rf"\end{{{name}}}"])


def figure(name: str, points: float, caption: str) -> str:
    """The float of the picture ``name.pdf``, which is ``points`` wide; wider ones than the page are scaled to it."""
    kind = "figure" if points <= COLUMN else "figure*"
    scaled = r"[width=\linewidth]" if points > PAGE else ""
    lines = [needs("graphicx"), rf"\begin{{{kind}}}[tp]", r"\centering", rf"\includegraphics{scaled}{{{name}.pdf}}"]
    return "\n".join([*lines, rf"\caption{{{broken(escaped(caption))}}}", rf"\label{{fig:{name}}}", rf"\end{{{kind}}}"])


def broken(latex: str) -> str:
    """LaTeX whose long names may be divided between lines."""
    return BREAKS.sub(r"\1\\allowbreak{}", latex)


def _pieces(text: str) -> list[str]:
    """What is never divided between lines."""
    return [piece for piece in re.split(r"\s|(?<=[_/;.-])(?=[A-Za-z])", text) if piece]
