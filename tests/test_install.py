"""What `pip install .` needs to give a package that works outside of the repository, and what describes it."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import import_module

import pytest
import yaml
from setuptools import find_packages
from tiny import ROOT

import asgnet
from asgnet.captions import CAPTIONS
from asgnet.cli import main

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MODULES = sorted((ROOT / "asgnet").rglob("*.py"))


def test_every_module_lies_in_a_package_that_is_installed():
    patterns = PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    installed = set(find_packages(ROOT, include=patterns))
    assert {".".join(path.parent.relative_to(ROOT).parts) for path in MODULES} == installed


def test_the_package_is_modules_alone_and_imports_nothing_of_the_repository():
    others = [path for path in (ROOT / "asgnet").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert not others  # data files would need a line in pyproject.toml
    for path in MODULES:
        imported = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        assert not [node.module for node in imported if re.match(r"(tests|benchmarks)\b", node.module or "")]


def test_the_console_script_is_there():
    module, function = PYPROJECT["project"]["scripts"]["asgnet"].split(":")
    assert getattr(import_module(module), function) is main


def test_help_waits_for_no_large_library():
    code = "import sys; from asgnet.cli import parser; parser(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"dvc", "matplotlib", "numpy", "pandas", "papermill", "torch"} & set(loaded)


@pytest.mark.parametrize("dataset", ["parts", "pascal5i", "coco20i"])
def test_knowing_a_dataset_waits_for_no_library_that_makes_or_fetches_it(dataset):
    code = f"import sys; from asgnet.data import open_classes; open_classes('{dataset}', ''); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"scipy", "skimage", "sklearn", "torch", "torchvision"} & set(loaded)


@pytest.mark.parametrize("output", ["out.ipynb", "out.html"])
def test_outside_of_the_repository_a_notebook_is_said_to_be_missing(tmp_path, monkeypatch, capsys, output):
    monkeypatch.chdir(tmp_path)
    assert main(["notebook", "notebooks/report.ipynb", output]) == 2
    said = capsys.readouterr().err
    assert "notebooks/report.ipynb: no such notebook" in said
    assert "not in the installed package" in said
    assert not list(tmp_path.iterdir())


def test_version_and_licence_are_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = PYPROJECT["project"]
    assert citation["version"] == project["version"] == asgnet.__version__
    assert citation["license"] == project["license"]
    assert f"## [{project['version']}] - " in (ROOT / "CHANGELOG.md").read_text()


def test_the_readmes_figures_say_what_is_seen():
    figures = re.findall(r"!\[([^\]]*)\]\((.*?figures/\w+/(.*)\.png)\)", (ROOT / "README.md").read_text())
    assert len(figures) >= 16
    for alt, path, name in figures:
        assert alt == CAPTIONS[name].alt, path
        assert (ROOT / path).exists()
