"""What only a GPU shows: half precision, torch.compile there, two processes over NCCL. Run: pytest -m gpu"""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from online_study import CELL, changed, online_study, torchrun, write_noise

from asgnet.cli import main
from asgnet.data.episodes import read_episodes
from asgnet.evaluate import score_episodes
from asgnet.layout import Layout
from asgnet.metrics import COUNTS
from asgnet.source import OnlineSource
from asgnet.stages.runs import load_run, open_source
from asgnet.stages.test import run_test
from asgnet.stages.train import run_training

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return online_study(write_noise(tmp_path / "tree"), precision="float32")


def losses(study) -> np.ndarray:
    return run_training(study, "baseline", 0, 0, report=lambda row: None).history["loss"].to_numpy()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_training_in_half_precision_is_near_float32(study, precision):
    half = changed(study, "compute", precision=precision)
    assert open_source(half).dtype == getattr(torch, precision)
    trained = run_training(half, "baseline", 0, 0, report=lambda row: None)
    assert all(value.dtype == torch.float32 for value in trained.model.trainable_state().values())
    np.testing.assert_allclose(trained.history["loss"], losses(study), rtol=0.1)


def test_a_stopped_run_in_float16_goes_on(study):
    half = changed(study, "compute", precision="float16")
    whole = losses(half)

    def stop_at_two(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(half, "baseline", 0, 0, report=stop_at_two)
    np.testing.assert_allclose(losses(half), whole, rtol=1e-2)


def test_testing_on_the_gpu_counts_what_the_cpu_counts(study, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    losses(study)
    model = load_run(study, Layout.of(study).run("baseline", 0, 0))
    source = open_source(study)
    episodes = read_episodes(Layout.of(study).episodes(0, "test"))
    gpu = score_episodes(model, source, episodes, 1)
    cpu = score_episodes(model.cpu(), OnlineSource(study, source.tree, torch.device("cpu")), episodes, 1)
    apart = (gpu[COUNTS] - cpu[COUNTS]).abs().to_numpy().sum()
    assert apart <= 0.01 * cpu[COUNTS].to_numpy().sum()


def test_compiled_layers_give_the_same_losses(study):
    np.testing.assert_allclose(losses(changed(study, "compute", compile=True)), losses(study), rtol=1e-2)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
def test_two_processes_over_nccl_train_and_test_as_one_does(study, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Dropout2d, "forward", lambda self, x: x)
        one = losses(study)
    folder = Layout.of(study).run("baseline", 0, 0)
    shutil.rmtree(folder)
    torchrun("train", *CELL)
    np.testing.assert_allclose(pd.read_csv(folder / "history.csv")["loss"], one, rtol=1e-2)
    run_test(study, "baseline", 0, 0)
    table = (folder / "episodes_1shot.csv").read_text()
    online_study(study.data.root, precision="float32", devices=2)
    assert main(["test", *CELL]) == 0
    assert (folder / "episodes_1shot.csv").read_text() == table
