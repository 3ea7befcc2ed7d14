"""Signals that stop a sweep only where it can stop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def signals() -> Iterator[list[int]]:
    """Ctrl-C, SIGTERM and a closed terminal only add to the list that is yielded: DVC's files must not be cut off in
    mid-writing, so the loop looks when it can stop."""
    caught: list[int] = []
    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number, handler in old.items():
        if number != signal.SIGHUP or handler != signal.SIG_IGN:  # under nohup
            signal.signal(number, lambda number, _: caught.append(number))
    try:
        yield caught
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
