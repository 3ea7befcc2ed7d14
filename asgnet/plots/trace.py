"""One episode from the inside, drawn: seed cells, superpixels, association, guide map, similarities, prediction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from scipy.ndimage import distance_transform_edt

from asgnet.plots import overlay, style
from asgnet.plots.tiles import Row, Tile, page

MAP = colormaps["cividis"]  # lightness rises with the value
SCREEN = 9.0  # inches, the width of the overview
ENOUGH = 200  # pixels of a picture on it
COLUMNS = 6  # pictures of a row


@dataclass(frozen=True)
class Shot:
    """What SGC made of one support, on a grid of h x w cells. Its n prototypes are the episode's number ``first`` and
    following; a support without seed cells has one, the masked average, and one with an empty mask none."""

    image: np.ndarray  # (S, S, 3) uint8
    mask: np.ndarray  # (S, S) bool
    first: int  # from 0
    seed_cells: np.ndarray  # (n, 2) int: (row, col) on the grid; (0, 2) for a masked average
    association: np.ndarray  # (n, h, w) in [0, 1]: closeness to each centre; of a masked average the cells' weights
    superpixels: np.ndarray  # (h, w) int: the cell's strongest prototype of this support, from 0; -1 for none
    steps: tuple[int, ...]  # T numbers of iterations
    evolution: np.ndarray  # (T, h, w) int: the superpixels after each of them
    centres: np.ndarray  # (T, n, 2) float: (row, col) of the centres then; (T, 0, 2) for a masked average


@dataclass(frozen=True)
class Trace:
    """One episode as the network saw it. The M prototypes of all supports are numbered from 0."""

    arm: str  # its label
    class_name: str
    episode: int
    max_seeds: int
    iterations: int
    shots: tuple[Shot, ...]
    query: np.ndarray  # (S, S, 3) uint8
    truth: np.ndarray  # (S, S) uint8: 0, 1 and 255 (not scored)
    similarity: np.ndarray  # (M, h, w): cosine of each query cell and each prototype
    guide: np.ndarray  # (h, w) int: the allocated prototype, -1 where cells do not choose one
    probability: np.ndarray  # (h, w): the similarities put together, as the decoder reads them
    prediction: np.ndarray  # (S, S) bool
    iou: float  # per cent, at the query's original size


Shown = TypeVar("Shown", Shot, Trace)


@style.paper
def overview(trace: Trace, shot: int = 0, label: str = "") -> Figure:
    """Everything about one episode on one screen. ``shot``, from 0, is the support that SGC is shown on.

    The support with its seed cells and superpixels, the query, and what GPA and the decoder made of it; how the
    superpixels came about, unless the prototype is a masked average; a map for each of the support's prototypes, on the
    support and on the query; and, of several supports, the superpixels of each."""
    trace = _thinned(trace)
    support, count = trace.shots[shot], len(trace.shots)
    name = f"support {shot + 1} of {count}, " if count > 1 else "support, "
    kind = "seed cells" if len(support.seed_cells) else "no seed cells"
    first = [_seed_cells(support, name + kind), _superpixels(support, "superpixels"), *_outcome(trace)]
    rows = [
        Row(first),
        Row(
            _evolution(support, trace.iterations) if len(support.seed_cells) else (),
            "SGC: superpixels, and the centres' way from their seed cells (per cent: cells that changed)",
        ),
        Row(
            _associations(support) if len(support.seed_cells) else (),
            "Association of the support's cells with each centre, exp(\N{MINUS SIGN}distance); light is the closest",
        ),
        Row(
            _similarities(trace, support),
            f"Cosine similarity of the query's cells to each prototype, {_span(trace.similarity)} from dark to light "
            "(outlined, per cent: the cells that GPA gives it)",
        ),
    ]
    if count > 1:
        tiles = [_superpixels(each, f"support {k + 1}", strong=k == shot) for k, each in enumerate(trace.shots)]
        rows.append(Row(tiles, "Superpixels of all supports, whose prototypes compete in one pool"))
    title = (
        f"{trace.arm}: {trace.class_name}, episode {trace.episode}, {count} shot{'s' * (count > 1)}, "
        f"N_max {trace.max_seeds}, {trace.iterations} iterations"
    )
    return page([row for row in rows if row.tiles], SCREEN, COLUMNS, title, label)


@style.paper
def superpixels(traces: Sequence[Trace], label: str = "") -> Figure:
    """For print, a row an episode: its first support with superpixels and numbered seed cells; query and true outline;
    guide map; probability map with its range; prediction (dashed) beside the truth (solid) with its IoU."""
    rows = []
    for trace in traces:
        support = trace.shots[0]
        first = _regions(support, support.superpixels, "support, superpixels")
        first.seeds = _pixels(support.seed_cells, support)
        rows.append(Row([first, *_outcome(trace)], label=trace.class_name))
    return page(rows, style.PAGE, 5, label=label)


@style.paper
def evolution(traces: Sequence[Trace], label: str = "") -> Figure:
    """For print, a row an episode: the superpixels of its first support after more and more iterations of SGC, and the
    way of each centre from its seed cell."""
    rows = [Row(_evolution(trace.shots[0]), label=trace.class_name) for trace in traces]
    return page(rows, style.PAGE, COLUMNS, label=label)


@style.paper
def own(shots: Sequence[Shot], query: np.ndarray, guide: np.ndarray, prediction: np.ndarray, label: str = "") -> Figure:
    """For photographs of one's own: each support with its superpixels and seed cells; the query (S, S, 3) uint8 with
    the prototype that each cell of guide (h, w) is given, and the prediction (S, S) bool."""
    each = [_superpixels(shot, f"support {k + 1}") for k, shot in enumerate(shots)]
    for tile, shot in zip(each, shots, strict=True):
        tile.seeds = _pixels(shot.seed_cells, shot)
        tile.numbers = () if len(shot.seed_cells) else tile.numbers
    used = Tile(_tint(query, guide, 0.6), "query: prototypes used", numbers=_numbers(guide, len(prediction)))
    result = Tile(_tint(query, np.where(prediction, 1, -1), 0.35), "prediction", prediction=prediction)
    rows = [Row(each[k : k + COLUMNS // 2]) for k in range(0, len(each), COLUMNS // 2)]
    return page([*rows, Row([Tile(query, "query"), used, result])], SCREEN, COLUMNS // 2, label=label)


def _thinned(trace: Trace) -> Trace:
    """The same with every second pixel of its pictures (or fourth, ...), as long as they have enough: speed counts."""
    size, step = len(trace.truth) - 1, 1
    while size % (2 * step) == 0 and size // (2 * step) >= ENOUGH:  # corners stay corners
        step *= 2

    def thin(shown: Shown, *names: str) -> Shown:
        return replace(shown, **{name: getattr(shown, name)[::step, ::step] for name in names})

    shots = tuple(thin(shot, "image", "mask") for shot in trace.shots)
    return replace(thin(trace, "query", "truth", "prediction"), shots=shots)


def _seed_cells(shot: Shot, title: str) -> Tile:
    return Tile(shot.image, title, truth=shot.mask, first=shot.first, seeds=_pixels(shot.seed_cells, shot))


def _superpixels(shot: Shot, title: str, strong: bool = False) -> Tile:
    tile = _regions(shot, shot.superpixels, title, strong)
    tile.numbers = _numbers(_numbered(shot.superpixels, shot), len(shot.mask))
    return tile


def _regions(shot: Shot, labels: np.ndarray, title: str, strong: bool = False) -> Tile:
    """The support under the colours of superpixels (h, w), with their borders."""
    return Tile(_tint(shot.image, _numbered(labels, shot), 0.5), title, strong, regions=labels, first=shot.first)


def _outcome(trace: Trace) -> list[Tile]:
    """Query, guide map, probability map, prediction."""
    size, truth = len(trace.truth), trace.truth == 1
    guide = _tint(trace.query, trace.guide, 0.6)
    mean = "mean prototype everywhere" if len(trace.similarity) else "no prototype"
    guided = "guide map" if trace.guide.max() >= 0 else mean
    predicted = _tint(trace.query, np.where(trace.prediction, 1, -1), 0.35)
    probability = _map(trace.probability, size, trace.probability.min(), trace.probability.max())
    return [
        Tile(trace.query, "query, truth", truth=truth),
        Tile(guide, guided, numbers=_numbers(trace.guide, size)),
        Tile(probability, f"probability, {_span(trace.probability)}"),
        Tile(predicted, f"prediction, IoU {trace.iou:.0f} %", truth=truth, prediction=trace.prediction),
    ]


def _evolution(shot: Shot, shown: int = -1) -> list[Tile]:
    """A tile for each step; the one after ``shown`` iterations has a bold title."""
    tiles = []
    for k, (step, labels) in enumerate(zip(shot.steps, shot.evolution, strict=True)):
        changed = 100 * (labels != shot.evolution[max(k - 1, 0)]).sum() / max((labels >= 0).sum(), 1)
        title = f"{step} iteration{'s' * (step != 1)}" + (f", {changed:.0f} %" if step else "")
        tiles.append(_regions(shot, labels, title, strong=step == shown))
        tiles[-1].paths = _pixels(shot.centres[: k + 1], shot)
    return tiles


def _associations(shot: Shot) -> list[Tile]:
    """A tile for each centre; cells that are not clustered show the paled photograph."""
    size, tiles = len(shot.mask), []
    inside = overlay.enlarge(shot.superpixels >= 0, size, size)[..., None]
    pale = 179 + (0.3 * shot.image).astype(np.uint8)
    for k, close in enumerate(shot.association):
        image = np.where(inside, _map(close, size, 0, close.max()), pale)
        title, seed = f"{shot.first + k + 1}: up to {close.max():.2g}", _pixels(shot.seed_cells[k : k + 1], shot)
        tiles.append(Tile(image, title, first=shot.first + k, seeds=seed))
    return tiles


def _similarities(trace: Trace, shot: Shot) -> list[Tile]:
    """A tile for each prototype of the support, all on one scale."""
    tiles = []
    for k in range(shot.first, shot.first + len(shot.association)):
        image = _map(trace.similarity[k], len(trace.truth), trace.similarity.min(), trace.similarity.max())
        share = f": {100 * (trace.guide == k).mean():.0f} %" if trace.guide.max() >= 0 else ""
        tiles.append(Tile(image, f"{k + 1}{share}", regions=np.where(trace.guide == k, 0, -1)))
    return tiles


def _map(values: np.ndarray, size: int, low: float, high: float) -> np.ndarray:
    """(h, w) -> colours (size, size, 3) uint8."""
    return overlay.enlarge(MAP((values - low) / max(high - low, 1e-12), bytes=True)[..., :3], size, size)


def _tint(image: np.ndarray, labels: np.ndarray, strength: float) -> np.ndarray:
    """`overlay.tint` of a photograph (S, S, 3) by labels (h, w), as uint8. It is linear in the photograph, so that
    black and white can be tinted on the grid and the photograph put between them: less work."""
    ends = (np.full((*labels.shape, 3), value) for value in (0, 255))
    black, white = (255 * overlay.tint(end, labels, strength).astype(np.float32) for end in ends)
    slope = overlay.enlarge((white - black) / 255, *image.shape[:2])
    return (overlay.enlarge(black, *image.shape[:2]) + slope * image).astype(np.uint8)


def _span(values: np.ndarray) -> str:
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    return f"{low:.2g} to {high:.2g}".replace("-", "\N{MINUS SIGN}")


def _numbered(labels: np.ndarray, shot: Shot) -> np.ndarray:
    """Superpixels counted in the support -> counted in the episode."""
    return np.where(labels >= 0, labels + shot.first, -1)


def _pixels(cells: np.ndarray, shot: Shot) -> np.ndarray:
    """Places on the grid (..., 2) -> in pixels."""
    return cells * (len(shot.mask) - 1) / (np.array(shot.superpixels.shape) - 1)


def _numbers(labels: np.ndarray, size: int, least: float = 0.006) -> list[tuple[str, float, float]]:
    """Label + 1 and the innermost place, in pixels, of each region over ``least`` of the grid (h, w). A number that
    would stand on that of a larger region is left out."""
    found: list[tuple[str, float, float]] = []
    scale = (size - 1) / (np.array(labels.shape) - 1)
    names, areas = np.unique(labels[labels >= 0], return_counts=True)
    for name in names[np.argsort(-areas, kind="stable")][: (areas > least * labels.size).sum()]:
        depth = distance_transform_edt(np.pad(labels == name, 1))[1:-1, 1:-1]
        row, col = np.multiply(np.unravel_index(depth.argmax(), depth.shape), scale).clip(0.05 * size, 0.95 * size)
        if all(max(abs(row - other[1]), abs(col - other[2])) > 0.08 * size for other in found):
            found.append((str(name + 1), row, col))
    return found
