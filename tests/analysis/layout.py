"""What a figure may not do whatever it shows: cut text off, or draw one text over another.

``assert_tidy(figure)`` draws it as it would be saved in the look chosen now (``style.chosen``).
"""

from itertools import combinations

from matplotlib.artist import Artist
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from analysis.draw import style

SLACK = 1.0  # pixels that boxes may share: their edges are a little outside of the ink
WIDEST = 11.5  # inches: wider pages cannot be read on small screens
TILTED = 20.0  # degrees off the axes: such text is not judged by its box

Boxes = list[tuple[str, Bbox]]


def assert_tidy(figure: Figure) -> None:
    """Fail with a sentence for everything that is cut off, covered, or drawn over something else."""
    size = figure.get_size_inches()
    style.enlarge(figure)
    figure.canvas.draw()
    faults = faults_of(figure, figure.canvas.get_renderer())  # type: ignore[attr-defined]
    figure.set_size_inches(size)
    assert not faults, "; ".join(faults)


def faults_of(figure: Figure, renderer: RendererBase) -> list[str]:
    """One sentence per fault of a figure that has been drawn."""
    page = figure.get_tightbbox(renderer)
    faults = [] if page.width <= WIDEST else [f"the page is {page.width:.1f} inches wide"]
    page = Bbox(page.get_points() * figure.dpi)
    legends = [artist for artist in figure.findobj(Legend) if artist.get_visible()]
    inside = {id(text) for legend in legends for text in legend.findobj(Text)}
    ticks = {id(label) for axis in figure.findobj(Axis) for label in _tick_labels(axis, hidden=True)}
    texts = [
        (f"text {text.get_text()!r}", text.get_window_extent(renderer))
        for text in figure.findobj(_is_seen)
        if id(text) not in inside | ticks
    ]
    for axis in figure.findobj(Axis):
        texts += _named(_tick_labels(axis), renderer)
    boxes = [(f"the legend {_entries(legend)}", legend.get_window_extent(renderer)) for legend in legends]
    faults += [f"{name} is cut off" for name, box in [*texts, *boxes] if not _within(box, page)]
    faults += _cut_by_axes(figure, renderer)
    pairs = [*combinations(texts, 2), *combinations(boxes, 2), *((one, other) for one in boxes for other in texts)]
    return faults + [f"{one} lies over {other}" for (one, first), (other, second) in pairs if _overlap(first, second)]


def _is_seen(artist: Artist) -> bool:
    if not isinstance(artist, Text) or not artist.get_text().strip() or not artist.get_visible():
        return False
    axes = artist.axes
    if axes is not None and (not axes.get_visible() or (not axes.axison and _belongs_to_axis(artist))):
        return False
    tilt = artist.get_rotation() % 90
    return min(tilt, 90 - tilt) < TILTED


def _belongs_to_axis(text: Text) -> bool:
    assert text.axes is not None
    return text in (text.axes.xaxis.label, text.axes.yaxis.label)


def _tick_labels(axis: Axis, hidden: bool = False) -> list[Text]:
    """Labels of the ticks in view (``hidden``: all there are, so that none is counted as another text)."""
    if hidden:
        every = [*axis.majorTicks, *axis.minorTicks]
        return [label for tick in every for label in (tick.label1, tick.label2)] + [axis.offsetText]
    if not axis.get_visible() or not axis.axes.get_visible() or not axis.axes.axison:
        return []
    every = [*axis.get_major_ticks(), *axis.get_minor_ticks()]  # less those left over from a locator's first try
    low, high = sorted(axis.get_view_interval())
    near = 1e-9 * (high - low)
    shown = [tick for tick in every if tick.get_visible() and low - near <= tick.get_loc() <= high + near]
    labels = [label for tick in shown for label in (tick.label1, tick.label2)]
    return [label for label in [*labels, axis.offsetText] if _is_seen(label)]


def _named(labels: list[Text], renderer: RendererBase) -> Boxes:
    return [(f"tick label {label.get_text()!r}", label.get_window_extent(renderer)) for label in labels]


def _cut_by_axes(figure: Figure, renderer: RendererBase) -> list[str]:
    """Texts in a panel that are clipped at its frame."""
    return [
        f"text {text.get_text()!r} is cut off by its panel"
        for text in figure.findobj(_is_seen)
        if text.get_clip_on() and text.axes is not None and text in text.axes.texts
        if not _within(text.get_window_extent(renderer), text.axes.get_window_extent(renderer))
    ]


def _entries(legend: Legend) -> list[str]:
    return [text.get_text() for text in legend.get_texts()]


def _within(box: Bbox, page: Bbox) -> bool:
    slack = SLACK
    return bool(
        box.x0 >= page.x0 - slack
        and box.y0 >= page.y0 - slack
        and box.x1 <= page.x1 + slack
        and box.y1 <= page.y1 + slack
    )


def _overlap(one: Bbox, other: Bbox) -> bool:
    return bool(
        min(one.x1, other.x1) - max(one.x0, other.x0) > SLACK and min(one.y1, other.y1) - max(one.y0, other.y0) > SLACK
    )
