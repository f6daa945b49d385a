"""What a process uses: peak memory of host and GPU, and energy where the machine lets it be read. None elsewhere."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path
from typing import Any

_RAPL = Path("/sys/class/powercap")


def peak_memory() -> dict[str, float | None]:
    """Return the most MiB that this process ever held on the host, and on all its GPUs together through torch."""
    scale = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**20
    return {"host_mib": round(host, 1), "gpu_mib": _peak_gpu_mib()}


def _cuda() -> Any:
    """Return torch.cuda where the generator has brought it along and uses it; never load it for the question's sake."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    return cuda if cuda is not None and cuda.is_available() and cuda.is_initialized() else None


def _peak_gpu_mib() -> float | None:
    cuda = _cuda()
    if cuda is None:
        return None
    held: float = sum(cuda.max_memory_reserved(index) for index in range(cuda.device_count()))
    return round(held / 2**20, 1)


def gpu_names() -> list[str]:
    """Return the GPUs that torch uses in this process."""
    cuda = _cuda()
    return [] if cuda is None else [str(cuda.get_device_name(index)) for index in range(cuda.device_count())]


class EnergyMeter:
    """Joules since it was made: of the processor packages (RAPL) and of all GPUs (NVML), the whole machine's.

    Args:
        rapl: folder of the powercap interface. Reading it takes a right that many systems keep for root.
    """

    def __init__(self, rapl: Path = _RAPL) -> None:
        self._packages = [path for path in sorted(rapl.glob("intel-rapl:*")) if path.name.count(":") == 1]
        self._gpu = _Nvml.open()
        self._start = self._read()

    def _read(self) -> tuple[list[int] | None, float | None]:
        return _microjoules(self._packages), self._gpu.joules() if self._gpu else None

    def joules(self) -> dict[str, float | None]:
        """Return {"cpu_j", "gpu_j"}; None for what cannot be read."""
        (cpu_start, gpu_start), (cpu, gpu) = self._start, self._read()
        spent = None
        if cpu is not None and cpu_start is not None:
            spent = sum(map(_since, cpu_start, cpu, self._packages)) / 1e6
        return {"cpu_j": spent, "gpu_j": gpu - gpu_start if gpu is not None and gpu_start is not None else None}


def _microjoules(packages: list[Path]) -> list[int] | None:
    try:
        return [int((path / "energy_uj").read_text()) for path in packages] or None
    except (OSError, ValueError):
        return None


def _since(start: int, end: int, package: Path) -> int:
    """The counter begins again at its maximum, after minutes to hours."""
    if end >= start:
        return end - start
    try:
        return end - start + int((package / "max_energy_range_uj").read_text())
    except (OSError, ValueError):
        return 0


class _Nvml:
    """The driver's own energy counters, without a package of ours for it."""

    def __init__(self, library: Any, devices: list[Any]) -> None:
        self._library, self._devices = library, devices

    @classmethod
    def open(cls) -> _Nvml | None:
        try:
            library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return None
        if library.nvmlInit_v2() != 0:
            return None
        count = ctypes.c_uint()
        if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return None
        devices = []
        for index in range(count.value):
            device = ctypes.c_void_p()
            if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) == 0:
                devices.append(device)
        return cls(library, devices) if devices else None

    def joules(self) -> float | None:
        total = 0.0
        for device in self._devices:
            millijoules = ctypes.c_ulonglong()
            if self._library.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(millijoules)) != 0:
                return None
            total += millijoules.value / 1e3
        return total
