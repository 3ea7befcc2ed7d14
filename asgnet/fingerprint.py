"""Keys of resumable state: a hash of everything that decides what a computation gives."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
PRESENTATION = ("plots", "cli", "tables", "results", "report", "intervals", "provenance", "layout", "progress")


def fingerprint(params: Any, files: Sequence[Path] = (), modules: Sequence[str] | None = None) -> str:
    """A hex digest of parameters (JSON-like), the contents of files and the package's source code.

    ``modules`` names the modules and subpackages whose code counts; by default all but those that only present
    results. Changed code, parameters or inputs give another key, so old state is never resumed by mistake.
    """
    digest = hashlib.sha256(json.dumps(params, sort_keys=True).encode())
    for path in [*files, *_sources(modules)]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _sources(modules: Sequence[str] | None) -> list[Path]:
    paths = sorted(PACKAGE.rglob("*.py"))
    names = {path: path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in paths}
    if modules is None:
        return [path for path in paths if names[path] not in PRESENTATION]
    return [path for path in paths if names[path] in modules]
