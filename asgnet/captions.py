"""What every figure of a study shows: a caption, and what is seen for those who do not see it."""

from typing import NamedTuple


class Caption(NamedTuple):
    """text: how to read the figure, in one sentence. alt: what is seen."""

    text: str
    alt: str


CAPTIONS = {
    "contact_sheet": Caption(
        "The dataset: images of every class with their masks.",
        "Two columns of small pictures, one row a class, objects outlined or beside their masks in colours.",
    ),
    "test_miou": Caption(
        "Test mIoU of novel classes, mean over folds, with its 95% interval; one group of rows for each number of "
        "shots.",
        "Horizontal bars of mIoU, two for each arm: 1-shot plain and 5-shot hatched, each with its value and interval.",
    ),
    "per_fold": Caption(
        "Test mIoU fold by fold: how much of the spread comes from which classes are novel.",
        "One panel for each fold; in it one row an arm, with a dot for its 1-shot and a square for its 5-shot mIoU.",
    ),
    "differences": Caption(
        "Paired differences to the baseline on identical episodes, with 95% intervals; zero is no difference.",
        "For each arm a dot (1-shot) and a square (5-shot) with intervals beside a vertical line at zero, p values"
        " on the right.",
    ),
    "curves": Caption(
        "Loss and mIoU by epoch on training, held-out and novel episodes.",
        "One column for each arm: mIoU rises above, loss falls below; thin lines for runs, thick ones for their "
        "mean on train, val and novel.",
    ),
    "gaps": Caption(
        "The overfitting gap: what training episodes show above held-out images and above novel classes.",
        "Two panels, train minus val and train minus novel: for each arm a dot with an interval beside zero, its "
        "runs as circles below.",
    ),
    "superpixels": Caption(
        "What the network sees: seed cells and superpixels on the support, and the prototype that each query cell "
        "is given.",
        "One row an episode: support with numbered superpixels, query with its true outline, guide map, "
        "probability map, predicted outline.",
    ),
    "evolution": Caption(
        "Superpixels after each iteration of SGC.",
        "One row a support, one column for each number of iterations: coloured superpixels and their seeds, with "
        "the share of cells that moved.",
    ),
    "predictions": Caption(
        "Predictions of the baseline from the worst episodes of each fold to the best.",
        "Triples of support, query with the true outline and query with the predicted outline, under class name "
        "and IoU.",
    ),
    "prototypes/counts": Caption(
        "mIoU against the number of prototypes that a network is trained with, and its paired difference to the "
        "published 5.",
        "Above, lines of mIoU over N_max for each fold and their mean, 1-shot and 5-shot; below, differences with "
        "intervals around zero.",
    ),
    "prototypes/count_heat": Caption(
        "Every trained N_max tested at every N_max, with the same weights.",
        "A grid of coloured squares with mIoU written in them, rows by N_max in training, columns by N_max in "
        "testing; equal counts are framed.",
    ),
    "prototypes/allocation": Caption(
        "What the adaptive count, SGC and GPA buy: trained without each, against the whole.",
        "For each setting a dot (1-shot) and a square (5-shot) with intervals beside a line at zero, p values on "
        "the right.",
    ),
    "prototypes/clusterers": Caption(
        "Other clusterers in the place of SGC at test time, against SGC.",
        "One dot with an interval for each clusterer beside a line at zero, p values on the right.",
    ),
    "prototypes/iterations": Caption(
        "SGC's iterations, spatial weight and seed rule at test time, against the published settings.",
        "Three columns for iterations, spatial weight and seed rule: above mIoU by fold and mean, below "
        "differences with intervals around zero.",
    ),
    "prototypes/shots_fusion": Caption(
        "mIoU against the number of shots, for three ways to fuse them.",
        "Above, mIoU with intervals over 1, 2, 5 and 10 shots for pool, averages and votes; below, the differences"
        " to the pool.",
    ),
    "prototypes/shape": Caption(
        "One prototype, superpixels and true parts in bins of the object's scale, shape and occlusion.",
        "One column each for scale, solidity, elongation and, where it is known, hidden share: above mIoU over five"
        " bins for each kind of prototype, below differences with intervals.",
    ),
    "prototypes/quality": Caption(
        "How well superpixels fit the true parts of an object.",
        "Four panels, one a measure: a dot with an interval for each clusterer.",
    ),
    "candidates/failures": Caption(
        "Where the recipe among the candidates fails: the two worst of the episodes that each run kept of all ranks.",
        "Triples of support, query with the true outline and query with the predicted outline, under class name "
        "and IoU.",
    ),
    "fidelity/departures": Caption(
        "Each departure of the published code, changed one at a time, against the baseline.",
        "For each departure a dot (1-shot) and a square (5-shot) with intervals beside a line at zero, p values on"
        " the right.",
    ),
}
