"""Published run times as grouped bars: world model, imagination with controller training, both."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from analysis.context import Context
from analysis.data import naming
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


def times_figure(series: tuple[Series, ...], context: Context) -> Drawing:
    """A group of bars per component, each labelled with its ratio to REM."""
    times = read_times().loc[list(series), list(COMPONENTS)]
    ratios = times / times.loc[(BASELINE, OWN_SETTINGS)]
    width = GROUP_WIDTH / len(series)
    with style.house_style():
        figure, axes = plt.subplots(figsize=(5.8, 3.2), layout="constrained")
        for position, (method, settings) in enumerate(series):
            places = np.arange(len(COMPONENTS)) + (position - (len(series) - 1) / 2) * width
            own = settings == OWN_SETTINGS
            paint = style.colour(method)
            bars = axes.bar(
                places,
                times.loc[(method, settings)],
                width=0.92 * width,
                color=paint if own else style.blend(paint, style.page(), 0.5),
                label=naming.shown(method) + ("" if own else f", settings {settings}"),
            )
            if method != BASELINE:
                labels = [f"{ratio:.1f}×" for ratio in ratios.loc[(method, settings)]]
                axes.bar_label(bars, labels, padding=2, fontsize=8)
        axes.set_xticks(range(len(COMPONENTS)), list(COMPONENTS.values()))
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel("Seconds per epoch")
        axes.margins(y=0.1)  # space for the number over the highest bar
        style.tidy(axes, grid="y")
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(series), borderaxespad=0)
    caption = (
        "Published run times of an epoch: training of the world model, imagination with training of the controller, "
        f"and both; over a bar, how many times as long as {BASELINE} it takes. Tokenizer training is left out, as in "
        "the paper; the hardware is not stated there."
    )
    numbers = times.melt(ignore_index=False, var_name="component", value_name="seconds").reset_index()
    longer = ratios.melt(ignore_index=False, value_name="ratio").ratio.to_numpy()
    return Drawing(figure, numbers.assign(**{f"times_{BASELINE}": longer}), caption)
