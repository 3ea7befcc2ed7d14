"""Is the schedule long enough? The baseline trained for twice the steps, on every fold and random seed of the study.

    python benchmarks/schedule.py        (after `make study`; took 9 minutes on two cores)

Writes results/<dataset>/schedule.csv, one row a run, and prints the table that the README shows.
"""

import dataclasses
import tempfile
from pathlib import Path

import pandas as pd

from asgnet.config import load_study
from asgnet.data.episodes import base_images, read_episodes
from asgnet.data.index import read_index
from asgnet.data.sampling import TrainingImages
from asgnet.device import use_threads
from asgnet.evaluate import score_episodes
from asgnet.files import atomic_path
from asgnet.fingerprint import fingerprint
from asgnet.layout import Layout
from asgnet.metrics import miou
from asgnet.results import Run
from asgnet.stages.runs import build_model, open_source
from asgnet.train import MONITORED, train

ARM = "baseline"


def main() -> None:
    use_threads()
    study = load_study()
    layout, source = Layout.of(study), open_source(study)
    config = study.train_of(ARM)
    doubled = dataclasses.replace(config, steps_per_epoch=2 * config.steps_per_epoch)
    rows = []
    for fold in study.folds:
        episodes = {name: read_episodes(layout.episodes(fold, name)) for name in (*MONITORED, "test")}
        images = TrainingImages.of(base_images(read_index(layout.index), source.tree, fold, config.shots, "train"))
        for seed in study.seeds:
            key = fingerprint([dataclasses.asdict(study), fold, seed, "doubled"], files=[layout.index])
            state = Path(tempfile.gettempdir()) / f"asgnet-schedule-{key[:16]}.pt"
            model = build_model(study, ARM, seed, source)
            train(model, source, images, episodes, doubled, seed, state)
            long = miou(score_episodes(model, source, episodes["test"], 1, study.test.batch))
            state.unlink()
            short = miou(Run(ARM, fold, seed, layout.run(ARM, fold, seed)).episodes(1))
            rows.append((fold, seed, short, long, long - short))
            print(f"fold {fold}, random seed {seed}: {short:.2f}, doubled {long:.2f}", flush=True)
    steps = config.epochs * config.steps_per_epoch
    table = pd.DataFrame(rows, columns=["fold", "seed", f"{steps} steps", f"{2 * steps} steps", "difference"])
    with atomic_path(layout.results / "schedule.csv") as temporary:
        table.to_csv(temporary, index=False)
    means = table.groupby("fold").mean().drop(columns="seed")
    print(pd.concat([means, means.mean().to_frame("mean").T]).round(2).to_markdown())


if __name__ == "__main__":
    main()
