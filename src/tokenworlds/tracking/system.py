"""Load of the machine during a run: sampled by a thread that never waits for the device."""

from __future__ import annotations

import statistics
import threading
from collections import defaultdict
from typing import Any

import psutil

_SECONDS = 10.0  # between samples
_MEGABYTE = 1e6
_PREFIX = "system/"  # MLflow shows such metrics on a page of their own, under the names that it gives its own ones
ENERGY = f"{_PREFIX}gpu_0_energy_joules"


class SystemMonitor:
    """Samples use of processors, memory and the GPU until ``close``.

    Args:
        gpu: the device's identifier as NVML knows it, ``GPU-<uuid>``; None without one. One that NVML does not know,
            or a machine without NVML, leaves the GPU out.
    """

    def __init__(self, gpu: str | None = None) -> None:
        self._gpu = _Gpu(gpu) if gpu else None
        self._samples: dict[str, list[float]] = defaultdict(list)
        self._lock = threading.Lock()
        self._is_closing = threading.Event()
        self._energy = self._gpu.energy() if self._gpu else None
        _machine()  # use of processors is of the time since the call before, of which this is the first
        self._thread = threading.Thread(target=self._run, name="system-monitor", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_closing.wait(_SECONDS):
            self._sample()

    def _sample(self) -> None:
        with self._lock:
            values = _machine() | (self._gpu.sample() if self._gpu else {})
            for name, value in values.items():
                self._samples[f"{_PREFIX}{name}"].append(value)

    def means(self) -> dict[str, float]:
        """Means since the last call, of at least one sample, and the energy that the GPU has taken since; without what
        the machine does not tell."""
        self._sample()
        with self._lock:
            means = {name: statistics.fmean(values) for name, values in self._samples.items()}
            self._samples.clear()
        before, self._energy = self._energy, self._gpu.energy() if self._gpu else None
        return means if before is None or self._energy is None else {**means, ENERGY: self._energy - before}

    def close(self) -> None:
        """Sample no more."""
        self._is_closing.set()
        self._thread.join()


def _machine() -> dict[str, float]:
    """Use of processors and memory; nothing where the system hides it, which must not stop the run."""
    try:
        return {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": psutil.virtual_memory().used / _MEGABYTE,
        }
    except (OSError, psutil.Error):
        return {}


class _Gpu:
    """Use of one GPU by all processes, from NVML, which asks the driver and not the device's queue."""

    def __init__(self, identifier: str) -> None:
        self._handle: Any = None
        try:
            import pynvml

            pynvml.nvmlInit()
            self._handle, self._nvml = pynvml.nvmlDeviceGetHandleByUUID(identifier), pynvml
        except Exception:  # no driver, another vendor's, or a part of a GPU: the run goes on without
            pass

    def sample(self) -> dict[str, float]:
        if self._handle is None:
            return {}
        try:
            return {
                "gpu_0_utilization_percentage": float(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu),
                "gpu_0_memory_usage_megabytes": self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used / _MEGABYTE,
            }
        except self._nvml.NVMLError:
            return {}

    def energy(self) -> float | None:
        """Joules since the driver was loaded; None where the GPU does not count them."""
        try:
            return None if self._handle is None else self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1000
        except self._nvml.NVMLError:
            return None
