"""Which device computes, in which precision, on how many threads."""

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch


def pick_device() -> torch.device:
    """The first CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fast_dtype(device: torch.device | str = "cpu") -> torch.dtype:
    """bfloat16 where the device multiplies it in hardware, else float32."""
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if {"avx512_bf16", "amx_bf16"} & _cpu_flags() else torch.float32


def autocast(device: torch.device | str = "cpu") -> AbstractContextManager:
    """Autocast to ``fast_dtype``; nothing where that is float32."""
    dtype = fast_dtype(device)
    return nullcontext() if dtype == torch.float32 else torch.autocast(torch.device(device).type, dtype)


def use_threads(count: int | None = None) -> int:
    """Let torch use ``count`` threads, by default one for each CPU that this process may run on (torch's own default
    counts the machine's). Returns the number in use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    torch.set_num_threads(count or (len(affinity(0)) if affinity else os.cpu_count() or 1))
    return torch.get_num_threads()


def _cpu_flags() -> set[str]:
    # torch has no public question for bfloat16 instructions; without /proc (not Linux) float32 is the safe answer.
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split(":", 1)[1].split()) for line in lines if line.startswith("flags")), set())
