"""Use of processors, memory and GPU, sampled beside a training."""

import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from tokenworlds.tracking import system
from tokenworlds.tracking.system import SystemMonitor

MACHINE = {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"}
GPU = {"system/gpu_0_utilization_percentage", "system/gpu_0_memory_usage_megabytes", system.ENERGY}


class FakeNvml(SimpleNamespace):
    """The part of pynvml that is used, for one GPU whose load rises by ten with every sample."""

    NVMLError = RuntimeError

    def __init__(self) -> None:
        super().__init__(samples=0, millijoules=7_000_000)

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByUUID(self, identifier: str) -> str:
        if identifier != "GPU-1":
            raise self.NVMLError("not found")
        return identifier

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        self.samples += 1
        return SimpleNamespace(gpu=10 * self.samples)

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        return SimpleNamespace(used=3_000_000)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        """Since the driver was loaded."""
        self.millijoules += 5_000
        return self.millijoules


def test_means_are_of_the_samples_since_the_last_call(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(system, "_SECONDS", 0.01)
    monitor = SystemMonitor("GPU-1")
    while nvml.samples < 3:
        time.sleep(0.01)
    monitor.close()
    before = nvml.samples
    means = monitor.means()
    assert means.keys() == MACHINE | GPU
    assert means["system/gpu_0_utilization_percentage"] == pytest.approx(5 * (before + 2))
    assert means["system/gpu_0_memory_usage_megabytes"] == 3 and means[system.ENERGY] == 5.0
    assert 0 <= means["system/cpu_utilization_percentage"] <= 100 and means["system/system_memory_usage_megabytes"] > 10
    assert monitor.means()["system/gpu_0_utilization_percentage"] == 10 * (before + 2)


def test_a_gpu_that_does_not_count_its_energy_has_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old(FakeNvml):
        def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
            raise self.NVMLError("not supported")

    monkeypatch.setitem(sys.modules, "pynvml", Old())
    monitor = SystemMonitor("GPU-1")
    assert monitor.means().keys() == MACHINE | GPU - {system.ENERGY}
    monitor.close()


@pytest.mark.parametrize("gpu", [None, "GPU-unknown"])
def test_a_machine_without_a_known_gpu_has_the_rest(gpu: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    monitor = SystemMonitor(gpu)
    assert monitor.means().keys() == MACHINE
    monitor.close()


def test_a_machine_that_hides_its_use_stops_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden() -> float:
        raise PermissionError("/proc/stat")

    monkeypatch.setattr(system.psutil, "cpu_percent", hidden)
    monitor = SystemMonitor()
    assert monitor.means() == {}
    monitor.close()
