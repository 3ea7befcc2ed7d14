"""Photographs and masks as people have them, read safely: any mode, depth and orientation, from files or from memory.

What is damaged, huge or of another kind is a UserError of one line that names the file.
"""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, WebPImagePlugin  # noqa: F401  (plugins register when imported)

from asgnet.errors import UserError

Picture = Path | str | Image.Image | np.ndarray

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it would say of damage, a UserError says

# Formats that Pillow decodes itself: its others call programs (EPS) or are no photographs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
DEEP = 65535 / 255  # 16-bit values to a step of 8 bits
BLOCK = 64  # pixels on which a JPEG spends a bit at least: 8 x 8
LISTED = 8  # values of a mask that a message names


def read_photo(source: Picture, name: str = "the photograph") -> np.ndarray:
    """A photograph upright (EXIF orientation applied) as uint8 (H, W, 3) RGB; transparency lies on white.

    source: a file; a PIL image; or an array (H, W), (H, W, 3) or (H, W, 4), uint8, uint16, or float in 0..1. ``name``
    stands for what has no path in a UserError: for a file that is missing, damaged or no image, a huge one, floating
    point pixels, and arrays of other shapes and types."""
    image = _eight_bits(_load(source, name), named(source, name))
    if image.has_transparency_data:
        image = _laid_on(image, "white")
    return np.array(image.convert("RGB"))


def read_mask(source: Picture, class_id: int | None = None, name: str = "the mask") -> np.ndarray:
    """The object's pixels, bool (H, W), from a file, a PIL image or an array (H, W) of bool or integers.

    With ``class_id``, where the palette index or grey value equals it. Without: a black-and-white mask's white (of
    shades, what is nearer to white), of a palette mask in colours its only class beside 0 (background) and 255
    (ignored). Transparency is background. Raises UserError as `read_photo`, for an empty mask, and for several classes
    where none is asked for."""
    if isinstance(source, np.ndarray) and source.ndim == 2 and source.dtype.kind in "iu":
        values, top = source, 255 if source.max(initial=0) <= 255 else 65535
        found = _of_class(values, class_id, named(source, name)) if class_id is not None else None
    else:
        image = _load(source, name)
        if class_id is not None:
            found = _of_class(_class_ids(image, named(source, name)), class_id, named(source, name))
        elif image.mode == "P" and not image.has_transparency_data and _coloured(image):
            found = _only_class(np.array(image), named(source, name))
        else:
            found = None
            if image.has_transparency_data:
                image = _laid_on(image, "black")
            values, top = np.array(_eight_bits(image, named(source, name)).convert("L")), 255
    if found is None:
        found = _bright(values, top, named(source, name))
    if not found.any():
        raise UserError(f"{named(source, name)} is empty: expected the object in white; draw it and save again")
    return found


def read_pair(
    photo: Picture, mask: Picture, class_id: int | None = None, number: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A photograph (H, W, 3) and its object's mask (H, W) bool, of one size. ``number`` names those without a path."""
    photo_name, mask_name = ("support", "mask") if number is None else (f"support {number}", f"mask {number}")
    image, found = read_photo(photo, photo_name), read_mask(mask, class_id, mask_name)
    if image.shape[:2] != found.shape:
        (height, width), (rows, columns) = image.shape[:2], found.shape
        raise UserError(
            f"{named(mask, mask_name)} is {columns} x {rows} pixels but {named(photo, photo_name)} is {width} x "
            f"{height} as it is shown: expected a mask drawn on this photograph"
        )
    return image, found


def refuse_hollow(image: Image.Image, path: Path) -> None:
    """Raise UserError for an opened JPEG that says it has more pixels than the bytes of its file can hold, as damage
    and malice make them: decoding would fill gigabytes with grey."""
    pixels, size = image.width * image.height, path.stat().st_size
    if image.format == "JPEG" and pixels > 8 * BLOCK * size:
        raise UserError(
            f"cannot read the image {path}: damaged, for {image.width} x {image.height} pixels are not in {size} bytes"
        )


def named(source: Picture, name: str) -> str:
    """How messages call a picture: by its path, else by ``name``."""
    return str(source) if isinstance(source, (str, Path)) else name


def _load(source: Picture, name: str) -> Image.Image:
    """The decoded image, upright."""
    if isinstance(source, np.ndarray):
        return _from_array(source, name)
    name = named(source, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images, and of odd metadata
            if isinstance(source, Image.Image):
                return ImageOps.exif_transpose(source)
            if Path(source).exists() and not Path(source).is_file():
                raise UserError(f"{name} is not a file; give the path of an image")
            with Image.open(source, formats=FORMATS) as image:
                refuse_hollow(image, Path(source))
                with _quiet() if image.format == "TIFF" else nullcontext():
                    image.load()
                return ImageOps.exif_transpose(image)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{name}: no such file; give the path of an image") from None
    except PermissionError:
        raise UserError(f"{name}: no permission to read it") from None
    except (Image.DecompressionBombError, MemoryError):
        raise UserError(
            f"{name}: over {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, or memory; make it smaller"
        ) from None
    except Exception as error:  # each format's reader meets damage with errors of its own
        raise UserError(
            f"cannot read the image {name}: damaged, or none of {', '.join(FORMATS)}; save it again as JPEG or PNG"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """What is written to the process's error output is lost meanwhile: libtiff writes there of damage."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    if array.dtype == bool:
        array = array * np.uint8(255)
    elif array.dtype.kind == "f":
        if not (np.isfinite(array).all() and (array >= 0).all() and (array <= 1).all()):
            raise UserError(f"{name} holds floats outside 0..1 (or no numbers): expected 0 to 1, or 8-bit integers")
        array = (255 * array).round().astype(np.uint8)
    elif array.dtype == np.uint16:
        array = (array / DEEP).round().astype(np.uint8)
    channels = array.shape[2] if array.ndim == 3 else None
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in (None, 3, 4) or not array.size:
        raise UserError(
            f"{name} is an array {array.shape} of {array.dtype}: expected (H, W), (H, W, 3) or (H, W, 4) of 8-bit "
            "integers, or of floats in 0..1"
        )
    return Image.fromarray(array)


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "F":
        raise UserError(f"{name} holds floating point pixels: save it with 8 or 16 bits a channel")
    if image.mode.startswith("I"):  # 16 bits, in one of Pillow's ways
        return Image.fromarray((np.asarray(image).clip(0, 65535) / DEEP).round().astype(np.uint8))
    return image


def _laid_on(image: Image.Image, colour: str) -> Image.Image:
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, colour), image).convert("RGB")


def _coloured(image: Image.Image) -> bool:
    """Whether a palette image shows anything but greys."""
    pixels = np.array(image.convert("RGB"))
    return bool((pixels != pixels[..., :1]).any())


def _class_ids(image: Image.Image, name: str) -> np.ndarray:
    if image.mode not in ("P", "L", "1") and not image.mode.startswith("I"):
        raise UserError(
            f"{name} is in mode {image.mode}: a class is chosen in a palette or grey mask of class numbers; save it as "
            "one, or leave out --class (class_id) for a black-and-white mask"
        )
    return np.array(image).astype(np.int64)


def _of_class(values: np.ndarray, class_id: int, name: str) -> np.ndarray:
    if not (values == class_id).any():
        raise UserError(f"{name} has no pixel of class {class_id}: it holds {_listed(values)}")
    return values == class_id


def _only_class(values: np.ndarray, name: str) -> np.ndarray:
    classes = np.setdiff1d(values, (0, 255))
    if len(classes) > 1:
        raise UserError(f"{name} is a palette mask of several classes: choose one of {_listed(classes)} with --class")
    return np.isin(values, classes)


def _bright(values: np.ndarray, top: int, name: str) -> np.ndarray:
    """The white of a black-and-white mask (H, W): of two values the higher, of shades those over half of ``top``."""
    present = np.unique(values)
    if len(present) <= 2:
        return values > (present[0] if len(present) == 2 else 0)
    if present[-1] <= top / 2:
        raise UserError(f"{name} holds {_listed(values)}: choose a class with --class, or draw the object in white")
    return values > top / 2


def _listed(values: np.ndarray) -> str:
    present = np.unique(values).tolist()
    return ", ".join(map(str, present[:LISTED])) + (f" and {len(present) - LISTED} more" * (len(present) > LISTED))
