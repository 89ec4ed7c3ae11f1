"""What a data set is made of, as its lists say: clips with one label each, and folds of clips to learn from and to be tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from affectkit.datasets.places import Places
from affectkit.labels import LabelSet

Mode = Literal["train", "test"]
MODES: tuple[Mode, ...] = ("train", "test")


@dataclass(frozen=True, slots=True)
class Item:
    """One clip, or picture, of a data set.

    Attributes:
        id: as the list names it: ``"00001"``, ``"Crime/Angry/0063"``, ``"03747"``.
        path: a video, a picture, or a folder of frames; it need not exist.
        label: column of the fold's label set.
        group: who or what it is of; the id where the data set does not say.
        fps: frames per second of a folder of frames; ``None`` for what says so itself.
        text: a description of the clip, where there is one.
        frames: numbers of its first and last frame, counted from 1, where it is a stretch of a longer video or folder; ``None`` for all of it.
            In a folder the numbers are those of the file names.
    """

    id: str
    path: Path
    label: int
    group: str
    fps: float | None = None
    text: str | None = None
    frames: tuple[int, int] | None = None


@dataclass(frozen=True)
class Fold:
    """One division of a data set into what a model may learn from and what it is tested on.

    Attributes:
        dataset: name of the data set.
        name: name of the fold, ``"1"`` where the data set has one only.
        labels: what the labels of the items count in.
        train: items to learn from; a validation part is taken from these and from nothing else.
        test: items to be tested on; no training reads them.
        notes: what a person should know of how the lists were read, as sentences without a full stop.
    """

    dataset: str
    name: str
    labels: LabelSet
    train: tuple[Item, ...]
    test: tuple[Item, ...]
    notes: tuple[str, ...] = ()


class Reader(Protocol):
    """Reads what the authors of a data set give."""

    def __call__(
        self, data: Path, fold: str, labels: LabelSet, places: Places, fps: float
    ) -> tuple[Mapping[Mode, Sequence[Item]], Sequence[str]]:
        """The items to learn from and to be tested on, and notes as in :class:`Fold`.

        Args:
            data: the folder of the data set.
            fold: name of the fold.
            labels: what the labels count in.
            places: where clips are.
            fps: frames per second of folders of frames.

        Raises:
            UsageError: where lists are not there.
            ConfigError: for what is wrong in one of them, with file and line.
        """


@dataclass(frozen=True)
class Dataset:
    """What ``--dataset`` takes.

    Attributes:
        name: lower case.
        title: for people.
        labels: the label set of its items; ``None`` of a table of one's own, which says it itself.
        read: reads its lists; ``None`` of a table of one's own.
        folds: names of its folds; empty of a table of one's own.
        test: how many test items of each class a fold has by its authors' lists, by fold; empty where that is not known.
        train: the same of the items to learn from.
        clips: folders in which its clips are looked for, below the folder of the data set or one folder further down.
        fps: frames per second that are taken for its folders of frames, where nobody says another.
    """

    name: str
    title: str
    labels: LabelSet | None
    read: Reader | None
    folds: tuple[str, ...] = ("1",)
    test: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    train: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    clips: tuple[str, ...] = ()
    fps: float = 25.0
