"""Where a network's inputs come from: the feature store, or the photographs themselves.

Both answer the same questions about the same views, so training and testing do not know which they read.
"""

import copy
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from asgnet.backbones.encoder import Features
from asgnet.config import Study
from asgnet.data.transforms import normalise
from asgnet.data.tree import Tree
from asgnet.device import fast_dtype, pick_device
from asgnet.errors import UserError
from asgnet.model import ASGNet
from asgnet.store import Extractor, Store, class_target, make_view

Views = dict[tuple[str, int], tuple[np.ndarray, np.ndarray]]  # (image id, view): image (S, S, 3) and mask (S, S)


class _Originals:
    """The tree's images at their own size, where predictions are scored."""

    tree: Tree
    device: torch.device
    dtype: torch.dtype  # that networks compute in

    @cached_property
    def _sizes(self) -> dict[str, tuple[int, int]]:
        """(H, W) of the images that were asked for: testing asks again and again, and files are slow to open."""
        return {}

    def original_size(self, image_id: str) -> tuple[int, int]:
        """(H, W) of the image as it lies in the tree."""
        if image_id not in self._sizes:
            self._sizes[image_id] = self.tree.size(image_id)
        return self._sizes[image_id]

    def original_mask(self, image_id: str, class_id: int) -> Tensor:
        """(H, W) uint8 on the device: 1 the class, 255 void, 0 the rest."""
        mask = class_target(self.tree.mask(image_id)[None], np.array([class_id]))[0]
        return torch.from_numpy(mask).to(self.device)


class StoredSource(_Originals):
    """Frozen features from the store. A network that runs layers with gradient (the residual chain) or
    whose BatchNorm drifts gets the stored view's pixels instead, and computes its own."""

    makes_views = False  # they lie in the store: reading a row takes less than getting it from another process

    def __init__(self, study: Study, store: Store, tree: Tree, device: torch.device | None = None) -> None:
        made = store.meta["model"] | {"size": store.image.shape[1]}
        made["vit_sizes"] = store.vit_sizes[1:]
        asked = {"backbone": study.model.backbone, "vit_size": study.model.vit_size, "vit_model": study.model.vit_model}
        for name, value in (asked | {"size": study.data.size, "vit_sizes": study.features.vit_sizes}).items():
            if made[name] != value:
                raise UserError(f"{store.folder}: made with {name} {made[name]}, not {value}; run `asgnet features`")
        self.store, self.tree, self.size = store, tree, study.data.size
        self.views, self.sources = study.features.views, store.sources
        self.device = device or pick_device()
        self.dtype = fast_dtype(self.device, study.compute.precision)

    def features(self, model: ASGNet, ids: list[str], views: list[int], differentiable: bool = False) -> Features:
        """Features of n views on the device; ``differentiable`` where the network trains its own layers."""
        rows = self.store.rows(ids, views)
        stored = self.store.features(rows, None if model.config.vit == "none" else model.config.vit_size)
        vit = None if stored.vit is None else stored.vit.to(self.device)
        if model.config.residual or model.config.batch_statistics:
            images = self.images(ids, views)
            return model.encode(images, differentiable=differentiable)._replace(vit=vit)
        return Features(cnn=stored.cnn.to(self.device), vit=vit)

    def make(self, ids: list[str], views: list[int]) -> Views:
        """Nothing: see ``makes_views``."""
        return {}

    def holding(self, made: Views) -> "StoredSource":
        """This source."""
        return self

    def frozen(self, ids: list[str], views: list[int]) -> Features:
        """What the frozen networks say, the ViT included, whatever the arm."""
        return self.store.features(self.store.rows(ids, views), self.store.vit_sizes[0])

    def images(self, ids: list[str], views: list[int]) -> Tensor:
        """The views themselves, ImageNet-normalised, (n, 3, S, S) float32 on the device."""
        return self.store.images(self.store.rows(ids, views)).to(self.device)

    def masks(self, ids: list[str], views: list[int], classes: list[int], void: Sequence[int] = ()) -> Tensor:
        """(n, S, S) uint8 on the device: 1 the class, 0 anything else, 255 void and classes of ``void``."""
        return self.store.masks(self.store.rows(ids, views), np.array(classes), void).to(self.device)


class OnlineSource(_Originals):
    """Everything from the photographs: views are drawn afresh and the backbone runs every time. The number of
    augmented views is unbounded (each is a pure function of random seed, image and view number)."""

    views = 2**31
    sources = None  # the network's own encoder says
    makes_views = True

    def __init__(self, study: Study, tree: Tree, device: torch.device | None = None) -> None:
        self.study, self.tree, self.size, self.seed = study, tree, study.data.size, study.data.seed
        self.made: Views = {}
        self.device = device or pick_device()
        self.dtype = fast_dtype(self.device, study.compute.precision)

    def features(self, model: ASGNet, ids: list[str], views: list[int], differentiable: bool = False) -> Features:
        """Features of n views on the device."""
        return model.encode(self.images(ids, views), differentiable=differentiable)

    def make(self, ids: list[str], views: list[int]) -> Views:
        """The images and masks of views."""
        return {key: self.view(*key) for key in zip(ids, views, strict=True)}

    def holding(self, made: Views) -> "OnlineSource":
        """This source, with what `make` gave, here or in another process: it is not made again."""
        held = copy.copy(self)
        held.made = made
        return held

    def frozen(self, ids: list[str], views: list[int]) -> Features:
        """What the frozen networks say, the ViT included, whatever the arm."""
        return self.extractor(self.images(ids, views))

    @cached_property
    def extractor(self) -> Extractor:
        """Loaded when first asked for: training uses the model's own frozen networks instead."""
        return Extractor(self.study, self.device)

    def images(self, ids: list[str], views: list[int]) -> Tensor:
        """The views themselves, ImageNet-normalised, (n, 3, S, S) float32 on the device."""
        images = np.stack([self.view(i, v)[0] for i, v in zip(ids, views, strict=True)])
        return normalise(images).to(self.device)

    def masks(self, ids: list[str], views: list[int], classes: list[int], void: Sequence[int] = ()) -> Tensor:
        """(n, S, S) uint8 on the device: 1 the class, 0 anything else, 255 void and classes of ``void``."""
        masks = np.stack([self.view(i, v)[1] for i, v in zip(ids, views, strict=True)])
        return torch.from_numpy(class_target(masks, np.array(classes), void)).to(self.device)

    def view(self, image_id: str, view: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (S, S, 3) and mask (S, S) of one view, uint8."""
        return self.made.get((image_id, view)) or self._view(image_id, view)

    def _view(self, image_id: str, view: int) -> tuple[np.ndarray, np.ndarray]:
        return make_view(self.tree, image_id, view, self.size, self.seed)


Source = StoredSource | OnlineSource
