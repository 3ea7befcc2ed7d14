"""Keys of resumable state: a hash of everything that decides what a computation gives."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from asgnet.provenance import LIBRARIES

PACKAGE = Path(__file__).parent
PRESENTATION = ("plots", "cli", "tables", "results", "report", "intervals", "provenance", "layout", "progress")


def fingerprint(
    params: Any,
    files: Sequence[Path] = (),
    modules: Sequence[str] | None = None,
    tensors: Mapping[str, torch.Tensor] | None = None,
) -> str:
    """A hex digest of parameters (JSON-like), the contents of files, the package's source code, the versions of the
    libraries that compute, and tensors by name (the weights that a network starts with).

    ``modules`` names the modules and subpackages whose code counts; by default all but those that only present
    results. Whatever changes gives another key, so old state is never resumed by mistake.
    """
    digest = hashlib.sha256(json.dumps([params, {name: version(name) for name in LIBRARIES}], sort_keys=True).encode())
    for path in [*files, *_sources(modules)]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    for name, tensor in (tensors or {}).items():
        values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(values.numpy().data)
    return digest.hexdigest()


def _sources(modules: Sequence[str] | None) -> list[Path]:
    paths = sorted(PACKAGE.rglob("*.py"))
    names = {path: path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in paths}
    if modules is None:
        return [path for path in paths if names[path] not in PRESENTATION]
    return [path for path in paths if names[path] in modules]
