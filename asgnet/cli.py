"""The command line: ``asgnet`` or ``python -m asgnet``. Exit status 0, or 2 with one clear line on bad input."""

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from asgnet.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand. Returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except UserError as error:
        print(f"asgnet: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("asgnet: interrupted; run the same command again to go on", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """The subcommands. Each imports what it needs when it runs, so that --help is instant."""
    top = argparse.ArgumentParser(prog="asgnet", description="ASGNet few-shot segmentation: the stages of the study.")
    stages = top.add_subparsers(required=True, metavar="COMMAND")

    def stage(name: str, run: Callable, about: str, *needs: str) -> argparse.ArgumentParser:
        sub = stages.add_parser(name, help=about, description=about)
        sub.add_argument("--params", type=Path, default=Path("params.yaml"), help="the study (default: %(default)s)")
        for need in needs:
            sub.add_argument(f"--{need}", required=True, type=str if need == "arm" else int)
        sub.set_defaults(run=run)
        return sub

    stage("data", _stage("data.make_data"), "make the embedded dataset, or complete a VOC tree")
    stage("episodes", _stage("episodes.make_episodes"), "index the dataset and freeze the episodes of every fold")
    stage("features", _stage("features.make_features"), "compute the frozen features, once per image and view")
    stage("train", _stage("train.run_training", "arm", "fold", "seed"), "train one run", "arm", "fold", "seed")
    stage("test", _stage("test.run_test", "arm", "fold", "seed"), "test one trained run", "arm", "fold", "seed")
    stage("training-free", _stage("test.run_training_free", "arm", "fold"), "test one training-free row", "arm", "fold")
    stage(
        "ablate", _stage("ablate.run_ablation", "arm", "fold", "seed"), "vary a trained run at test time",
        "arm", "fold", "seed",
    )  # fmt: skip
    stage(
        "prototypes", _stage("prototypes.gather_prototypes"), "gather the ablations into results/<dataset>/prototypes"
    )
    stage("collect", _stage("collect.collect"), "gather all runs into summary.csv and comparison.csv")
    evaluate = stage("evaluate", _evaluate, "test a trained run, also on another tree of the same layout")
    evaluate.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    evaluate.add_argument("--data-root", type=Path, help="a tree of the same layout (default: the study's)")
    evaluate.add_argument("--fold", type=int, help="default: the run's own")
    evaluate.add_argument("--shots", type=int, default=1)
    evaluate.add_argument("--episodes", type=int, help="default: the study's number")
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")
    weights = stage(
        "weights", _weights, "list the weights that the study needs, where they are looked for, what is here"
    )
    weights.add_argument("--json", action="store_true", help="print one JSON object, with whole checksums")
    reference = stage("import-reference", _import_reference, "convert a published checkpoint and test it like for like")
    reference.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a published .pth")
    reference.add_argument("--fold", type=int, required=True, help="the fold whose classes it was not trained on")
    reference.add_argument("--shots", type=int, default=1)
    reference.add_argument("--dataset", help="pascal5i or coco20i (default: the study's)")
    reference.add_argument("--data-root", type=Path, help="its tree (default: the study's)")
    reference.add_argument("--out", type=Path, help="default: NAME-imported beside the checkpoint")
    reference.add_argument("--episodes", type=int, help="default: as published")
    reference.add_argument("--size", type=int, help="pixels a side, 8 n + 1 (default: as published)")
    reference.add_argument("--json", action="store_true", help="print one JSON object")
    notebook = stages.add_parser("notebook", help="execute a notebook with papermill", description=_notebook.__doc__)
    notebook.add_argument("source", type=Path)
    notebook.add_argument("output", type=Path, help="NAME.ipynb, or NAME.html for a page without the code")
    notebook.add_argument("settings", nargs="*", metavar="NAME=VALUE")
    notebook.set_defaults(run=_notebook)
    sweep = stages.add_parser(
        "sweep", help="run the pipeline's stale stages, the cells of a matrix in parallel", description=_sweep.__doc__
    )
    sweep.add_argument(
        "targets", nargs="*", metavar="STAGE",
        help="only these and what they depend on: a stage, a cell or a pattern such as 'train*@*-1-0' (default: all)",
    )  # fmt: skip
    sweep.add_argument("--workers", type=int, metavar="N", help="jobs at a time here (default: one per CPU core)")
    sweep.add_argument(
        "--retries", type=int, default=2, metavar="N",
        help="how often a job is run again that was killed or lost (default: %(default)s)",
    )  # fmt: skip
    sweep.add_argument(
        "--slurm", nargs="*", metavar="KEY=VALUE",
        help="run on Slurm; options of submitit's executor, such as partition=gpu time=60 gpus_per_node=1",
    )  # fmt: skip
    sweep.add_argument("--plan", action="store_true", help="print what would run, with hours from past runs")
    sweep.set_defaults(run=_sweep)
    return top


def _notebook(options: argparse.Namespace) -> int:
    """Execute a notebook, parameters set as NAME=VALUE."""
    from nbclient.exceptions import DeadKernelError

    from asgnet.notebook import run_notebook

    try:
        run_notebook(options.source, options.output, options.settings)
    except DeadKernelError:  # most often for want of memory: the status says so, as a shell would
        print(f"asgnet: {options.source.name}: its kernel was killed", file=sys.stderr)
        return 128 + signal.SIGKILL
    return 0


def _sweep(options: argparse.Namespace) -> int:
    """Run the stages that DVC calls stale, the cells of a matrix as parallel jobs; `dvc repro` then finds nothing to
    do. Logs are in .sweep. Exit status 1 where a cell failed; what is missing runs when the command runs again."""
    from asgnet.sweep.loop import run_sweep

    return run_sweep(options.targets, options.workers, options.retries, options.slurm, options.plan)


def _stage(function: str, *names: str) -> Callable[[argparse.Namespace], None]:
    """A subcommand that calls ``module.function`` of asgnet.stages on the study and the named options."""

    def run(options: argparse.Namespace) -> None:
        from asgnet.config import load_study
        from asgnet.device import use_threads

        module, name = function.split(".")
        study = load_study(options.params)
        use_threads(study.threads if names else None)  # a stage without cells has the machine to itself
        call = getattr(import_module(f"asgnet.stages.{module}"), name)
        call(study, *(getattr(options, name) for name in names))

    return run


def _evaluate(options: argparse.Namespace) -> None:
    from asgnet.config import load_study
    from asgnet.revisit import evaluate_run

    metrics = evaluate_run(
        load_study(options.params), options.run_dir, options.data_root, options.fold, options.shots, options.episodes
    )
    _print_metrics(metrics, options.json)


def _import_reference(options: argparse.Namespace) -> None:
    from asgnet.config import load_study
    from asgnet.import_reference import import_reference

    metrics = import_reference(
        load_study(options.params), options.checkpoint, options.fold, options.shots, options.dataset,
        options.data_root, options.episodes, options.size, options.out,
    )  # fmt: skip
    _print_metrics(metrics, options.json)
    if not options.json:
        print(f"kept in {metrics['folder']}: test it again with `asgnet evaluate {metrics['folder']}`")


def _print_metrics(metrics: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(metrics))
        return
    if metrics["like_for_like"]:
        print(f"{metrics['protocol']} (computed in {metrics['precision']})")
    print(f"mIoU {metrics['miou']:.2f} ({metrics['miou_low']:.2f} to {metrics['miou_high']:.2f}), ", end="")
    print(f"FB-IoU {metrics['fb_iou']:.2f}, {metrics['episodes']} episodes")
    for name, value in metrics["iou"].items():
        print(f"  {name}: {value:.2f}")


def _weights(options: argparse.Namespace) -> None:
    from asgnet.config import load_study
    from asgnet.weights_listing import list_weights, table

    listing = list_weights(load_study(options.params))
    print(json.dumps(listing) if options.json else table(listing))
