"""The pipeline: what dvc.yaml promises, and the whole of it run at a tiny size through papermill and DVC."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import yaml
from dvc.repo import Repo
from imports import ROOT, closure, notebook_imports
from tiny import write_params

from asgnet.config import load_study

STAGES = ROOT / "asgnet" / "stages"
BIN = Path(sys.executable).parent


def stage_deps() -> dict[str, tuple[str, set[str]]]:
    """Stage name -> its command and the package files that it lists."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return {
        name: (stage["cmd"], {dep.removeprefix("${home}/") for dep in stage["deps"] if "${home}/asgnet" in dep})
        for name, stage in stages.items()
    }


@pytest.mark.parametrize("name", stage_deps())
def test_a_stage_depends_on_the_modules_it_imports(name):
    command, listed = stage_deps()[name]
    notebook = re.search(r"notebooks/(\w+)\.ipynb", command)
    if name.startswith("train") and notebook:  # its notebook also draws, which nothing depends on
        start = {STAGES / "train.py"}
    elif notebook:
        start = notebook_imports(ROOT / notebook[0])
    else:
        start = {STAGES / f"{command.split()[1].replace('training-free', 'test').replace('-', '_')}.py"}
    assert listed == closure(start)


def test_the_pipelines_of_the_other_datasets_are_the_same_file():
    for folder in ("check", "coco20i", "demo", "pascal5i", "residual", "voc_animals"):
        assert (ROOT / "pipelines" / folder / "dvc.yaml").resolve() == ROOT / "dvc.yaml"
        load_study(ROOT / "pipelines" / folder / "params.yaml")


def test_dvc_reads_every_pipeline_of_the_project():
    with Repo(str(ROOT)) as repo:
        read = Counter(Path(stage.path).parent.name for stage in repo.index.stages)
    for folder in (ROOT, *(path.parent for path in ROOT.glob("pipelines/*/params.yaml"))):
        assert read[folder.name] > 10


def run(*command: str, folder: Path, ok: bool = True) -> str:
    """Run a command there; its output. The exit status must be 0, or not."""
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600
    )
    assert (done.returncode == 0) == ok, done.stdout[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A temporary copy of the project, tiny, with the pipeline run once."""
    folder = tmp_path_factory.mktemp("study")
    for name in ("asgnet", "notebooks", "data"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "parts.dvc", "VOC2012")
        )
    shutil.rmtree(folder / "data" / "parts", ignore_errors=True)
    params = write_params(folder)
    study = yaml.safe_load(params.read_text())
    study["arms"] = {name: study["arms"][name] for name in ("baseline", "vit_patch")}
    params.write_text(yaml.safe_dump(study, sort_keys=False))
    (folder / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text().replace("5shot", "2shot"))
    shutil.copy(ROOT / ".dvcignore", folder)
    run("git", "init", "-q", folder=folder)
    run("dvc", "init", "-q", folder=folder)
    run("dvc", "config", "core.analytics", "false", folder=folder)
    run("asgnet", "sweep", folder=folder)
    return folder


def test_the_pipeline_makes_results_and_figures(project):
    summary = pd.read_csv(project / "results/parts/summary.csv")
    assert set(summary["arm"]) == {
        "baseline",
        "vit_patch",
        "all_foreground",
        "fg_bg_vit",
    }
    assert set(summary["split"]) == {"test", "train", "val", "novel"}
    assert summary["value"].between(0, 100).all()
    run_folder = project / "results/parts/baseline/fold1/seed0"
    history = pd.read_csv(run_folder / "history.csv")
    assert list(history["epoch"]) == [1, 2]
    assert json.loads((run_folder / "metrics_2shot.json").read_text())["episodes"] == 10
    figures = {path.name for path in (project / "figures/parts").iterdir()}
    names = ("contact_sheet", "curves", "differences", "evolution", "gaps", "per_fold", "predictions", "superpixels")
    assert figures == {f"{name}.{suffix}" for name in (*names, "test_miou") for suffix in ("png", "pdf")} | {
        "candidates",
        "prototypes",
        "fidelity",
    }
    assert {path.name for path in (project / "figures/parts/candidates").iterdir()} == {"failures.png", "failures.pdf"}
    assert (project / "figures/parts/fidelity/departures.png").exists()
    drawn = {path.stem for path in (project / "figures/parts/prototypes").iterdir()}
    assert drawn >= {"counts", "count_heat", "clusterers", "iterations", "shots_fusion", "shape", "quality"}
    chosen = pd.read_csv(project / "results/parts/candidates/comparison.csv")
    assert set(chosen["baseline"]) == {"calibrated"}
    assert set(chosen["arm"]) == {"baseline", "vit_patch", "all_foreground", "fg_bg_vit"}
    selection = pd.read_csv(project / "results/parts/candidates/selection.csv")
    assert selection["arm"].tolist() == ["calibrated"] * 2
    assert selection["first"].between(0, 100).all()
    report = (project / "results/parts/report.html").read_text()
    for notebook in ("data", "superpixels", "figures", "prototypes", "fidelity", "walkthrough"):
        assert (project / f"results/parts/{notebook}.ipynb").exists()
        assert f'href="{notebook}.ipynb"' in report
    assert 'href="baseline/fold1/seed0/train.ipynb"' in report
    assert '<p class="label">test</p>' in report


def test_a_second_run_does_nothing_and_edits_rerun_only_what_follows(project):
    assert "Running stage" not in run("dvc", "repro", folder=project)
    params = project / "params.yaml"
    study = yaml.safe_load(params.read_text())
    study["arms"]["vit_patch"]["train"] = {"lr": 0.01}
    params.write_text(yaml.safe_dump(study, sort_keys=False))
    stale = run("dvc", "status", folder=project)
    assert "train@vit_patch" in stale
    assert "train@baseline" not in stale
    with (project / "asgnet/plots/bars.py").open("a") as file:
        file.write("\n# a change to plotting\n")
    assert "train@baseline" not in run("dvc", "status", folder=project)


def test_every_arm_is_tested_on_the_same_episodes(project):
    tables = [
        pd.read_csv(path) for path in sorted((project / "results/parts").glob("*/fold1/seed0/episodes_1shot.csv"))
    ]
    assert len(tables) == 7
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table[["class", "query", "supports"]], tables[0][["class", "query", "supports"]])


def test_training_again_gives_the_same_numbers(project, tmp_path):
    for name in ("params.yaml", "data", "episodes", "features"):
        (tmp_path / name).symlink_to(project / name)
    run("asgnet", "train", "--arm", "baseline", "--fold", "1", "--seed", "0", folder=tmp_path)
    again = tmp_path / "results/parts/baseline/fold1/seed0/history.csv"
    assert again.read_text() == (project / "results/parts/baseline/fold1/seed0/history.csv").read_text()


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.name)
def test_source_notebooks_hold_no_outputs_and_only_short_cells(notebook):
    cells = json.loads(notebook.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(cells) <= (50 if notebook.stem == "walkthrough" else 15)
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert max(len("".join(cell["source"]).splitlines()) for cell in code) <= 15
