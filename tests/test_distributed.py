"""Two processes on the CPU (gloo) against one: the same losses, the same integer tables, one set of files; and views
made ahead. Run: pytest tests/test_distributed.py"""

import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from online_study import CELL, changed, online_study, torchrun, write_noise
from safetensors.torch import load_file

from asgnet import distributed
from asgnet.cli import main
from asgnet.errors import UserError
from asgnet.layout import Layout
from asgnet.loader import Steps
from asgnet.stages.runs import build_model, open_source
from asgnet.stages.test import run_test
from asgnet.stages.train import run_training
from asgnet.train import StepLoss, dropout_seed, shared


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return write_noise(tmp_path_factory.mktemp("tree"))


@pytest.fixture
def study(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return online_study(tree, precision="float32")


def train_quietly(study):
    return run_training(study, "baseline", 0, 0, report=lambda row: None)


def files() -> set[str]:
    return {str(path) for path in Path().rglob("*") if path.is_file()}


def test_two_processes_train_and_test_as_one_does(study, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Dropout2d, "forward", lambda self, x: x)
        one = train_quietly(study)
    run_test(study, "baseline", 0, 0)
    folder, written = Layout.of(study).run("baseline", 0, 0), files()

    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path / "two")
    online_study(study.data.root, devices=2, precision="float32")
    said = torchrun("train", *CELL, ok=False, DIE="1")
    assert len(list(Path(".resume").rglob("*.pt"))) == 1, said
    assert not any(folder.iterdir())
    said = torchrun("train", *CELL)
    assert [said.count(f"epoch {k}:") for k in (1, 2, 3)] == [1, 1, 0]  # told by one process; the first was resumed
    history = pd.read_csv(folder / "history.csv")
    np.testing.assert_allclose(history["loss"], one.history["loss"], rtol=1e-5)
    np.testing.assert_allclose(history["val_loss"], one.history["val_loss"], rtol=1e-4)
    trained = load_file(folder / "head.safetensors")
    for name, value in one.model.trainable_state().items():
        torch.testing.assert_close(trained[name], value, rtol=1e-4, atol=1e-6)

    shutil.copy(tmp_path / folder / "head.safetensors", folder)
    assert main(["test", *CELL]) == 0  # in compute.devices processes
    assert files() == written
    for name in ("episodes_1shot.csv", "episodes_2shot.csv", "metrics_1shot.json"):
        assert (folder / name).read_text() == (tmp_path / folder / name).read_text()


def test_a_batch_is_divided_evenly_or_refused(monkeypatch):
    monkeypatch.setattr(distributed, "processes", lambda: 2)
    parts = []
    for number in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda number=number: number)
        parts += distributed.share(range(4), "train.batch")
    assert parts == [0, 1, 2, 3]
    with pytest.raises(UserError, match=r"^train.batch: 5 cannot be divided by 2 processes; choose a multiple$"):
        distributed.share(range(5), "train.batch")


def test_why_processes_failed_is_told(tmp_path, monkeypatch, capsys):
    torchrun = tmp_path / "python"
    torchrun.write_text("#!/bin/sh\necho epoch 1\necho 'asgnet: no such file' >&2\necho Traceback\nexit 1\n")
    torchrun.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(torchrun))
    with pytest.raises(UserError, match=r"^no such file$"):
        distributed.launch(["train"], 2)
    assert capsys.readouterr().out.startswith("epoch 1\n")


def test_views_made_ahead_change_nothing(study):
    state, losses = torch.get_rng_state(), []
    for workers in (0, 2):
        losses.append(train_quietly(changed(study, "compute", workers=workers)).history["loss"].tolist())
    assert losses[0] == losses[1]
    assert torch.equal(torch.get_rng_state(), state)


def test_a_mistake_found_in_a_worker_is_one_line(study, monkeypatch):
    def fail(self, number):
        raise UserError("the image is missing: complete the tree")

    monkeypatch.setattr(Steps, "__getitem__", fail)
    with pytest.raises(UserError, match=r"^the image is missing: complete the tree$"):
        train_quietly(changed(study, "compute", workers=1))


@pytest.mark.parametrize("changes", [{"decoder": "aspp"}, {"batch_statistics": True}])
def test_statistics_of_a_batch_are_not_shared(study, monkeypatch, changes):
    source = open_source(study)
    model = build_model(changed(study, "model", **changes), "baseline", 0, source)
    monkeypatch.setattr("asgnet.train.processes", lambda: 2)
    with pytest.raises(UserError, match="statistics of the whole batch"):
        shared(StepLoss(model, source, study.train, 0, ()))


def test_other_stages_are_refused_under_torchrun(study, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["episodes"]) == 2
    assert "asgnet episodes is for one process" in capsys.readouterr().err


def test_dropout_is_a_function_of_random_seed_step_and_rank(monkeypatch):
    drawn = []
    for number in (0, 1):
        monkeypatch.setattr("asgnet.train.rank", lambda number=number: number)
        drawn += [dropout_seed(seed, step) for seed in (0, 1) for step in (0, 1)]
    assert len(set(drawn)) == 8


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"^2 processes, but 1 CUDA devices: lower compute.devices"):
        distributed.launch(["train"], 2)
