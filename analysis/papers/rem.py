"""REM-F-wmloss: how the world model's loss on observation tokens goes with and without the parts of REM."""

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.context import Context
from analysis.data.identity import RunGroupId
from analysis.data.published import ABLATIONS
from analysis.data.runs import ATARI_FAMILY, PAPER_SCALE
from analysis.draw import style
from analysis.draw.artefacts import Drawing

METHOD, COMPONENT, LOSS = "rem", "world_model", "observations"
LINES: dict[str, Any] = {"train": "-", "eval": "--"}
COLUMNS, MOST_PANELS = 3, 12
PANEL = (3.1, 2.3)  # inches
COMMAND = "`make suite SUITE=ablations` and `make repro` (paper scale), or the smoke suite: `make repro`"


def no_losses(context: Context) -> str | None:
    """Why there is nothing to draw, if so."""
    if len(_losses(context)):
        return None
    return f"the paper's run logs are not published, and there are no runs of REM here yet: {COMMAND}"


def losses_figure(context: Context) -> Drawing:
    """A panel per task and scale; a colour per variant, mean and population deviation over runs at every epoch."""
    numbers = curves(_losses(context))
    places = _panels(numbers, context)
    numbers = numbers[[place in places for place in zip(numbers.scale, numbers.task)]]
    variants = sorted(numbers.variant.unique())
    with style.house_style():
        columns = min(COLUMNS, len(places))
        rows = -(-len(places) // columns)
        size = (max(4.6, PANEL[0] * columns), 0.7 + PANEL[1] * rows)
        figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
        for axes, (scale, task) in zip(grid.flat, places):
            shown = numbers[(numbers.scale == scale) & (numbers.task == task)]
            for (variant, split), curve in shown.groupby(["variant", "split"]):
                _draw(axes, curve, _colour(str(variant), variants), LINES[str(split)])
            title = task.removeprefix(ATARI_FAMILY)
            axes.set_title(title if scale == PAPER_SCALE else f"{title}, {scale} scale", fontsize=10)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            style.tidy(axes, grid="y")
        for axes in list(grid.flat)[len(places) :]:
            axes.remove()
        figure.supxlabel("Epoch", fontsize=10)
        figure.supylabel("Observation loss (nats a token)", fontsize=10)
        handles = [Line2D([], [], color=_colour(name, variants), label=style.shown(_label(name))) for name in variants]
        handles += [
            Line2D([], [], color=style.faint(), linestyle=line, label=label)
            for line, label in zip(LINES.values(), ("training", "evaluation"))
        ]
        figure.legend(handles=handles, loc="outside upper center", frameon=False, fontsize=9, ncols=min(4, columns + 1))
    return Drawing(figure, numbers, _caption(numbers))


def curves(losses: pd.DataFrame) -> pd.DataFrame:
    """Mean, population standard deviation and number of runs at every epoch of each variant, scale, task and split."""
    over_runs = losses.groupby(["scale", "task", "variant", "split", "epoch"], sort=True).value
    return over_runs.agg(mean="mean", deviation=lambda values: values.std(ddof=0), runs="size").reset_index()


def _losses(context: Context) -> pd.DataFrame:
    frame = context.losses
    return frame[(frame.method == METHOD) & (frame.component == COMPONENT) & (frame.loss == LOSS)]


def _panels(numbers: pd.DataFrame, context: Context) -> list[tuple[str, str]]:
    """Scales and tasks, paper scale first; of too many tasks those on which the paper compares."""
    places = sorted(set(zip(numbers.scale, numbers.task)), key=lambda place: (place[0] != PAPER_SCALE, place))
    if len(places) > MOST_PANELS:
        games = {ATARI_FAMILY + game for game in context.suites[ABLATIONS].tasks}
        places = [place for place in places if place[1] in games] or places
    return places[:MOST_PANELS]


def _colour(variant: str, variants: list[str]) -> tuple[float, float, float] | str:
    """That of the published ablation where there is one, else one of REM's."""
    if variant and _label(variant) in style.COLOURS:
        return style.colour(_label(variant))
    others = [name for name in variants if _label(name) not in style.COLOURS or not name]
    return style.tint(RunGroupId(METHOD, variant).label(), [RunGroupId(METHOD, name).label() for name in others])


def _label(variant: str) -> str:
    """Named as the published ablation where there is one."""
    known = style.SAME_ABLATIONS.get(variant, variant)
    return known if known in style.COLOURS else RunGroupId(METHOD, variant).name


def _draw(axes: Axes, curve: pd.DataFrame, paint: tuple[float, float, float] | str, line: str) -> None:
    """A band of one deviation around the mean; a single epoch is a dot."""
    marker = "." if len(curve) < 5 else ""
    axes.plot(curve.epoch, curve["mean"], line, color=paint, marker=marker)
    low, high = curve["mean"] - curve.deviation, curve["mean"] + curve.deviation
    axes.fill_between(curve.epoch, low, high, color=paint, alpha=0.2, linewidth=0)


def _caption(numbers: pd.DataFrame) -> str:
    counts = sorted(set(numbers.runs))
    runs = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    pop = "Losses with and without parallel prediction (POP) are of different things: compare within one of them. "
    return (
        "The world model's loss on observation tokens in our runs of REM and its ablations: mean and one standard "
        f"deviation (population) over {runs} runs, training solid, evaluation on test episodes dashed. "
        + (pop if "no-pop" in set(numbers.variant) else "")
        + "The paper's figure has no published data."
    )
