"""benchmarks/results.csv: one row a case, with the machine it was measured on."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from asgnet.files import atomic_path
from asgnet.provenance import revision
from benchmarks.roofline import BANDWIDTH, DTYPES, floor_seconds

# 3x3 convolutions in float32, operations a second, of the machine of 2 cores on which the published code was timed
PUBLISHED_RATE = 500e9
FAIR = 0.2  # how far plain may lie from the published code, the machines' rates allowed for

LIBRARIES = ("torch", "torchvision", "timm", "numpy", "scipy")
MACHINE = ["cpu", "threads", "python", *LIBRARIES, "revision"]
COLUMNS = [
    *("case", "what", "plain_s", "ours_s", "ratio", "repeats"),  # medians of so many
    *("plain_mib", "ours_mib", "memory"),  # peaks, and how they were measured
    *("error", "tolerance", "precision"),  # of ours against plain; the precision of ours
    *("matrix_operations", "convolution_operations", "bytes", "floor_s", "reached"),  # reached = floor_s / ours_s
    *("published_s", "expected_s", "plain_over_expected", "fair"),  # expected: published_s scaled to this machine
    *MACHINE,
]


def machine() -> dict[str, Any]:
    """What the numbers depend on beside the code."""
    return {
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        "revision": revision(),
    }


def cpu_name() -> str:
    """The CPU's model as the system calls it, with the instructions that decide its rates."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def complete(rows: list[dict[str, Any]], peaks: dict[str, float]) -> pd.DataFrame:
    """The rows of `measure.measure` with what follows from the machine and its peaks."""
    rate = peaks["convolution fp32"]
    done = []
    for row in rows:
        counted = {kind: row[f"{kind}_operations"] for kind in ("matrix", "convolution")}
        floor = floor_seconds(peaks, counted, row["bytes"], DTYPES[row["precision"]])
        row = row | machine() | {"ratio": row["plain_s"] / row["ours_s"]}
        row |= {"floor_s": floor, "reached": floor / row["ours_s"]}
        if row["published_s"] is not None:
            expected = row["published_s"] * PUBLISHED_RATE / rate
            row |= {"expected_s": expected, "plain_over_expected": row["plain_s"] / expected}
            row |= {"fair": abs(row["plain_over_expected"] - 1) <= FAIR}
        done.append(row)
    return pd.DataFrame(done, columns=COLUMNS)


def write(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Write ``table``, atomically, among the rows for other cases that ``path`` holds of the same machine and revision,
    and return all of them. Rows of another machine or revision go."""
    if path.exists():
        old = pd.read_csv(path, dtype=str, keep_default_na=False)
        new = table.astype(str)
        same = (old.reindex(columns=MACHINE) == new[MACHINE].iloc[0]).all(axis=1)
        kept = old[same & ~old["case"].isin(new["case"])].index
        table = pd.concat([pd.read_csv(path).loc[kept], table], ignore_index=True)
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    return table


def write_peaks(path: Path, peaks: dict[str, float]) -> None:
    """benchmarks/peaks.csv: what the machine reached, in 10^9 operations, or bytes, a second."""
    units = {name: "GB/s" if name == BANDWIDTH else "GFLOP/s" for name in peaks}
    rows = [(name, rate / 1e9, units[name]) for name, rate in peaks.items()]
    table = pd.DataFrame(rows, columns=["peak", "rate", "unit"])
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.4g")
