"""Everything that learns except the residual chain: from frozen features to logits.

The three steps are apart so that each runs as rarely as it can: `reduce` once an image, `prototypes` once an image
and class, `decode` once an episode.
"""

from collections.abc import Callable, Iterable
from math import isqrt
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from asgnet.allocation import expand, gpa
from asgnet.backbones.encoder import Features
from asgnet.convolution import Conv2d
from asgnet.decoders import ASPP, FEM, classifier, enlarge, join, resize, sides
from asgnet.sections import ModelConfig
from asgnet.superpixel import place_seeds, sgc, to_grid

PUBLISHED_CELLS = 60 * 60  # the grid in whose cells area_per_seed is stated


class Decoded(NamedTuple):
    """What a decoder says."""

    logits: Tensor  # (B, 2, *)
    auxiliary: list[Tensor]  # in training mode logits (B, 2, *), each on a grid of its own, for the loss alone
    features: Tensor  # (B, C, *): what the last layer reads, on the grid of the logits


class Voice(NamedTuple):
    """One decoder of a head with its share of what the head was given. The margins of all voices are added."""

    decoder: Callable[..., Decoded]
    query: Tensor  # (B, C, h, w)
    prototypes: Tensor  # (B, M, C)
    valid: Tensor  # (B, M)
    bounded: float  # see `forgiving`
    flattered: float = 0.0  # how much too high its margins are on a support that is predicted from itself

    def decode(self, layer1: Tensor | None = None) -> Decoded:
        """As `Head.decode`."""
        return self.decoder(self.query, self.prototypes, self.valid, layer1)


class Head(nn.Module):
    """down_conv, SGC, GPA, context module, classifier.

    sources: channels of the parts of `Features.cnn`, in order; layer1_channels: of `Features.layer1` (ASPP only);
    vit_channels: the width D of a ViT token (arms with a ViT only).
    """

    def __init__(
        self,
        config: ModelConfig,
        sources: tuple[int, ...],
        layer1_channels: int | None = None,
        vit_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.parts = list(sources)
        if config.vit != "none":
            assert vit_channels is not None
            self.project_vit = Conv2d(vit_channels, config.vit_width, kernel_size=1)
            self.parts.append(config.vit_width)
        early, late = (config.dropout if config.dropout_place == place else 0.0 for place in ("features", "context"))
        self.down_conv = nn.Sequential(
            Conv2d(sum(self.parts), config.width, kernel_size=1, bias=False), nn.Dropout2d(early)
        )
        self.dropout = nn.Dropout2d(late)
        self.context: nn.Module
        if config.decoder == "fem":
            self.context = FEM(config.width)
        else:
            assert layer1_channels is not None
            self.context = ASPP(config.width, layer1_channels)
        self.classifier = classifier(config.width)

    def acquaint(self, classes: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Show a new head the classes that it will be trained on, before its first step: of each, reduced features
        (n, width, h, w) and masks (n, H, W) of some images. ASGNet does not look."""

    def reduce(self, features: Features) -> Tensor:
        """Features of N images, in any precision -> (N, width, h, w)."""
        maps = recast(features.cnn, working_dtype(next(self.down_conv.parameters())))  # (N, C, h, w)
        if self.config.vit == "none":
            return self.down_conv(self.normalised(maps, self.parts))
        assert features.vit is not None
        tokens = token_map(recast(features.vit, maps.dtype), self.config.vit)  # (N, D, t, t)
        projected = resize(self.project_vit(tokens), sides(maps))  # (N, vit_width, h, w)
        # Apart, for no gradient runs through the first.
        apart = [self.normalised(maps, self.parts[:-1]), self.normalised(projected, self.parts[-1:])]
        return self.down_conv(join(apart))

    def normalised(self, maps: Tensor, sources: list[int]) -> Tensor:
        """`standardise`, where the configuration asks for it."""
        return standardise(maps, sources) if self.config.normalise_sources else maps

    @torch.no_grad()
    def prototypes(
        self, reduced: Tensor, masks: Tensor, seeds: Tensor | None = None, iterations: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cluster supports: reduced (N, width, h, w), masks (N, H, W) (1 is the object, any other value is not), seeds
        (N, M, 2) or None to place them here -> prototypes (N, M, width) float32, valid (N, M) bool, and fallback (N,)
        bool: the mask has no cell that is exactly 1 on the grid (`to_grid` samples one pixel in 64), so its prototype
        is the average weighted by the share of each cell that the object covers.
        """
        if iterations is None:
            iterations = self.config.iterations_train if self.training else self.config.iterations_eval
        cells, seeds, fallback = self.place(masks, sides(reduced), seeds)
        weight, normalise = self.config.spatial_weight, self.config.association
        prototypes, valid = sgc(reduced, cells, seeds, iterations, weight, normalise=normalise)
        return prototypes, valid, fallback

    def place(self, masks: Tensor, grid: tuple[int, int], seeds: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Where SGC starts: masks (N, H, W) -> cells (N, h, w) in [0, 1], seeds (N, M, 2), fallback (N,), as in
        `prototypes`."""
        config, masks = self.config, masks == 1
        if seeds is None:
            area = config.area_per_seed * grid[0] * grid[1] / PUBLISHED_CELLS
            seeds = place_seeds(masks, grid, config.max_seeds, area, config.seed_rule)
            seeds = seeds.clamp(min=0) if config.published_seed_count else seeds  # the published unused rows are 0, 0
        if config.published_seed_count:
            seeds = recount(seeds)
        # One seed is no better than none: the published network takes the masked average then.
        seeds = seeds.masked_fill(((seeds >= 0).all(2).sum(1) < 2)[:, None, None], -1)
        cells = to_grid(masks, grid)  # (N, h, w)
        fallback = ~(cells == 1).flatten(1).any(1)
        shares = F.adaptive_avg_pool2d(masks.float(), grid)
        return torch.where(fallback[:, None, None], shares, cells), seeds, fallback

    def products(self, prototypes: Tensor) -> Tensor | None:
        """What `voices` need not compute anew for every choice among K supports, (B, K, n, K, n); prototypes
        (B, K, M, C). ASGNet has nothing of the kind."""
        return None

    def voices(self, query: Tensor, prototypes: Tensor, valid: Tensor, products: Tensor | None = None) -> list[Voice]:
        """The decoders whose margins are added to one prediction; each learns by its own loss and has its own
        threshold. ASGNet has one. Arguments as of `decode`; products (B, K n, K n): `products` of these supports."""
        return [Voice(self.decode, query, prototypes, valid, self.config.bounded)]

    def decode(self, query: Tensor, prototypes: Tensor, valid: Tensor, layer1: Tensor | None = None) -> Decoded:
        """query (B, width, h, w), the pooled prototypes of all shots (B, M, width), valid (B, M) and, for ASPP, the
        query's layer1."""
        guide, probability, _ = self.allocate(query, prototypes, valid)
        return self.segment(query, guide, probability, layer1)

    def allocate(self, query: Tensor, prototypes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which prototype each query cell gets, as the configuration says: guide, probability and index of `gpa`."""
        if self.config.allocation == "expanded":
            prototypes, valid = expand(prototypes, valid)
        return gpa(query, prototypes, valid, probability=self.config.probability)

    def segment(self, query: Tensor, guide: Tensor, probability: Tensor, layer1: Tensor | None = None) -> Decoded:
        """The end of `decode`: query and guide (B, width, h, w), probability (B, 1, h, w)."""
        # In the query's precision: under autocast the context module computes in it anyway, on half the memory.
        parts = [self.dropout(query), self.dropout(guide.to(query.dtype)), probability.to(query.dtype)]
        return self.read(join(parts), layer1)  # (B, 2 width + 1, h, w)

    def read(self, x: Tensor, layer1: Tensor | None) -> Decoded:
        """The context module and the classifier on what they read, (B, 2 width + 1, h, w)."""
        context, auxiliary = self.context(x, layer1)
        features = self.classifier[:-1](context)
        return Decoded(self.classifier[-1](features), auxiliary, features)


def heard(decoded: list[Decoded], layer: Tensor | None = None) -> Tensor:
    """The logits (B, 2, *) of one prediction: the sum of those of all voices, and of what ``layer`` (B, C + 1), the
    last number a bias, reads in the features of all of them, C in all."""
    logits = torch.stack([each.logits.float() for each in decoded]).sum(0)
    if layer is None:
        return logits
    features = torch.cat([each.features for each in decoded], 1).float()  # (B, C, *)
    with torch.autocast(features.device.type, enabled=False):
        further = torch.einsum("bc,bchw->bhw", layer[:, :-1], features) + layer[:, -1, None, None]
    return torch.stack([logits[:, 0], logits[:, 1] + further], 1)


def working_dtype(weight: Tensor) -> torch.dtype:
    """In which a layer of this weight computes: autocast's where that is on."""
    kind = weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


def recast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """``x`` in another precision; from float16 by way of float32, which on a CPU is the shorter way to bfloat16."""
    return x.float().to(dtype) if x.dtype == torch.float16 else x.to(dtype)


def token_map(tokens: Tensor, slice_: str) -> Tensor:
    """Tokens (N, 1 + T, D), the class token first, T a square -> map (N, D, t, t).

    ``patch`` drops the class token. ``cls`` is the notes' `[:, 0:T]`: the class token lands on the first cell, every
    patch one cell to the right, and the last patch is lost.
    """
    count = tokens.shape[1] - 1
    start = 0 if slice_ == "cls" else 1
    return rearrange(tokens[:, start : start + count], "n (row col) d -> n d row col", row=isqrt(count))


def standardise(x: Tensor, sources: list[int]) -> Tensor:
    """LayerNorm without parameters over the channels of each cell and source: (N, sum(sources), h, w) -> the same,
    channels last, in the same precision (sums are float32)."""
    parts = x.movedim(1, -1).split(sources, -1)
    return torch.cat([F.layer_norm(part, part.shape[-1:]) for part in parts], -1).movedim(-1, 1)


def recount(seeds: Tensor) -> Tensor:
    """Departure 9: the published code counts the seeds (N, M, 2) by their non-zero coordinates and keeps the first
    n = max(non-zero rows, non-zero columns), which loses seeds in row 0 or column 0. A set with a -1 keeps its own."""
    count = (seeds != 0).sum(1).amax(1)  # (N,)
    lost = torch.arange(seeds.shape[1], device=seeds.device) >= count[:, None]  # (N, M)
    published = (seeds >= 0).flatten(1).all(1)
    return seeds.masked_fill((lost & published[:, None])[..., None], -1)


def margin(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (B, 2, *) -> foreground minus background at every pixel, (B, H, W) float32: above 0 is the object."""
    return enlarge(logits[:, 1].float() - logits[:, 0].float(), size)


def pixel_loss(margins: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of every pixel, (..., H, W), from margins (..., H, W) float32 and target (..., H, W) of 0, 1 and
    255, where it is 0."""
    true, known = (of.to(margins.dtype).expand_as(margins) for of in (target == 1, target != 255))
    return F.binary_cross_entropy_with_logits(margins, true, known, reduction="none")


def forgiving(loss: Tensor, target: Tensor, bounded: float) -> Tensor:
    """``loss`` (..., H, W), the cross-entropy of every pixel, where the target is not 0; where it is, the generalised
    one, (1 - p^q) / q with q = ``bounded`` (Zhang and Sabuncu, NeurIPS 2018): at most 1 / q, and flat where a network
    is sure that a background label is wrong. Background may hide objects that nobody asked for; what is asked for is
    marked."""
    return torch.where(target == 0, -torch.expm1(-bounded * loss) / bounded, loss)


def losses(logits: Tensor, auxiliary: list[Tensor], target: Tensor, bounded: float = 0.0) -> tuple[Tensor, Tensor]:
    """Cross-entropy of logits (B, 2, *), brought to the target's size, and the mean over the auxiliary heads of theirs;
    target (B, H, W) of 0, 1, 255 (ignored). The published total is their sum. ``bounded`` above 0: see `forgiving`."""
    margins = torch.stack([margin(output, sides(target)) for output in (logits, *auxiliary)])  # (1 + A, B, H, W)
    each = pixel_loss(margins, target)  # (1 + A, B, H, W)
    each = forgiving(each, target, bounded) if bounded else each
    means = each.sum((1, 2, 3)) / (target != 255).sum().clamp(min=1)
    return means[0], means[1:].mean()
