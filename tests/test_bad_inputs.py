"""Bad input of every kind: one line that names it and says what to do, exit status 2, an untouched tree.

Beside it: test_cli.py (unknown names, missing input, types of parameters), test_tree.py, test_voc.py, test_coco.py and
test_weights.py (files of datasets and weights), test_import.py (published checkpoints), test_sweep.py (its options),
test_predict.py and test_fuzz.py (photographs), test_fetch.py (archives), test_resume.py (killed at any write).
"""

import hashlib
import json
import os
import pickle
import shutil
import struct
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import papermill
import pytest
import torch
import yaml
from jupyter_client.kernelspec import NoSuchKernel
from noise import write_noise
from safetensors.torch import load_file, save_file
from study import history
from test_sweep import write_project as write_pipeline
from tiny import ROOT

from asgnet import files, notebook
from asgnet.checkpoint import load_state, save_head
from asgnet.cli import main
from asgnet.config import load_study
from asgnet.data.episodes import read_episodes, supports_of
from asgnet.errors import UserError
from asgnet.files import write_json
from asgnet.layout import Layout
from asgnet.look.saved import saved_predictions
from asgnet.metrics import COUNTS
from asgnet.results import find_runs
from asgnet.rng import generator
from asgnet.sections import TrainConfig
from asgnet.source import StoredSource
from asgnet.stages.episodes import make_episodes
from asgnet.stages.features import make_features
from asgnet.stages.figures import Drawer
from asgnet.stages.runs import build_model, open_source
from asgnet.store import Store
from asgnet.strict import build

CELL = ("--arm", "baseline", "--fold", "1", "--seed", "0")
TRAIN, TEST = ("train", *CELL), ("test", *CELL)
RUN = "results/pascal5i/baseline/fold1/seed0"
EVALUATE = ("evaluate", RUN, "--episodes", "2")
NOTEBOOK = ("notebook", "train.ipynb", "out.ipynb")
STORE, EPISODES = "features/pascal5i", "episodes/pascal5i"
LITE0 = "initmodel/tf_efficientnet_lite0.pth"
LISTS, MASKS = "tree/VOC2012/ImageSets/Segmentation", "tree/VOC2012/SegmentationClassAug"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A project with episodes, features and one run (not really trained), in a folder with spaces and umlauts."""
    folder = tmp_path_factory.mktemp("whole") / "Übung 1, ganz (für später)"
    folder.mkdir()
    write_noise(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        study = load_study()
        make_episodes(study)
        make_features(study)
        run, source = Layout.of(study).run("baseline", 1, 0), open_source(study)
        model = build_model(study, "baseline", 0, source)
        save_head(run, model.trainable_state(), model.config, list(model.sources))
        write_json(run / "train.json", {"arm": "baseline", "fold": 1, "seed": 0, "best_epoch": 3})
        history(0.5, 1, 0, 3).to_csv(run / "history.csv", index=False)
        table = read_episodes(Layout.of(study).episodes(1, "test"))
        table.assign(**dict.fromkeys(COUNTS, 1)).to_csv(run / "episodes_1shot.csv", index=False)
        shutil.copy(ROOT / "notebooks/train.ipynb", folder)
    return folder


@pytest.fixture
def project(whole, tmp_path, monkeypatch):
    """A copy of it, the working folder."""
    folder = tmp_path / whole.name
    shutil.copytree(whole, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(files, "PATIENCE", 0)
    return folder


def contents(folder: Path) -> dict[str, str]:
    """Path -> digest of all that lies in the folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def refused(capsys, *arguments: str) -> str:
    """Run the command: status 2, one line, which is returned, and an untouched tree."""
    before = contents(Path.cwd())
    try:
        status = main(arguments)
    except SystemExit as end:
        status = end.code
    lines = capsys.readouterr().err.strip().splitlines()
    assert (status, len(lines)) == (2, 1), lines
    assert lines[0].startswith("asgnet: ")
    assert contents(Path.cwd()) == before
    return lines[0]


# Each kind of damage is a function of the file.


def write(content: str | bytes):
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


def cut(share: float):
    return lambda path: os.truncate(path, int(path.stat().st_size * share))


def gone(path: Path) -> None:
    path.unlink()


def folder_instead(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def file_instead(path: Path) -> None:
    shutil.rmtree(path)
    path.touch()


def edit(old: str, new: str):
    return lambda path: path.write_text(path.read_text().replace(old, new))


def set_to(section: str | None, **values):
    def change(path: Path) -> None:
        study = yaml.safe_load(path.read_text())
        (study if section is None else study[section]).update(values)
        path.write_text(yaml.safe_dump(study, sort_keys=False))

    return change


def array(*shape: int, dtype: str = "float16"):
    return lambda path: np.save(path, np.zeros(shape, dtype))


def not_finite(path: Path) -> None:
    weights = load_file(path)
    name = next(name for name in weights if weights[name].is_floating_point())
    weights[name].fill_(float("nan"))
    save_file(weights, path)


def bomb(path: Path) -> None:
    """A PNG of a few bytes that says it has 60,000 x 60,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, b"IDAT")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


class Trap:
    """Unpickled, it makes a file."""

    def __reduce__(self):
        return Path.touch, (Path("trapped"),)


def trap(path: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": Trap()}, 2))


PARAMS = [
    (write(""), "params.yaml: parameter home is missing"),
    (write("- a\n- b\n"), "params.yaml: expected a table of parameters"),
    (write(b"\xff\xfe\x00\x01"), "params.yaml: not readable as YAML"),
    (folder_instead, "params.yaml: not readable as YAML"),
    (cut(0.5), "params.yaml: "),
    (set_to("train", lr=float("nan")), "train.lr: nan is not finite; expected a number"),
    (set_to("train", lr=-0.1), "train.lr: -0.1 is too small; expected at least 0"),
    (set_to("train", epochs=0), "train.epochs: 0 is too small; expected at least 1"),
    (set_to("train", batch=-4), "train.batch: -4 is too small"),
    (set_to("features", views=0), "features.views: 0 is too small"),
    (set_to("data", size=-7), "data.size: -7 is too small; expected at least 9"),
    (set_to("data", seed=-1), "data.seed: -1 is too small"),
    (set_to("data", val_fraction=1.5), "data.val_fraction: 1.5 is no share"),
    (set_to("model", dropout=1.0), "model.dropout: 1.0 is no share"),
    (set_to("model", spatial_weight=float("inf")), "model.spatial_weight: inf is not finite"),
    (set_to("test", shots=[]), "test.shots: the list is empty"),
    (set_to("test", shots=[1, 0]), "test.shots: 0 is too small"),
    (set_to("episodes", test=0), "episodes.test: 0 is too small"),
    (set_to(None, folds=[]), "folds: there is none; expected at least one"),
    (set_to(None, seeds=[0, -1]), "seeds: -1 is too small"),
    (set_to("compute", threads=-2), "compute.threads: -2 is too small"),
    (set_to(None, folds=[1, 9]), "fold 9 does not exist: expected 0 to 3"),
]


@pytest.mark.parametrize(("damage", "said"), PARAMS)
def test_parameters(project, capsys, damage, said):
    damage(project / "params.yaml")
    assert said in refused(capsys, "episodes")


INPUTS = [
    # the tree
    ("episodes", "tree", file_instead, "no dataset at tree"),
    ("episodes", f"{LISTS}/val.txt", write(b"v1_0\n\xff\xfe\n"), "val.txt is no text"),
    ("episodes", f"{LISTS}/val.txt", write("v1_0\nv1_1\nv1_0\n"), "val.txt names v1_0 twice"),
    ("episodes", f"{LISTS}/val.txt", write("../../secret\n"), "secret.jpg is missing, though the test list"),
    ("episodes", f"{MASKS}/v1_0.png", bomb, "v1_0.png is too large"),
    ("episodes", "tree/VOC2012/JPEGImages/v1_0.jpg", write(""), "cannot read the image tree/VOC2012/JPEGImages/v1_0"),
    # episodes
    ("features", f"{EPISODES}/index.csv", write(""), "cannot read the table episodes/pascal5i/index.csv"),
    ("features", f"{EPISODES}/index.csv", write(b"\xff\x00" * 40), "cannot read the table"),
    (TRAIN, f"{EPISODES}/fold1/val.csv", cut(0.97), "val.csv: expected a whole CSV"),
    (TRAIN, f"{EPISODES}/fold1/val.csv", gone, "cannot read the table episodes/pascal5i/fold1/val.csv"),
    (TEST, f"{EPISODES}/fold1/test.csv", edit("class", "label"), "has columns episode, label"),
    (TEST, f"{EPISODES}/fold1/test.csv", edit("v", "w"), "no view 0 of image 'w"),
    (TEST, f"{EPISODES}/fold1/test.csv", edit("0,6", "0,six"), "test.csv: expected a whole CSV"),
    (TEST, "params.yaml", set_to("test", shots=[3]), "an episode has 2 supports, not 3"),
    # the feature store
    (TRAIN, f"{STORE}/meta.json", gone, "no finished feature store; make it with `asgnet features`"),
    (TRAIN, f"{STORE}/meta.json", cut(0.5), "a damaged feature store"),
    (TRAIN, f"{STORE}/meta.json", write("[]"), "a damaged feature store"),
    (TRAIN, f"{STORE}/views.csv", write(""), "a damaged feature store"),
    (TRAIN, f"{STORE}/cnn.npy", write(""), "a damaged feature store"),
    (TRAIN, f"{STORE}/vit.npy", cut(0.9), "a damaged feature store"),
    (TRAIN, f"{STORE}/mask.npy", array(3, 65, 65, dtype="uint8"), "a damaged feature store"),
    (TRAIN, f"{STORE}/image.npy", lambda path: np.save(path, np.array([Trap()])), "a damaged feature store"),
    (TRAIN, "params.yaml", set_to("data", size=73), "made with size 65, not 73"),
    (TRAIN, "params.yaml", set_to("model", backbone="resnet50"), "made with backbone lite0, not resnet50"),
    # a run
    (TEST, f"{RUN}/head.safetensors", write(""), "not readable as trained weights"),
    (TEST, f"{RUN}/head.safetensors", not_finite, "is not finite; lower train.lr"),
    (TEST, f"{RUN}/meta.json", gone, "meta.json: no such file; train the run first"),
    (TEST, f"{RUN}/meta.json", write("[1]"), "not readable as trained weights"),
    (TEST, f"{RUN}/meta.json", edit('"width": 16', '"width": 24'), "these weights belong to another network"),
    (EVALUATE, f"{RUN}/train.json", cut(0.5), "train.json: not what a training run writes"),
    (EVALUATE, f"{RUN}/train.json", write("[]"), "train.json: not what a training run writes"),
    # notebooks
    (NOTEBOOK, "train.ipynb", gone, "train.ipynb: no such notebook"),
    (NOTEBOOK, "train.ipynb", write(""), "train.ipynb: damaged, or no notebook"),
    (NOTEBOOK, "train.ipynb", write('{"cells": 3}'), "train.ipynb: damaged, or no notebook"),
    (NOTEBOOK, "out.ipynb", folder_instead, "out.ipynb: is a folder; name the notebook to write"),
    ((*NOTEBOOK, "fold=["), "train.ipynb", lambda path: None, "fold: '[' is not a value"),
    # a published checkpoint
    (("import-reference", "c.pth", "--fold", "1"), "c.pth", write(""), "c.pth: truncated or no checkpoint"),
    (("import-reference", "c.pth", "--fold", "1"), "c.pth", trap, "c.pth: truncated or no checkpoint"),
    # weights of the frozen networks
    (
        "features",
        "initmodel/tf_efficientnet_lite0.pth",
        write(""),
        "tf_efficientnet_lite0.pth: not readable as weights",
    ),
    ("features", "initmodel/tf_efficientnet_lite0.pth", trap, "tf_efficientnet_lite0.pth: not readable as weights"),
]


@pytest.mark.parametrize(("command", "name", "damage", "said"), INPUTS)
def test_inputs(project, capsys, command, name, damage, said):
    (project / name).parent.mkdir(exist_ok=True)
    damage(project / name)
    assert said in refused(capsys, *([command] if isinstance(command, str) else command))
    assert not (project / "trapped").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "the following arguments are required: COMMAND; see `asgnet --help`"),
        (("tarin",), "invalid choice: 'tarin'"),
        (("train", "--arm", "baseline", "--fold", "one", "--seed", "0"), "invalid int value: 'one'"),
        (("train", "--arm", "baseline", "--fold", "1", "--seed", "-3"), "random seed -3: expected 0 or more"),
        (("episodes", "--params", "."), ".: not readable as YAML"),
        (("evaluate", f"{RUN}/train.json"), "holds no train.json"),
        (("evaluate", RUN, "--episodes", "0"), "--episodes 0: expected 1 or more"),
        (("evaluate", RUN, "--data-root", "nö where"), "no dataset at nö where"),
    ],
)
def test_arguments(project, capsys, arguments, said):
    assert said in refused(capsys, *arguments)


@pytest.mark.parametrize("command", ["features", TRAIN, TEST])
def test_two_at_once(project, capsys, command):
    folder = STORE if command == "features" else RUN
    shutil.rmtree(project / ".resume", ignore_errors=True)
    with files.alone(Path(folder)):
        line = refused(capsys, *([command] if isinstance(command, str) else command))
    assert f"{folder}: another process is writing there" in line


def test_a_photograph_cut_off_in_mid_file_leaves_no_store(project, capsys):
    cut(0.5)(project / "tree/VOC2012/JPEGImages/v1_0.jpg")
    assert main(["features"]) == 2
    assert "JPEGImages/v1_0.jpg" in capsys.readouterr().err
    with pytest.raises(UserError, match="no finished feature store"):
        Store(project / STORE)


@pytest.fixture
def other_user(project, monkeypatch):
    """The project in a folder of a user who is not the superuser, as whom the returned function calls main."""
    if os.name != "posix":
        pytest.skip("permissions are those of POSIX")
    user = 65534 if os.geteuid() == 0 else os.geteuid()  # nobody
    with tempfile.TemporaryDirectory() as parent:  # pytest's own folders are closed to other users
        folder = Path(parent) / project.name
        shutil.copytree(project, folder)
        monkeypatch.chdir(folder)
        for path in (Path(parent), folder, *folder.rglob("*")):
            os.chown(path, user, -1)

        def call(*arguments: str) -> int:
            own = os.geteuid()
            os.seteuid(user)
            try:
                return main(arguments)
            finally:
                os.seteuid(own)

        assert notebook  # imported before: another user may not reach the libraries
        yield call
        for path in folder.rglob("*"):
            path.chmod(0o700)


@pytest.mark.parametrize(
    ("command", "name", "mode", "said"),
    [
        (TEST, RUN, 0o500, f"{RUN}"),  # results that may only be read
        (TRAIN, RUN, 0o500, f"{RUN}"),
        (TEST, RUN, 0o000, f"{RUN}"),
        (TRAIN, f"{STORE}/cnn.npy", 0o000, STORE),
        (TRAIN, f"{EPISODES}/fold1/val.csv", 0o000, "cannot read the table episodes/pascal5i/fold1/val.csv"),
        (("episodes",), "params.yaml", 0o000, "params.yaml"),
        (("episodes",), EPISODES, 0o500, EPISODES),
        (("episodes",), f"{MASKS}/v1_0.png", 0o000, "v1_0.png"),
        (NOTEBOOK, "train.ipynb", 0o000, "train.ipynb"),
    ],
)
def test_without_permission(other_user, capsys, command, name, mode, said):
    before = contents(Path.cwd())
    Path(name).chmod(mode)
    status = other_user(*command)
    lines = capsys.readouterr().err.strip().splitlines()
    assert (status, len(lines)) == (2, 1), lines
    assert said in lines[0]
    assert contents(Path.cwd()) == before


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted; run the same command again"),
        (OSError(28, os.strerror(28), "episodes_1shot.csv"), 2, "episodes_1shot.csv: No space left"),
    ],
)
def test_a_write_that_is_interrupted_leaves_the_old_file(project, capsys, monkeypatch, error, status, said):
    """Killed in the middle of a write, at any: test_resume.py."""

    def half(table, path, **_):
        path.write_text("episode,cl")
        raise error

    before = contents(project)
    monkeypatch.setattr(pd.DataFrame, "to_csv", half)
    assert main(TEST) == status
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert contents(project) == before


@pytest.mark.parametrize("number", [13, 28, 30])  # no permission, no space left, read-only file system
def test_results_that_cannot_be_written(project, capsys, monkeypatch, number):
    def fail(self, target):
        raise OSError(number, os.strerror(number), str(self), None, str(target))

    monkeypatch.setattr(Path, "replace", fail)  # after the whole file was written
    line = refused(capsys, *TEST)
    assert line == f"asgnet: {RUN}/episodes_1shot.csv: {os.strerror(number)}; see to that and run again"


def test_a_file_in_the_place_of_a_folder(project, capsys):
    shutil.rmtree("results")
    Path("results").touch()
    assert "asgnet: results" in refused(capsys, *TRAIN)


def test_a_kernel_that_is_missing(project, capsys, monkeypatch):
    def fail(*_, **__):
        raise NoSuchKernel("python3")

    monkeypatch.setattr(papermill, "execute_notebook", fail)
    assert "no kernel 'python3'; install it with" in refused(capsys, *NOTEBOOK)


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("dvc.yaml", write(""), "nothing"),
        ("dvc.yaml", write("stages: ["), "DVC cannot read the pipeline"),
        ("dvc.yaml", write("stages: {one: {cmd: 'true', dep: [x]}}"), "DVC cannot read the pipeline"),
        ("dvc.yaml", write("stages: {one: {cmd: 'true ${nothing}'}}"), "DVC cannot read the pipeline"),
        ("dvc.lock", write("schema: '2.0'\nstages: ["), "DVC cannot read the pipeline"),
        ("dvc.lock", write("schema: '2.0'\nstages: {prepare: 3}"), "DVC cannot read the pipeline"),
    ],
)
def test_pipelines(tmp_path, monkeypatch, capsys, name, damage, said):
    monkeypatch.chdir(tmp_path)
    write_pipeline(tmp_path)
    damage(tmp_path / name)
    if said == "nothing":
        assert main(["sweep", "--plan"]) == 0
    else:
        assert main(["sweep", "--plan"]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert said in lines[0]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("episodes_1shot.csv", write("")),
        ("episodes_1shot.csv", cut(0.99)),
        ("episodes_1shot.csv", write("a,b\n1,2\n")),
        ("history.csv", cut(0.5)),
        ("train.json", write("3")),
    ],
)
def test_tables_of_a_run(project, name, damage):
    damage(project / RUN / name)
    (project / "results/pascal5i/baseline/foldx/seed0").mkdir(parents=True)  # none of the study's
    (run,) = find_runs(project / "results/pascal5i")
    with pytest.raises(UserError, match=name):
        run.history(), run.training(), run.episodes(1)


def test_tables_and_examples_for_figures(project):
    (project / "results/pascal5i/main_table.csv").touch()
    with pytest.raises(UserError, match=r"main_table.csv: damaged; run `asgnet collect`"):
        Drawer(load_study()).table()
    (project / "examples.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match=r"examples.npz: missing or damaged"):
        saved_predictions(project / "examples.npz", ())


def test_from_python(project):
    with pytest.raises(UserError, match=r"train.lr: expected float, got 'fast'"):
        build(TrainConfig, {"lr": "fast"}, "train")
    with pytest.raises(UserError, match="random seed -1: expected 0 or more"):
        generator(-1, "dropout")
    with pytest.raises(UserError, match="2 supports, not 3"):
        supports_of(read_episodes(f"{EPISODES}/fold1/test.csv"), 3)
    study, store = load_study(), Store(STORE)
    with pytest.raises(UserError, match="no view 5 of image 't1_0'"):
        store.rows(["t1_0"], [5])
    store.meta["model"]["vit_size"] = 28
    with pytest.raises(UserError, match="made with vit_size 28, not 56"):
        StoredSource(study, store, None)
    with pytest.raises(UserError, match=r"made with vit_sizes \(28,\), not \(28, 42\)"):
        StoredSource(replace(study, features=replace(study.features, vit_sizes=(28, 42))), Store(STORE), None)
    state = project / "state.pt"
    for content in (b"", pickle.dumps(Trap(), 2)):
        state.write_bytes(content)
        with pytest.raises(UserError, match=r"state.pt: not readable as training state"):
            load_state(state)
    torch.save({"trap": Trap()}, state)
    with pytest.raises(UserError, match="not readable as training state"):
        load_state(state)
    assert not (project / "trapped").exists()


def test_spaces_and_umlauts_do_no_harm(project, capsys):
    assert main([*EVALUATE, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 2
