"""Film strips and episodes of our runs, as many as fit into the page; first of every run a real episode beside an
imagined one."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from pipeline.page.embedding import Budget, picture_size
from pipeline.page.overview import method_of, size_rank
from tokenworlds.episodes import Episode, list_episodes, load
from tokenworlds.errors import UserError
from tokenworlds.runs.identity import RunId
from tokenworlds.runs.layout import EPISODES, IMAGINED, TEST
from tokenworlds.runs.manifest import is_result, verify

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


@dataclass(frozen=True)
class Clip:
    """The film of a kept episode, or only its file's name where it does not fit."""

    title: str
    caption: str
    name: str
    uri: str | None


@dataclass
class RunMedia:
    """Pictures and episodes that one run recorded. ``beside`` holds the film of a real episode and of the imagined one
    that begins with the same frames."""

    row: Row
    folder: Path = Path()
    beside: list[Clip] = field(default_factory=list)
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
        """``IRIS on atari/Pong, seed 0``."""
        return f"{method_of(self.row)} on {self.row['task']}, seed {self.row['seed']}"


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
    media = [RunMedia(row, places[RunId.of_record(row)]) for row in recorded[:RUNS]]
    for read in (read_beside, read_run):  # what all runs have comes first
        for run in media:
            read(run, budget)
    return media, [RunId.of_record(row).name for row in recorded[RUNS:]]


def choose_film(media: Sequence[RunMedia]) -> tuple[RunMedia, Medium] | None:
    """An episode of a run of the largest scale."""
    filmed = [run for run in media if run.episodes]
    chosen = min(filmed, key=lambda run: size_rank(run.row["scale"]), default=None)
    return (chosen, chosen.episodes[0]) if chosen else None


def media_files(run: Path) -> list[Path]:
    """Episodes and pictures of a run, by name."""
    found = (path for path in (run / "media").glob("*") if path.suffix in (PICTURE, EPISODE))
    return sorted(found, key=lambda path: (path.suffix != EPISODE, path.name))


def read_beside(media: RunMedia, budget: Budget) -> None:
    """The kept test episode with the highest return, and what was imagined from its first frames."""
    try:
        played = {path: load(path) for path in list_episodes(media.folder / EPISODES / TEST)}
        if not played:
            return
        best = max(played, key=lambda path: (played[path].facts["return"], path.name))
        media.beside.append(_clip(best, f"Real, {_outcome(played[best])}", budget))
        dreamt = media.folder / EPISODES / IMAGINED / best.name
        if dreamt.is_file():
            media.beside.append(_clip(dreamt, _imagined(load(dreamt)), budget))
    except (UserError, OSError, KeyError) as error:
        media.failures.append(f"episodes of {media.name} cannot be read ({str(error).rstrip('.')})")


def _clip(episode: Path, caption: str, budget: Budget) -> Clip:
    film = episode.with_suffix(EPISODE)
    name = film.relative_to(episode.parents[2]).as_posix()
    return Clip(caption.partition(",")[0], caption, name, budget.embed(film))


def _imagined(episode: Episode) -> str:
    end = ", then the world model ended it" if episode.terminations[-1:].any() else ""
    frames = episode.facts["real_frames"]
    first = "frame" if frames == 1 else f"{frames} frames"
    return f"Imagined from its first {first}, {_outcome(episode)}{end}"


def _outcome(episode: Episode) -> str:
    """``return 12.00 in 318 steps``."""
    steps = episode.facts["length"]
    total = round(float(episode.facts["return"]), 2) + 0.0  # no negative zero
    return f"return {total:.2f} in {steps} {'step' if steps == 1 else 'steps'}"


def read_run(media: RunMedia, budget: Budget) -> None:
    """Film strips and films of one run; those that do not fit and those that cannot be read are named."""
    try:
        verify(media.folder, is_needed=lambda name: is_result(name) or (media.folder / name).exists())
    except UserError as error:
        media.failures.append(str(error).rstrip("."))
    for path in media_files(media.folder):
        try:
            if uri := budget.embed(path):
                found = media.pictures if path.suffix == PICTURE else media.episodes
                found.append(Medium(path.stem, uri, picture_size(path)))
            else:
                media.left_out.append(path.name)
        except OSError as error:
            media.failures.append(f"{path.name} of {media.name} cannot be read ({error.strerror or error})")
