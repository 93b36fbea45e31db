"""How every figure looks: one colour per method everywhere, one house style, the same bytes for the same input."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display anywhere in this project

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Colour-blind safe: Okabe-Ito first, then tones of Paul Tol's muted set that stay apart from them in lightness.
COLOURS = {
    "IRIS": "#0072B2",
    "REM": "#D55E00",
    "Delta-IRIS": "#56B4E9",
    "M3": "#009E73",
    "SimPLe": "#882255",
    "CURL": "#E69F00",
    "DrQ(eps)": "#CC79A7",
    "SPR": "#5C5C5C",
    "DreamerV3": "#332288",
    "TWM": "#999933",
    "STORM": "#117733",
    "DIAMOND": "#AA4499",
    "MuZero": "#B0A070",
    "EfficientZero": "#7A4A1E",
    # REM's ablations, drawn with REM only: Tol's bright scheme without its red
    "no-pop": "#4477AA",
    "separate-wm-embeddings": "#66CCEE",
    "tokenizer-4x4": "#CCBB44",
    "no-latent-actor-critic": "#AA3377",
    "no-action-input": "#228833",
}
OTHER_COLOURS = ("#44AA99", "#DDCC77", "#661100", "#6699CC", "#888888")  # methods not in the papers, by position
LABELS = {
    "DrQ(eps)": "DrQ(ε)",
    "no-pop": "No POP",
    "separate-wm-embeddings": "Separate embeddings",
    "tokenizer-4x4": "4×4 tokenizer",
    "no-latent-actor-critic": "No latent controller",
    "no-action-input": "No action input",
    "IRIS+64-tokens": "IRIS, 64 tokens",
    "DreamerV3+M": "DreamerV3 M",
    "DreamerV3+XL": "DreamerV3 XL",
    "Delta-IRIS+no-frame-tokens": "Delta-IRIS without frame tokens",
    "Delta-IRIS+no-worst-pixel": "Delta-IRIS without worst pixel",
    "Delta-IRIS+1-token": "Delta-IRIS, 1 token",
    "Delta-IRIS+16-tokens": "Delta-IRIS, 16 tokens",
}
# Our variants (``pipeline/rem/params.yaml``) that repeat a published ablation under another name
SAME_ABLATIONS = {
    "separate-embeddings": "separate-wm-embeddings",
    "4x4-tokenizer": "tokenizer-4x4",
    "no-latent-ac": "no-latent-actor-critic",
}
HATCH_OURS = "////"  # our runs share the colour of the published method and are told apart by this
GRID_ALPHA = 0.25

_RC: Any = {
    "svg.hashsalt": "tokenworlds",  # ids in SVG files are otherwise random
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",  # ships with matplotlib
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 10,
    "hatch.linewidth": 0.6,
    "figure.dpi": 100,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Settings of all figures, undone afterwards."""
    with sns.axes_style("ticks"), plt.rc_context(_RC):
        yield


def ink() -> str:
    """The colour of text and of whatever stands out like it: dark on paper, light on dark pages."""
    return str(plt.rcParams["text.color"])


def faint() -> str:
    """The colour of lines to compare with: between ink and page."""
    return "0.45"


def base_method(label: str) -> str:
    """``IRIS (ours, smoke, ...)`` -> ``IRIS``; ``IRIS+64-tokens (ours, ...)`` -> ``IRIS``."""
    return label if label in COLOURS else label.split(" (ours")[0].split("+")[0]


def is_ours(label: str) -> bool:
    """Whether a label names our own runs."""
    return " (ours" in label


def colour(label: str) -> str:
    """The colour of a method, the same in every figure; our runs wear their method's."""
    name = base_method(label)
    return COLOURS.get(name) or OTHER_COLOURS[sum(name.encode()) % len(OTHER_COLOURS)]


def tint(label: str, labels: Sequence[str]) -> tuple[float, ...]:
    """A method's colour for the first of these labels, lighter ones for its variants and scales."""
    same = [other for other in labels if base_method(other) == base_method(label)]
    light = 0.6 * same.index(label) / max(1, len(same) - 1) if len(same) > 1 else 0.0
    return tuple(channel + (1 - channel) * light for channel in to_rgb(colour(label)))


def shown(label: str) -> str:
    """The label as printed in a figure."""
    return LABELS.get(label, label)


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def tidy(axes: Axes, grid: str = "x") -> None:
    """rliable's frame: no box, faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, alpha=GRID_ALPHA)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def bar_panel(axes: Axes) -> None:
    """A panel whose rows are methods: no left spine, few ticks, bars that do not touch the frame."""
    axes.use_sticky_edges = False
    axes.margins(x=0.06)
    axes.autoscale_view(scaley=False)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    tidy(axes)


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write SVG and PNG without dates or versions, so that equal input gives equal bytes."""
    svg, png = stem.with_name(stem.name + ".svg"), stem.with_name(stem.name + ".png")
    with plt.rc_context(_RC):
        figure.savefig(svg, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
        figure.savefig(png, format="png", bbox_inches="tight", dpi=150, metadata={"Software": None})
    plt.close(figure)
    return [svg, png]
