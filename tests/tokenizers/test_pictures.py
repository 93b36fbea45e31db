"""Pictures of observations that are none."""

import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from tests import small
from tokenworlds.envs import EnvironmentSpec, GridSpec, TokenSpec, VectorSpec
from tokenworlds.envs.spec import DiscreteActions, ModalitySpec
from tokenworlds.tokenizers import pictures
from tokenworlds.tokenizers.observation import build
from tokenworlds.tokenizers.symbolic import GridTokenizer, TokenTokenizer
from tokenworlds.tokenizers.vector import VectorTokenizer

counts = st.integers(1, 40)
GRID = GridSpec(2, 3, (37, 5, 40, 20))


KINDS = {VectorSpec: VectorTokenizer, TokenSpec: TokenTokenizer, GridSpec: GridTokenizer}
vocabularies = st.lists(st.integers(1, 50), min_size=1, max_size=6).map(tuple)
specs = st.one_of(
    st.builds(VectorSpec, counts),
    st.builds(TokenSpec, counts, st.integers(1, 300)),
    st.builds(GridSpec, st.integers(1, 5), st.integers(1, 5), vocabularies),
)


@given(specs)
def test_every_observation_is_a_picture(spec: VectorSpec | TokenSpec | GridSpec) -> None:
    part = KINDS[type(spec)](spec)
    symbols = small.tokens(small.layout_of(x=(part.num_tokens, *part.vocab_sizes)), 3)
    drawn = part.render(part.decode(symbols))
    assert drawn.shape[:2] == (3, 3) and drawn.dtype == torch.float32
    assert drawn.min() >= 0 and drawn.max() <= 1


def painted(observations: Tensor) -> Tensor:
    return GridTokenizer(GRID).render(observations)


@given(st.integers(0, 5), st.integers(0, 3), st.integers(1, 36))
def test_another_symbol_in_a_cell_changes_this_cell_alone(cell: int, column: int, shift: int) -> None:
    size = GRID.vocab_sizes[column]
    assume(shift % size)
    before = small.tokens(small.layout_of(x=(6, *GRID.vocab_sizes)), 1).view(1, 6, 4).to(torch.uint8)
    after = before.clone()
    after[0, cell, column] = (int(before[0, cell, column]) + shift) % size
    differs = (painted(before) != painted(after)).any(dim=1)[0].unflatten(0, (2, -1)).unflatten(2, (3, -1))
    assert differs.any(dim=3).any(dim=1).flatten().nonzero().tolist() == [[cell]]


def test_the_first_symbol_is_the_ground_and_zeros_leave_no_marks() -> None:
    cells = torch.zeros(1, 6, 4, dtype=torch.uint8)
    cells[..., 0] = 7
    colours = painted(cells).flatten(2)
    assert torch.equal(colours, colours[..., :1].expand_as(colours))
    cells[0, 0, 2] = 3
    assert (painted(cells) != painted(cells)[..., -1:, -1:]).any(dim=1).sum() == 1


def test_bars_are_red_to_the_right_above_zero_and_blue_to_the_left_below() -> None:
    (height, width), third = pictures.BAR, pictures.LONGEST / 3
    numbers = torch.tensor([[-third, 0.0, third, 99.0]])
    drawn = pictures.bars(numbers)[0].unflatten(1, (4, height))[:, :, 0].permute(1, 2, 0)
    middle, length = width // 2, round(width // 2 / 3)
    colours = [[tuple(pixel.tolist()) for pixel in row] for row in drawn]
    red, blue = (tuple(torch.tensor(ends).tolist()) for ends in (pictures.RED, pictures.BLUE))
    assert [row.count(red) for row in colours] == [0, 0, length, middle]
    assert [row.count(blue) for row in colours] == [length, 0, 0, 0]
    assert colours[2].index(red) == middle + 1 and colours[0].index(blue) == middle - length


@given(counts)
def test_many_cells_stand_in_columns(count: int) -> None:
    colours = torch.rand(2, count, 3, generator=small.generator())
    height, width = pictures.CELL
    drawn = pictures.column(colours)[..., ::height, ::width]
    assert drawn.shape[2] <= pictures.MOST_ROWS
    assert torch.equal(drawn.transpose(2, 3).flatten(2)[..., :count], colours.transpose(1, 2))


def test_modalities_stand_side_by_side() -> None:
    modalities: dict[str, ModalitySpec] = {"grid": GRID, "vector": VectorSpec(20)}
    tokenizer = build(small.image_tokenizer_config(), EnvironmentSpec(modalities, DiscreteActions(3)))
    observations = tokenizer.decode(small.tokens(tokenizer.layout, 2))
    drawn, vector, grid = (
        tokenizer.render(observations),
        *(tokenizer.part(name).render(observations[name]) for name in ("vector", "grid")),
    )
    assert torch.equal(drawn[..., : vector.shape[3]], vector)
    assert torch.equal(drawn[..., : grid.shape[2], -grid.shape[3] :], grid)
    assert drawn[..., grid.shape[2] :, -grid.shape[3] - pictures.GAP :].min() == 1
