"""Where the study's files lie, below the folder that holds params.yaml. One place for each path."""

from dataclasses import dataclass
from pathlib import Path

from asgnet.config import Study


@dataclass(frozen=True)
class Layout:
    """Paths of a dataset's study, relative to the working folder."""

    dataset: str

    @classmethod
    def of(cls, study: Study) -> "Layout":
        """The layout of a study's dataset."""
        return cls(study.data.dataset)

    @property
    def index(self) -> Path:
        """Table of images, splits and classes."""
        return Path("episodes") / self.dataset / "index.csv"

    def episodes(self, fold: int | None, name: str) -> Path:
        """Frozen episodes of a fold, or over all classes; name: train, val, novel or test."""
        if fold is None:  # outside of what the stage of the folds writes
            return Path("episodes") / f"{self.dataset}-all" / f"{name}.csv"
        return Path("episodes") / self.dataset / f"fold{fold}" / f"{name}.csv"

    @property
    def features(self) -> Path:
        """The feature store."""
        return Path("features") / self.dataset

    @property
    def results(self) -> Path:
        """Everything measured on the dataset."""
        return Path("results") / self.dataset

    @property
    def prototypes(self) -> Path:
        """Tables of the ablations: prototypes and departures."""
        return self.results / "prototypes"

    @property
    def figures(self) -> Path:
        """The paper's figures and tables."""
        return Path("figures") / self.dataset

    def run(self, arm: str, fold: int | None, seed: int) -> Path:
        """One run's folder: curves, trained weights, test results. A run on all classes stands apart: no table gathers
        it."""
        if fold is None:
            return self.results / "all" / arm / f"seed{seed}"
        return self.results / arm / f"fold{fold}" / f"seed{seed}"

    def selection(self, arm: str, split: str) -> Path:
        """What an arm reached on the withheld base classes of a split."""
        return self.results / "selection" / arm / split

    @property
    def candidates(self) -> Path:
        """Tables of what was tried beyond the notes."""
        return self.results / "candidates"

    def receipt(self, arm: str, fold: int, seed: int, kind: str = "test") -> Path:
        """Digests of what a run wrote. DVC cannot depend on a pattern, so what gathers runs depends on the folder of
        receipts of its ``kind`` (test or ablation), which changes when any run does."""
        folder = self.dataset if kind == "test" else f"{self.dataset}-{kind}"
        return Path("receipts") / folder / f"{arm}-fold{fold}-seed{seed}.json"

    def selection_receipt(self, arm: str, split: str) -> Path:
        """Digests of what the selection wrote, beside those of the tests."""
        return Path("receipts") / self.dataset / f"selection-{arm}-{split}.json"

    def resume(self, arm: str, fold: int | None, seed: int) -> Path:
        """State of one unfinished run. Outside of every stage's outputs, which DVC deletes before a stage runs."""
        return Path(".resume") / self.dataset / self.run(arm, fold, seed).relative_to(self.results)
