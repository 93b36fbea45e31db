"""The LaTeX of every table: sound by its structure, and accepted by LaTeX itself where there is one."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from analysis.context import make_context
from analysis.draw.artefacts import Table
from analysis.draw.tables import LATEX_TEXT, Cell, render
from analysis.items import ITEMS, Item

pytestmark = pytest.mark.integration

CONTEXT = make_context(repetitions=60)
TABLES = [item for item in ITEMS if item.kind == "table" and item.missing(CONTEXT) is None]
COMMANDS = {
    *("begin", "end", "toprule", "midrule", "bottomrule", "multicolumn", "linewidth", "newline", "footnotesize"),
    *("textbf", "underline", "textsuperscript"),
    *(name for text in LATEX_TEXT.values() for name in re.findall(r"\\([A-Za-z]+)", text)),
}
COMPILER = shutil.which("pdflatex") or shutil.which("tectonic")
DOCUMENT = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n%s\n\\end{document}\n"
HARD = [
    *('a_b & 5% #1 $x$ {y} \\z ~ ^ <tag> | " `code`', "--only [x] *", "-1.5 [-2.0, -0.5]", "± ↑↓ ε τ × − ≥ ² † –"),
    *("[0.1, 0.2]", "*starred", "a text so long that it can only be set as a paragraph of several lines in a column"),
]


def faults(latex: str) -> list[str]:
    """What LaTeX would stumble over, or set as something else than what the other languages show."""
    lines = [line for line in latex.splitlines() if not line.startswith("%")]
    body = "\n".join(lines)
    found = [f"the character {character!r}" for character in sorted(set(body)) if not character.isascii()]
    bare = re.sub(r"\\[#%&_${}\\]", "", body)  # what is escaped is fine, and so is the end of a row
    found += [f"the character {character!r}" for character in '#%"`~' if character in bare]
    outside = "".join(bare.split("$")[::2])
    found += [f"{character!r} outside of mathematics" for character in "<>|^_" if character in outside]
    found += [rf"the command \{name}" for name in set(re.findall(r"\\([A-Za-z]+)", body)) - COMMANDS]
    found += [] if bare.count("$") % 2 == 0 else ["an odd number of $"]
    begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", body) for word in ("begin", "end"))
    found += [] if begun == ended == ["tabular"] else [f"environments {begun} and {ended}"]
    found += [f"braces of {line!r}" for line in lines if _depth(line) != 0]
    return found + _faults_of_rows(lines)


def _faults_of_rows(lines: list[str]) -> list[str]:
    (start,) = [line for line in lines if line.startswith(r"\begin{tabular}")]
    columns = re.sub(r"p{[^}]*}", "p", start.removeprefix(r"\begin{tabular}{")[:-1])
    rows = [line for line in lines if line.endswith(r"\\")]
    found = [] if set(columns) <= set("lrp") else [f"columns {columns!r}"]
    found += [
        f"a row of other length: {row!r}" for row in rows if len(re.findall(r"(?<!\\)&", row)) != len(columns) - 1
    ]
    found += [f"a row that begins with an argument: {row!r}" for row in rows if row[0] in "[*"]
    spans = re.findall(r"\\multicolumn{(\d+)}", "\n".join(lines))
    return found + [f"a note over {span} of {len(columns)} columns" for span in spans if int(span) != len(columns)]


def _depth(line: str) -> int:
    bare = re.sub(r"\\[{}]", "", line.replace(r"\\", ""))
    return bare.count("{") - bare.count("}")


def compile_latex(latex: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """One run of the compiler that was found, in a folder of its own."""
    assert COMPILER is not None
    (folder / "page.tex").write_text(DOCUMENT % latex, encoding="utf-8")
    options = [] if COMPILER.endswith("tectonic") else ["-interaction=nonstopmode", "-halt-on-error"]
    return subprocess.run([COMPILER, *options, "page.tex"], cwd=folder, capture_output=True, text=True, check=False)


def hard_table() -> Table:
    lines = [[Cell(text), Cell(text, bold=True), Cell(text, underlined=True)] for text in HARD]
    return render(["[Name]", "100 %", "A & B"], lines, pd.DataFrame(), "50 % of \\it {", text_columns=2, rules=[1])


def test_whatever_is_in_a_cell_the_structure_holds() -> None:
    assert faults(hard_table().latex) == []


@pytest.mark.parametrize(
    ("good", "bad", "fault"),
    [
        (r"\%", "%", "character '%'"),
        ("a & b", "a b", "a row of other length"),
        (r"\end{tabular}", "", "environments"),
        (r"\textbf{b}", r"\textbf{b", "braces"),
        (r"\textbf{b}", r"\cellcolor{b}", r"command \\cellcolor"),
        (r"$\tau$", "τ", "character 'τ'"),
        ("1.5", "<1.5", "outside of mathematics"),
        ("1.5", "1.5 $", "odd number"),
    ],
)
def test_the_structural_check_finds_faults(good: str, bad: str, fault: str) -> None:
    sound = "\\begin{tabular}{lr}\na & b \\\\\n\\textbf{b} & 1.5 \\\\\n5 \\% & $\\tau$ \\\\\n\\end{tabular}"
    assert faults(sound) == [] and good in sound
    assert re.search(fault, "; ".join(faults(sound.replace(good, bad, 1))))


def test_numbers_have_minus_signs_and_words_have_hyphens() -> None:
    assert Cell("-20.7").latex() == "$-$20.7"
    assert Cell("0.1 [-0.2, 0.4]").latex() == "0.1 [$-$0.2, 0.4]"
    assert Cell("Delta-IRIS, 2019-2023, REM-F-2").latex() == "Delta-IRIS, 2019-2023, REM-F-2"
    assert Cell("make --only").latex() == "make -{}-only" and Cell("–").latex() == "--"


@cache
def table_of(item: Item) -> Table:
    artefact = item.make(CONTEXT)
    assert isinstance(artefact, Table)
    return artefact


@pytest.mark.parametrize("item", TABLES, ids=lambda item: item.id)
def test_every_table_is_sound(item: Item) -> None:
    table = table_of(item)
    assert faults(table.latex) == []
    assert "\n" not in table.caption  # a comment in LaTeX, one line everywhere


@pytest.mark.skipif(COMPILER is None, reason="neither pdflatex nor tectonic is installed")
def test_latex_accepts_every_table(tmp_path: Path) -> None:
    made = [table_of(item).latex for item in TABLES]
    result = compile_latex("\n\\clearpage\n".join([hard_table().latex, *made]), tmp_path)
    assert result.returncode == 0, result.stdout[-2000:]
    assert "Missing character" not in (tmp_path / "page.log").read_text(errors="replace")
    broken = compile_latex(hard_table().latex.replace(r"\bottomrule", r"\bottomrle"), tmp_path)
    assert broken.returncode != 0
