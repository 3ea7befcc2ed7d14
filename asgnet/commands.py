"""What each subcommand does with its options. Each imports what it needs when it runs, so that --help is instant."""

import argparse
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asgnet.errors import UserError

if TYPE_CHECKING:
    from asgnet.config import Study

SHARED = ("train", "test")  # what several processes can work on together


def notebook(options: argparse.Namespace) -> int:
    """Execute a notebook, parameters set as NAME=VALUE."""
    # An optional check of web addresses, which jsonschema imports if it can: two seconds at each cell's start.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # None: not there
    from nbclient.exceptions import DeadKernelError

    from asgnet.notebook import run_notebook

    try:
        run_notebook(options.source, options.output, options.settings)
    except DeadKernelError:  # most often for want of memory: the status says so, as a shell would
        print(f"asgnet: {options.source.name}: its kernel was killed", file=sys.stderr)
        return 128 + signal.SIGKILL
    return 0


def sweep(options: argparse.Namespace) -> int:
    """Run the stages that DVC calls stale, the cells of a matrix as parallel jobs; `dvc repro` then finds nothing to
    do. Logs are in .sweep. Exit status 1 where a cell failed; what is missing runs when the command runs again."""
    from asgnet.sweep.loop import run_sweep

    return run_sweep(options.targets, options.workers, options.retries, options.slurm, options.plan)


def of_stage(function: str, *names: str) -> Callable[[argparse.Namespace], None]:
    """A subcommand that calls ``module.function`` of asgnet.stages on the study and the named options. What can be
    shared runs in ``compute.devices`` processes, unless torchrun says in how many."""

    def run(options: argparse.Namespace) -> None:
        from asgnet.config import load_study
        from asgnet.device import use_threads
        from asgnet.distributed import joined, launch, under_torchrun

        module, name = function.split(".")
        study = load_study(options.params)
        if under_torchrun() and options.command not in SHARED:
            raise UserError(f"asgnet {options.command} is for one process: start it without torchrun")
        if study.compute.devices > 1 and options.command in SHARED and not under_torchrun():
            cell = [argument for n in names for argument in (f"--{n}", str(getattr(options, n)))]
            return launch([options.command, "--params", str(options.params), *cell], study.compute.devices)
        use_threads(study.compute.threads if names else None)  # a stage without cells has the machine to itself
        call = getattr(import_module(f"asgnet.stages.{module}"), name)
        with joined():
            call(study, *(getattr(options, name) for name in names))

    return run


def _study(options: argparse.Namespace) -> "Study | None":
    """The study, or None outside of a study's folder, for what can do without one."""
    from asgnet.config import load_study

    elsewhere = options.params == Path("params.yaml") and not options.params.exists()
    return None if elsewhere else load_study(options.params)


def data(options: argparse.Namespace) -> None:
    if options.task is None:
        return of_stage("data.make_data")(options)
    from asgnet.stages.data import check_data

    study, path = _study(options), options.path
    if path is None:
        if study is None:
            raise UserError("no params.yaml here that names a dataset: give the PATH that is to be checked")
        path = Path(study.data.root)
    check_data(study, path)


def evaluate(options: argparse.Namespace) -> None:
    from asgnet.config import load_study
    from asgnet.revisit import evaluate_run

    study = load_study(options.params)
    test = replace(study.test, like_for_like=study.test.like_for_like or options.like_for_like)
    metrics = evaluate_run(
        replace(study, test=test), options.run_dir, options.data_root, options.fold, options.shots, options.episodes
    )
    _print_metrics(metrics, options.json)


def predict(options: argparse.Namespace) -> None:
    from asgnet.device import use_threads
    from asgnet.stages.predict import EXTRAS, run_predict

    use_threads()
    run_predict(
        _study(options), options.query, options.support, options.mask, options.out, options.run_dir, options.size,
        options.class_id, [name for name in EXTRAS if getattr(options, name)],
    )  # fmt: skip


def reference(options: argparse.Namespace) -> None:
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
    print(
        f"trained with novel pixels {metrics['novel_pixels']}, checkpoint selected on {metrics['selection']} episodes"
    )
    print(f"mIoU {metrics['miou']:.2f} ({metrics['miou_low']:.2f} to {metrics['miou_high']:.2f}), ", end="")
    print(f"FB-IoU {metrics['fb_iou']:.2f}, {metrics['episodes']} episodes")
    for name, value in metrics["iou"].items():
        print(f"  {name}: {value:.2f}")


def weights(options: argparse.Namespace) -> None:
    from asgnet.config import load_study
    from asgnet.weights_listing import list_weights, table

    listing = list_weights(load_study(options.params))
    print(json.dumps(listing) if options.json else table(listing))
