"""Our own runs beside the published ones.

They never appear without their scale, and never in aggregates over games they did not play.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.comparisons import with_counterparts
from analysis.context import Context
from analysis.data import naming
from analysis.data.published import ATARI, DMC, all_ablation_scores
from analysis.data.runs import ATARI_FAMILY, BEYOND, CUT, RunGroup, subset_suites
from analysis.data.scores import Suite
from analysis.draw import style
from analysis.draw.artefacts import Drawing, Table
from analysis.draw.curves import panel_grid
from analysis.draw.intervals import label_width, stacked_panels
from analysis.draw.tables import Columns, records_table
from analysis.errors import require
from analysis.item import Item
from analysis.papers import craftax
from analysis.stats.metrics import error_of_runs, existing, task_means
from analysis.stats.significance import Vector

COMMAND = "`make repro` (smoke runs), or activate a suite with `make suite SUITE=atari100k` and run `dvc repro`"
AGGREGATES = ("iqm", "mean", "median", "optimality_gap")
MAX_PANELS_IN_A_ROW = 4
SUITES = {"atari": ATARI, "dmc": DMC}  # family of tasks -> published scores
CRAFTAX_TASK = "craftax/Symbolic"
COLUMNS: Columns = {
    "run": ("Run", ""), "task": ("Task", ""), "seeds": ("Seeds", "{:.0f}"), "episodes": ("Episodes", "{:.0f}"),
    "score": ("Score", "{:.2f}"), "standard_error_runs": ("± runs", "{:.2f}"),
    "standard_error_episodes": ("± episodes", "{:.2f}"), "random": ("Random policy", "{:.2f}"),
    "random_error": ("±", "{:.2f}"),
    "human": ("Human", "{:.1f}"), "human_normalised": ("HNS", "{:.3f}"), "published_mean": ("Published", "{:.1f}"),
}  # fmt: skip


def our_groups(context: Context) -> list[RunGroup]:
    """Our runs; ``NoData`` without any."""
    return require(context.groups, f"no data yet: {COMMAND}")


def atari_groups(context: Context) -> list[RunGroup]:
    """Our runs of whole games of Atari that have a human score; ``NoData`` without any."""
    others = (
        " of whole games with a human score yet (others, also those with cut episodes, are shown raw with the random "
        "policy, in `OURS-F-tasks`)"
    )
    only_others = any(group.without_human or group.cut for group in context.groups)
    groups = [group for group in context.groups if group.games]
    return require(groups, f"no Atari runs{others if only_others else ' yet'}: {COMMAND}")


def our_subsets(context: Context) -> list[Suite]:
    """The suites of fewer than 26 games that our runs played; ``NoData`` without any."""
    atari_groups(context)
    reason = "all our Atari runs are complete and stand in the figures over 26 games"
    return require(subset_suites(context.suites), reason)


def other_tasks(context: Context) -> list[str]:
    """Tasks of our runs without a human-normalised score (also Atari games outside the 26, and where episodes were
    cut); ``NoData`` without any."""
    tasks = {str(task) for group in context.groups for task in _raw_rows(group).task}
    return require(sorted(tasks), "no runs on tasks without a human-normalised score yet")


def _raw_rows(group: RunGroup) -> pd.DataFrame:
    """The runs of a group that are in no human-normalised number."""
    return group.rows[~group.rows.task.isin([ATARI_FAMILY + game for game in group.games])]


def runs_table(context: Context) -> Table:
    """OURS-T: our scores with the uncertainty over runs and, apart from it, over episodes, beside references."""
    records = [
        _record(group, str(task), rows, context)
        for group in our_groups(context)
        for task, rows in group.rows.groupby("task")
    ]
    caption = (
        "Our own runs, labelled with their scale. ± runs: standard error of the mean over seeds; ± episodes: the part "
        "of it due to the finite number of evaluation episodes. Random policy: measured with the run where the scale "
        "asks for it, ± its standard error over episodes, else the reference score. Published: the paper's mean of the "
        "same method and variant, at paper scale. HNS: human-normalised score; only the 26 games of Atari 100k have "
        f"one. {cut_note(context)}"
    )
    return records_table(records, COLUMNS, caption.strip())


def cut_note(context: Context) -> str:
    """What is said of runs with cut episodes, and of those of more steps than their own, if there are any; else ""."""
    has_cut = any({*group.cut} - {*group.beyond} for group in context.groups)
    has_beyond = any(group.beyond for group in context.groups)
    return " ".join([*([CUT] if has_cut else []), *([BEYOND] if has_beyond else [])])


def _record(group: RunGroup, task: str, rows: pd.DataFrame, context: Context) -> dict[str, float | int | str]:
    scores, is_cut = rows.score.to_numpy(dtype=float), task in group.cut
    record: dict[str, float | int | str] = {
        "run": group.short_label,
        "task": task,
        "seeds": len(scores),
        "episodes": float(rows.episodes.sum(min_count=1)),
        "score": float(scores.mean()),
        "standard_error_runs": error_of_runs(scores),
        "standard_error_episodes": _error_of_episodes(rows.score_std, rows.episodes),
        "random": float(rows.random_score.mean()),
        "random_error": _error_of_episodes(rows.random_std, rows.random_episodes),
        "human": np.nan,
        "human_normalised": np.nan,
        "published_mean": np.nan if is_cut else published_mean(group.id.twin, task, context),
    }
    if (column := context.references.position(task)) is not None and not is_cut:
        low, high = float(context.references.random[column]), float(context.references.human[column])
        record |= {"human": high, "human_normalised": (float(scores.mean()) - low) / (high - low)}
        record["random"] = low if rows.random_score.isna().all() else record["random"]
    return record


def _error_of_episodes(deviations: pd.Series, episodes: pd.Series) -> float:
    """Standard error of the mean over runs that is due to the finite number of episodes."""
    errors = (deviations / np.sqrt(episodes)).to_numpy(dtype=float)  # of each run's mean over its episodes
    return float(np.sqrt((errors**2).sum()) / len(errors))


def published_mean(name: str, task: str, context: Context) -> float:
    """Mean of the published raw scores of a method or variant on a task; NaN where there are none."""
    family, _, world = task.partition("/")
    if task == CRAFTAX_TASK:
        return {runs.name: float(runs.last_points.mean()) for runs in craftax.published_runs()}.get(name, np.nan)
    if family not in SUITES or world not in (suite := context.suites[SUITES[family]]).tasks:
        return np.nan
    raw = {**suite.partial_raw, **suite.raw}
    if family == "atari" and name not in raw:
        raw = all_ablation_scores(context.references)
    return float(task_means(raw[name])[suite.tasks.index(world)]) if name in raw else np.nan


def games_figure(context: Context) -> Drawing:
    """OURS-F-games: every run of ours on every game it played, beside the published runs of the same game."""
    groups = atari_groups(context)
    games = sorted({game for group in groups for game in group.games})
    published = with_counterparts([group.short_label for group in groups], context.suites[ATARI].scores)
    rows = [*published, *(group.short_label for group in groups)]
    records = []
    with style.house_style():
        figure, panels = _panels(len(games), rows)
        for axes, game in zip(panels, games):
            column = context.references.tasks.index(game)
            for row, method in enumerate(published):
                scores = context.suites[ATARI].scores[method][:, column]
                records += _draw_runs(axes, row, method, game, scores)
            for row, group in enumerate(groups, start=len(published)):
                if group.raw is not None and game in group.games:
                    low, high = context.references.random[column], context.references.human[column]
                    scores = (existing(group.raw[:, group.games.index(game)]) - low) / (high - low)
                    records += _draw_runs(axes, row, group.short_label, game, scores)
            axes.axvline(0, color=style.faint(), linestyle=":", linewidth=1, zorder=0)
            axes.axvline(1, color=style.faint(), linestyle="--", linewidth=1, zorder=0)
            axes.set_title(game)
        _label_rows(panels, rows)
        figure.supxlabel("Human-normalised score (dotted: random policy, dashed: human)", fontsize=10)
    sizes = "; ".join(naming.shown(group.label) for group in groups)
    caption = (
        f"Our runs beside the published ones, game by game: a dot is a run, the tick their mean. {sizes}. "
        f"{cut_note(context)}"
    )
    shown = [*published, *(group.label for group in groups)]
    return Drawing(figure, pd.DataFrame(records), caption.strip(), context.defects_of(shown, games))


def tasks_figure(context: Context) -> Drawing:
    """OURS-F-tasks: returns of our runs on tasks without a human-normalised score, with the random policy."""
    tasks = other_tasks(context)
    groups = [group for group in context.groups if len(_raw_rows(group))]
    rows = [group.short_label for group in groups]
    records = []
    with style.house_style():
        figure, panels = _panels(len(tasks), rows)
        for axes, task in zip(panels, tasks):
            for row, group in enumerate(groups):
                chosen = _raw_rows(group)
                chosen = chosen[chosen.task == task]
                if len(chosen):
                    drawn = _draw_runs(axes, row, group.short_label, task, chosen.score.to_numpy(dtype=float))
                    records += [record | _draw_random(axes, row, chosen) for record in drawn]
            axes.set_title(task)
        _label_rows(panels, rows)
        figure.supxlabel("Mean return (dotted: random policy)", fontsize=10)
    caption = (
        "Our runs on tasks without a human-normalised score, raw: a dot is a run, the tick their mean, dotted the "
        "random policy with two standard errors over its episodes on either side. What is published of such tasks "
        f"stands in the tables of the papers. {cut_note(context)}"
    )
    return Drawing(figure, pd.DataFrame(records), caption.strip())


def _draw_random(axes: Axes, row: int, rows: pd.DataFrame) -> dict[str, float]:
    """The random policy measured with these runs, if it was: a dotted line in its interval."""
    mean, error = float(rows.random_score.mean()), _error_of_episodes(rows.random_std, rows.random_episodes)
    if not np.isnan(mean):
        axes.vlines(mean, row - 0.45, row + 0.45, color=style.faint(), linestyle=":", linewidth=1.6)
    if not np.isnan(error):
        axes.barh(row, 4 * error, left=mean - 2 * error, height=0.9, color=style.faint(), alpha=0.15, linewidth=0)
    return {"random": mean, "random_error": error}


def aggregates_figure(context: Context) -> Drawing:
    """OURS-F-agg: our aggregates on the games we ran, with the published methods restricted to the same games."""
    suites = our_subsets(context)
    sections = []
    for suite in suites:
        ours = [name for name in suite.scores if naming.is_ours(name)]
        rows = [*with_counterparts(ours, suite.scores), *ours]
        sections.append((_games_title(suite.tasks), {name: context.aggregates[suite.name][name] for name in rows}))
    with style.house_style():
        margins = (1.7 * len(AGGREGATES), 0.0, 1.0)
        figure, parts = stacked_panels(sections, [AGGREGATES], "Human-normalised score", margins)
    numbers = [part.assign(games=" ".join(suite.tasks)) for part, suite in zip(parts, suites)]
    caption = (
        "Our runs beside the published methods restricted to the same games; such subsets say nothing about 26 games. "
        f"Bars are 95 % stratified bootstrap intervals ({context.options.repetitions_aggregates} repetitions), ticks "
        f"are point estimates; a single run has no interval. {cut_note(context)}"
    )
    shown = [context.defects_of(list(entries), suite.tasks) for suite, (_, entries) in zip(suites, sections)]
    return Drawing(figure, pd.concat(numbers, ignore_index=True), caption.strip(), tuple(dict.fromkeys(chain(*shown))))


def _games_title(games: Sequence[str]) -> str:
    named = ", ".join(games[:6]) + (", ..." if len(games) > 6 else "")
    return f"{naming.counted(len(games), 'game')}: {named}"


def _panels(count: int, rows: Sequence[str]) -> tuple[Figure, Sequence[Axes]]:
    """``count`` panels with the same rows, wrapped; surplus places are left out."""
    columns = min(count, MAX_PANELS_IN_A_ROW)
    lines = -(-count // columns)
    size = (label_width(rows) + 2.4 * columns, 0.5 + lines * (0.7 + 0.3 * len(rows)))
    return panel_grid(count, columns, size, sharey=True, gridspec_kw={"wspace": 0.08})


def _label_rows(panels: Sequence[Axes], rows: Sequence[str]) -> None:
    for axes in panels:
        style.label_rows(axes, [naming.shown(row) for row in rows])
        style.bar_panel(axes)


def _draw_runs(axes: Axes, row: int, label: str, task: str, scores: Vector) -> list[dict[str, object]]:
    """A dot a run, the mean as a tick; ours have a dark rim. Returns the plotted numbers."""
    rim = style.ink() if naming.is_ours(label) else "none"
    size, alpha = (22, 0.75) if len(scores) <= 10 else (8, 0.25)
    rows = np.full(len(scores), row)
    axes.scatter(scores, rows, s=size, color=style.colour(label), alpha=alpha, edgecolors=rim, linewidths=0.7)
    axes.vlines(scores.mean(), row - 0.35, row + 0.35, color=style.ink(), alpha=0.8, linewidth=1.4)
    return [{"task": task, "method": label, "run": run, "score": score} for run, score in enumerate(scores)]


ITEMS = (
    Item("OURS-T", "ours", "table", "Our runs, task by task", runs_table, our_groups),
    Item("OURS-F-games", "ours", "figure", "Our runs game by game", games_figure, atari_groups),
    Item("OURS-F-agg", "ours", "figure", "Our aggregates on the games we ran", aggregates_figure, our_subsets),
    Item(
        "OURS-F-tasks",
        "ours",
        "figure",
        "Our runs on tasks without a human-normalised score",
        tasks_figure,
        other_tasks,
    ),
)
