"""What `asgnet predict` takes, and how good its network, trained on drawn objects, is on photographs.

    python -m benchmarks.predictions                            (after `make study`; seconds of one query)
    python -m benchmarks.predictions --voc /path/to/VOCdevkit   (and mIoU on VOC's val list)

Seconds: the whole command in a fresh process, one query and one support of 500 x 375 pixels on two cores, from after
`import torch` to the end, so imports, weights and the written mask are in it; and a further query of a folder.
mIoU: 1-shot episodes over all classes with enough images, at the size of `params.yaml`, masks at the photographs' own
size; beside it, on the same episodes, a training-free row whose threshold is chosen where the network's epoch was, on
held-out drawings.
"""

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import skimage
from PIL import Image

from asgnet.config import Study, load_study
from asgnet.data import open_dataset
from asgnet.data.episodes import draw_episodes, read_episodes
from asgnet.data.index import build_index, images_by_class, usable_classes
from asgnet.device import use_threads
from asgnet.errors import UserError
from asgnet.evaluate import score_episodes
from asgnet.intervals import interval, paired_difference
from asgnet.layout import Layout
from asgnet.metrics import class_iou
from asgnet.predict import find, learn
from asgnet.sections import DataConfig
from asgnet.source import OnlineSource
from asgnet.stages.predict import default_run, load
from asgnet.stages.runs import open_source
from asgnet.training_free import best_threshold, score_training_free
from benchmarks.timing import once

CORES, REPEATS = 2, 5
WIDTH, HEIGHT = 500, 375
ROW = "fg_bg_vit"  # the best of the training-free rows
CHILD = """
import sys, time
import torch
start, cpu = time.perf_counter(), time.process_time()
from asgnet.cli import main
status = main(sys.argv[1:])
print(time.perf_counter() - start, time.process_time() - cpu)
sys.exit(status)
"""


def seconds(study: Study) -> None:
    """Print the median seconds of `asgnet predict` beyond `import torch`, and of a further query."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    threads = use_threads()
    with tempfile.TemporaryDirectory() as folder:
        photo, mask, out = (Path(folder) / name for name in ("photo.jpg", "mask.png", "out.png"))
        Image.fromarray(skimage.data.chelsea()).resize((WIDTH, HEIGHT)).save(photo)
        rows, cols = np.mgrid[:HEIGHT, :WIDTH]
        Image.fromarray(np.hypot((rows - 180) / 150, (cols - 250) / 160) < 1).save(mask)
        command = ["predict", "--query", photo, "--support", photo, "--mask", mask, "-o", out]
        taken = []
        for _ in range(REPEATS):
            done = subprocess.run([sys.executable, "-c", CHILD, *map(str, command)], capture_output=True, text=True)
            if done.returncode:
                raise UserError(done.stderr.strip())
            taken.append([float(number) for number in done.stdout.split()])
        model = load(study, default_run(study))
        learned = learn(model, [photo], [mask], study.data.size)
        find(model, learned, photo)
        further = statistics.median(once(lambda: find(model, learned, photo)) for _ in range(REPEATS))
    wall, cpu = (statistics.median(column) for column in zip(*taken, strict=True))
    print(f"one query of {WIDTH} x {HEIGHT} at 1 shot, {threads} threads, median of {REPEATS}: {wall:.2f} s beyond "
          f"importing torch ({cpu:.2f} s of CPU time); a further query of a folder: {further:.2f} s")  # fmt: skip


def quality(study: Study, voc: Path, count: int) -> None:
    """Print the mIoU of the default network and of the training-free row on VOC's val list."""
    elsewhere = DataConfig(dataset="pascal5i", root=str(voc), size=study.data.size, min_pixels=1200, min_test_images=40)
    there = dataclasses.replace(study, data=elsewhere)
    tree = open_dataset(elsewhere.dataset, elsewhere.root)
    index = build_index(tree, 0, elsewhere.seed, elsewhere.min_pixels)
    classes, _ = usable_classes(index, tree.base_classes(None), "test", elsewhere.min_test_images)
    images = images_by_class(index, classes, "test")
    episodes = draw_episodes(images, tree.classes, 1, count, elsewhere.seed, "predictions")
    photographs = OnlineSource(there, tree)
    row = study.training_free[ROW]
    val = read_episodes(Layout.of(study).episodes(None, "val"))
    threshold = best_threshold(row, open_source(study), val, 1)
    tables = {
        "trained on all classes": score_episodes(load(study, default_run(study)), photographs, episodes, 1),
        row.label: score_training_free(row, photographs, episodes, 1, threshold),
    }
    shown = {
        name: dict(zip(("mIoU", "low", "high"), dataclasses.astuple(interval({(0, 0): table})), strict=True))
        | {tree.classes[c - 1]: iou for c, iou in class_iou(table).items()}
        for name, table in tables.items()
    }
    print(pd.DataFrame(shown).T.round(1).to_markdown())
    ours, theirs = tables.values()
    found = paired_difference({(0, 0): ours}, {(0, 0): theirs})
    print(f"{count} episodes, {len(classes)} classes of {sum(map(len, images.values()))} objects; difference "
          f"{found.value:+.1f}, 95% interval {found.low:+.1f} to {found.high:+.1f}")  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0, or 2 for a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voc", type=Path, help="a VOCdevkit folder: mIoU on its photographs, too")
    parser.add_argument("--episodes", type=int, default=200)
    options = parser.parse_args(arguments)
    try:
        study = load_study()
        seconds(study)
        if options.voc:
            quality(study, options.voc, options.episodes)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
