"""The layout check finds what it is for; and every figure with published data passes it in every look."""

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
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


def _crowded_ticks() -> Figure:
    figure = _plain()
    figure.axes[0].set_xticks([0, 0.01], ["first of two", "second of two"])
    return figure


def _legend_over_title() -> Figure:
    figure = _plain()
    figure.axes[0].legend(loc="center", bbox_to_anchor=(0.5, 1.02))
    return figure


def _two_legends() -> Figure:
    figure = _plain()
    axes = figure.axes[0]
    axes.add_artist(axes.legend(loc="center"))
    axes.legend(["another"], loc="center")
    return figure


def _text_over_text() -> Figure:
    figure = _plain()
    for word in ("one", "other"):
        figure.axes[0].text(0.5, 0.5, word)
    return figure


def _clipped_text() -> Figure:
    figure = _plain()
    figure.axes[0].text(0.95, 0.5, "longer than the panel", clip_on=True)
    return figure


def _off_the_page() -> Figure:
    figure = _plain()
    figure.text(1.5, 0.5, "far away").set_in_layout(False)
    return figure


def _neighbours_touch() -> Figure:
    figure, panels = plt.subplots(1, 2, figsize=(4, 2))
    figure.subplots_adjust(wspace=0.01)
    for axes in panels:
        axes.set_xticks([0, 1], ["long label", "long label"])
        axes.set_yticks([])
    return figure


def _too_wide() -> Figure:
    figure = _plain()
    figure.set_size_inches(20, 1.5)
    return figure


def test_a_plain_figure_passes() -> None:
    assert_tidy(_plain())


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
def test_faults_are_found(make: Callable[[], Figure], fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        assert_tidy(make())


def test_the_check_leaves_the_figure_as_it_was() -> None:
    figure = _plain()
    before = tuple(figure.get_size_inches())
    with style.chosen("talk"):
        assert_tidy(figure)
    assert tuple(figure.get_size_inches()) == before


@pytest.mark.parametrize("look", style.LOOKS)
@pytest.mark.parametrize("item", FIGURES, ids=lambda item: item.id)
def test_figures_are_tidy(item: Item, look: str) -> None:
    with style.chosen(look):
        artefact = item.make(CONTEXT)
        assert isinstance(artefact, Drawing)
        assert_tidy(artefact.figure)


@pytest.mark.parametrize("look", style.LOOKS)
def test_figures_of_our_runs_are_tidy(look: str, smoke_runs: Path) -> None:
    ours = make_context(smoke_runs, repetitions=60)
    drawn = [item for item in ITEMS if item.kind == "figure" and item not in FIGURES and item.missing(ours) is None]
    assert {"OURS-F-games", "OURS-F-agg", "OURS-F-tasks"} <= {item.id for item in drawn}
    for item in drawn:
        with style.chosen(look):
            artefact = item.make(ours)
            assert isinstance(artefact, Drawing)
            assert_tidy(artefact.figure)
