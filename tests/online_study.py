"""A study of seconds on a tree of noise, from the photographs and with random weights: nothing to extract or download.
And `asgnet` in two processes, without dropout."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml
from tiny import ROOT, write_params
from voc_tree import add_image, box_mask

from asgnet.config import Study, load_study
from asgnet.data.tree import LISTS, write_list
from asgnet.stages.episodes import make_episodes

CELL = ["--arm", "baseline", "--fold", "0", "--seed", "0"]
# DIE: by SIGKILL, once the first epoch's state is on disk.
SCRIPT = """
import os, signal, sys
import torch
import asgnet.train
from asgnet.cli import main

def save_and_die(*state):
    save(*state)
    os.kill(os.getpid(), signal.SIGKILL)

torch.nn.Dropout2d.forward = lambda self, x: x
save = asgnet.train.save_state
if "DIE" in os.environ:
    asgnet.train.save_state = save_and_die
sys.exit(main())
"""


def write_noise(root: Path) -> Path:
    """A VOC tree of 40 x 50 noise: 24 train images of classes 6 and 7, ten val images of classes 1 and 2."""
    voc = root / "VOC2012"
    for name, count, classes in (("train_aug", 12, (6, 7)), ("val", 5, (1, 2))):
        ids = [f"{c}{'x' * k}" for c in classes for k in range(1, count + 1)]  # another noise for each length
        for image_id in ids:
            add_image(voc, image_id, np.roll(box_mask(int(image_id[0])), len(image_id), axis=0))
        write_list(voc / LISTS / f"{name}.txt", ids)
    return root


def online_study(tree: Path, **compute) -> Study:
    """params.yaml in the working folder, for fold 0 of the tree at 65 pixels a side; episodes drawn."""
    path = write_params(
        Path(),
        data={"dataset": "pascal5i", "root": str(tree), "size": 65, "min_pixels": 100, "min_test_images": 4},
        features={"mode": "online", "pretrained": False},
        compute={"threads": 1} | compute,
        test={"batch": 3},
    )
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"folds": [0]}, sort_keys=False))
    study = load_study(path)
    make_episodes(study)
    return study


def changed(study: Study, section: str, **changes) -> Study:
    """The study with one section changed."""
    return replace(study, **{section: replace(getattr(study, section), **changes)})


def torchrun(*arguments: str, ok: bool = True, **environment: str) -> str:
    """``asgnet`` without dropout in two processes; what it says."""
    script = Path("script.py")
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=1500,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )  # fmt: skip
    script.unlink()
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done.stdout if ok else done.stdout + done.stderr
