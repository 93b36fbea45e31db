"""Where the tokens of several modalities stand in a block."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tokenworlds.tokenizers import ModalityTokens, TokenLayout

counts_of_modalities = st.lists(st.integers(1, 6), min_size=1, max_size=4)


def layout_of(counts: list[int]) -> TokenLayout:
    return TokenLayout(tuple(ModalityTokens(f"m{index}", count, 8) for index, count in enumerate(counts)))


@given(counts_of_modalities)
def test_slices_lie_side_by_side_in_the_order_of_the_modalities(counts: list[int]) -> None:
    layout = layout_of(counts)
    indices = [index for where in layout.slices.values() for index in range(where.start, where.stop)]
    assert indices == list(range(layout.num_tokens))
    assert list(layout.slices) == [modality.name for modality in layout.modalities]
    assert layout.block_size == layout.num_tokens + 1


@given(counts_of_modalities)
def test_modality_of_is_the_inverse_of_slices(counts: list[int]) -> None:
    layout = layout_of(counts)
    for name, where in layout.slices.items():
        assert {layout.modality_of(index) for index in range(where.start, where.stop)} == {name}


def test_the_published_layout() -> None:
    layout = TokenLayout((ModalityTokens("image", 16, 512),))
    assert layout.block_size == 17
    assert layout.slices == {"image": slice(0, 16)}
