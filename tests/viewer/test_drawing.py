"""Pictures that a session is shown with."""

from typing import Any

import numpy as np
import pytest

from tokenworlds.viewer import drawing
from tokenworlds.viewer.frame import Frame, Panel


def cells(picture: drawing.Picture, rows: int, columns: int) -> drawing.Picture:
    """(rows * columns, CELL, CELL, 3)."""
    parts = picture.reshape(rows, drawing.CELL, columns, drawing.CELL, 3).swapaxes(1, 2)
    return parts.reshape(-1, drawing.CELL, drawing.CELL, 3)


@pytest.mark.parametrize("symbols", [1, 3])
def test_tokens_that_have_changed_are_bright_and_framed(symbols: int) -> None:
    before = np.arange(6 * symbols).reshape(6, symbols)
    tokens = before.copy()
    tokens[4, -1] += 50
    still, changed = (cells(drawing.token_grid(tokens, old, (2, 3)), 2, 3) for old in (None, before))
    is_framed = (changed[:, 0, 0] == drawing.WHITE).all(axis=1)
    assert np.flatnonzero(is_framed).tolist() == [4]
    assert (changed[4, 3, 3] > still[4, 3, 3]).any()
    assert np.array_equal(np.delete(changed, 4, axis=0), np.delete(still, 4, axis=0))


def test_composed_pictures_have_even_sides_and_one_size() -> None:
    panels = (Panel("a", np.full((5, 7, 3), 200, np.uint8), 3), Panel("imagined", np.zeros((9, 1, 3), np.uint8)))
    status = {"world": "both", "step": 1, "value": 0.5, "predicted_reward": None, "predicted_end": None}
    status |= {"memory_used": None, "memory": 5, "restarted": False, "drift": {"image PSNR": None}}
    later = status | {"step": 123, "predicted_reward": 1.0, "predicted_end": True, "memory_used": 3, "restarted": True}
    later |= {"drift": {"image PSNR": 30.0}}
    whole, after, bare = (
        drawing.compose(Frame(panels, given), header)
        for given, header in ((status, True), (later, True), (status, False))
    )
    assert whole.shape == after.shape and whole.shape[0] % 2 == whole.shape[1] % 2 == 0
    assert not np.array_equal(whole, after) and bare.shape[0] < whole.shape[0]
    assert (bare == 200).all(axis=2).sum() == 15 * 21
    stacked = drawing.compose(Frame(panels, status), header=False, stacked=True)
    assert stacked.shape[0] > bare.shape[0] and stacked.shape[1] < bare.shape[1]
    assert (stacked == 200).all(axis=2).sum() == 15 * 21
    assert "image PSNR 30.00" in drawing.summary(later) and "memory 3/5 restarted" in drawing.summary(later)


@pytest.mark.parametrize("width", [90, 256, 400])
def test_long_entries_of_the_header_stay_in_their_columns(width: int) -> None:
    """Also the last ones of a row, where nothing else is."""
    panel = Panel("a", np.zeros((8, width, 3), np.uint8))
    status: dict[str, Any] = {"action_label": "+0.33 " * 20, "file": "recording" * 20, "kind": "recording", "step": 0}
    for left_out in ({}, {"kind"}, {"kind", "step"}):
        given = {name: value for name, value in status.items() if name not in left_out}
        header = drawing.compose(Frame((panel,), given))[: -8 - drawing.LINE - 2]
        columns = max(1, min(len(given), width // drawing.COLUMN))
        for column in range(1, columns + 1):
            border = column * width // columns
            assert (header[:, border - 2 : border] == drawing.DARK).all()
        assert (header != drawing.DARK).any()


@pytest.mark.parametrize("entry", ["step 3", "action +0.10 -0.20", "file episode_00000.npz"])
def test_entries_that_fit_are_whole(entry: str) -> None:
    assert drawing._shortened(entry, 150) == entry
    assert drawing._shortened(entry * 9, 150).endswith("..") and len(drawing._shortened(entry * 9, 150)) > 18
