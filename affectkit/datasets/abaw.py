"""Aff-Wild2 and C-EXPR-DB as ABAW gives them: a file of classes per video, and a folder of cut out faces per video.

Neighbouring frames are nearly the same picture, so an item is a stretch of frames of one class and not a frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affectkit.annotations import read
from affectkit.datasets.items import Item, Mode
from affectkit.datasets.places import Places, rate
from affectkit.errors import UsageError
from affectkit.labels import LabelSet
from affectkit.references import Annotations

LONGEST = 64  # frames of one item: two seconds, so that long stretches of one class count more than short ones
CLIPS = ("cropped_aligned", "cropped")
PARTS: Mapping[Mode, tuple[str, ...]] = {
    "train": ("Train_Set", "Training_Set"),
    "test": ("Validation_Set", "Validation_set", "Val_Set"),
}


@dataclass(frozen=True)
class Videos:
    """Reads the annotations of a track.

    The validation set is what is tested on, as the labels of the test set are not given out. Files of videos that lie in no folder of a part,
    as those of C-EXPR-DB, are all tested on.

    Attributes:
        names: of the folder of its annotations, as :meth:`pathlib.Path.glob` takes them.
    """

    names: tuple[str, ...]

    def __call__(self, data: Path, fold: str, labels: LabelSet, places: Places, fps: float) -> tuple[dict[Mode, list[Item]], list[str]]:
        """As :class:`affectkit.datasets.items.Reader`."""
        below = sorted({path for name in self.names for path in (*data.glob(name), *data.glob(f"*/{name}")) if path.is_dir()})
        tops = [data, *below]
        found = {mode: [top / name for top in tops for name in names if (top / name).is_dir()] for mode, names in PARTS.items()}
        notes = []
        if not any(found.values()):
            found["test"] = [top for top in tops if any(top.glob("*.txt"))]
            notes.append("the annotations are not divided, so all of them are tested on")
        several = [path for paths in found.values() if len(paths) > 1 for path in paths]
        if several:
            raise UsageError(f"{data} has several sets of annotations: {', '.join(map(str, several))}; give the folder of one of them")
        if not any(found.values()):
            raise UsageError(
                f"{data} has no annotations in {labels.name}: looked there, and one folder further down, for {' or '.join(self.names)} "
                "with Train_Set and Validation_Set, each with a VIDEO.txt per video"
            )
        items = {
            mode: [item for path in paths for item in _stretches(read(path, labels), labels, places, fps)] for mode, paths in found.items()
        }
        notes += [f"there is no {PARTS[mode][0]}" for mode in PARTS if not found[mode] and not notes]
        return items, notes


EXPR = Videos(("EXPR_*",))
CE = Videos(("CE_*", "C-EXPR*", "annotations", "annotation"))


def _stretches(found: Annotations, labels: LabelSet, places: Places, fps: float) -> list[Item]:
    """Frames that follow each other and have the same class, cut to :data:`LONGEST` at most; frames without a class belong to none."""
    values = found.references[labels]
    known = ~np.isnan(values).any(axis=1)
    classes = np.where(known, np.nan_to_num(values).argmax(axis=1), -1)
    items = []
    for number, name in enumerate(found.names):
        path = places(name)
        rows = np.flatnonzero((found.media == number) & known)
        rows = rows[np.argsort(found.frame[rows], kind="stable")]
        frames, own = found.frame[rows], classes[rows]
        cuts = np.flatnonzero((np.diff(frames) != 1) | (np.diff(own) != 0)) + 1
        for part in np.split(np.arange(len(rows)), cuts):
            for start in range(0, len(part), LONGEST):
                some = part[start : start + LONGEST]
                first, last = int(frames[some[0]]), int(frames[some[-1]])
                items.append(
                    Item(f"{name}/{first:05}-{last:05}", path, int(own[some[0]]), _video(name), rate(path, fps), frames=(first, last))
                )
    return items


def _video(name: str) -> str:
    """The video of a name: two people of one video are one group.

    >>> _video("130-25-1280x720_left"), _video("2-30-640x360")
    ('130-25-1280x720', '2-30-640x360')
    """
    return name.removesuffix("_left").removesuffix("_right")
