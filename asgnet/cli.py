"""The command line: ``asgnet`` or ``python -m asgnet``. Exit status 0, or 2 with one clear line on bad input."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from asgnet import commands
from asgnet.commands import of_stage
from asgnet.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand. Returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except UserError as error:
        print(f"asgnet: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except OSError as error:  # a folder that may not be written, a full disk
        place = error.filename2 or error.filename or "a file"
        print(f"asgnet: {place}: {error.strerror or error}; see to that and run again", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("asgnet: interrupted; run the same command again to go on", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"asgnet: {message}; see `{self.prog} --help`\n")


def parser() -> argparse.ArgumentParser:
    """The subcommands and their options; `asgnet.commands` runs them."""
    top = _Parser(prog="asgnet", description="ASGNet few-shot segmentation: the stages of the study.")
    stages = top.add_subparsers(required=True, metavar="COMMAND")

    def stage(name: str, run: Callable, about: str, *needs: str) -> argparse.ArgumentParser:
        sub = stages.add_parser(name, help=about, description=about)
        sub.add_argument("--params", type=Path, default=Path("params.yaml"), help="the study (default: %(default)s)")
        for need in needs:
            sub.add_argument(f"--{need}", required=True, type=str if need == "arm" else int)
        sub.set_defaults(run=run, command=name)
        return sub

    data = stage(
        "data", commands.data, "make the embedded dataset, or complete a VOC tree; or `check` a tree or a folder"
    )
    data.add_argument("task", nargs="?", choices=("check",), help="only say what is wrong with PATH, file by file")
    data.add_argument("path", nargs="?", type=Path, metavar="PATH", help="default: the study's data.root")
    stage("episodes", of_stage("episodes.make_episodes"), "index the dataset and freeze the episodes of every fold")
    stage("features", of_stage("features.make_features"), "compute the frozen features, once per image and view")
    stage("train", of_stage("train.run_training", "arm", "fold", "seed"), "train one run", "arm", "fold", "seed")
    stage("train-all", of_stage("train_all.train_on_all"), "train the network of `predict` on all classes")
    stage("test", of_stage("test.run_test", "arm", "fold", "seed"), "test one trained run", "arm", "fold", "seed")
    stage(
        "training-free", of_stage("test.run_training_free", "arm", "fold"), "test one training-free row", "arm", "fold"
    )
    stage(
        "ablate", of_stage("ablate.run_ablation", "arm", "fold", "seed"), "vary a trained run at test time",
        "arm", "fold", "seed",
    )  # fmt: skip
    stage(
        "prototypes", of_stage("prototypes.gather_prototypes"), "gather the ablations into results/<dataset>/prototypes"
    )
    select = stage(
        "select", of_stage("select.run_selection", "arm", "split"), "try one candidate on withheld base classes", "arm"
    )
    select.add_argument("--split", required=True, help="a split of params.yaml's selection")
    stage(
        "candidates",
        of_stage("candidates.gather_candidates"),
        "gather what was tried into results/<dataset>/candidates",
    )
    stage("collect", of_stage("collect.collect"), "gather all runs into summary.csv and comparison.csv")
    evaluate = stage("evaluate", commands.evaluate, "test a trained run, also on another tree of the same layout")
    evaluate.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    evaluate.add_argument("--data-root", type=Path, help="a tree of the same layout (default: the study's)")
    evaluate.add_argument("--fold", type=int, help="default: the run's own")
    evaluate.add_argument("--shots", type=int, default=1)
    evaluate.add_argument("--episodes", type=int, help="default: the study's number")
    evaluate.add_argument(
        "--like-for-like", action="store_true", help="score as the published code does (as test.like_for_like: true)"
    )
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")
    predict = stage("predict", commands.predict, "find in photographs of your own what masks show in others")
    predict.add_argument(
        "--query", type=Path, required=True, metavar="PATH", help="the photograph to find the object in, or a folder"
    )
    predict.add_argument(
        "--support", type=Path, action="append", required=True, metavar="FILE",
        help="a photograph of such an object; again for each further one",
    )  # fmt: skip
    predict.add_argument(
        "--mask", type=Path, action="append", required=True, metavar="FILE",
        help="its mask, the object in white, or of class numbers with --class; in the order of the supports",
    )  # fmt: skip
    predict.add_argument(
        "-o", "--out", type=Path, required=True, metavar="PATH", help="a PNG, or a folder for a folder of queries"
    )
    predict.add_argument("--class", type=int, dest="class_id", metavar="N", help="which class of the masks")
    predict.add_argument(
        "--run", type=Path, dest="run_dir", metavar="RUN_DIR", help="a trained run (default: on all classes)"
    )
    predict.add_argument("--size", type=int, help="pixels a side of the network's square (default: the study's)")
    predict.add_argument("--overlay", action="store_true", help="write OUT_overlay.png, the mask on the query, too")
    predict.add_argument("--probability", action="store_true", help="write OUT_probability.png, in shades, too")
    predict.add_argument(
        "--superpixels", action="store_true",
        help="write OUT_superpixels.png, the supports' prototypes and where each is used, too",
    )  # fmt: skip
    weights = stage(
        "weights",
        commands.weights,
        "list the weights that the study needs, where they are looked for, what is here",
    )
    weights.add_argument("--json", action="store_true", help="print one JSON object, with whole checksums")
    reference = stage(
        "import-reference", commands.reference, "convert a published checkpoint and test it like for like"
    )
    reference.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a published .pth")
    reference.add_argument("--fold", type=int, required=True, help="the fold whose classes it was not trained on")
    reference.add_argument("--shots", type=int, default=1)
    reference.add_argument("--dataset", help="pascal5i or coco20i (default: the study's)")
    reference.add_argument("--data-root", type=Path, help="its tree (default: the study's)")
    reference.add_argument("--out", type=Path, help="default: NAME-imported beside the checkpoint")
    reference.add_argument("--episodes", type=int, help="default: as published")
    reference.add_argument("--size", type=int, help="pixels a side, 8 n + 1 (default: as published)")
    reference.add_argument("--json", action="store_true", help="print one JSON object")
    notebook = stages.add_parser(
        "notebook", help="execute a notebook with papermill", description=commands.notebook.__doc__
    )
    notebook.add_argument("source", type=Path)
    notebook.add_argument("output", type=Path, help="NAME.ipynb, or NAME.html for a page without the code")
    notebook.add_argument("settings", nargs="*", metavar="NAME=VALUE")
    notebook.set_defaults(run=commands.notebook)
    sweep = stages.add_parser(
        "sweep",
        help="run the pipeline's stale stages, the cells of a matrix in parallel",
        description=commands.sweep.__doc__,
    )
    sweep.add_argument(
        "targets", nargs="*", metavar="STAGE",
        help="only these and what they depend on: a stage, a cell or a pattern such as 'train*@*-1-0' (default: all)",
    )  # fmt: skip
    sweep.add_argument(
        "--workers", type=int, metavar="N", help="jobs at a time here (default: one per GPU, or per CPU core)"
    )
    sweep.add_argument(
        "--retries", type=int, default=2, metavar="N",
        help="how often a job is run again that was killed or lost (default: %(default)s)",
    )  # fmt: skip
    sweep.add_argument(
        "--slurm", nargs="*", metavar="KEY=VALUE",
        help="run on Slurm; options of submitit's executor, such as partition=gpu time=60 gpus_per_node=1",
    )  # fmt: skip
    sweep.add_argument("--plan", action="store_true", help="print what would run, with hours from past runs")
    sweep.set_defaults(run=commands.sweep)
    return top
