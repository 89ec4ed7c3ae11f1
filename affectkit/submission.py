"""From a run to an answer for every line of the organisers' list of a challenge. L is lines, C columns; times are seconds.

A video of the list becomes a series of values per frame: the mean over the windows that cover it. Smoothing, the policy for gaps
and the default answer what has no evidence of its own, and a report says how many lines each of them answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.challenges import Asked, Submitter
from affectkit.errors import AffectKitError, StoreError, UsageError, did_you_mean, raise_all
from affectkit.files import replacing
from affectkit.gaps import Gaps, Kernel
from affectkit.labels import LabelSet, canonical
from affectkit.references import Side
from affectkit.series import fill_rows, per_frame, per_video, seconds_of
from affectkit.speakers import Speaker, speaker
from affectkit.subjects import Video, find, of_subject
from affectkit.tables import FrameTimes, read_frames, read_info, read_subjects

if TYPE_CHECKING:
    import pandas as pd

LISTED = 8  # names in one sentence


@dataclass(frozen=True)
class Choices:
    """What a user decides about a submission.

    Attributes:
        gaps: how frames without evidence are filled, as in :func:`affectkit.gaps.fill`; only ``"published"`` crosses videos.
        smoothing: kernel and seconds as in :func:`affectkit.gaps.smooth`; ``None`` for none.
        sources: component ids by name of a label set, where the run has several that say it.
        defaults: (C,) values by name of a label set, for lines that nothing else answers.
    """

    gaps: Gaps = "hold"
    smoothing: tuple[Kernel, float] | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class VideoReport:
    """How the list and the file differ in one video.

    Attributes:
        name: as the list calls it.
        media: id of the medium; empty where the run has none.
        side: which person of the picture; empty for the one most present.
        lines: how many lines ask for it.
        frames: how many frames the file has; 0 where it is not in the run or where whole videos are asked for.
        extra: lines that ask for frames that the file does not have.
        beyond: seconds that the list goes beyond the end of the file.
        unasked: frames of the file that no line asks for.
        exact: whether the times of the frames were read from the file; ``False`` where no picture was decoded and they follow from its rate.
    """

    name: str
    media: str
    side: Side
    lines: int
    frames: int
    extra: int
    beyond: float
    unasked: int
    exact: bool = True


@dataclass(frozen=True)
class SetReport:
    """How the lines were answered for one label set.

    Attributes:
        labels: the label set.
        source: component id.
        spoken: the label set that the source speaks, another one where it was projected.
        evidence: lines answered from windows that cover them.
        filled: lines answered by the policy for gaps.
        crossed: those of them that were filled from another video, which only the policy ``"published"`` does.
        default: lines answered by the default.
        unsaid: labels that the source cannot say anywhere in these lines.
    """

    labels: LabelSet
    source: str
    spoken: LabelSet
    evidence: int
    filled: int
    crossed: int
    default: int
    unsaid: tuple[str, ...]


@dataclass(frozen=True)
class Answered:
    """Answers to every line of a list, and how they came about.

    Attributes:
        asked: the lines.
        values: (L, C) float64 by label set, as :meth:`affectkit.challenges.Submitter.write` takes them.
        sets: a report per label set.
        videos: a report per video of the list, in its order.
        unasked: media of the run that the list does not ask for.
    """

    asked: Asked
    values: Mapping[LabelSet, np.ndarray]
    sets: tuple[SetReport, ...]
    videos: tuple[VideoReport, ...]
    unasked: tuple[str, ...]


def answer(run: str | Path, submitter: Submitter, asked: Asked, choices: Choices | None = None) -> Answered:
    """Answers every line of a list from a run.

    Args:
        run: the run folder.
        submitter: whose label sets are needed.
        asked: the lines of the list.
        choices: what the user decided.

    Raises:
        UsageError: where the run lacks a label set, several sources say it, a person cannot be told, or lines have neither evidence
            nor a default (:class:`affectkit.errors.Problems` for several).
    """
    choices = choices or Choices()
    info = read_info(run)
    records: Mapping[str, Mapping[str, Any]] = info.get("media", {})
    videos = find(asked, records)
    problems = _unknown_choices(submitter, choices)
    speakers: list[Speaker] = []
    for labels in submitter.label_sets:
        try:
            speakers.append(speaker(run, info, labels, submitter.id, choices.sources.get(labels.name)))
        except UsageError as problem:
            problems.append(problem)
    if info.get("recipe", {}).get("subjects") != "all":
        problems += _several_people(run, videos, speakers)
    raise_all(problems)
    seen = read_subjects(run)
    frames = read_frames(run) if asked.frames is not None else {}
    values, reports = {}, []
    for spoken in speakers:
        own, filled = _said(asked, spoken, videos, seen, frames, records, choices)
        report, values[spoken.labels] = _complete(asked, spoken, own, filled, choices)
        reports.append(report)
        prefix = f"{spoken.labels.name}=" if len(speakers) > 1 else ""
        problems += _unanswered(run, asked, spoken, values[spoken.labels], videos, frames, records, prefix)
    raise_all(problems)
    differences = tuple(_difference(video, asked, frames.get(video.media or "")) for video in videos)
    unasked = sorted(set(records) - {video.media for video in videos})
    return Answered(asked, values, tuple(reports), differences, tuple(unasked))


def submit(run: str | Path, submitter: Submitter, template: Path, out: Path, choices: Choices | None = None) -> Answered:
    """Answers a list, writes the submission, and checks what was written; ``out`` is whole, or as it was.

    Args:
        run: the run folder.
        submitter: the challenge.
        template: the organisers' list.
        out: the file to write.
        choices: what the user decided.

    Raises:
        UsageError: as :func:`answer`, or where the list is damaged.
        StoreError: where the file cannot be written, or the submitter wrote what its own check refuses.
    """
    if out.is_dir():
        raise UsageError(f"{out} is a folder; give a file")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {out.absolute().parent} to write {out.name} to")
    if out.exists() and template.exists() and out.samefile(template):
        raise UsageError(f"{out} is the organisers' list itself; give another name with --out")
    answered = answer(run, submitter, submitter.read_template(template), choices)
    try:
        with replacing(out) as temporary:
            submitter.write(answered.asked, answered.values, temporary)
            problems = submitter.check(temporary, template)
            if problems:
                told = "; ".join(f"line {p.line}: {p.message}" if p.line else p.message for p in problems[:LISTED])
                raise StoreError(f"{submitter.id} wrote a file that its own check refuses, so {out} is not written: {told}")
    except OSError as error:
        raise StoreError(f"cannot write {out}: {error.strerror or error}; make room or choose another place with --out") from error
    return answered


def default_of(labels: LabelSet, text: str) -> np.ndarray:
    """The row that a user gives for lines that nothing else answers.

    Args:
        labels: the label set.
        text: a label of a categorical set; the numbers of a continuous one, with commas; the labels of a multilabel set that
            are there, with commas, or ``none``.

    Returns:
        (C,) float64: 1 for labels that are there and 0 for the others, or the numbers.

    Raises:
        UsageError: for anything else.

    >>> from affectkit.labels import AU12, VA
    >>> default_of(VA, "0.5,-0.25").tolist(), default_of(AU12, "au1, au26")[[0, 11]].tolist()
    ([0.5, -0.25], [1.0, 1.0])
    """
    words = [word.strip() for word in text.split(",")]
    if labels.kind == "continuous":
        try:
            row = np.array([float(word) for word in words])
        except ValueError:
            row = np.empty(0)
        if len(row) != len(labels) or not bool(np.all((row >= labels.low) & (row <= labels.high))):
            raise UsageError(
                f"--default of {labels.name} is {len(labels)} numbers from {labels.low:g} to {labels.high:g} "
                f"({', '.join(labels.labels)}), for instance {_example(labels)}; found {text!r}"
            )
        return row
    row = np.zeros(len(labels))
    if labels.kind == "multilabel" and words == ["none"]:
        return row
    known = {canonical(label) for label in labels.labels}
    wrong = [word for word in words if canonical(word) not in known]
    if wrong or (labels.kind == "categorical" and len(words) > 1):
        what = "one of its labels" if labels.kind == "categorical" else "labels of it with commas, or none"
        raise UsageError(f"--default of {labels.name} is {what}; found {text!r}. {did_you_mean((wrong or words)[0], labels.labels)}")
    row[[labels.index(word) for word in words]] = 1.0
    return row


def listed(names: Iterable[str], most: int = LISTED) -> str:
    """Names in one sentence: the first of them, and how many more there are.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _said(
    asked: Asked,
    spoken: Speaker,
    videos: Iterable[Video],
    seen: pd.DataFrame,
    frames: Mapping[str, FrameTimes],
    records: Mapping[str, Mapping[str, Any]],
    choices: Choices,
) -> tuple[np.ndarray, np.ndarray]:
    """(L, C) values from evidence alone, and with the gaps within each video filled; NaN where there is neither."""
    own, filled = (np.full((len(asked), len(spoken.labels)), np.nan) for _ in range(2))
    by_media = {str(media): rows for media, rows in seen.groupby("media", sort=False)}
    problems: list[AffectKitError] = []
    for video in videos:
        if video.media is None or video.media not in spoken.timelines:
            continue
        try:
            rows = of_subject(spoken.timelines[video.media], by_media.get(video.media, seen.iloc[:0]), video.side)
        except UsageError as problem:
            problems.append(problem)
            continue
        if asked.frames is None:
            own[video.lines] = filled[video.lines] = per_video(rows)
        else:
            numbers = asked.frames[video.lines]
            found = per_frame(rows, numbers, frames.get(video.media), records[video.media], choices.gaps, choices.smoothing)
            own[video.lines], filled[video.lines] = found
    raise_all(problems)
    return own, filled


def _complete(asked: Asked, spoken: Speaker, own: np.ndarray, filled: np.ndarray, choices: Choices) -> tuple[SetReport, np.ndarray]:
    """The last steps: filling down the list as published, and the default; and how many lines each step answered."""
    labels = spoken.labels
    said = filled
    crossed = 0
    if choices.gaps == "published":
        said = fill_rows(labels, np.arange(len(asked)), filled, "published")
        known = np.where(_any(filled), np.arange(len(asked)), 0)
        before = np.maximum.accumulate(known)
        names = np.array(asked.videos)
        crossed = int(np.sum(_any(said) & ~_any(filled) & (names[before] != names)))
    evidence, answered = _any(own), _any(said)
    unsaid = tuple(label for column, label in enumerate(labels.labels) if answered.any() and np.isnan(said[:, column]).all())
    default = choices.defaults.get(labels.name)
    if default is not None:
        open_ = ~answered[:, None] if labels.kind == "categorical" else np.isnan(said)
        said = np.where(open_, default, said)
    report = SetReport(
        labels=labels,
        source=spoken.source,
        spoken=spoken.spoken,
        evidence=int(evidence.sum()),
        filled=int((answered & ~evidence).sum()),
        crossed=crossed,
        default=int((_any(said) & ~answered).sum()),
        unsaid=unsaid,
    )
    return report, said


def _unanswered(
    run: str | Path,
    asked: Asked,
    spoken: Speaker,
    said: np.ndarray,
    videos: Iterable[Video],
    frames: Mapping[str, FrameTimes],
    records: Mapping[str, Mapping[str, Any]],
    prefix: str,
) -> Iterator[AffectKitError]:
    """Lines that nothing answers, and labels that nothing says: the user decides what stands there."""
    labels, example = spoken.labels, prefix + _example(spoken.labels)
    lines = ~_any(said)
    lost = [video for video in videos if lines[video.lines].any()]
    if lost:
        told = [f"{video.name} ({_why(video, asked, frames, records)})" for video in lost]
        also = sorted(set(records) - {video.media for video in videos})
        yield UsageError(
            f"{len(lost)} of {len({*asked.videos})} videos of the list have nothing from {spoken.source} in the run {run}: {listed(told)}. "
            f"Analyse them, or say what their {int(lines.sum())} lines are to hold, for instance --default {example}"
            + (f". The run also has {listed(also)}, which the list does not ask for" if also else "")
        )
    missing = [label for column, label in enumerate(labels.labels) if np.isnan(said[~lines, column]).any()]
    if labels.kind != "categorical" and missing:
        yield UsageError(
            f"{spoken.source} cannot say {', '.join(missing)} of {labels.name} in all lines; choose another source with --source, "
            f"or say what is to stand there, for instance --default {example}"
        )


def _why(video: Video, asked: Asked, frames: Mapping[str, FrameTimes], records: Mapping[str, Mapping[str, Any]]) -> str:
    if video.media is None:
        return "not in the run"
    if asked.frames is not None and (video.media not in frames or not len(frames[video.media].number)):
        return f"of kind {records[video.media]['kind']}, without frames"
    return f"nobody on the {video.side}" if video.side else "no evidence"


def _difference(video: Video, asked: Asked, frames: FrameTimes | None) -> VideoReport:
    count = len(video.lines)
    if asked.frames is None or frames is None or not len(frames.number):
        return VideoReport(video.name, video.media or "", video.side, count, 0, 0, 0.0, 0)
    numbers = asked.frames[video.lines]
    outside = (numbers < frames.number[0]) | (numbers > frames.number[-1])
    return VideoReport(
        name=video.name,
        media=video.media or "",
        side=video.side,
        lines=count,
        frames=len(frames.number),
        extra=int(outside.sum()),
        beyond=max(0.0, float(seconds_of(frames, numbers).max() - frames.time[-1])),
        unasked=len(np.setdiff1d(frames.number, numbers)),
        exact=frames.exact,
    )


def _several_people(run: str | Path, videos: Iterable[Video], speakers: Iterable[Speaker]) -> list[AffectKitError]:
    """Names that choose one of several people, in a run that followed only one of them."""
    chosen = [video for video in videos if video.side and video.media is not None]
    people = {media for spoken in speakers for media, found in spoken.timelines.items() if any(t.track >= 0 for t in found)}
    names = [video.name for video in chosen if video.media in people]
    if not names:
        return []
    return [
        UsageError(
            f"{listed(names)} {'means' if len(names) == 1 else 'mean'} the person on one side of the picture, and the run {run} has only the "
            "person most present in each window; run again with --subjects all and another --out"
        )
    ]


def _unknown_choices(submitter: Submitter, choices: Choices) -> list[AffectKitError]:
    known = {labels.name for labels in submitter.label_sets}
    given = {"--source": choices.sources, "--default": choices.defaults}
    return [
        UsageError(f"{option} {name}=...: {submitter.id} has no label set {name!r}. {did_you_mean(name, known)}")
        for option, mapping in given.items()
        for name in mapping
        if name not in known
    ]


def _example(labels: LabelSet) -> str:
    if labels.kind == "continuous":
        return ",".join("0" for _ in labels.labels)
    return "none" if labels.kind == "multilabel" else labels.labels[0]


def _any(values: np.ndarray) -> np.ndarray:
    """(L,) bool: rows that say anything."""
    return np.asarray(~np.isnan(values).all(axis=1))
