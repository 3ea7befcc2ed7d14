"""Similarities alone: the decoder sees how alike each query cell is to the support's object and to its background, in
the frozen features, and nothing of the query itself. What it cannot see it cannot learn by heart, so a class that
stands in the training images as background (departure 8) is met without prejudice.

Prototypes are the superpixels and the average of the object, and those of its background (as ASGNet clusters the
object). Beside the similarities to them stand those to prototypes of the query's own surest cells (self-support; Fan et
al., ECCV 2022), and a linear classifier that each episode fits to the cells of all its supports (`asgnet.probe`), which
knows what sets the object apart from what stands around it.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asgnet.backbones.encoder import Features
from asgnet.convolution import Conv2d
from asgnet.decoders import join, resize, sides
from asgnet.head import Decoded, token_map
from asgnet.head import Head as Published
from asgnet.probe import RIDGE, apart, probe
from asgnet.sections import ModelConfig
from asgnet.superpixel import masked_average, sgc

SCALE = 10.0  # of unit features in SGC: distances as in features of that norm
SURE = 20.0  # sharpness of the softmax over cells that picks the query's surest ones
PER_SOURCE = 11  # maps of each source, see `Head.maps`
MOST_KNOWN = 80  # classes whose averages are kept
SIDE = 12  # cells a side of the coarse grid on which the classifier sees a support


class Head(Published):
    """Without down_conv: "reduced" are all frozen sources D = sum(parts), each of unit length at every cell.

    The M prototypes of a support are N_max superpixels and the average of the object, then those of the background,
    each with a 0 behind its D channels; then `SIDE`^2 cells, with the share that the object covers of each behind
    theirs, and not valid, for they are no prototypes.
    """

    def __init__(
        self,
        config: ModelConfig,
        sources: tuple[int, ...],
        layer1_channels: int | None = None,
        vit_channels: int | None = None,
    ) -> None:
        super().__init__(config, sources, layer1_channels, vit_channels)
        del self.down_conv
        if config.vit != "none":
            assert vit_channels is not None
            del self.project_vit
            self.parts[-1] = vit_channels
        self.known: Tensor
        self.register_buffer("known", torch.zeros(MOST_KNOWN, sum(self.parts)))  # averages of classes, see `acquaint`
        maps = PER_SOURCE * len(self.parts) + 3
        self.embed = nn.Sequential(Conv2d(maps, 2 * config.width, kernel_size=1), nn.ReLU(inplace=True))

    @property
    def rows(self) -> tuple[int, int]:
        """How many prototypes a support has, and how many cells: M is their sum."""
        return 2 * (self.config.max_seeds + 1), SIDE**2

    def acquaint(self, classes: Iterable[tuple[Tensor, Tensor]]) -> None:
        """As `asgnet.head.Head.acquaint`: keep each class's average over images, of the cells of its objects."""
        averages = []
        for units, masks in classes:
            cells = F.adaptive_avg_pool2d(units.float(), SIDE).flatten(2).mT  # (n, SIDE^2, D)
            covered = F.adaptive_avg_pool2d((masks == 1).float()[:, None], SIDE).flatten(1)  # (n, SIDE^2)
            averages.append(masked_average(cells, covered).mean(0))
        kept = torch.stack(averages[:MOST_KNOWN])  # (C, D)
        self.known.zero_()[: len(kept)] = kept

    def reduce(self, features: Features) -> Tensor:
        """Features of N images -> (N, D, h, w) float16, for they are wide and testing keeps those of many images."""
        return self.units(features).half()

    def units(self, features: Features) -> Tensor:
        """Features of N images -> (N, D, h, w) float32: what `reduce` keeps in half the memory."""
        parts = list(features.cnn.float().split(self.parts[: len(self.parts) - (self.config.vit != "none")], 1))
        if self.config.vit != "none":
            assert features.vit is not None
            parts.append(resize(token_map(features.vit.float(), self.config.vit), sides(features.cnn)))
        return torch.cat([F.normalize(part, dim=1) for part in parts], 1)

    @torch.no_grad()
    def prototypes(
        self, reduced: Tensor, masks: Tensor, seeds: Tensor | None = None, iterations: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `asgnet.head.Head.prototypes`, (N, M, D + 1); given seeds are those of the object."""
        if iterations is None:
            iterations = self.config.iterations_train if self.training else self.config.iterations_eval
        maps, found, valid, fallbacks = SCALE * reduced.float(), [], [], []
        for region, given in ((masks == 1, seeds), (masks != 1, None)):
            cells, placed, fallback = self.place(region, sides(maps), given)
            superpixels, there = sgc(maps, cells, placed, iterations, self.config.spatial_weight)
            average = masked_average(maps.flatten(2).transpose(1, 2), cells.flatten(1).float())  # (N, D)
            found += [superpixels, average[:, None]]
            valid += [there, cells.flatten(1).any(1, keepdim=True)]
            fallbacks.append(fallback)
        cells = F.adaptive_avg_pool2d(reduced.float(), SIDE).flatten(2).mT  # (N, SIDE^2, D)
        covered = F.adaptive_avg_pool2d((masks == 1).float()[:, None], SIDE).flatten(2).mT  # (N, SIDE^2, 1)
        rows = torch.cat([F.pad(torch.cat(found, 1), (0, 1)), torch.cat([cells, covered], 2)], 1)
        return rows, F.pad(torch.cat(valid, 1), (0, SIDE**2)), fallbacks[0]

    def decode(
        self,
        query: Tensor,
        prototypes: Tensor,
        valid: Tensor,
        layer1: Tensor | None = None,
        score: Tensor | None = None,
    ) -> Decoded:
        """As `asgnet.head.Head.decode`; query (B, D, h, w), prototypes (B, K M, D + 1), and `score` if it is there."""
        with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
            score = self.score(query, prototypes) if score is None else score
            maps = self.maps(query.float(), prototypes, valid, score)
        embedded = self.embed(maps.contiguous(memory_format=torch.channels_last))  # (B, 2 width, h, w)
        return self.read(join([embedded, score.to(embedded.dtype)]), layer1)

    @torch.no_grad()
    def products(self, prototypes: Tensor) -> Tensor:
        """As `asgnet.head.Head.products`: of all cells with each other, (B, K, SIDE^2, K, SIDE^2) float32."""
        cells = prototypes[:, :, self.rows[0] :, :-1].float()  # (B, K, SIDE^2, D)
        rows = cells.flatten(1, 2)
        with torch.autocast(rows.device.type, enabled=False):
            return (rows @ rows.mT).unflatten(2, cells.shape[1:3]).unflatten(1, cells.shape[1:3])

    @torch.no_grad()
    def score(self, query: Tensor, prototypes: Tensor, products: Tensor | None = None) -> Tensor:
        """Of the classifier of each episode's cells, (B, 1, h, w); arguments as of `voices`."""
        with torch.autocast(query.device.type, enabled=False):
            cells = prototypes.float().unflatten(1, (-1, sum(self.rows)))[:, :, self.rows[0] :]  # (B, K, SIDE^2, D + 1)
            ridge, cells = RIDGE / cells.shape[1], cells.flatten(1, 2)
            score = probe(query.float().flatten(2), cells[..., :-1], cells[..., -1], self.known, ridge, products)
        return score.unflatten(1, sides(query))[:, None]

    def maps(self, query: Tensor, prototypes: Tensor, valid: Tensor, score: Tensor) -> Tensor:
        """(B, maps, h, w).

        The maps are the classifier's score (B, 1, h, w) and the training-free margin, similarity to the object's
        average less that to the background's, mean over sources; the same for the query's surest cells; and of each
        source: similarity to the most alike prototype of the object, of the background, and their difference; to the
        average of the object, of the background, and their difference, this one from 0 to 1 in each image; to the most
        alike known class, and how much more to the object's average; and to the query's own surest cells of the object,
        of the background, and their difference."""
        grid, each = sides(query), sum(self.rows)  # M
        count = self.rows[0]
        rows = prototypes.float().unflatten(1, (-1, each))[:, :, :count, :-1].flatten(1, 2)  # (B, K 2 (N_max + 1), D)
        there = valid.unflatten(1, (-1, each))[:, :, :count, None]  # (B, K, 2 (N_max + 1), 1)
        units = query.flatten(2).split(self.parts, 1)  # (B, D of it, P), of unit length at every cell
        first, margins = [], []
        objects = rows.unflatten(1, (-1, count))[:, :, self.config.max_seeds].mean(1, keepdim=True)  # (B, 1, D)
        unlike = apart(objects, self.known)[..., None] == 0  # (B, C, 1): to be left out
        sources = zip(units, rows.split(self.parts, 2), self.known.split(self.parts, 1), strict=True)
        for unit, part, known in sources:
            alike = (F.normalize(part, dim=2) @ unit).unflatten(1, (-1, count)).masked_fill(~there, -1)
            thing, rest = alike.tensor_split(2, 2)  # (B, K, N_max + 1, P) each, the average last
            most, least = thing.amax((1, 2)), rest.amax((1, 2))  # (B, P)
            mean, other = thing[:, :, -1].mean(1), rest[:, :, -1].mean(1)
            margins.append(mean - other)
            elsewhere = (F.normalize(known, dim=1) @ unit).masked_fill(unlike, -1).amax(1)  # (B, P)
            first += [most, least, most - least, mean, other, spread(mean - other), elsewhere, mean - elsewhere]
        margin = torch.stack(margins).mean(0)  # (B, P)
        sure = torch.stack([(SURE * margin).softmax(1), (-SURE * margin).softmax(1)], 2)  # (B, P, 2)
        second, own = [], []
        for unit in units:
            thing, rest = (F.normalize(unit @ sure, dim=1).mT @ unit).unbind(1)  # (B, P) each
            second += [thing, rest, thing - rest]
            own.append(thing - rest)
        maps = torch.stack([*first, *second, margin, torch.stack(own).mean(0), score.flatten(1)], 1)  # (B, maps, P)
        return maps.unflatten(2, grid)


def spread(values: Tensor) -> Tensor:
    """values (B, P), each row from 0 to 1."""
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    return (values - low) / (high - low).clamp(min=1e-6)
