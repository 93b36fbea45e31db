"""Style of all figures: one colour per method, three looks, and equal bytes for equal input.

The looks are ``paper``; ``talk``, the same with larger letters and lines; and ``dark``, light ink
on a dark page. A figure is drawn and saved inside ``with chosen(LOOK):`` and need not know which one it is.
"""

import colorsys
import re
import warnings
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display anywhere in this project

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from analysis.data.identity import group_of
from analysis.data.naming import COLOURS, OTHER_COLOURS, SAME_METHODS, VARIANTS, base_method, twin
from tokenworlds.errors import UserError, near_matches

Colour = str | tuple[float, float, float]
Line = str | tuple[int, tuple[int, ...]]
"""A line style of matplotlib."""

# Our runs share the colour of the published method or variant that they repeat. Variants that nobody published have the
# method's with another hue, by their number; lines and hatches repeat after fewer, so that neighbours differ in all.
HATCH_OURS, LINE_OURS = "////", "--"
HATCHES = ("\\\\\\\\", "xxxx", "....", "----", "||||")
LINES: tuple[Line, ...] = ((0, (1, 1)), (0, (4, 1, 1, 1)), (0, (6, 2, 2, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 3)))
HUES = (0.05, -0.05, 0.1, -0.1, 0.15, -0.15, 0.2, -0.2, 0.25)  # turns of the colour circle; an odd number of them
LIGHTNESS = (0.6, 0.3)
GRID_ALPHA = 0.25
DPI = 150  # of PNG
LETTERS = 10.0  # points
# Families by name, each with one that has the letters it lacks; any installed family can be named, too.
FAMILIES = {
    "sans": ("DejaVu Sans",),
    "serif": ("STIXGeneral", "DejaVu Serif"),  # as wide as Times
    "mono": ("DejaVu Sans Mono",),
}
INCHES = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72.27}  # points are TeX's
NARROWEST, WIDEST = 1.5, 20.0  # inches of a page
SLACK = 0.03  # inches that may be cut off the margin
SMALLEST, LARGEST = 5.0, 24.0  # points of letters

_RC: Any = {
    "svg.hashsalt": "tokenworlds",  # ids in SVG files are otherwise random
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # letters stay letters: publishers refuse the default
    "font.size": LETTERS,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 10,
    "hatch.linewidth": 0.6,
    "figure.dpi": 100,
}


@dataclass(frozen=True)
class Look:
    """Colours of the page and of the ink, and sizes of letters and lines."""

    page: str = "white"
    ink: str = ".15"
    faint: str = "0.45"
    tones: Mapping[str, str] = field(default_factory=dict)  # of methods whose colour would not show on this page
    enlarged: float = 1.0  # letters and lines, against the page
    width: float | None = None  # inches of the page, exactly; None: as large as what is drawn
    fonts: tuple[str, ...] = ("DejaVu Sans",)  # the first that has a letter; ships with matplotlib
    letters: float = LETTERS  # points of the labels of axes; other texts keep their proportion to them
    rc: Any = field(default_factory=dict)


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


class TooNarrow(Exception):
    """A figure does not fit into the width that was asked for."""


@contextmanager
def chosen(name: str, **changes: Any) -> Iterator[None]:
    """Draw and save in the look of that name, with ``changes`` of its fields, until the end of the block."""
    global _look
    if name not in LOOKS:
        raise UserError(f"unknown style {name!r}: {near_matches(name, LOOKS)}")
    before, _look = _look, replace(LOOKS[name], **changes)
    try:
        yield
    finally:
        _look = before


@contextmanager
def house_style() -> Iterator[None]:
    """Settings of all figures, undone afterwards."""
    with sns.axes_style("ticks"), plt.rc_context(_settings()):
        yield


def _settings() -> Any:
    serif = {"mathtext.fontset": "stix"} if _look.fonts == FAMILIES["serif"] else {}
    return {**_RC, **_look.rc, "font.family": list(_look.fonts), **serif}


def read_width(text: str) -> float:
    """``5.5in``, ``8cm``, ``82mm`` or ``397pt`` in inches."""
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+) ?(in|cm|mm|pt)", text.strip())
    inches = float(found[1]) * INCHES[found[2]] if found else 0.0
    if not NARROWEST <= inches <= WIDEST:
        raise UserError(
            f"--width {text}: give a number from {NARROWEST:g} to {WIDEST:g} inches with its unit (in, cm, mm or pt), "
            "like 5.5in."
        )
    return inches


def read_letters(points: float) -> float:
    """A size of letters that can be printed."""
    if not SMALLEST <= points <= LARGEST:
        raise UserError(f"--font-size {points:g}: give points from {SMALLEST:g} to {LARGEST:g}.")
    return points


def read_fonts(name: str) -> tuple[str, ...]:
    """Families of ``sans``, ``serif``, ``mono`` or of an installed font, which a PDF can embed as TrueType."""
    if name in FAMILIES:
        return FAMILIES[name]
    fonts = {font.name: font.fname for font in fontManager.ttflist}
    if name not in fonts:
        raise UserError(f"unknown font {name!r}: {near_matches(name, [*FAMILIES, *sorted(fonts)])}")
    if not fonts[name].lower().endswith(".ttf"):
        raise UserError(f"the font {name!r} is no TrueType file, which is what PDFs embed here; give another --font.")
    return (name, *FAMILIES["sans"])


def ink() -> str:
    """Colour of text and of other foreground marks: dark on paper, light on dark pages."""
    return _look.ink


def across(most: int, inches: float, beside: float = 0.0) -> int:
    """How many panels, or columns of a legend, of so many inches fit beside each other in the width asked for."""
    if _look.width is None:
        return most
    ratio = _look.letters / LETTERS
    return min(most, max(1, int((_look.width / ratio - beside) / inches)))


def faint() -> str:
    """Colour of reference lines: between ink and page."""
    return _look.faint


def page() -> str:
    """Background colour."""
    return _look.page


def colour(label: str) -> str:
    """Colour of a method, the same in every figure. Our runs have that of the method or variant that they repeat, and
    other variants one near their method's."""
    number = _variant_number(label)
    name = base_method(label) if number is not None else twin(label)
    name = SAME_METHODS.get(name, name)
    plain = COLOURS.get(name) or OTHER_COLOURS[sum(name.encode()) % len(OTHER_COLOURS)]
    if number is None:
        return _look.tones.get(name) or legible(plain)
    hue, _, saturation = colorsys.rgb_to_hls(*to_rgb(plain))
    turned = (hue + HUES[number % len(HUES)]) % 1.0
    return legible(to_hex(colorsys.hls_to_rgb(turned, LIGHTNESS[number % len(LIGHTNESS)], max(saturation, 0.4))))


def _variant_number(label: str) -> int | None:
    """Number of a variant of ours that has no published colour, from its name alone; None for all else."""
    group = group_of(label)
    if group is None or not group.variant or group.twin in COLOURS:
        return None
    known = group.variant in VARIANTS
    return VARIANTS.index(group.variant) if known else zlib.crc32(group.variant.encode())


def hatch(label: str) -> str | None:
    """Hatch of bars: none for published methods, one for our runs of them, others for variants."""
    number = _variant_number(label)
    return HATCHES[number % len(HATCHES)] if number is not None else HATCH_OURS if group_of(label) else None


def line(label: str) -> Line:
    """Style of lines: solid for published methods, dashed for our runs of them, other patterns for variants."""
    number = _variant_number(label)
    return LINES[number % len(LINES)] if number is not None else LINE_OURS if group_of(label) else "-"


def legible(paint: str) -> str:
    """On a dark page, the colour mixed with as much white as the minimal contrast requires."""
    if luminance(page()) > 0.5:
        return paint
    for share in np.arange(0, 1, 0.02):
        mixed = blend(paint, "white", float(share))
        if (luminance(mixed) + 0.05) / (luminance(page()) + 0.05) >= _CONTRAST:
            return to_hex(mixed)
    return "white"


def luminance(paint: Any) -> float:
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
    """The label's colour for the first of these labels that have it, paler ones for others, such as other scales."""
    same = [other for other in labels if colour(other) == colour(label)]
    share = 0.6 * same.index(label) / max(1, len(same) - 1) if len(same) > 1 else 0.0
    return blend(colour(label), page(), share)


def tidy(axes: Axes, grid: str = "x") -> None:
    """rliable's frame: no box, faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, alpha=GRID_ALPHA)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def label_rows(axes: Axes, labels: Sequence[str]) -> None:
    """One row per label from bottom to top, with room for bars around the first and last."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(-0.7, len(labels) - 0.3)


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
    """Give the page its size, and the letters theirs. It is the last thing to happen before a figure is written.

    Where the look asks for large letters and lines, the page shrinks: their sizes are absolute, and so every figure
    gets larger ones however it states them. Where it asks for a width, the page with all that is drawn gets exactly
    that; its height shrinks as much, but no more than the letters do.
    """
    width, height = figure.get_size_inches() / _look.enlarged
    ratio = _look.letters / LETTERS
    if ratio != 1.0:
        _resize_letters(figure, ratio)
    if _look.width is not None:
        height *= min(1.0, max(ratio, _look.width / width)) if _look.width < width else ratio
        width = _look.width
    figure.set_size_inches(width, height)
    if _look.width is not None:
        _fit(figure, _look.width, height)


def _fit(figure: Figure, room: float, height: float) -> None:
    """Give the page the width with which all that is drawn is ``room`` inches wide.

    Raises:
        TooNarrow: there is none.
    """
    width = room
    for attempt in range(5):  # what sticks out depends on the width
        with warnings.catch_warnings(record=True) as collapsed:
            warnings.simplefilter("always")
            figure.canvas.draw()
        needed = _tight(figure).width
        if attempt < 4:
            width = max(width + room - needed, room / 2)
            figure.set_size_inches(width, height)
    if collapsed or needed > room + SLACK:
        raise TooNarrow(
            f"it does not fit into {room:.2f} inches with letters of {_look.letters:g} points: give a larger --width "
            "or a smaller --font-size"
        )


def _tight(figure: Figure) -> Bbox:
    """The page around all that is drawn, in inches."""
    box = figure.get_tightbbox(figure.canvas.get_renderer())  # type: ignore[attr-defined]
    return box.padded(plt.rcParams["savefig.pad_inches"])


def _page_of(figure: Figure, width: float) -> Bbox:
    """The page around all that is drawn, exactly that wide."""
    figure.canvas.draw()
    tight = _tight(figure)
    middle = (tight.x0 + tight.x1) / 2
    return Bbox([[middle - width / 2, tight.y0], [middle + width / 2, tight.y1]])


def _resize_letters(figure: Figure, ratio: float) -> None:
    """Multiply the sizes of all texts; those of tick labels also for ticks to come."""
    ticks = set()
    for axis in figure.findobj(Axis):
        for which in ("major", "minor"):
            found = axis.get_major_ticks() if which == "major" else axis.get_minor_ticks()
            labels = [label for tick in found for label in (tick.label1, tick.label2)]
            ticks |= set(map(id, labels))
            if labels:
                axis.set_tick_params(which=which, labelsize=float(labels[0].get_fontsize()) * ratio)
    for text in figure.findobj(Text):
        if id(text) not in ticks:
            text.set_fontsize(float(text.get_fontsize()) * ratio)


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
    with plt.rc_context(_settings()):  # ticks are made when a figure is drawn
        enlarge(figure)
    paths = []
    with plt.rc_context(_settings()):
        box = "tight" if _look.width is None else _page_of(figure, _look.width)
        for name in (name for name in FORMATS if name in formats):
            paths.append(stem.with_name(f"{stem.name}.{name}"))
            resolution = DPI * _look.enlarged if name == "png" else "figure"
            figure.savefig(paths[-1], format=name, bbox_inches=box, dpi=resolution, metadata=_METADATA[name])
    plt.close(figure)
    return paths


def pdf_width(path: Path) -> float:
    """Width of the page of a PDF in points."""
    found = re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", path.read_bytes())
    assert found is not None
    return float(found[1])
