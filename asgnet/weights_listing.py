"""What weights the arms of a study need, where they are looked for, and what is there (`asgnet weights`)."""

import hashlib
import re
from pathlib import Path
from textwrap import fill
from typing import Any

import timm
import torch
from tabulate import tabulate

from asgnet.backbones.weights import BACKBONES, Place, places, remedy
from asgnet.config import Study

NAMED_HASH = re.compile(r"-([0-9a-f]{8})\.\w+$")  # torchvision's and timm's file names end in the start of their sha256
MB = 1e6


def list_weights(study: Study) -> dict[str, Any]:
    """The listing as data: the folder that is looked into first, and per model its ``arms``, the size of its tensors
    as timm describes them (``expected_bytes``), its ``places`` in order, the one that is ``used``, and what to do
    (``remedy``) where there is none. Nothing is fetched. Raises UserError for a model that timm does not know."""
    folder = study.features.weights
    models = []
    for (role, model), arms in needs(study).items():
        found = [_described(place) for place in places(model, folder)]
        used = next((place["name"] for place in found if place["present"]), None)
        entry = {"model": model, "role": role, "arms": arms, "expected_bytes": expected_bytes(model), "used": used}
        models.append(entry | {"places": found, "remedy": None if used else remedy(model)})
    return {"folder": folder, "weights": models, "missing": [entry["model"] for entry in models if not entry["used"]]}


def needs(study: Study) -> dict[tuple[str, str], list[str]]:
    """(role, timm's model) -> the arms that need its weights; none where the study asks for random ones."""
    found: dict[tuple[str, str], list[str]] = {}

    def add(arm: str, backbone: str | None, vit: str | None) -> None:
        if backbone:
            found.setdefault((f"backbone {backbone}", BACKBONES[backbone]), []).append(arm)
        if vit:
            found.setdefault(("ViT", vit), []).append(arm)

    if not study.features.pretrained:
        return {}
    if study.features.mode == "stored":
        add("(feature store)", study.model.backbone, study.model.vit_model)
    for arm in study.trained:
        config = study.model_of(arm)
        add(arm, config.backbone, None if config.vit == "none" else config.vit_model)
    for arm, row in study.training_free.items():
        cnn, vit = row.features == "cnn", row.features == "vit"
        add(arm, study.model.backbone if cnn else None, study.model.vit_model if vit else None)
    return found


def expected_bytes(model: str) -> int | None:
    """The bytes of the tensors of timm's ``model``, classifier included; None where timm has no such model."""
    if not timm.is_model(model):
        return None
    with torch.device("meta"):
        state = timm.create_model(model).state_dict()
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())


def checksum(path: Path) -> str:
    """The file's sha256, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def table(listing: dict[str, Any]) -> str:
    """The listing for people: who needs what, a table of places, and what to do."""
    if not listing["weights"]:
        return "features.pretrained is false: the study runs on random weights and needs no file"
    lines = [f"weights are looked for in {listing['folder']}, then in installed packages, then in timm's hub", ""]
    rows = []
    for entry in listing["weights"]:
        who = f"{entry['model']} ({entry['role']}), for {', '.join(entry['arms'])}"
        lines.append(fill(who, width=120, subsequent_indent="    ", break_on_hyphens=False))
        for number, place in enumerate(entry["places"]):
            rows.append([entry["model"] if number == 0 else "", *_row(place, entry)])
    head = ["weights", "where", "", "size", "expected", "sha256"]
    lines += ["", tabulate(rows, head, disable_numparse=True, colalign=("left", "left", "left", "right", "right")), ""]
    for entry in listing["weights"]:
        if not entry["used"]:
            lines.append(f"missing: {entry['model']} ({entry['role']}); {entry['remedy']}")
    if not listing["missing"]:
        lines.append("all there: nothing will be fetched")
    return "\n".join(lines)


def _described(place: Place) -> dict[str, Any]:
    about: dict[str, Any] = {"kind": place.kind, "name": place.name, "present": place.path is not None}
    if place.path is None:
        return about
    digest, named = checksum(place.path), NAMED_HASH.search(place.path.name)
    about |= {"path": str(place.path), "bytes": place.path.stat().st_size, "sha256": digest}
    return about | ({"as_named": digest.startswith(named[1])} if named else {})


def _row(place: dict[str, Any], entry: dict[str, Any]) -> list[str]:
    expected = f"{entry['expected_bytes'] / MB:.1f} MB" if entry["expected_bytes"] else "unknown"
    if not place["present"]:
        return [place["name"], "not fetched" if place["kind"] == "hub" else "missing", "", expected, ""]
    state = "used" if place["name"] == entry["used"] else "present"
    checked = {True: ", as its name says", False: ", NOT what its name says: fetch it again", None: ""}
    digest = f"{place['sha256'][:16]}{checked[place.get('as_named')]}"
    return [place["name"], state, f"{place['bytes'] / MB:.1f} MB", expected, digest]
