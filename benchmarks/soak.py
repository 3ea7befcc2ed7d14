"""Does memory stay flat? Thousands of training steps, then thousands of predictions, in one process.

    python -m benchmarks.soak --steps 2000 --predictions 5000

On tiny sizes, for it is the number of times that shows a leak. The growth is the median of the last tenth of the looks
at the process's resident memory, minus that of the tenth after the warm-up, which is the first fifth. The exit status
is 1 where it is over ``MOST`` MiB.
"""

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

from asgnet.data.episodes import base_images, read_episodes
from asgnet.data.index import read_index
from asgnet.data.sampling import TrainingImages
from asgnet.device import use_threads
from asgnet.layout import Layout
from asgnet.model import ASGNet
from asgnet.predict import find, learn
from asgnet.rng import generator
from asgnet.sections import ModelConfig
from asgnet.stages.runs import build_model, open_source
from asgnet.train import MONITORED, train
from benchmarks.sizes import QUICK
from benchmarks.workspace import FOLD, Workspace

MIB = 2**20
MOST = 20.0  # MiB that memory may grow by after the warm-up
LOOKS = 100  # at the memory
PHOTOGRAPHS = 50  # of sizes of their own


def resident() -> float:
    """MiB of resident memory."""
    return psutil.Process().memory_info().rss / MIB


def training(folder: Path, steps: int) -> list[float]:
    """Train on a tiny study in ``folder``; the memory after each of ``LOOKS`` epochs, which test it as well."""
    study, made = Workspace(folder).made(QUICK)
    layout = Layout.of(study)
    config = dataclasses.replace(study.train_of("baseline"), epochs=LOOKS, steps_per_epoch=max(1, steps // LOOKS))
    with chdir(made):
        source = open_source(study)
        model = build_model(study, "baseline", 0, source)
        monitored = {name: read_episodes(layout.episodes(FOLD, name)) for name in MONITORED}
        index = read_index(layout.index)
    images = TrainingImages.of(base_images(index, source.tree, FOLD, config.shots, "train"))
    looks: list[float] = []
    train(model, source, images, monitored, config, 0, folder / "state.pt", lambda _: looks.append(resident()))
    return looks


def predicting(folder: Path, count: int) -> list[float]:
    """Predict ``count`` times on photographs of many sizes, read from ``folder`` each time; the memory after each of
    ``LOOKS`` parts. Supports are learned anew every tenth time."""
    draw, size = generator(0, "soak"), QUICK.pixels
    paths = [folder / f"{k}.jpg" for k in range(PHOTOGRAPHS)]
    for path in paths:
        height, width = draw.integers(30, 150, 2)
        Image.fromarray(draw.integers(0, 256, (height, width, 3), np.uint8)).save(path)
    mask = Image.open(paths[0]).convert("L").point(lambda value: 255 * (value > 128))
    mask.save(folder / "mask.png")
    torch.manual_seed(0)
    model = ASGNet(ModelConfig(backbone="lite0", width=QUICK.width)).eval()
    looks: list[float] = []
    for number in range(count):
        if number % 10 == 0:
            learned = learn(model, [paths[0]], [folder / "mask.png"], size)
        find(model, learned, paths[number % PHOTOGRAPHS])
        if number % max(1, count // LOOKS) == 0:
            looks.append(resident())
    return looks


def growth(looks: list[float]) -> float:
    """MiB from after the warm-up to the end."""
    tenth = max(1, len(looks) // 10)
    return statistics.median(looks[-tenth:]) - statistics.median(looks[2 * tenth : 3 * tenth])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--predictions", type=int, default=5000)
    options = parser.parse_args(arguments)
    use_threads()
    flat = True
    soaks: list[tuple[str, int, Callable[[Path, int], list[float]]]] = [
        ("training steps", options.steps, training),
        ("predictions", options.predictions, predicting),
    ]
    for name, count, run in soaks:
        with tempfile.TemporaryDirectory() as folder:
            start, before = time.perf_counter(), resident()
            looks = run(Path(folder), count)
        grown = growth(looks)
        flat = flat and grown <= MOST
        tenths = [f"{look:.0f}" for look in looks[9 :: max(1, len(looks) // 10)]] or [f"{looks[-1]:.0f}"]
        print(f"{count} {name}: {before:.0f} MiB before, then {', '.join(tenths)}; grown by {grown:+.1f} MiB after the "
              f"warm-up ({time.perf_counter() - start:.0f} s)", flush=True)  # fmt: skip
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
