"""Writing files so that a reader sees all of a file or none of it, whatever kills the writer."""

import errno
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asgnet.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

PATIENCE = 10.0  # seconds that `alone` waits: the kernel of a notebook that was killed lives on for one
PARTIAL = re.compile(r"\..+\.(\d+)\.partial(\.\w+)?")  # see `temporary_name`


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary name beside ``path`` (same suffix); rename it to ``path`` when the block ends well,
    remove it when the block raises. Parent folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """A hidden name beside ``path``, of this process alone, such as .index.4711.partial.csv. What killed processes
    left in that folder is removed first."""
    _remove_left_over(path.parent.absolute())
    return path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")


@cache  # once for each folder: it may hold as many files as a dataset has images
def _remove_left_over(folder: Path) -> None:
    for path in list(folder.iterdir()):
        found = PARTIAL.fullmatch(path.name)
        if found and (int(found[1]) == os.getpid() or not alive(int(found[1]))):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def write_json(path: Path | str, data: object) -> None:
    """Write ``data`` as readable JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(data, indent=2) + "\n")


def read_csv(path: Path | str, **options: Any) -> "pd.DataFrame":
    """``pandas.read_csv`` of a file that ends with its last line. Raises ValueError where it is cut off or no CSV,
    OSError where it cannot be read."""
    text = Path(path).read_text(encoding="utf-8")
    if not text.endswith("\n"):
        raise ValueError(f"{path} is cut off")
    import pandas as pd  # takes longer than a prediction

    return pd.read_csv(StringIO(text), **options)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold ``folder``, which is made where it is missing, against other processes. The system lets go of it when this
    one ends, however it ends. (Where the file system has no locks, nobody is kept out.)

    Raises UserError where another process holds the folder for longer than ``PATIENCE``, PermissionError where no file
    may be made in it."""
    folder.mkdir(parents=True, exist_ok=True)
    _require_writable(folder)
    handle = os.open(folder, os.O_RDONLY)
    try:
        end = time.monotonic() + PATIENCE
        while not _hold(handle):
            if time.monotonic() > end:
                raise UserError(f"{folder}: another process is writing there; wait for it or stop it, then run again")
            time.sleep(0.1)
        yield
    finally:
        os.close(handle)


def _require_writable(folder: Path) -> None:
    """Raise PermissionError where files may not be made in ``folder``: before work that would be lost."""
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _hold(handle: int) -> bool:
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the file system has no locks
        pass
    return True


def alive(pid: int) -> bool:
    """Whether a process of that number runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
