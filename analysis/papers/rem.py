"""REM: the paper's items, and the loss of the world model on observation tokens in our runs of its ablations."""

from functools import partial
from typing import Any

import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.comparisons import REM, REM_ABLATIONS
from analysis.context import Context
from analysis.data import naming
from analysis.data.identity import RunGroupId
from analysis.data.published import ABLATIONS
from analysis.data.runs import ATARI_FAMILY, PAPER_SCALE
from analysis.draw import style
from analysis.draw.artefacts import Drawing
from analysis.draw.curves import draw_curve, panel_grid
from analysis.draw.improvement import improvement_figure
from analysis.draw.intervals import AGGREGATES, interval_figure
from analysis.draw.profiles import profile_figure
from analysis.draw.summary import summary_figure
from analysis.draw.tables import per_game_table
from analysis.errors import require
from analysis.item import Item, picture
from analysis.papers.hyperparameters import hyperparameter_table, require_yaml
from analysis.papers.times import ABLATION_TIMES, REM_TIMES, times_figure

METHOD, COMPONENT, LOSS = "rem", "world_model", "observations"
LINES: dict[str, Any] = {"train": "-", "eval": "--"}
COLUMNS, MOST_PANELS = 3, 12
PANEL = (3.1, 2.3)  # inches
COMMAND = "`make suite SUITE=ablations` and `make repro` (paper scale), or the smoke suite: `make repro`"


def losses_figure(context: Context) -> Drawing:
    """A panel per task and scale; a colour per variant, mean and population deviation over runs at every epoch."""
    numbers = curves(losses(context))
    places = _panels(numbers, context)
    numbers = numbers[[place in places for place in zip(numbers.scale, numbers.task)]]
    variants = sorted(numbers.variant.unique())
    with style.house_style():
        columns = min(COLUMNS, len(places))
        size = (max(4.6, PANEL[0] * columns), 0.7 + PANEL[1] * -(-len(places) // columns))
        figure, panels = panel_grid(len(places), columns, size)
        for axes, (scale, task) in zip(panels, places):
            shown = numbers[(numbers.scale == scale) & (numbers.task == task)]
            for (variant, split), curve in shown.groupby(["variant", "split"]):
                marker = "." if len(curve) < 5 else ""  # a single epoch is a dot
                draw_curve(axes, curve, "epoch", _colour(str(variant)), LINES[str(split)], marker=marker)
            title = task.removeprefix(ATARI_FAMILY)
            axes.set_title(title if scale == PAPER_SCALE else f"{title}, {scale} scale", fontsize=10)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            style.tidy(axes, grid="y")
        figure.supxlabel("Epoch", fontsize=10)
        figure.supylabel("Observation loss (nats a token)", fontsize=10)
        names = {name: naming.shown(RunGroupId(METHOD, name).twin) for name in variants}
        handles = [Line2D([], [], color=_colour(name), label=names[name]) for name in variants]
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


def losses(context: Context) -> pd.DataFrame:
    """Losses of our runs of REM on observation tokens; ``NoData`` without any."""
    frame = context.losses
    found = frame[(frame.method == METHOD) & (frame.component == COMPONENT) & (frame.loss == LOSS)]
    return require(found, f"the paper's run logs are not published, and there are no runs of REM here yet: {COMMAND}")


def _panels(numbers: pd.DataFrame, context: Context) -> list[tuple[str, str]]:
    """Scales and tasks, paper scale first; of too many tasks those on which the paper compares."""
    places = sorted(set(zip(numbers.scale, numbers.task)), key=lambda place: (place[0] != PAPER_SCALE, place))
    if len(places) > MOST_PANELS:
        games = {ATARI_FAMILY + game for game in context.suites[ABLATIONS].tasks}
        places = [place for place in places if place[1] in games] or places
    return places[:MOST_PANELS]


def _colour(variant: str) -> str:
    return style.colour(RunGroupId(METHOD, variant).label())


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


ITEMS = (
    Item("REM-F-intro", "rem", "figure", "IQM with intervals", partial(interval_figure, REM, ("iqm",))),
    Item("REM-F-agg", "rem", "figure", "Four aggregates with intervals", partial(interval_figure, REM, AGGREGATES)),
    Item("REM-F-pp", "rem", "figure", "Performance profiles", partial(profile_figure, REM)),
    Item("REM-F-poi", "rem", "figure", "Probability of improvement", partial(improvement_figure, REM)),
    Item("REM-T1", "rem", "table", "Atari-100k per game", partial(per_game_table, REM)),
    Item("REM-F-abl", "rem", "figure", "Ablations: summary", partial(summary_figure, REM_ABLATIONS)),
    Item(
        "REM-F-abl-agg", "rem", "figure", "Ablations: four aggregates",
        partial(interval_figure, REM_ABLATIONS, AGGREGATES),
    ),
    Item("REM-F-abl-pp", "rem", "figure", "Ablations: performance profiles", partial(profile_figure, REM_ABLATIONS)),
    Item(
        "REM-F-abl-poi", "rem", "figure", "Ablations: probability of improvement",
        partial(improvement_figure, REM_ABLATIONS),
    ),
    Item("REM-T-abl", "rem", "table", "Ablations per game", partial(per_game_table, REM_ABLATIONS)),
    Item("REM-F-time", "rem", "figure", "Seconds per epoch, IRIS and REM", partial(times_figure, REM_TIMES)),
    Item("REM-F-time-abl", "rem", "figure", "Seconds per epoch, ablations", partial(times_figure, ABLATION_TIMES)),
    Item("REM-F-wmloss", "rem", "figure", "Ablations: losses of the world model", losses_figure, losses),
    Item("REM-T-hp", "rem", "table", "Hyper-parameters", partial(hyperparameter_table, "rem"), require_yaml),
    picture("REM-F-rec", "rem", "Reconstructions and imagined trajectories"),
)  # fmt: skip
