"""Number formats, determinism and the host's memory, set once at the start of a run."""

import ctypes
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import torch

from tokenworlds.config import Precision, RuntimeConfig


def autocast(precision: Precision, device: torch.device) -> Callable[[], AbstractContextManager[None]]:
    """Context of network arithmetic. Weights are cast anew in every operation: a cache of casts would go stale in a
    captured graph."""
    enabled = precision is Precision.bf16
    return partial(torch.autocast, device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=False)


def configure(precision: Precision, runtime: RuntimeConfig) -> torch.device:
    """The training device, after setting threads, TF32 and deterministic mode."""
    if runtime.threads is not None:
        torch.set_num_threads(runtime.threads)
    device = (
        torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if runtime.device == "auto"
        else torch.device(runtime.device)
    )
    if device.type == "cpu":
        keep_freed_memory()
    enable_tf32(precision is not Precision.float32)
    torch.backends.cudnn.benchmark = not runtime.deterministic
    if runtime.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it matrix products on a GPU refuse
        torch.use_deterministic_algorithms(True)
    return device


def enable_tf32(is_enabled: bool) -> None:
    """TF32 in matrix products and convolutions of a GPU."""
    torch.backends.cuda.matmul.allow_tf32 = is_enabled
    torch.backends.cudnn.allow_tf32 = is_enabled


# Of glibc: parameters of mallopt, the largest threshold that it takes.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
LARGEST_KEPT = 32 << 20


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks of up to 32 MB for the next tensors. By default it hands them back, and pages that
    come fresh from the system cost a CPU much of what the convolutions that fill them do (benchmarks/results.md). Other
    C libraries are left alone."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_TOP_PAD, 2 * LARGEST_KEPT)
