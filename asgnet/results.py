"""Reading the runs of a study: results/<dataset>/<arm>/fold<k>/seed<s>/ -> tables."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from asgnet.errors import UserError
from asgnet.files import read_csv
from asgnet.intervals import Blocks
from asgnet.metrics import COUNTS

RUN_FOLDER = re.compile(r"fold(\d+)/seed(\d+)")
TYPES = {"query": str, "supports": str} | dict.fromkeys(("epoch", "episode", "class", *COUNTS), int)
TEST_FILE = re.compile(r"episodes_(\d+)shot\.csv")


@dataclass(frozen=True)
class Run:
    """One trained or training-free run. ``seed`` is the random seed, 0 where nothing is trained."""

    arm: str
    fold: int
    seed: int
    folder: Path

    @property
    def trained(self) -> bool:
        return (self.folder / "history.csv").exists()

    def history(self) -> pd.DataFrame:
        """One row an epoch: epoch, lr, loss, and loss and mIoU (per cent) on train, val and novel episodes."""
        return self._table("history.csv", ["epoch", "val_miou", "novel_miou"])

    def training(self) -> dict:
        """What the training stage recorded: best_epoch, steps, parameters."""
        path = self.folder / "train.json"
        try:
            return dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            raise UserError(f"{path}: missing or damaged; train the run again") from None

    def shots(self) -> list[int]:
        """The numbers of shots this run was tested with."""
        return sorted(int(match[1]) for file in self.folder.iterdir() if (match := TEST_FILE.fullmatch(file.name)))

    def episodes(self, shots: int) -> pd.DataFrame:
        """One row a test episode: class, query, supports and the counts of ``metrics.COUNTS``."""
        return self._table(f"episodes_{shots}shot.csv", ["episode", "class", "query", "supports", *COUNTS])

    def _table(self, name: str, columns: list[str]) -> pd.DataFrame:
        path = self.folder / name
        try:
            table = read_csv(path, dtype=TYPES)
            return table.astype({name: TYPES.get(name, float) for name in columns})
        except (OSError, ValueError, KeyError):
            wanted = f"expected a whole CSV with columns {', '.join(columns)}"
            raise UserError(f"{path}: damaged; {wanted}; train and test the run again") from None


def find_runs(results: Path | str, arms: Sequence[str] | None = None) -> list[Run]:
    """All runs under ``results`` (the folder of one dataset), by arm, fold and random seed.

    ``arms`` picks arms and gives their order (default: all, by name). Raises UserError where an arm has no run."""
    runs = []
    for folder in Path(results).glob("*/fold*/seed*"):
        if named := RUN_FOLDER.fullmatch(folder.relative_to(folder.parents[1]).as_posix()):
            runs.append(Run(folder.parents[1].name, int(named[1]), int(named[2]), folder))
    found = {run.arm for run in runs}
    order = sorted(found) if arms is None else list(arms)
    missing = [arm for arm in order if arm not in found]
    if missing or not runs:
        raise UserError(
            f"{results}: no runs of {', '.join(missing) or 'any arm'}; train and test them (dvc repro) first"
        )
    runs = [run for run in runs if run.arm in order]
    return sorted(runs, key=lambda run: (order.index(run.arm), run.fold, run.seed))


def blocks_of(runs: Sequence[Run], shots: int) -> dict[str, Blocks]:
    """The test episodes of every arm that was tested with ``shots``: arm -> {(fold, random seed): episodes}."""
    blocks: dict[str, dict[tuple[int, int], pd.DataFrame]] = {}
    for run in runs:
        if shots in run.shots():
            blocks.setdefault(run.arm, {})[run.fold, run.seed] = run.episodes(shots)
    return {**blocks}


def histories(runs: Sequence[Run]) -> pd.DataFrame:
    """The histories of all trained runs under one another, with the columns arm, fold and seed in front."""
    tables = []
    for run in runs:
        if run.trained:
            table = run.history()
            for column, value in (("seed", run.seed), ("fold", run.fold), ("arm", run.arm)):
                table.insert(0, column, value)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)
