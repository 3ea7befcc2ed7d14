"""ASGNet for few-shot segmentation, and the study of what its parts contribute."""

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asgnet.model import ASGNet
    from asgnet.reference import load_reference_checkpoint

__all__ = ["ASGNet", "__version__", "load_reference_checkpoint"]

HOMES = {"ASGNet": "asgnet.model", "load_reference_checkpoint": "asgnet.reference"}


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is asked for: `asgnet --help` must not wait for torch."""
    if name == "__version__":
        return metadata.version("asgnet")
    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    raise AttributeError(f"module 'asgnet' has no attribute '{name}'")
