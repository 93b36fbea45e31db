"""Published run times as grouped bars: world model, imagination with controller training, both."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from analysis.context import Context
from analysis.data import naming
from analysis.data.identity import RunGroupId
from analysis.data.runs import ATARI_FAMILY, PAPER_SCALE
from analysis.data.scores import DATA, read_table
from analysis.draw import style
from analysis.draw.artefacts import Drawing

COMPONENTS = {"world_model": "World model", "imagination": "Imagination", "both": "Both"}
OWN_SETTINGS = "own"
BASELINE = "REM"  # its bars are the unit of the numbers over the others
GROUP_WIDTH = 0.8

Series = tuple[str, str]  # a method and whose settings it ran with

REM_TIMES: tuple[Series, ...] = (("IRIS", OWN_SETTINGS), ("IRIS", "of REM"), (BASELINE, OWN_SETTINGS))
ABLATION_TIMES: tuple[Series, ...] = tuple(
    (method, OWN_SETTINGS) for method in ("no-pop", "no-latent-actor-critic", BASELINE)
)


def read_times() -> pd.DataFrame:
    """Seconds per epoch: a row per method and settings, a column per component; ``both`` is the sum of two."""
    keys = ["method", "settings", "component"]
    frame = read_table(DATA / "epoch_times.csv", [*keys, "seconds"], ["seconds"])
    table = frame.pivot(index=keys[:2], columns="component", values="seconds")
    return table.assign(both=table.world_model + table.imagination)


def our_times(series: tuple[Series, ...], context: Context) -> pd.DataFrame:
    """Mean seconds per epoch of our runs of these methods on Atari at paper scale, by label and hardware."""
    costs = context.costs[context.costs.task.str.startswith(ATARI_FAMILY) & (context.costs.scale == PAPER_SCALE)]
    columns = {"seconds_world_model": "world_model", "seconds_actor_critic": "imagination"}
    labels = [RunGroupId(*key).label() for key in costs[["method", "variant", "scale"]].itertuples(index=False)]
    costs = costs.assign(method=labels, settings=costs.hardware)
    means = costs[costs.method.map(naming.twin).isin([method for method, _ in series])]
    means = means.groupby(["method", "settings"])[list(columns)].mean().rename(columns=columns)
    return means.assign(both=means.world_model + means.imagination)


def times_figure(series: tuple[Series, ...], context: Context) -> Drawing:
    """A group of bars per component, each labelled with its ratio to REM on the same hardware."""
    ours = our_times(series, context)
    times = pd.concat([read_times().loc[list(series)], ours])[list(COMPONENTS)]
    baselines = [(BASELINE, OWN_SETTINGS), *(key for key in ours.index if naming.twin(key[0]) == BASELINE)]
    published = times.loc[baselines[0]]
    units = {hardware: times.loc[(name, hardware)] for name, hardware in baselines[1:]}
    ratios = pd.DataFrame(
        [row / (units.get(key[1], np.nan) if key in ours.index else published) for key, row in times.iterrows()],
        times.index,
    )
    width = GROUP_WIDTH / len(times)
    with style.house_style():
        figure, axes = plt.subplots(figsize=(5.8 + 0.6 * len(ours), 3.2), layout="constrained")
        for position, (method, settings) in enumerate(times.index):
            places = np.arange(len(COMPONENTS)) + (position - (len(times) - 1) / 2) * width
            own = settings == OWN_SETTINGS or naming.is_ours(method)
            paint = style.colour(method)
            look: dict[str, Any] = {"hatch": style.hatch(method), "edgecolor": style.page(), "linewidth": 0}
            bars = axes.bar(
                places,
                times.loc[(method, settings)],
                width=0.92 * width,
                color=paint if own else style.blend(paint, style.page(), 0.5),
                label=_named(method, settings),
                **(look if naming.is_ours(method) else {}),
            )
            if (method, settings) not in baselines:
                labels = ["" if np.isnan(ratio) else f"{ratio:.1f}×" for ratio in ratios.loc[(method, settings)]]
                axes.bar_label(bars, labels, padding=2, fontsize=8)
        axes.set_xticks(range(len(COMPONENTS)), list(COMPONENTS.values()))
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel("Seconds per epoch")
        axes.margins(y=0.1)  # space for the number over the highest bar
        style.tidy(axes, grid="y")
        axes.legend(
            frameon=False,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=2 if len(ours) else len(series),
            borderaxespad=0,
        )
    caption = (
        "Published run times of an epoch: training of the world model, imagination with training of the controller, "
        f"and both; over a bar, how many times as long as {BASELINE} it takes. Tokenizer training is left out, as in "
        "the paper; the hardware is not stated there."
        + (f" Ours: means over runs, compared with our {BASELINE} on the same hardware." if len(ours) else "")
    )
    numbers = times.melt(ignore_index=False, var_name="component", value_name="seconds").reset_index()
    longer = ratios.melt(ignore_index=False, value_name="ratio").ratio.to_numpy()
    return Drawing(figure, numbers.assign(**{f"times_{BASELINE}": longer}), caption)


def _named(method: str, settings: str) -> str:
    """Name of a series, with the settings that are not its own, or the hardware of our runs."""
    if naming.is_ours(method):
        return f"{naming.shown(method)}, {settings or 'hardware not stated'}"
    return naming.shown(method) + ("" if settings == OWN_SETTINGS else f", settings {settings}")
