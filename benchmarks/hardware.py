"""What figures were measured on, how fast it can multiply, and how much memory a step took."""

from __future__ import annotations

import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch


def hardware(device: torch.device) -> str:
    """The device's name, and for a CPU how many threads PyTorch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = names[0].partition(": ")[2] if names else name
    bf16 = " with bf16 units" if torch.cpu._is_avx512_bf16_supported() else ""
    return f"{name}{bf16}, {torch.get_num_threads()} threads"


def commit() -> str:
    """The checkout's commit, with a plus where files differ from it."""
    here = Path(__file__).parent
    head = ["git", "-C", str(here), "rev-parse", "--short", "HEAD"]
    changed = ["git", "-C", str(here), "status", "--porcelain", "--untracked-files=no"]
    try:
        name = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run(changed, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name + ("+" if dirty else "")


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_seconds(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median of so many runs, after one that warms up."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def measured_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product."""
    side = 8192 if device.type == "cuda" else 2048
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / median_seconds(lambda: left @ right, device, 5)


class PeakMemory:
    """The most memory that the process (CPU) or the device (GPU) held since `reset`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def reset(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again

    def gigabytes(self) -> float:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 1e9
        status = Path("/proc/self/status").read_text()
        kilobytes = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(kilobytes.split()[1]) * 1024 / 1e9
