"""The command line: ``asgnet`` or ``python -m asgnet``. Exit status 0, or 2 with one clear line on bad input."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from asgnet.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand. Returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        options.run(options)
    except UserError as error:
        print(f"asgnet: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("asgnet: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


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
    notebook = stages.add_parser("notebook", help="execute a notebook with papermill", description=_notebook.__doc__)
    notebook.add_argument("source", type=Path)
    notebook.add_argument("output", type=Path)
    notebook.add_argument("settings", nargs="*", metavar="NAME=VALUE")
    notebook.set_defaults(run=_notebook)
    return top


def _notebook(options: argparse.Namespace) -> None:
    """Execute a notebook, parameters set as NAME=VALUE."""
    from asgnet.notebook import run_notebook

    run_notebook(options.source, options.output, options.settings)


def _stage(function: str, *names: str) -> Callable[[argparse.Namespace], None]:
    """A subcommand that calls ``module.function`` of asgnet.stages on the study and the named options."""

    def run(options: argparse.Namespace) -> None:
        from asgnet.config import load_study
        from asgnet.device import use_threads

        module, name = function.split(".")
        use_threads()
        call = getattr(import_module(f"asgnet.stages.{module}"), name)
        call(load_study(options.params), *(getattr(options, name) for name in names))

    return run


def _evaluate(options: argparse.Namespace) -> None:
    from asgnet.config import load_study
    from asgnet.revisit import evaluate_run

    metrics = evaluate_run(
        load_study(options.params), options.run_dir, options.data_root, options.fold, options.shots, options.episodes
    )
    if options.json:
        print(json.dumps(metrics))
        return
    print(f"mIoU {metrics['miou']:.2f} ({metrics['miou_low']:.2f} to {metrics['miou_high']:.2f}), ", end="")
    print(f"FB-IoU {metrics['fb_iou']:.2f}, {metrics['episodes']} episodes")
    for name, value in metrics["iou"].items():
        print(f"  {name}: {value:.2f}")
