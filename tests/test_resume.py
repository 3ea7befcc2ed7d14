"""Killed at any moment and run again: the same bytes in the end, and nothing old or half-written is taken for whole."""

import os
import shutil
import subprocess
from pathlib import Path
from random import Random

import pytest
import torch
import yaml
from dvc.repo import Repo
from imports import ROOT, closure
from killed import End, run
from noise import write_noise
from test_sweep import repro

from asgnet import files, fingerprint
from asgnet.checkpoint import META, load_head, save_head
from asgnet.errors import UserError
from asgnet.sections import ModelConfig
from asgnet.stages.features import MODULES
from asgnet.sweep.pools import _local_jobs

CELL = ("--arm", "baseline", "--fold", "1", "--seed", "0")
STEPS = {"features": ("features",), "train": ("train", *CELL), "test": ("test", *CELL)}
MADE = {"features": ("features",), "train": ("results",), "test": ("results", "receipts")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, dict[str, End]]:
    """A project in which every step ran undisturbed, and how each went."""
    folder = tmp_path_factory.mktemp("whole") / "project"
    folder.mkdir()
    write_noise(folder)
    assert run(folder, "episodes").status == 0
    ends = {name: run(folder, *arguments) for name, arguments in STEPS.items()}
    assert [end.status for end in ends.values()] == [0, 0, 0], Path(f"{folder}.log").read_text()
    return folder, ends


def project_before(step: str, whole: Path, folder: Path) -> Path:
    """A copy of the project as it is before ``step``."""
    made = {"features": (), "train": ("features",), "test": ("features", "results")}[step]
    for name in ("tree", "episodes", *made):
        shutil.copytree(whole / name, folder / name)
    shutil.copy(whole / "params.yaml", folder)
    if step == "test":
        for path in (folder / "results").rglob("*_?shot.*"):
            path.unlink()
    return folder


def contents(folder: Path, *names: str) -> dict[str, bytes]:
    """All files below the named folders, without the records of time and memory."""
    paths = [path for name in names for path in (folder / name).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.name != "run.json"}


def kills(step: str, end: End) -> list[dict]:
    """Where to kill ``step``: early, in the middle, while it writes, at the end; drawn with a fixed random seed."""
    rng = Random(step)
    early, late = rng.randint(1, end.changes // 3), rng.randint(1, end.changes - 1)
    drawn = [{"change": early}, {"seconds": end.seconds * rng.uniform(0.3, 0.8)}, {"change": late}]
    writing = {
        "features": [("cnn.npy", 1), ("progress", 3), ("meta", 3)],
        "train": [(".partial.pt", 1), ("history", 2), ("head", 2), ("meta", 2), ("train.", 1)],
        "test": [("episodes_1", 2), ("metrics_2", 2), ("examples", 2), ("baseline-", 2)],
    }
    return [*drawn, *({"at": name, "change": count} for name, count in writing[step])]


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_step_ends_with_the_same_bytes(step, whole, tmp_path):
    reference, ends = whole
    folder = project_before(step, reference, tmp_path / "project")
    killed = [run(folder, *STEPS[step], **kill).status for kill in kills(step, ends[step])]
    assert set(killed) <= {-9, 0}
    assert killed.count(-9) >= len(killed) - 2  # the time may be up too late, the last change be reached too early
    assert run(folder, *STEPS[step]).status == 0
    expected = contents(reference, *MADE[step])
    if step == "train":
        expected = {name: data for name, data in expected.items() if "shot" not in name and "examples" not in name}
    found = contents(folder, *MADE[step])
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []
    assert not list((folder / ".resume").rglob("*.*"))


def test_progress_of_other_parameters_is_not_gone_on_from(whole, tmp_path):
    folder = project_before("features", whole[0], tmp_path / "project")
    assert run(folder, "features", at="progress", change=6).status == -9
    assert (folder / "features/pascal5i/progress.json").exists()
    params = folder / "params.yaml"
    own = params.read_text()
    study = yaml.safe_load(own)
    study["data"]["seed"] += 1  # other views of the same shape
    params.write_text(yaml.safe_dump(study))
    assert run(folder, "features", at="progress", change=2).status == -9  # when it is about to note the first rows
    params.write_text(own)
    assert run(folder, "features").status == 0
    assert contents(folder, "features") == contents(whole[0], "features")


def test_a_cut_off_array_is_no_store(whole, tmp_path):
    folder = project_before("train", whole[0], tmp_path / "project")
    path = folder / "features/pascal5i/cnn.npy"
    os.truncate(path, path.stat().st_size // 2)
    assert run(folder, *STEPS["train"]).status == 2
    assert "features/pascal5i: a damaged feature store; make it with" in Path(f"{folder}.log").read_text()
    assert not (folder / "results").exists()
    assert run(folder, "features").status == 0
    assert contents(folder, "features") == contents(whole[0], "features")


PIPELINE = """
stages:
  first: {cmd: echo data > data.txt, outs: [data.txt]}
  cell:
    matrix: {arm: [a, b]}
    cmd: mkdir -p out && echo ${item.arm} > out/${item.arm}.txt && sleep 0.2 && cat data.txt >> out/${item.arm}.txt
    deps: [data.txt]
    outs:
      - out/${item.arm}.txt: {cache: false}
  last: {cmd: cat out/* > summary.txt, deps: [out/a.txt, out/b.txt], outs: [summary.txt]}
"""


def write_pipeline(folder: Path) -> Path:
    folder.mkdir()
    (folder / "dvc.yaml").write_text(PIPELINE)
    Repo.init(folder, no_scm=True).close()
    return folder


def test_a_killed_sweep_is_finished_by_the_next(tmp_path, monkeypatch):
    whole, folder = (write_pipeline(tmp_path / name) for name in ("whole", "killed"))
    end, rng = run(whole, "sweep"), Random("sweep")
    assert end.status == 0, Path(f"{whole}.log").read_text()
    early, late = rng.randint(1, end.changes // 3), rng.randint(end.changes // 3, end.changes)
    for kill in ({"change": early}, {"at": ".partial.lock", "change": 2}, {"change": late}):
        run(folder, "sweep", **kill)
    assert run(folder, "sweep").status == 0, Path(f"{folder}.log").read_text()
    assert _local_jobs(folder / ".sweep" / "jobs") == []
    assert (folder / "summary.txt").read_text() == "a\ndata\nb\ndata\n"
    locks = [yaml.safe_load((tree / "dvc.lock").read_text()) for tree in (folder, whole)]
    assert locks[0] == locks[1]  # cells run side by side and are written in the order in which they end
    assert not list(folder.glob(".*partial*"))
    monkeypatch.chdir(folder)
    assert repro() == []


def test_a_cut_off_rwlock_does_not_stop_a_sweep(tmp_path):
    folder = write_pipeline(tmp_path / "project")
    (folder / ".dvc/tmp").mkdir(exist_ok=True)
    (folder / ".dvc/tmp/rwlock").write_text('{"read": {"/x')
    assert run(folder, "sweep", "first").status == 0, Path(f"{folder}.log").read_text()


def test_only_what_dead_processes_left_is_removed(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = [f".table.{gone.pid}.partial.csv", f".other.{gone.pid}.partial.csv"]
    kept = [".notes.txt", f".other.{os.getppid()}.partial.csv", "table.1.partial.csv"]
    for name in (*left, *kept):
        (tmp_path / name).touch()
    files.write_json(tmp_path / "table.json", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "table.json"])


def test_a_folder_is_held_by_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 0)
    said = pytest.raises(UserError, match="another process is writing there")
    with files.alone(tmp_path), said, files.alone(tmp_path):
        raise AssertionError("not alone")
    with files.alone(tmp_path):
        pass


def test_weights_without_their_description_are_no_run(tmp_path):
    save_head(tmp_path, {"w": torch.zeros(1)}, ModelConfig(), [3])
    (tmp_path / META).unlink()
    with pytest.raises(UserError, match="train the run first"):
        load_head(tmp_path)


def test_whatever_changes_gives_another_key(tmp_path, monkeypatch):
    package, data = tmp_path / "asgnet", tmp_path / "index.csv"
    (package / "data").mkdir(parents=True)
    for name in ("train.py", "data/tree.py", "plots.py"):
        (package / name).touch()
    data.write_text("a")
    monkeypatch.setattr(fingerprint, "PACKAGE", package)

    def key(params=1, weight=0.0, modules=None):
        return fingerprint.fingerprint({"x": params}, [data], modules, {"w": torch.tensor([weight])})

    first, named = key(), key(modules=["data"])
    assert key() == first
    assert len({first, key(params=2), key(weight=1.0), named}) == 4
    (package / "plots.py").write_text("# only presents")
    assert key() == first
    (package / "train.py").write_text("# changed")
    second = key()
    assert key(modules=["data"]) == named
    (package / "data/tree.py").write_text("# changed")
    data.write_text("b")
    monkeypatch.setattr(fingerprint, "version", lambda name: "0")
    assert len({first, second, key()}) == 3
    assert key(modules=["data"]) != named


def test_the_key_of_features_knows_the_code_that_makes_them():
    code = {name.removeprefix("asgnet/").removesuffix(".py") for name in closure({ROOT / "asgnet/store.py"})}
    assert code - set(MODULES) == {"config", "sections", "strict"}  # whose values are in the key themselves
