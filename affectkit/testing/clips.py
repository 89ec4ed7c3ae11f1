"""Small real tasks for networks that read clips: sequences made of FER2013's stills, and what reads them without time, to be compared with.

Stills of a class follow each other as if a camera watched somebody: every frame is a real face, and no frame alone has the answer. Only stills whose labels are clear
are used. Those of one group are in no other group, and those of the test list are none of the training list's. N is clips, T frames, S size in pixels, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affectkit.clip_reading import ClipReader, Frames
from affectkit.datasets.items import Fold, Item
from affectkit.errors import UsageError
from affectkit.intervals import Difference, Score, Tally, differences, scores, tally_classes
from affectkit.labels import BASIC7, MAFW11, LabelSet

ORDER2 = LabelSet("order2", ("offset", "onset"))
"""What the order-only task asks: whether a face goes from an expression to neutral, or from neutral to it; in the order that a table of clips gives these words."""

TRAIN, TEST = "train", "public_test"  # splits of FER2013
FPS = 5.0
DRIFT = 1.5  # pixels by which the picture moves from its place, about
CLEAR = 0.4  # share of the stills of a class that are used, those whose labels are least in doubt
RIDGE = 0.1  # of the discriminant that says so
PULLS = (1e-3, 1e-2, 1e-1)  # of the squared weights, beside the mean of the cross-entropy: the probe chooses one
FIVE = 5  # parts of the groups by which it chooses


@dataclass(frozen=True)
class MadeClips:
    """Clips of a task.

    Attributes:
        labels: C classes.
        frames: (N, T, S, S) uint8 grey.
        truth: (N,) int64 columns.
        groups: (N,) names; no still is in two groups.
        test: (N,) bool, the test list.
    """

    labels: LabelSet
    frames: np.ndarray
    truth: np.ndarray
    groups: np.ndarray
    test: np.ndarray

    def __len__(self) -> int:
        return len(self.truth)

    def name(self, row: int) -> str:
        """Name of a clip, as MAFW names its own: five digits, from 1."""
        return f"{row + 1:05}"

    def fold(self, folder: Path = Path()) -> Fold:
        """The lists; the clips are folders of frames below ``folder``, where :meth:`write` puts them."""
        items = [
            Item(self.name(row), folder / "frames" / self.name(row), int(self.truth[row]), str(self.groups[row]), FPS)
            for row in range(len(self))
        ]
        train, test = (tuple(item for item, side in zip(items, self.test, strict=True) if side == wanted) for wanted in (False, True))
        return Fold("made", "1", self.labels, train, test)

    def reader(self) -> ClipReader:
        """Reads the clips of :meth:`fold` from memory, for a training that reads no files."""
        return _MemoryReader({self.name(row): np.repeat(self.frames[row][..., None], 3, axis=-1) for row in range(len(self))})

    def write(self, folder: Path) -> None:
        """Writes folders of frames (``frames/00001/01.png``), a table ``clips.csv`` with the groups, as ``--dataset csv`` reads it, and, where the classes are
        among MAFW's, the lists of its first fold in the form that ``--dataset mafw`` reads.

        Args:
            folder: where; made where it is not there.
        """
        import cv2

        lines = ["file,label,split,group,fps"]
        for row in range(len(self)):
            own = folder / "frames" / self.name(row)
            own.mkdir(parents=True)
            for number, frame in enumerate(self.frames[row], start=1):
                cv2.imwrite(str(own / f"{number:02}.png"), frame)
            split = "test" if self.test[row] else "train"
            lines.append(f"frames/{self.name(row)},{self.labels.labels[self.truth[row]]},{split},{self.groups[row]},{FPS:g}")
        (folder / "clips.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        if set(self.labels.labels) <= set(MAFW11.labels):
            lists = folder / "anno" / "single" / "no_caption" / "set_1"
            lists.mkdir(parents=True)
            for mode, side in (("train", ~self.test), ("test", self.test)):
                rows = [f"{self.name(row)},{MAFW11.index(self.labels.labels[self.truth[row]])}" for row in np.flatnonzero(side).tolist()]
                (lists / f"{mode}.csv").write_text("\n".join(["video_name,labels", *rows]) + "\n", encoding="utf-8")


def expression_clips(
    fer2013: Path, *, clips: int = 560, test: int = 350, frames: int = 16, stills: int = 8, size: int = 48, groups: int = 20, seed: int = 0
) -> MadeClips:
    """Clips that go from one of the seven basic expressions to another; the label is the one in which they end.

    The mean of the frames has both alike: what is blind to order can at best say which two they are.

    Args:
        fer2013: the table of FER2013 as a Parquet file with the columns ``split``, ``label`` and ``jpeg``.
        clips: of the training list, as many of each class.
        test: clips of the test list.
        frames: T.
        stills: different stills in a clip, half of them of each expression.
        size: S.
        groups: of each list.
        seed: of what is random.
    """
    random = np.random.default_rng(seed)
    pools = _Pools(fer2013, BASIC7.labels, groups, random)
    classes = len(BASIC7)
    found: list[tuple[np.ndarray, int, str, bool]] = []
    for split, wanted in ((TRAIN, clips), (TEST, test)):
        for number in range(wanted):
            last = number % classes
            first = (last + 1 + int(random.integers(classes - 1))) % classes
            group = int(random.integers(groups))
            pictures = pools.draw(split, group, [first] * (stills - stills // 2) + [last] * (stills // 2), random)
            found.append((_film(pictures, frames, size, random), last, f"{split} {group}", split == TEST))
    return _made(BASIC7, found, random)


def order_clips(
    fer2013: Path,
    *,
    expression: str = "happiness",
    clips: int = 400,
    test: int = 200,
    frames: int = 16,
    stills: int = 8,
    size: int = 48,
    groups: int = 20,
    seed: int = 0,
) -> MadeClips:
    """Clips that go from neutral to an expression, and the same clips backwards; the label is which (:data:`ORDER2`).

    Both directions of a clip have the same frames, in the same list and group: whatever does not look at their order is right in exactly one half.

    Args:
        fer2013: as in :func:`expression_clips`.
        expression: one of the seven basic ones.
        clips: of the training list, both directions counted.
        test: clips of the test list.
        frames: T.
        stills: different stills in a clip, half of them neutral.
        size: S.
        groups: of each list.
        seed: of what is random.
    """
    random = np.random.default_rng(seed)
    pools = _Pools(fer2013, ("neutral", expression), groups, random)
    found: list[tuple[np.ndarray, int, str, bool]] = []
    for split, wanted in ((TRAIN, clips), (TEST, test)):
        for _ in range(wanted // 2):
            group = int(random.integers(groups))
            film = _film(pools.draw(split, group, [0] * (stills - stills // 2) + [1] * (stills // 2), random), frames, size, random)
            found += [(film, ORDER2.index("onset"), f"{split} {group}", split == TEST)]
            found += [(film[::-1], ORDER2.index("offset"), f"{split} {group}", split == TEST)]
    return _made(ORDER2, found, random)


def write_stills(fer2013: Path, folder: Path, labels: Sequence[str], count: int) -> Path:
    """Writes stills of the training list as a table of pictures, as ``--dataset csv`` and ``options.stills`` read it.

    Args:
        fer2013: as in :func:`expression_clips`.
        folder: where; made.
        labels: which of the seven basic expressions.
        count: stills of each, the first of the list.

    Returns:
        The folder.
    """
    import pandas as pd

    table = pd.read_parquet(fer2013)
    table = table[table["split"] == TRAIN]
    names = np.array([BASIC7.labels[BASIC7.index(label)] for label in table["label"]])
    folder.mkdir()
    lines = ["file,label,split"]
    for label in labels:
        for number, jpeg in enumerate(table["jpeg"].to_numpy()[names == label][:count]):
            (folder / f"{label}{number}.jpg").write_bytes(jpeg)
            lines.append(f"{label}{number}.jpg,{label},train")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


class _Pools:
    """Clear stills of some classes, divided among groups."""

    def __init__(self, fer2013: Path, names: Sequence[str], groups: int, random: np.random.Generator) -> None:
        import cv2
        import pandas as pd

        if not fer2013.is_file():
            raise UsageError(f"there is no {fer2013}; give the table of FER2013 as a Parquet file with the columns split, label and jpeg")
        table = pd.read_parquet(fer2013)
        table = table[table["split"].isin([TRAIN, TEST])]
        column = {name: number for number, name in enumerate(names)}
        found = np.array([column.get(BASIC7.labels[BASIC7.index(label)], -1) for label in table["label"]])
        table, found = table[found >= 0], found[found >= 0]
        self.stills = np.stack([np.asarray(cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_GRAYSCALE)) for raw in table["jpeg"]])
        train = np.asarray(table["split"] == TRAIN)
        clear = _clearness(self.stills, found, train)
        self._rows: dict[tuple[str, int, int], np.ndarray] = {}
        for split, side in ((TRAIN, train), (TEST, ~train)):
            for number in range(len(names)):
                rows = np.flatnonzero(side & (found == number))
                rows = random.permutation(rows[np.argsort(-clear[rows], kind="stable")][: max(int(CLEAR * len(rows)), 1)])
                for group, own in enumerate(np.array_split(rows, groups)):
                    self._rows[split, group, number] = own

    def draw(self, split: str, group: int, classes: Sequence[int], random: np.random.Generator) -> list[np.ndarray]:
        """One still per class that is named, in that order, (48, 48) uint8 each; some twice only where there are too few."""
        used: dict[int, list[int]] = {}
        for number in sorted(set(classes)):
            rows, wanted = self._rows[split, group, number], classes.count(number)
            if not len(rows):
                raise UsageError(
                    f"there are too few stills for so many groups: group {group} of {split} has none of a class; ask for fewer groups"
                )
            used[number] = random.choice(rows, wanted, replace=len(rows) < wanted).tolist()
        return [self.stills[used[number].pop()] for number in classes]


def _clearness(stills: np.ndarray, truth: np.ndarray, train: np.ndarray) -> np.ndarray:
    """How sure a linear discriminant (Fisher 1936), learned from the stills of ``train``, is of the label of each, (K,) logarithms of probabilities.

    A third of FER2013's labels are in doubt, and a small network has no time to learn in spite of them.
    """
    half = stills[:, ::2, ::2].reshape(len(stills), -1).astype(np.float32)
    half = (half - half.mean(1, keepdims=True)) / (half.std(1, keepdims=True) + 1e-6)
    means = np.stack([half[train & (truth == number)].mean(0) for number in range(truth.max() + 1)])
    within = half[train] - means[truth[train]]
    spread = within.T @ within / len(within)
    weights = np.linalg.solve(spread + RIDGE * np.trace(spread) / len(spread) * np.eye(len(spread)), means.T)
    scores = half @ weights - 0.5 * (means.T * weights).sum(0)
    scores -= scores.max(1, keepdims=True)
    found: np.ndarray = scores[np.arange(len(truth)), truth] - np.log(np.exp(scores).sum(1))
    return found


def _film(stills: Sequence[np.ndarray], frames: int, size: int, random: np.random.Generator) -> np.ndarray:
    """Stills one after the other for the same time each, seen by a camera that drifts: (T, S, S) uint8."""
    import cv2

    scale = size / stills[0].shape[0]
    drift = np.cumsum(random.normal(size=(frames, 2)), axis=0)
    drift = DRIFT * scale * (drift - drift.mean(0)) / (np.abs(drift - drift.mean(0)).max() + 1e-9)
    film = []
    for number, (right, down) in enumerate(drift):
        move = np.array([[scale, 0, right], [0, scale, down]], dtype=np.float64)
        film.append(cv2.warpAffine(stills[number * len(stills) // frames], move, (size, size), borderMode=cv2.BORDER_REPLICATE))
    return np.stack(film).astype(np.uint8)


def _made(labels: LabelSet, found: Sequence[tuple[np.ndarray, int, str, bool]], random: np.random.Generator) -> MadeClips:
    """Clips in random order, so that names say nothing."""
    films, truth, groups, test = zip(*(found[row] for row in random.permutation(len(found))), strict=True)
    return MadeClips(labels, np.stack(films), np.array(truth, dtype=np.int64), np.array(groups), np.array(test))


class _MemoryReader(ClipReader):
    def __init__(self, clips: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.clips = clips

    def open(self, item: Item, size: int) -> Frames:
        """The frames of a made clip."""
        return self.decoded(self.clips[item.id], size)


def mean_probe(clips: MadeClips) -> np.ndarray:
    """What a linear reader of the mean of all frames says of the test list: (M, C) probabilities of softmax regression. Needs scikit-learn.

    Its ridge is the one of :data:`PULLS` that is best on groups of the training list that it has not seen.

    Args:
        clips: the task.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, pixels = ~clips.test, clips.frames.mean(1).reshape(len(clips), -1)
    axes = make_pipeline(StandardScaler(), PCA()).fit(pixels[train])  # a ridge keeps weights in the span of its rows: nothing is lost
    strengths = [1 / (2 * pull * train.sum()) for pull in PULLS]
    parts = GroupKFold(min(FIVE, len(np.unique(clips.groups[train]))))
    search = GridSearchCV(LogisticRegression(max_iter=1000), {"C": strengths}, cv=parts)
    search.fit(axes.transform(pixels[train]), clips.truth[train], groups=clips.groups[train])
    found = np.zeros((int(clips.test.sum()), len(clips.labels)))
    found[:, search.classes_] = search.predict_proba(axes.transform(pixels[clips.test]))
    return found


def score(clips: MadeClips, values: np.ndarray, metric: str = "uar") -> Score:
    """A metric of the test list, with an interval over its groups.

    Args:
        clips: the task.
        values: (M, C) probabilities of the clips of its test list, in order.
        metric: ``"uar"``, ``"war"``, ``"macro_f1"``.
    """
    return scores(_tally(clips, values))[metric]


def gain(clips: MadeClips, values: np.ndarray, baseline: np.ndarray, metric: str = "uar") -> Difference:
    """How much better some predictions of the test list are than others: ``low`` above 0 is better, with an interval over the groups.

    Args:
        clips: the task.
        values: (M, C) probabilities.
        baseline: (M, C) probabilities, for instance of :func:`mean_probe`.
        metric: as in :func:`score`.
    """
    return differences(_tally(clips, baseline), _tally(clips, values))[metric]


def _tally(clips: MadeClips, values: np.ndarray) -> Tally:
    return tally_classes(clips.truth[clips.test], np.asarray(values, dtype=np.float64), clips.groups[clips.test], clips.labels.labels)
