"""What the processor is good at."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path


def available_cores() -> int:
    """Return the number of processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def bfloat16_speed() -> float:
    """Return how many times as fast this processor multiplies bfloat16 as float32; 1 if that isn't known."""
    path = Path("/proc/cpuinfo")
    return speed_told(path.read_text()) if platform.machine() == "x86_64" and path.exists() else 1.0


def speed_told(cpuinfo: str) -> float:
    """Return how many times as fast a processor, as Linux describes it, multiplies bfloat16 as float32.

    Intel's with AMX are eight times as fast, and AMD's twice since Zen 4; others that have instructions for it are no faster.
    """
    fields = dict(line.partition(":")[::2] for line in cpuinfo.partition("\n\n")[0].splitlines())
    described = {key.strip(): value.strip() for key, value in fields.items()}
    flags = described.get("flags", "").split()
    if "amx_bf16" in flags:
        return 8.0
    return 2.0 if "avx512_bf16" in flags and described.get("vendor_id") == "AuthenticAMD" else 1.0
