"""Data sets of clips with one label each: what to learn from and what to be tested on, kept apart.

:func:`read` gives one fold of a data set as :class:`Item` s; :func:`affectkit.datasets.checks.check` says what is wrong with several.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from affectkit.cells import SHOWN, shown
from affectkit.datasets.catalogue import DATASETS
from affectkit.datasets.items import MODES, Dataset, Fold, Item
from affectkit.datasets.places import Places, clips_folder
from affectkit.datasets.table import read_table
from affectkit.errors import AffectKitError, ConfigError, UsageError, did_you_mean, raise_all
from affectkit.labels import LabelSet

__all__ = ["DATASETS", "Dataset", "Fold", "Item", "folds", "read"]


def dataset(name: str) -> Dataset:
    """The data set of that name.

    Raises:
        UsageError: where there is none; offers the nearest.
    """
    if name not in DATASETS:
        raise UsageError(f"there is no data set {name!r}. {did_you_mean(name, DATASETS)}")
    return DATASETS[name]


def folds(name: str, data: str | Path, *, labels: LabelSet | None = None) -> tuple[str, ...]:
    """Names of the folds of a data set.

    Args:
        name: of the data set.
        data: its folder, which is read only where the data set does not have the same folds everywhere.
        labels: as in :func:`read`.
    """
    found = dataset(name)
    if found.folds:
        return found.folds
    return read_table(Path(data), labels, None, found.fps).folds


def read(
    name: str,
    data: str | Path,
    fold: str | int | None = None,
    *,
    clips: str | Path | None = None,
    fps: float | None = None,
    labels: LabelSet | None = None,
) -> Fold:
    """Reads one fold of a data set; the clips themselves are not opened and need not exist.

    Args:
        name: one of :data:`DATASETS`.
        data: the folder of the data set as its authors give it, or as S4D lays it out; a table of clips for ``"csv"``.
        fold: name of the fold; may be left out where there is only one.
        clips: the folder with the clips, where it is not found by its name or there are several.
        fps: frames per second of folders of frames; that of :class:`Dataset` where it is not given.
        labels: of a table of one's own, the label set of its labels.

    Raises:
        UsageError: for a data set, a fold or a folder that is not there; says what there is.
        ConfigError: for what is wrong in a list, with file and line, and where an item is both to learn from and to be tested on.
        Problems: for several of these.

    >>> read("dfwe", ".")
    Traceback (most recent call last):
    affectkit.errors.UsageError: there is no data set 'dfwe'. Did you mean dfew?
    """
    found, data = dataset(name), Path(data)
    if not data.exists():
        raise UsageError(f"there is no {data}; --data takes the folder of {found.title}")
    if labels is not None and found.labels is not None:
        raise UsageError(f"{name} has its own label set, {found.labels.name}; labels are for a table of your own")
    if fps is not None and not 0 < fps < float("inf"):
        raise UsageError(f"frames per second must be a positive number, found {fps}")
    made = _read(replace(found, fps=fps or found.fps), data, fold, None if clips is None else Path(clips), labels)
    raise_all(_mixed(made))
    return made


def _read(found: Dataset, data: Path, fold: str | int | None, clips: Path | None, labels: LabelSet | None) -> Fold:
    if found.labels is None or found.read is None:
        table = read_table(data, labels, clips, found.fps)
        chosen = _fold(found.name, table.folds, fold)
        train, test = (tuple(table.part(chosen, mode)) for mode in MODES)
        return Fold(found.name, chosen, table.labels, train, test)
    chosen = _fold(found.name, found.folds, fold)
    items, notes = found.read(data, chosen, found.labels, Places(clips_folder(data, found.clips, clips)), found.fps)
    return Fold(found.name, chosen, found.labels, tuple(items["train"]), tuple(items["test"]), tuple(notes))


def _fold(name: str, known: tuple[str, ...], wanted: str | int | None) -> str:
    if wanted is None and len(known) == 1:
        return known[0]
    if wanted is None:
        raise UsageError(f"{name} has the folds {', '.join(known)}; choose one with --fold")
    if str(wanted) not in known:
        raise UsageError(f"{name} has no fold {str(wanted)!r}. {did_you_mean(str(wanted), known)}")
    return str(wanted)


def _mixed(fold: Fold) -> list[AffectKitError]:
    """Items that are in both lists, and items that are twice in one."""
    problems: list[AffectKitError] = []
    where = f"{fold.dataset}, fold {fold.name}"
    names = {mode: [item.id for item in items] for mode, items in (("train", fold.train), ("test", fold.test))}
    both = sorted(set(names["train"]) & set(names["test"]))
    if both:
        problems.append(ConfigError(f"{where}: {len(both)} items are to learn from and to be tested on: {shown(both[:SHOWN])}"))
    for mode, own in names.items():
        if len(set(own)) < len(own):
            twice = [id for id, count in Counter(own).items() if count > 1]
            problems.append(ConfigError(f"{where}: {len(twice)} items are twice in the {mode} list: {shown(twice[:SHOWN])}"))
    return problems
