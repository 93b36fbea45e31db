"""Where the tokens of several modalities stand in a block, and which output predicts which."""

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
def test_every_position_but_the_last_observation_token_predicts_one_token(counts: list[int]) -> None:
    layout = layout_of(counts)
    positions = [p for modality in layout.modalities for p in layout.predicting_positions(modality.name)]
    assert len(positions) == len(set(positions)) == layout.num_tokens
    assert set(range(layout.block_size)) - set(positions) == {layout.num_tokens - 1}


@given(counts_of_modalities)
def test_a_position_predicts_the_token_after_it_and_the_action_the_first(counts: list[int]) -> None:
    layout = layout_of(counts)
    for token in range(layout.num_tokens):
        before = layout.num_tokens if token == 0 else token - 1
        assert before in layout.predicting_positions(layout.modality_of(token))


@given(counts_of_modalities)
def test_modality_of_is_the_inverse_of_slices(counts: list[int]) -> None:
    layout = layout_of(counts)
    for name, where in layout.slices.items():
        assert {layout.modality_of(index) for index in range(where.start, where.stop)} == {name}


def test_the_published_layout() -> None:
    layout = TokenLayout((ModalityTokens("image", 16, 512),))
    assert layout.block_size == 17
    assert layout.predicting_positions("image") == frozenset({*range(15), 16})
