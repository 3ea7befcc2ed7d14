"""A small made-up study on disk: two trained arms and a training-free one on four folds."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from asgnet.rng import generator

CLASSES = [f"class{i}" for i in range(1, 9)]
LEVELS = {"baseline": 0.55, "vit_patch": 0.65, "all_foreground": 0.2}


def write_study(root: Path, epochs: int = 12, shots: tuple[int, ...] = (1, 5), seeds: tuple[int, ...] = (1, 2)) -> Path:
    """Write runs under ``root`` in the layout of a study and return ``root``."""
    for arm, level in LEVELS.items():
        for fold in range(4):
            for seed in (0,) if arm == "all_foreground" else seeds:
                folder = root / arm / f"fold{fold}" / f"seed{seed}"
                folder.mkdir(parents=True)
                for count in shots:
                    value = level + 0.03 * fold + 0.04 * (count > 1)
                    episodes(value, fold, count).to_csv(folder / f"episodes_{count}shot.csv", index=False)
                if seed:
                    history(level, fold, seed, epochs).to_csv(folder / "history.csv", index=False)
                    (folder / "train.json").write_text(json.dumps({"best_epoch": epochs - 2}))
    return root


def episodes(level: float, fold: int, shots: int, count: int = 40) -> pd.DataFrame:
    rng = generator(fold, "study-episodes", shots)
    number = np.arange(count)
    return pd.DataFrame({
        "episode": number,
        "class": fold * 2 + number % 2 + 1,
        "query": [f"2008_{i:06d}" for i in number // 2],
        "supports": ";".join(["2008_000100"] * shots),
        "inter_fg": np.round(1000 * np.clip(rng.normal(level, 0.1, count), 0, 1)).astype(int),
        "union_fg": 1000,
        "inter_bg": 3000,
        "union_bg": 4000,
    })  # fmt: skip


def history(level: float, fold: int, seed: int, epochs: int) -> pd.DataFrame:
    rng = generator(seed, "study-history", fold)
    epoch = np.arange(1, epochs + 1)
    rise = 1 - np.exp(-3 * epoch / epochs)
    table = pd.DataFrame({"epoch": epoch, "lr": 0.025 * (1 - (epoch - 1) / epochs) ** 0.9})
    table["loss"] = 1.2 - 0.8 * rise + rng.normal(0, 0.02, epochs)
    for split, top in (("train", level + 0.25), ("val", level + 0.12), ("novel", level)):
        table[f"{split}_loss"] = 0.7 - 0.4 * top * rise + rng.normal(0, 0.01, epochs)
        table[f"{split}_miou"] = 100 * (top + 0.02 * fold) * rise + rng.normal(0, 1, epochs)
    return table
