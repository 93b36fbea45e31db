"""Costs of work in instructions or in seconds of processor time."""

import time

import pytest

from benchmarks import counters


def work() -> int:
    return sum(range(3_000_000))


def test_the_kernels_counters_count_this_process_alone() -> None:
    """By the clock of its work in nanoseconds, which virtual machines count, too."""
    count = counters.events(counters.SOFTWARE, counters.TASK_CLOCK)
    if count is None:
        pytest.skip("this system lets no program count its events")
    before, processor = count(), time.process_time()
    work()
    time.sleep(0.2)
    assert count() - before == pytest.approx(1e9 * (time.process_time() - processor), rel=0.3)


def test_where_no_instructions_are_counted_processor_time_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "events", lambda kind, event: None)
    unit, count = counters.counter()
    before = count()
    work()
    assert unit == "CPU s" and count() > before


def test_an_event_that_does_not_exist_is_not_counted() -> None:
    assert counters.events(999_999, 0) is None
