"""Categories and maps, which are symbols already."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import small
from tokenworlds.envs import GridSpec, TokenSpec
from tokenworlds.tokenizers.symbolic import GridTokenizer, TokenTokenizer

SIZES = st.integers(1, 5)
vocabularies = st.lists(st.integers(1, 300), min_size=1, max_size=5).map(tuple)
grids = st.builds(GridSpec, SIZES, SIZES, vocabularies)
categories = st.builds(TokenSpec, SIZES, st.integers(1, 300))


@given(categories)
def test_categories_are_their_tokens(spec: TokenSpec) -> None:
    part = TokenTokenizer(spec)
    symbols = small.tokens(small.layout_of(token=(spec.count, spec.vocab_size)), 3)
    stored = torch.from_numpy(part.decode(symbols).numpy().astype(spec.dtype))
    assert stored.shape == (3, *spec.shape)
    assert torch.equal(part.encode(stored), symbols) and torch.equal(part.codes(symbols), symbols)
    assert (part.num_tokens, part.vocab_sizes) == (spec.count, (spec.vocab_size,))


@given(grids)
def test_cells_are_tokens_with_a_symbol_a_column(spec: GridSpec) -> None:
    part = GridTokenizer(spec)
    symbols = small.tokens(small.layout_of(token_2d=(spec.height * spec.width, *spec.vocab_sizes)), 3)
    seen = part.decode(symbols)
    assert seen.shape == (3, *spec.shape)
    assert torch.equal(part.encode(torch.from_numpy(seen.numpy().astype(spec.dtype))), symbols) and torch.equal(
        part.codes(symbols), seen
    )
    assert torch.equal(seen[:, 0], symbols[:, : len(spec.vocab_sizes)])  # a cell's symbols stand together
    assert part.vocab_sizes == spec.vocab_sizes
