"""The looks of the house style: what they change, and that methods drawn together can be told apart in each of them."""

import re
from itertools import combinations
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import yaml
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis import comparisons
from analysis.comparisons import Comparison
from analysis.data import naming
from analysis.data.identity import NAMES, RunGroupId
from analysis.data.scores import ROOT
from analysis.draw import style
from tokenworlds.errors import UserError

# Machado, Oliveira, Fernandes (2009), "A physiologically-based model for simulation of color vision deficiency",
# severity 1.0: matrices on linear RGB.
VISION = {
    "all cones": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
# sRGB (linear) to XYZ, white point D65
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
# Euclidean distance in CIELAB; 2.3 is just noticeable side by side, lines and bars in a legend need several times that.
APART = {"paper": 12.0, "talk": 12.0, "dark": 10.0}

TOGETHER = {
    **{name: value.methods for name, value in vars(comparisons).items() if isinstance(value, Comparison)},
    "craftax": ("M3", "PPO-RNN", "RND", "E3B"),
    "our runs beside those of the IRIS paper": (*comparisons.IRIS.methods, "REM", "Delta-IRIS", "M3"),
    "world models": (
        *("SimPLe", "TWM", "DreamerV3", "STORM", "DIAMOND", "EfficientZero"),
        *("IRIS", "REM", "Delta-IRIS", "M3"),
    ),
}


def cielab(paint: style.Colour, vision: str) -> NDArray[np.float64]:
    """L*, a*, b* of a colour as people with this vision see it."""
    channels = np.asarray(to_rgb(paint))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.asarray(VISION[vision]) @ linear, 0, 1)
    ratio = XYZ @ seen / XYZ.sum(axis=1)
    root = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def distance(one: style.Colour, other: style.Colour, vision: str) -> float:
    return float(np.linalg.norm(cielab(one, vision) - cielab(other, vision)))


def test_cielab_is_that_of_the_standard() -> None:
    assert cielab("white", "all cones") == pytest.approx([100, 0, 0], abs=0.01)
    assert cielab("#FF0000", "all cones") == pytest.approx([53.24, 80.09, 67.20], abs=0.02)
    assert cielab("#0000FF", "all cones") == pytest.approx([32.30, 79.19, -107.86], abs=0.02)


def test_simulated_vision_confuses_what_it_should_and_leaves_greys() -> None:
    for vision, matrix in VISION.items():
        assert np.sum(matrix, axis=1) == pytest.approx(1, abs=1e-5), vision  # greys stay what they are
    red, green = "#B25A2B", "#7A7A22"
    assert distance(red, green, "all cones") > 2 * distance(red, green, "deuteranopia")


@pytest.mark.parametrize("look", style.LOOKS)
@pytest.mark.parametrize("group", TOGETHER)
def test_methods_drawn_together_can_be_told_apart(group: str, look: str) -> None:
    with style.chosen(look):
        paints = {method: style.colour(method) for method in TOGETHER[group]}
    close = {
        (one, other, vision): round(distance(paints[one], paints[other], vision), 1)
        for one, other in combinations(paints, 2)
        for vision in VISION
        if distance(paints[one], paints[other], vision) < APART[look]
    }
    assert not close


@pytest.mark.parametrize("look", style.LOOKS)
def test_every_colour_stands_out_from_its_page(look: str) -> None:
    with style.chosen(look):
        for paint in (*map(style.colour, naming.COLOURS), style.colour("a method to come"), style.ink(), style.faint()):
            assert distance(paint, style.page(), "all cones") > 30


def test_a_method_keeps_its_hue_in_the_dark() -> None:
    for method in ("IRIS", "REM", "Delta-IRIS", "M3"):
        _, *paper = cielab(style.colour(method), "all cones")
        with style.chosen("dark"):
            _, *dark = cielab(style.colour(method), "all cones")
        angle = np.arctan2(paper[1], paper[0]) - np.arctan2(dark[1], dark[0])
        assert abs(np.degrees(np.angle(np.exp(1j * angle)))) < 15, method


def test_variants_and_curves_of_a_method_wear_its_colour() -> None:
    official = "DreamerV3 (official curves, last point, 490k frames)"
    assert style.colour(official) == style.colour("DreamerV3") and naming.shown(official).startswith("DreamerV3 (")
    ours = RunGroupId("m3", "simulus-a", "smoke").label()
    assert style.colour("Simulus-A") == style.colour("M3") != style.colour(ours)
    assert naming.base_method("DrQ(eps)") == "DrQ(eps)"
    assert naming.shown("M3+simulus-a") == "Simulus-A" and naming.shown(ours) == "Simulus-A (ours, smoke)"
    label = RunGroupId("iris", scale="paper").label("26 games x 5 seeds")
    assert naming.shown(label) == label == "IRIS (ours, paper, 26 games x 5 seeds)"


@pytest.mark.parametrize("method", NAMES)
def test_variants_of_a_method_can_be_told_apart(method: str) -> None:
    parameters = yaml.safe_load((ROOT / "pipeline" / method / "params.yaml").read_text())
    labels = [RunGroupId(method, variant, "paper").label() for variant in ("", *parameters["variants"])]
    for look in style.LOOKS:
        with style.chosen(look):
            seen = [(style.colour(label), style.line(label)) for label in labels]
            assert len({*seen}) == len(labels) and len({colour for colour, _ in seen}) >= min(8, len(labels)), seen
    assert style.hatch(NAMES[method]) is None and None not in map(style.hatch, labels)


def test_scales_get_paler_towards_the_page() -> None:
    labels = [RunGroupId("iris", "64-tokens", scale).label() for scale in ("paper", "smoke")]
    assert sum(style.tint(labels[1], labels)) > sum(style.tint(labels[0], labels))
    with style.chosen("dark"):
        assert sum(style.tint(labels[1], labels)) < sum(style.tint(labels[0], labels))


def test_a_look_ends_with_its_block_even_when_the_block_fails() -> None:
    paper = style.ink(), style.faint(), style.page(), style.colour("DreamerV3")
    with pytest.raises(ZeroDivisionError), style.chosen("dark"):
        assert {style.ink(), style.faint(), style.page(), style.colour("DreamerV3")}.isdisjoint(paper)
        raise ZeroDivisionError
    assert (style.ink(), style.faint(), style.page(), style.colour("DreamerV3")) == paper


def test_an_unknown_look_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="did you mean dark"), style.chosen("drak"):
        pass


def draw() -> Figure:
    with style.house_style():
        figure, axes = plt.subplots(figsize=(4, 3), layout="constrained")
        axes.plot([0, 1], [0, 1], color=style.colour("IRIS"), label="IRIS")
        axes.set(title="Title", xlabel="x", ylabel="y")
        axes.legend(frameon=False)
    return figure


def test_all_formats_are_the_same_bytes_twice_and_dateless(tmp_path: Path) -> None:
    with style.chosen("dark"):
        first, second = (style.save(draw(), tmp_path / stem, style.FORMATS) for stem in ("first", "second"))
    assert [path.suffix for path in first] == [".svg", ".pdf", ".png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    svg, pdf, png = (path.read_bytes() for path in first)
    assert b"<dc:date>" not in svg and b"CreationDate" not in pdf and b"Software" not in png


def test_the_dark_page_is_dark_in_every_pixel_of_its_rim(tmp_path: Path) -> None:
    for look, brightness in (("paper", 1.0), ("dark", 0.1)):
        with style.chosen(look):
            (path,) = style.save(draw(), tmp_path / look, ["png"])
        pixels = plt.imread(path)[..., :3]
        assert pixels[0].mean() == pytest.approx(brightness, abs=0.02)
        text = pixels[:, : pixels.shape[1] // 12]  # tick labels and the label of the axis
        assert abs(text - pixels[0, 0]).max() > 0.5


def test_letters_are_larger_in_talks(tmp_path: Path) -> None:
    sizes = {}
    for look in ("paper", "talk"):
        figure = draw()
        with style.chosen(look):
            style.enlarge(figure)
        figure.canvas.draw()
        sizes[look] = figure.axes[0].title.get_window_extent().width / figure.get_window_extent().width
    assert sizes["talk"] == pytest.approx(1.25 * sizes["paper"], rel=0.02)


@pytest.mark.parametrize(
    ("text", "inches"),
    [("5.5in", 5.5), ("8 cm", 8 / 2.54), ("82mm", 82 / 25.4), ("397.48499pt", 5.5), (".25in", None)]
    + [(text, None) for text in ("5.5", "wide", "-3in", "1e3in", "0in", "90in", "5.5 inches")],
)
def test_widths_are_lengths_with_a_unit(text: str, inches: float | None) -> None:
    if inches is not None:
        assert style.read_width(text) == pytest.approx(inches)
        return
    with pytest.raises(UserError, match="with its unit"):
        style.read_width(text)


def test_fonts_and_their_sizes_are_checked() -> None:
    assert style.read_fonts("serif")[0] == "STIXGeneral" and style.read_fonts("DejaVu Serif")[0] == "DejaVu Serif"
    with pytest.raises(UserError, match="did you mean serif"):
        style.read_fonts("seriff")
    for points in (0.0, 300.0, float("nan")):
        with pytest.raises(UserError, match="points from 5 to 24"):
            style.read_letters(points)


@pytest.mark.parametrize(("width", "letters"), [(3.25, 7.0), (5.5, 9.0), (8.0, 12.0)])
def test_a_pdf_is_as_wide_as_asked_with_letters_of_that_size_and_no_type_3_font(
    tmp_path: Path, width: float, letters: float
) -> None:
    with style.chosen("paper", width=width, letters=letters, fonts=style.read_fonts("serif")):
        figure = draw()
        (path,) = style.save(figure, tmp_path / "figure", ["pdf"])
    assert style.pdf_width(path) == pytest.approx(72 * width)
    fonts = re.findall(rb"/Subtype /(Type3|TrueType|CIDFontType2|Type1)", path.read_bytes())
    assert fonts and set(fonts) <= {b"TrueType", b"CIDFontType2"} and b"/FontFile2" in path.read_bytes()
    assert b"STIXGeneral" in path.read_bytes()
    axes = figure.axes[0]
    assert axes.xaxis.label.get_fontsize() == pytest.approx(letters)
    assert axes.get_xticklabels()[0].get_fontsize() == pytest.approx(0.9 * letters)


def test_what_does_not_fit_says_so(tmp_path: Path) -> None:
    with style.chosen("paper", width=1.5), pytest.raises(style.TooNarrow, match="larger --width"):
        figure = draw()
        figure.axes[0].set_xlabel("a label that is far longer than so narrow a page could ever hold")
        style.save(figure, tmp_path / "figure", ["pdf"])
