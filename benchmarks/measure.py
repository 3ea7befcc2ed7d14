"""One case: compared, timed, weighed, counted."""

from collections.abc import Callable
from typing import Any

from benchmarks.case import Case
from benchmarks.memory import allocated_peak, resident_peak
from benchmarks.roofline import NAMES, bytes_at_least, operations
from benchmarks.timing import alternate

ALLOCATED, RESIDENT = "allocated by torch", "rise of resident memory"


class ResultsDifferError(Exception):
    """Plain and ours do not compute the same."""


def measure(name: str, case: Case, repeats: int, long_repeats: int) -> dict[str, Any]:
    """What is known of a case before the machine's peaks are; see `table.COLUMNS`. Short cases are compared first and
    timed after that warm-up. Those of minutes are compared, timed and watched for memory in the same runs.

    Raises ResultsDifferError beyond the case's tolerance.
    """
    row = {"case": name, "what": case.title, "precision": NAMES[case.precision], "published_s": case.published}
    if case.long:
        plain, ours = _Watched(case.plain), _Watched(case.ours)
        seconds = alternate(plain, ours, long_repeats)
        result, error = ours.result, case.error(plain.result, ours.result)
        row |= {"repeats": long_repeats, "memory": RESIDENT, "plain_mib": plain.peak, "ours_mib": ours.peak}
        _check(name, case, error)
    else:
        error = case.error(case.plain(), case.ours())
        _check(name, case, error)
        result, seconds = case.ours(), alternate(case.plain, case.ours, repeats)
        row |= {"repeats": repeats, "memory": ALLOCATED}
        row |= {"plain_mib": allocated_peak(case.plain), "ours_mib": allocated_peak(case.ours)}
    counted = operations(case.ours)
    row |= {"plain_s": seconds[0], "ours_s": seconds[1], "error": error, "tolerance": case.tolerance}
    row |= {"matrix_operations": counted["matrix"], "convolution_operations": counted["convolution"]}
    return row | {"bytes": bytes_at_least(case, result)}


def _check(name: str, case: Case, error: float) -> None:
    if not error <= case.tolerance:
        raise ResultsDifferError(f"{name}: plain and ours differ by {error:.2g}, more than {case.tolerance:g}")


class _Watched:
    """A call whose last result and highest memory are kept; watching costs next to nothing."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function, self.result, self.peak = function, None, 0.0

    def __call__(self) -> None:
        self.result = None  # not held while the next is made

        def run() -> None:
            self.result = self.function()

        peak = resident_peak(run)
        self.peak = peak if peak is None else max(self.peak or 0.0, peak)
