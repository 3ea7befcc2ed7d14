"""What is wrong with a dataset on disk, file by file: a folder of one's own, or a tree of the VOC layout."""

from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from asgnet.data.folder import EVERY, IMAGES, MASKS, FolderTree, photographs
from asgnet.data.photo import SUFFIXES, read_pair, read_photo
from asgnet.data.tree import LISTS, Tree, find_voc, read_list, train_ids
from asgnet.errors import UserError
from asgnet.progress import track

LEAST = 2 * EVERY  # photographs of a class: two of them are for testing, a query and its support


def is_voc(path: Path) -> bool:
    """Whether ``path`` is, or holds, a tree of the VOC layout."""
    try:
        find_voc(path)
    except UserError:
        return False
    return True


def check_folder(root: Path | str) -> tuple[list[str], int]:
    """What is wrong with a folder of the layout of `asgnet.data.folder`, a line each, and how many photographs it has.
    Raises UserError where there is no class folder at all."""
    tree = FolderTree(root)
    problems: list[str] = []
    count, seen = 0, dict[str, tuple[Path, str]]()
    if len(tree.classes) < 2:
        problems.append(f"{tree.root}: one class; at least 2 are needed, one to train on and one that is novel")
    for folder in sorted(path for path in tree.root.iterdir() if path.name[0] != "."):
        if folder.name not in tree.classes:
            problems.append(f"{folder}: no class folder, which holds {IMAGES}/ and {MASKS}/; move it elsewhere")
    for name in tree.classes:
        folder, paths = tree.root / name, photographs(tree.root / name / IMAGES)
        count += len(paths)
        problems += _names(folder, paths)
        for path in track(paths, name) if paths else ():
            problems += _pair(path, folder / MASKS / f"{path.stem}.png")
            problems += _copies(path, tree.split[f"{name}/{path.stem}"], seen)
    return problems, count


def check_voc(root: Path | str, classes: Sequence[str]) -> tuple[list[str], int]:
    """The same for a tree of the VOC layout whose masks hold the numbers of ``classes``. Raises UserError where its
    folders are missing."""
    tree = Tree(root, classes, ())
    problems: list[str] = []
    listed: Counter[str] = Counter()
    for ids in (lambda: train_ids(tree.root), lambda: read_list(tree.root / LISTS / "val.txt")):
        try:
            listed.update(dict.fromkeys(ids(), 1))
        except UserError as error:
            problems.append(str(error))
    problems += [f"{i} stands in the train and the test list: take it off one" for i, n in listed.items() if n > 1]
    for image_id in track(sorted(listed), "images") if listed else ():
        for read in (tree.image, tree.mask):
            try:
                read(image_id)
            except UserError as error:
                problems.append(str(error))
                break  # a mask is compared with its photograph, which would be named again
    return problems, len(listed)


def _names(folder: Path, paths: Sequence[Path]) -> Iterator[str]:
    """What the names in a class folder say."""
    if len(paths) < LEAST:
        yield f"{folder / IMAGES}: {len(paths)} photographs; at least {LEAST} are needed, of which 2 are for testing"
    stems = Counter(path.stem for path in paths)
    yield from (f"{folder / IMAGES}/{stem}.*: {n} files of one name; rename" for stem, n in stems.items() if n > 1)
    yield from (f"{path}: a ';' in its name, which separates ids; rename it" for path in paths if ";" in path.name)
    for path in sorted((folder / IMAGES).iterdir()):
        if path not in paths and path.name[0] != ".":
            yield f"{path}: no photograph; expected {', '.join(SUFFIXES)}"
    for path in sorted((folder / MASKS).iterdir()) if (folder / MASKS).is_dir() else ():
        if path.name[0] != "." and (path.suffix != ".png" or path.stem not in stems):
            yield f"{path}: the mask of no photograph; expected NAME.png beside {IMAGES}/NAME"


def _pair(photo: Path, mask: Path) -> Iterator[str]:
    try:
        if mask.is_file():
            read_pair(photo, mask)
        else:
            read_photo(photo)
            yield f"{photo}: has no mask {mask}; draw it"
    except UserError as error:
        yield str(error)


def _copies(path: Path, split: str, seen: dict[str, tuple[Path, str]]) -> Iterator[str]:
    """Whether the same file stands in the other split, where testing would meet what training saw."""
    first, other = seen.setdefault(sha256(path.read_bytes()).hexdigest(), (path, split))
    if other != split:
        yield f"{path}: the same photograph as {first}, one to train on and one to test; remove one"
