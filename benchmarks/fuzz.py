"""Damaged pictures: seeded mutations of image and mask files, read as `asgnet predict` and the datasets read them.

    python -m benchmarks.fuzz --files 5000

Each file either reads or is refused by a UserError of one line; any other exception, a warning, a line on the error
output or more than 5 seconds counts as a failure, named by its number, and makes the exit status 1.
"""

import argparse
import faulthandler
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from asgnet.data.folder import IMAGES as OWN
from asgnet.data.folder import MASKS as DRAWN
from asgnet.data.folder import FolderTree
from asgnet.data.photo import read_mask, read_photo
from asgnet.data.tree import IMAGES, LISTS, MASKS, Tree
from asgnet.errors import UserError
from benchmarks.mutations import ORIGINALS, mutated

LONGEST = 5.0  # seconds that one read may take
HANGS = 60.0  # seconds after which the script ends with a traceback


@dataclass
class Tally:
    """What became of the files of one kind."""

    files: int = 0
    reads: int = 0
    refused: int = 0
    slowest: float = 0.0  # seconds, of one read
    failures: list[str] = field(default_factory=list)


class Readers:
    """One file in all places from which the project reads pictures, under ``root``."""

    def __init__(self, root: Path) -> None:
        self.alone = root / "alone"
        self.voc = root / "VOC2012"
        self.own = root / "own"
        voc, own = self.voc, self.own / "c"
        for folder in (self.alone, voc / IMAGES, voc / MASKS, voc / LISTS, own / OWN, own / DRAWN):
            folder.mkdir(parents=True)

    def of(self, data: bytes, suffix: str) -> dict[str, Callable[[], object]]:
        """Reads of a file with that content, by name."""
        alone, photo, mask = self.alone / f"x{suffix}", self.own / "c" / OWN / "x.png", self.own / "c" / DRAWN / "x.png"
        for path in (alone, photo, mask, self.voc / IMAGES / "x.jpg", self.voc / MASKS / "x.png"):
            path.write_bytes(data)
        voc, own = Tree(self.voc.parent, ("a", "b", "c"), ()), FolderTree(self.own)
        return {
            "photograph": lambda: read_photo(alone),
            "mask": lambda: read_mask(alone),
            "mask of class 1": lambda: read_mask(alone, 1),
            "folder's mask": lambda: own.mask("c/x"),
            "tree's photograph": lambda: voc.image("x"),
            "tree's mask": lambda: voc.mask("x"),
        }


def fuzz(files: range, seed: int = 0) -> dict[str, Tally]:
    """Mutate and read; the tally of each kind of original. A file is a function of its number and ``seed``."""
    tallies = {name: Tally() for name in ORIGINALS}
    with tempfile.TemporaryDirectory() as folder, Silence(Path(folder) / "stderr") as silence:
        readers = Readers(Path(folder))
        for number in tqdm(files, "files", disable=not sys.stdout.isatty(), file=sys.stdout):
            name, how, suffix, data = mutated(number, seed)
            tally = tallies[name]
            tally.files += 1
            for reader, read in readers.of(data, suffix).items():
                faulthandler.dump_traceback_later(HANGS, exit=True, file=sys.__stdout__)
                start = time.perf_counter()
                with warnings.catch_warnings(record=True) as warned:
                    warnings.simplefilter("always")
                    problem = _problem(read, tally)
                seconds = time.perf_counter() - start
                faulthandler.cancel_dump_traceback_later()
                tally.slowest = max(tally.slowest, seconds)
                said = [problem] if problem else [str(w.message) for w in warned] or silence.said()
                said += [f"{seconds:.1f} s"] if seconds > LONGEST else []
                tally.failures += [f"{number} ({name}, {how}), {reader}: {what}" for what in said]
    return tallies


def _problem(read: Callable[[], object], tally: Tally) -> str | None:
    """Read once and count; what is wrong where the file neither reads nor is refused in one line."""
    try:
        read()
    except UserError as error:
        tally.refused += 1
        return None if len(str(error).splitlines()) == 1 and len(str(error)) < 500 else f"told as {str(error)!r}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    tally.reads += 1
    return None


class Silence:
    """What libraries write to the process's error output, kept in a file meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> "Silence":
        sys.stderr.flush()
        self.before = os.dup(2)
        self.file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(self.file, 2)
        return self

    def said(self) -> list[str]:
        """The lines since the last call."""
        lines = self.path.read_text(errors="replace").splitlines()
        os.ftruncate(self.file, 0)
        return lines

    def __exit__(self, *_: object) -> None:
        os.dup2(self.before, 2)
        os.close(self.before)
        os.close(self.file)


def table(tallies: dict[str, Tally]) -> pd.DataFrame:
    """One row a kind, and their sum."""
    rows = [(n, t.files, t.reads, t.refused, len(t.failures), t.slowest) for n, t in tallies.items()]
    shown = pd.DataFrame(rows, columns=["original", "files", "reads", "refusals", "failures", "slowest read (s)"])
    total = {"original": "all", **shown.drop(columns="original").sum(), "slowest read (s)": shown.iloc[:, -1].max()}
    shown = pd.concat([shown, pd.DataFrame([total])], ignore_index=True)
    return shown.astype(dict.fromkeys(shown.columns[1:-1], int))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first file, to see one again")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    tallies = fuzz(range(options.first, options.first + options.files), options.seed)
    print(table(tallies).round(2).to_markdown(index=False))
    failures = [failure for tally in tallies.values() for failure in tally.failures]
    print(f"\n{options.files} files, random seed {options.seed}: {len(failures)} failures, "
          f"{time.perf_counter() - start:.0f} s")  # fmt: skip
    print(*failures[:40], sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
