"""Progress: a bar in a terminal or notebook kernel, nothing that floods a log."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def track(items: Iterable[T], label: str, initial: int = 0) -> Iterable[T]:
    """Iterate with a bar on an interactive terminal; otherwise one line about every tenth of the way."""
    if sys.stderr.isatty():
        return tqdm(items, desc=label, initial=initial, total=initial + len(items), leave=False)  # type: ignore[arg-type]
    return _lines(items, label, initial)


def _lines(items: Iterable[T], label: str, initial: int) -> Iterable[T]:
    total = initial + len(items)  # type: ignore[arg-type]
    shown = 0
    for done, item in enumerate(items, initial + 1):
        yield item
        if done * 10 // max(total, 1) > shown or done == total:
            shown = done * 10 // max(total, 1)
            print(f"{label}: {done}/{total}", flush=True)


def epoch_line(row: dict) -> None:
    """One line for one row of a training history."""
    scores = ", ".join(
        f"{name} {row[f'{name}_miou']:.1f}" for name in ("train", "val", "novel") if f"{name}_miou" in row
    )
    print(f"epoch {row['epoch']}: loss {row['loss']:.3f}, mIoU {scores}", flush=True)
