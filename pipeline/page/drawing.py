"""Figures on the page: the same SVG with fewer bytes, in colours that follow the page from light to dark."""

import re

from analysis.draw.dark import counterpart

NOT_DRAWN = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>", re.DOTALL)
NAMED = re.compile(r' id="([^"]*)"')
REFERENCE = re.compile(r'(?:url\(|href=")#([^")]*)')
SPACE = re.compile(r"\s+")
BETWEEN = re.compile(r"> <")
COORDINATES = re.compile(r' (?:d|x|y|points)="[^"]*"|translate\([^)]*\)')
FRACTION = re.compile(r"(\.\d\d)\d+")  # a hundredth of a point is less than any screen shows
STYLE = re.compile(r'style="([^"]*)"')
COLOUR = re.compile(r"#[0-9a-f]{6}\b")
HEAD_END = re.compile(r"<svg[^>]*>")
PANEL = re.compile(r'id="axes_1">.*?<path d="M ([\d.]+) ', re.DOTALL)
BLACK = "#000000"  # of shapes and letters that state no colour
DARK_SCREEN = "@media screen and (prefers-color-scheme:dark)"  # in a picture: the scheme of the page around it


def on_page(svg: str) -> str:
    """An SVG of matplotlib's for the page: without what is not drawn, themed, in one line."""
    return themed(slim(svg))


def label_width(svg: str) -> int | None:
    """CSS pixels to the left of the first panel, where the labels of its rows are."""
    found = PANEL.search(svg)
    return round(float(found[1]) * 4 / 3) - 2 if found else None


def slim(svg: str) -> str:
    """Drop comments, metadata, names that nothing refers to, spaces, and digits below a hundredth of a point."""
    svg = NOT_DRAWN.sub("", svg)
    used = set(REFERENCE.findall(svg))
    svg = NAMED.sub(lambda name: name[0] if name[1] in used else "", svg)
    svg = COORDINATES.sub(lambda numbers: FRACTION.sub(r"\1", numbers[0]), SPACE.sub(" ", svg))
    return BETWEEN.sub("><", svg.strip()).replace(' "', '"').replace("; ", ";").replace(": ", ":")


def themed(svg: str) -> str:
    """Turn its colours into variables: those that it has, and on a dark page those of the look ``dark``."""
    colours = sorted({colour for style in STYLE.findall(svg) for colour in COLOUR.findall(style)})
    names = {colour: f"--c{number:x}" for number, colour in enumerate(colours)}

    def variables(style: re.Match[str]) -> str:
        return COLOUR.sub(lambda colour: f"var({names[colour[0]]})", style[0])

    light = ";".join(f"{name}:{colour}" for colour, name in names.items())
    dark = ";".join([f"fill:{counterpart(BLACK)}", *(f"{name}:{counterpart(one)}" for one, name in names.items())])
    rules = f"<style>svg{{{light}}}{DARK_SCREEN}{{svg{{{dark}}}}}</style>"
    return HEAD_END.sub(lambda head: head[0] + rules, STYLE.sub(variables, svg), count=1)
