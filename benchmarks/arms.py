"""How long every row of a study takes for one query, against how good it is.

    python -m benchmarks.arms pipelines/voc_animals      (after its `candidates` stage)

Seconds: from K supports with masks and one query as tensors to the mask's margins, all frozen networks included, on
random weights, which take as long as trained ones; rows run in turns, the median is kept. Writes inference.csv and
inference.png under the study's results/<dataset>/; mIoU is the mean over novel classes of candidates/classes.csv.
"""

import argparse
import statistics
from collections.abc import Callable, Collection, Sequence
from contextlib import chdir
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from asgnet.config import Study, load_study
from asgnet.device import autocast, fast_dtype, use_threads
from asgnet.files import atomic_path
from asgnet.layout import Layout
from asgnet.networks import frozen_networks
from asgnet.plots import style
from asgnet.plots.save import DPI
from asgnet.sections import TrainingFree
from asgnet.superpixel import to_grid
from asgnet.train import init_model
from asgnet.training_free import to_prototype, tokens_to_map
from benchmarks import inputs
from benchmarks.roofline import NAMES
from benchmarks.table import cpu_name
from benchmarks.timing import once

REPEATS = 9
AGAINST = "vit_patch"  # the row whose time the others are divided by
MARKERS = "os^DvP*Xph<>"  # more than `style` has, whose colours come round again


def measure(study: Study, shots: int) -> pd.DataFrame:
    """One row an arm: arm, shots, seconds, ratio (to `AGAINST`)."""
    study = replace(study, features=replace(study.features, mode="online", pretrained=False))
    pictures = inputs.images("arms", 1 + shots, pixels=study.data.size)
    masks = inputs.objects("arms", shots, pixels=study.data.size)
    rows = {name: training_free(study, row, pictures, masks) for name, row in study.training_free.items()}
    rows |= {arm: trained(study, arm, pictures, masks) for arm in [*study.arms, *study.candidates.arms]}
    for row in rows.values():
        row()
    taken: dict[str, list[float]] = {arm: [] for arm in rows}
    for _ in range(REPEATS):
        for arm, row in rows.items():
            taken[arm].append(once(row))
    table = pd.DataFrame({"arm": list(rows), "shots": shots, "seconds": map(statistics.median, taken.values())})
    return table.assign(ratio=table["seconds"] / table.set_index("arm")["seconds"][AGAINST])


def trained(study: Study, arm: str, pictures: Tensor, masks: Tensor) -> Callable[[], Tensor]:
    """A call of the arm's network: pictures (1 + K, 3, S, S), the query first, masks (K, S, S)."""
    config = study.model_of(arm)
    encoder, vit = frozen_networks(study.features, config, study.compute)
    model = init_model(config, 0, encoder=encoder, vit=vit).eval()

    @torch.inference_mode()
    def call() -> Tensor:
        with autocast():
            return model(pictures[:1], pictures[None, 1:], masks[None])

    return call


def training_free(study: Study, row: TrainingFree, pictures: Tensor, masks: Tensor) -> Callable[[], Tensor]:
    """A call of a row without training, likewise."""
    if row.features == "none":
        return lambda: torch.ones_like(masks[:1])
    config = replace(study.model, vit="patch" if row.features == "vit" else "none")
    encoder, vit = frozen_networks(study.features, config, study.compute)

    @torch.inference_mode()
    def call() -> Tensor:
        with autocast():
            if row.features == "vit":
                assert vit is not None
                maps = tokens_to_map(vit(pictures))
            else:
                assert encoder is not None
                maps = encoder(pictures).cnn
        maps = F.normalize(maps.float(), dim=1)  # (1 + K, C, h, w)
        grid = (maps.shape[2], maps.shape[3])
        query, supports = maps[0].flatten(1), maps[1:]
        score = to_prototype(query, supports, to_grid((masks == 1).float(), grid))
        if row.background:
            score = score - to_prototype(query, supports, to_grid((masks == 0).float(), grid))
        size = (study.data.size, study.data.size)
        return F.interpolate(score.view(1, 1, *grid), size=size, mode="bilinear", align_corners=True)

    return call


def frontier(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``table`` (arm, seconds, mean) that no faster row equals or beats, from the fastest to the best."""
    ordered = table.sort_values(["seconds", "mean"], ascending=[True, False])
    return ordered[ordered["mean"] > ordered["mean"].cummax().shift(fill_value=-1.0)]


@style.paper
def draw(table: pd.DataFrame, labels: dict[str, str], untrained: Collection[str], note: str) -> Figure:
    """table: arm, shots, seconds and mean (mIoU); a panel for each number of shots, marks of ``untrained`` hollow."""
    counts = sorted(table["shots"].unique())
    figure = Figure(figsize=(style.PAGE, 3.6))
    arms = list(dict.fromkeys(table["arm"]))
    groups = ([arm for arm in arms if arm in untrained], [arm for arm in arms if arm not in untrained])
    looks = {arm: look for group in groups for arm, look in style.looks(group).items()}
    markers = {arm: marker for group in groups for arm, marker in zip(group, cycle(MARKERS), strict=False)}
    axes = figure.subplots(1, len(counts), squeeze=False, sharey=True)[0]
    for axis, shots in zip(axes, counts, strict=True):
        part = table[table["shots"] == shots]
        best = frontier(part)
        axis.step(1000 * best["seconds"], best["mean"], where="post", color="0.6", linewidth=0.8, zorder=0)
        for row in part.itertuples():
            colour = looks[row.arm].colour
            face = "none" if row.arm in untrained else colour
            axis.plot(1000 * row.seconds, row.mean, markers[row.arm], color=colour, markerfacecolor=face,
                      label=labels[row.arm], linestyle="none")  # fmt: skip
        axis.set_title(f"{shots} shot{'s' if shots > 1 else ''}")
        axis.grid()
    figure.supxlabel("time of a query and its supports (ms)", fontsize=axes[0].yaxis.label.get_size())
    axes[0].set_ylabel("mean IoU of novel classes (%)")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=3)
    style.note_below(figure, note)
    return figure


def run(study: Study) -> pd.DataFrame:
    """Measure, write the table and the figure, and return the table."""
    threads = use_threads()
    table = pd.concat([measure(study, shots) for shots in study.test.shots], ignore_index=True)
    table = table.assign(cpu=cpu_name(), threads=threads, precision=NAMES[fast_dtype()])
    with atomic_path(Layout.of(study).results / "inference.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.4g")
    save_figure(study, table)
    return table


def save_figure(study: Study, table: pd.DataFrame) -> None:
    """Write the figure of the table that `run` returns (or inference.csv holds)."""
    layout = Layout.of(study)
    classes = pd.read_csv(layout.candidates / "classes.csv")
    labels = {name: arm.label for name, arm in {**study.training_free, **study.trained}.items()}
    drawn = table.merge(classes[["arm", "shots", "mean"]], on=["arm", "shots"])
    note = f"{table['cpu'][0]}, {table['threads'][0]} threads, {table['precision'][0]}"
    with atomic_path(layout.results / "inference.png") as temporary:
        draw(drawn, labels, study.training_free, note).savefig(temporary, dpi=DPI)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.arms", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pipeline", type=Path, help="a folder with params.yaml and results")
    with chdir(parser.parse_args(arguments).pipeline):
        print(run(load_study())[["arm", "shots", "seconds", "ratio"]].round(3).to_string(index=False))


if __name__ == "__main__":
    main()
