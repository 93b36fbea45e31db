"""What is set once at the start of a run."""

import ctypes

import pytest

from tokenworlds.training import precision


class Library:
    """A C library that writes down what it is asked for."""

    def __init__(self) -> None:
        self.asked: dict[int, int] = {}

    def mallopt(self, parameter: int, value: int) -> int:
        self.asked[parameter] = value
        return 1


def test_freed_blocks_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    precision.keep_freed_memory()
    assert library.asked[precision.M_MMAP_THRESHOLD] == 32 << 20
    assert library.asked[precision.M_TRIM_THRESHOLD] >= 1 << 30


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    precision.keep_freed_memory()
