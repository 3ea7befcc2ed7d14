"""The study: all of params.yaml, read strictly."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from asgnet.errors import UserError
from asgnet.sections import (
    AblationConfig,
    Arm,
    ComputeConfig,
    DataConfig,
    EpisodesConfig,
    FeaturesConfig,
    Group,
    ModelConfig,
    PredictConfig,
    SelectionConfig,
    TestConfig,
    TrainConfig,
    TrainingFree,
    WalkthroughConfig,
)
from asgnet.strict import at_least, build, unknown


@dataclass(frozen=True)
class Study:
    """All of params.yaml."""

    home: str  # where the package and the notebooks lie, seen from params.yaml: for the pipeline's paths
    folds: tuple[int, ...]
    seeds: tuple[int, ...]
    data: DataConfig
    episodes: EpisodesConfig
    features: FeaturesConfig
    model: ModelConfig
    train: TrainConfig
    test: TestConfig
    arms: dict[str, Arm]
    training_free: dict[str, TrainingFree]
    prototypes: Group = field(default_factory=Group)  # how many prototypes, and what SGC and GPA buy
    departures: Group = field(default_factory=Group)  # of the published code from the paper
    candidates: Group = field(default_factory=Group)  # tried beyond the notes
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    ablation: AblationConfig = field(default_factory=AblationConfig)
    walkthrough: WalkthroughConfig = field(default_factory=WalkthroughConfig)
    predict: PredictConfig = field(default_factory=PredictConfig)
    label: str = ""  # stands on every figure and table, such as "demo"
    compute: ComputeConfig = field(default_factory=ComputeConfig)

    @property
    def labelled(self) -> dict[str, str]:
        """What every result of the study says: its label, where it has one."""
        return {"label": self.label} if self.label else {}

    def __post_init__(self) -> None:
        at_least(0, "", self, "folds", "seeds")
        for name in ("folds", "seeds", "arms"):
            if not getattr(self, name):
                raise UserError(f"{name}: there is none; expected at least one")

    @property
    def trained(self) -> dict[str, Arm]:
        """All rows that are trained: the arms and the groups beside them."""
        return self.arms | self.prototypes.arms | self.departures.arms | self.candidates.arms

    def arm(self, name: str) -> Arm:
        """The trained row of that name, or a UserError naming the nearest one."""
        if name not in self.trained:
            raise unknown("params.yaml: arm", name, self.trained)
        return self.trained[name]

    def model_of(self, arm: str) -> ModelConfig:
        """The network of an arm: the shared model section with the arm's overrides."""
        return _override(self.model, self.arm(arm).model, f"params.yaml: arm {arm}: model")

    def train_of(self, arm: str) -> TrainConfig:
        """The schedule of an arm, likewise."""
        return _override(self.train, self.arm(arm).train, f"params.yaml: arm {arm}: train")

    def check_stored(self, arm: str) -> None:
        """Raise UserError where an arm's ViT sees images of a size that the feature store lacks."""
        size, stored = self.model_of(arm).vit_size, (self.model.vit_size, *self.features.vit_sizes)
        if self.features.mode == "stored" and size not in stored:
            raise UserError(
                f"params.yaml: arm {arm}: model.vit_size {size} is not stored (of size "
                f"{', '.join(map(str, stored))} is); add it to features.vit_sizes"
            )

    def check_fold(self, fold: int | None) -> int | None:
        """``fold`` itself (None: no fold, all classes), or a UserError where the study has no such fold."""
        if fold is not None and fold not in self.folds:
            raise UserError(f"fold {fold} is not in params.yaml: folds {list(self.folds)}; choose one of them")
        return fold


def load_study(path: Path | str = "params.yaml") -> Study:
    """Read params.yaml strictly.

    Raises UserError for a missing or unreadable file, an unknown or mistyped parameter, or an arm whose
    overrides fit neither the network nor the schedule.
    """
    try:
        raw = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the folder that holds params.yaml") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from None
    try:
        study = build(Study, raw, Path(path).name)
    except UserError as error:
        raise UserError(str(error) if Path(path).name in str(error) else f"{path}: {error}") from None
    for name in study.trained:
        study.model_of(name), study.train_of(name)
        study.check_stored(name)
    selection = study.selection
    for name in (*study.ablation.arms, *selection.arms, *selection.trained, *filter(None, [selection.chosen])):
        study.arm(name)
    if selection.chosen and selection.chosen not in selection.trained:
        raise UserError(
            f"{path}: selection.trained: {selection.chosen}, the recipe (selection.chosen), is not in it; add it, for "
            "the other rows are compared with its results"
        )
    return study


def _override(base: Any, overrides: dict[str, Any], where: str) -> Any:
    return build(type(base), {**dataclasses.asdict(base), **overrides}, where)
