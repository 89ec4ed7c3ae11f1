"""The five tracks of the ABAW challenges that ask for an answer per frame: compound expressions, expressions, valence and arousal, action units, all of them.

A list and a submission are one file: a header, then ``VIDEO/NUMBER.jpg,VALUES``, frames counted from 1. The values of a label set
are numbers (valence and arousal), one index (expressions) or a 0 or 1 per unit; the header of a track need not have as many
names as its lines have values.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from affectkit.challenges import Asked, Problem, Submitter
from affectkit.errors import AffectKitError, ConfigError, UsageError, raise_all
from affectkit.labels import AU12, BASIC8, COMPOUND7, VA, LabelSet
from affectkit.metrics import ccc, confusion_matrix, f1_per_class, macro_f1, predicted_class, unit_f1
from affectkit.submission import listed

IMAGE = re.compile(r"(?P<video>.+)/(?P<frame>[0-9]+)\.jpg")

CEXPR_PRIORS = (14445, 24915, 10780, 10637, 10535, 10112, 8878)
"""Frames of each class in all of C-EXPR-DB (Kollias, CVPR 2023), in the order of ``COMPOUND7``; the test labels are not public."""


@dataclass(frozen=True)
class Line:
    """A line of a file: its number, counted from 1, the frame that it names, and its values as text."""

    number: int
    name: str
    video: str
    frame: int
    values: tuple[str, ...]


class ABAW(Submitter):
    """What the tracks share.

    Attributes:
        header: first line of a list and of a submission.
    """

    header: ClassVar[str]

    def read_template(self, template: Path) -> Asked:
        """The lines of the organisers' list; what stands behind the name of a frame is not read.

        Raises:
            UsageError: where it has another header, no lines, a line without a frame, a blank line or a frame twice.
        """
        lines, problems = self._parse(template)
        if not lines and not problems:
            problems.append(Problem(0, "the list asks for nothing: there is no line after the header"))
        raise_all(_as_errors(template, problems))
        return Asked(tuple(line.name for line in lines), tuple(line.video for line in lines), np.array([line.frame for line in lines]))

    def write(self, asked: Asked, answers: Mapping[LabelSet, np.ndarray], out: Path) -> None:
        """Writes the header and a line per frame."""
        columns = [self._texts(labels, answers[labels]) for labels in self.label_sets]
        rows = (",".join((name, *values)) for name, *values in zip(asked.names, *columns, strict=True))
        out.write_text("\n".join((self.header, *rows)) + "\n", encoding="utf-8", newline="\n")

    def check(self, file: Path, template: Path) -> list[Problem]:
        """What is wrong with a submission, in the order of its lines; what is missing comes last."""
        asked = self.read_template(template)
        lines, problems = self._parse(file)
        position = {name: index for index, name in enumerate(asked.names)}
        for line in lines:
            problems += self._check_values(line)
        problems += [Problem(line.number, f"{line.name} is not asked for", "unexpected") for line in lines if line.name not in position]
        known = [line for line in lines if line.name in position]
        for line in _out_of_order(known, [position[line.name] for line in known]):
            problems.append(Problem(line.number, f"{line.name} is line {position[line.name] + 2} of the list", "order"))
        if file.read_bytes().startswith(BOM_UTF8):
            problems.append(Problem(1, "begins with a byte order mark, which readers may take for a part of the header", "header"))
        problems.sort(key=lambda problem: problem.line)
        there = {line.name for line in lines}
        missing = [
            Problem(0, f"{name}, line {position[name] + 2} of the list, is missing", "missing") for name in asked.names if name not in there
        ]
        return [*problems, *missing]

    def recognises(self, file: Path) -> bool:
        """Whether its first line is the header of this track."""
        try:
            text = file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError):
            return False
        return _header(text.partition("\n")[0]) == _header(self.header)

    def score(self, file: Path, labels: Path) -> Mapping[str, float]:
        """The official metric over the frames that are annotated, and what it is made of.

        Raises:
            UsageError: where the file has problems, an annotated frame is not in it, or the labels are of another track.
        """
        from affectkit.annotations import read

        lines, problems = self._parse(file)
        problems += [problem for line in lines for problem in self._check_values(line)]
        raise_all(_as_errors(file, problems))
        known = read(labels)
        absent = [one.name for one in self.label_sets if one not in known.references]
        if absent:
            raise UsageError(
                f"{labels} has labels of {', '.join(one.name for one in known.references)}; {self.id} also needs {', '.join(absent)}"
            )
        position = {(line.video, line.frame): index for index, line in enumerate(lines)}
        frames = [(known.names[media], int(frame)) for media, frame in zip(known.media, known.frame, strict=True)]
        at = np.array([position.get(frame, -1) for frame in frames], dtype=np.int64)
        spoken = np.any([~np.isnan(known.references[one]).all(axis=1) for one in self.label_sets], axis=0)
        missing = [f"{frames[row][0]}/{frames[row][1]:05d}.jpg" for row in np.flatnonzero(spoken & (at < 0))]
        if missing:
            raise UsageError(
                f"{len(missing)} frames that {labels} annotates are not in {file}: {listed(missing)}. The metric is over every annotated frame: "
                "add them, or give only the labels of the videos that are in the file"
            )
        used = at >= 0
        parts = [
            _score(one, known.references[one][used], np.array([self._numbers(lines[index], one) for index in at[used]]))
            for one in self.label_sets
        ]
        total = {"sum": sum(next(iter(part.values())) for part in parts)} if len(parts) > 1 else {}
        counts = {"frames": float((spoken & used).sum()), "without_annotation": float(len(lines) - (spoken & used).sum())}
        return total | {name: value for part in parts for name, value in part.items()} | counts

    def _numbers(self, line: Line, labels: LabelSet) -> list[float]:
        return next([float(text) for text in texts] for one, texts in self._split(line.values) if one == labels)

    def _parse(self, file: Path) -> tuple[list[Line], list[Problem]]:
        """The lines of a list or a submission, each frame once, and what is wrong with them as lines."""
        texts = _read(file)
        if not texts:
            return [], [Problem(0, "is empty", "header")]
        problems = []
        begin = 1
        if _header(texts[0]) != _header(self.header):
            other = next((track.name for track in TRACKS if _header(track.header) == _header(texts[0])), None)
            whose = f", which is that of {other}" if other else ""
            problems.append(Problem(1, f"expected the header {self.header}, found {texts[0][:200]!r}{whose}", "header"))
            begin = 0 if _is_image(texts[0]) else 1
            if not any(map(_is_image, texts)):
                return [], problems  # a file of another kind: one problem is enough
        lines: dict[str, Line] = {}
        frames: dict[tuple[str, int], Line] = {}
        for number, text in enumerate(texts[begin:], begin + 1):
            name, *values = (part.strip() for part in text.split(","))
            found = IMAGE.fullmatch(name)
            if not text.strip():
                problems.append(Problem(number, "is blank", "blank"))
            elif found is None or int(found["frame"]) < 1:
                problems.append(Problem(number, f"{name[:80]!r} is no frame; expected VIDEO/NUMBER.jpg, frames counted from 1", "name"))
            else:
                line = Line(number, name, found["video"], int(found["frame"]), tuple(values))
                earlier = frames.setdefault((line.video, line.frame), line)
                if earlier is line:
                    lines[name] = line
                else:
                    problems.append(Problem(number, f"{name} is in line {earlier.number} already", "doubled"))
        return list(lines.values()), problems

    def _texts(self, labels: LabelSet, values: np.ndarray) -> list[str]:
        """The values of one label set as they stand in each line."""
        if labels.kind == "categorical":
            return [str(index) for index in predicted_class(values).tolist()]
        if labels.kind == "multilabel":
            return [",".join("1" if value >= self.options.threshold else "0" for value in row) for row in values.tolist()]
        return [",".join(f"{value:.6f}" for value in row) for row in (np.clip(values, labels.low, labels.high) + 0.0).tolist()]

    def _check_values(self, line: Line) -> Iterator[Problem]:
        width = sum(_width(labels) for labels in self.label_sets)
        if len(line.values) != width:
            yield Problem(line.number, f"{line.name} has {len(line.values)} values, expected {width}", "value")
            return
        for labels, texts in self._split(line.values):
            for name, text in zip(labels.labels if len(texts) > 1 else (labels.name,), texts, strict=True):
                if _value(labels, text) is None:
                    yield Problem(line.number, f"{line.name}: {name} is {text!r}, expected {_expected(labels)}", "value")

    def _split(self, values: Sequence[str]) -> Iterator[tuple[LabelSet, Sequence[str]]]:
        at = 0
        for labels in self.label_sets:
            yield labels, values[at : at + _width(labels)]
            at += _width(labels)


@dataclass(frozen=True)
class Threshold:
    """Options of tracks with action units.

    Attributes:
        threshold: an action unit is there where its probability is at least this.
    """

    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"threshold must be from 0 to 1, found {self.threshold}")


class CE(ABAW):
    """``core/abaw-ce``: compound expressions of C-EXPR-DB (6th to 9th ABAW), one index per line; macro F1 over the seven classes."""

    name = "abaw-ce"
    labels = COMPOUND7
    header = "image_location,Fearfully_Surprised,Happily_Surprised,Sadly_Surprised,Disgustedly_Surprised,Angrily_Surprised,Sadly_Fearful,Sadly_Angry"

    def remarks(self, answers: Mapping[LabelSet, np.ndarray]) -> Mapping[str, float]:
        """How far the answered classes are from those of C-EXPR-DB; a diagnostic, not a score.

        It is KL(prior || answers) in nats, by which Savchenko's HSEmotion notebooks (7th ABAW) compared models without labels; infinite
        where a class is never answered.
        """
        share = np.bincount(predicted_class(answers[COMPOUND7]), minlength=len(COMPOUND7)) / len(answers[COMPOUND7])
        prior = np.array(CEXPR_PRIORS) / sum(CEXPR_PRIORS)
        with np.errstate(divide="ignore"):
            return {"kl_from_cexpr_priors": float(np.sum(prior * np.log(prior / share)))}


class EXPR(ABAW):
    """``core/abaw-expr``: the eight expressions, one index per line; macro F1."""

    name = "abaw-expr"
    labels = BASIC8
    header = "image_location,Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"


class ValenceArousal(ABAW):
    """``core/abaw-va``: valence and arousal, two numbers from -1 to 1 per line; the mean of both CCC."""

    name = "abaw-va"
    labels = VA
    header = "image_location,valence,arousal"


class ActionUnits(ABAW):
    """``core/abaw-au``: twelve action units, a 0 or 1 for each per line; the mean of their F1."""

    name = "abaw-au"
    labels = AU12
    header = "image_location,AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26"
    Options = Threshold


class MTL(ABAW):
    """``core/abaw-mtl``: valence, arousal, expression and action units in one line; the sum of the three metrics."""

    name = "abaw-mtl"
    labels = (VA, BASIC8, AU12)
    header = "image,valence,arousal,expression,aus"
    Options = Threshold


TRACKS: tuple[type[ABAW], ...] = (CE, EXPR, ValenceArousal, ActionUnits, MTL)


def _score(labels: LabelSet, reference: np.ndarray, answers: np.ndarray) -> dict[str, float]:
    """The metric of one label set, first, and its parts.

    Args:
        labels: the label set.
        reference: (N, C); NaN where nothing is annotated.
        answers: (N, C) numbers, or (N, 1) classes of a categorical set.
    """
    if labels.kind == "categorical":
        confusion = confusion_matrix(predicted_class(reference), answers[:, 0].astype(np.int64), len(labels))
        return {"macro_f1": float(macro_f1(confusion, over="all")), **_each("f1", labels, f1_per_class(confusion))}
    if labels.kind == "multilabel":
        f1 = unit_f1(reference, answers)
        return {"mean_f1": float(f1.mean()), **_each("f1", labels, f1)}
    agreement = ccc(reference, answers)
    return {"mean_ccc": float(agreement.mean()), **_each("ccc", labels, agreement)}


def _each(metric: str, labels: LabelSet, values: np.ndarray) -> dict[str, float]:
    return {f"{metric}_{label}": float(value) for label, value in zip(labels.labels, values, strict=True)}


def _read(file: Path) -> list[str]:
    """The lines of a text file, without byte order mark, carriage returns and what follows the last line that is not blank.

    Raises:
        UsageError: where it cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is no text file in UTF-8 (byte {error.start})") from error
    lines = text.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    return [line.rstrip("\r") for line in lines]


def _is_image(line: str) -> bool:
    return IMAGE.fullmatch(line.partition(",")[0].strip()) is not None


def _header(line: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in line.strip().rstrip(",").split(","))


def _as_errors(file: Path, problems: Sequence[Problem], most: int = 20) -> list[AffectKitError]:
    errors: list[AffectKitError] = [UsageError(f"{file}{f', line {p.line}' if p.line else ''}: {p.message}") for p in problems[:most]]
    if len(problems) > most:
        errors.append(UsageError(f"{file}: {len(problems) - most} more lines like these"))
    return errors


def _out_of_order(lines: Sequence[Line], positions: Sequence[int]) -> list[Line]:
    """The fewest lines that would have to be moved: those outside a longest rising sequence of positions."""
    ends: list[int] = []  # smallest last position of a rising sequence, by its length
    last: list[int] = []  # its line
    before: list[int] = []
    for index, position in enumerate(positions):
        length = bisect_left(ends, position)
        before.append(last[length - 1] if length else -1)
        if length == len(ends):
            ends.append(position)
            last.append(index)
        else:
            ends[length], last[length] = position, index
    kept = set()
    at = last[-1] if last else -1
    while at >= 0:
        kept.add(at)
        at = before[at]
    return [line for index, line in enumerate(lines) if index not in kept]


def _width(labels: LabelSet) -> int:
    return 1 if labels.kind == "categorical" else len(labels)


def _value(labels: LabelSet, text: str) -> float | None:
    """A value of a line, ``None`` where it is not one."""
    if labels.kind != "continuous":
        top = len(labels) if labels.kind == "categorical" else 2
        return float(text) if re.fullmatch("[0-9]+", text) and int(text) < top else None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if labels.low <= value <= labels.high else None


def _expected(labels: LabelSet) -> str:
    if labels.kind == "categorical":
        return f"a whole number from 0 to {len(labels) - 1}"
    return "0 or 1" if labels.kind == "multilabel" else f"a number from {labels.low:g} to {labels.high:g}"
