"""The data sets that affectkit reads: their label sets, folds and how many clips of each class their authors' lists have.

Counts are those of the lists that S4D publishes, which have the same clips as the official ones; ABAW and plain tables differ from copy to copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from affectkit.datasets import abaw, lists
from affectkit.datasets.items import Dataset
from affectkit.labels import AFFECTNET7, BASIC8, COMPOUND7, DFEW7, FERV39K7, MAFW11

FIVE = ("1", "2", "3", "4", "5")

_DFEW = (
    (489, 379, 534, 435, 294, 29, 181),
    (489, 379, 534, 435, 294, 29, 181),
    (489, 379, 534, 435, 294, 29, 180),
    (489, 379, 534, 434, 294, 29, 180),
    (489, 378, 533, 434, 293, 29, 180),
)
_MAFW = (
    (278, 184, 48, 37, 128, 125, 249, 53, 228, 294, 215),
    (278, 183, 47, 37, 128, 125, 249, 53, 228, 294, 215),
    (278, 183, 47, 36, 128, 125, 248, 52, 228, 294, 214),
    (278, 183, 47, 36, 128, 125, 248, 52, 227, 294, 214),
    (278, 183, 47, 36, 127, 125, 248, 52, 227, 294, 214),
)


def _rest(tests: Sequence[tuple[int, ...]]) -> Mapping[str, tuple[int, ...]]:
    """Clips to learn from per class and fold, where the test lists share out the whole.

    >>> _rest([(1, 2), (3, 4)])["1"]
    (3, 4)
    """
    whole = [sum(column) for column in zip(*tests, strict=True)]
    return {fold: tuple(a - b for a, b in zip(whole, test, strict=True)) for fold, test in zip(FIVE, tests, strict=False)}


DATASETS: Mapping[str, Dataset] = {
    found.name: found
    for found in (
        Dataset(
            "dfew",
            "DFEW, clips of one label",
            DFEW7,
            lists.DFEW,
            FIVE,
            dict(zip(FIVE, _DFEW, strict=True)),
            _rest(_DFEW),
            (
                *("Clip/clip_224x224", "Clip/clip_224x224_16f", "Clip/jpg_256", "Clip/original"),
                *("clip_jpg_256", "clip_224x224", "clip_224x224_16f", "original", "clips"),
            ),
        ),
        Dataset(
            "ferv39k",
            "FERV39k, all scenes",
            FERV39K7,
            lists.FERV39K,
            ("1",),
            {"1": (1487, 467, 431, 1473, 1958, 1393, 638)},
            {"1": (5906, 1833, 1680, 5854, 7790, 5523, 2502)},
            ("2_ClipsforFaceCrop", "clips"),
        ),
        Dataset(
            "mafw",
            "MAFW, clips of one label",
            MAFW11,
            lists.MAFW,
            FIVE,
            dict(zip(FIVE, _MAFW, strict=True)),
            _rest(_MAFW),
            ("data/frames/frames_crop_align_224", "frames_crop_align_224", "data/frames", "frames", "data/clips", "clips"),
        ),
        Dataset("affectnet7", "AffectNet without contempt, pictures in a list", AFFECTNET7, lists.AFFECTNET, clips=("images",)),
        Dataset("abaw-expr", "Aff-Wild2 with the expressions of ABAW, stretches of one class", BASIC8, abaw.EXPR, clips=abaw.CLIPS),
        Dataset("abaw-ce", "C-EXPR-DB with compound expressions, stretches of one class", COMPOUND7, abaw.CE, clips=abaw.CLIPS),
        Dataset("csv", "clips in a table of your own", None, None, ()),
    )
}
"""What ``--dataset`` takes, by name."""
