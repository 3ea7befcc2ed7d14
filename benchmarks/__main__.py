"""python -m benchmarks: measure every case, or those asked for."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from asgnet.device import use_threads
from asgnet.errors import UserError
from asgnet.files import atomic_path
from benchmarks import figure, table
from benchmarks.cases import CASES
from benchmarks.growth import growth
from benchmarks.measure import ResultsDifferError, measure
from benchmarks.roofline import Peaks
from benchmarks.sizes import FULL, QUICK
from benchmarks.workspace import Workspace

GROWTH = "growth"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [*CASES, GROWTH]
    parser.add_argument("--case", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--repeats", type=int, default=5, help="of which the median is taken (long cases run once)")
    parser.add_argument("--threads", type=int, help="as many as there are CPUs by default")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, whose times mean nothing")
    parser.add_argument("--voc", type=Path, help="a VOCdevkit folder: test episodes on its photographs")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where results.csv goes")
    given = parser.parse_args(arguments)
    if given.repeats < 1:
        parser.error(f"--repeats {given.repeats}: expected 1 or more")
    if given.threads is not None and given.threads < 1:
        parser.error(f"--threads {given.threads}: expected 1 or more")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, 1 where plain and ours differ, 2 for a user's mistake. What was measured till then is written."""
    given = parse(arguments)
    try:
        run(given)
    except ResultsDifferError as error:
        print(error, file=sys.stderr)
        return 1
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def run(given: argparse.Namespace) -> None:
    """Measure what was asked for and write results.csv, peaks.csv, growth.csv and results.png after every case."""
    use_threads(given.threads)
    sizes, names = (QUICK if given.quick else FULL), given.case or [*CASES, GROWTH]
    workspace = Workspace((given.out / ".work").resolve(), given.voc and given.voc.resolve())
    peaks, rows, grown = Peaks(sizes.peaks), [], given.out / "growth.csv"
    peaks.measure()
    for name in names:
        if name == GROWTH:
            with atomic_path(grown) as temporary:
                growth(sizes, min(given.repeats, 3)).to_csv(temporary, index=False, float_format="%.6g")
        else:
            rows.append(measure(name, CASES[name](sizes, workspace), given.repeats, sizes.long_repeats))
            if given.quick:
                rows[-1]["published_s"] = None  # of the full size
            peaks.measure()
            done = table.complete(rows, peaks.best)
            print(done.iloc[-1][["case", "plain_s", "ours_s", "ratio", "reached", "error"]].to_dict(), flush=True)
            table.write(given.out / "results.csv", done)
            table.write_peaks(given.out / "peaks.csv", peaks.best)
    results = given.out / "results.csv"
    if results.exists():
        figure.write(given.out / "results.png", pd.read_csv(results), pd.read_csv(grown) if grown.exists() else None)


if __name__ == "__main__":
    sys.exit(main())
