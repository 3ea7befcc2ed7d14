"""What the device's fast precision does to mIoU: trained networks tested twice, from the photographs on.

    python -m benchmarks.precision pipelines/voc_animals vit_patch [--fold 1]      (after the row's `test` cells)

Every run of the row with the first random seed is tested on its frozen episodes, frozen networks included, once in
float32 and once in the precision that `compute.precision: auto` gives. Writes results/<dataset>/precision.csv.
"""

import argparse
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import pandas as pd

from asgnet.config import Study, load_study
from asgnet.data.episodes import read_episodes
from asgnet.device import fast_dtype, use_threads
from asgnet.evaluate import score_episodes
from asgnet.files import atomic_path
from asgnet.layout import Layout
from asgnet.metrics import miou
from asgnet.stages.runs import load_run, open_source
from benchmarks.roofline import NAMES


def run(study: Study, arm: str) -> pd.DataFrame:
    """One row a fold and number of shots: arm, fold, shots, episodes, fast (the precision), mIoU in both, difference.
    Raises UserError for a run that is not trained."""
    use_threads()
    layout, rows = Layout.of(study), []
    online = replace(study, features=replace(study.features, mode="online"))
    for fold in study.folds:
        episodes = read_episodes(layout.episodes(fold, "test"))
        for shots in study.test.shots:
            found = {}
            for precision in ("float32", "auto"):
                changed = replace(online, compute=replace(study.compute, precision=precision))
                model = load_run(changed, layout.run(arm, fold, study.seeds[0]))
                found[precision] = miou(score_episodes(model, open_source(changed), episodes, shots, study.test.batch))
            row = {"arm": arm, "fold": fold, "shots": shots, "episodes": len(episodes), "fast": NAMES[fast_dtype()]}
            rows.append(row | {"float32": found["float32"], "auto": found["auto"]})
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    table = table.assign(difference=table["auto"] - table["float32"])
    with atomic_path(layout.results / "precision.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pipeline", type=Path, help="a folder with params.yaml and results")
    parser.add_argument("arm", help="a trained row")
    parser.add_argument("--fold", type=int, help="this one alone")
    given = parser.parse_args(arguments)
    with chdir(given.pipeline):
        study = load_study()
        chosen = study if given.fold is None else replace(study, folds=(study.check_fold(given.fold),))
        print(run(chosen, given.arm).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
