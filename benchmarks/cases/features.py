"""What the frozen networks say about a few images."""

import torch
from torch import Tensor, nn

from asgnet.backbones import build_encoder, build_vit, for_autocast, for_inference
from asgnet.device import autocast, fast_dtype
from asgnet.sections import ModelConfig
from benchmarks import inputs
from benchmarks.case import Case, fast_tolerance
from benchmarks.sizes import Sizes

REDUCED = 0.05  # relative error that bfloat16 may make through all layers of a network


def lite0_case(sizes: Sizes) -> Case:
    """EfficientNet-Lite0."""
    encoder = build_encoder(ModelConfig(backbone="lite0"), pretrained=False)
    fast = for_inference(encoder, fast_dtype())
    pictures = inputs.images("lite0", sizes.images, pixels=sizes.lite0_pixels)
    return _case("Lite0", pictures, encoder, lambda x: encoder(x).cnn, lambda x: fast(x).cnn)


def vit_case(sizes: Sizes) -> Case:
    """The ViT of the arms with tokens."""
    config = ModelConfig(vit="patch", vit_size=sizes.vit_pixels)
    tokens = build_vit(config, pretrained=False)
    pictures = inputs.images("vit", sizes.images, pixels=sizes.vit_pixels)
    return _case(f"ViT ({config.vit_model})", pictures, tokens, tokens, for_autocast(tokens, fast_dtype()))


def _case(name: str, pictures: Tensor, network: nn.Module, one, all_at_once) -> Case:
    @torch.inference_mode()
    def plain() -> Tensor:
        return torch.cat([one(picture[None]) for picture in pictures])

    @torch.inference_mode()
    def ours() -> Tensor:
        with autocast():
            return all_at_once(pictures).float()

    count, _, side, _ = pictures.shape
    return Case(
        f"features of {count} images by {name}, {side} x {side} pixels",
        plain=plain,
        ours=ours,
        inputs=[pictures, network],
        **fast_tolerance(1e-3, REDUCED),
    )
