"""What a sweep would run, and about how long: from the seconds that past runs left in run.json."""

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import mean

from dvc.stage import Stage

from asgnet.sweep.tree import Tree, split_name

# Under which name asgnet.provenance.record keeps a stage's seconds, by the beginning of the stage's name.
RECORDED = {"training_free": "test", "train": "train", "test": "test", "ablate": "ablate"}


class Past:
    """Core-seconds (seconds times all threads) of past runs under ``results``: <arm>/fold<k>/seed<s>/run.json."""

    def __init__(self, results: Path) -> None:
        self.runs: dict[tuple[str | None, str], list[float]] = defaultdict(list)  # by kind and arm
        for path in sorted(results.glob("**/run.json")):
            try:
                for kind, run in json.loads(path.read_text()).items():
                    self.runs[kind, path.parents[2].name].append(
                        run["seconds"] * run["threads"] * run.get("processes", 1)
                    )
            except (OSError, ValueError, KeyError, TypeError, AttributeError):  # a file that nothing depends on
                continue

    def expect(self, kind: str | None, arm: str) -> tuple[float | None, bool]:
        """Core-seconds to expect, None where nothing is known; and whether this arm was measured."""
        if (kind, arm) in self.runs:
            return mean(self.runs[kind, arm]), True
        others = [seconds for (other, _), runs in self.runs.items() if other == kind for seconds in runs]
        return (mean(others) if others else None), False


def arm_of(stage: Stage) -> str:
    """The arm of a cell: its outputs lie in <arm>/fold<k>/seed<s>; elsewhere the cell's first value."""
    for out in stage.outs:
        folder = Path(out.fs_path).parent
        if folder.name.startswith("seed") and folder.parent.name.startswith("fold"):
            return folder.parents[1].name
    return split_name(stage)[1].partition("-")[0]


def plan_lines(tree: Tree, cores: int | None) -> Iterable[str]:
    """The stages that a sweep would run, one line for each stage and, of a matrix, each arm. ``cores``: of this
    machine; None on a cluster, where only core-hours can be told."""
    past = Past(Path("results"))
    groups: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    stages = tree.would_run()
    for stage in stages:
        group, cell = split_name(stage)
        groups[group][arm_of(stage) if cell else ""].append(cell)
    total, unknown, guessed = 0.0, 0, False
    for group, arms in groups.items():
        kind = next((kind for start, kind in RECORDED.items() if group.startswith(start)), None)
        rows, known = [], []
        for arm, cells in arms.items():
            seconds, measured = past.expect(kind, arm)
            unknown += len(cells) * (seconds is None)
            guessed |= seconds is not None and not measured
            known += [] if seconds is None else [seconds * len(cells)]
            names = " ".join(cell.removeprefix(arm).lstrip("-") for cell in cells)
            time = "" if seconds is None else _hours(seconds * len(cells)) + "*" * (not measured)
            rows.append(f"  {arm:<20} {len(cells):>4} {time:>9}  {names}".rstrip())
        total += sum(known)
        yield f"{group:<22} {sum(map(len, arms.values())):>4} {_hours(sum(known)) if known else '':>9}".rstrip()
        yield from rows if "" not in arms else ()
    if not stages:
        yield "nothing to do"
        return
    told = [f"about {_hours(total)} core-hours"] if total else []
    told += [f"{_hours(total / cores)} hours here ({cores} core{'s' * (cores > 1)})"] if total and cores else []
    told += [f"{unknown} never timed"] if unknown else []
    yield f"{len(stages)} to run, at most: {', '.join(told)}"
    if guessed:
        yield "* no past run of this arm: the mean of the others"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f}"
