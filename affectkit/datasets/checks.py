"""What is wrong with a data set: other counts than its authors', items in the lists of two folds, clips that are not there."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

from affectkit.cells import SHOWN, shown
from affectkit.datasets.catalogue import DATASETS
from affectkit.datasets.items import Fold, Item
from affectkit.pictures import PICTURE_SUFFIXES

FEW = 3  # absent clips that are named
Kind = Literal["counts", "shared", "missing"]


@dataclass(frozen=True)
class Flaw:
    """One thing that is wrong.

    Attributes:
        kind: ``"counts"`` where a list has other numbers of clips than its authors', ``"shared"`` where two folds are tested on the same items,
            ``"missing"`` where clips are not there.
        text: what it is, without a full stop.
    """

    kind: Kind
    text: str


def check(folds: Sequence[Fold], *, train: bool = True) -> tuple[Flaw, ...]:
    """Everything that is wrong with folds of one data set; clips are looked for and not opened.

    Args:
        folds: as :func:`affectkit.datasets.read` gave them, which has refused lists that share items within a fold.
        train: whether the items to learn from are looked at too.
    """
    found = [problem for fold in folds for problem in counts(fold, ("train", "test") if train else ("test",))]
    for one, other in combinations(folds, 2):
        both = sorted({item.id for item in one.test} & {item.id for item in other.test})
        if both:
            where = f"{one.dataset}: {len(both)} items are tested on in fold {one.name} and in fold {other.name}"
            found.append(Flaw("shared", f"{where}: {shown(both[:SHOWN])}"))
    items = {item.id: item for fold in folds for item in (*(fold.train if train else ()), *fold.test)}
    if gone := missing(folds[0].dataset, items.values()):
        found.append(Flaw("missing", gone))
    return tuple(found)


def missing(dataset: str, items: Collection[Item], what: str = "clips") -> str:
    """Which clips are not there and why, without a full stop; an empty text where all are.

    Args:
        dataset: name of the data set.
        items: of it.
        what: they are, for the text.
    """
    reasons = {path: _reason(path) for path in dict.fromkeys(item.path for item in items)}
    gone = [f"{item.id} ({reasons[item.path]})" for item in items if reasons[item.path]]
    if not gone:
        return ""
    more = f" and {len(gone) - FEW} more" if len(gone) > FEW else ""
    places = DATASETS[dataset].clips if dataset in DATASETS and len(gone) == len(items) else ()
    where = f"; without --clips their folder is one called {', '.join(places)}" if places else ""
    return f"{dataset}: {len(gone)} of {len(items)} {what} are not there: {', '.join(gone[:FEW])}{more}{where}"


def _reason(path: Path) -> str:
    if not path.exists():
        return f"no {path}"
    if path.is_dir():
        with os.scandir(path) as entries:
            if not any(Path(entry.name).suffix.lower() in PICTURE_SUFFIXES for entry in entries):
                return f"no pictures in {path}"
    return ""


def counts(fold: Fold, modes: Sequence[str]) -> list[Flaw]:
    """Lists that differ from those of the authors in how many items of each class they have.

    Args:
        fold: of any data set; of one that is not known nothing is said.
        modes: ``"train"`` and ``"test"``, or one of them.
    """
    dataset = DATASETS.get(fold.dataset)
    if dataset is None:
        return []
    found = []
    for mode in modes:
        items, known = (fold.train, dataset.train) if mode == "train" else (fold.test, dataset.test)
        here, expected = class_counts(items, len(fold.labels)), known.get(fold.name)
        if expected is None or here == expected:
            continue
        where = f"{fold.dataset}, fold {fold.name}: the {mode} list has {len(items)} items"
        if len(items) != sum(expected):
            found.append(Flaw("counts", f"{where}, and that of its authors has {sum(expected)}"))
            continue
        differ = (
            f"{count} of {name} and not {wanted}"
            for name, count, wanted in zip(fold.labels.labels, here, expected, strict=True)
            if count != wanted
        )
        found.append(Flaw("counts", f"{where} as that of its authors, and {', '.join(differ)}; are its labels in another order?"))
    return found


def class_counts(items: Iterable[Item], classes: int) -> tuple[int, ...]:
    """How many items each class has."""
    counts = [0] * classes
    for item in items:
        counts[item.label] += 1
    return tuple(counts)
