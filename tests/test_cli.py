"""Bad input on the command line: one clear line, exit status 2, nothing written."""

import shutil

import pytest
import yaml
from PIL import Image
from tiny import ROOT, tiny_study, write_params
from voc_tree import make_tree

from asgnet.cli import main
from asgnet.config import load_study
from asgnet.errors import UserError


def refused(capsys, *arguments: str) -> str:
    """Run the command; it must end with status 2 and one line, which is returned."""
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


RUN = ("--arm", "baseline", "--fold", "1", "--seed", "0")


@pytest.mark.parametrize(
    ("section", "changes", "said"),
    [
        ("model", {"widht": 32}, "'widht' is unknown; did you mean 'width'"),
        ("model", {"width": "wide"}, "model.width: expected int, got 'wide'"),
        ("model", {"decoder": "unet"}, "'unet' is not one of fem, aspp"),
        ("train", {"lr": True}, "train.lr: expected float"),
        ("data", {"size": 256}, "256 is not 8 n + 1; try 257"),
        ("arms", {"bad": {"label": "bad", "model": {"vitt": "cls"}}}, "arm bad: model: parameter 'vitt' is unknown"),
        ("arms", {"bad": {"model": {}}}, "parameter label is missing"),
    ],
)
def test_parameters_are_read_strictly(tmp_path, monkeypatch, capsys, section, changes, said):
    monkeypatch.chdir(tmp_path)
    path = write_params_unchecked(tmp_path, section, changes)
    assert said in refused(capsys, "episodes", "--params", str(path))
    assert list(tmp_path.iterdir()) == [path]


def write_params_unchecked(folder, section, changes):
    path = write_params(folder)
    study = yaml.safe_load(path.read_text())
    study[section] |= changes
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return path


def test_a_missing_params_file_and_one_that_is_no_yaml(tmp_path, capsys):
    assert "no such file" in refused(capsys, "data", "--params", str(tmp_path / "params.yaml"))
    (tmp_path / "params.yaml").write_text("a: [")
    assert "not readable as YAML" in refused(capsys, "data", "--params", str(tmp_path / "params.yaml"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "--arm", "basline", "--fold", "1", "--seed", "0"), "did you mean 'baseline'"),
        (("train", "--arm", "baseline", "--fold", "7", "--seed", "0"), "fold 7 is not in params.yaml"),
        (("test", "--arm", "nothing", "--fold", "1", "--seed", "0"), "arm 'nothing' is unknown"),
        (("training-free", "--arm", "cosine", "--fold", "1"), "training-free arm 'cosine' is unknown"),
        (("train", *RUN), "no dataset at data/parts"),
        (("episodes",), "no dataset at data/parts"),
        (("features",), "cannot read the table"),
        (("collect",), "no runs of"),
        (("evaluate", "nowhere"), "holds no train.json"),
    ],
)
def test_unknown_names_and_missing_input(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path)
    assert said in refused(capsys, *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_a_dataset_error_leaves_no_episodes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, data={"dataset": "pascal5i", "root": "tree", "min_test_images": 1})
    make_tree(tmp_path / "tree")
    Image.new("P", (3, 3)).save(next((tmp_path / "tree").rglob("SegmentationClassAug/*.png")))
    assert "expected equal sizes" in refused(capsys, "episodes")
    assert not (tmp_path / "episodes").exists()


def test_damaged_weights_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    study = tiny_study(tmp_path)
    folder = tmp_path / "initmodel"
    folder.mkdir()
    (folder / "tf_efficientnet_lite0.safetensors").write_bytes(b"\x00" * 20)
    from asgnet.backbones import build_encoder

    with pytest.raises(UserError, match="tf_efficientnet_lite0"):
        build_encoder(study.model, folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize("command", [("test", *RUN), ("training-free", *RUN[:4]), ("ablate", *RUN)])
def test_stages_refuse_to_score_like_for_like(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, test={"like_for_like": True}, training_free={"baseline": {"label": "none"}})
    assert "test.like_for_like is true, but the pipeline's stages" in refused(capsys, *command)
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_the_studies_of_the_repository_are_valid():
    for name in (".", "pipelines/coco20i", "pipelines/demo", "pipelines/pascal5i", "pipelines/voc_animals"):
        study = load_study(ROOT / name / "params.yaml")
        assert {"baseline", "vit_cls", "vit_patch", "residual_chain"} <= set(study.arms)
        assert len(study.training_free) == 5


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("folt=1", "did you mean 'fold'"),
        ("fold", "not of the form name=value"),
        ("fold=9", "fold 9 is not in params.yaml"),
    ],
)
def test_a_notebook_is_run_strictly(tmp_path, monkeypatch, capsys, setting, said):
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path)
    assert said in refused(capsys, "notebook", str(ROOT / "notebooks/train.ipynb"), "out/train.ipynb", setting)
