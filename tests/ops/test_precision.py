"""What is set once at the start of a run."""

import ctypes

import pytest
import torch

from tokenworlds.config import Precision, RuntimeConfig
from tokenworlds.errors import UserError
from tokenworlds.ops import precision


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


@pytest.mark.parametrize(("name", "share", "asked"), [
    ("cuda", 0.5, [(0.5, None)]), ("cuda:1", 0.25, [(0.25, 1)]), ("cuda", 1.0, []), ("cpu", 0.5, []),
])  # fmt: skip
def test_a_run_takes_no_more_than_its_share_of_a_gpu(
    name: str, share: float, asked: list[tuple[float, int | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[float, int | None]] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *values: given.append(values))
    monkeypatch.setattr(precision, "find_device", torch.device)
    for setting in ("enable_tf32", "keep_freed_memory"):
        monkeypatch.setattr(precision, setting, lambda *_: None)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    precision.configure(Precision.float32, RuntimeConfig(device=name, gpu_share=share))
    assert given == asked


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    precision.keep_freed_memory()


@pytest.mark.parametrize(
    ("count", "name", "expected"),
    [
        (0, "cuda", "device cuda: torch finds no GPU here; choose auto or cpu"),
        (0, "cuda:1", "torch finds no GPU here"),
        (1, "cuda:1", "device cuda:1: torch finds 1 GPU here; choose cuda:0, auto or cpu"),
        (2, "cuda:99", "device cuda:99: torch finds 2 GPUs here; choose cuda:0 to cuda:1, auto or cpu"),
        (0, "mps", "device mps: torch finds no GPU of Apple's here"),
        (0, "gpu", "device must be auto, cpu, cuda, cuda:N or mps, not gpu"),
        (0, "tpu", "device must be auto, cpu, cuda, cuda:N or mps, not tpu"),
        (0, "", "device must be auto"),
    ],
)
def test_a_device_that_is_not_there_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, count: int, name: str, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=expected):
        precision.find_device(name)


def test_devices_that_are_there_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert precision.find_device("cpu").type == "cpu"
    for count, chosen in ((0, "cpu"), (2, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda count=count: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        assert precision.find_device("auto").type == chosen
    assert precision.find_device("cuda:1") == torch.device("cuda", 1)
