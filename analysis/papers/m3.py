"""M3 / Simulus: the printed means of its project page, and what only our own runs can show, ablations and costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from analysis.comparisons import M3
from analysis.context import Context
from analysis.data import naming
from analysis.data.aggregates import suite_aggregates
from analysis.data.defects import Defect
from analysis.data.identity import RunGroupId
from analysis.data.notes import run_notes
from analysis.data.published import ATARI, CRAFTAX_MAXIMUM, DMC, DMC_MAXIMUM, printed_means, raw_means
from analysis.data.runs import ATARI_FAMILY, PAPER_SCALE, RunGroup
from analysis.data.scores import References, Suite
from analysis.draw import style
from analysis.draw.artefacts import Drawing, Table
from analysis.draw.improvement import improvement_figure
from analysis.draw.intervals import (
    AGGREGATES,
    ROW_INCHES,
    TITLES,
    draw_panels,
    interval_figure,
    interval_numbers,
    label_width,
)
from analysis.draw.profiles import profile_figure
from analysis.draw.tables import Cell, Columns, per_game_table, records_table, render
from analysis.errors import require
from analysis.item import Item
from analysis.papers import craftax, dmc
from analysis.papers.hyperparameters import hyperparameter_table, require_yaml
from analysis.stats.metrics import Matrix

METHOD = "m3"
SUBJECT = "M3"
PAGE = "leor-c/Simulus"  # what the sources of the project page's numbers begin with
BENCHMARKS = {"atari100k": "Atari-100k", "dmc-proprio-500k": "DMC", "craftax-1m": "Craftax-1M"}
COMMAND = "`make suite SUITE={}` and `make repro`"
GIBIBYTE = 2**30
MAX_NAMED_TASKS = 3


def page_table(context: Context) -> Table:
    """SIM-T-page: every mean on the project page beside the mean of the published raw scores."""
    rows = printed_means()
    rows = rows[rows.source.str.startswith(PAGE)]
    raw = raw_means()
    rows = rows.assign(raw=[raw[key] for key in zip(rows.method, rows.task)])
    rows = rows.assign(difference=rows.raw - rows["mean"], agrees=_agree(rows))
    order = list(BENCHMARKS)
    rows = rows.sort_values(
        ["benchmark", "task"],
        key=lambda column: column.map(order.index) if column.name == "benchmark" else column,
        kind="stable",
    )
    lines = [
        [
            *map(Cell, (BENCHMARKS[row.benchmark], row.task, row.method, row.printed, f"{row.raw:.4f}")),
            Cell(f"{round(row.difference, 4) + 0.0:+.4f}"),  # + 0.0: no -0.0000
            Cell("yes" if row.agrees else "no", bold=not row.agrees),
        ]
        for row in rows.itertuples()
    ]
    others = [f"{row.method} on {row.task}" for row in rows[~rows.agrees].itertuples()]
    caption = (
        f"Project page of Simulus (M3): {len(rows)} printed means beside those of the published raw scores (on Craftax "
        f"of the last points); {int(rows.agrees.sum())} agree to the printed digits"
        + (f", all but {naming.listed(others)}: the page is older, or of another evaluation." if others else ".")
        + " Of Simulus-A only Breakout is published."
    )
    headers = ["Benchmark", "Task", "Method", "Printed", "From raw scores", "Difference", "Agrees"]
    rules = [number for number in range(1, len(lines)) if lines[number][0] != lines[number - 1][0]]
    numbers = rows[["benchmark", "task", "method", "printed", "raw", "difference", "agrees", "source"]]
    return render(headers, lines, numbers, caption, text_columns=3, rules=rules)


def _agree(rows: pd.DataFrame) -> list[bool]:
    """Whether the raw mean, rounded as the page rounds, is the printed one."""
    half_units = [0.5 * 10.0 ** -len(text.partition(".")[2]) for text in rows.printed]
    return [abs(row.raw - row.mean) <= half + 1e-9 for row, half in zip(rows.itertuples(), half_units)]


@dataclass(frozen=True)
class Benchmark:
    """Tasks on which variants are compared, and how their returns become scores."""

    title: str
    family: str
    metric: str  # the aggregate that is drawn
    unit: str
    scale: References  # returns of score 0 and 1
    published: Mapping[str, Matrix]  # raw returns of M3

    def suite(self, groups: Sequence[RunGroup], scale: str) -> Suite | None:
        """M3 and its variants on the tasks that all of these groups played; None where there is no such task."""
        played = [group.whole(self.family) for group in groups]
        tasks = tuple(task for task in self.scale.tasks if all(task in names for names in played))
        if not tasks:
            return None
        columns = self.scale.columns(tasks)
        raw = {name: matrix[:, columns] for name, matrix in self.published.items() if scale == PAPER_SCALE}
        raw |= {group.short_label: dmc.returns(group, tasks, self.family) for group in groups}
        scores = {name: self.scale.normalise(matrix, tasks) for name, matrix in raw.items()}
        return Suite(f"m3 ablations, {self.title}, {scale}: {' '.join(tasks)}", tasks, scores, raw)


def benchmarks(context: Context) -> list[Benchmark]:
    """The three of the paper. On Craftax there is one task, and a score is the share of the maximal return."""

    def of_maximum(tasks: Sequence[str], maximum: float) -> References:
        return References(tuple(tasks), np.zeros(len(tasks)), np.full(len(tasks), maximum))

    atari, control = context.suites[ATARI].raw[SUBJECT], context.suites[DMC]
    (last,) = [runs.last_points for runs in craftax.published_runs() if runs.name == SUBJECT]
    names = {str(name) for group in context.groups for name in group.rows.task}
    worlds = sorted(name.removeprefix(craftax.FAMILY) for name in names if name.startswith(craftax.FAMILY))[:1]
    return [
        Benchmark("Atari", ATARI_FAMILY, "iqm", "human-normalised score", context.references, {SUBJECT: atari}),
        Benchmark(
            "DeepMind Control", dmc.FAMILY, "mean", "return / 1000", of_maximum(control.tasks, DMC_MAXIMUM),
            {SUBJECT: control.raw[SUBJECT]},
        ),
        Benchmark(
            "Craftax", craftax.FAMILY, "mean", f"return / {CRAFTAX_MAXIMUM:.0f}", of_maximum(worlds, CRAFTAX_MAXIMUM),
            {SUBJECT: last[:, None]} if worlds else {},
        ),
    ]  # fmt: skip


def ablation_suites(context: Context) -> list[tuple[Benchmark, str, Suite]]:
    """A suite per benchmark and scale at which a variant of M3 was run; ``NoData`` without any."""
    found = []
    for benchmark in benchmarks(context):
        ours = [group for group in context.groups if group.id.base == SUBJECT and group.whole(benchmark.family)]
        for scale in sorted({group.scale for group in ours}, key=lambda scale: (scale != PAPER_SCALE, scale)):
            groups = [group for group in ours if group.scale == scale]
            suite = benchmark.suite(groups, scale) if any(group.id.variant for group in groups) else None
            if suite is not None:
                found.append((benchmark, scale, suite))
    reason = "no data yet: no ablations of M3 are published, and runs of whole episodes are needed"
    return require(found, f"{reason}; {COMMAND.format('ablations')}")


def ablations_figure(context: Context) -> Drawing:
    """M3-F-abl: an aggregate of M3 and of each variant, a panel per benchmark and scale."""
    found = ablation_suites(context)
    rows = [list(reversed(suite.scores)) for _, _, suite in found]
    heights = [0.95 + ROW_INCHES * len(names) for names in rows]
    labels = [
        [f"{naming.shown(name)}, {dmc.counted(suite.raw[name])}" for name in names]
        for (_, _, suite), names in zip(found, rows)
    ]
    parts = []
    notes: list[Defect] = []
    with style.house_style():
        width = 4.4 + max(label_width(shown) for shown in labels)
        figure, panels = plt.subplots(
            len(found), 1, figsize=(width, sum(heights)), squeeze=False, layout="constrained", height_ratios=heights
        )
        for axes, (benchmark, scale, suite), names, shown in zip(panels[:, 0], found, rows, labels):
            entries = suite_aggregates(suite, context.engine, context.options)
            draw_panels([axes], entries, names, [benchmark.metric])
            axes.set_yticklabels(shown)
            axes.set_title(f"{benchmark.title} ({_tasks(suite)}), {scale} scale", fontsize=10)
            axes.set_xlabel(f"{TITLES[benchmark.metric]} of {benchmark.unit}")
            numbers = interval_numbers(entries, names, [benchmark.metric])
            parts.append(numbers.assign(benchmark=benchmark.title, scale=scale, names=" ".join(suite.tasks)))
            notes += run_notes([suite], {}, suite.raw, suite.tasks)
    caption = (
        "M3 and our runs of its variants, on the tasks that all of them played (a choice of ours: the paper's is not "
        "published). Bars are 95 % stratified bootstrap intervals "
        f"({context.options.repetitions_aggregates} repetitions), hatched for our runs, ticks are point estimates; a "
        "single run has no interval. M3 without a remark: the published runs, beside runs at paper scale."
    )
    return Drawing(figure, pd.concat(parts, ignore_index=True), caption, tuple(notes))


def _tasks(suite: Suite) -> str:
    """Names of the tasks, or their number if there are many."""
    return ", ".join(suite.tasks) if len(suite.tasks) <= MAX_NAMED_TASKS else f"{len(suite.tasks)} tasks"


TIMED = {"collection": "Collection", "tokenizer": "Tokenizer", "world_model": "World model",
         "actor_critic": "Controller", "evaluation": "Evaluation"}  # fmt: skip


def costs(context: Context) -> pd.DataFrame:
    """Costs of our runs of M3; ``NoData`` without any."""
    found = context.costs[context.costs.method == METHOD]
    return require(found, f"no data yet: no run times are published as data; {COMMAND.format('smoke')}")


def costs_table(context: Context) -> Table:
    """M3-T-cost: hours, seconds of an epoch by component, weights and memory of our runs, means over runs."""
    frame = costs(context)
    frame = frame.assign(benchmark=frame.task.str.split("/").str[0])
    records = []
    for (scale, benchmark, variant, hardware), rows in frame.groupby(["scale", "benchmark", "variant", "hardware"]):
        who = {"run": RunGroupId(METHOD, variant, scale).label(), "benchmark": benchmark, "hardware": hardware}
        records.append({**who, "runs": len(rows), **rows.select_dtypes("float").mean()})
    columns: Columns = {
        "run": ("Run", ""), "benchmark": ("Tasks", ""), "hardware": ("Hardware", ""), "runs": ("Runs", "{:.0f}"),
        "hours": ("Hours a run", "{:.2f}"), "env_steps": ("Environment steps", "{:,.0f}"),
        "parameters": ("Parameters (M)", "{:.2f}", 1e6),
        **{f"seconds_{name}": (f"{title} (s)", "{:.1f}") for name, title in TIMED.items()},
        "peak_memory_bytes": ("Peak memory (GiB)", "{:.1f}", GIBIBYTE),
    }  # fmt: skip
    caption = (
        "What our runs of M3 cost: means over runs and tasks; seconds (s) of an epoch by component, over the epochs in "
        "which it was active. A dash: not recorded. No run times of the paper are published as data."
    )
    return records_table(records, columns, caption)


ITEMS = (
    Item("M3-T-atari", "m3", "table", "Atari-100k per game", partial(per_game_table, M3)),
    Item("M3-F-agg", "m3", "figure", "Four aggregates with intervals", partial(interval_figure, M3, AGGREGATES)),
    Item("M3-F-pp", "m3", "figure", "Performance profiles", partial(profile_figure, M3)),
    Item("M3-F-poi", "m3", "figure", "Probability of improvement", partial(improvement_figure, M3)),
    Item("M3-T-dmc", "m3", "table", "DeepMind Control, task by task", dmc.tasks_table, compares=dmc.methods),
    Item("M3-F-dmc", "m3", "figure", "DeepMind Control: four aggregates", dmc.aggregates_figure, compares=dmc.methods),
    Item(
        "M3-F-craftax",
        "m3",
        "figure",
        "Craftax: return against environment steps",
        craftax.curves_figure,
        compares=craftax.methods,
    ),
    Item(
        "M3-T-craftax",
        "m3",
        "table",
        "Craftax at one million steps",
        craftax.last_points_table,
        compares=craftax.methods,
    ),
    Item("M3-F-abl", "m3", "figure", "Ablations", ablations_figure, ablation_suites),
    Item("M3-T-cost", "m3", "table", "Run times", costs_table, costs),
    Item("M3-T-hp", "m3", "table", "Hyper-parameters", partial(hyperparameter_table, "m3"), require_yaml),
    Item("SIM-T-page", "m3", "table", "The project page's printed means", page_table),
)
