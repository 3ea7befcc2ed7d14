"""Tests compute small things: one thread is faster than two that wait for each other."""

import pytest
import torch
from tiny import tiny_study

from asgnet.stages.data import make_data
from asgnet.stages.episodes import make_episodes
from asgnet.stages.features import make_features

torch.set_num_threads(1)

CHANGES = {"test": {"batch": 4}}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A folder with data, episodes and features of the tiny study."""
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        study = tiny_study(folder, **CHANGES)
        make_data(study)
        make_episodes(study)
        make_features(study)
    return folder


@pytest.fixture
def study(prepared, tmp_path, monkeypatch):
    """The tiny study in a folder of its own that shares data, episodes and features."""
    for name in ("data", "episodes", "features"):
        (tmp_path / name).symlink_to(prepared / name)
    monkeypatch.chdir(tmp_path)
    return tiny_study(tmp_path, **CHANGES)
