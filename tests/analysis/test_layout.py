"""The layout check finds its faults, and every figure passes it with the largest letters, those of talks."""

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.context import make_context
from analysis.draw import style
from analysis.draw.artefacts import Drawing
from analysis.items import ITEMS, Item
from tests.analysis.layout import assert_tidy

CONTEXT = make_context(repetitions=60)
FIGURES = [item for item in ITEMS if item.kind == "figure" and item.missing(CONTEXT) is None]


def _plain() -> Figure:
    figure, axes = plt.subplots(layout="constrained")
    axes.plot([0, 1], label="a line")
    axes.set(title="Title", xlabel="x", ylabel="y")
    axes.legend()
    return figure


def _crowded_ticks(figure: Figure, axes: Axes) -> None:
    axes.set_xticks([0, 0.01], ["first of two", "second of two"])


def _legend_over_title(figure: Figure, axes: Axes) -> None:
    axes.legend(loc="center", bbox_to_anchor=(0.5, 1.02))


def _two_legends(figure: Figure, axes: Axes) -> None:
    axes.add_artist(axes.legend(loc="center"))
    axes.legend(["another"], loc="center")


def _text_over_text(figure: Figure, axes: Axes) -> None:
    for word in ("one", "other"):
        axes.text(0.5, 0.5, word)


def _clipped_text(figure: Figure, axes: Axes) -> None:
    axes.text(0.95, 0.5, "longer than the panel", clip_on=True)


def _off_the_page(figure: Figure, axes: Axes) -> None:
    figure.text(1.5, 0.5, "far away").set_in_layout(False)


def _neighbours_touch(figure: Figure, axes: Axes) -> None:
    figure.set_layout_engine("none")
    other = figure.add_axes((0.51, 0.2, 0.4, 0.6))
    axes.set_position((0.1, 0.2, 0.4, 0.6))
    for panel in (axes, other):
        panel.set_xticks([0, 1], ["long label", "long label"])
        panel.set_yticks([])


def _too_wide(figure: Figure, axes: Axes) -> None:
    figure.set_size_inches(20, 1.5)


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (_crowded_ticks, "tick label 'first of two' lies over tick label 'second of two'"),
        (_legend_over_title, r"the legend \['a line'\] lies over text 'Title'"),
        (_two_legends, r"the legend \[.*\] lies over the legend"),
        (_text_over_text, "text 'one' lies over text 'other'"),
        (_clipped_text, "cut off by its panel"),
        (_off_the_page, "'far away' is cut off"),
        (_neighbours_touch, "tick label 'long label' lies over tick label 'long label'"),
        (_too_wide, "inches wide"),
    ],
)
def test_faults_are_found(make: Callable[[Figure, Axes], None], fault: str) -> None:
    figure = _plain()
    make(figure, figure.axes[0])
    with pytest.raises(AssertionError, match=fault):
        assert_tidy(figure)


def test_a_plain_figure_passes_and_stays_as_it_was() -> None:
    figure = _plain()
    before = tuple(figure.get_size_inches())
    with style.chosen("talk"):
        assert_tidy(figure)
    assert tuple(figure.get_size_inches()) == before


@pytest.mark.parametrize("item", FIGURES, ids=lambda item: item.id)
def test_figures_are_tidy(item: Item) -> None:
    with style.chosen("talk"):
        artefact = item.make(CONTEXT)
        assert isinstance(artefact, Drawing)
        assert_tidy(artefact.figure)


def test_figures_of_our_runs_are_tidy(small_runs: Path) -> None:
    ours = make_context(small_runs, repetitions=60)
    drawn = [item for item in ITEMS if item.kind == "figure" and item not in FIGURES and item.missing(ours) is None]
    assert {"OURS-F-games", "OURS-F-agg", "OURS-F-tasks"} <= {item.id for item in drawn}
    for item in drawn:
        with style.chosen("talk"):
            artefact = item.make(ours)
            assert isinstance(artefact, Drawing)
            assert_tidy(artefact.figure)
