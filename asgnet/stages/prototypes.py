"""The prototypes stage: trained rows and variations gathered into the tables of results/<dataset>/prototypes."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from asgnet.ablation_tables import Comparison, ablation_table, binned_table
from asgnet.config import Study
from asgnet.data import open_dataset
from asgnet.data.episodes import read_episodes, supports_of
from asgnet.data.index import read_table
from asgnet.data.tree import Tree
from asgnet.errors import UserError
from asgnet.files import atomic_path
from asgnet.intervals import Blocks, mean_interval
from asgnet.layout import Layout
from asgnet.metrics import COUNTS
from asgnet.results import blocks_of, find_runs
from asgnet.sections import Group
from asgnet.shape import object_shape

Varied = dict[tuple[str, str, int], Blocks]  # (table, setting, shots) -> episodes by fold and random seed

BASELINE = "baseline"
# what "where it helps" compares, from the tables of the variations: one prototype and the true parts against five
ONE, FIVE, TRUE = ("count", "1"), ("clusterer", "sgc"), ("clusterer", "parts")


def gather_prototypes(study: Study) -> None:
    """Write trained.csv, departures.csv, selection.csv, variations.csv, shape.csv and quality.csv."""
    if not study.ablation.arms:
        raise UserError("params.yaml: ablation.arms is empty: nothing is varied, so there is nothing to gather")
    layout = Layout.of(study)
    tree = open_dataset(study.data.dataset, study.data.root, study.data.folds_of)
    tests = {fold: read_episodes(layout.episodes(fold, "test")) for fold in study.ablation.folds}
    varied = {arm: varied_blocks(study, arm, tests) for arm in study.ablation.arms}
    tables = {
        "trained": ablation_table(trained_comparisons(study, study.prototypes)),
        "departures": ablation_table(trained_comparisons(study, study.departures)),
        "selection": selection_table(study),
        "variations": ablation_table(varied_comparisons(study, varied)),
        "shape": shape_table(varied[study.ablation.arms[0]], tree, tests),
        "quality": quality_table(study),
    }
    for name, table in tables.items():
        with atomic_path(layout.prototypes / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)


def trained_comparisons(study: Study, group: Group) -> Iterator[Comparison]:
    """The trained rows of a group against the baseline, table by table and for each number of shots."""
    if not group.arms:
        return
    runs = find_runs(Layout.of(study).results, [BASELINE, *group.arms])
    labels = {BASELINE: study.arms[BASELINE].label} | {name: arm.label for name, arm in group.arms.items()}
    for table in dict.fromkeys(arm.table for arm in group.arms.values()):
        names = [name for name in group.arms if group.arms[name].table == table]
        for shots in study.test.shots:
            blocks = blocks_of([run for run in runs if run.fold in group.folds], shots)
            settings = {labels[name]: blocks[name] for name in [BASELINE, *names]}
            yield Comparison(table, "", shots, settings, labels[BASELINE])


def varied_blocks(study: Study, arm: str, tests: dict[int, pd.DataFrame]) -> Varied:
    """What `asgnet ablate` measured on the runs of one arm, with the identity of its episodes."""
    layout = Layout.of(study)
    found: dict[tuple[str, str, int], dict[tuple[int, int], pd.DataFrame]] = {}
    for fold in study.ablation.folds:
        for seed in study.ablation.seeds:
            table = read_variations(layout.run(arm, fold, seed) / "variations.csv")
            for (name, setting, shots), part in table.groupby(["table", "setting", "shots"], sort=False):
                supports = [";".join(ids) for ids in supports_of(tests[fold], shots)]
                named = tests[fold][["episode", "class", "query"]].assign(supports=supports)
                block = named.merge(part[["episode", *COUNTS]], on="episode", validate="one_to_one")
                found.setdefault((name, setting, int(shots)), {})[fold, seed] = block
    return {**found}


def read_variations(path: Path) -> pd.DataFrame:
    """A run's variations.csv; the settings are text, though many look like numbers."""
    return read_table(path, ["table", "setting", "shots", "episode"], text=["table", "setting"])


def varied_comparisons(study: Study, varied: dict[str, Varied]) -> Iterator[Comparison]:
    """Every table of the variations: settings against what the network was trained or is published with."""
    for arm, blocks in varied.items():
        config = study.model_of(arm)
        references = {
            "count": str(config.max_seeds),
            "clusterer": "sgc",
            "iterations": str(config.iterations_eval),
            "spatial weight": f"{config.spatial_weight:g}",
            "seed rule": config.seed_rule,
            "fusion": "pool",
        }
        for table, shots in dict.fromkeys((table, shots) for table, _, shots in blocks):
            settings = {s: b for (t, s, k), b in blocks.items() if (t, k) == (table, shots)}
            yield Comparison(table, study.arm(arm).label, shots, settings, references[table])


def shape_table(blocks: Varied, tree: Tree, tests: dict[int, pd.DataFrame]) -> pd.DataFrame:
    """IoU of one and of true-part prototypes against five, by the query object's scale, shape and occlusion."""
    settings = {f"{table} {setting}": blocks[table, setting, 1] for table, setting in (ONE, FIVE, TRUE)
                if (table, setting, 1) in blocks}  # fmt: skip
    objects = pd.concat(tests.values())[["query", "class"]].drop_duplicates()
    rows = [{"id": query, "class": label, **object_shape(tree.mask(query) == label)}
            for query, label in objects.itertuples(index=False)]  # fmt: skip
    measures, hidden = pd.DataFrame(rows), tree.hidden()
    if hidden is not None:
        measures = measures.merge(hidden, on=["id", "class"], how="left")
    return binned_table(settings, " ".join(FIVE), measures, shots=1)


def quality_table(study: Study) -> pd.DataFrame:
    """Superpixel quality of each method: the mean over supports (each once a fold and random seed) with its bootstrap
    interval. Columns: measure, method, mean, low, high, supports. Empty where the dataset knows no parts."""
    layout, arm = Layout.of(study), study.ablation.arms[0]
    runs = [
        pd.read_csv(layout.run(arm, fold, seed) / "quality.csv").assign(fold=fold, seed=seed)
        for fold in study.ablation.folds for seed in study.ablation.seeds
    ]  # fmt: skip
    table = pd.concat(runs)
    rows = []
    for method, part in table.groupby("method", sort=False):
        for measure in ("asa", "ue", "ari", "apart"):
            means = part.groupby(["fold", "image", "class"])[measure].mean().dropna()  # over random seeds
            rows.append(
                {"measure": measure, "method": method, **mean_interval(means.to_numpy()), "supports": len(means)}
            )
    return pd.DataFrame(rows, columns=["measure", "method", "mean", "low", "high", "supports"])


def selection_table(study: Study) -> pd.DataFrame:
    """Departure 3: what picking the epoch on the monitored novel episodes, as published, would have added to them.

    One row a trained run of the arms: arm, fold, seed, val_epoch and novel_epoch (picked by val and by novel mIoU),
    novel_at_val_epoch, novel_at_novel_epoch (per cent), added (points)."""
    rows = []
    for run in find_runs(Layout.of(study).results, list(study.arms)):
        history = run.history().set_index("epoch")
        val, novel = history["val_miou"].idxmax(), history["novel_miou"].idxmax()
        honest, best = history.loc[val, "novel_miou"], history.loc[novel, "novel_miou"]
        rows.append((run.arm, run.fold, run.seed, val, novel, honest, best, best - honest))
    names = ["val_epoch", "novel_epoch", "novel_at_val_epoch", "novel_at_novel_epoch", "added"]
    return pd.DataFrame(rows, columns=["arm", "fold", "seed", *names])
