"""Commands of `asgnet` in processes that are killed with SIGKILL, forked from one that has imported everything."""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [f"asgnet.{name}" for name in ("stages.features", "stages.train", "stages.test", "cli")] + ["asgnet.sweep.loop"]
)
CHANGES = ("open", "os.chmod", "os.mkdir", "os.remove", "os.rename", "os.rmdir")


class End(NamedTuple):
    """How a command ended: exit status (-9: killed), changes it made to files of its folder, seconds."""

    status: int
    changes: int
    seconds: float


def run(folder: Path, *arguments: str, change: int = 0, at: str = "", seconds: float | None = None) -> End:
    """Run ``asgnet *arguments`` in ``folder``, killed just before its ``change``-th change to a file there (0: never),
    counting only changes to paths that hold the text ``at``; or after ``seconds``. What is written to
    ``folder``.log."""
    counted = PROCESSES.Value("i", 0, lock=False)
    process = PROCESSES.Process(target=_run, args=(folder, arguments, counted, change, at))
    start = time.monotonic()
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    return End(process.exitcode, counted.value, time.monotonic() - start)


def _run(folder: Path, arguments: tuple[str, ...], counted, change: int, at: str) -> None:
    os.chdir(folder)
    if arguments[0] != "sweep" and hasattr(os, "sched_setaffinity"):  # two threads would wait for each other
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)
    sys.addaudithook(_Counter(str(folder), counted, change, at))
    from asgnet.cli import main

    sys.exit(main(arguments))


class _Counter:
    """An audit hook: sees each change to a file before it is made."""

    def __init__(self, folder: str, counted, change: int, at: str) -> None:
        self.folder, self.counted, self.change, self.at = folder, counted, change, at

    def __call__(self, event: str, arguments: tuple) -> None:
        if event not in CHANGES or not isinstance(path := arguments[0], (str, os.PathLike)):
            return
        path = os.path.join(self.folder, path)
        inside = path.startswith(self.folder + os.sep) and self.at in path.removeprefix(self.folder)
        if not inside or (event == "open" and _reads(*arguments)):
            return
        self.counted.value += 1
        if self.counted.value == self.change:
            if ".partial" in path and os.path.isfile(path):  # in the middle of writing it, then
                os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)


def _reads(path: str, mode: str | None, flags: int) -> bool:
    return not set(mode) & set("wax+") if mode else not flags & (os.O_WRONLY | os.O_RDWR)
