"""Tests compute small things: one thread is faster than two that wait for each other, and where a command of a test
takes several, they wait asleep, for another test has the other core."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is imported, here and in commands

import pytest
import torch
from filelock import FileLock
from tiny import share, tiny_study

from asgnet.stages.data import make_data
from asgnet.stages.episodes import make_episodes
from asgnet.stages.features import make_features

torch.set_num_threads(1)

CHANGES = {"test": {"batch": 4}}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, worker_id):
    """A folder with data, episodes and features of the tiny study, made once for all workers."""
    folder = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        folder = folder.parent
    folder = folder / "tiny"
    with FileLock(f"{folder}.lock"), pytest.MonkeyPatch.context() as patch:
        folder.mkdir(exist_ok=True)
        patch.chdir(folder)
        study = tiny_study(folder, **CHANGES)
        if not (folder / "done").exists():
            make_data(study)
            make_episodes(study)
            make_features(study)
            (folder / "done").touch()
    return folder


@pytest.fixture
def study(prepared, tmp_path, monkeypatch):
    """The tiny study in a folder of its own that shares data, episodes and features."""
    share(prepared, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tiny_study(tmp_path, **CHANGES)
