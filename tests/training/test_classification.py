"""F1 and average precision, against values worked out by hand and definitions written out."""

import pytest
import torch

from tests import small
from tokenworlds.training.classification import average_precision, f1, macro_f1


@pytest.mark.parametrize(
    ("predicted", "true", "expected"),
    [
        ([1, 0, -1, 0], [1, 0, -1, 0], 1.0),
        ([0, 0, 0, 0], [0, 0, 0, 1], (6 / 7 + 0) / 2),  # 2 x 3 / (2 x 3 + 1), and a class that is never predicted
        ([1, 1, 0, -1], [1, 0, 0, 0], (2 / 3 + 1 / 2 + 0) / 3),  # and one that never occurs
        ([0, 0], [0, 0], 1.0),
    ],
)
def test_macro_f1_is_the_mean_over_classes_that_were_predicted_or_occur(
    predicted: list[int], true: list[int], expected: float
) -> None:
    assert macro_f1(torch.tensor(predicted), torch.tensor(true)) == pytest.approx(expected)


def test_nothing_to_tell_has_no_score() -> None:
    nothing = torch.zeros(3, dtype=torch.bool)
    assert f1(nothing, nothing) is None and average_precision(torch.rand(3), nothing) is None
    assert macro_f1(torch.zeros(0), torch.zeros(0)) is None
    assert f1(~nothing, nothing) == 0.0


def precision_at(scores: list[float], true: list[bool], threshold: float) -> float:
    marked = [is_true for score, is_true in zip(scores, true) if score >= threshold]
    return sum(marked) / len(marked)


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_the_mean_precision_at_the_score_of_every_true_example(seed: int) -> None:
    """With ties: scores have one digit."""
    scores = (torch.rand(40, generator=small.generator(seed)) * 10).round() / 10
    true = torch.rand(40, generator=small.generator(seed + 9)) < 0.3
    pairs = scores.tolist(), true.tolist()
    expected = [precision_at(*pairs, score) for score, is_true in zip(*pairs) if is_true]
    assert average_precision(scores, true) == pytest.approx(sum(expected) / len(expected))


@pytest.mark.parametrize(
    ("scores", "expected"), [([0.9, 0.8, 0.1], 1.0), ([0.1, 0.2, 0.9], (1 / 2 + 2 / 3) / 2), ([0.5, 0.5, 0.5], 2 / 3)]
)
def test_average_precision_by_hand(scores: list[float], expected: float) -> None:
    assert average_precision(torch.tensor(scores), torch.tensor([True, True, False])) == pytest.approx(expected)
