"""Tokens of a frozen vision transformer (Dosovitskiy et al. 2021; DINOv2: Oquab et al. 2023)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asgnet.backbones import dinov2
from asgnet.backbones.encoder import IMAGENET_MEAN, IMAGENET_STD, renormalise
from asgnet.errors import UserError


class Tokens(nn.Module):
    """All tokens after the final norm, one step before the classification head; the class token comes first.

    ``grid`` is the number of patch tokens (down, across), ``channels`` their width D.
    """

    source = "random initialisation"
    net: Any  # timm's model, or `DinoV2`

    def __init__(self, model: str = "vit_small_patch14_dinov2", size: int = 196) -> None:
        """timm's ``model`` on images of ``size`` pixels a side, randomly initialised.

        Raises UserError for a name that is no timm ViT with one class token, or a size that its patches do not tile.
        """
        super().__init__()
        self.size, self.mean, self.std = size, IMAGENET_MEAN, IMAGENET_STD
        if model == dinov2.NAME:
            self.net, self.channels, patch = dinov2.DinoV2(size), dinov2.WIDTH, dinov2.PATCH
        else:
            self.net = timm_vit(model, size)
            self.channels, patch = self.net.num_features, self.net.patch_embed.patch_size[0]
            self.mean, self.std = (tuple(self.net.pretrained_cfg[name]) for name in ("mean", "std"))
        if size % patch:
            raise UserError(
                f"model.vit_size: {size} is no multiple of the patch size {patch} of {model}; try "
                f"{max(1, round(size / patch)) * patch}"
            )
        self.grid = (size // patch, size // patch)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """ImageNet-normalised images (N, 3, H, W) of any size -> (N, 1 + T, D), in the precision of the weights."""
        if images.shape[-2:] != (self.size, self.size):
            images = F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)
        if (self.mean, self.std) != (IMAGENET_MEAN, IMAGENET_STD):
            images = renormalise(images, self.mean, self.std)
        return self.net.forward_features(images.to(self.net.cls_token.dtype))

    def train(self, mode: bool = True) -> "Tokens":
        return super().train(False)  # frozen, whatever contains it


def timm_vit(model: str, size: int) -> Any:
    """timm's ViT without its classifier. Raises UserError for a name that is none, or not one with one class token."""
    import timm  # takes longer than a prediction

    if model.split(".")[0] not in timm.list_models(module="vision_transformer"):
        raise UserError(f"model.vit_model: {model!r} is no ViT of timm; choose one, as {dinov2.NAME}")
    draw = "skip" if torch.get_default_device().type == "meta" else ""  # weights without numbers need none drawn
    net: Any = timm.create_model(model, img_size=size, num_classes=0, weight_init=draw)
    if net.num_prefix_tokens != 1:
        raise UserError(
            f"model.vit_model: {model} has {net.num_prefix_tokens} tokens before its patches, expected the class token "
            f"alone; choose another, as {dinov2.NAME}"
        )
    return net
