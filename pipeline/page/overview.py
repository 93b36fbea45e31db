"""Overview at the top of the page: what was run, and our aggregates beside published ones, labelled by scale."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.data import naming
from analysis.data.identity import RunGroupId
from analysis.data.published import ATARI
from analysis.data.runs import ATARI_FAMILY
from analysis.data.scores import References
from pipeline.page.embedding import data_uri
from tokenworlds.errors import UserError

AGENTS = ("IRIS", "REM", "Delta-IRIS", "M3")  # of the papers; their items show the methods that they compare with
PUBLISHED = "published"
NUMBERS = ("mean", "median", "optimality_gap")

Row = Mapping[str, str]


@dataclass(frozen=True)
class Batch:
    """The runs of one method at one scale."""

    method: str
    scale: str
    rows: tuple[Row, ...]

    @property
    def tasks(self) -> list[str]:
        """Tasks of these runs."""
        return distinct(self.rows, "task")

    @property
    def hours(self) -> float | None:
        """Hours of all runs together; None unless all of them are known."""
        hours = [row["hours"] for row in self.rows]
        return sum(map(float, hours)) if all(hours) else None

    @property
    def steps(self) -> list[int]:
        """Environment steps of a run, different numbers only."""
        return sorted({round(float(row["env_steps"])) for row in self.rows if row["env_steps"]})

    @property
    def hardware(self) -> list[str]:
        """Devices of these runs."""
        return distinct(self.rows, "hardware")

    @property
    def revisions(self) -> list[str]:
        """Revisions of the code."""
        return [revision[:12] for revision in distinct(self.rows, "git_revision")]


@dataclass(frozen=True)
class Line:
    """One method's aggregates of human-normalised scores."""

    method: str
    scale: str
    ours: bool
    runs: str
    superhuman: int
    iqm: float
    low: float | None  # bounds of the IQM's interval; none with a single run
    high: float | None
    mean: float
    median: float
    optimality_gap: float


@dataclass(frozen=True)
class Headline:
    """Methods compared on the same games."""

    title: str
    lines: tuple[Line, ...]

    @property
    def ours(self) -> bool:
        """Whether a run of ours is among them."""
        return any(line.ours for line in self.lines)

    @property
    def span(self) -> tuple[float, float]:
        """Common axis of the drawn intervals: from the random policy to the human, or to the outermost bound."""
        bounds = [value for line in self.lines for value in (line.iqm, line.low, line.high) if value is not None]
        return min([0.0, *bounds]), max([1.0, *bounds])


def distinct(rows: Iterable[Row], column: str) -> list[str]:
    """Values of a column, sorted and without repetition."""
    return sorted({row[column] for row in rows} - {""})


def without_human(rows: Iterable[Row], references: References) -> list[str]:
    """Atari games among the tasks that have no human score."""
    tasks = [task for task in distinct(rows, "task") if task.startswith(ATARI_FAMILY)]
    return [task.removeprefix(ATARI_FAMILY) for task in tasks if references.position(task) is None]


def batches(rows: Sequence[Row]) -> list[Batch]:
    """Our runs by method and scale."""
    grouped: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        grouped[RunGroupId(row["method"], row["variant"]).name, row["scale"]].append(row)
    return [Batch(method, scale, tuple(group)) for (method, scale), group in sorted(grouped.items())]


def read_headlines(path: Path, ours: Mapping[str, RunGroupId]) -> list[Headline]:
    """All 26 games, then every set of games that we ran; nothing where nothing was aggregated yet.

    Args:
        ours: groups of our runs by the label that they have among the aggregates.
    """
    if not path.is_file():
        return []
    try:
        suites = json.loads(path.read_text(encoding="utf-8"))
        names = [ATARI, *(name for name in suites if name.startswith(f"{ATARI}_") and "_games_" in name)]
        return [Headline(suite_title(name), _lines(suites[name], ours)) for name in names]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is not what `python -m pipeline.aggregate` writes: run it again.") from error


def suite_title(name: str) -> str:
    """``atari100k_2_games_Breakout_Pong`` -> ``2 games: Breakout, Pong``."""
    if name == ATARI:
        return "Atari 100k, all 26 games"
    count, games = name.removeprefix(f"{ATARI}_").split("_games_")
    first, _, last = games.partition("_to_")
    listed = first.replace("_", ", ") + (f" to {last.partition('_')[0]}" if last else "")
    return f"Atari 100k, {count} game{'' if count == '1' else 's'}: {listed}"


def _lines(suite: Mapping[str, Any], ours: Mapping[str, RunGroupId]) -> tuple[Line, ...]:
    shown = [*(name for name in suite if name in ours), *(name for name in AGENTS if name in suite)]
    return tuple(_line(name, suite[name], ours.get(name)) for name in shown)


def _line(label: str, entry: Mapping[str, Mapping[str, Any]], group: RunGroupId | None) -> Line:
    name, scale = (group.name, group.scale) if group else (label, PUBLISHED)
    iqm = entry["iqm"]
    runs = f"{iqm['fewest_runs']} to {iqm['runs']}" if "fewest_runs" in iqm else str(iqm["runs"])
    numbers = {metric: float(entry[metric]["point"]) for metric in NUMBERS}
    superhuman = round(entry["superhuman"]["point"])
    return Line(
        naming.shown(name), scale, group is not None, runs, superhuman, iqm["point"], iqm["low"], iqm["high"], **numbers
    )


def as_csv(headlines: Sequence[Headline]) -> str:
    """The numbers of the overview as a URI."""
    fields = list(Line.__dataclass_fields__)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["games", *fields])
    for headline in headlines:
        writer.writerows([headline.title, *(getattr(line, name) for name in fields)] for line in headline.lines)
    return data_uri(text.getvalue().encode(), ".csv")
