"""Pictures of token grids, of whole frames side by side, and how far two observations are apart."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tokenworlds.agents.token import TokenAgent
from tokenworlds.envs import EnvironmentSpec, GridSpec, ImageSpec, Observation, VectorSpec
from tokenworlds.loading import TrainedAgent
from tokenworlds.tokenizers import pictures
from tokenworlds.viewer.frame import Frame, Panel

Picture = NDArray[np.uint8]  # (Y, X, 3)
CELL = 8  # pixels of a token, one of them its frame
HEIGHT = 256  # pixels that a panel is enlarged to, about
ASPECT = 1.5  # widest panel, of its height
MARGIN, LINE, LETTER = 6, 14, 6.1  # pixels: between panels, height of a line, mean width of a letter
COLUMN = 125  # pixels of an entry of the header, at least
DARK, WHITE, GREY = (18, 18, 20), (240, 240, 240), (160, 160, 165)
STILL = 0.35  # brightness of tokens that have not changed
HEADER = {  # entries of the status and their labels
    **{key: key for key in ("kind", "file", "frame", "frames", "world", "player", "step", "return")},
    "action_label": "action",
    **{key: key for key in ("reward", "end", "value", "entropy")},
}
NO_ERROR = 99.0  # decibels, of equal pictures


def panel(name: str, picture: Picture, height: int = HEIGHT) -> Panel:
    """A picture with a factor that enlarges it to about this height in pixels, that of the others."""
    rows, columns = picture.shape[:2]
    return Panel(name, picture, max(1, round(min(height / rows, ASPECT * height / columns))))


def token_grid(tokens: NDArray[Any], before: NDArray[Any] | None, shape: tuple[int, int]) -> Picture:
    """Cells in the colours of the tokens, row after row; those that have changed are bright and framed in white.

    Args:
        tokens: (cells,) or (cells, columns), of which the first is the colour.
        before: the tokens of the frame before; None: nothing has changed.
    """
    cells = tokens.reshape(len(tokens), -1)
    has_changed = np.zeros(len(cells), bool) if before is None else (cells != before.reshape(cells.shape)).any(axis=1)
    colours = pictures.categorical(torch.from_numpy(cells[:, 0].astype(np.int64))).numpy() * 255
    colours = np.where(has_changed[:, None], colours, colours * STILL)
    rows, columns = shape
    grid = np.zeros((rows * columns, CELL, CELL, 3), np.uint8)
    grid[: len(cells)] = np.where(has_changed[:, None], WHITE, 0)[:, None, None]
    grid[: len(cells), 1:-1, 1:-1] = colours[:, None, None]
    picture: Picture = grid.reshape(rows, columns, CELL, CELL, 3).swapaxes(1, 2).reshape(rows * CELL, columns * CELL, 3)
    return picture


def agents_grid(trained: TrainedAgent, tokens: NDArray[Any], before: NDArray[Any] | None) -> Picture:
    """The token grids of all modalities side by side; delta tokens in a row."""
    if not isinstance(trained.agent, TokenAgent):
        return token_grid(tokens, before, (1, len(tokens)))
    layout, grids = trained.agent.tokenizer.layout, []
    for part in layout.modalities:
        symbols = layout.symbols[part.name]
        cells, old = (None if given is None else given[symbols].reshape(part.count, -1) for given in (tokens, before))
        assert cells is not None
        grids.append(token_grid(cells, old, _grid_shape(part.count, trained.spec.observation[part.name])))
    return beside(grids)


def _grid_shape(count: int, spec: object) -> tuple[int, int]:
    match spec:
        case GridSpec(height=height, width=width):
            return height, width
        case ImageSpec():
            side = math.isqrt(count)
            return (side, side) if side * side == count else (1, count)
        case _:
            columns = math.ceil(count / pictures.MOST_ROWS)
            return math.ceil(count / columns), columns


def beside(parts: list[Picture], gap: int = MARGIN) -> Picture:
    """Pictures side by side on a dark ground."""
    height, width = max(part.shape[0] for part in parts), sum(part.shape[1] for part in parts) + gap * (len(parts) - 1)
    whole = np.full((height, width, 3), DARK, np.uint8)
    left = 0
    for part in parts:
        whole[: part.shape[0], left : left + part.shape[1]] = part
        left += part.shape[1] + gap
    return whole


def above(parts: list[Picture], gap: int = MARGIN) -> Picture:
    """Pictures one above the other on a dark ground."""
    return beside([part.swapaxes(0, 1) for part in parts], gap).swapaxes(0, 1)


def compose(frame: Frame, header: bool = True, stacked: bool = False) -> Picture:
    """The panels side by side, or one above the other, with their names, below a header with the status; even sides."""
    named = [_named(one) for one in frame.panels] or [np.full((HEIGHT, HEIGHT, 3), DARK, np.uint8)]
    whole = above(named) if stacked else beside(named)
    parts = [_text(summary(frame.status), whole.shape[1], WHITE), whole] if header else [whole]
    picture: Picture = np.concatenate(parts)
    height, width = picture.shape[:2]
    picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)))
    return picture


def _named(one: Panel) -> Picture:
    picture = one.picture.repeat(one.zoom, 0).repeat(one.zoom, 1)
    width = max(picture.shape[1], int(LETTER * len(one.name)) + 4)
    return np.concatenate(
        [_text([one.name], width, GREY), np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0)))]
    )


@functools.cache
def _font() -> Any:
    return ImageFont.load_default(11)


def _text(entries: list[str], width: int, colour: tuple[int, int, int]) -> Picture:
    """Entries in columns, row after row; those that are too long end with dots."""
    columns = max(1, min(len(entries), width // COLUMN))
    canvas = Image.new("RGB", (width, LINE * math.ceil(len(entries) / columns) + 2), DARK)
    draw = ImageDraw.Draw(canvas)
    for index, entry in enumerate(entries):
        row, column = divmod(index, columns)
        place = 2 + column * width // columns, 1 + LINE * row
        draw.text(place, _shortened(entry, width // columns - 4), fill=colour, font=_font())
    return np.asarray(canvas)


def _shortened(entry: str, width: int) -> str:
    """The entry, or as much of its beginning as so many pixels hold."""
    if _font().getlength(entry) <= width:
        return entry
    kept = next((end for end in range(len(entry), 0, -1) if _font().getlength(f"{entry[:end]}..") <= width), 0)
    return f"{entry[:kept]}.."


def summary(status: dict[str, Any]) -> list[str]:
    """The header: always as many entries of a session's status, whatever there is to say."""

    def number(value: Any, digits: int = 2) -> str:
        return "-" if value is None else f"{value:.{digits}f}" if isinstance(value, float) else str(value)

    entries = [f"{label} {number(status[key])}" for key, label in HEADER.items() if key in status]
    if "predicted_reward" in status:
        predicted = f"{number(status['predicted_reward'])} {'end' if status['predicted_end'] else ''}"
        entries.append(f"predicted {predicted}".rstrip())
    if "memory_used" in status:
        used = "-" if status["memory_used"] is None else f"{status['memory_used']}/{status['memory']}"
        entries.append(f"memory {used}{' restarted' if status['restarted'] else ''}")
        entries.extend(f"{name} {number(value)}" for name, value in status["drift"].items())
    return entries


def drift(spec: EnvironmentSpec, real: Observation, imagined: Observation) -> dict[str, float]:
    """How far an imagined observation is from the real one: PSNR in decibels of pictures, mean distance of numbers,
    share of equal symbols."""
    measures: dict[str, float] = {}
    for name, one in spec.observation.items():
        error = real[name].astype(np.float64) - imagined[name]
        match one:
            case ImageSpec():
                squared = float((error**2).mean())
                measures[f"{name} PSNR"] = min(NO_ERROR, 10 * math.log10(255**2 / squared)) if squared else NO_ERROR
            case VectorSpec():
                measures[f"{name} distance"] = float(np.abs(error).mean())
            case _:
                measures[f"{name} equal"] = float((error == 0).mean())
    return measures
