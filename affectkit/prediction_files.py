"""Reading prediction files of others. C is classes; times are seconds.

Two kinds of file are read, and what is in them is found by its names:

  * Pickles of team RAS (``audio_25_predicts/dev_AFEW_feats.pkl``): a list of dictionaries with a name, probabilities and features.
  * CSV: one column per emotion, perhaps with a prefix for each source (``FS_Anger``), and what the row is about: ``media`` or ``video_name`` (or an
    ``image_location``), with ``start`` and ``end``, a ``frame``, a number in the name, or nothing. Files of AVCER
    (``static__VIDEO.csv``, ``dynamic__VIDEO.csv``, and sound with a column ``frames``) are about the video in their name.

Names such as ``01___0003`` are numbered windows, as team RAS cuts them; the label in a name such as ``clip___Angry_0003`` is left out of what is kept.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from affectkit.errors import AffectKitError, LabelError, UsageError, did_you_mean, raise_all
from affectkit.labels import AFFECTNET7, BASIC7, BASIC8, COMPOUND7, KNOWN, LabelSet, canonical
from affectkit.unpickling import read_pickle

NAMES = ("media", "video_name", "full_video_name", "audio_name", "file_name", "name", "image_location")
"""Columns, or keys, that say what a row is about."""

PREDICTIONS = ("predictions", "probs", "basic_predictions", "dynamic_predictions", "static_predictions")
FEATURES = ("features", "image_features", "static_features")
PREFIXES = {
    "A": "audio",
    "FS": "static_face",
    "FD": "dynamic_face",
    "T": "text",
    "S": "scene",
    "C": "clip",
    "NSP": "new_scene",
    "NSL": "new_scene_logits",
    "MMP": "multimodal",
    "MML": "multimodal_logits",
}
"""Sources by the prefix of their columns in the tables of team RAS."""

LOGITS = ("new_scene_logits", "multimodal_logits")
RENAMED = dict(zip(BASIC7.labels, AFFECTNET7.labels, strict=True))
SHOWN = 10  # problems of one file that are reported
SLACK = 0.02  # how far from 1 probabilities may sum

_NUMBERED = re.compile(r"(?P<video>.+?)___(?:(?P<frames>\d+)_\d+_|(?P<label>[A-Za-z]+)_)?(?P<index>\d{4,})")
_LABEL = re.compile(r"(?P<video>.+?)___(?P<label>[A-Za-z]+)")
_FRAME = re.compile(r"(?P<video>.+)/(?P<frame>\d+)\.\w+")


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes:
        fps: frames per second, for rows of frames.
        length: seconds of numbered windows.
        step: seconds from one numbered window to the next.
        logits: whether numbers are logits, of which the softmax is taken, wherever nothing tells.
        labels: label set of columns without names; ``None`` for the authors' own.
        media: (frames, frames per second) by medium, for those whose length is known.
    """

    fps: float | None = None
    length: float = 4.0
    step: float = 2.0
    logits: bool = False
    labels: LabelSet | None = None
    media: Mapping[str, tuple[int, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (("fps", self.fps), ("length", self.length), ("step", self.step)):
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{name} must be greater than 0, found {value}")


@dataclass(frozen=True)
class Row:
    """What one source says of one stretch of a medium.

    Attributes:
        media: name of the medium.
        start: seconds.
        end: seconds.
        values: (C,) probabilities by label set; NaN throughout where there is no evidence.
        features: (D,) numbers, or ``None``.
    """

    media: str
    start: float
    end: float
    values: Mapping[LabelSet, np.ndarray]
    features: np.ndarray | None = None


def read_media(path: Path) -> dict[str, tuple[int, float]]:
    """A table ``media,frames,fps`` of how long media are.

    Raises:
        UsageError: where it is absent or no such table.
    """
    found = {}
    _, rows, first = _table(path)
    for number, row in enumerate(rows, start=first):
        try:
            frames, fps = int(row["frames"]), float(row["fps"])
            if frames < 1 or not fps > 0:
                raise ValueError
            found[row["media"]] = (frames, fps)
        except (KeyError, ValueError):
            raise UsageError(
                f"{path}, line {number}: expected the columns media, frames and fps with numbers greater than 0, found {dict(row)}"
            ) from None
    return found


def window_of(name: str, reading: Reading) -> tuple[str, float, float]:
    """The medium that a name is about, and from when to when; the label in it is left out.

    Raises:
        UsageError: for a name that counts frames, where frames per second are not known.

    >>> window_of("000149120___Angry_0001.avi", Reading())
    ('000149120', 2.0, 6.0)
    """
    plain = name.replace("\\", "/")
    if match := _FRAME.fullmatch(plain):
        return _of_frame(match["video"], int(match["frame"]), reading)
    stem = PurePosixPath(plain).name
    stem = stem.rpartition(".")[0] or stem if re.search(r"\.[A-Za-z]\w{1,3}$", stem) else stem
    if match := _NUMBERED.fullmatch(stem):
        start = int(match["index"]) * reading.step
        if match["frames"] is not None:
            start += (int(match["frames"]) - 1) / _fps(match["video"], reading, name)
        return match["video"], start, start + reading.length
    if match := _LABEL.fullmatch(stem):
        stem = match["video"]
    return stem, 0.0, reading.length


def softmax(rows: np.ndarray) -> np.ndarray:
    """Rows (N, C) of logits as probabilities."""
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def read_predictions(path: Path, named: str, reading: Reading) -> Iterator[tuple[str, Row]]:
    """Source and row of all that a file says."""
    if path.suffix.lower() in (".pkl", ".pickle"):
        yield from _of_pickle(path, named, reading)
    elif path.suffix.lower() in (".csv", ".tsv"):
        yield from _of_table(path, named, reading)
    else:
        raise UsageError(f"{path} is neither CSV (.csv) nor a pickle (.pkl, .pickle); predictions of others are read from these")


def _of_pickle(path: Path, named: str, reading: Reading) -> Iterator[tuple[str, Row]]:
    found = read_pickle(path)
    if not isinstance(found, list) or not found or not all(isinstance(item, dict) for item in found):
        raise UsageError(f"{path} holds {type(found).__name__}; the predictions of team RAS are a list of dictionaries")
    source = named or _source_of(path)
    problems: list[AffectKitError] = []
    for number, item in enumerate(found):
        try:
            yield source, _of_item(item, path, reading)
        except UsageError as problem:
            problems.append(UsageError(f"{path}, entry {number}: {problem}"))
        if len(problems) == SHOWN:
            break
    raise_all(problems)


def _of_item(item: Mapping[str, Any], path: Path, reading: Reading) -> Row:
    about = item.get("metas", item)
    name = next((about[key] for key in NAMES if isinstance(about, dict) and key in about), None)
    if isinstance(name, list | tuple) and len(name) == 1:
        name = name[0]
    if not isinstance(name, str):
        raise UsageError(f"it has no name; expected one of {', '.join(NAMES)}, found {', '.join(map(str, item))}")
    values: dict[LabelSet, np.ndarray] = {}
    for key in (*PREDICTIONS, "compound_predictions"):
        if key not in item:
            continue
        said = item[key].get("emo") if isinstance(item[key], dict) else item[key]
        numbers = _numbers(said, key)
        labels = COMPOUND7 if key == "compound_predictions" else _labels_of(len(numbers), key, path, reading)
        if len(numbers) != len(labels):
            raise UsageError(f"{key} has {len(numbers)} numbers, and {labels.name} has {len(labels)} labels")
        values[labels] = _probabilities(numbers[None], reading.logits, f"{name}, {key}")[0]
    if not values:
        raise UsageError(f"it has no predictions; expected one of {', '.join(PREDICTIONS)}, found {', '.join(map(str, item))}")
    feature = next((item[key] for key in FEATURES if item.get(key) is not None), None)
    return Row(*window_of(name, reading), values, None if feature is None else _numbers(feature, "features").astype(np.float32))


def _labels_of(count: int, key: str, path: Path, reading: Reading) -> LabelSet:
    """The label set of so many numbers without names."""
    if reading.labels is not None:
        return reading.labels
    if count == 7 and "compound" in path.stem:
        return COMPOUND7
    if count == 7 and key == "static_predictions":
        return AFFECTNET7
    found = {7: BASIC7, 8: BASIC8}.get(count)
    if found is None:
        raise UsageError(f"{key} has {count} numbers, which could be any labels; say which with --order, one of {', '.join(KNOWN)}")
    return found


def _numbers(value: Any, key: str) -> np.ndarray:
    try:
        found = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.empty(0)
    found = found.reshape(-1) if found.ndim == 2 and 1 in found.shape else found
    if found.ndim != 1 or not found.size:
        raise UsageError(f"{key} must be a list of numbers")
    return found


def _of_table(path: Path, named: str, reading: Reading) -> Iterator[tuple[str, Row]]:
    header, rows, first = _table(path)
    columns = _columns(path, header, named)
    spans = list(_spans(path, header, rows, first, reading))
    problems: list[AffectKitError] = []
    for source, (labels, places, logits) in columns.items():
        numbers = np.full((len(rows), len(labels)), np.nan)
        for number, row in enumerate(rows):
            cells = [row[place].strip() for place in places]
            if any(cells):
                try:
                    numbers[number] = [float(cell) for cell in cells]
                except ValueError:
                    problems.append(UsageError(f"{path}, line {first + number}: {source} has a cell that is no number, in {cells}"))
            if len(problems) == SHOWN:
                raise_all(problems)
        numbers[(numbers == 0).all(axis=1)] = np.nan  # AVCER writes zeros where it has seen no face yet
        merged: dict[tuple[str, float, float], list[np.ndarray]] = {}
        for span, line in zip(spans, numbers, strict=True):
            merged.setdefault(span, []).append(line)
        said = np.stack([np.nanmean(lines, axis=0) if np.isfinite(lines).any() else lines[0] for lines in merged.values()])
        some = np.isfinite(said).all(axis=1)
        if some.any() and not problems:
            said[some] = _probabilities(said[some], logits or reading.logits, f"{path}, {source}")
        for (media, start, end), line, ok in zip(merged, said, some, strict=True):
            yield source, Row(media, start, end, {labels: line if ok else np.full(len(labels), np.nan)})
    raise_all(problems)


def _columns(path: Path, header: Sequence[str], named: str) -> dict[str, tuple[LabelSet, list[str], bool]]:
    """By source its label set, its columns in order, and whether they hold logits."""
    by_prefix: dict[str, dict[str, str]] = {}
    for column in header:
        prefix, _, rest = column.partition("_")
        known = prefix in PREFIXES and canonical(rest) in BASIC8.labels
        label = canonical(rest if known else column)
        if label in (*BASIC8.labels, *COMPOUND7.labels):
            by_prefix.setdefault(prefix if known else "", {})[label] = column
    out: dict[str, tuple[LabelSet, list[str], bool]] = {}
    for prefix, there in by_prefix.items():
        source = PREFIXES[prefix] if prefix else named or _source_of(path)
        if prefix and named:
            source = f"{named}_{source}"
        if prefix == "FS":
            there = {RENAMED.get(label, label): column for label, column in there.items() if label != "other"}
        for labels in (BASIC8, BASIC7, COMPOUND7):
            if set(labels.labels) <= set(there):
                raw = source in LOGITS or path.stem.startswith("dynamic__") or "frames" in header
                spoken = (
                    BASIC7 if labels == BASIC8 and "frames" in header else labels
                )  # AVCER leaves "other" of its sound out before the softmax
                out[source if labels != COMPOUND7 or len(by_prefix) == 1 else f"{source}_compound"] = (
                    spoken,
                    [there[label] for label in spoken.labels],
                    raw,
                )
                break
    if not out:
        raise UsageError(
            f"{path} has no columns for all of {', '.join(BASIC7.labels)} (or of compound7), with or without a prefix; found {', '.join(header)[:200]}"
        )
    return out


def _spans(
    path: Path, header: Sequence[str], rows: Sequence[Mapping[str, str]], first: int, reading: Reading
) -> Iterator[tuple[str, float, float]]:
    """What each row is about: medium, start and end; the first row is in line ``first``."""
    column = next((name for name in NAMES if name in header), None)
    video = re.sub(r"^(static__|dynamic__)", "", path.stem)
    for number, row in enumerate(rows):
        where = f"{path}, line {first + number}"
        try:
            if "frames" in header:  # AVCER's sound: 000012.jpg is the frame after twelve others
                yield _of_frame(video if column is None else row[column], int(row["frames"].partition(".")[0]) + 1, reading)
            elif column is None:
                yield _of_frame(video, number + 1, reading)
            elif "start" in header and "end" in header:
                start, end = float(row["start"]), float(row["end"])
                if not 0 <= start <= end < float("inf"):
                    raise ValueError
                yield window_of(row[column], reading)[0], start, end
            elif "frame" in header:
                yield _of_frame(PurePosixPath(row[column]).stem, int(float(row["frame"])), reading)
            else:
                yield window_of(row[column], reading)
        except ValueError:
            raise UsageError(f"{where}: start, end and frame must be numbers, found {dict(row)}") from None
        except UsageError as problem:
            raise UsageError(f"{where}: {problem}") from None


def _of_frame(video: str, frame: int, reading: Reading) -> tuple[str, float, float]:
    fps = _fps(video, reading, f"frame {frame} of {video}")
    return video, (frame - 1) / fps, frame / fps


def _fps(video: str, reading: Reading, what: str) -> float:
    known = reading.media.get(video, (0, reading.fps))[1]
    if known is None:
        raise UsageError(f"{what} is counted in frames; say how many there are in a second with --fps, or for each medium with --media")
    return known


def _probabilities(numbers: np.ndarray, logits: bool, what: str) -> np.ndarray:
    """Rows that sum to 1."""
    if not np.isfinite(numbers).all():
        raise UsageError(f"{what}: numbers that are not finite")
    if logits:
        return softmax(numbers)
    total = numbers.sum(axis=1, keepdims=True)
    if numbers.min() < -1e-6 or np.abs(total - 1).max() > SLACK:
        raise UsageError(
            f"{what}: these are no probabilities, their sum is from {total.min():.3g} to {total.max():.3g}; give --logits where they are logits"
        )
    return np.asarray(numbers.clip(0) / total)


def _source_of(path: Path) -> str:
    """A name for the source of a file: that of its folder of predictions, of its kind, or its own."""
    for kind, name in (("static__", "static_face"), ("dynamic__", "dynamic_face")):
        if path.stem.startswith(kind):
            return name
    if path.parent.name.endswith("_predicts"):
        return path.parent.name.removesuffix("_predicts")
    if "multimodal_predictions" in path.stem:
        return "multimodal"
    return re.sub(r"[^A-Za-z0-9_-]", "_", path.stem)


def _table(path: Path) -> tuple[list[str], list[dict[str, str]], int]:
    """Header and rows of a CSV or TSV, and the line of the first row.

    Raises:
        UsageError: where it is absent, no text, or empty.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
        above = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))  # comments before the header
        del lines[:above]
        reader = csv.DictReader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        rows = list(reader)
        header = [name for name in reader.fieldnames or [] if name]
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is no table in UTF-8 ({error})") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    if not rows:
        raise UsageError(f"{path} has no rows")
    if short := next((n for n, row in enumerate(rows, start=above + 2) if None in row or None in row.values()), None):
        raise UsageError(f"{path}, line {short}: it has more or fewer cells than the header")
    return header, rows, above + 2


def order_of(name: str) -> LabelSet:
    """The label set of that name.

    Raises:
        UsageError: where there is none.
    """
    if name not in KNOWN:
        raise UsageError(f"there is no label set {name!r}. {did_you_mean(name, KNOWN)}")
    if KNOWN[name].kind != "categorical":
        raise LabelError(f"{name} has no classes; predictions are imported as probabilities of classes")
    return KNOWN[name]
