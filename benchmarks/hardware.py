"""What figures were measured on."""

from __future__ import annotations

import platform
import subprocess
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
    """The checkout's commit, with a mark where files differ from it."""
    folder = Path(__file__).parent
    described = subprocess.run(
        ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*"],
        capture_output=True,
        text=True,
    )
    return described.stdout.strip() or "unknown"
