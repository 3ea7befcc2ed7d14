"""ASGNet: frozen encoders, a head that learns, and the episode that runs through them.

Li et al., "Adaptive Prototype Learning and Allocation for Few-Shot Segmentation", CVPR 2021, arXiv 2104.01893.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from asgnet.arms import head_class
from asgnet.backbones import ENCODERS, build_encoder, build_vit
from asgnet.backbones.encoder import Encoder, Features
from asgnet.backbones.vit import Tokens
from asgnet.calibration import calibrate
from asgnet.decoders import enlarge, sides
from asgnet.errors import UserError
from asgnet.head import heard, losses, margin
from asgnet.outline import along_edges
from asgnet.residual import ResidualChain
from asgnet.sections import ModelConfig


class ASGNet(nn.Module):
    """The network of one arm.

    encoder, vit: frozen networks; "random" builds what ``config`` names with random weights, None leaves it out, for
    training from stored features. sources: channels of the stored CNN features, where they are not the backbone's.
    """

    def __init__(
        self,
        config: ModelConfig,
        encoder: Encoder | Literal["random"] | None = "random",
        vit: Tokens | Literal["random"] | None = "random",
        sources: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        if encoder == "random":
            encoder = build_encoder(config, pretrained=False)
        if vit == "random":
            vit = None if config.vit == "none" else build_vit(config, pretrained=False)
        self.encoder, self.vit = encoder, vit
        shape = encoder or ENCODERS[config.backbone]
        self.sources = tuple(sources or shape.sources)
        self.head = head_class(config.head)(
            config, self.sources, shape.layer_channels[1][1], _token_channels(config, vit)
        )
        self.chain = ResidualChain(shape, config) if config.residual else None

    def forward(
        self,
        x: Tensor,
        s_x: Tensor,
        s_y: Tensor,
        s_seed: Tensor | None = None,
        y: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """One query and K supports an episode, images ImageNet-normalised, sides 8n + 1 pixels.

        x (B, 3, H, W) queries; s_x (B, K, 3, H, W) supports; s_y (B, K, H, W) their masks, where 1 is the object and
        anything else is not; s_seed (B, K, N, 2) int64 seed cells (row, col) on the feature grid, -1 where unused, or
        None to place them; y (B, H, W) the query's mask of 0, 1 and 255 (ignored), needed in training mode only.

        Training mode: prediction (B, H, W) int64, main loss, auxiliary loss. Eval mode: logits (B, 2, H, W).
        Raises UserError on shapes that do not fit.
        """
        check_episode(x, s_x, s_y, s_seed, y)
        if self.vit is None and self.config.vit != "none":
            raise UserError(f"this network was built without its ViT ({self.config.vit_model}): give it one")
        # The query first: autocast caches the weights it casts, and those cast without gradient have none later.
        query = self.encode(x, differentiable=True)
        support = self.encode(s_x.flatten(0, 1))  # (B K, ...)
        said = self.forward_features(query, support, s_y, s_seed, y)
        if self.config.outline == "cells" or not isinstance(said, Tensor):
            return said
        margins = along_edges(said[:, 1] - said[:, 0], x)
        return torch.stack([torch.zeros_like(margins), margins], 1)

    def encode(self, images: Tensor, differentiable: bool = False) -> Features:
        """ImageNet-normalised images (N, 3, H, W) -> Features, with tokens where this network holds a ViT. Without
        gradient, unless ``differentiable`` and there is a residual chain that learns from it."""
        if self.encoder is None:
            raise UserError("this network was built without its encoder: give it one to run it on images")
        with torch.no_grad():
            tokens = None if self.vit is None else self.vit(images)  # (N, 1 + T, D)
        if self.chain is None:
            with torch.no_grad():
                return self.encoder(images)._replace(vit=tokens)
        with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
            return self.chain(self.encoder, images)._replace(vit=tokens)

    def forward_features(
        self,
        query: Features,
        support: Features,
        s_y: Tensor,
        s_seed: Tensor | None = None,
        y: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """`forward` from features: those of B queries and of their supports (B K, episode by episode). Outlines follow
        no image here, for there is none."""
        episodes, shots = s_y.shape[:2]
        reduced = self.head.reduce(query)  # (B, width, h, w); before the supports, see `forward`
        with torch.no_grad():
            supports = self.head.reduce(support)  # (B K, width, h, w)
        seeds = None if s_seed is None else s_seed.flatten(0, 1)
        prototypes, valid, _ = self.head.prototypes(supports, s_y.flatten(0, 1), seeds)
        prototypes, valid = (x.unflatten(0, (episodes, shots)) for x in (prototypes, valid))  # (B, K, M, width)
        pool, there = prototypes.flatten(1, 2), valid.flatten(1, 2)  # (B, K M, width): one pool
        voices = self.head.voices(reduced, pool, there)
        size = sides(s_y)
        if not self.training:
            fine = None if support.layer1 is None else support.layer1.unflatten(0, (episodes, shots))
            maps = supports.unflatten(0, (episodes, shots))
            cut = calibrate(self.head, maps, s_y, prototypes, valid, fine)
            decoded = [voice.decode(query.layer1) for voice in voices]
            if cut is None:
                return enlarge(heard(decoded), size)
            return cut_at(enlarge(heard(decoded, cut.layer), size), cut.at)
        if y is None:
            raise UserError("y, the query's mask (B, H, W), is missing: training mode returns losses")
        decoded = [voice.decode(query.layer1) for voice in voices]
        pairs = [
            losses(each.logits, each.auxiliary, y, voice.bounded) for each, voice in zip(decoded, voices, strict=True)
        ]
        main, auxiliary = (torch.stack(each).sum() for each in zip(*pairs, strict=True))
        return (margin(heard(decoded), size) > 0).long(), main, auxiliary

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The head's and the chain's; what is frozen takes no gradient."""
        return [p for p in self.parameters() if p.requires_grad]

    def trainable_state(self) -> dict[str, Tensor]:
        """What training changes: weights and buffers of head and chain, and the backbone's drifting statistics."""
        drifting = self.encoder if self.config.batch_statistics else None
        drifts = {f"encoder.{name}" for name, _ in drifting.named_buffers()} if drifting is not None else set()
        frozen = ("encoder.", "vit.")
        return {k: v for k, v in self.state_dict().items() if k in drifts or not k.startswith(frozen)}

    def load_trainable(self, weights: dict[str, Tensor], source: str) -> None:
        """Load what `trainable_state` gave; ``source`` names it in the UserError for weights of another network."""
        own = self.trainable_state()
        wrong = sorted(own.keys() ^ weights.keys()) or sorted(k for k in own if own[k].shape != weights[k].shape)
        if wrong:
            raise UserError(f"{source}: these weights belong to another network (first difference: {wrong[0]})")
        self.load_state_dict(weights, strict=False)


def cut_at(logits: Tensor, thresholds: Tensor) -> Tensor:
    """Logits (B, 2, H, W) whose foreground wins where its margin lies above thresholds (B,)."""
    return logits - torch.stack([torch.zeros_like(thresholds), thresholds], 1)[..., None, None]


def _token_channels(config: ModelConfig, vit: Tokens | None) -> int | None:
    if config.vit == "none" or vit is not None:
        return None if vit is None else vit.channels
    with torch.device("meta"):  # the ViT's description without its weights
        return Tokens(config.vit_model, config.vit_size).channels


def check_episode(x: Tensor, s_x: Tensor, s_y: Tensor, s_seed: Tensor | None, y: Tensor | None) -> None:
    """Raise UserError unless the tensors are those that `ASGNet.forward` describes."""
    if x.dim() != 4 or x.shape[1] != 3:
        raise UserError(f"x has shape {tuple(x.shape)}: expected query images (B, 3, H, W)")
    check_size(*x.shape[2:])
    episodes, _, height, width = x.shape
    shots = s_x.shape[1] if s_x.dim() == 5 else 1
    expected = {
        "s_x": (s_x, (episodes, shots, 3, height, width)),
        "s_y": (s_y, (episodes, shots, height, width)),
        "s_seed": (s_seed, (episodes, shots, s_seed.shape[-2] if s_seed is not None and s_seed.dim() > 1 else 0, 2)),
        "y": (y, (episodes, height, width)),
    }
    for name, (given, shape) in expected.items():
        if given is not None and tuple(given.shape) != shape:
            raise UserError(f"{name} has shape {tuple(given.shape)}: expected {shape} beside x of {tuple(x.shape)}")


def check_size(height: int, width: int) -> None:
    """Raise UserError unless both sides are 8n + 1 pixels."""
    if height % 8 != 1 or width % 8 != 1:
        nearest = " x ".join(str(max(round((side - 1) / 8), 1) * 8 + 1) for side in (height, width))
        raise UserError(f"images of {height} x {width} pixels: sides must be 8n + 1, the nearest are {nearest}")
