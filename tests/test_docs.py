"""What README.md and docs/ tell a reader to run or to open exists. Run: pytest tests/test_docs.py"""

import argparse
import re
import subprocess
from pathlib import Path

import pytest
from tiny import ROOT

from asgnet.cli import parser
from asgnet.errors import UserError
from docs.tables import PAGES, TABLES, filled

FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
MAKE = re.compile(r"\bmake ([a-z]\w*)")
COMMAND = re.compile(r"(?<![\w/.-])asgnet ([a-z][\w-]*)([^`\n|&#;]*)")


def code(page: Path) -> str:
    """Everything on the page that is set as code."""
    return "\n".join(CODE.findall(page.read_text()))


def subcommands() -> dict[str, argparse.ArgumentParser]:
    (action,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return action.choices


@pytest.fixture(scope="module")
def tracked() -> set[Path]:
    """The files that git keeps, and the folders that they lie in."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs a git checkout, to know which files are tracked")
    files = {ROOT / name for name in listed.split("\0") if name}
    return files | {folder for file in files for folder in file.parents}


def anchors(page: Path) -> set[str]:
    """The ids that GitHub gives the page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_exists(page):
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(MAKE.findall(code(page))) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_its_options_exist(page):
    known = subcommands()
    for name, rest in COMMAND.findall(code(page)):
        assert name in known, f"asgnet {name}"
        options = set(known[name]._option_string_actions)
        assert set(re.findall(r"(?<!\S)(--[\w-]+)", rest)) <= options, f"asgnet {name}{rest}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_tracked_file(page, tracked):
    for target in LINK.findall(CODE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):  # the web
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file in tracked, target
        assert not anchor or anchor in anchors(file), target


@pytest.fixture(scope="module")
def committed(tracked) -> None:
    """Skips where a study has been run anew: its results need not be those of the pages."""
    status = ["git", "status", "--porcelain", "--", "results", "pipelines/*/results"]
    if subprocess.run(status, cwd=ROOT, capture_output=True, check=True).stdout:
        pytest.skip("results differ from the committed ones; `python -m docs.tables` writes them into the pages")


@pytest.mark.usefixtures("committed")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_table_says_what_the_results_say(page):
    text = page.read_text()
    assert filled(text) == text, "run `python -m docs.tables`"


@pytest.mark.usefixtures("committed")
def test_a_table_that_has_grown_old_is_written_anew():
    table = re.search(r"<!-- results: main \. -->\n(?:.+\n)+", PAGES[0].read_text())[0]
    old = re.sub(r"\d\d\.\d", "99.9", table) + "\nwhat follows\n"
    assert filled(old) == f"{table}\nwhat follows\n"


@pytest.mark.parametrize(
    ("place", "complaint"),
    [
        ("maim .", "'maim'; expected one of main"),
        ("main pipelines/coco20i", "pipelines/coco20i: results/.* is missing"),
    ],
)
def test_a_table_that_cannot_be_made_is_named(place, complaint):
    with pytest.raises(UserError, match=complaint):
        filled(f"<!-- results: {place} -->\n")


def test_every_kind_of_table_is_used():
    used = {name for page in PAGES for name in re.findall(r"<!-- results: ([\w-]+) ", page.read_text())}
    assert used == set(TABLES)


def test_the_makefile_says_what_each_target_is_for():
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[1].split()
    described = set(re.findall(r"^(\w+): .*## \S", makefile, re.MULTILINE))
    assert set(phony) - described <= {"lint", "setup"}
