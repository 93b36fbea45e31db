"""How every figure looks: one colour per method everywhere, one house style, the same bytes for the same input.

The house style comes in three looks: ``paper``; ``talk``, the same with larger letters and lines; ``dark``, light ink
on a dark page. A figure is drawn and saved inside ``with chosen(LOOK):`` and need not know which one it is.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display anywhere in this project

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.data.identity import group_of
from tokenworlds.errors import UserError, near_matches

# Colour-blind safe: Okabe-Ito first, then tones of Paul Tol's muted set that stay apart from them in lightness, some
# moved until all methods that are drawn together can be told apart (tests/analysis/test_style.py measures it).
COLOURS = {
    "IRIS": "#0072B2",
    "REM": "#D55E00",
    "Delta-IRIS": "#56B4E9",
    "M3": "#009E73",
    "SimPLe": "#882255",
    "CURL": "#E69F00",
    "DrQ(eps)": "#CC79A7",
    "SPR": "#707579",
    "DreamerV3": "#332288",
    "TWM": "#999933",
    "STORM": "#117733",
    "DIAMOND": "#A13D88",
    "MuZero": "#B0A070",
    "EfficientZero": "#6E420A",
    # baselines on Craftax
    "PPO-RNN": "#B27E4B",
    "RND": "#4477CC",
    "E3B": "#BA5557",
    # REM's ablations, drawn with REM only: Tol's bright scheme without its red
    "no-pop": "#4477AA",
    "separate-wm-embeddings": "#66CCEE",
    "tokenizer-4x4": "#CCBB44",
    "no-latent-actor-critic": "#AA3377",
    "no-action-input": "#199140",
}
Colour = str | tuple[float, float, float]

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
    "M3+simulus-a": "Simulus-A",
    "DreamerV3 (official curves, last point, 490k frames)": "DreamerV3 (official curves)",
}
SAME_METHODS = {  # further names of a method, or names of their own for a variant
    "Simulus-A": "M3",
    "DreamerV3 (official curves, last point, 490k frames)": "DreamerV3",
}
# Our variants (``pipeline/rem/params.yaml``) that repeat a published ablation under another name
SAME_ABLATIONS = {
    "separate-embeddings": "separate-wm-embeddings",
    "4x4-tokenizer": "tokenizer-4x4",
    "no-latent-ac": "no-latent-actor-critic",
}
HATCH_OURS = "////"  # our runs share the colour of the published method and are told apart by this
GRID_ALPHA = 0.25
DPI = 150  # of PNG

_RC: Any = {
    "svg.hashsalt": "tokenworlds",  # ids in SVG files are otherwise random
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # letters stay letters: publishers refuse the default
    "font.family": "DejaVu Sans",  # ships with matplotlib
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 10,
    "hatch.linewidth": 0.6,
    "figure.dpi": 100,
}


@dataclass(frozen=True)
class Look:
    """One of the looks of the house style."""

    page: str = "white"
    ink: str = ".15"
    faint: str = "0.45"
    tones: Mapping[str, str] = field(default_factory=dict)  # of methods whose colour would not show on this page
    enlarged: float = 1.0  # letters and lines, against the page
    rc: Mapping[str, Any] = field(default_factory=dict)


_PAGE, _INK = "#16191d", "#e8e6e3"
LOOKS = {
    "paper": Look(),
    "talk": Look(enlarged=1.25),
    "dark": Look(
        page=_PAGE,
        ink=_INK,
        faint="0.62",
        tones={
            "IRIS": "#0080D0",
            "SimPLe": "#CD80A4",
            "DrQ(eps)": "#B073B7",
            "SPR": "#A6BED1",
            "DreamerV3": "#877FBF",
            "STORM": "#458752",
            "EfficientZero": "#D2B48C",
            "no-pop": "#6188BB",
        },
        rc={
            **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor", "savefig.edgecolor"), _PAGE),
            **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
            "patch.edgecolor": _PAGE,  # bars have a rim of the page, as on paper
            "grid.color": "#8a8f98",
        },
    ),
}
_CONTRAST = 4.0  # of a method's colour against a dark page, at least
_look = LOOKS["paper"]


@contextmanager
def chosen(name: str) -> Iterator[None]:
    """Draw and save in the look of that name until the end of the block."""
    global _look
    if name not in LOOKS:
        raise UserError(f"unknown style {name!r}: {near_matches(name, LOOKS)}")
    before, _look = _look, LOOKS[name]
    try:
        yield
    finally:
        _look = before


@contextmanager
def house_style() -> Iterator[None]:
    """Settings of all figures, undone afterwards."""
    with sns.axes_style("ticks"), plt.rc_context({**_RC, **_look.rc}):
        yield


def ink() -> str:
    """The colour of text and of whatever stands out like it: dark on paper, light on dark pages."""
    return _look.ink


def faint() -> str:
    """The colour of lines to compare with: between ink and page."""
    return _look.faint


def page() -> str:
    """The colour behind everything."""
    return _look.page


def base_method(label: str) -> str:
    """The published method that runs of ours are of (``IRIS+64-tokens (ours, ...)`` -> ``IRIS``), else the label."""
    group = group_of(label)
    return group.base if group else label


def is_ours(label: str) -> bool:
    """Whether a label names our own runs."""
    return group_of(label) is not None


def colour(label: str) -> str:
    """The colour of a method, the same in every figure; our runs wear their method's."""
    name = base_method(label)
    name = SAME_METHODS.get(name, name)
    plain = COLOURS.get(name) or OTHER_COLOURS[sum(name.encode()) % len(OTHER_COLOURS)]
    return _look.tones.get(name) or _legible(plain)


def _legible(paint: str) -> str:
    """On a dark page, this colour with as much white as makes it stand out."""
    if _luminance(page()) > 0.5:
        return paint
    for share in np.arange(0, 1, 0.02):
        mixed = blend(paint, "white", float(share))
        if (_luminance(mixed) + 0.05) / (_luminance(page()) + 0.05) >= _CONTRAST:
            return to_hex(mixed)
    return "white"


def _luminance(paint: Colour) -> float:
    """Relative luminance of sRGB, 0 for black and 1 for white (WCAG 2)."""
    channels = np.asarray(to_rgb(paint))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def blend(paint: Colour, into: Colour, share: float) -> tuple[float, float, float]:
    """A colour with ``share`` of another one in it."""
    first, second = np.asarray(to_rgb(paint)), np.asarray(to_rgb(into))
    red, green, blue = (float(channel) for channel in first + (second - first) * share)
    return red, green, blue


def tint(label: str, labels: Sequence[str]) -> tuple[float, float, float]:
    """A method's colour for the first of these labels, paler ones for its variants and scales."""
    same = [other for other in labels if base_method(other) == base_method(label)]
    share = 0.6 * same.index(label) / max(1, len(same) - 1) if len(same) > 1 else 0.0
    return blend(colour(label), page(), share)


def shown(label: str, separator: str = " ") -> str:
    """The label as printed in a figure; ``separator`` stands between the name of our runs and their description."""
    group = group_of(label)
    if group is None:
        return LABELS.get(label, label)
    return LABELS.get(group.name, group.name) + separator + label.removeprefix(f"{group.name} ")


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


def enlarge(figure: Figure) -> None:
    """Shrink the page where the look asks for large letters and lines: their sizes are absolute, and so every figure
    gets larger ones however it states them. It is the last thing to happen before a figure is written."""
    figure.set_size_inches(figure.get_size_inches() / _look.enlarged)


# Without dates and versions, so that equal input gives equal bytes.
_METADATA: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}
FORMATS = tuple(_METADATA)
DEFAULT_FORMATS = ("svg", "png")


def save(figure: Figure, stem: Path, formats: Collection[str] = DEFAULT_FORMATS) -> list[Path]:
    """Write a figure in these formats: equal figures as equal bytes."""
    enlarge(figure)
    paths = []
    with plt.rc_context({**_RC, **_look.rc}):
        for name in (name for name in FORMATS if name in formats):
            paths.append(stem.with_name(f"{stem.name}.{name}"))
            resolution = DPI * _look.enlarged if name == "png" else "figure"
            figure.savefig(paths[-1], format=name, bbox_inches="tight", dpi=resolution, metadata=_METADATA[name])
    plt.close(figure)
    return paths
