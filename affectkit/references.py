"""What people say is true: references of any label set in parallel arrays, and which medium of a run they are about. Times are seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from affectkit.cells import SHOWN
from affectkit.errors import AffectKitError, ConfigError, UsageError, raise_all
from affectkit.labels import LabelSet
from affectkit.media import MEDIA_SUFFIXES

Side = Literal["", "left", "right"]

NO_CLASS = -1.0  # how ABAW writes that a class or an action unit is not annotated
NO_QUANTITY = -5.0  # how ABAW writes that valence and arousal are not annotated
SUM_TOLERANCE = 0.01  # probabilities that people write have two decimals


@dataclass(frozen=True, eq=False)
class Annotations:
    """References, one row each; arrays run in parallel.

    A row is about a whole medium (``start`` is NaN and ``frame`` 0), a stretch of it (``start < end``), a moment (``start == end``) or a frame.

    Attributes:
        path: where they were read from.
        names: K names of media, as they are written there.
        files: K files in which they stand.
        media: (N,) int64 index of ``names``.
        start: (N,) float64 seconds, or NaN.
        end: (N,) float64 seconds, exclusive, or NaN.
        frame: (N,) int64 number of the frame counted from 1, or 0.
        track: (N,) int64 subject, or -1 where the row does not say.
        line: (N,) int64 line (or row) of the file.
        references: per label set (N, C) float64: rows of categorical sets sum to 1, units are 0 or 1; NaN where nothing is annotated.
        notes: what a person should know of how they were read.
        unit: ``"line"``, or ``"row"`` where a file has no lines.
    """

    path: Path
    names: tuple[str, ...]
    files: tuple[Path, ...]
    media: np.ndarray
    start: np.ndarray
    end: np.ndarray
    frame: np.ndarray
    track: np.ndarray
    line: np.ndarray
    references: Mapping[LabelSet, np.ndarray]
    notes: tuple[str, ...] = ()
    unit: str = "line"

    def __len__(self) -> int:
        return len(self.media)

    def where(self, row: int) -> str:
        """File and line of a row, for messages."""
        return f"{self.files[self.media[row]]}, {self.unit} {self.line[row]}"


@dataclass(frozen=True)
class Named:
    """The medium, and in a picture of several people the person, that a name stands for."""

    media: str
    side: Side = ""


def match(names: Iterable[str], media: Mapping[str, str]) -> dict[str, Named]:
    """Finds the media of a run that names stand for; names of other media are left out.

    A name is the id of a medium, or its file name with or without suffix and folders. Of a name that ends in ``_left`` or ``_right`` and is no
    medium itself, the rest is the medium and the end the person, as ABAW names its videos with two people.

    Args:
        names: as written in labels or in a list of frames.
        media: paths of the media of a run by id.

    Raises:
        UsageError: for names that several media have; the message lists them.
        Problems: where there are several.

    >>> match(["a.avi", "b_left", "c"], {"a": "/x/a.mp4", "b": "/x/b.mp4"})
    {'a.avi': Named(media='a', side=''), 'b_left': Named(media='b', side='left')}
    """
    exact: dict[str, list[str]] = {}
    for id, path in media.items():
        for key in _keys(path):
            exact.setdefault(key, []).append(id)
    found: dict[str, Named] = {}
    problems: list[AffectKitError] = []
    for name in names:
        sides: tuple[tuple[str, Side], ...] = ((name, ""),)
        stem = _without_suffix(name)
        for side in ("left", "right"):
            if stem.endswith(f"_{side}"):
                sides += ((stem.removesuffix(f"_{side}"), side),)
        for written, side in sides:
            ids = _candidates(written, media, exact)
            if len(ids) > 1:
                problems.append(UsageError(f"{name!r} may be {' or '.join(ids)} of the run; write the id"))
            if ids:
                found[name] = Named(ids[0], side)
                break
    raise_all(problems[:SHOWN])
    return found


def _candidates(name: str, media: Mapping[str, str], known: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """Ids that a name may stand for: the closest kind of agreement that any medium has."""
    if name in media:
        return [name]
    written = PurePosixPath(name.replace("\\", "/")).as_posix()
    bare = _without_suffix(written)
    for key in (written, bare, written.rpartition("/")[2], bare.rpartition("/")[2]):
        if ids := known.get(key):
            return ids
    return ()


def _keys(path: str) -> list[str]:
    """The tails of a path, with and without suffix."""
    parts = Path(path).parts
    tails = ["/".join(parts[-n:]) for n in range(1, len(parts) + 1)]
    return list(dict.fromkeys(key for tail in tails for key in (tail, _without_suffix(tail))))


def _without_suffix(name: str) -> str:
    suffix = PurePosixPath(name).suffix
    return name[: -len(suffix)] if suffix.lower() in MEDIA_SUFFIXES else name


def refuse_doubled(annotations: Annotations, media: np.ndarray | None = None) -> None:
    """Refuses rows that are about the same medium, subject and time.

    Args:
        annotations: the rows.
        media: (N,) what they are about, ``None`` for their names as written; rows of -1 are left out.

    Raises:
        ConfigError: for the first doubled rows; the message names both lines.
        Problems: for several.
    """
    media = annotations.media if media is None else media
    times = [np.nan_to_num(a, nan=-np.inf) for a in (annotations.start, annotations.end)]
    keys = np.stack([media, *times, annotations.frame, annotations.track], axis=1)
    order = np.lexsort(keys.T[::-1])  # stable: the earlier line first
    same = (keys[order][1:] == keys[order][:-1]).all(axis=1) & (media[order][1:] >= 0)
    pairs = sorted((int(order[i + 1]), int(order[i])) for i in np.flatnonzero(same))
    raise_all(
        [
            ConfigError(
                f"{annotations.where(row)}: {_about(annotations, row)} is already labelled in {annotations.unit} {annotations.line[before]}"
            )
            for row, before in pairs[:SHOWN]
        ]
    )


def _about(annotations: Annotations, row: int) -> str:
    name = annotations.names[annotations.media[row]]
    if annotations.frame[row]:
        return f"frame {annotations.frame[row]} of {name}"
    if np.isnan(annotations.start[row]):
        return name
    return f"{name} from {annotations.start[row]:g} to {annotations.end[row]:g} s"


def one_hot(index: np.ndarray, labels: LabelSet) -> tuple[np.ndarray, dict[int, str]]:
    """Classes by number as rows that sum to 1.

    Args:
        index: (N,) floats; -1 and NaN for what is not annotated.
        labels: their label set.

    Returns:
        (N, C) float64, NaN where nothing is annotated, and what is wrong with a row, by row.
    """
    silent = np.isnan(index) | (index == NO_CLASS)
    wrong = ~silent & ~((index == np.floor(index)) & (index >= 0) & (index < len(labels)))
    rows = np.zeros((len(index), len(labels)))
    rows[silent | wrong] = np.nan
    kept = np.flatnonzero(~silent & ~wrong)
    rows[kept, index[kept].astype(np.int64)] = 1.0
    last = len(labels) - 1
    said = f"is no class of {labels.name}, whose classes are 0 to {last}, and -1 for no annotation"
    return rows, {int(i): f"{index[i]:g} {said}" for i in np.flatnonzero(wrong)}


def checked(values: np.ndarray, labels: LabelSet) -> tuple[np.ndarray, dict[int, str]]:
    """Values as references: what is not annotated becomes NaN, units become 0 or 1.

    Args:
        values: (N, C) floats in the columns of ``labels``; NaN for what is not annotated, or -1 (units) or -5 (quantities) as ABAW writes it.
        labels: their label set.

    Returns:
        (N, C) float64, and what is wrong with a row, by row.
    """
    silent = NO_QUANTITY if labels.kind == "continuous" and not labels.low <= NO_QUANTITY <= labels.high else NO_CLASS
    if labels.kind != "continuous" or silent == NO_QUANTITY:
        values = np.where(values == silent, np.nan, values)
    if labels.kind == "categorical":
        values = np.where(
            np.isnan(values).any(axis=1, keepdims=True) & ~(values > 0).any(axis=1, keepdims=True), np.nan, np.nan_to_num(values)
        )
    outside = ~np.isnan(values) & ((values < labels.low) | (values > labels.high))
    wrong = {
        int(i): f"{labels.labels[c]} is {values[i, c]:g}, outside [{labels.low:g}, {labels.high:g}]"
        for i in np.flatnonzero(outside.any(axis=1))
        for c in np.flatnonzero(outside[i])[:1]
    }
    if labels.kind == "categorical":
        total = values.sum(axis=1)
        for i in np.flatnonzero(np.abs(total - 1) > SUM_TOLERANCE):
            wrong.setdefault(
                int(i), f"the values of {labels.name} sum to {total[i]:g} and not to 1; leave cells empty where nothing is annotated"
            )
    if labels.kind == "multilabel":
        values = np.where(np.isnan(values), np.nan, values >= 0.5)
    return values, wrong
