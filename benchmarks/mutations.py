"""Pictures in every format that is read, and the ways in which `benchmarks.fuzz` damages their files."""

import struct
import zlib
from collections.abc import Callable
from functools import cache
from io import BytesIO

import numpy as np
from PIL import Image

from asgnet.rng import generator

Draw = np.random.Generator
PNG_START = 8  # bytes of signature before the first chunk
HUGE = (0, 1, 255, 60_000, 65_535, 2**31 - 1, 2**31, 2**32 - 1)  # sizes and counts that headers do not expect


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@cache
def _picture(mode: str) -> Image.Image:
    """48 x 64 pixels of soft colours; of mode P the numbers of three classes, of 1 and L an object in white."""
    y, x = np.mgrid[:48, :64]
    inside = ((y - 24) ** 2 + (x - 30) ** 2 < 300).astype(np.uint8)
    colours = np.stack([4 * x, 5 * y, 2 * (x + y)], 2).astype(np.uint8)
    if mode == "P":
        image = Image.fromarray(inside + (x > 50).astype(np.uint8) * 2)
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
        return image
    if mode == "I;16":
        return Image.fromarray(inside.astype(np.uint16) * 65_535)
    if mode in ("1", "L"):
        return Image.fromarray(inside * 255).convert(mode)
    if mode in ("RGBA", "LA"):
        return Image.fromarray(np.dstack([colours, inside * 255])).convert(mode)
    return Image.fromarray(colours).convert(mode)


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    return exif


# name -> (suffix, the file)
ORIGINALS: dict[str, tuple[str, bytes]] = {
    "JPEG": (".jpg", _encoded(_picture("RGB"), "JPEG", exif=_turned())),
    "JPEG, progressive": (".jpeg", _encoded(_picture("RGB"), "JPEG", progressive=True)),
    "JPEG, grey": (".jpg", _encoded(_picture("L"), "JPEG")),
    "JPEG, CMYK": (".jpg", _encoded(_picture("CMYK"), "JPEG")),
    "PNG": (".png", _encoded(_picture("RGB"), "PNG", exif=_turned())),
    "PNG, palette": (".png", _encoded(_picture("P"), "PNG", transparency=0)),
    "PNG, palette, opaque": (".png", _encoded(_picture("P"), "PNG")),
    "PNG, grey": (".png", _encoded(_picture("L"), "PNG")),
    "PNG, 1 bit": (".png", _encoded(_picture("1"), "PNG")),
    "PNG, alpha": (".png", _encoded(_picture("RGBA"), "PNG")),
    "PNG, grey and alpha": (".png", _encoded(_picture("LA"), "PNG")),
    "PNG, 16 bit": (".png", _encoded(_picture("I;16"), "PNG")),
    "GIF": (".gif", _encoded(_picture("P"), "GIF")),
    "GIF, animated": (
        ".gif", _encoded(_picture("P"), "GIF", save_all=True, append_images=[_picture("L"), _picture("RGB")]),
    ),
    "BMP": (".bmp", _encoded(_picture("RGB"), "BMP")),
    "BMP, palette": (".bmp", _encoded(_picture("P"), "BMP")),
    "TIFF": (".tif", _encoded(_picture("RGB"), "TIFF")),
    "TIFF, LZW": (".tiff", _encoded(_picture("RGB"), "TIFF", compression="tiff_lzw")),
    "TIFF, deflate": (".tiff", _encoded(_picture("RGBA"), "TIFF", compression="tiff_adobe_deflate")),
    "TIFF, JPEG": (".tiff", _encoded(_picture("RGB"), "TIFF", compression="jpeg")),
    "TIFF, 16 bit": (".tif", _encoded(_picture("I;16"), "TIFF")),
    "WebP": (".webp", _encoded(_picture("RGB"), "WEBP", exif=_turned())),
    "WebP, lossless": (".webp", _encoded(_picture("RGBA"), "WEBP", lossless=True)),
    "PPM": (".ppm", _encoded(_picture("RGB"), "PPM")),
    "PPM, 16 bit": (".ppm", _encoded(_picture("I;16"), "PPM")),
}  # fmt: skip


def mutated(number: int, seed: int = 0) -> tuple[str, str, str, bytes]:
    """File ``number``: the name of its original, what was done to it, its suffix, its content."""
    draw = generator(seed, "fuzz", number)
    name = list(ORIGINALS)[number % len(ORIGINALS)]
    suffix, data = ORIGINALS[name]
    done = []
    for _ in range(1 if draw.random() < 0.7 else 3):
        how = str(draw.choice(list(MUTATIONS)))
        data = MUTATIONS[how](draw, data)
        done.append(how)
    if draw.random() < 0.1:
        suffix = str(draw.choice(sorted({suffix for suffix, _ in ORIGINALS.values()})))
    return name, ", ".join(done), suffix, data


def flip_bits(draw: Draw, data: bytes) -> bytes:
    return _flipped(draw, data, len(data))


def flip_bits_of_the_header(draw: Draw, data: bytes) -> bytes:
    return _flipped(draw, data, min(len(data), 64))


def _flipped(draw: Draw, data: bytes, end: int) -> bytes:
    changed = bytearray(data)
    for place in draw.integers(0, end, draw.integers(1, 9)) if end else ():
        changed[place] ^= 1 << draw.integers(8)
    return bytes(changed)


def truncate(draw: Draw, data: bytes) -> bytes:
    return data[: draw.integers(0, len(data) + 1)]


def delete(draw: Draw, data: bytes) -> bytes:
    start, end = _span(draw, data)
    return data[:start] + data[end:]


def insert(draw: Draw, data: bytes) -> bytes:
    start = int(draw.integers(0, len(data) + 1))
    return data[:start] + draw.bytes(int(draw.integers(1, 300))) + data[start:]


def repeat(draw: Draw, data: bytes) -> bytes:
    start, end = _span(draw, data)
    return data[:end] + data[start:]


def blank(draw: Draw, data: bytes) -> bytes:
    start, end = _span(draw, data)
    return data[:start] + bytes([draw.choice([0, 255])]) * (end - start) + data[end:]


def huge_number(draw: Draw, data: bytes) -> bytes:
    """A number of the header, of two or four bytes and either order, where the file may keep a size or a count."""
    layout, value = str(draw.choice(["<H", ">H", "<I", ">I"])), int(draw.choice(HUGE))
    number = struct.pack(layout, value % 2 ** (8 * struct.calcsize(layout)))
    start = int(draw.integers(0, max(1, min(len(data), 200))))
    return data[:start] + number + data[start + len(number) :]


def huge_size(draw: Draw, data: bytes) -> bytes:
    """Another width or height than 64 x 48, wherever the format writes it."""
    layouts = [layout for layout in ("<HH", ">HH", "<II", ">II") if struct.pack(layout, 64, 48) in data]
    swapped = [layout for layout in (">HH",) if struct.pack(layout, 48, 64) in data]  # JPEG
    side = int(draw.choice([0, 1, 63, 5_000, 12_000, 13_300, 60_000, 65_535]))
    sides = [(side, 48), (64, side), (side, side)][draw.integers(3)]
    for layout in layouts:
        data = data.replace(struct.pack(layout, 64, 48), struct.pack(layout, *sides), 1)
    for layout in swapped:
        data = data.replace(struct.pack(layout, 48, 64), struct.pack(layout, *sides), 1)
    return _checked(data.replace(b"64 48", b"%d %d" % sides, 1))


def change_a_chunk(draw: Draw, data: bytes) -> bytes:
    """Of a PNG: a chunk removed, repeated, moved, filled with noise, or put in from elsewhere, its checksum right."""
    chunks = _chunks(data)
    if not chunks:
        return flip_bits(draw, data)
    k = int(draw.integers(len(chunks)))
    kind, content = chunks[k]
    match draw.integers(5):
        case 0:
            del chunks[k]
        case 1:
            chunks.insert(k, (kind, content))
        case 2:
            chunks.insert(int(draw.integers(len(chunks))), chunks.pop(k))
        case 3:
            chunks[k] = (kind, _flipped(draw, content, len(content)))
        case 4:
            text = b"t\0\0" + zlib.compress(bytes(int(draw.choice([10, 10_000_000]))))
            odd = [(b"zTXt", text), (b"iCCP", text), (b"tRNS", draw.bytes(3)), (b"PLTE", draw.bytes(7)), (b"abcd", b"")]
            chunks.insert(k, odd[draw.integers(len(odd))])
    return data[:PNG_START] + b"".join(_chunk(*chunk) for chunk in chunks)


def another_format_behind(draw: Draw, data: bytes) -> bytes:
    """The start of one file and the end of another."""
    _, other = ORIGINALS[str(draw.choice(list(ORIGINALS)))]
    return data[: draw.integers(0, len(data) + 1)] + other[draw.integers(0, len(other)) :]


def nothing_of_it(draw: Draw, data: bytes) -> bytes:
    """Empty, zeros, noise, or the signature alone."""
    return [b"", bytes(1000), draw.bytes(1000), data[: draw.integers(1, 16)]][draw.integers(4)]


MUTATIONS: dict[str, Callable[[Draw, bytes], bytes]] = {
    function.__name__.replace("_", " "): function
    for function in (
        flip_bits, flip_bits_of_the_header, truncate, delete, insert, repeat, blank, huge_number, huge_size,
        change_a_chunk, another_format_behind, nothing_of_it,
    )
}  # fmt: skip


def _span(draw: Draw, data: bytes) -> tuple[int, int]:
    start = int(draw.integers(0, len(data) + 1))
    return start, min(len(data), start + int(draw.integers(1, 200)))


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """(kind, content) of the chunks of a PNG; none where the file is no whole one."""
    found, place = [], PNG_START
    while data.startswith(b"\x89PNG") and place + 12 <= len(data):
        length = struct.unpack(">I", data[place : place + 4])[0]
        found.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _checked(data: bytes) -> bytes:
    """A PNG with right checksums, anything else as it is."""
    chunks = _chunks(data)
    return data[:PNG_START] + b"".join(_chunk(*chunk) for chunk in chunks) if chunks else data
