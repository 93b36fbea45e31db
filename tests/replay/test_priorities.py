"""The tree of priorities against sums over everything, and its draws against the probabilities of all outcomes."""

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests import small
from tests.synchronisation import without_synchronisation
from tokenworlds.replay import PriorityTree

values = st.floats(-1000, 1000) | st.just(-math.inf)


def tree_of(log_weights: Tensor, branching: int = 2) -> PriorityTree:
    tree = PriorityTree(small.CPU, branching)
    tree.reserve(len(log_weights))
    tree.update(torch.arange(len(log_weights)), log_weights)
    return tree


def assert_sums(tree: PriorityTree, expected: Tensor) -> None:
    """Every node is the sum of what is below it."""
    nodes = torch.full_like(tree.leaves, -math.inf)
    nodes[: len(expected)] = expected
    for level in tree._levels:
        torch.testing.assert_close(level, nodes, rtol=1e-12, atol=1e-12)
        nodes = nodes.view(-1, min(len(nodes), tree._branching)).logsumexp(1)
    assert len(tree._levels[-1]) <= tree._branching
    torch.testing.assert_close(tree.total, expected.logsumexp(0), rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), branching=st.integers(2, 5), sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4))
def test_nodes_are_sums_however_the_tree_is_updated_and_grows(
    data: st.DataObject, branching: int, sizes: list[int]
) -> None:
    tree, expected = PriorityTree(small.CPU, branching), torch.zeros(0, dtype=torch.float64)
    for size in sizes:
        tree.reserve(size)
        expected = torch.cat([expected, torch.full((max(0, size - len(expected)),), -math.inf, dtype=torch.float64)])
        chosen = data.draw(st.lists(st.integers(0, len(expected) - 1), unique=True, min_size=1))
        drawn = torch.tensor([data.draw(values) for _ in chosen], dtype=torch.float64)
        tree.update(torch.tensor(chosen), drawn)
        expected[chosen] = drawn
        assert_sums(tree, expected)


def test_of_an_item_that_occurs_several_times_the_largest_value_holds() -> None:
    tree = tree_of(torch.tensor([5.0, 5.0, 5.0]))
    tree.update(torch.tensor([1, 2, 1, 1]), torch.tensor([0.5, 3.0, 2.0, -1.0]))
    assert tree.leaves[:3].tolist() == [5.0, 2.0, 3.0]
    assert_sums(tree, torch.tensor([5.0, 2.0, 3.0], dtype=torch.float64))


def chi_square_holds(counts: Counter[tuple[int, ...]], chances: dict[tuple[int, ...], float]) -> bool:
    """Within about five standard deviations of the statistic (the seeds are fixed)."""
    draws = sum(counts.values())
    assert set(counts) <= set(chances) and abs(sum(chances.values()) - 1) < 1e-9
    statistic = sum((counts[key] - draws * chance) ** 2 / (draws * chance) for key, chance in chances.items())
    freedom = len(chances) - 1
    return statistic < freedom + 5 * math.sqrt(2 * freedom)


def sequences(weights: list[float], count: int) -> dict[tuple[int, ...], float]:
    """The probabilities of all ordered draws without replacement."""
    chances = {}
    for order in itertools.permutations([i for i, weight in enumerate(weights) if weight > 0], count):
        left, chances[order] = sum(weights), 1.0
        for item in order:
            chances[order] *= weights[item] / left
            left -= weights[item]
    return chances


@pytest.mark.parametrize("branching", [2, 3, 8])
@pytest.mark.parametrize("count", [1, 3])
def test_draws_are_sequential_without_replacement(branching: int, count: int) -> None:
    """Items without a weight, and whole subtrees of them, are never drawn."""
    weights = [4.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 1.5, 0.5]
    tree, draws = tree_of(torch.tensor(weights).log(), branching), small.generator(branching)
    counts = Counter(tuple(tree.sample(count, draws).tolist()) for _ in range(1000))
    assert chi_square_holds(counts, sequences(weights, count))


def test_draws_of_a_large_tree_follow_the_softmax() -> None:
    priorities = 3 * torch.randn(1000, generator=small.generator(1), dtype=torch.float64)
    priorities[::7] = -math.inf
    tree, draws = tree_of(priorities, branching=6), small.generator(2)
    counts = torch.zeros(1000)
    for _ in range(1000):
        counts[tree.sample(1, draws)] += 1
    expected = 1000 * priorities.softmax(0)
    assert ((counts - expected).abs() <= 5 * expected.sqrt() + 3).all() and not counts[::7].any()


@settings(deadline=None, max_examples=40)
@given(
    priorities=st.lists(values, min_size=1, max_size=40),
    branching=st.integers(2, 5),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_draws_are_distinct_items_that_are_there(
    priorities: list[float], branching: int, share: float, seed: int
) -> None:
    """Whatever their weights: log-weights far from each other and from zero."""
    tree = tree_of(torch.tensor(priorities, dtype=torch.float64), branching)
    there = {index for index, value in enumerate(priorities) if value > -math.inf}
    count = round(share * len(there))
    found = tree.sample(count, small.generator(seed)).tolist()
    assert len(set(found)) == len(found) == count and set(found) <= there


def test_the_heaviest_items_are_drawn_in_their_order() -> None:
    priorities = torch.arange(300, dtype=torch.float64) * 1e4
    assert tree_of(priorities, 4).sample(5, small.generator()).tolist() == [299, 298, 297, 296, 295]


def test_a_generator_decides_the_draw() -> None:
    tree = tree_of(torch.zeros(500), 4)
    first, again, other = (tree.sample(9, small.generator(seed)).tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_the_tree_waits_for_nothing() -> None:
    tree, draws = tree_of(torch.zeros(500), 4), small.generator()
    with without_synchronisation():
        items = tree.sample(9, draws)
        tree.update(items, torch.rand(9, generator=draws))
        assert tree.sample(3, draws).shape == (3,)
