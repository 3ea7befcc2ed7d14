"""Which device computes, in which precision, on how many threads."""

import ctypes
import os
import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import nn

from asgnet.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device() -> torch.device:
    """This process's CUDA device (the first, unless `asgnet.distributed` chose) where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fast_dtype(device: torch.device | str = "cpu", precision: str = "auto") -> torch.dtype:
    """The type that ``precision`` (`compute.precision`) names; "auto": bfloat16 where the device multiplies it in
    hardware, else float32. Raises UserError for float16 without CUDA."""
    cuda = torch.device(device).type == "cuda"
    if precision == "float16" and not cuda:
        raise UserError("compute.precision: float16 needs a CUDA device and there is none; choose auto or float32")
    if precision != "auto":
        return DTYPES[precision]
    if cuda:
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if {"avx512_bf16", "amx_bf16"} & _cpu_flags() else torch.float32


def autocast(device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> AbstractContextManager:
    """Autocast to ``dtype`` (default: ``fast_dtype``); nothing where that is float32."""
    dtype = dtype or fast_dtype(device)
    return nullcontext() if dtype == torch.float32 else torch.autocast(torch.device(device).type, dtype)


def compile_layers(*layers: nn.Module) -> None:
    """torch.compile ``layers`` in place; dropout draws what it draws uncompiled. Raises UserError without a compiler,
    which is otherwise looked for when a layer first runs."""
    if not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
        raise UserError(
            "compute.compile: no C++ compiler (c++, g++ or clang++) on the path; install one or set it false"
        )
    for layer in layers:
        layer.compile(options={"fallback_random": True})


def use_threads(count: int | None = None) -> int:
    """Let torch use ``count`` threads, by default one for each CPU that this process may run on (torch's own default
    counts the machine's), divided by the processes of a torchrun, and keep its memory. Returns the number in use."""
    keep_freed_memory()
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cpus, processes = len(affinity(0)) if affinity else os.cpu_count() or 1, int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    torch.set_num_threads(count or max(cpus // processes, 1))
    return torch.get_num_threads()


def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed tensors for the next ones, where it is glibc. Given back, large ones
    would be cleared page by page each time. The process holds more for it until its tensors have found their places."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        trim_threshold, mmap_max = -1, -4  # as malloc.h names them
        mallopt(trim_threshold, -1)  # never
        mallopt(mmap_max, 0)


def _cpu_flags() -> set[str]:
    # torch has no public question for bfloat16 instructions; without /proc (not Linux) float32 is the safe answer.
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split(":", 1)[1].split()) for line in lines if line.startswith("flags")), set())
