"""Colours of the look ``paper`` and their counterparts on a dark page: a picture drawn once serves both."""

from functools import cache

import numpy as np
from matplotlib.colors import to_hex, to_rgb

from analysis.data.naming import COLOURS, OTHER_COLOURS
from analysis.draw import style

HEAT = ("#E07B39", "#4393C3")  # ends of the heat maps' colours, the same on either page
DARK_TEXT, TURNING_TEXT, LIGHT_TEXT = "#111111", "#121212", "#ffffff"  # on coloured ground; one turns light on a page
GRID = "#cccccc"  # of seaborn's style "ticks"
ROUNDING = 1.5 / 255  # of a blend that was written as #rrggbb


@cache
def counterpart(paint: str) -> str:
    """Colour that the look ``dark`` has for a ``#rrggbb`` of the look ``paper``: ``#ffffff`` -> ``#16191d``.

    A pale tone is a colour blended into the page; its counterpart is blended into the dark page with the same share.
    """
    pairs, white, heat = _pairs(), np.ones(3), [to_hex(end) for end in HEAT]
    if paint in pairs:
        return pairs[paint]
    fits = []
    for pure, dark in pairs.items():
        step = white - to_rgb(pure)
        share = float(step @ (np.asarray(to_rgb(paint)) - to_rgb(pure))) / max(float(step @ step), 1e-9)
        off = np.abs(np.asarray(style.blend(pure, "white", share)) - to_rgb(paint)).max()
        if off <= ROUNDING and 0 <= share <= 1:
            fits.append((pure not in heat, float(off), share, dark))  # near white, where many fit, it is a heat map
    with style.chosen("dark"):
        if not fits:
            return style.legible(paint)
        *_, share, dark = min(fits)
        return to_hex(style.blend(dark, style.page(), share))


@cache
def _pairs() -> dict[str, str]:
    """Page, ink, grid, methods and heat maps: ``#rrggbb`` of ``paper`` -> ``#rrggbb`` of ``dark``."""

    def colours(name: str) -> list[str]:
        with style.chosen(name):
            methods = [*map(style.colour, COLOURS), *map(style.legible, OTHER_COLOURS)]
            return [to_hex(paint) for paint in (style.page(), style.ink(), style.faint(), *methods)]

    heat = {to_hex(end): to_hex(end) for end in HEAT}
    paper, dark = colours("paper"), colours("dark")
    text = {"#000000": dark[1], DARK_TEXT: DARK_TEXT, TURNING_TEXT: LIGHT_TEXT}
    return dict(zip(paper, dark)) | heat | text | {GRID: style.LOOKS["dark"].rc["grid.color"]}
