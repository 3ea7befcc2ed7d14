"""The Semantic Boundaries Dataset (Hariharan et al., ICCV 2011): MATLAB masks for images that VOC 2012 left bare."""

from pathlib import Path

import numpy as np

from asgnet.errors import UserError


def find_sbd(voc: Path) -> Path | None:
    """The SBD folder (the one that holds cls/) beside VOC2012 or beside its VOCdevkit, which may be links to where it
    lies; None where there is none."""
    for parent in (*voc.absolute().parents[:2], *voc.resolve().parents[:2]):
        for name in ("sbd", "benchmark_RELEASE/dataset"):
            if (parent / name / "cls").is_dir():
                return parent / name
    return None


def read_sbd_mask(path: Path) -> np.ndarray:
    """The class ids of an SBD ``cls/ID.mat``: its struct GTcls, field Segmentation, uint8 (H, W) of 0..20.

    Raises UserError naming the file where it is missing, damaged or of another structure."""
    if not path.is_file():
        raise UserError(f"the SBD mask {path} is missing: complete the SBD folder's cls/")
    from scipy.io import loadmat  # takes longer than a prediction

    try:
        mask = loadmat(path, variable_names="GTcls")["GTcls"][0]["Segmentation"][0]
    except Exception as error:  # scipy's reader meets damage with errors of many types
        raise UserError(
            f"cannot read the SBD mask {path}: damaged, or no GTcls.Segmentation in it; replace the file"
        ) from error
    if mask.ndim != 2 or mask.dtype != np.uint8 or mask.size == 0 or mask.max() > 20:
        raise UserError(f"the SBD mask {path} is not a uint8 (H, W) array of 0 to 20: replace the file")
    return mask
