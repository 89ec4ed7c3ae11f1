"""Reads what people have annotated: tables, ABAW's annotation files, and lists of frames as submissions have them.

A table (CSV, TSV or Parquet) has a column ``media`` (or ``file``, ``video``, ``name``, ``clip``, ``video_name``, ``image``) and says when by ``start`` and ``end`` in seconds, by
``time`` in seconds, by ``frame`` counted from 1, or not at all, which is the whole medium. ``track`` chooses a subject. What is true stands in a column
``label``, or in one column per label::

    media,start,end,label             media,time,valence,arousal
    talk.mp4,0,4,happy                talk.mp4,2.5,0.4,-0.1

ABAW annotates frame by frame: a folder of ``VIDEO.txt``, or one of them, with the labels in the first line and one frame in each further line. Its
lists begin with ``image_location`` (or ``image``) and have lines ``VIDEO/00001.jpg,values``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from affectkit.cells import FORMS, SHOWN, Cells, as_number, floats, read_parquet, read_text, shown
from affectkit.errors import AffectKitError, ConfigError, did_you_mean, raise_all
from affectkit.labels import AU12, BASIC8, COMPOUND7, KNOWN, VA, LabelSet, canonical
from affectkit.references import Annotations, checked, one_hot, refuse_doubled

MEDIA = ("media", "file", "video", "name", "clip", "video_name", "image")
TIMES = (("start", "end"), ("time",), ("frame",))
LIST = "image_location"
MTL = ("valence", "arousal", "expression", "aus")
_UNIT = re.compile(r"au0*(\d+)")


def read(path: str | Path, labels: LabelSet | None = None, known: Mapping[str, LabelSet] = KNOWN) -> Annotations:
    """Reads annotations of any form.

    Args:
        path: file or folder.
        labels: the label set that they speak of. Without it, classes that are numbers are refused, names choose the smallest known set that has
            all of them, and columns are taken where a known set has them.
        known: label sets by name.

    Raises:
        ConfigError: where the path is absent, has none of the forms, or something in it is wrong; the message names file and line.
        Problems: where several things are.
    """
    path = Path(path)
    if path.is_dir():
        found = _folder(path)
    else:
        text = read_parquet(path) if path.suffix.lower() == ".parquet" else read_text(path)
        header = [_label(cell) for cell in text.header]
        if header and (header[0] == LIST or header == ["image", *MTL]):
            found = _list(text)
        elif not set(header) & set(MEDIA) and _abaw_set(header) is not None:
            found = _frames([text], path)
        else:
            return _sound(_table(text, header, labels, known))
    if labels is not None:
        if labels not in found.references:
            inside = ", ".join(s.name for s in found.references)
            raise ConfigError(f"{path} has labels of {inside}, not of {labels.name}: {', '.join(labels.labels)}")
        found = replace(found, references={labels: found.references[labels]})
    return _sound(found)


def _sound(found: Annotations) -> Annotations:
    """The annotations, where there are any and no row is annotated twice."""
    if not any((~np.isnan(values)).any() for values in found.references.values()):
        raise ConfigError(f"{found.path} has rows and no annotation in any of them: is it a template that is still to be filled?")
    refuse_doubled(found)
    return found


# tables


def _table(text: Cells, header: list[str], labels: LabelSet | None, known: Mapping[str, LabelSet]) -> Annotations:
    path = text.path
    media = next((header.index(name) for name in MEDIA if name in header), None)
    if media is None:
        raise ConfigError(f"{path} has no column media; found {shown(text.header)}. {FORMS}")
    doubled = sorted({name for name in header if name and header.count(name) > 1})
    if doubled:
        raise ConfigError(f"{path} has two columns that mean {', '.join(doubled)}: {shown(text.header)}")
    present = [names for names in TIMES if set(names) & set(header)]
    if len(present) > 1:
        raise ConfigError(f"{path} says when in several ways ({', '.join(n for names in present for n in names)}); keep one of them")
    if present == [("start", "end")] and not {"start", "end"} <= set(header):
        raise ConfigError(f"{path} has only one of the columns start and end; found {shown(text.header)}")
    wrong = {i: f"{len(row)} cells where the header has {len(header)}" for i, row in enumerate(text.rows) if len(row) > len(header)}
    text.fail(wrong)
    text = replace(text, rows=[row + [""] * (len(header) - len(row)) for row in text.rows])
    names = [cell.strip() for cell in text.column(media)]
    wrong |= {i: "no name of a medium" for i, name in enumerate(names) if not name}
    cells: dict[str, np.ndarray] = {
        name: floats(text, header.index(name), name, wrong) for name in ("start", "end", "time", "frame", "track") if name in header
    }
    start, end, frame, track = _when(cells, len(names), wrong)
    references, notes = _references(text, header, labels, known, wrong)
    text.fail(wrong)
    order = tuple(dict.fromkeys(names))
    index = {name: i for i, name in enumerate(order)}
    return Annotations(
        path=path,
        names=order,
        files=(path,) * len(order),
        media=np.array([index[name] for name in names], dtype=np.int64),
        start=start,
        end=end,
        frame=frame,
        track=track,
        line=np.array(text.lines, dtype=np.int64),
        references=references,
        notes=tuple(notes),
        unit=text.unit,
    )


def _when(cells: Mapping[str, np.ndarray], rows: int, wrong: dict[int, str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Start, end, frame and track of each row; what is wrong is added to ``wrong``."""
    nothing = np.full(rows, np.nan)
    start, end = cells.get("start", cells.get("time", nothing)), cells.get("end", cells.get("time", nothing))
    for i in np.flatnonzero(np.isnan(start) != np.isnan(end)):
        wrong.setdefault(int(i), "has only one of start and end")
    for i in np.flatnonzero(start > end):
        wrong.setdefault(int(i), f"start {start[i]:g} is after end {end[i]:g}")
    numbers = {}
    for name, least in (("frame", 1), ("track", 0)):
        values = cells.get(name, nothing)
        for i in np.flatnonzero(~np.isnan(values) & ((values < least) | (values != np.floor(values)))):
            wrong.setdefault(int(i), f"{name} must be a whole number from {least}, found {values[i]:g}")
        numbers[name] = np.nan_to_num(values, nan=least - 1).astype(np.int64)
    for i in np.flatnonzero(np.isnan(cells["time"])) if "time" in cells else ():
        wrong.setdefault(int(i), "has no time")
    for i in np.flatnonzero(np.isnan(cells["frame"])) if "frame" in cells else ():
        wrong.setdefault(int(i), "has no frame")
    return start, end, numbers["frame"], numbers["track"]


def _references(
    text: Cells, header: list[str], labels: LabelSet | None, known: Mapping[str, LabelSet], wrong: dict[int, str]
) -> tuple[dict[LabelSet, np.ndarray], list[str]]:
    """The columns that say what is true, per label set, and notes about them."""
    references: dict[LabelSet, np.ndarray] = {}
    keys = {*MEDIA, "start", "end", "time", "frame", "track", "label"}
    others = [name for name in header if name not in keys]
    if "label" in header and (labels is None or labels.kind == "categorical"):
        own, values = _named(text, header.index("label"), labels, known, wrong)
        references[own] = values
    notes = []
    for own in _sets(others, labels, known) if not (labels is not None and references) else ():
        if own.kind == "categorical" and references:
            raise ConfigError(f"{text.path} has a column label and columns {', '.join(own.labels)} beside it; keep one of them")
        columns = np.full((len(text.rows), len(own)), 0.0 if own.kind == "categorical" else np.nan)
        absent = []
        for c, label in enumerate(own.labels):
            at = next((header.index(name) for name in others if name == _label(label)), None)
            if at is None:
                absent.append(label)
            else:
                columns[:, c] = floats(text, at, label, wrong)
        values, problems = checked(columns, own)
        for i, problem in problems.items():
            wrong.setdefault(i, problem)
        if absent:
            notes.append(f"{text.path.name} has no column for {', '.join(absent)} of {own.name}")
        references[own] = values
    if not references:
        what = (
            f"label set {labels.name}: {', '.join(labels.labels)}"
            if labels is not None
            else "known label set; --set names the set of its labels"
        )
        raise ConfigError(f"{text.path} has no column label and none of a {what}; found {shown(text.header)}")
    return references, notes


def _named(
    text: Cells, column: int, labels: LabelSet | None, known: Mapping[str, LabelSet], wrong: dict[int, str]
) -> tuple[LabelSet, np.ndarray]:
    """A column of names, or of numbers of classes of ``labels``."""
    cells = [cell.strip() for cell in text.column(column)]
    numbers = [as_number(cell) for cell in cells]
    names = [canonical(cell) if cell and number is None else "" for cell, number in zip(cells, numbers, strict=True)]
    if labels is None:
        said = sorted(set(names) - {""})
        first = next((i for i, number in enumerate(numbers) if number is not None and number != -1), None)
        if first is not None:
            raise ConfigError(
                f"{text.path}, {text.unit} {text.lines[first]}: the label is the number {cells[first]}; name the label set that it counts in with --set, "
                "for instance --set basic8"
            )
        if not said:
            raise ConfigError(f"{text.path} has nothing in its column label")
        labels = _smallest(said, known) or LabelSet("labels", tuple(said))
    places = {_label(label): c for c, label in reversed(list(enumerate(labels.labels)))}
    index = np.full(len(cells), np.nan)
    for i, (name, number) in enumerate(zip(names, numbers, strict=True)):
        if number is not None:
            index[i] = number
        elif name in places:
            index[i] = places[name]
        elif name:
            wrong.setdefault(i, f"{cells[i]!r} is not in {labels.name}. {did_you_mean(name, labels.labels)}")
    values, problems = one_hot(index, labels)
    for i, problem in problems.items():
        wrong.setdefault(i, problem)
    return labels, values


def _sets(columns: Sequence[str], labels: LabelSet | None, known: Mapping[str, LabelSet]) -> Iterable[LabelSet]:
    """The label sets that columns of a table speak of."""
    if labels is not None:
        return [labels] if set(columns) & {_label(label) for label in labels.labels} else []
    found = []
    emotions = {_label(label) for s in known.values() if s.kind == "categorical" for label in s.labels}
    said = [name for name in columns if name in emotions]
    if said:
        found.append(_smallest(said, known) or LabelSet("labels", tuple(said)))
    if set(columns) & set(VA.labels):
        found.append(VA)
    units = [name for name in columns if _UNIT.fullmatch(name)]
    if units:
        found.append(AU12 if set(units) <= set(AU12.labels) else LabelSet("units", tuple(units), "multilabel"))
    return found


def _smallest(names: Iterable[str], known: Mapping[str, LabelSet]) -> LabelSet | None:
    """The smallest known set of classes that has all of these names."""
    fitting = [s for s in known.values() if s.kind == "categorical" and set(names) <= {_label(label) for label in s.labels}]
    return min(fitting, key=len, default=None)


# ABAW


def _abaw_set(header: Sequence[str]) -> LabelSet | None:
    """The label set of which a header has all the labels in order."""
    return next((s for s in (BASIC8, COMPOUND7, VA, AU12) if tuple(header) == s.labels), None)


def _folder(path: Path) -> Annotations:
    files = sorted(file for file in path.glob("*.txt") if not file.name.startswith("."))
    if not files:
        raise ConfigError(f"{path} has no VIDEO.txt in it; {FORMS}")
    return _frames([read_text(file) for file in files], path)


def _frames(texts: Sequence[Cells], path: Path) -> Annotations:
    """Files of one video each, in which line n after the header is frame n."""
    problems: list[AffectKitError] = []
    parts: list[tuple[Cells, dict[LabelSet, np.ndarray]]] = []
    sets: dict[LabelSet, Path] = {}
    for text in texts:
        own = _abaw_set([_label(cell) for cell in text.header])
        if own is None:
            problems.append(ConfigError(f"{text.path}, line 1: {shown(text.header)} are not the labels of an ABAW track"))
            continue
        sets.setdefault(own, text.path)
        try:
            parts.append((text, {own: _values(text, own)}))
        except AffectKitError as error:
            problems.append(error)
    raise_all(problems[:SHOWN])
    if len(sets) > 1:
        places = ", ".join(f"{own.name} in {file.name}" for own, file in sets.items())
        raise ConfigError(f"{path} mixes tracks ({places}); give a folder of one track")
    counts = np.array([len(text.rows) for text, _ in parts], dtype=np.int64)
    own = next(iter(sets))
    lines = np.concatenate([text.lines for text, _ in parts]).astype(np.int64)
    return _by_frame(
        path,
        [text.path.stem for text, _ in parts],
        [text.path for text, _ in parts],
        np.repeat(np.arange(len(parts)), counts),
        lines - 1,  # by the line, so that an empty one is a frame without annotation
        lines,
        {own: np.concatenate([values[own] for _, values in parts])},
    )


def _list(text: Cells) -> Annotations:
    """A list of ``VIDEO/00001.jpg`` with what is true of each."""
    header = tuple(_label(cell) for cell in text.header[1:])
    own = _abaw_set(header)
    if own is None and header != MTL:
        raise ConfigError(f"{text.path}, line 1: {shown(text.header)} is not the header of a list of an ABAW track")
    wrong: dict[int, str] = {}
    names, frames = [], []
    for i, row in enumerate(text.rows):
        place = PurePosixPath(row[0].strip())
        names.append(place.parent.name)
        frames.append(int(place.stem) if place.stem.isascii() and place.stem.isdigit() else 0)
        if not names[-1] or not frames[-1]:
            wrong[i] = f"{row[0]!r} is not VIDEO/NUMBER.jpg with a number from 1"
    text.fail(wrong)
    rest = Cells(text.path, text.header[1:], [row[1:] for row in text.rows], text.lines)
    if own is not None:
        references = {own: _values(rest, own)}
    else:
        cuts = ((VA, 0, 2), (BASIC8, 2, 3), (AU12, 3, 15))
        _widths(rest, 15, "1 valence, 1 arousal, 1 expression and 12 action units")
        references = {s: _values(Cells(text.path, [], [row[a:b] for row in rest.rows], text.lines), s) for s, a, b in cuts}
    order = tuple(dict.fromkeys(names))
    index = {name: i for i, name in enumerate(order)}
    media = np.array([index[name] for name in names], dtype=np.int64)
    numbers = np.array(frames, dtype=np.int64)
    return _by_frame(text.path, order, [text.path] * len(order), media, numbers, np.array(text.lines, dtype=np.int64), references)


def _values(text: Cells, labels: LabelSet) -> np.ndarray:
    """References of rows that hold one number of a class, or one number per label."""
    classes = labels.kind == "categorical"
    _widths(
        text,
        1 if classes else len(labels),
        f"one number of a class of {labels.name}" if classes else f"a number for each of {shown(labels.labels)}",
    )
    wrong: dict[int, str] = {}
    columns = [floats(text, c, "a value" if classes else labels.labels[c], wrong) for c in range(1 if classes else len(labels))]
    values, problems = one_hot(columns[0], labels) if classes else checked(np.stack(columns, axis=1), labels)
    text.fail({**problems, **wrong})
    return values


def _widths(text: Cells, width: int, what: str) -> None:
    text.fail({i: f"expected {what}, found {', '.join(row) or 'nothing'}" for i, row in enumerate(text.rows) if len(row) != width})


def _by_frame(
    path: Path,
    names: Sequence[str],
    files: Sequence[Path],
    media: np.ndarray,
    frame: np.ndarray,
    line: np.ndarray,
    references: Mapping[LabelSet, np.ndarray],
) -> Annotations:
    nothing, nobody = np.full(len(media), np.nan), np.full(len(media), -1, dtype=np.int64)
    return Annotations(
        path, tuple(names), tuple(files), media.astype(np.int64), nothing, nothing, frame.astype(np.int64), nobody, line, references
    )


def _label(cell: str) -> str:
    """A label as it is compared: its canonical name, action units without leading zeros."""
    name = canonical(cell)
    unit = _UNIT.fullmatch(name)
    return f"au{unit[1]}" if unit else name
