"""Number formats, determinism and the host's memory, set once at the start of a run."""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch

from tokenworlds.config import Precision, RuntimeConfig
from tokenworlds.config.ranges import check_ranges
from tokenworlds.errors import UserError


def autocast(precision: Precision, device: torch.device) -> Callable[[], AbstractContextManager[None]]:
    """Context of network arithmetic. Weights are cast anew in every operation: a cache of casts would go stale in a
    captured graph."""
    enabled = precision is Precision.bf16
    return partial(torch.autocast, device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=False)


def without_autocast(device: str) -> AbstractContextManager[object]:
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


@contextmanager
def without_tf32() -> Iterator[None]:
    """Convolutions of a GPU in float32; matrix products as before."""
    is_allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = is_allowed


def configure(precision: Precision, runtime: RuntimeConfig) -> torch.device:
    """The training device, after setting threads, the share of a GPU's memory, TF32 and deterministic mode.

    Raises:
        UserError: this machine has no such device.
    """
    device = find_device(runtime.device)
    if runtime.threads is not None:
        torch.set_num_threads(runtime.threads)
    if device.type == "cpu":
        keep_freed_memory()
    if device.type == "cuda" and runtime.gpu_share < 1:
        torch.cuda.set_per_process_memory_fraction(runtime.gpu_share, device.index)  # None: the current GPU
    enable_tf32(precision is not Precision.float32)
    torch.backends.cudnn.benchmark = not runtime.deterministic
    if runtime.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it matrix products on a GPU refuse
        torch.use_deterministic_algorithms(True)
    return device


def gpu_identifier(device: torch.device) -> str | None:
    """``GPU-<uuid>``, which names the GPU whatever ``CUDA_VISIBLE_DEVICES`` hides; None for another device."""
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}" if device.type == "cuda" else None


def find_device(name: str) -> torch.device:
    """The device of a name; ``auto`` is a GPU where there is one.

    Raises:
        UserError: no name of a device, or of none that this machine has.
    """
    check_ranges(RuntimeConfig(device=name), "runtime.")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= count:
        found = "1 GPU" if count == 1 else f"{count or 'no'} GPU{'s' if count else ''}"
        last = f" to cuda:{count - 1}" if count > 1 else ""
        remedy = f"cuda:0{last}, auto or cpu" if count else "auto or cpu, or install torch and a driver for it"
        raise UserError(f"device {name}: torch finds {found} here; choose {remedy}.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"device {name}: torch finds no GPU of Apple's here; choose auto or cpu.")
    return device


def enable_tf32(is_enabled: bool) -> None:
    """TF32 in matrix products and convolutions of a GPU."""
    torch.backends.cuda.matmul.allow_tf32 = is_enabled
    torch.backends.cudnn.allow_tf32 = is_enabled


# Parameters of glibc's mallopt, and the largest threshold that it takes
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
LARGEST_KEPT = 32 << 20


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks of up to 32 MB for the next tensors. By default it returns them to the system, whose
    fresh pages cost much of the time of the convolutions that fill them (benchmarks/results.md). No effect on other C
    libraries."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_TOP_PAD, 2 * LARGEST_KEPT)
