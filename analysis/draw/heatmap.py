"""Heat maps of shares: vector cells, readable numbers on them, colours that begin at the page's own."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LinearSegmentedColormap, to_hex
from numpy.typing import NDArray

from analysis.draw import style
from analysis.draw.dark import DARK_TEXT, HEAT, LIGHT_TEXT, TURNING_TEXT, counterpart

LOSS, WIN = HEAT  # distinct for colour-blind readers; dark marks are readable on both
LIGHT_ENOUGH = 0.179  # luminance from which on dark text has more contrast than light text

Grid = NDArray[np.float64]


def even_or_not() -> LinearSegmentedColormap:
    """Diverging map: lost, the page's colour (even), won."""
    return LinearSegmentedColormap.from_list("even_or_not", [LOSS, style.page(), WIN])


def growing() -> LinearSegmentedColormap:
    """Sequential map: the page's colour (none) to all."""
    return LinearSegmentedColormap.from_list("growing", [style.page(), WIN])


def draw_cells(
    axes: Axes, values: Grid, rows: Sequence[str], columns: Sequence[str], colours: LinearSegmentedColormap
) -> QuadMesh:
    """Values (rows, columns) in 0..1, first row on top; cells without a value (NaN) keep the page's colour."""
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(values), cmap=colours, vmin=0.0, vmax=1.0, edgecolors=style.page(), linewidth=0.8
    )
    axes.invert_yaxis()
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=90)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return mesh


def write_on_cells(axes: Axes, mesh: QuadMesh, values: Grid, texts: Sequence[Sequence[str]], size: float) -> None:
    """A text in the middle of each cell, dark or light, whichever is read better on the cell's colour."""
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            if text:
                colour = contrasting(np.asarray(mesh.to_rgba(values[row, column])))
                axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=size, color=colour)


def contrasting(cell: Grid) -> str:
    """Dark text on light cells, light text on dark ones, by relative luminance, also of the cell on a dark page."""
    if style.luminance(cell[:3]) <= LIGHT_ENOUGH:
        return LIGHT_TEXT
    red, green, blue = map(float, cell[:3])
    return DARK_TEXT if style.luminance(counterpart(to_hex((red, green, blue)))) > LIGHT_ENOUGH else TURNING_TEXT
