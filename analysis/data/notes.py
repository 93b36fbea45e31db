"""Notes on the runs of a method, printed wherever it is shown: fewer runs on some tasks, none on others, contributed.

Like defects, they are printed below tables and figures and in the text file beside them.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from analysis.data import naming
from analysis.data.defects import Defect
from analysis.data.identity import group_of
from analysis.data.runs import RunGroup
from analysis.data.scores import Suite
from analysis.stats.bootstrap import TRUSTED_RUNS

MARK = "‡"
MAX_NAMED = 6  # tasks a note names one by one
WEIGHTS = "IQM and profiles weigh a task by its runs"
SINGLE_RUNS = "tasks of one run add no spread, so intervals are too narrow"
TWO_RUNS = "two runs a task: intervals, far too narrow to be trusted, are drawn thin or hollow"
ONE_RUN = "one run a task, so points without intervals, N/A for IQM and optimality gap in tables, no P(X > Y)"


@dataclass(frozen=True)
class Note(Defect):
    """A remark on the runs of one method on all its tasks; nothing is wrong with them."""

    mark: ClassVar[str] = MARK

    @property
    def subject(self) -> str:
        """The method's name, whole even where a long one is shortened elsewhere."""
        (method,) = self.methods
        short = naming.shown(method)
        return method if "…" in short else short


def run_notes(
    suites: Iterable[Suite], origins: Mapping[str, str], methods: Iterable[str], tasks: Iterable[str]
) -> Iterator[Note]:
    """A note for each of these methods that needs one where these tasks are shown; ``origins`` are of scores that no
    paper published."""
    suites, tasks = tuple(suites), set(tasks)
    for method in dict.fromkeys(methods):
        found = (suite.runs(method) for suite in suites if tasks & set(suite.tasks))
        counts = next((runs for runs in found if runs), {})
        parts = list(_parts({task: count for task, count in counts.items() if task in tasks}, origins.get(method)))
        if parts:
            yield Note("note", (method,), (), "; ".join(parts) + ".")


def curve_notes(origins: Mapping[str, str], methods: Iterable[str]) -> tuple[Note, ...]:
    """Where the learning curves of these methods come from, if no paper published them."""
    return tuple(Note("note", (name,), (), f"curve from {origins[name]}.") for name in methods if name in origins)


def without_human_notes(groups: Iterable[RunGroup], methods: Collection[str]) -> Iterator[Note]:
    """A note for each of these groups of our runs that played games without a human score."""
    for group in groups:
        labels = [method for method in methods if group_of(method) == group.id]
        if group.without_human and labels:
            games = naming.listed(group.without_human[:MAX_NAMED])
            more = f" and {len(group.without_human) - MAX_NAMED} more" if len(group.without_human) > MAX_NAMED else ""
            text = f"runs of {games}{more}, without a human score, are in no human-normalised number (raw: OURS-T)."
            yield Note("note", (labels[0],), (), text)


def _parts(counts: Mapping[str, int], origin: str | None) -> Iterator[str]:
    if not counts:
        return
    if origin is not None:
        yield f"scores from {origin}"
    present = {task: count for task, count in counts.items() if count}
    if len(present) < len(counts):
        yield f"{_lacking(present, counts)}, so in no aggregate over these {len(counts)} tasks"
    if len(set(present.values())) > 1:
        yield ragged(present)
        yield WEIGHTS
        if min(present.values()) == 1:
            yield SINGLE_RUNS
    if 1 < max(present.values(), default=0) < TRUSTED_RUNS:
        yield TWO_RUNS
    elif origin is not None and set(present.values()) == {1}:
        yield ONE_RUN


def _lacking(present: Mapping[str, int], counts: Mapping[str, int]) -> str:
    """The tasks with or those without runs, whichever are fewer."""
    absent = [task for task in counts if task not in present]
    if not present:
        return "no run of any of these tasks"
    return f"no run of {naming.listed(absent)}" if len(absent) <= len(present) else f"{naming.listed([*present])} only"


def ragged(counts: Mapping[str, int]) -> str:
    """Summary of the runs per task: ``3 runs on Pong, 5 elsewhere``."""
    tally = Counter(counts.values())
    usual = max(tally, key=lambda count: (tally[count], count))
    if len(counts) - tally[usual] > MAX_NAMED:
        return f"{min(counts.values())} to {max(counts.values())} runs a task"
    unusual = [
        f"{naming.counted(number, 'run')} on {naming.listed([task for task in counts if counts[task] == number])}"
        for number in sorted(tally)
        if number != usual
    ]
    return f"{', '.join(unusual)}, {usual} elsewhere"
