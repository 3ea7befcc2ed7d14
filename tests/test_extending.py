"""The examples of docs/extending.md, applied to a copy of the package and run at a tiny size."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from tiny import ROOT, share, write_params

PAGE = (ROOT / "docs/extending.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
BLOCK = re.compile(r"(?:^`(?P<file>[\w/.]+)`\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
CHANGE = re.compile(r"^-(.+)\n((?:^\+.*\n)+)", re.MULTILINE)


def apply(section: str, project: Path) -> None:
    """Write the new files of a section, make its changes, and merge its parameters into params.yaml."""
    for block in BLOCK.finditer(SECTIONS[section]):
        file, kind, text = block["file"], block["kind"], block["text"]
        if kind == "python":
            assert not (project / file).exists()
            (project / file).write_text(text)
        elif kind == "diff":
            code = (project / file).read_text()
            for old, new in CHANGE.findall(text):
                assert code.count(old) == 1, f"{file}: {old!r}"
                code = code.replace(old, re.sub(r"^\+", "", new, flags=re.MULTILINE).removesuffix("\n"))
            (project / file).write_text(code)
        elif kind == "yaml":
            path = project / "params.yaml"
            study = yaml.safe_load(path.read_text())
            for name, value in yaml.safe_load(text).items():
                study[name] = study[name] | value if isinstance(value, dict) else value
            path.write_text(yaml.safe_dump(study, sort_keys=False))


@pytest.fixture
def project(tmp_path) -> Path:
    """A tiny study beside a copy of the package."""
    shutil.copytree(ROOT / "asgnet", tmp_path / "asgnet", ignore=shutil.ignore_patterns("__pycache__"))
    write_params(tmp_path)
    return tmp_path


def run(project: Path, *commands: str) -> None:
    """Run subcommands of the copy, one after another in one process."""
    lines = [f"assert main({command.split()!r}) == 0" for command in commands]
    code = "\n".join(["from asgnet.cli import main", *lines])
    environment = os.environ | {"PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=project, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[-3000:]


def history(project: Path, dataset: str, arm: str, fold: int) -> pd.DataFrame:
    return pd.read_csv(project / f"results/{dataset}/{arm}/fold{fold}/seed0/history.csv")


def test_an_arm(project, prepared):
    apply("An arm", project)
    share(prepared, project)
    cells = [f"--arm {arm} --fold 1 --seed 0" for arm in ("baseline", "seven_iterations", "blend")]
    run(project, *(f"train {cell}" for cell in cells), f"test {cells[2]}")
    assert not history(project, "parts", "blend", 1).equals(history(project, "parts", "baseline", 1))
    assert (project / "results/parts/blend/fold1/seed0/metrics_1shot.json").exists()


def test_a_dataset(project):
    apply("A dataset", project)
    run(project, "data", "episodes", "features", "train --arm baseline --fold 0 --seed 0")
    assert history(project, "stripes", "baseline", 0)["loss"].notna().all()


def test_a_backbone(project, prepared):
    apply("A backbone", project)
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("pretrained: true", "pretrained: false"))  # its weights are on the hub
    share(prepared, project, "data", "episodes")
    cells = [f"--arm {arm} --fold 1 --seed 0" for arm in ("baseline", "residual_chain")]
    run(project, "features", *(f"train {cell}" for cell in cells))
    assert history(project, "parts", "baseline", 1)["loss"].notna().all()


def test_a_head_that_does_not_exist_is_named(study):
    from dataclasses import replace

    from asgnet.errors import UserError
    from asgnet.model import ASGNet

    with pytest.raises(UserError, match=r"model.head 'blnd': no module asgnet/arms/blnd.py; there"):
        ASGNet(replace(study.model, head="blnd"), encoder=None, vit=None)
