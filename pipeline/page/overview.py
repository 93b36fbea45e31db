"""Overview at the top of the page: what was run, and our aggregates beside published ones, labelled by scale."""

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.data import naming
from analysis.data.identity import RunGroupId
from analysis.data.published import ATARI
from analysis.data.runs import ATARI_FAMILY, PAPER_SCALE
from analysis.data.scores import References
from pipeline.page.embedding import data_uri
from tokenworlds.errors import UserError
from tokenworlds.runs.identity import RunId

AGENTS = ("IRIS", "REM", "Delta-IRIS", "M3")  # of the papers; their items show the methods that they compare with
PUBLISHED = "published"
SMOKE_SCALE = "smoke"
SCALES = (PAPER_SCALE, "small", SMOKE_SCALE)  # from the largest
BENCHMARKS = {"dmc": "DeepMind Control", "minigrid": "MiniGrid", "minigrid_mixed": "MiniGrid, all modalities"}
MOST_TASKS = 4  # of a benchmark by name
MOST_METHODS = 6  # with their variants, that are named in a sentence
PLAIN = "They show that the pipeline works, and nothing about learning."
SMALLER = "Their sizes and budgets are smaller than the papers', so their scores do not compare."
NUMBERS = ("mean", "median", "optimality_gap")

Row = Mapping[str, str]


@dataclass(frozen=True)
class Batch:
    """The runs of one method at one scale."""

    method: str
    scale: str
    rows: tuple[Row, ...]
    unfinished: tuple[str, ...] = ()  # runs that the active suite asks for and that have no scores

    @property
    def benchmarks(self) -> str:
        """``Atari: Breakout, Pong; Crafter: Reward``, of many tasks the first ones and how many more."""
        tasks: dict[str, list[str]] = defaultdict(list)
        for task in self.tasks:
            benchmark, _, name = task.partition("/")
            tasks[BENCHMARKS.get(benchmark, benchmark.capitalize())].append(name)
        return "; ".join(f"{benchmark}: {_first(names)}" for benchmark, names in tasks.items())

    @property
    def seeds(self) -> str:
        """Number of seeds of a task, ``1 to 5`` where tasks differ."""
        counts = sorted({*Counter(row["task"] for row in self.rows).values()}) or [0]
        return " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))

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
    def hardware(self) -> list[str]:
        """Devices of these runs."""
        return distinct(self.rows, "hardware")


@dataclass(frozen=True)
class Unfinished:
    """The runs of the active suite that have no scores."""

    planned: int
    failed: Mapping[str, str]  # name -> what ended the run
    missing: tuple[str, ...]  # the others: not trained yet, or interrupted

    @property
    def count(self) -> int:
        """How many have none."""
        return len(self.failed) + len(self.missing)

    @property
    def missing_text(self) -> str:
        """The first names, and how many more."""
        return _first(self.missing)


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

    @property
    def iqm_text(self) -> str:
        """``0.50 [0.44, 0.57]``, the interquartile mean and its interval."""
        bounds = "" if self.low is None or self.high is None else f" [{self.low:.2f}, {self.high:.2f}]"
        return f"{self.iqm:.2f}{bounds}"


@dataclass(frozen=True)
class Headline:
    """Methods compared on the same games."""

    title: str
    lines: tuple[Line, ...]

    @property
    def ours(self) -> bool:
        """Whether a run of ours is among them."""
        return any(line.ours for line in self.lines)

    def compared(self, scale: str) -> list[str]:
        """``IRIS 0.49 [0.43, 0.55] against 0.50 [0.44, 0.57] published, ...`` for each of our lines of a scale."""
        published = {line.method: line.iqm_text for line in self.lines if not line.ours}
        ours = [line for line in self.lines if line.ours and line.scale == scale]
        return [
            f"{line.method} {line.iqm_text}"
            + (f" against {published[line.method]} published" if line.method in published else "")
            + f" (IQM; {self.title})"
            for line in ours
        ]

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


def method_of(row: Row) -> str:
    """Method and variant of a run as printed: ``Delta-IRIS, 1 token``."""
    return naming.method_name(RunGroupId(row["method"], row["variant"]).name)


def batches(rows: Sequence[Row], planned: Sequence[RunId] = ()) -> list[Batch]:
    """Our runs by method and scale, with those that were ``planned`` and have no scores."""
    grouped: dict[tuple[str, str], list[Row]] = defaultdict(list)
    unfinished: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        grouped[method_of(row), row["scale"]].append(row)
    finished = {RunId.of_record(row) for row in rows}
    for run in planned:
        if run not in finished:
            key = naming.method_name(RunGroupId(run.method, run.variant).name), run.scale
            unfinished[key].append(run.name)
    keys = sorted({*grouped, *unfinished})
    return [Batch(*key, tuple(grouped[key]), tuple(unfinished[key])) for key in keys]


def unfinished(rows: Sequence[Row], planned: Sequence[RunId], reasons: Mapping[str, str]) -> Unfinished:
    """Those of the ``planned`` runs that have no scores, and the ``reasons`` of those that failed."""
    finished = {RunId.of_record(row) for row in rows}
    names = [run.name for run in planned if run not in finished]
    failed = {name: reasons[name] for name in names if name in reasons}
    return Unfinished(len(planned), failed, tuple(name for name in names if name not in failed))


def _first(names: Sequence[str]) -> str:
    more = len(names) - MOST_TASKS
    return ", ".join(names[:MOST_TASKS]) + (f" and {more} more" if more > 0 else "")


def result(headlines: Sequence[Headline]) -> str:
    """The published result in a sentence, best method first; empty where nothing was aggregated."""
    published = [line for headline in headlines[:1] for line in headline.lines if not line.ours]
    if not published:
        return ""
    lines = sorted(published, key=lambda line: -line.iqm)
    runs = naming.listed(sorted({line.runs for line in lines}))
    return (
        "Over the 26 games of Atari 100k, the interquartile mean of human-normalised score is "
        f"{naming.listed([f'{line.iqm_text} for {line.method}' for line in lines])} "
        f"(published scores, {runs} runs of each game, 95 % intervals; the human has 1)."
    )


def of_ours(rows: Sequence[Row], headlines: Sequence[Headline]) -> list[str]:
    """What was trained here, a text for each scale, and how it compares where it can."""
    scales = sorted({row["scale"] for row in rows}, key=size_rank)
    return [_of_scale(scale, rows, headlines) for scale in scales] or ["Nothing has been trained here yet."]


def size_rank(scale: str) -> int:
    """Place of a scale from the largest on; of others, the last one."""
    return SCALES.index(scale) if scale in SCALES else len(SCALES)


def _of_scale(scale: str, rows: Sequence[Row], headlines: Sequence[Headline]) -> str:
    trained = [row for row in rows if row["scale"] == scale]
    tasks = naming.counted(len(distinct(trained, "task")), "task")
    runs, methods = naming.counted(len(trained), "run"), _methods(trained)
    start = f"Trained here at {scale or 'unstated'} scale: {runs} of {methods} on {tasks}"
    if scale != PAPER_SCALE:
        return f"{start}. {PLAIN if scale == SMOKE_SCALE else SMALLER}"
    return "; ".join([start, *(text for headline in headlines for text in headline.compared(scale))]) + "."


def _methods(rows: Sequence[Row]) -> str:
    """All by name, or where they are many the methods by name and the number of their variants."""
    names = sorted({method_of(row) for row in rows})
    if len(names) <= MOST_METHODS:
        return naming.listed(names)
    variants = {(row["method"], row["variant"]) for row in rows if row["variant"]}
    return f"{naming.listed(sorted({method_of({**row, 'variant': ''}) for row in rows}))} with {len(variants)} variants"


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
        naming.method_name(name), scale, group is not None, runs, superhuman, iqm["point"], iqm["low"], iqm["high"],
        **numbers,
    )  # fmt: skip


def as_csv(headlines: Sequence[Headline]) -> str:
    """The numbers of the overview as a URI."""
    fields = list(Line.__dataclass_fields__)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["games", *fields])
    for headline in headlines:
        writer.writerows([headline.title, *(getattr(line, name) for name in fields)] for line in headline.lines)
    return data_uri(text.getvalue().encode(), ".csv")
