"""The ablation stage: what varies at test time on one trained network, and how good its superpixels are."""

import pandas as pd
import torch

from asgnet.ablation import parts_on_grid, score_variations, variations
from asgnet.clusterers import cluster
from asgnet.config import Study
from asgnet.data.episodes import pairs_of, read_episodes
from asgnet.decoders import sides
from asgnet.errors import UserError
from asgnet.files import atomic_path
from asgnet.gallery import build_maps, chunks, in_parts
from asgnet.layout import Layout
from asgnet.model import ASGNet
from asgnet.provenance import record, write_receipt
from asgnet.quality import apart, quality
from asgnet.source import Source
from asgnet.stages.runs import load_run, open_source, refuse_like_for_like

COMPARED = ("sgc", "soft_kmeans", "kmeans", "em", "slic")  # at the same seed cells, so at the same count
QUALITY = ["method", "image", "class", "superpixels", "asa", "ue", "ari", "apart"]


def run_ablation(study: Study, arm: str, fold: int, seed: int) -> None:
    """Test one trained run under every variation of params.yaml's ablation section; write variations.csv, and
    quality.csv (a header alone where the dataset knows no parts)."""
    if arm not in study.ablation.arms:
        raise UserError(f"arm {arm} is not in params.yaml: ablation.arms {list(study.ablation.arms)}; add it there")
    refuse_like_for_like(study)
    layout = Layout.of(study)
    folder = layout.run(arm, fold, seed)
    with record(folder, "ablate"):
        source, model = open_source(study), load_run(study, folder)
        episodes = read_episodes(layout.episodes(fold, "test"))
        parts = source.tree.parts(episodes["query"].iloc[0]) is not None
        rows = variations(study.ablation, model.config, parts, first=arm == study.ablation.arms[0])
        tables = {
            "variations": pd.concat(
                score_variations(model, source, part, rows, study.test.batch)
                for part in in_parts(episodes, max(row.shots for row in rows))
            ),
            "quality": superpixel_quality(model, source, episodes) if parts else pd.DataFrame(columns=QUALITY),
        }
    for name, table in tables.items():
        with atomic_path(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    write_receipt([folder / f"{name}.csv" for name in tables], layout.receipt(arm, fold, seed, "ablation"))


@torch.no_grad()
def superpixel_quality(model: ASGNet, source: Source, episodes: pd.DataFrame) -> pd.DataFrame:
    """How well each clusterer's superpixels fit the true parts of every support of the 1-shot ``episodes``, where the
    support gets two superpixels or more. Columns ``QUALITY``; the measures as in `asgnet.quality`."""
    maps, config = build_maps(model, source, episodes, shots=1), model.config
    rows = []
    for chunk in chunks(pairs_of(episodes, 1), 16):
        ids, classes = [i for i, _ in chunk], [c for _, c in chunk]
        reduced, _ = maps.of(ids)
        grid = sides(reduced)
        cells, seeds, _ = model.head.place(source.masks(ids, [0] * len(ids), classes) == 1, grid)
        count = (seeds >= 0).all(2).sum(1).tolist()
        true = parts_on_grid(source, chunk, grid).numpy()
        for method in COMPARED:
            found = cluster(method, reduced, cells, seeds, config.iterations_eval, config.spatial_weight)
            labels, distances = found.label.cpu().numpy(), apart(found.prototypes, found.valid).tolist()
            rows += [
                {"method": method, "image": i, "class": c, "superpixels": n, **quality(label, part), "apart": distance}
                for (i, c), n, label, part, distance in zip(chunk, count, labels, true, distances, strict=True)
                if n > 1
            ]
    return pd.DataFrame(rows, columns=QUALITY)
