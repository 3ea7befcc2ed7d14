"""`asgnet predict`: pictures in, pictures out."""

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path

from asgnet.checkpoint import HEAD
from asgnet.config import Study
from asgnet.converted import ENCODER, load_converted
from asgnet.data.photo import SUFFIXES
from asgnet.device import pick_device
from asgnet.errors import UserError
from asgnet.layout import Layout
from asgnet.model import ASGNet
from asgnet.networks import load_network
from asgnet.pictures import grey, overlay, save_png
from asgnet.predict import Learned, find, learn
from asgnet.progress import track
from asgnet.sections import DataConfig, FeaturesConfig

EXTRAS = ("overlay", "probability", "superpixels")  # pictures that are written beside the mask where asked for
NAMED = 6  # runs that a message names


def run_predict(
    study: Study | None,
    query: Path,
    supports: Sequence[Path],
    masks: Sequence[Path],
    out: Path,
    run: Path | None = None,
    size: int | None = None,
    class_id: int | None = None,
    extras: Collection[str] = (),
) -> list[Path]:
    """Write the mask of ``query`` to ``out``, a PNG, or those of a folder of queries into the folder ``out``; each of
    ``extras`` to NAME_overlay.png and so on beside it. Returns the paths of the masks.

    run: a run's folder (default: the study's run on all classes). size: pixels a side of the network's square (default:
    the study's). Nothing is written where an input is wrong; in a
    folder of queries, those that cannot be read are passed over and named in a UserError at the end."""
    targets = _targets(query, out, [*supports, *masks])
    run = run or default_run(study)
    size = size or (DataConfig.size if study is None else study.data.size)
    model = load(study, run)
    learned = learn(model, supports, masks, size, class_id)
    if not query.is_dir():
        _write(model, learned, query, out, extras)
        return [out]
    refused: list[str] = []
    for source, target in track(list(targets.items()), "queries"):
        try:
            _write(model, learned, source, target, extras)
        except UserError as error:
            refused.append(str(error))
    if refused:
        raise UserError(f"{len(refused)} of {len(targets)} queries have no mask: {'; '.join(refused)}")
    return list(targets.values())


def default_run(study: Study | None) -> Path:
    """The folder of the study's run on all classes. Raises UserError that names the runs that are there instead."""
    if study is None:
        raise UserError("no params.yaml here: run from the project's folder, or give a trained run with --run")
    run = Layout.of(study).run(study.predict.arm, None, study.predict.seed)
    if (run / HEAD).is_file():
        return run
    there = sorted(str(path.parent) for path in Path("results").rglob(HEAD))
    more = f" and {len(there) - NAMED} more" if len(there) > NAMED else ""
    choice = f"--run with one of {', '.join(there[:NAMED])}{more}" if there else "--run with a run from elsewhere"
    raise UserError(f"no network trained on all classes at {run}: `make study` makes it; or give {choice}")


def load(study: Study | None, run: Path) -> ASGNet:
    """The trained or imported network of a run, with its frozen networks."""
    if (run / ENCODER).is_file():
        return load_converted(run).to(pick_device())
    features = FeaturesConfig() if study is None else study.features
    return load_network(dataclasses.replace(features, mode="online"), run)


def _targets(query: Path, out: Path, inputs: Sequence[Path]) -> dict[Path, Path]:
    """Query -> where its mask goes. Raises UserError where that would write over an input, or over another's mask."""
    if not query.is_dir():
        if out.suffix.lower() != ".png":
            raise UserError(f"-o {out}: a mask is written as PNG; give a name that ends in .png")
        targets = {query: out}
    else:
        if out.exists() and not out.is_dir():
            raise UserError(f"-o {out}: a file; masks of a folder of queries go into a folder")
        queries = sorted(path for path in query.iterdir() if path.suffix.lower() in SUFFIXES)
        if not queries:
            raise UserError(f"{query}: no photographs in this folder; expected {', '.join(SUFFIXES)}")
        targets = {path: out / f"{path.stem}.png" for path in queries}
        if out.resolve() == query.resolve():
            raise UserError(
                f"-o {out}: the folder of the queries; choose another, so that masks are not taken for them"
            )
        taken: dict[Path, Path] = {}
        for source, target in targets.items():
            if target in taken:
                raise UserError(f"{taken[target]} and {source} would both write {target}: rename one")
            taken[target] = source
    own = {path.resolve() for path in [*inputs, *targets]}
    for target in targets.values():
        if target.resolve() in own:
            raise UserError(f"-o {target}: would write over an input; choose another name")
    return targets


def _write(model: ASGNet, learned: Learned, query: Path, out: Path, extras: Collection[str]) -> None:
    found = find(model, learned, query)
    pictures = {"": grey(found.mask)}
    if "overlay" in extras:
        pictures["_overlay"] = overlay(found.photo, found.mask)
    if "probability" in extras:
        pictures["_probability"] = grey(found.probability)
    if "superpixels" in extras:
        from asgnet.look.own import superpixels  # brings the plotting libraries along

        pictures["_superpixels"] = superpixels(model, learned, found)
    for ending, picture in pictures.items():
        save_png(picture, out.with_name(f"{out.stem}{ending}.png"))
