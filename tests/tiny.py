"""A study at a size of seconds, on a small `parts` tree."""

from pathlib import Path

import yaml

from asgnet.config import Study, load_study
from asgnet.data.parts import CLASSES

ROOT = Path(__file__).resolve().parents[1]


def tiny(study: dict) -> dict:
    """The study's parameters at a size of seconds."""
    study |= {"folds": [1], "seeds": [0], "label": "test"}
    study["data"] |= {"size": 129, "train_images": 160, "test_images": 80, "min_pixels": 300, "min_test_images": 4}
    study["data"]["val_fraction"] = 0.4
    study["episodes"] = {
        "shots": 2,
        "test_shots": 3,
        "train": 5,
        "val": 5,
        "novel": 5,
        "test": 10,
        "monitored_images": 3,
    }
    study["features"] |= {"views": 1, "vit_sizes": [28]}
    study["model"] |= {"width": 16, "vit_width": 16, "vit_size": 56}
    study["train"] |= {"epochs": 2, "steps_per_epoch": 2}
    study["test"] |= {"shots": [1, 2], "examples": 2, "resamples": 50}
    study["training_free"] = {name: study["training_free"][name] for name in ("all_foreground", "fg_bg_vit")}
    cells = {"folds": [1], "seeds": [0]}
    for group, arm in (("prototypes", "nmax_1"), ("departures", "late_dropout")):
        study[group] = {**cells, "arms": {arm: study[group]["arms"][arm]}}
    study["ablation"] |= {**cells, "arms": ["baseline", "nmax_1"], "counts": [1, 5], "clusterers": ["sgc", "kmeans"]}
    study["ablation"] |= {"iterations": [0, 5], "spatial_weights": [1, 100], "shots": [1, 3]}
    tried = {"vit_size": 28, "head": "together", "bounded": 0.7, "support_recall": 0.85, "outline": "image"}
    calibrated = {"label": "all that was tried, together", "model": {"vit": "patch", **tried}}
    calibrated["train"] = {"further_shots": 3}
    rejected = {"label": "never trained on the folds themselves", "model": {"vit": "patch"}}
    study["candidates"] = {**cells, "arms": {"rejected": rejected, "calibrated": calibrated}}
    splits = {"first": {"fold": 1, "withheld": list(CLASSES[:5])}}
    study["selection"] = {
        "arms": ["calibrated"],
        "splits": splits,
        "episodes": 6,
        "chosen": "calibrated",
        "trained": ["calibrated"],
    }
    study["walkthrough"] = {"size": 129}
    return study


def share(prepared: Path, folder: Path, *names: str) -> None:
    """Let ``folder`` have what lies in another: ``names``, or all that the stages before training make."""
    for name in names or ("data", "episodes", "features"):
        (folder / name).symlink_to(prepared / name)


def write_params(folder: Path, **changes: dict) -> Path:
    """params.yaml of the tiny study in ``folder``, sections updated by ``changes``."""
    study = tiny(yaml.safe_load((ROOT / "params.yaml").read_text()))
    for section, values in changes.items():
        study[section] |= values
    (folder / "params.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    return folder / "params.yaml"


def tiny_study(folder: Path, **changes: dict) -> Study:
    """The tiny study, its params.yaml written to ``folder``."""
    return load_study(write_params(folder, **changes))
