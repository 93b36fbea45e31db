"""What a paper needs beside its tables and figures: a document that inputs them, references, and how they were made.

Everything is about the items made by one call: the methods that these show, the suites that they read.
"""

import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from analysis.context import Context
from analysis.data import naming
from analysis.data.contributed import Contribution
from analysis.data.defects import Defect
from analysis.data.published import DMC
from analysis.data.scores import DATA, Suite
from analysis.draw.artefacts import REMEDY, Artefact, Table
from analysis.draw.latex import broken, escaped
from analysis.stats.rliable_engine import RliableEngine
from tokenworlds import __version__
from tokenworlds.files import require_file

MADE = "Made by analysis/make_figures.py"
ARTICLE, REFERENCES, METHODS, METHODS_MARKDOWN = "article.tex", "references.bib", "methods.tex", "methods.md"
FILES = (ARTICLE, REFERENCES, METHODS, METHODS_MARKDOWN)
STATISTICS = "rliable"  # key of the reference for the aggregates and their intervals
CITATION = re.compile("⟦(.*?)⟧")
REPETITIONS = re.compile(r"(\d+) repetitions|(\d+) and \d+ repetitions")
ENTRY = re.compile(r"^@\w+\{([^,]+),\n.*?^\}\n", re.DOTALL | re.MULTILINE)
PREAMBLE = r"""\documentclass{article}
\usepackage{booktabs}
\usepackage{tabularx}
\usepackage[tableposition=top]{caption}
\usepackage{graphicx}"""


class Watched(dict[str, Suite]):
    """Suites that remember which of them were asked for by name."""

    def __init__(self, suites: Mapping[str, Suite]) -> None:
        super().__init__(suites)
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> Suite:
        self.used.add(name)
        return super().__getitem__(name)


def watched(context: Context) -> Context:
    """The context with suites that remember their use."""
    return replace(context, suites=Watched(context.suites))


@dataclass(frozen=True)
class Made:
    """An item that was made: what is left of it when its picture is closed."""

    name: str
    is_table: bool
    has_latex: bool
    caption: str
    words: str
    defects: tuple[Defect, ...]

    @classmethod
    def of(cls, name: str, artefact: Artefact, title: str, paths: Sequence[Path]) -> "Made":
        """``title`` of the item says whose table it is where its cells do not."""
        words = " ".join([title, artefact.caption, artefact.numbers.to_csv(index=False)])
        has_latex = any(path.suffix == ".tex" for path in paths)
        return cls(name, isinstance(artefact, Table), has_latex, artefact.caption, words, artefact.defects)


def check_files(folder: Path) -> None:
    """Refuse to replace files of these names that something else made.

    Raises:
        UserError: there is one.
    """
    for name in FILES:
        require_file(folder / name, lambda path: MADE in path.read_text(errors="replace")[:100], REMEDY)


def write(folder: Path, made: Sequence[Made], context: Context) -> list[Path]:
    """The four files ``FILES`` about these items."""
    entries = read_entries()
    shown = {key: entry for key, entry in entries.items() if any(_names(names_of(entry), item.words) for item in made)}
    added = {name: each for name, each in context.contributed.items() if any(_names([name], m.words) for m in made)}
    sentences = list(
        _sentences(made, context, [*shown, *(key_of(name) for name, each in added.items() if _source(each))])
    )
    if any(STATISTICS in text for text in sentences):
        shown[STATISTICS] = entries[STATISTICS]
    references = [f"{MADE}: the methods of {naming.counted(len(made), 'item')}.\n", *shown.values()]
    references += [_contributed_entry(name, each) for name, each in added.items()]
    tex = CITATION.sub(lambda found: rf"\cite{{{found[1]}}}", "\n".join(map(_latex, sentences)))
    markdown = CITATION.sub(lambda found: f"[@{found[1].replace(',', '; @')}]", "\n".join(sentences))
    texts = {
        ARTICLE: _article(made),
        REFERENCES: "\n".join(references),
        METHODS: f"% {MADE}: how these items were computed; \\input it\n{tex}\n",
        METHODS_MARKDOWN: f"<!-- {MADE}: how these items were computed -->\n{markdown}\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def read_entries(path: Path = DATA / REFERENCES) -> dict[str, str]:
    """BibTeX entries by key."""
    return {found[1]: found[0] for found in ENTRY.finditer(path.read_text(encoding="utf-8"))}


def names_of(entry: str) -> list[str]:
    """The names under which tables and figures show the method of an entry."""
    found = re.search(r"^  method = \{(.*)\},$", entry, re.MULTILINE)
    return found[1].split("; ") if found else []


def key_of(label: str) -> str:
    """Key of a method's entry: its name in letters that BibTeX takes."""
    return re.sub(r"[^A-Za-z0-9+]+", "-", label).strip("-")


def _names(names: Iterable[str], words: str) -> bool:
    return any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", words) for name in names)


def _source(contribution: Contribution) -> str:
    """What the file says about the origin of its scores."""
    return contribution.origin.removeprefix(contribution.file).strip(" ()")


def _contributed_entry(label: str, contribution: Contribution) -> str:
    source = _source(contribution)
    if not source:
        return f"{label}: {contribution.file} states no source; write this entry by hand.\n".replace("@", "(at)")
    fields = {
        "title": f"{{{escaped(label)}}}",
        "howpublished": escaped(source),
        "note": "Scores: " + escaped(contribution.file),
    }
    return (
        f"@misc{{{key_of(label)},\n" + ",\n".join(f"  {name} = {{{text}}}" for name, text in fields.items()) + "\n}\n"
    )


def _article(made: Sequence[Made]) -> str:
    lines = [
        f"% {MADE}: every table and figure of one call; pdflatex article, bibtex article, pdflatex article twice",
        PREAMBLE,
        r"\begin{document}",
        r"\section*{How this was computed}",
        rf"\input{{{Path(METHODS).stem}}}",
        r"\clearpage",
    ]
    for item in made:
        if item.has_latex:
            lines += [rf"\input{{{item.name}}}", r"\clearpage"]
        else:
            lines.append(f"% {item.name}: a figure; add --format pdf")
    return "\n".join([*lines, r"\bibliographystyle{plain}", r"\bibliography{references}", r"\end{document}", ""])


def _latex(text: str) -> str:
    """A sentence with its special characters escaped, and its citations as they were."""
    parts = CITATION.split(text)
    return "".join(f"⟦{part}⟧" if number % 2 else broken(escaped(part)) for number, part in enumerate(parts))


def _sentences(made: Sequence[Made], context: Context, keys: Sequence[str]) -> Iterable[str]:
    """How these items were computed; keys of references stand in double brackets."""
    cited = f" ⟦{','.join(keys)}⟧" if keys else ""
    tables = sum(item.is_table for item in made)
    numbers = {"table": tables, "figure": len(made) - tables}
    counts = naming.listed([naming.counted(number, noun) for noun, number in numbers.items() if number])
    yield f"{counts} made with tokenworlds {__version__} from raw scores{cited}."
    used = context.suites.used if isinstance(context.suites, Watched) else set(context.suites)
    suites = [suite for name, suite in context.suites.items() if name in used]
    words = " ".join(item.words for item in made)
    for suite in suites:
        yield from _runs(suite, words)
    if any(set(suite.tasks) <= set(context.references.tasks) for suite in suites):
        yield (
            "The human-normalised score of a run is (score - random) / (human - random), with the random and human "
            f"scores of {len(context.references.tasks)} games in results/data/reference_scores.csv."
        )
    if any(suite.name == DMC for suite in suites):
        yield "Returns of DeepMind Control are divided by their maximum of 1000."
    yield from _intervals(made, context)
    for defect in dict.fromkeys(defect for item in made for defect in item.defects):
        yield ("Known defect: " if defect.kind == "defect" else "Note: ") + str(defect)
    packages = [
        "numpy",
        "pandas",
        "matplotlib",
        *(["rliable", "arch"] if isinstance(context.engine, RliableEngine) else []),
    ]
    yield (
        "Software: " + ", ".join([f"Python {platform.python_version()}", *filter(None, map(_version, packages))]) + "."
    )


def _runs(suite: Suite, words: str) -> Iterable[str]:
    """Which of the methods shown have how many runs of a suite's tasks."""
    groups: dict[str, list[str]] = {}
    for method in (*suite.scores, *suite.partial):
        counts = sorted(filter(None, suite.runs(method).values()))
        if counts and _names([method, naming.shown(method)], words):
            few = naming.counted(counts[0], "run") if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]} runs"
            groups.setdefault(f"{few} of each of {naming.counted(len(counts), 'task')}", []).append(
                naming.shown(method)
            )
    if groups:
        parts = [f"{runs} for {naming.listed(methods)}" for runs, methods in groups.items()]
        yield f"Scores of {suite.name}: {'; '.join(parts)}."


def _intervals(made: Sequence[Made], context: Context) -> Iterable[str]:
    numbers = {int(a or b) for item in made for a, b in REPETITIONS.findall(item.caption)}
    if not numbers:
        return
    few, many = min(numbers), max(numbers)
    count = f"{few:,}" if few == many else f"{few:,} to {many:,}"
    engine = (
        "rliable itself"
        if isinstance(context.engine, RliableEngine)
        else "a vectorised bootstrap of the same kind as rliable"
    )
    reused = f" Aggregates were taken from {context.cache.name}." if context.cache is not None else ""
    yield (
        f"Intervals are 95 % bootstrap intervals of runs drawn within each task ⟦{STATISTICS}⟧, with {count} "
        f"repetitions as the captions say, seed {context.options.seed}, computed by {engine}; "
        f"captions name other kinds.{reused}"
    )


def _version(package: str) -> str | None:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return None
