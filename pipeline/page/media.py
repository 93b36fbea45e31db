"""Film strips and episodes of our runs, as many as fit into the page."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from pipeline.page.embedding import Budget, picture_size
from tokenworlds.config import identity_of
from tokenworlds.errors import UserError
from tokenworlds.runs.identity import RunId
from tokenworlds.runs.manifest import verify

PICTURE, EPISODE = ".png", ".mp4"
RUNS = 12  # whose media are embedded; the rest is named and one folder away

Row = Mapping[str, str]


@dataclass(frozen=True)
class Medium:
    """One film strip or video."""

    name: str
    uri: str
    size: tuple[int, int] | None = None

    @property
    def title(self) -> str:
        """``imagination_1`` -> ``Imagination 1``."""
        return self.name.replace("_", " ").capitalize()


@dataclass
class RunMedia:
    """Pictures and episodes that one run recorded."""

    row: Row
    pictures: list[Medium] = field(default_factory=list)
    episodes: list[Medium] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its folder below ``results/runs``."""
        return RunId.of_record(self.row).name

    @property
    def title(self) -> str:
        """The same with a label where its settings deviate."""
        return identity_of(*(self.row[name] for name in ("method", "variant", "task", "seed")))


def first_seeds(rows: Sequence[Row]) -> list[Row]:
    """The first seed of each method and task, methods taking turns so that a limit leaves none of them out."""
    first: dict[tuple[str, str], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        first[row["method"], row["variant"]].setdefault(row["task"], row)
    return [row for turn in zip_longest(*(found.values() for found in first.values())) for row in turn if row]


def read_media(rows: Sequence[Row], folders: Sequence[Path | None], budget: Budget) -> tuple[list[RunMedia], list[str]]:
    """Media of the first runs that recorded any, and the names of the other such runs; ``folders`` holds None where a
    run's folder is not here."""
    places = {RunId.of_record(row): folder for row, folder in zip(rows, folders) if folder and media_files(folder)}
    recorded = first_seeds([row for row in rows if RunId.of_record(row) in places])
    media = [read_run(row, places[RunId.of_record(row)], budget) for row in recorded[:RUNS]]
    return media, [RunId.of_record(row).name for row in recorded[RUNS:]]


def media_files(run: Path) -> list[Path]:
    """Pictures and episodes of a run, by name."""
    return sorted(path for path in (run / "media").glob("*") if path.suffix in (PICTURE, EPISODE))


def read_run(row: Row, folder: Path, budget: Budget) -> RunMedia:
    """Media of one run; those that do not fit and those that cannot be read are named."""
    media = RunMedia(row)
    try:
        verify(folder)
    except UserError as error:
        media.failures.append(str(error).rstrip("."))
    for path in media_files(folder):
        try:
            if uri := budget.embed(path):
                found = media.pictures if path.suffix == PICTURE else media.episodes
                found.append(Medium(path.stem, uri, picture_size(path)))
            else:
                media.left_out.append(path.name)
        except OSError as error:
            media.failures.append(f"{path.name} of {media.name} cannot be read ({error.strerror or error})")
    return media
