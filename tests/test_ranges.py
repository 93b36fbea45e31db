"""Ranges of settings: what is refused, in which words."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest

from tokenworlds.config.ranges import (
    check_ranges,
    dropout,
    integer,
    integers,
    number,
    one_of,
    positive,
    probability,
    text,
)
from tokenworlds.errors import UserError


@dataclass
class Inner:
    rate: float = positive(1, default=0.1)
    drop: float = dropout(default=0.0)


@dataclass
class Settings:
    count: int = integer(1, 1000, default=1)
    limit: int | None = integer(0, 10, default=None)
    share: float = probability(default=0.5)
    weight: float = number(0, 2.5, default=1.0)
    widths: list[int] = integers(1, 64, longest=3, default=[1])
    device: str = one_of("cpu|cuda", "cpu or cuda", default="cpu")
    place: str | None = text("any folder", default=None)
    inner: Inner = dataclasses.field(default_factory=Inner)


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"count": 0}, "count must be at least 1, not 0."),
        ({"count": 1001}, "count must be at most 1,000, not 1001."),
        ({"count": 10**400}, f"count must be at most 1,000, not 1{'0' * 36}...."),
        ({"count": 10**5000}, "count must be at most 1,000, not a number of thousands of digits."),
        ({"limit": -1}, "limit must be at least 0, not -1."),
        ({"share": 1.5}, "share must be at most 1, not 1.5."),
        ({"share": float("nan")}, "share must be a finite number, not nan."),
        ({"weight": float("inf")}, "weight must be a finite number, not inf."),
        ({"weight": 2.6}, "weight must be at most 2.5, not 2.6."),
        ({"widths": [1, 0]}, "widths[1] must be at least 1, not 0."),
        ({"widths": [1] * 4}, "widths must have at most 3 elements, not 4."),
        ({"device": "gpu"}, "device must be cpu or cuda, not gpu."),
        ({"place": ""}, "place must be one line of 1 to 4096 characters, not ''."),
        ({"place": "a\nb"}, "place must be one line of 1 to 4096 characters, not 'a\\nb'."),
        ({"place": "${a}"}, "place is ${a}, but nothing is put in place of ${...}: write the value itself."),
        ({"inner": Inner(rate=0)}, "inner.rate must be above 0, not 0."),
        ({"inner": Inner(drop=1)}, "inner.drop must be below 1, not 1."),
    ],
)
def test_a_value_out_of_range_is_named_with_its_bound(values: dict[str, Any], fault: str) -> None:
    with pytest.raises(UserError) as caught:
        check_ranges(Settings(**values))
    assert str(caught.value) == f"configuration: {fault}"


def test_bounds_belong_to_the_range_unless_they_are_open() -> None:
    check_ranges(Settings(count=1000, limit=0, share=1, weight=0, widths=[], inner=Inner(rate=1, drop=0)))
    check_ranges(Settings(limit=None, place="a b"))
