"""The sections of params.yaml, each a frozen dataclass that refuses values out of range.

`asgnet.config` reads them; each stage of the pipeline depends on the sections that it uses.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from asgnet.errors import UserError
from asgnet.strict import at_least


@dataclass(frozen=True)
class ModelConfig:
    """The network (facts: "Algorithms"). The defaults are the published ones for ResNet-50."""

    backbone: Literal["resnet50", "resnet101", "resnet50_7x7", "resnet101_7x7", "lite0"] = "resnet50"  # 7x7: the stem
    decoder: Literal["fem", "aspp"] = "fem"
    head: str = ""  # a module of asgnet/arms whose Head takes the place of ASGNet's own
    width: int = 256  # channels after down_conv
    vit: Literal["none", "cls", "patch"] = "none"  # token slice: [:, 0:T] or [:, 1:T+1]
    vit_width: int = 512  # channels of the projected ViT map
    vit_model: str = "vit_small_patch14_dinov2"
    vit_size: int = 196  # pixels a side that the ViT sees; 196 / 14 = 14 tokens a side
    residual: bool = False  # chain the layers: x[l+1] = layer_l(x[l]) + P_l(x[l])
    residual_layers: tuple[int, ...] = (0, 1, 2, 3)  # the l that have a P_l
    residual_gates: bool = False  # P_l times a learnt number that starts at 0
    residual_learns: bool = True  # false: the P_l stay as they were drawn
    normalise_sources: bool = False  # layer-normalise each feature source per cell
    max_seeds: int = 5  # N_max, the most prototypes a support gets
    area_per_seed: float = 100.0  # S_sp, in cells of a 60 x 60 grid
    seed_rule: Literal["published", "padded"] = "published"
    iterations_train: int = 10  # of SGC
    iterations_eval: int = 5
    spatial_weight: float = 100.0  # r squared, in SGC's distance
    association: Literal["cells", "centres"] = "cells"  # what SGC normalises over (departure 7)
    allocation: Literal["guided", "expanded"] = "guided"  # GPA, or the mean prototype at every cell
    probability: Literal["sum", "mean"] = "sum"  # of the similarities over prototypes (departure 6)
    dropout: float = 0.5  # Dropout2d after down_conv
    dropout_place: Literal["features", "context"] = "features"  # before SGC and GPA, or after them (departure 4)
    published_seed_count: bool = False  # count given seeds by their non-zero coordinates (departure 9)
    support_recall: float = 0.0  # share of the supports' objects that the threshold must find; 0: the threshold is 0
    outline: Literal["cells", "image"] = "cells"  # a mask ends between two cells, or where its image has an edge
    bounded: float = 0.0  # q of the generalised cross-entropy that background labels are taught with; 0: cross-entropy
    batch_statistics: bool = False  # backbone BatchNorm in training mode (departure 2; online features only)

    def __post_init__(self) -> None:
        at_least(1, "model.", self, "width", "vit_width", "vit_size", "max_seeds")
        at_least(0, "model.", self, "area_per_seed", "iterations_train", "iterations_eval", "spatial_weight")
        if not set(self.residual_layers) <= set(range(4)):
            raise UserError(f"model.residual_layers: {list(self.residual_layers)}: expected some of 0, 1, 2 and 3")
        for name in ("dropout", "support_recall", "bounded"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise UserError(f"model.{name}: {value} is no share; expected 0 to less than 1")


@dataclass(frozen=True)
class DataConfig:
    """A VOC-layout tree, or a folder of one's own, and how its images become squares of ``size`` pixels."""

    dataset: Literal["parts", "pascal5i", "coco20i", "folder"] = "parts"
    root: str = "data/parts"  # `coco20i`: the folder with annotations/, train2014/ and val2014/
    size: int = 257  # pixels a side, 8 n + 1
    seed: int = 321
    val_fraction: float = 0.1  # of the training images, held out
    min_pixels: int = 1300  # of a class in an image, at its original size, for the image to count
    min_test_images: int = 6  # a novel class needs, or it is left out of its fold
    train_images: int = 1000  # `parts` only: how many are made
    test_images: int = 480
    download: bool = False  # `pascal5i`, `coco20i`: fetch what is missing under root
    folds_of: Literal["interleaved", "blocks"] = "interleaved"  # `coco20i` only: every fourth class, or 20 in a row

    def __post_init__(self) -> None:
        if self.size % 8 != 1:
            raise UserError(f"data.size: {self.size} is not 8 n + 1; try {self.size // 8 * 8 + 1}")
        at_least(9, "data.", self, "size")
        at_least(0, "data.", self, "seed", "min_pixels", "min_test_images")
        if not 0 <= self.val_fraction < 1:
            raise UserError(f"data.val_fraction: {self.val_fraction} is no share; expected 0 to less than 1")


@dataclass(frozen=True)
class EpisodesConfig:
    """How many frozen episodes of each kind a fold gets (facts: "Evaluation")."""

    shots: int = 5  # drawn with this many supports; fewer shots use the first
    test_shots: int | None = None  # the same for test episodes, where they need more
    train: int = 100  # monitored in eval mode
    val: int = 200  # base classes on held-out images: picks the checkpoint
    novel: int = 200  # novel classes, monitored only
    test: int = 1000
    monitored_images: int = 12  # per class, from which train, val and novel episodes are drawn

    def __post_init__(self) -> None:
        at_least(1, "episodes.", self, *(f.name for f in dataclasses.fields(self)))


@dataclass(frozen=True)
class FeaturesConfig:
    """Frozen features: stored once per image and view, or computed online."""

    mode: Literal["stored", "online"] = "stored"
    views: int = 3  # of each training image: the plain one and views - 1 augmented ones
    weights: str = "initmodel"  # a folder that wins over packaged and downloaded weights
    pretrained: bool = True
    batch: int = 8
    vit_sizes: tuple[int, ...] = ()  # beside model.vit_size, for rows that change it; stored features only

    def __post_init__(self) -> None:
        at_least(1, "features.", self, "views", "batch", "vit_sizes")


@dataclass(frozen=True)
class TrainConfig:
    """SGD with the poly schedule (facts: "Training")."""

    epochs: int = 8
    steps_per_epoch: int | None = 75  # None: an epoch is one pass over the fold's training images, as published
    batch: int = 4
    shots: int = 1
    further_shots: int = 0  # supports in every second step (`asgnet.loader.with_further`); 0: `shots` in all
    lr: float = 0.025  # the published effective rate (departure 1)
    momentum: float = 0.9
    weight_decay: float = 1e-4
    power: float = 0.9
    auxiliary: float = 1.0
    selection: Literal["val", "novel"] = "val"  # novel: the published way, on the test fold (departure 3)
    # Novel-class pixels in training queries: taught as background (the published way), ignored, or their images left
    # out (departure 8). The last two use novel-class masks in training.
    novel_pixels: Literal["background", "ignored", "left_out"] = "background"
    distractors: float = 0.0  # share of training queries with a piece of another one in them (`asgnet.distractors`)

    def __post_init__(self) -> None:
        at_least(1, "train.", self, "epochs", "steps_per_epoch", "batch", "shots")
        at_least(0, "train.", self, "further_shots", "lr", "momentum", "weight_decay", "power")
        if self.further_shots and self.further_shots <= self.shots:
            raise UserError(
                f"train.further_shots: {self.further_shots} is no more than train.shots, {self.shots}; give more, or 0"
            )
        if not 0 <= self.distractors <= 1:
            raise UserError(f"train.distractors: {self.distractors} is no share; expected 0 to 1")

    @property
    def pass_steps(self) -> int:
        """Steps of an epoch. Raises ValueError where they follow from the images, which `on` counts."""
        if self.steps_per_epoch is None:
            raise ValueError("the steps of an epoch follow from the fold's images: call on(images)")
        return self.steps_per_epoch

    @property
    def named(self) -> dict[str, str]:
        """The choices that every result of a run names, for numbers compare only where they agree."""
        return {"novel_pixels": self.novel_pixels, "selection": self.selection}

    def on(self, images: int) -> "TrainConfig":
        """The schedule with its steps per epoch in numbers, for a fold that trains on so many ``images``."""
        return dataclasses.replace(self, steps_per_epoch=self.steps_per_epoch or -(-images // self.batch))


@dataclass(frozen=True)
class TestConfig:
    """Testing: apart from training, on frozen episodes."""

    shots: tuple[int, ...] = (1, 5)
    batch: int = 16
    resamples: int = 2000  # of the bootstrap
    examples: int = 8  # episodes kept with their predictions, for the figures
    # `asgnet evaluate` scores as the published code does (asgnet/like_for_like.py), as `asgnet import-reference` always
    # does. The pipeline's own stages refuse it: their episodes are frozen and shared by all arms.
    like_for_like: bool = False

    def __post_init__(self) -> None:
        at_least(1, "test.", self, "shots", "batch", "resamples", "examples")
        if not self.shots:
            raise UserError("test.shots: the list is empty; expected numbers of supports such as [1, 5]")


@dataclass(frozen=True)
class ComputeConfig:
    """On what a cell computes, and how fast. The last digits of its numbers depend on all of it but ``workers``."""

    threads: int = 0  # CPU threads of each process, 0 for all
    devices: int = (
        1  # processes that share a run's training and testing, each with a GPU of its own where there are any
    )
    # auto: bfloat16 where the device multiplies it in hardware, else float32. float16 needs CUDA.
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    compile: bool = False  # torch.compile for context module and classifier
    workers: int = 0  # processes that make training views ahead, of each device; online features only: stored ones are

    def __post_init__(self) -> None:
        at_least(0, "compute.", self, "threads", "workers")
        at_least(1, "compute.", self, "devices")


@dataclass(frozen=True)
class WalkthroughConfig:
    """The notebook that traces one forward pass."""

    size: int = 473  # pixels a side, 8 n + 1


@dataclass(frozen=True)
class Arm:
    """A row that is trained: a label, and what it overrides."""

    label: str
    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    table: str = "arms"  # which table of the study it stands in


@dataclass(frozen=True)
class Group:
    """Trained rows beside the arms, each compared with `baseline`, on folds and random seeds of their own."""

    folds: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()
    arms: dict[str, Arm] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    """Base classes of a fold that play novel ones: they stay in the training images, and no episode asks for them."""

    fold: int
    withheld: tuple[str, ...]  # class names


@dataclass(frozen=True)
class SelectionConfig:
    """How the recipe is chosen among the candidates: on base classes withheld from training, in held-out images."""

    arms: tuple[str, ...] = ()  # trained on every split
    splits: dict[str, Split] = field(default_factory=dict)
    episodes: int = 240  # of a split
    chosen: str = ""  # the recipe: the row that `asgnet candidates` compares with all others
    trained: tuple[str, ...] = ()  # on the folds themselves: the recipe, and what it is to be measured against

    def __post_init__(self) -> None:
        at_least(1, "selection.", self, "episodes")


@dataclass(frozen=True)
class AblationConfig:
    """What is varied at test time on trained networks, never retrained. Each list is one table."""

    arms: tuple[str, ...] = ()  # tested at every count; the first is the one that everything else is varied on
    folds: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()
    counts: tuple[int, ...] = (1, 3, 5, 7, 9)  # N_max
    clusterers: tuple[str, ...] = ("sgc", "soft_kmeans", "kmeans", "em", "slic")  # and "parts", where they are known
    iterations: tuple[int, ...] = (0, 1, 2, 5, 10, 20)  # of SGC
    spatial_weights: tuple[float, ...] = (1.0, 10.0, 100.0, 1000.0, 10000.0)  # r squared
    seed_rules: tuple[str, ...] = ("published", "padded")
    shots: tuple[int, ...] = (1, 2, 5, 10)
    fusions: tuple[str, ...] = ("pool", "features", "votes")


@dataclass(frozen=True)
class PredictConfig:
    """The run that `asgnet predict` uses by default, trained on all classes by `asgnet train-all`."""

    arm: str = "vit_patch"
    seed: int = 0  # random seed


@dataclass(frozen=True)
class TrainingFree:
    """A row of the training-free table: cosine similarities of frozen features (issue: training-free arms)."""

    label: str
    features: Literal["none", "cnn", "vit"] = "none"
    background: bool = False  # subtract the similarity to the support's background
