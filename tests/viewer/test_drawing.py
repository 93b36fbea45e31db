"""Pictures that a session is shown with."""

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
    status |= {"memory_used": None, "memory": 5, "restarted": False, "drift": None}
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
    assert "drift image PSNR 30.0" in drawing.summary(later) and "memory 3/5 restarted" in drawing.summary(later)
