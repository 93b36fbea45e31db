"""Figures of the families of experiments: losses against steps, updates and seconds; measures side by side; what a
sequence model costs; and the effect of noise. A row of panels is a scale and a kind of tasks."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from analysis.context import Context
from analysis.data.families import IMAGINED, LOSS, RANDOM_PLAY, SCORE, Family
from analysis.data.identity import RunGroupId
from analysis.draw import style
from analysis.draw.artefacts import Drawing
from analysis.draw.curves import draw_curve, panel_grid
from analysis.draw.intervals import draw_points
from analysis.errors import require
from analysis.stats import metrics
from analysis.stats.bootstrap import TRUSTED_RUNS, FastEngine
from analysis.studies import records
from analysis.studies.experiment_tables import numbers
from analysis.studies.experiments import MEASURES, Board, Estimate, estimate, telling, uneven, validation_losses

AXES = {"env_steps": "Environment steps", "updates": "Updates of the world model", "seconds": "Seconds of its training"}
SHARES = (0.1, 0.5, 1.0)  # of all environment steps: 10k, 50k and 100k on Atari
PANEL = (2.8, 2.5)  # inches
ROW, LETTER = 0.27, 0.075  # inches of a variant's line and of a letter of its name
LETTERS = 20  # of a line above a panel of a measure
# Colours of methods that are not drawn with ours, which can be told apart on light and dark pages (``naming.COLOURS``)
PALETTE = (
    "REM", "M3", "CURL", "DrQ(eps)", "EfficientZero", "DreamerV3", "TWM", "SimPLe", "PPO-RNN", "STORM", "E3B", "SPR",
)  # fmt: skip
COSTS = ("parameters world_model", IMAGINED)
MARKERS = "osD^vPX*<>ph"
CONTROL = "CURL"  # whose colour controls have, where the others have that of their method
INTERVALS = "lines and bands are 95 % stratified bootstrap intervals over runs, none of a single run"


def title_of(family: Family, name: str) -> str:
    """``A3 gpt2-frozen``."""
    return f"{family.variant(name).id} {family.shown(name)}"


def _short(number: float, _: float) -> str:
    """``30k``, but ``0.03``: a thousandth of a second is not to read like a minute."""
    return EngFormatter(sep="")(number) if abs(number) >= 1000 else f"{number:g}"


def loss_figure(names: Sequence[str], family: Family, context: Context) -> Drawing:
    """Validation loss of these variants against environment steps, gradient steps and seconds."""
    found = [(board, curves(board, names, context)) for board in telling(family, context)]
    found = require(
        [pair for pair in found if len(pair[1])], "no losses of these runs yet: `python -m pipeline.collect`"
    )
    with style.house_style():
        figure, grid = _grid(len(found), len(AXES))
        for row, (board, frame) in zip(grid, found):
            for axes, (x, label) in zip(row, AXES.items()):
                for name, points in frame.groupby("variant", sort=False):
                    draw_curve(axes, points, x, paint(family, str(name), names), alpha=0.15, marker=".", linewidth=1.6)
                style.tidy(axes, grid="both")
                axes.set_xlabel(label)
                axes.xaxis.set_major_formatter(_short)
            for share in SHARES:
                row[0].axvline(share * frame.env_steps.max(), color=style.faint(), linestyle=":", linewidth=1, zorder=0)
            row[0].set_ylabel(MEASURES[LOSS].title)
            row[0].set_title(board.title, loc="left")
        drawn = [name for name in names if any((frame.variant == name).any() for _, frame in found)]
        _legend(figure, family, drawn, names, len(AXES), linewidth=2)
    caption = (
        "Loss of a token on held-out episodes against environment steps (dotted: a tenth, half and all of them, 10k, "
        "50k and 100k on Atari), against updates of the world model and against the seconds that these took; "
        f"{INTERVALS}. Means over tasks and runs.{uneven([board for board, _ in found])}"
    )
    numbers_of = [frame.assign(on=board.title) for board, frame in found]
    return Drawing(figure, pd.concat(numbers_of, ignore_index=True), caption)


def curves(board: Board, names: Sequence[str], context: Context) -> pd.DataFrame:
    """A row per variant and tested epoch: mean loss with its interval, and steps, updates and seconds until then."""
    own = board.runs[records.IDENTITY].merge(validation_losses(context), on=records.IDENTITY)
    if not {*AXES} <= {*own}:  # collected by an earlier version
        return pd.DataFrame()
    rows = [
        {"variant": name, "epoch": epoch, **_point(part, name, board, context), **part[[*AXES]].mean()}
        for name in names
        for epoch, part in own[own.variant == name].groupby("epoch", sort=True)
    ]
    return pd.DataFrame(rows)


def _point(rows: pd.DataFrame, name: str, board: Board, context: Context) -> dict[str, float]:
    values, low, high = records.matrix(rows), np.nan, np.nan
    if metrics.run_counts(values).min() > 1 and metrics.tell_spread(values):
        generator = context.options.generator("experiments", board.title, name, str(rows.epoch.iloc[0]))
        low, high = FastEngine().aggregates(values, generator, context.options.repetitions_profiles)["mean"]
    return {"mean": metrics.points(values)["mean"], "low": low, "high": high}


def measures_figure(shown: Sequence[str], family: Family, context: Context) -> Drawing:
    """These measures of all variants, a line each, side by side."""
    found = telling(family, context)
    rows = []
    with style.house_style():
        heights = [1.1 + ROW * len(board.present) for board in found]
        width = LETTER * max(len(title_of(family, name)) for board in found for name in board.present)
        size = (width + 2.0 * len(shown), sum(heights))
        figure, grid = _grid(len(found), len(shown), size, sharey="row", height_ratios=heights)
        for row, board in zip(grid, found):
            for axes, measure in zip(row, shown):
                estimates = {name: estimate(board, name, measure, context) for name in board.present[::-1]}
                _draw_measure(axes, board, measure, estimates)
                rows += [_row(board, name, measure, one) for name, one in estimates.items()]
            style.label_rows(row[0], [title_of(family, name) for name in board.present[::-1]])
            row[0].set_title(f"{board.title}\n{row[0].get_title()}", loc="center")
    caption = (
        "Means over tasks and runs (scores on Atari: interquartile means of human-normalised ones); "
        f"{INTERVALS}, thin ones of fewer than {TRUSTED_RUNS} runs. The dotted line is the method as published. "
        f"Orange: controls. Hollow: no result of 100k steps.{uneven(found)}"
    )
    return Drawing(figure, pd.DataFrame(rows), caption)


def _draw_measure(axes: Axes, board: Board, measure: str, estimates: dict[str, Estimate]) -> None:
    places = np.arange(len(estimates), dtype=float)
    known = pd.DataFrame([vars(one) for one in estimates.values()], index=places)
    colours = [_kind(board, name) for name in estimates]
    faces = [style.page() if board.family.variant(name).beyond else paint for name, paint in zip(estimates, colours)]
    trusted = [runs >= TRUSTED_RUNS for runs in known.runs]
    draw_points(axes, list(places), known.point, known.low, known.high, colours, trusted, c=faces, edgecolors=colours)
    if "" in estimates and np.isfinite(estimates[""].point):
        axes.axvline(estimates[""].point, color=style.faint(), linestyle=":", linewidth=1, zorder=0)
    _say_if_empty(axes, known.point, keep_rows=True)
    axes.set_title(textwrap.fill(MEASURES[measure].title, LETTERS))
    style.bar_panel(axes)
    style.tidy(axes)


def _kind(board: Board, name: str) -> style.Colour:
    """Colour of a line: ink of the method as published, one of controls, one of all others."""
    if not name:
        return style.ink()
    return style.colour(CONTROL if board.family.variant(name).is_control else board.label(""))


def _say_if_empty(axes: Axes, values: pd.Series, keep_rows: bool = False) -> None:
    if values.isna().all():
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color=style.faint())
        axes.set_xticks([])
        if not keep_rows:
            axes.set_yticks([])


def _row(board: Board, name: str, measure: str, found: Estimate) -> dict[str, Any]:
    return {"on": board.title, "variant": board.family.shown(name), "measure": measure, "runs": found.runs} | numbers(
        "value", found
    )


def cost_figure(family: Family, context: Context) -> Drawing:
    """Loss and score against the size of the world model and the time of an imagined frame."""
    found, rows = telling(family, context), []
    with style.house_style():
        figure, grid = _grid(2 * len(found), len(COSTS))
        for board, places in zip(found, zip(grid[::2], grid[1::2])):
            known = {(name, key): estimate(board, name, key, context) for name in board.present
                     for key in (*COSTS, RANDOM_PLAY, SCORE)}  # fmt: skip
            rows += [_row(board, name, key, one) for (name, key), one in known.items()]
            for row, gain in zip(places, (RANDOM_PLAY, SCORE)):
                for axes, cost in zip(row, COSTS):
                    _draw_cost(axes, board, (cost, gain), known)
            places[0][0].set_title(board.title, loc="left")
        drawn = [name for name in family.names if any(name in board.present for board in found)]
        _legend(figure, family, drawn, family.names, 3, linestyle="", markersize=6)
    caption = (
        "Loss of a token in episodes of the random policy, and score, against the parameters of the world model and "
        "the time that the policy's training takes for an imagined frame of an environment; vertical lines are 95 % "
        "stratified bootstrap intervals over runs, none of a single run. Losses of another kind are left out. Hollow: "
        f"no result of 100k steps.{uneven(found)}"
    )
    return Drawing(figure, pd.DataFrame(rows), caption)


def _draw_cost(axes: Axes, board: Board, pair: tuple[str, str], known: dict[tuple[str, str], Estimate]) -> None:
    for name in board.present:
        variant, x, y = board.family.variant(name), known[name, pair[0]], known[name, pair[1]]
        if pair[1] == RANDOM_PLAY and variant.has_other_loss:
            continue
        colour, place = paint(board.family, name, board.family.names), x.point
        axes.vlines(place, y.low, y.high, color=colour, linewidth=1.8)
        face = style.page() if variant.beyond else colour
        marker = MARKERS[board.family.names.index(name) % len(MARKERS)]
        axes.plot(place, y.point, marker, color=colour, mfc=face, markersize=6, zorder=3)
    axes.set(xlabel=MEASURES[pair[0]].title, ylabel=MEASURES[pair[1]].title)
    axes.margins(0.15)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(_short)
    _say_if_empty(axes, pd.Series([known[name, key].point for name in board.present for key in pair[:1]]))
    style.tidy(axes, grid="both")


def noise_figure(shown: Sequence[str], family: Family, context: Context) -> Drawing:
    """These measures against the standard deviation of the noise."""
    found, rows = telling(family, context), []
    with style.house_style():
        figure, grid = _grid(len(found), len(shown))
        for row, board in zip(grid, found):
            amounts = [float(board.family.variant(name).amount or 0.0) for name in board.present]
            for axes, measure in zip(row, shown):
                estimates = [estimate(board, name, measure, context) for name in board.present]
                rows += [_row(board, name, measure, one) for name, one in zip(board.present, estimates)]
                points = pd.DataFrame([vars(one) for one in estimates]).rename(columns={"point": "mean"})
                colour = style.colour(board.label(""))
                draw_curve(axes, points.assign(amount=amounts), "amount", colour, marker="o", linewidth=1.6)
                axes.set(xlabel="Standard deviation of the noise", ylabel=MEASURES[measure].title)
                _say_if_empty(axes, points["mean"])
                style.tidy(axes, grid="both")
            row[0].set_title(board.title, loc="left")
    caption = (
        f"Means over tasks and runs against the noise, in units of the brightest pixel; {INTERVALS}. Score: on Atari "
        "the interquartile mean of human-normalised scores, elsewhere the mean return. Churn: the share of the tokens "
        f"of stored frames that an epoch changes.{uneven(found)}"
    )
    return Drawing(figure, pd.DataFrame(rows), caption)


def _grid(
    rows: int, columns: int, size: tuple[float, float] | None = None, **subplots: Any
) -> tuple[Figure, list[Sequence[Axes]]]:
    """Panels in rows of all ``columns``."""
    figure, panels = panel_grid(
        rows * columns, columns, size or (PANEL[0] * columns, PANEL[1] * rows + 0.7), **subplots
    )
    return figure, [panels[start : start + columns] for start in range(0, rows * columns, columns)]


def paint(family: Family, name: str, names: Sequence[str]) -> style.Colour:
    """Colour of a variant among ``names``, which are drawn together; the first is the method as published."""
    return style.colour(RunGroupId(family.method).base if not name else PALETTE[(names.index(name) - 1) % len(PALETTE)])


def _legend(
    figure: Figure, family: Family, drawn: Sequence[str], names: Sequence[str], columns: int, **look: Any
) -> None:
    handles = []
    for name in drawn:
        marker = MARKERS[names.index(name) % len(MARKERS)] if "markersize" in look else None
        handles.append(
            Line2D([], [], color=paint(family, name, names), marker=marker, label=title_of(family, name), **look)
        )
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, frameon=False, fontsize=9)
