"""LaTeX of tables, and what a paper needs beside them: sound by structure, and compiled where LaTeX is installed."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from analysis.context import make_context
from analysis.draw import article, latex
from analysis.draw.artefacts import Table
from analysis.draw.latex import TEXT
from analysis.draw.tables import Cell, render
from analysis.items import ITEMS, Item
from analysis.make_figures import main

pytestmark = pytest.mark.integration

CONTEXT = make_context(repetitions=60)
TABLES = [item for item in ITEMS if item.kind == "table" and item.missing(CONTEXT) is None]
COMMANDS = {
    *("begin", "end", "toprule", "midrule", "bottomrule", "linewidth", "centering", "caption", "label"),
    *("fontsize", "selectfont", "setlength", "tabcolsep", "shortstack", "rlap", "hsize", "raggedright", "raggedleft"),
    *("arraybackslash", "allowbreak", "ContinuedFloat", "par", "bigskip", "textbf", "underline", "textsuperscript"),
    *(name for text in TEXT.values() for name in re.findall(r"\\([A-Za-z]+)", text)),
}
COMPILER = shutil.which("pdflatex")
needs_latex = pytest.mark.skipif(COMPILER is None, reason="compiles: pdflatex, which nothing else needs, is missing")
ENVIRONMENTS = {"table", "table*", "tabular", "tabularx"}
DOCUMENT = "%s\n\\begin{document}\n%s\n\\end{document}\n"
TOO_LARGE = re.compile(r"Overfull .hbox.*|.*Float too large.*|Missing character.*|^!.*", re.MULTILINE)
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
    outside = "".join(re.sub(r">{[^$]*?}X|\\label{[^}]*}", "", bare).split("$")[::2])
    found += [f"{character!r} outside of mathematics" for character in "<>|^_" if character in outside]
    found += [rf"the command \{name}" for name in set(re.findall(r"\\([A-Za-z]+)", body)) - COMMANDS]
    found += [] if bare.count("$") % 2 == 0 else ["an odd number of $"]
    begun, ended = (sorted(re.findall(rf"\\{word}{{([\w*]+)}}", body)) for word in ("begin", "end"))
    found += [] if begun == ended and set(begun) <= ENVIRONMENTS else [f"environments {begun} and {ended}"]
    found += [f"braces of {line!r}" for line in lines if _depth(line) != 0]
    return found + [fault for part in re.split(r"(?=\\begin{tabular)", body)[1:] for fault in _faults_of_rows(part)]


def _faults_of_rows(part: str) -> list[str]:
    start, *lines = part.splitlines()
    columns = re.sub(r">{.*?arraybackslash}|@{}", "", start.rpartition("}{")[2] if "@" not in start else start)
    columns = re.sub(r"^.*?{(tabularx?)}({\\linewidth})?{", "", columns)[:-1]
    rows = [line for line in lines if line.endswith(r"\\")]
    found = [] if set(columns) <= set("lrX") else [f"columns {columns!r}"]
    found += [
        f"a row of other length: {row!r}" for row in rows if len(re.findall(r"(?<!\\)&", row)) != len(columns) - 1
    ]
    return found + [f"a row that begins with an argument: {row!r}" for row in rows if row[0] in "[*"]


def _depth(line: str) -> int:
    bare = re.sub(r"\\[{}]", "", line.replace(r"\\", ""))
    return bare.count("{") - bare.count("}")


def compile_latex(text: str, folder: Path, preamble: str = article.PREAMBLE) -> tuple[int, str]:
    """Status and log of one run of the compiler, in a folder of its own."""
    assert COMPILER is not None
    (folder / "page.tex").write_text(DOCUMENT % (preamble, text), encoding="utf-8")
    options = ["-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    status = subprocess.run([COMPILER, *options], cwd=folder, capture_output=True, check=False).returncode
    return status, (folder / "page.log").read_text(errors="replace")


def hard_table() -> Table:
    lines = [[Cell(text), Cell(text, bold=True), Cell(text, underlined=True)] for text in HARD]
    return render(["[Name]", "100 %", "A & B"], lines, pd.DataFrame(), "50 % of \\it {", text_columns=2, rules=[1])


def test_whatever_is_in_a_cell_the_structure_holds() -> None:
    assert faults(hard_table().latex.source("T")) == []


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
    sound = "\\begin{tabular}{@{}lr@{}}\na & b \\\\\n\\textbf{b} & 1.5 \\\\\n5 \\% & $\\tau$ \\\\\n\\end{tabular}"
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
    assert faults(table.latex.source(item.id)) == []
    assert "\n" not in table.caption  # a comment in LaTeX, one line everywhere


def grid(columns: int, rows: int = 4, cell: str = "1234.5", text: str = "KungFuMaster") -> latex.Grid:
    lines = [[Cell(text), *(Cell(cell) for _ in range(columns))] for _ in range(rows)]
    return latex.Grid(["Game", *(f"M{number}" for number in range(columns))], lines, 1, (), "A caption.")


@pytest.mark.parametrize(
    ("table", "kind", "size", "parts"),
    [
        (grid(3), "table", 9, 1),
        (grid(7), "table*", 9, 1),
        (grid(9), "table*", 8, 1),
        (grid(16), "table*", 9, 2),
        (grid(2, text="words of a sentence that is " * 6), "table*", 8, 1),
    ],
)
def test_the_rule_of_sizes(table: latex.Grid, kind: str, size: int, parts: int) -> None:
    source = table.source("T")
    assert re.findall(r"begin{(table\*?)}", source)[0] == kind and source.count(r"\begin{tabular") == parts
    assert set(re.findall(r"\\fontsize{(\d+)}", source)) == {str(size)}
    assert source.count(r"\label{tab:T}") == 1 and r"\caption{A caption.}" in source


def test_a_table_higher_than_a_page_goes_on_with_its_header_and_loses_no_row() -> None:
    source = grid(3, rows=150).source("T")
    assert (
        source.count(r"\ContinuedFloat") == source.count(r"\begin{table}") - 1 > 1
        and "caption" in source.split("\n")[0]
    )
    assert source.count("KungFuMaster") == 150 and source.count("Game & M0") == source.count(r"\toprule")


@needs_latex
@pytest.mark.parametrize("columns", ["", "[twocolumn]"])
def test_latex_accepts_every_table_and_none_sticks_out(tmp_path: Path, columns: str) -> None:
    made = [hard_table().latex.source("hard"), *(table_of(item).latex.source(item.id) for item in TABLES)]
    preamble = article.PREAMBLE.replace(r"\documentclass", rf"\documentclass{columns}")
    status, log = compile_latex("\n\\clearpage\n".join(made), tmp_path, preamble)
    assert status == 0 and TOO_LARGE.findall(log) == []


@needs_latex
def test_the_check_sees_what_sticks_out_and_what_is_wrong(tmp_path: Path) -> None:
    source = grid(9).source("T")
    wide = source.replace(r"\fontsize{8}", r"\fontsize{14}")
    assert TOO_LARGE.findall(compile_latex(wide, tmp_path)[1])
    assert compile_latex(source.replace(r"\bottomrule", r"\bottomrle"), tmp_path)[0] != 0


MINE = "method,task,seed,score,source\nMy_Agent,Pong,0,1,ours & theirs\nBare,Pong,0,2,\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a call makes of a table and a figure, with two methods of other people."""
    (tmp_path / "mine.csv").write_text(MINE)
    only = ["--only", "IRIS-T1", "IRIS-F-agg", "--repetitions", "60", "--format", "pdf"]
    assert main([*only, "--scores", str(tmp_path / "mine.csv"), "--out", str(tmp_path / "made")]) == 0
    return tmp_path / "made"


def test_the_article_its_references_and_methods_are_of_what_was_made(folder: Path) -> None:
    document, references, methods, markdown = ((folder / name).read_text() for name in article.FILES)
    assert [r"\input{IRIS-T1}" in document, r"\input{IRIS-F-agg}" in document, "REM" in document] == [True, True, False]
    keys = set(re.findall(r"^@\w+{(.*),$", references, re.MULTILINE))
    assert {"IRIS", "SPR", "CURL", "DrQ-eps", "SimPLe", "MuZero", "EfficientZero", "rliable", "My-Agent"} == keys
    assert r"ours \& theirs" in references and "Bare: mine.csv states no source" in references
    assert {key for found in re.findall(r"\\cite{(.*?)}", methods) for key in found.split(",")} == keys
    for fact in ("100 runs of each of 26 tasks for CURL, DrQ(ε) and SPR", "with 60 repetitions", "seed 0"):
        assert fact in markdown.replace("DrQ(ε), SPR and CURL", "CURL, DrQ(ε) and SPR"), fact
    assert "dmc" not in markdown and "1 run of each of 1 task for My_Agent and Bare" in markdown
    assert r"\includegraphics" in (folder / "IRIS-F-agg.tex").read_text()


@needs_latex
def test_the_article_compiles(folder: Path) -> None:
    commands = [["pdflatex", "-halt-on-error", "article"], ["bibtex", "article"], *[["pdflatex", "article"]] * 2]
    for command in commands:
        subprocess.run(command, cwd=folder, capture_output=True, check=True)
    log = (folder / "article.log").read_text(errors="replace")
    assert TOO_LARGE.findall(log) == [] and "undefined" not in log


def test_a_file_of_an_author_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "references.bib"
    mine.write_text("@misc{mine}")
    assert main(["--only", "DIRIS-T-tok", "--out", str(tmp_path)]) == 2
    assert "references.bib exists and is not of this command" in capsys.readouterr().err
    assert mine.read_text() == "@misc{mine}" and [path.name for path in tmp_path.iterdir()] == ["references.bib"]


def test_every_method_with_a_colour_has_a_reference() -> None:
    names = {name for entry in article.read_entries().values() for name in article.names_of(entry)}
    published = {method for suite in CONTEXT.suites.values() for method in suite.scores if method[0].isupper()}
    assert {name for name in published if not name.startswith("DreamerV3 (")} <= names


def test_the_article_takes_no_figure_of_an_earlier_call(tmp_path: Path) -> None:
    for formats, is_taken in (("pdf", True), ("svg", False)):
        assert main(["--only", "REM-F-intro", "--repetitions", "20", "--format", formats, "--out", str(tmp_path)]) == 0
        assert (r"\input{REM-F-intro}" in (tmp_path / "article.tex").read_text()) == is_taken
