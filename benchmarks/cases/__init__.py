"""Every case by its name: what makes it of sizes and a workspace."""

from collections.abc import Callable
from functools import partial

from benchmarks.case import Case
from benchmarks.cases.features import lite0_case, vit_case
from benchmarks.cases.network import fem_case, inference_case
from benchmarks.cases.prototypes import gpa_case, seeds_case, sgc_case
from benchmarks.cases.study import episodes_case, epoch_case
from benchmarks.cases.training import training_case
from benchmarks.sizes import Sizes
from benchmarks.workspace import Workspace

ARMS = ("baseline", "vit_cls", "vit_patch", "residual_chain")

CASES: dict[str, Callable[[Sizes, Workspace], Case]] = {
    "seeds": lambda sizes, _: seeds_case(sizes),
    "sgc": lambda sizes, _: sgc_case(sizes),
    "gpa": lambda sizes, _: gpa_case(sizes),
    "fem": lambda sizes, _: fem_case(sizes),
    "inference_1shot": lambda sizes, _: inference_case(sizes, 1, published=0.68),
    "inference_5shot": lambda sizes, _: inference_case(sizes, sizes.shots, published=1.94),
    "train_online": lambda sizes, _: training_case(sizes, stored=False),
    "train_stored": lambda sizes, _: training_case(sizes, stored=True),
    "features_lite0": lambda sizes, _: lite0_case(sizes),
    "features_vit": lambda sizes, _: vit_case(sizes),
    "episodes_1shot": partial(episodes_case, shots=1),
    "episodes_5shot": lambda sizes, workspace: episodes_case(sizes, workspace, sizes.shots),
    **{f"epoch_{arm}": partial(epoch_case, arm=arm) for arm in ARMS},
}
