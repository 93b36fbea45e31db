"""DeepMind Control from proprioception: returns of M3 and DreamerV3 task by task, and their aggregates.

DreamerV3's final scores are not published, only curves: their last points are used instead, and labelled so wherever
they are shown. Our runs of M3 are shown with the published ones; aggregates compare them on their own tasks only.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.comparisons import chosen
from analysis.context import Context
from analysis.data import naming
from analysis.data.aggregates import suite_aggregates
from analysis.data.notes import run_notes
from analysis.data.published import DMC, DMC_MAXIMUM
from analysis.data.runs import PAPER_SCALE, RunGroup
from analysis.data.scores import Suite, stack
from analysis.draw import style
from analysis.draw.artefacts import Drawing, Table
from analysis.draw.intervals import AGGREGATES, NAMES, Entries, stacked_panels
from analysis.draw.tables import NO_RUN, Cell, render
from analysis.stats import metrics
from analysis.stats.metrics import Matrix

FAMILY = "dmc/"
SUBJECT = "M3"
MEAN, MEDIAN, IMPROVEMENT = "Mean of the tasks", "Median of the tasks", "P(M3 > it)"
WHAT_IS_COMPARED = (
    "M3: final evaluation after 500,000 decisions (a million simulator steps). DreamerV3: the last point, at 490,000 "
    "frames, of its official curves, no final evaluation; whether a frame is a decision or a simulator step is not "
    "established."
)

Errors = NDArray[np.float64]


def methods(context: Context) -> list[str]:
    """Methods that are shown: published, contributed and ours."""
    suite = context.suites[DMC]
    return [*suite.scores, *suite.partial, *(group.short_label for group in our_groups(context))]


def our_groups(context: Context) -> list[RunGroup]:
    """Our runs of whole episodes on DMC."""
    return [group for group in context.groups if group.whole(FAMILY)]


def returns(group: RunGroup, tasks: Sequence[str], family: str = FAMILY) -> Matrix:
    """Returns of our runs, shape (N, M); NaN fills the columns of tasks with fewer runs, or with none."""
    rows = group.rows[group.rows.task.isin([family + task for task in tasks if task in group.whole(family)])]
    rows = rows.assign(task=rows.task.str.removeprefix(family))
    return stack(rows, tasks, group.short_label, "the collected scores", partial=True)


def tasks_table(context: Context) -> Table:
    """M3-T-dmc: mean return and standard error per task, then mean and median over the tasks, and P(M3 > it)."""
    suite = context.suites[DMC]
    columns = {SUBJECT: suite.raw[SUBJECT], **suite.raw, **suite.partial_raw}
    columns |= {group.short_label: returns(group, suite.tasks) for group in our_groups(context)}
    columns = {name: columns[name] for name in chosen(columns, context)}
    subject = context.choice.label(suite.raw) or SUBJECT
    records = [record for method, raw in columns.items() for record in _records(method, raw, suite, subject)]
    numbers = pd.DataFrame(records)
    lines = []
    for row in dict.fromkeys(numbers["row"]):
        cells = numbers[numbers["row"] == row].itertuples()
        lines.append([Cell(row), *(_cell(cell, columns[cell.method], row) for cell in cells)])
    caption = (
        f"DeepMind Control (proprioceptive), {len(suite.tasks)} tasks: mean return over runs ± its standard error. "
        f"{WHAT_IS_COMPARED} Nothing is ranked. {_about_ours(context)}"
    )
    headers = ["Task", *(f"{method}, {counted(raw)}" for method, raw in columns.items())]
    notes = context.defects_of([*suite.raw, *suite.partial_raw], suite.tasks)
    return render(headers, lines, numbers, caption.strip(), rules=[len(suite.tasks)], defects=notes)


def _records(method: str, raw: Matrix, suite: Suite, subject: str) -> list[dict[str, object]]:
    """A record per row of the table; aggregates only of methods that have all tasks."""
    means, errors, runs = metrics.task_means(raw), metrics.standard_errors(raw), metrics.run_counts(raw)
    complete = bool(runs.all())
    beaten = complete and len(raw) > 1 and method != subject
    improvement = metrics.probability_of_improvement(suite.raw[subject], raw) if beaten else np.nan
    over_tasks = {
        MEAN: (means.mean(), np.sqrt((errors**2).sum()) / len(means)),  # tasks are independent
        MEDIAN: (np.median(means) if complete else np.nan, np.nan),
        IMPROVEMENT.replace(SUBJECT, naming.brief(subject)): (improvement, np.nan),
    }
    rows = [*zip(suite.tasks, means, errors, runs), *((row, *pair, runs.min()) for row, pair in over_tasks.items())]
    return [
        {"row": row, "method": method, "value": float(value), "standard_error": float(error), "runs": int(count)}
        for row, value, error, count in rows
    ]


def _cell(cell: object, raw: Matrix, row: str) -> Cell:
    """``12.3 ± 4.5``; the number of runs only where tasks of a method differ in it."""
    value, error, runs = (getattr(cell, name) for name in ("value", "standard_error", "runs"))
    if np.isnan(value):
        return Cell(NO_RUN)
    text = f"{value:.3f}" if row.startswith("P(") else f"{value:.1f}"
    text += "" if np.isnan(error) else f" ± {error:.1f}"
    counts = metrics.run_counts(raw)
    uneven = len(set(counts[counts > 0])) > 1 and row not in (MEAN, MEDIAN) and not row.startswith("P(")
    return Cell(text + (f" ({runs})" if uneven else ""))


def counted(raw: Matrix) -> str:
    """Number of runs per task: ``5 runs``, ``1 run``, ``2 to 5 runs``."""
    counts = metrics.run_counts(raw)
    few, many = int(counts[counts > 0].min(initial=len(raw))), int(counts.max())
    return ("" if few == many else f"{few} to ") + naming.counted(many, "run")


def _about_ours(context: Context) -> str:
    groups, known = our_groups(context), context.suites[DMC].tasks
    if not groups:
        return ""
    further = {task for group in groups for task in group.whole(FAMILY)} - set(known)
    parts = ["Ours are labelled with their scale; in brackets the runs of a task, where these numbers differ."]
    if any(group.scale != PAPER_SCALE for group in groups):
        parts.append("Runs below paper scale can be compared with nothing published.")
    if further:
        parts.append(f"Left out, for nothing is published of them: {naming.listed(sorted(further))}.")
    return " ".join(parts)


def aggregates_figure(context: Context) -> Drawing:
    """M3-F-dmc: four aggregates of return / 1000; below, the same on the tasks that our runs played, if not on all."""
    suite, sections = context.suites[DMC], _sections(context)
    titles = [naming.counted(len(ours.tasks), "task") if len(sections) > 1 else "" for ours in sections]
    entries = [_entries(context, ours) for ours in sections]
    with style.house_style():
        lines, margins = (AGGREGATES[:2], AGGREGATES[2:]), (4.6, 0.3, 0.75)
        figure, parts = stacked_panels(list(zip(titles, entries)), lines, "Return / 1000", margins)
    numbers = [part.assign(names=" ".join(ours.tasks)) for part, ours in zip(parts, sections)]
    notes = [*context.defects_of(suite.scores, suite.tasks)]
    for ours in sections:
        notes += run_notes([ours], {}, ours.raw, ours.tasks)
    return Drawing(figure, pd.concat(numbers, ignore_index=True), _caption(context, sections), tuple(notes))


def _caption(context: Context, sections: Sequence[Suite]) -> str:
    suite = context.suites[DMC]
    caption = (
        f"DeepMind Control, {len(suite.tasks)} tasks: {naming.listed([NAMES[metric] for metric in AGGREGATES])} of "
        f"returns divided by the maximal return of 1000 (a normalisation of this project), "
        f"{counted(suite.raw[SUBJECT])} a task of M3 and of DreamerV3; bars are 95 % stratified bootstrap intervals "
        f"({context.options.repetitions_aggregates} repetitions), ticks are point estimates. {WHAT_IS_COMPARED}"
    )
    ours = [f"{name} {counted(raw)}" for part in sections for name, raw in part.raw.items()]
    if ours:
        caption += f" Ours: {naming.listed(ours)} a task."
    if len(sections) > 1:
        caption += " Below: the same on the tasks that our runs played, which says nothing about all tasks."
    return caption


def _sections(context: Context) -> list[Suite]:
    """Our runs at paper scale, a suite for each set of tasks that they played; the one of all tasks first."""
    known = context.suites[DMC].tasks
    sections = {known: Suite(DMC, known, {}, {})}
    for group in our_groups(context):
        tasks = tuple(sorted(group.whole(FAMILY) & set(known)))
        if group.scale == PAPER_SCALE and tasks:
            raw = returns(group, tasks)
            part = sections.get(tasks, Suite(DMC, tasks, {}, {}))
            sections[tasks] = part.with_method(group.short_label, raw, raw / DMC_MAXIMUM)
    return list(sections.values())


def _entries(context: Context, ours: Suite) -> Entries:
    """Aggregates of the published methods and of ours on the same tasks, the rows from bottom to top."""
    suite = context.suites[DMC]
    methods = chosen([*(method for method in suite.scores if method != SUBJECT), SUBJECT], context)
    if ours.tasks == suite.tasks:
        published: Entries = {method: context.aggregates[DMC][method] for method in methods}
    else:
        part = suite.restricted(f"{DMC}: {' '.join(ours.tasks)}", ours.tasks, methods)
        published = suite_aggregates(part, context.engine, context.options)
    return {**published, **suite_aggregates(ours, context.engine, context.options)}
