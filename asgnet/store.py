"""The frozen-feature store: what the frozen networks say, once per image and view, memory-mapped.

A frozen backbone's features are data (ARCHITECTURE: data flow). The store of a dataset is a folder of

- ``views.csv``: one row a view: row, id, split ("train", "val" or "test"), view (0: plain, others augmented);
- ``image.npy`` (R, S, S, 3) and ``mask.npy`` (R, S, S), uint8: the view itself, mask values class ids or 255;
- ``cnn.npy`` (R, h, w, C) and ``vit.npy`` (R, 1 + T, D), float16: the frozen features, channels last; for every further
  size S of `features.vit_sizes` also the ViT's tokens of images of S pixels a side, ``vit_S.npy``;
- ``meta.json``: written last, with a key that names the parameters, the code and the files that made it.

Features are kept in half precision: it holds 11 bits of a value, more than the bf16 that training computes in.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.lib.format import open_memmap

from asgnet.backbones import Tokens, build_encoder, build_vit
from asgnet.backbones.encoder import Features
from asgnet.backbones.inference import for_autocast, for_inference
from asgnet.config import Study
from asgnet.data.transforms import augment, fit, normalise
from asgnet.data.tree import Tree
from asgnet.device import autocast, fast_dtype, pick_device
from asgnet.errors import UserError
from asgnet.files import alone, write_json
from asgnet.progress import track
from asgnet.rng import generator

ARRAYS = {"image": (4, "uint8"), "mask": (3, "uint8"), "cnn": (4, "float16"), "vit": (3, "float16")}


class Store:
    """A finished feature store, opened for reading. Rows are views.

    Raises UserError where the folder holds no finished store, or one with a damaged file.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        try:
            self.meta = json.loads((self.folder / "meta.json").read_text())
            self.views = pd.read_csv(self.folder / "views.csv", dtype={"id": str}, keep_default_na=False)
            self.vit_sizes = (self.meta["model"]["vit_size"], *self.meta["vit_sizes"])  # the study's own first
            arrays = open_arrays(self.folder, self.meta["rows"], self.vit_sizes[1:])
            self.image, self.mask, self.cnn, *tokens = arrays.values()
            self.tokens = dict(zip(self.vit_sizes, tokens, strict=True))
            self._row = {(i, v): r for r, i, v in self.views[["row", "id", "view"]].itertuples(index=False)}
        except (OSError, ValueError, KeyError, TypeError) as error:
            found = "no finished feature store" if isinstance(error, FileNotFoundError) else "a damaged feature store"
            raise UserError(f"{folder}: {found}; make it with `asgnet features`") from None

    @property
    def sources(self) -> tuple[int, ...]:
        """Channels of the parts of ``cnn``, in order."""
        return tuple(self.meta["sources"])

    def rows(self, ids: list[str], views: list[int] | None = None) -> np.ndarray:
        """Rows of image ids in the given views (the plain ones by default). Raises UserError for one that it lacks."""
        keys = list(zip(ids, views or [0] * len(ids), strict=True))
        if missing := [key for key in keys if key not in self._row]:
            image_id, view = missing[0]
            raise UserError(f"{self.folder}: no view {view} of image {image_id!r}; run `asgnet features`")
        return np.array([self._row[key] for key in keys])

    def features(self, rows: np.ndarray, vit_size: int | None = None) -> Features:
        """Frozen features of the rows: cnn (n, C, h, w) in channels-last memory and, of the ViT on images of
        ``vit_size`` pixels a side, vit (n, 1 + T, D); float16."""
        cnn = torch.from_numpy(self.cnn[rows]).permute(0, 3, 1, 2)
        return Features(cnn=cnn, vit=None if vit_size is None else torch.from_numpy(self.tokens[vit_size][rows]))

    def images(self, rows: np.ndarray) -> torch.Tensor:
        """The views themselves, ImageNet-normalised: (n, 3, S, S) float32."""
        return normalise(self.image[rows])

    def masks(self, rows: np.ndarray, classes: np.ndarray, void: Sequence[int] = ()) -> torch.Tensor:
        """(n, S, S) uint8: 1 where the row's class stands, 255 where the mask is void or a class of ``void`` stands, 0
        elsewhere."""
        return torch.from_numpy(class_target(self.mask[rows], classes, void))


class Extractor:
    """The frozen networks, ready to turn ImageNet-normalised images into Features."""

    def __init__(self, study: Study, device: torch.device | None = None) -> None:
        features = study.features
        self.device = device or pick_device()
        encoder = build_encoder(study.model, features.weights, features.pretrained)
        self.dtype = fast_dtype(self.device, study.compute.precision)
        self.encoder = for_inference(encoder, self.dtype).to(self.device)
        self.vits: dict[int, Tokens] = {}  # by the size of their images
        for size in (study.model.vit_size, *features.vit_sizes):
            vit = build_vit(replace(study.model, vit_size=size), features.weights, features.pretrained)
            self.vits[size] = for_autocast(vit, self.dtype).to(self.device).eval()
        self.vit_size = study.model.vit_size

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> Features:
        """(n, 3, S, S) float32 -> cnn (n, C, h, w), vit (n, 1 + T, D), in half precision on the CPU."""
        with autocast(self.device, self.dtype):
            cnn = self.encoder(images.to(self.device)).cnn
        return Features(cnn=cnn.half().cpu(), vit=self.tokens(images, self.vit_size))

    @torch.inference_mode()
    def tokens(self, images: torch.Tensor, size: int) -> torch.Tensor:
        """(n, 3, S, S) float32 -> the ViT's tokens (n, 1 + T, D) of the images at ``size`` pixels a side, likewise."""
        with autocast(self.device, self.dtype):
            return self.vits[size](images.to(self.device)).half().cpu()

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights of all networks by name."""
        networks = {"encoder": self.encoder} | {f"vit_{size}": vit for size, vit in self.vits.items()}
        return {f"{part}.{k}": v for part, network in networks.items() for k, v in network.state_dict().items()}


def class_target(masks: np.ndarray, classes: np.ndarray, void: Sequence[int] = ()) -> np.ndarray:
    """Class-id masks (n, H, W) -> the binary targets of one class each: 1 the class, 255 void, 0 the rest. Classes of
    ``void`` count as void."""
    target = (masks == classes[:, None, None]).astype(np.uint8)
    target[np.isin(masks, [255, *void])] = 255
    return target


def view_table(index: pd.DataFrame, views: int) -> pd.DataFrame:
    """One row a view: all views of training images, the plain view of the others."""
    images = index[["split", "id"]].drop_duplicates().sort_values(["split", "id"])
    count = images["split"].map(lambda split: views if split == "train" else 1)
    table = images.loc[images.index.repeat(count)].reset_index(drop=True)
    table["view"] = table.groupby("id").cumcount()
    return table.reset_index(names="row")


def make_view(tree: Tree, image_id: str, view: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The image and mask of one view, (S, S, 3) and (S, S): view 0 is plain, the others are augmented."""
    image, mask = tree.image(image_id), tree.mask(image_id)
    if view == 0:
        return fit(image, mask, size)
    return augment(image, mask, size, generator(seed, f"view-{image_id}", view))


def extract(study: Study, tree: Tree, extractor: Extractor, index: pd.DataFrame, folder: Path, key: str) -> None:
    """Fill the store at ``folder``; a store of the same ``key`` is left as it is, a partly filled one goes on.

    ``key`` names everything the features depend on. Progress is kept beside the arrays, so that a killed
    extraction goes on from the last 25 batches that it finished. Raises UserError where another process fills the
    same store.
    """
    with alone(folder):
        if not _finished(folder, key):
            _fill(study, tree, extractor, view_table(index, study.features.views), folder, key)


def _finished(folder: Path, key: str) -> bool:
    try:
        return Store(folder).meta["key"] == key
    except (UserError, KeyError):
        return False


def _fill(study: Study, tree: Tree, extractor: Extractor, table: pd.DataFrame, folder: Path, key: str) -> None:
    done_file, meta_file = folder / "progress.json", folder / "meta.json"
    meta_file.unlink(missing_ok=True)
    further = study.features.vit_sizes
    start = _rows_done(done_file, len(table), further, key)
    if start == 0:  # what is counted there would soon be overwritten
        done_file.unlink(missing_ok=True)
    arrays: dict[str, np.memmap] = {}
    batch = study.features.batch
    for first in track(range(start, len(table), batch), "features", initial=start // batch):
        part = table.iloc[first : first + batch]
        pairs = [
            make_view(tree, *key, study.data.size, study.data.seed)
            for key in zip(part["id"], part["view"], strict=True)
        ]
        values = {"image": np.stack([p[0] for p in pairs]), "mask": np.stack([p[1] for p in pairs])}
        images = normalise(values["image"])
        features = extractor(images)
        assert features.vit is not None
        values |= {"cnn": features.cnn.permute(0, 2, 3, 1).numpy(), "vit": features.vit.numpy()}
        values |= {f"vit_{size}": extractor.tokens(images, size).numpy() for size in further}
        if not arrays:
            arrays = (
                open_arrays(folder, len(table), further, "r+") if start else _new_arrays(folder, len(table), values)
            )
        for name in arrays:
            arrays[name][first : first + len(part)] = values[name]
        if first // batch % 25 == 24:
            for array in arrays.values():
                array.flush()
            write_json(done_file, {"key": key, "rows": first + len(part)})
    for array in arrays.values():
        array.flush()
    table.to_csv(folder / "views.csv", index=False)
    done_file.unlink(missing_ok=True)
    meta = {"key": key, "sources": extractor.encoder.sources, "rows": len(table), "model": asdict(study.model)}
    write_json(meta_file, meta | {"vit_sizes": further})


def _rows_done(done_file: Path, rows: int, further: Sequence[int], key: str) -> int:
    """How many of the ``rows`` of an unfinished store are there; 0 where it is of another key or damaged."""
    try:
        progress = json.loads(done_file.read_text())
        open_arrays(done_file.parent, rows, further)
    except (OSError, ValueError):
        return 0
    return progress["rows"] if progress["key"] == key else 0


def open_arrays(
    folder: Path, rows: int, further: Sequence[int] = (), mode: Literal["r", "r+"] = "r"
) -> dict[str, np.memmap]:
    """The arrays of a store with tokens of ``further`` sizes, memory-mapped. Raises OSError or ValueError where one is
    missing, cut off or of another shape or type than such a store of that many rows has."""
    arrays = {}
    for name, (axes, kind) in (ARRAYS | {f"vit_{size}": ARRAYS["vit"] for size in further}).items():
        path = folder / f"{name}.npy"
        try:
            arrays[name] = np.load(path, mmap_mode="r")  # first: writable ones would be filled up with zeros
        except EOFError:
            raise ValueError(f"{path} is empty") from None
        if (arrays[name].ndim, arrays[name].dtype, arrays[name].shape[:1]) != (axes, kind, (rows,)):
            raise ValueError(f"{path} has shape {arrays[name].shape}")
    return arrays if mode == "r" else {name: np.load(folder / f"{name}.npy", mmap_mode=mode) for name in arrays}


def _new_arrays(folder: Path, rows: int, samples: dict[str, np.ndarray]) -> dict[str, np.memmap]:
    return {
        name: open_memmap(folder / f"{name}.npy", mode="w+", dtype=sample.dtype, shape=(rows, *sample.shape[1:]))
        for name, sample in samples.items()
    }
