"""The estimate of what is left: exact where costs are constant, unknown while something has not been measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworlds.training.progress import Forecast, Work

EPOCHS = st.integers(1, 40)


@st.composite
def schedules(draw: st.DrawFn) -> tuple[int, dict[str, list[int]], dict[str, float]]:
    """Epochs, units of every kind of work in each of them and at publication, seconds a unit."""
    epochs = draw(EPOCHS)
    work, costs = {}, {}
    for name in draw(st.lists(st.sampled_from("abcdef"), unique=True, min_size=1)):
        start, stop = draw(st.integers(0, epochs)), draw(st.integers(0, epochs + 3))
        every, first, later = draw(st.integers(1, 7)), draw(st.integers(0, 9)), draw(st.integers(1, 9))
        work[name] = [
            (first if epoch == 1 else later) if start < epoch <= stop and epoch % every == 0 else 0
            for epoch in range(1, epochs + 2)
        ]
        costs[name] = draw(st.floats(0.01, 100))
    return epochs, work, costs


def forecast(epochs: int, work: dict[str, list[int]]) -> Forecast:
    return Forecast({name: Work(lambda epoch, of=of: of[epoch - 1]) for name, of in work.items()}, epochs)


@given(schedules(), EPOCHS)
def test_for_constant_costs_the_estimate_is_what_will_be_taken(
    schedule: tuple[int, dict[str, list[int]], dict[str, float]], interrupted: int
) -> None:
    epochs, work, costs = schedule
    estimate = forecast(epochs, work)
    for epoch in range(1, epochs + 1):
        if epoch == interrupted:  # a resumed run has the measurements of its checkpoint
            estimate = Forecast(estimate._work, epochs, {name: list(of) for name, of in estimate.measured.items()})
        for name, of in work.items():
            estimate.record(name, costs[name] * of[epoch - 1], of[epoch - 1])
        seen = {name for name, of in work.items() if any(of[:epoch])}
        coming = {name for name, of in work.items() if any(of[epoch:epochs])}
        expected = sum(costs[name] * sum(of[epoch:]) for name, of in work.items() if name in seen)
        left = estimate.left(epoch)
        if coming <= seen:
            assert left == pytest.approx(expected) and estimate.unknown_until(epoch) is None
            continue
        until = estimate.unknown_until(epoch)
        assert left is None and until is not None and epoch < until <= epochs
        assert estimate.describe(epoch) == f"left unknown until epoch {until}"
        first = {name: next(e for e in range(1, epochs + 1) if work[name][e - 1]) for name in coming - seen}
        assert until == max(first.values())


def iris() -> Forecast:
    """The published schedule: 600 epochs, components that start after 5, 25 and 50 of them."""
    starts = {"tokenizer": 5, "world_model": 25, "actor_critic": 50}
    work = {name: Work(lambda epoch, start=start: 200 * (start < epoch <= 600)) for name, start in starts.items()}
    return Forecast({"collection": Work(lambda epoch: 200 * (epoch <= 500)), **work}, 600)


def test_a_component_that_starts_later_is_waited_for() -> None:
    estimate = iris()
    for epoch in range(1, 52):
        estimate.record("collection", 2.0, 200)
        for name, start, seconds in (("tokenizer", 5, 30.0), ("world_model", 25, 40.0), ("actor_critic", 50, 600.0)):
            if epoch > start:
                estimate.record(name, seconds, 200)
        assert estimate.describe(epoch).startswith("left unknown until epoch 51") == (epoch < 51)
    assert estimate.left(51) == pytest.approx(449 * 2 + 549 * 670)
    assert estimate.describe(51) == "left 4d06h"


def test_what_needs_no_estimate_is_not_waited_for() -> None:
    estimate = Forecast({"checkpoint": Work(lambda epoch: epoch == 9, is_awaited=False)}, 9)
    assert estimate.left(1) == 0


def test_a_machine_that_becomes_slower_is_noticed() -> None:
    estimate = Forecast({"updates": Work(lambda epoch: epoch <= 100)}, 100)
    for epoch in range(1, 51):
        estimate.record("updates", 1.0 if epoch <= 25 else 3.0, 1)
    assert estimate.left(50) == pytest.approx(150, rel=0.01)
