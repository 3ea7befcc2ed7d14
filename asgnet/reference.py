"""Reading a published ASGNet checkpoint."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asgnet.backbones.naming import UNUSED
from asgnet.errors import UserError
from asgnet.model import ASGNet
from asgnet.sections import ModelConfig

Names = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]  # a pattern, and what it becomes

SHARED: Names = (
    (r"layer([0-3])\.", r"encoder.layers.\1."),
    (r"down_conv\.", r"head.down_conv."),
    (r"cls\.", r"head.classifier."),
)
FEM_NAMES: Names = (
    (r"corr_conv\.", r"head.context.merge."),
    (r"alpha_conv\.", r"head.context.descend."),
    (r"beta_conv\.", r"head.context.refine."),
    (r"inner_cls\.", r"head.context.auxiliary."),
    (r"res1\.", r"head.context.fuse."),
    (r"res2\.", r"head.context.polish."),
)
ASPP_NAMES: Names = (
    (r"corr_conv\.", r"head.context.merge."),
    (r"skip([123])\.([13])\.", lambda m: f"head.context.residuals.{int(m[1]) - 1}.{int(m[2]) - 1}."),
    (r"ASPP\.layer6_0\.", r"head.context.everywhere."),
    (r"ASPP\.layer6_([1-4])\.", lambda m: f"head.context.branches.{int(m[1]) - 1}."),
    (r"ASPP\.layer7\.", r"head.context.fuse."),
    (r"decoder\.conv1\.", r"head.context.low_level.0."),
    (r"decoder\.bn1\.", r"head.context.low_level.1."),
    (r"decoder\.last_conv\.", r"head.context.join."),
    (r"cls_aux\.", r"head.context.auxiliary."),
)


def load_reference_checkpoint(path: Path | str, **overrides: Any) -> ASGNet:
    """An ASGNet in eval mode with the weights of a published ``.pth``: a dict with ``state_dict``, whose keys may
    start with ``module.``.

    The backbone's depth and the context module follow from its parameter names; seeds are counted as published.
    ``overrides`` are fields of ModelConfig. Raises UserError for a file that is missing, truncated or something else.
    """
    published = {key.removeprefix("module."): value for key, value in _read(Path(path)).items()}
    published = {key: value for key, value in published.items() if not key.startswith(UNUSED)}
    decoder = "aspp" if any(key.startswith("ASPP.") for key in published) else "fem"
    backbone = "resnet101" if "layer3.22.conv1.weight" in published else "resnet50"
    settings: dict[str, Any] = {"backbone": backbone, "decoder": decoder, "published_seed_count": True}
    config = ModelConfig(**settings | overrides)
    network = ASGNet(config)
    _load(network, {rename(key, decoder): value for key, value in published.items()}, path)
    return network.eval()


def rename(key: str, decoder: str) -> str:
    """A published parameter name -> its name here; a name that is not published stays as it is."""
    for pattern, name in SHARED + (ASPP_NAMES if decoder == "aspp" else FEM_NAMES):
        if re.match(pattern, key):
            return re.sub(f"^{pattern}", name, key)
    return key


def _read(path: Path) -> dict[str, Tensor]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected a published ASGNet checkpoint (.pth)") from None
    except Exception as error:  # torch.load raises many types on a damaged file
        raise UserError(f"{path}: truncated or no checkpoint ({type(error).__name__}); get it again") from None
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: no 'state_dict' of tensors in it; expected a published ASGNet checkpoint")
    return state


def _load(network: ASGNet, weights: dict[str, Tensor], path: Path | str) -> None:
    own = network.state_dict()
    problems = {
        "missing": own.keys() - weights.keys(),
        "unexpected": weights.keys() - own.keys(),
        "of another shape": {k for k in own.keys() & weights.keys() if own[k].shape != weights[k].shape},
    }
    told = [f"{len(names)} {what} ({', '.join(sorted(names)[:3])})" for what, names in problems.items() if names]
    if told:
        raise UserError(f"{path}: parameters do not fit {network.config.backbone} with {network.config.decoder}: "
                        f"{'; '.join(told)}")  # fmt: skip
    network.load_state_dict(weights)
