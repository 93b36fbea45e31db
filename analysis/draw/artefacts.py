"""What an item becomes on disk: files named by its id, with the plotted numbers and a caption beside them.

The caption is the first line of the text file; known defects of the scores shown follow, a line each.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis.data.defects import Defect
from analysis.draw import latex, style
from tokenworlds.errors import UserError
from tokenworlds.files import require_file, require_room, shortened

MISSING = ".missing.txt"  # of an item without data: why, in the place of its files
REMEDY = "give another folder with --out"
FAILED = ".failed.txt"  # of an item that could not be made: the error in one line, then where it came from


@dataclass(frozen=True)
class Drawing:
    """A figure, the numbers in it, and one line that says what it shows."""

    figure: Figure
    numbers: pd.DataFrame
    caption: str
    defects: tuple[Defect, ...] = ()

    def check(self, stem: Path, formats: Collection[str]) -> None:
        """Refuse a place that somebody has chosen where files of something else are: those of an earlier figure have
        numbers beside them with the same names of columns.

        Raises:
            UserError: a file would be replaced.
        """
        numbers = stem.with_name(f"{stem.name}.csv")
        names = _csv(self.numbers).partition("\n")[0]
        is_own = numbers.is_file() and numbers.read_text(errors="replace").partition("\n")[0] == names
        for suffix in (*(f".{name}" for name in formats), ".csv", ".txt", *((".tex",) if "pdf" in formats else ())):
            require_file(stem.with_name(stem.name + suffix), lambda _: is_own, "name other files with --out")

    def write(self, stem: Path, formats: Collection[str] = style.DEFAULT_FORMATS) -> list[Path]:
        """The picture in these formats, with PDF also its float for LaTeX, CSV and caption."""
        texts = {".csv": _csv(self.numbers), ".txt": _lines(self.caption, self.defects)}
        pictures = style.save(self.figure, stem, formats)
        if "pdf" in formats:
            points = style.pdf_width(stem.with_name(f"{stem.name}.pdf"))
            texts[".tex"] = latex.figure(stem.name, points, texts[".txt"].replace("\n", " "))
        return [*pictures, *_write_texts(stem, texts)]


@dataclass(frozen=True)
class Table:
    """A table in three languages, its numbers and its caption."""

    markdown: str
    latex: latex.Grid
    html: str
    numbers: pd.DataFrame
    caption: str
    defects: tuple[Defect, ...] = ()

    def write(self, stem: Path, formats: Collection[str] = ()) -> list[Path]:
        """Markdown, LaTeX, HTML, CSV and caption; ``formats`` are those of pictures."""
        texts = {".md": self.markdown, ".tex": self.latex.source(stem.name), ".html": self.html}
        return _write_texts(stem, {**texts, ".csv": _csv(self.numbers), ".txt": _lines(self.caption, self.defects)})


Artefact = Drawing | Table


def with_remark(artefact: Artefact, remark: str) -> Artefact:
    """The artefact with a further sentence in its caption, and below the table in Markdown; ``remark`` may be empty."""
    if not remark:
        return artefact
    caption = f"{artefact.caption} {remark}"
    if isinstance(artefact, Drawing):
        return replace(artefact, caption=caption)
    return replace(artefact, caption=caption, markdown=f"{artefact.markdown}\n\n{remark}")


SUFFIXES = (*(f".{name}" for name in style.FORMATS), ".md", ".tex", ".html", ".csv", ".txt", MISSING, FAILED)
"""Suffixes of all files that an item can leave."""


def _lines(caption: str, defects: tuple[Defect, ...]) -> str:
    return "\n".join([caption, *(f"{defect.mark} {defect}" for defect in defects)])


def _csv(frame: pd.DataFrame) -> str:
    return str(frame.to_csv(index=False, lineterminator="\n"))


def _write_texts(stem: Path, texts: dict[str, str]) -> list[Path]:
    paths = []
    for suffix, text in texts.items():
        path = stem.with_name(stem.name + suffix)
        path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
        paths.append(path)
    return paths


def remove(stem: Path) -> None:
    """Remove what ``write`` and earlier failures left of one item."""
    for suffix in SUFFIXES:
        stem.with_name(stem.name + suffix).unlink(missing_ok=True)


def check_folder(folder: Path) -> None:
    """Refuse an output folder that cannot be one, before anything is computed or made."""
    require_room(folder, REMEDY)


def check_items(folder: Path, ids: Iterable[str]) -> None:
    """Refuse to replace files with an item's name that are not of it: beside its own are its numbers and its caption.

    Raises:
        UserError: there is one.
    """
    for id in ids:
        is_own = all((folder / f"{id}{suffix}").is_file() for suffix in (".csv", ".txt"))
        for path in (folder / f"{id}{suffix}" for suffix in SUFFIXES if suffix not in (MISSING, FAILED)):
            if path.exists() and not is_own:
                raise UserError(f"{shortened(path)} exists and is not of this command; {REMEDY}.")


def prepare_folder(folder: Path) -> None:
    """Make the output folder, or say why not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {shortened(folder)} ({error.strerror}); {REMEDY}.") from error
    require_room(folder, REMEDY)
