"""Saving a figure as PDF and PNG that say where they come from, with the same bytes for the same figure."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from asgnet.files import atomic_path

DPI = 160  # of the PNG, for screens; print uses the PDF


def hash_of(inputs: Sequence[Path | str]) -> str:
    """SHA-256 over the contents of files, in the order of their sorted contents' hashes: names and places, which
    differ between machines, do not count."""
    hashes = sorted(hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in inputs)
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def save(figure: Figure, name: str, folder: Path | str, stage: str, inputs: Sequence[Path | str]) -> list[Path]:
    """Write <folder>/<name>.pdf and .png and return their paths.

    Both name the pipeline stage and the hash of the input files: the PDF under Subject and Keywords, the PNG in
    its Description and Source text. No date is written, so a figure drawn again from the same inputs has the same
    bytes."""
    source = f"inputs sha256:{hash_of(inputs)}"
    metadata = {
        ".pdf": {"Title": name, "Subject": f"stage {stage}", "Keywords": source, "CreationDate": None},
        ".png": {"Title": name, "Description": f"stage {stage}", "Source": source},
    }
    paths = []
    for suffix, entries in metadata.items():
        paths.append(Path(folder) / f"{name}{suffix}")
        with atomic_path(paths[-1]) as temporary, rc_context({"pdf.fonttype": 42}):  # 42: text stays text
            figure.savefig(temporary, dpi=DPI, metadata=entries)
    return paths
