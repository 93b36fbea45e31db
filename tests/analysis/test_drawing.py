"""Pictures of the page: fewer bytes that draw the same, and on a dark page the colours of the look ``dark``."""

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from analysis.context import make_context
from analysis.draw import dark, style
from analysis.items import ITEMS
from pipeline.page import drawing

CONTEXT = make_context(repetitions=40)
PICTURE = """<?xml version="1.0"?>
<!DOCTYPE svg PUBLIC "a">
<svg width="9pt" height="8pt">
 <metadata> <a/> </metadata>
 <!-- 0.25 -->
 <defs><clipPath id="used"><path id="axes_1" d="M 1.23456 0
L 0 0.015625 "/></clipPath></defs>
 <g clip-path="url(#used)" transform="scale(0.015625)"><path d="M 0 0" style="fill: #ffffff; stroke: #0072b2"/></g>
</svg>"""


def colours(svg: str) -> list[str]:
    return [colour for found in drawing.STYLE.findall(svg) for colour in drawing.COLOUR.findall(found)]


@pytest.mark.parametrize("name", ["IRIS-F-agg", "REM-F-abl", "REM-F-time", "R2-F-games", "R2-F-matrix"])
def test_the_dark_colours_are_those_of_the_dark_look(name: str, tmp_path: Path) -> None:
    (item,) = [item for item in ITEMS if item.id == name]
    for look in ("paper", "dark"):
        with style.chosen(look):
            item.make(CONTEXT).write(tmp_path / look, ["svg"])
    paper, expected = (colours((tmp_path / f"{look}.svg").read_text()) for look in ("paper", "dark"))
    assert len(paper) == len(expected) > 20
    turned = np.array([to_rgb(dark.counterpart(colour)) for colour in paper])
    assert np.abs(turned - [to_rgb(colour) for colour in expected]).max() <= 3 / 255


def test_what_is_not_drawn_is_left_out_and_every_other_number_stays() -> None:
    small = drawing.slim(PICTURE)
    assert not re.search("metadata|xml|DOCTYPE|0.25|axes_1|\n", small)
    assert (
        'id="used"' in small
        and "url(#used)" in small
        and "scale(0.015625)" in small
        and 'd="M 1.23 0 L 0 0.01"' in small
    )


def test_colours_are_variables_with_a_value_for_either_page() -> None:
    page = drawing.on_page(PICTURE)
    assert 'style="fill:var(--c1);stroke:var(--c0)"' in page
    light, turned = re.search(r"<style>svg\{(.*?)\}(.*?)</style>", page).groups()  # type: ignore[union-attr]
    assert light == "--c0:#0072b2;--c1:#ffffff"
    page_colour = style.LOOKS["dark"].page
    assert turned == f"{drawing.DARK_SCREEN}{{svg{{fill:#e8e6e3;--c0:#0080d0;--c1:{page_colour}}}}}"
