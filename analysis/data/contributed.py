"""Scores of further methods, dropped in as CSV: ``results/data/contributed/*.csv`` and ``--scores FILE``.

A row is the final score of a run or, with ``env_steps``, a point of its learning curve. Required columns: method, task
(``Pong``, ``atari/Pong``, ``dmc/walker-walk``, ``crafter/Reward`` or ``craftax/Symbolic``), seed, score (raw).
Optional: env_steps, variant, episodes, score_std, source, color. How to write one: ``docs/scores.md``.
"""

import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from analysis.data import naming
from analysis.data.published import ABLATIONS, ABLATIONS_WITHOUT_DEFECT, ATARI, CRAFTAX_METHODS, DMC, DMC_MAXIMUM
from analysis.data.scores import DATA, References, Suite, check_rows, read_table, stack
from tokenworlds.errors import UserError

FOLDER = DATA / "contributed"
REQUIRED = ("method", "task", "seed", "score")
OPTIONAL_TEXT = ("variant", "source", "color")
OPTIONAL_NUMBERS = ("episodes", "score_std", "env_steps")
FAMILIES = {"atari": ATARI, "dmc": DMC}
CURVES_ONLY = {"crafter": ("Reward",), "craftax": ("Symbolic",)}  # families compared at a number of steps, their tasks
ABLATED = "REM"  # whose variants stand beside its published ablations
DEFAULT_FAMILY = "atari"
MAX_SHOWN = 34  # letters of a name in tables and figures
COLOUR = re.compile("#[0-9A-Fa-f]{6}")
_FORBIDDEN = ("$", "\\", " (ours")  # mathematics in a figure's text; escapes; the mark of our own runs


@dataclass(frozen=True)
class Contribution:
    """One method: rows with the columns family, task (without its family), seed, score, episodes, score_std.

    ``curves`` are points of learning curves: family, task, seed, env_steps, score. No final score is read from them.
    """

    label: str
    file: str
    origin: str  # file and source, for the note below every table and figure
    colour: str | None
    rows: pd.DataFrame
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    method: str = ""  # the label without its variant

    @property
    def families(self) -> list[str]:
        """Families that there are learning curves on."""
        return [] if self.curves.empty else sorted(set(self.curves.family))

    def evaluations(self, family: str) -> pd.DataFrame:
        """Points on tasks of a family as our runs' evaluations have them: task, seed, epoch, env_steps, split,
        return_mean."""
        if self.curves.empty:
            return pd.DataFrame(columns=["task", "seed", "epoch", "env_steps", "split", "return_mean"])
        points = self.curves[self.curves.family == family]
        more = {"task": family + "/" + points.task, "epoch": points.env_steps, "split": "test"}
        return points.assign(**more).rename(columns={"score": "return_mean"})

    @property
    def episodes(self) -> str:
        """Number of episodes that a score is a mean of, as text; empty where it is not stated."""
        numbers = sorted({f"{value:g}" for value in self.rows.episodes.dropna()}, key=float)
        return numbers[0] if len(numbers) == 1 else " to ".join([numbers[0], numbers[-1]]) if numbers else ""


def contributed_files(folder: Path = FOLDER) -> list[Path]:
    """CSV files in the folder."""
    return sorted(folder.glob("*.csv"))


def read_contributions(paths: Iterable[Path]) -> dict[str, Contribution]:
    """The methods of these files by name, each in one file only."""
    result: dict[str, Contribution] = {}
    for path in dict.fromkeys(path.resolve() for path in paths):
        for contribution in _read(path):
            if contribution.label in result:
                raise UserError(
                    f"{contribution.label} is in {path.name} and in another file ({result[contribution.label].origin});"
                    " keep one of them or give one a variant."
                )
            result[contribution.label] = contribution
    return result


def _read(path: Path) -> list[Contribution]:
    frame = read_table(path, REQUIRED, ("score", *OPTIONAL_NUMBERS))
    if frame.empty:
        raise UserError(f"{path} holds no scores; fill it or take it away.")
    for column in ("method", "task", "seed", *OPTIONAL_TEXT):
        frame[column] = frame[column].str.strip() if column in frame else ""
    for column in OPTIONAL_NUMBERS:
        frame[column] = frame[column] if column in frame else float("nan")
    families = frame.task.str.partition("/")
    frame["family"] = families[0].where(families[1] == "/", DEFAULT_FAMILY)
    frame["task"] = families[2].where(families[1] == "/", families[0])
    frame["label"] = frame.method + (" (" + frame.variant + ")").where(frame.variant != "", "")
    for row in frame.itertuples():
        _check(row, f"{path.name} line {row.Index + 2}")
    return [_contribution(str(label), rows, path) for label, rows in frame.groupby("label", sort=False)]


def _check(row: object, place: str) -> None:
    label, family, colour = str(row.label), str(row.family), str(row.color)  # type: ignore[attr-defined]
    if not label[:1].isalnum() or not label.isprintable() or any(text in label for text in _FORBIDDEN):
        raise UserError(
            f"{place}: {label!r} cannot be a method's name, which begins with a letter or a digit, has no line break "
            f"and none of {', '.join(map(repr, _FORBIDDEN))}; give it another one."
        )
    families, steps = [*FAMILIES, *CURVES_ONLY], float(row.env_steps)  # type: ignore[attr-defined]
    if family not in families:
        raise UserError(f"{place}: scores are taken for tasks of {naming.listed(families)}, found {family!r}.")
    if family in CURVES_ONLY and math.isnan(steps):
        raise UserError(f"{place}: scores of {family} are compared at a number of steps; fill the column env_steps.")
    if not (math.isnan(steps) or 0 < steps < math.inf):
        raise UserError(
            f"{place}: env_steps must be a positive number, found {steps:g}; leave it empty in final scores."
        )
    if (episodes := float(row.episodes)) <= 0:  # type: ignore[attr-defined]
        raise UserError(f"{place}: episodes must be a positive number, found {episodes:g}; leave it empty if unknown.")
    if colour and not COLOUR.fullmatch(colour):
        raise UserError(f"{place}: {colour!r} is no color; write it like #0072B2, or leave it empty.")


def _contribution(label: str, rows: pd.DataFrame, path: Path) -> Contribution:
    colours, sources = (sorted({" ".join(text.split()) for text in rows[name]} - {""}) for name in ("color", "source"))
    if len(colours) > 1:
        raise UserError(f"{path.name}: {label} has {len(colours)} colors ({', '.join(colours)}); give it one.")
    origin = path.name + (f" ({'; '.join(sources)})" if sources else "")
    final, method = rows.env_steps.isna(), str(rows.method.iloc[0])
    colour = colours[0].lower() if colours else None
    return Contribution(label, path.name, origin, colour, rows[final], rows[~final], method)


def with_contributions(
    suites: Mapping[str, Suite], contributions: Mapping[str, Contribution], references: References
) -> dict[str, Suite]:
    """The suites with every contributed method, complete or partial, in those it has tasks of."""
    result = dict(suites)
    tasks = {family: suites[name].tasks for family, name in FAMILIES.items()} | CURVES_ONLY
    for label, contribution in contributions.items():
        if label in CRAFTAX_METHODS or any(suite.runs(label) for suite in suites.values()):
            raise UserError(
                f"{label} in {contribution.origin} has the name of a published method; give it another one."
            )
        for family, rows in contribution.rows.groupby("family", sort=True):
            suite = result[FAMILIES[str(family)]]
            check_rows(rows, label, contribution.file, suite.tasks)
            raw = stack(rows, suite.tasks, label, contribution.file, partial=True)
            normalised = raw / DMC_MAXIMUM if suite.name == DMC else references.normalise(raw)
            result[suite.name] = suite.with_method(label, raw, normalised)
        if contribution.method == ABLATED and label != ABLATED:
            result |= {name: _with_variant(result, name, label) for name in (ABLATIONS, ABLATIONS_WITHOUT_DEFECT)}
        if len(contribution.curves):
            for family, points in contribution.curves.groupby("family", sort=True):
                places = points.seed + " at " + points.env_steps.map("{:.17g}".format) + " steps"
                check_rows(points.assign(seed=places), label, contribution.file, tasks[str(family)])
    return result


def _with_variant(suites: Mapping[str, Suite], name: str, label: str) -> Suite:
    """A suite of ablations with a variant that has runs of all of its games."""
    part = suites[ATARI].restricted(name, suites[name].tasks)
    known = label in part.scores
    return suites[name].with_method(label, part.raw[label], part.scores[label]) if known else suites[name]


_registered: list[str] = []


def register_looks(contributions: Mapping[str, Contribution]) -> None:
    """Give these methods, and none read before, a colour of their own and a name short enough for a figure.

    A colour that the file does not state depends on the name alone, unless another one has taken it.
    """
    for label in _registered:
        naming.COLOURS.pop(label, None)
        naming.LABELS.pop(label, None)
    _registered[:] = list(contributions)
    taken = [contribution.colour for contribution in contributions.values()]
    for label, contribution in contributions.items():
        colour = contribution.colour or _free_colour(label, taken)
        taken.append(colour)
        naming.COLOURS[label], naming.LABELS[label] = colour, label
    for label, short in zip(contributions, _short_names(list(contributions))):
        naming.LABELS[label] = short


def _free_colour(label: str, taken: Sequence[str | None]) -> str:
    """First unused colour, starting at a position that depends on the name; the one there if none is unused."""
    start = zlib.crc32(label.encode()) % len(naming.OTHER_COLOURS)
    colours = [*naming.OTHER_COLOURS[start:], *naming.OTHER_COLOURS[:start]]
    return next((colour for colour in colours if colour not in taken), colours[0])


def _short_names(labels: Sequence[str]) -> list[str]:
    """Long names without their middle, unless two of them would become equal."""
    tail = MAX_SHOWN // 3
    short = [
        label if len(label) <= MAX_SHOWN else f"{label[: MAX_SHOWN - tail - 1].rstrip()}…{label[-tail:].lstrip()}"
        for label in labels
    ]
    return [name if short.count(name) == 1 else label for name, label in zip(short, labels)]
