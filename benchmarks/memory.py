"""How much memory a call takes beyond what lay there before it. `tracemalloc` does not see torch's tensors."""

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile

MIB = 2**20
SAMPLE = 0.01  # seconds


def allocated_peak(function: Callable[[], Any]) -> float:
    """MiB: the most that torch's CPU allocator held at once for one call, from the profiler's record of every
    allocation. Libraries' scratch space and NumPy's arrays are not in it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    changes = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / MIB


def resident_peak(function: Callable[[], Any]) -> float | None:
    """MiB: how far the process's resident memory rose during one call, looked at every 10 ms. For long calls, whose
    allocations are too many to record. None where there is no /proc."""
    if not Path("/proc/self/statm").exists():
        function()
        return None
    _give_back_freed()
    before, seen, done = _resident(), [0], threading.Event()

    def look() -> None:
        while not done.wait(SAMPLE):
            seen[0] = max(seen[0], _resident())

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        function()
    finally:
        done.set()
        watcher.join()
    return max(seen[0] - before, 0) / MIB


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _give_back_freed() -> None:
    # The C library keeps freed memory; left there, the call would reuse it unseen.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)
