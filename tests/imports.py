"""Which modules of the package a module or notebook imports, directly or through others, by reading the sources."""

import ast
import re
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("backbones", "data", "plots")  # named as a whole in dvc.yaml
# What these do shows in no result: messages, paths, progress, the record of machine and time.
PLUMBING = {f"asgnet/{name}.py" for name in ("errors", "files", "layout", "progress", "provenance", "__init__")}


def module_path(name: str) -> Path | None:
    """The file of a dotted module name in the package, None for anything else."""
    if not name.startswith("asgnet"):
        return None
    base = ROOT.joinpath(*name.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.exists()), None)


def imported(source: str) -> set[Path]:
    """Package files that a piece of source imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(re.sub(r"(?m)^%.*$", "", source))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found |= {path for name in names if (path := module_path(name))}
    return found


def closure(start: set[Path]) -> set[str]:
    """What the files of ``start`` need: files relative to the root, or one of ``FOLDERS``, without plumbing."""
    seen, queue = set(), list(start)
    while queue:
        path = queue.pop()
        if path not in seen:
            seen.add(path)
            queue += imported(path.read_text()) if path.stem != "provenance" else ()  # it only tells how a run went
    names = {path.relative_to(ROOT).as_posix() for path in seen}
    folded = {f"asgnet/{n.split('/')[1]}" if n.split("/")[1] in FOLDERS else n for n in names}
    return {n for n in folded if n not in PLUMBING and not n.endswith("/__init__.py")}


def notebook_imports(path: Path) -> set[Path]:
    """Package files that a notebook's cells import."""
    cells = nbformat.read(path, as_version=4).cells
    return set().union(*(imported(c.source) for c in cells if c.cell_type == "code"))
