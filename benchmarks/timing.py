"""Timing two implementations side by side."""

import statistics
import time
from collections.abc import Callable
from typing import Any


def alternate(plain: Callable[[], Any], ours: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Median seconds of each, run in turns so that whatever else the machine does hits both alike. The caller has
    warmed them up."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for function, taken in zip((plain, ours), seconds, strict=True):
            taken.append(once(function))
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def once(function: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
