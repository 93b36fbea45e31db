"""Where the tokens of several modalities, and the symbols in them, stand in a block."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenworlds.tokenizers.layout import ModalityTokens, TokenLayout

vocabularies = st.lists(st.integers(2, 40), min_size=1, max_size=4).map(tuple)
modalities = st.lists(st.tuples(st.integers(1, 6), vocabularies), min_size=1, max_size=4)
Modalities = list[tuple[int, tuple[int, ...]]]


def layout_of(modalities: Modalities, action_tokens: int = 1) -> TokenLayout:
    return TokenLayout(
        tuple(ModalityTokens(f"m{index}", *sizes) for index, sizes in enumerate(modalities)), action_tokens
    )


@given(modalities, st.integers(1, 3))
def test_slices_lie_side_by_side_in_the_order_of_the_modalities(modalities: Modalities, action_tokens: int) -> None:
    layout = layout_of(modalities, action_tokens)
    for slices, count in ((layout.slices, layout.num_tokens), (layout.symbols, layout.num_symbols)):
        indices = [index for where in slices.values() for index in range(where.start, where.stop)]
        assert indices == list(range(count))
        assert list(slices) == [modality.name for modality in layout.modalities]
    assert layout.block_size == layout.num_tokens + action_tokens


@given(modalities)
def test_a_token_has_a_symbol_a_column(modalities: Modalities) -> None:
    layout = layout_of(modalities)
    for modality in layout.modalities:
        where = layout.symbols[modality.name]
        assert where.stop - where.start == modality.count * len(modality.vocab_sizes)
        assert modality.vocab_size == sum(modality.vocab_sizes)


def test_a_token_is_the_same_with_all_of_its_symbols() -> None:
    layout = layout_of([(2, (9,)), (2, (9, 9))])
    one = torch.tensor([1, 2, 3, 4, 5, 6])
    for changed, expected in ((0, [0, 1, 1, 1]), (3, [1, 1, 0, 1]), (4, [1, 1, 1, 0])):
        other = one.clone()
        other[changed] = 8
        assert layout.agreement(one.expand(3, -1), other.expand(3, -1)).int().tolist() == [expected] * 3


@pytest.mark.parametrize(
    ("layout", "tokens", "symbols"),
    [
        (TokenLayout((ModalityTokens("image", 16, (512,)),)), 16, 16),
        (
            TokenLayout(
                (
                    ModalityTokens("vector", 47, (125,)),
                    ModalityTokens("token", 1, (4,)),
                    ModalityTokens("token_2d", 99, (37, 5, 40, 20)),
                )
            ),
            147,
            444,
        ),
    ],
    ids=["iris", "craftax"],
)
def test_published_layouts(layout: TokenLayout, tokens: int, symbols: int) -> None:
    assert (layout.num_tokens, layout.block_size, layout.num_symbols) == (tokens, tokens + 1, symbols)
