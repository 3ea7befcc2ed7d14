"""What a result may not depend on but a reader wants to know: revision, versions, machine, seconds, memory."""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import torch

from asgnet.distributed import processes, rank
from asgnet.files import write_json

LIBRARIES = ("torch", "torchvision", "timm", "numpy", "scikit-image")


@contextmanager
def record(folder: Path, stage: str) -> Iterator[None]:
    """Add how the block went to ``folder/run.json`` under the name of the stage. Nothing depends on that file."""
    start = time.perf_counter()
    yield
    if rank():  # the first process tells
        return
    path = folder / "run.json"
    try:
        runs = dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):  # none yet, or damaged
        runs = {}
    runs[stage] = {
        "revision": revision(),
        "seconds": round(time.perf_counter() - start, 1),
        "peak_memory_mib": peak_memory_mib(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
        "threads": torch.get_num_threads(),
        "processes": processes(),
    }
    write_json(path, runs)


def revision() -> str | None:
    """The commit of the working tree, None outside of git."""
    try:
        run = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip()


def peak_memory_mib() -> int:
    """The most memory this process has held, memory-mapped pages included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 2**20 if sys.platform == "darwin" else peak // 2**10


def write_receipt(files: Iterable[Path], path: Path) -> None:
    """The digests of what a run wrote."""
    write_json(path, {file.name: sha256(file.read_bytes()).hexdigest() for file in sorted(files)})
