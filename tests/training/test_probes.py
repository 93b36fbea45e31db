"""Linear probes: exact where targets are linear, and nothing where they are not."""

import pytest
import torch
from torch import Tensor

from tests import small
from tokenworlds.training import probes

FITTED, TESTED, FEATURES = 40, 30, 200


def examples() -> tuple[Tensor, Tensor, Tensor]:
    """Features of five factors, these, and features of none."""
    draws = small.generator()
    factors = torch.randn(FITTED + TESTED, 5, generator=draws)
    features = factors @ torch.randn(5, FEATURES, generator=draws)
    return features, factors, torch.randn(FITTED + TESTED, FEATURES, generator=draws)


def test_linear_targets_are_explained_and_told_apart_without_a_rest() -> None:
    features, factors, noise = examples()
    targets = factors @ torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0]) + 7
    for inputs, expected in ((features, 1.0), (noise, 0.0)):
        found = probes.explained(inputs[:FITTED], targets[:FITTED], inputs[FITTED:], targets[FITTED:])
        assert found == pytest.approx(expected, abs=1e-6 if expected else 0.2)
    labels = torch.randint(0, 3, (FITTED + TESTED,), generator=small.generator()) - 1
    centres = torch.randn(3, FEATURES, generator=small.generator(1))[labels + 1] + 0.05 * noise
    assert probes.told_apart(centres[:FITTED], labels[:FITTED], centres[FITTED:], labels[FITTED:]) == 1.0
    found = probes.told_apart(noise[:FITTED], labels[:FITTED], noise[FITTED:], labels[FITTED:])
    assert found is not None and found < 0.6


@pytest.mark.parametrize("strength", [1e-6, 1e-3, 1.0, 50.0])
@pytest.mark.parametrize("count", [6, 60])
def test_the_penalty_is_chosen_by_the_errors_of_fits_without_each_example(strength: float, count: int) -> None:
    """More features than examples, and fewer."""
    draws = small.generator()
    x, y = torch.randn(20, count, generator=draws).double(), torch.randn(20, generator=draws).double()
    x = x - x.mean(dim=0)
    errors = torch.zeros(())
    for left in range(20):
        others = torch.arange(20) != left
        mean, middle = x[others].mean(dim=0), y[others].mean()
        kernel = (x[others] - mean) @ (x[others] - mean).T + strength * torch.eye(19)
        weights = (x[others] - mean).T @ torch.linalg.solve(kernel, y[others] - middle)
        errors = errors + (y[left] - middle - (x[left] - mean) @ weights).square()
    values, vectors = probes._spectrum(x)
    rotated = (vectors.T @ (y - y.mean())) / (values + strength)
    penalty = torch.tensor(strength, dtype=torch.float64)
    found = probes._left_out((vectors @ rotated).unsqueeze(1), penalty, values, vectors)
    assert float(found) == pytest.approx(float(errors), rel=1e-6)


@pytest.mark.parametrize("part", ["fitted", "tested"])
def test_equal_targets_have_no_score(part: str) -> None:
    features, factors, _ = examples()
    targets = factors[:, 0].clone()
    targets[slice(None, FITTED) if part == "fitted" else slice(FITTED, None)] = 1.0
    given = (features[:FITTED], targets[:FITTED], features[FITTED:], targets[FITTED:])
    assert (
        probes.explained(*given) is None and probes.told_apart(given[0], given[1] > 0, given[2], given[3] > 0) is None
    )
