"""Tokens of real numbers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenworlds.config import Support, VectorTokenizerConfig
from tokenworlds.envs import VectorSpec
from tokenworlds.ops.symlog import symexp, symlog
from tokenworlds.tokenizers.vector import VectorTokenizer

numbers = st.floats(width=32, allow_nan=False)


def tokenizer(size: int) -> VectorTokenizer:
    return VectorTokenizer(VectorSpec(size))


def one(*values: float) -> torch.Tensor:
    """A vector as a batch."""
    return torch.tensor([values], dtype=torch.float32)


@given(st.lists(st.integers(0, 124), min_size=1, max_size=8))
def test_decoding_is_undone_by_encoding(tokens: list[int]) -> None:
    part, symbols = tokenizer(len(tokens)), torch.tensor([tokens])
    assert torch.equal(part.encode(part.decode(symbols)), symbols)


@given(numbers, numbers)
def test_a_larger_number_never_gets_a_smaller_token(a: float, b: float) -> None:
    low, high = tokenizer(2).encode(one(min(a, b), max(a, b)))[0].tolist()
    assert 0 <= low <= high <= 124


@given(numbers)
def test_the_value_is_the_nearest_of_all(x: float) -> None:
    part = tokenizer(1)
    distances = (symlog(one(x)) - part.support).abs()[0]
    token = part.encode(one(x)).item()
    assert distances[token] <= distances.min() + 1e-6


def test_ties_go_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenworlds.tokenizers.vector.symlog", lambda x: x)
    part = tokenizer(124)
    assert part.encode(part.mid_points[None])[0].tolist() == list(range(1, 125))
    below = torch.nextafter(part.mid_points, torch.tensor(-math.inf))
    assert part.encode(below[None])[0].tolist() == list(range(124))


def test_the_values() -> None:
    support = tokenizer(1).support
    assert len(support) == 125 and support[62] == 0 and support[-1] == 6
    assert torch.equal(support, -support.flip(0)) and bool((support.diff() > 0).all())
    assert support[62 + 31].item() == pytest.approx(math.log1p(math.pi))
    steps = support[62:].diff()
    torch.testing.assert_close(steps[:31], steps[:1].expand(31), rtol=0, atol=1e-6)
    torch.testing.assert_close(steps[31:], steps[-1:].expand(31), rtol=0, atol=1e-6)


def test_uniform_values() -> None:
    part = VectorTokenizer(VectorSpec(1), VectorTokenizerConfig(Support.uniform, count=129, limit=7.0))
    assert part.vocab_sizes == (129,) and part.support[64] == 0
    torch.testing.assert_close(part.support, (torch.arange(129) - 64) * (7 / 64))
    assert part.encode(one(0.0, symexp(torch.tensor(-9.0)).item()))[0].tolist() == [64, 0]


def test_codes_are_values_in_symlog() -> None:
    part = tokenizer(3)
    symbols = torch.tensor([[0, 62, 100]])
    assert torch.equal(part.codes(symbols)[0], part.support[[0, 62, 100]])
    assert torch.equal(part.decode(symbols), symexp(part.codes(symbols)))
