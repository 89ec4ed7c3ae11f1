"""What the sources of a run say where people have annotated it, and how well both agree. Times are seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from affectkit.errors import LabelError, UsageError
from affectkit.intervals import RESAMPLES, Score, Tally, scores, tally_classes, tally_dimensions, tally_units
from affectkit.labels import LabelSet, canonical, project
from affectkit.metrics import confusion_matrix, predicted_class
from affectkit.references import Annotations, Named, match, refuse_doubled
from affectkit.subjects import of_subject
from affectkit.tables import read_frames, read_info, read_subjects, read_timelines
from affectkit.timeline import Timeline, frame_ranges, overlap_mean

if TYPE_CHECKING:
    import pandas as pd

Unanswered = Literal["skip", "wrong"]

MAIN = {"categorical": "macro_f1", "multilabel": "mean_f1", "continuous": "mean_ccc"}
"""The metric by which sources of one kind of label set are ranked."""

LISTED = 6  # names in one message


@dataclass(frozen=True, eq=False)
class Placed:
    """Annotations in a run: the medium and the seconds that each row is about.

    Attributes:
        run: the run folder.
        annotations: N rows.
        named: the medium and the person of each of their names, ``None`` for what the run does not have.
        start: (N,) float64 seconds; NaN for whole media, and for frames that the medium does not have.
        end: (N,) float64 seconds.
        whole: (N,) bool, whether a row is about a whole medium.
        notes: what a person should know about it.
    """

    run: Path
    annotations: Annotations
    named: tuple[Named | None, ...]
    start: np.ndarray
    end: np.ndarray
    whole: np.ndarray
    notes: tuple[str, ...]

    @cached_property
    def media(self) -> tuple[str, ...]:
        """Ids of the media that are labelled."""
        return tuple(dict.fromkeys(named.media for named in self.named if named))

    @cached_property
    def videos(self) -> np.ndarray:
        """(N,) int64 index of ``media``, -1 for what the run does not have."""
        number = {id: i for i, id in enumerate(self.media)}
        return np.array([number[named.media] if named else -1 for named in self.named], dtype=np.int64)[self.annotations.media]

    @cached_property
    def groups(self) -> list[tuple[Named, int, np.ndarray]]:
        """The rows of the run by name and track: (G,) of the medium, the track, and positions of rows."""
        keys = np.stack([self.annotations.media, self.annotations.track], axis=1)
        found, group = np.unique(keys, axis=0, return_inverse=True)
        order = np.argsort(group.ravel(), kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(group.ravel(), minlength=len(found)))[:-1])
        return [
            (named, int(track), rows) for (name, track), rows in zip(found, parts, strict=True) if (named := self.named[name]) is not None
        ]


@dataclass(frozen=True, eq=False)
class Answers:
    """What one source says in the rows of annotations of one label set.

    Attributes:
        source: component id.
        labels: its own label set.
        reference: the label set of the annotations.
        names: C classes, units or dimensions: those of the reference first, then classes that only the source has.
        truth: (N, C) float64 references, NaN where nothing is annotated or the run does not have the medium.
        values: (N, C) float64, NaN where nothing is said.
        videos: (N,) int64, one number per medium; -1 for what the run does not have.
    """

    source: str
    labels: LabelSet
    reference: LabelSet
    names: tuple[str, ...]
    truth: np.ndarray
    values: np.ndarray
    videos: np.ndarray

    @property
    def asked(self) -> np.ndarray:
        """(N,) bool, rows with a reference."""
        return np.asarray(~np.isnan(self.truth).all(axis=1))

    @property
    def answered(self) -> np.ndarray:
        """(N,) bool, rows with a reference in which the source says something of it."""
        said = ~np.isnan(self.values)
        return np.asarray(self.asked & (said if self.reference.kind == "categorical" else said & ~np.isnan(self.truth)).any(axis=1))

    @property
    def unsaid(self) -> tuple[str, ...]:
        """Labels that occur in the reference and that the source says in none of its answers."""
        occurs = ~np.isnan(self.truth).all(axis=0) if self.reference.kind == "continuous" else (np.nan_to_num(self.truth) > 0).any(axis=0)
        return tuple(name for name, never, there in zip(self.names, self._never, occurs, strict=True) if never and there)

    @property
    def _never(self) -> np.ndarray:
        """(C,) bool, labels that the source says in none of its answers; none where it has no answers."""
        return np.asarray(np.isnan(self.values[self.answered]).all(axis=0) & self.answered.any())

    def tally(self, rows: np.ndarray | None = None, unanswered: Unanswered = "skip") -> Tally:
        """Sums per video.

        Args:
            rows: (N,) bool, the rows that count; ``None`` for all.
            unanswered: what becomes of rows that have a reference and no answer. Quantities cannot be wrong in this way and are left out.
        """
        kept = self.asked if rows is None else self.asked & rows
        truth, values, videos = self.truth[kept], self.values[kept], self.videos[kept]
        if self.reference.kind == "categorical":
            return tally_classes(predicted_class(truth), values, videos, self.names, len(self.reference), unanswered == "wrong")
        if self.reference.kind == "multilabel":
            return tally_units(truth, values, videos, self.names, self._never, unanswered == "wrong")
        return tally_dimensions(truth, values, videos, self.names)

    def confusion(self) -> np.ndarray | None:
        """(C, C + 1) int64 of categorical sets: rows are references, columns what was said; the last is no answer."""
        if self.reference.kind != "categorical":
            return None
        said = predicted_class(self.values[self.asked])
        size = len(self.names) + 1
        return confusion_matrix(predicted_class(self.truth[self.asked]), np.where(said < 0, size - 1, said), size)[:-1]


@dataclass(frozen=True, eq=False)
class Scored:
    """How well one source agrees with the annotations of one label set.

    Attributes:
        answers: what it says.
        scores: metrics with their intervals, by name.
        videos: how many media the scores rest on.
        unanswered: what became of rows without an answer.
    """

    answers: Answers
    scores: Mapping[str, Score]
    videos: int
    unanswered: Unanswered = "skip"

    @property
    def counted(self) -> np.ndarray:
        """(C,) int64: how many of the rows that were scored have each class or unit."""
        wrong = self.unanswered == "wrong"
        truth = self.answers.truth[self.answers.asked if wrong else self.answers.answered]
        if self.answers.reference.kind == "categorical":
            return np.bincount(predicted_class(truth), minlength=len(self.answers.names))
        return np.asarray((np.nan_to_num(truth) > 0).sum(axis=0))

    @property
    def coverage(self) -> float:
        """Share of the rows with a reference that were answered."""
        asked = int(self.answers.asked.sum())
        return float(self.answers.answered.sum() / asked) if asked else float("nan")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All sources of a run against annotations.

    Attributes:
        placed: the annotations in the run.
        scored: per label set of the annotations its sources, in the order of the run.
        left_out: why a source is not evaluated against a label set, by (label set, source).
        default: the source that a person wants to see first, per label set: the head, the fusion, or the best.
    """

    placed: Placed
    scored: Mapping[LabelSet, Sequence[Scored]]
    left_out: Mapping[tuple[str, str], str]
    default: Mapping[LabelSet, str]


def evaluate(
    run: str | Path, annotations: Annotations, *, resamples: int = RESAMPLES, seed: int = 0, unanswered: Unanswered = "skip"
) -> Evaluation:
    """Compares every source of a run with annotations, in the label set that the source speaks.

    Args:
        run: the run folder.
        annotations: what people say is true.
        resamples: resamples of the intervals; 0 for none.
        seed: of their random numbers.
        unanswered: whether rows without an answer are left out or count as wrong.

    Raises:
        UsageError: where the folder holds no run, or none of its media is annotated.
        LabelError: where no source speaks a label set of the annotations; the message shows both.
        Problems: for several annotations of the same row.
    """
    placed = place(annotations, run)
    found, left_out = answers(placed)
    scored: dict[LabelSet, list[Scored]] = {}
    for mine in found:
        tally = mine.tally(unanswered=unanswered)
        scored.setdefault(mine.reference, []).append(Scored(mine, scores(tally, resamples, seed), len(tally.videos), unanswered))
    recipe = read_info(run).get("recipe", {})
    default = {}
    for labels, rows in scored.items():
        main = {row.answers.source: row.scores[MAIN[labels.kind]].value for row in rows}
        default[labels] = first_choice(main, main, recipe)
    return Evaluation(placed, scored, left_out, default)


def place(annotations: Annotations, run: str | Path) -> Placed:
    """Finds the media, and the seconds of frames.

    Raises:
        UsageError: where none of the media is annotated, or a name stands for several.
        Problems: for rows that are annotated twice.
    """
    info = read_info(run)
    if "media" not in info:
        raise UsageError(f"the run {run} was stopped before its end; give its command again, which goes on with what is finished")
    records: Mapping[str, Mapping[str, Any]] = info["media"]
    found = match(annotations.names, {id: record["path"] for id, record in records.items()})
    if not found:
        raise UsageError(
            f"no medium of the run {run} is labelled in {annotations.path}: the labels are for {listed(annotations.names)}; "
            f"the run has {listed(records)}. Names must be those of the files, with or without suffix"
        )
    named = tuple(found.get(name) for name in annotations.names)
    subjects = {subject: i for i, subject in enumerate(dict.fromkeys(subject for subject in named if subject))}
    refuse_doubled(annotations, np.array([-1 if n is None else subjects[n] for n in named])[annotations.media])
    absent = [name for name in annotations.names if name not in found]
    unlabelled = sorted(set(records) - {subject.media for subject in found.values()})
    notes = [*annotations.notes]
    if absent:
        notes.append(f"{len(absent)} of {len(named)} labelled media are not in the run: {listed(absent)}")
    if unlabelled:
        notes.append(f"{len(unlabelled)} of {len(records)} media of the run have no labels: {listed(unlabelled)}")
    chosen = [name for name, subject in found.items() if subject.side] + ["a column track"] * bool((annotations.track >= 0).any())
    if chosen and info.get("recipe", {}).get("subjects") != "all":
        notes.append(
            f"the labels choose subjects ({listed(chosen)}), and the run has only the main one of each window; --subjects all analyses every one"
        )
    start, end = annotations.start.copy(), annotations.end.copy()
    whole = np.isnan(start) & (annotations.frame == 0)
    if annotations.frame.any():
        time, said = _times(annotations, named, run)
        start = np.where(annotations.frame > 0, time, start)
        end = np.where(annotations.frame > 0, time, end)
        notes += said
    return Placed(Path(run), annotations, named, start, end, whole, tuple(notes))


def answers(placed: Placed) -> tuple[list[Answers], dict[tuple[str, str], str]]:
    """What each source of the run says in the rows, and why a source is not asked, by (label set, source).

    Raises:
        LabelError: where no source speaks any of the label sets; the message shows both.
    """
    said: dict[str, dict[LabelSet, dict[str, list[Timeline]]]] = {}
    for timeline in read_timelines(placed.run):
        said.setdefault(timeline.source, {}).setdefault(timeline.labels, {}).setdefault(timeline.media_id, []).append(timeline)
    seen = {str(media): rows for media, rows in read_subjects(placed.run).groupby("media", sort=False)}
    found: list[Answers] = []
    left_out: dict[tuple[str, str], str] = {}
    for reference, truth in placed.annotations.references.items():
        for source, sets in said.items():
            own = max(sets, key=lambda labels: shared_labels(labels, reference))
            if not shared_labels(own, reference):
                left_out[reference.name, source] = why_not(list(sets), reference)
                continue
            values = _read(placed, sets[own], own, seen)
            truth_there = np.where((placed.videos < 0)[:, None], np.nan, truth)
            found.append(side_by_side(source, own, reference, truth_there, values, placed.videos))
    if not found:
        theirs = "; ".join(f"{labels.name}: {', '.join(labels.labels)}" for labels in placed.annotations.references)
        ours = "; ".join(f"{s.name}: {', '.join(s.labels)}" for s in dict.fromkeys(s for sets in said.values() for s in sets)) or "nothing"
        raise LabelError(
            f"no source of the run {placed.run} speaks the labels of {placed.annotations.path} ({theirs}); the run says {ours}"
        )
    return found, left_out


def side_by_side(source: str, own: LabelSet, reference: LabelSet, truth: np.ndarray, values: np.ndarray, videos: np.ndarray) -> Answers:
    """What a source says and what is true, in the same columns.

    Args:
        source: component id.
        own: its label set.
        reference: the label set of what is true.
        truth: (N, R) float64, NaN where nothing is known.
        values: (N, C) float64 of ``own``, NaN where nothing is said.
        videos: (N,) int64, one number per medium.
    """
    if reference.kind != "categorical":
        return Answers(source, own, reference, reference.labels, truth, project(values, own, reference, "drop")[0], videos)
    ours = {canonical(label) for label in reference.labels}
    further = dict.fromkeys(name for label in own.labels if (name := canonical(label)) not in ours)
    both = LabelSet("both", (*reference.labels, *further))
    equal = (truth == np.nanmax(truth, axis=1, initial=-np.inf, keepdims=True)).sum(axis=1) > 1
    wide = np.full((len(truth), len(both)), np.nan)
    wide[:, : len(reference)] = np.where(equal[:, None], np.nan, truth)  # of two classes that are as likely neither is true
    return Answers(source, own, reference, both.labels, wide, project(values, own, both, "error")[0], videos)


def _read(placed: Placed, timelines: Mapping[str, Sequence[Timeline]], labels: LabelSet, seen: Mapping[str, pd.DataFrame]) -> np.ndarray:
    """(N, C) float64: what one source says in each row; NaN where it says nothing."""
    out = np.full((len(placed.annotations), len(labels)), np.nan)
    for named, track, rows in placed.groups:
        mine = [t for t in timelines.get(named.media, ()) if track < 0 or t.track in (track, -1)]
        if mine:
            windows = of_subject(mine, seen.get(named.media, _nobody()), named.side)
            out[rows] = _over(windows, placed.start[rows], placed.end[rows], placed.whole[rows])
    return out


def _nobody() -> pd.DataFrame:
    import pandas as pd

    from affectkit.tables import SUBJECT_COLUMNS

    return pd.DataFrame(columns=list(SUBJECT_COLUMNS))


def _over(windows: Timeline, start: np.ndarray, end: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Values of windows as values of rows.

    A whole medium is the mean of its windows, a stretch the mean weighted by overlap, a moment the mean of the windows that cover it.
    """
    out = np.full((len(start), len(windows.labels)), np.nan)
    everywhere = np.tile([0, 1], (len(windows), 1))
    out[whole] = overlap_mean(windows.values, everywhere, 1, windows.valid)[0]
    moments = np.flatnonzero(~whole & (start == end))
    order = moments[np.argsort(start[moments], kind="stable")]
    ranges = frame_ranges(windows.start, windows.end, times=start[order])
    out[order] = overlap_mean(windows.values, ranges, len(order), windows.valid)[0]
    stretches = np.flatnonzero(~whole & (start < end))
    values = np.where(windows.valid[:, None], windows.values.astype(np.float64), np.nan)
    overlap = np.minimum(end[stretches, None], windows.end) - np.maximum(start[stretches, None], windows.start)
    inside = (windows.start == windows.end) & (start[stretches, None] <= windows.start) & (windows.start < end[stretches, None])
    weights = np.where(inside, 1.0, np.maximum(overlap, 0.0))  # a picture has no length; a medium has pictures only or none
    total, said = weights @ np.nan_to_num(values), weights @ (~np.isnan(values)).astype(np.float64)
    out[stretches] = np.divide(total, said, out=np.full_like(total, np.nan), where=said > 0)
    return out


def _times(annotations: Annotations, named: Sequence[Named | None], run: str | Path) -> tuple[np.ndarray, list[str]]:
    """(N,) seconds of the frames that rows are about, and notes."""
    frames = read_frames(run)
    time = np.full(len(annotations), np.nan)
    beyond, computed = [], []
    order = np.argsort(annotations.media, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(annotations.media, minlength=len(named)))[:-1])
    for name, subject, mine in zip(annotations.names, named, parts, strict=True):
        rows = mine[annotations.frame[mine] > 0]
        if subject is None or not len(rows) or subject.media not in frames:
            continue
        known = frames[subject.media]
        at = np.searchsorted(known.number, annotations.frame[rows])
        there = at < len(known.number)
        there[there] = known.number[at[there]] == annotations.frame[rows[there]]
        time[rows[there]] = known.time[at[there]]
        if not there.all():
            beyond.append(f"{name} ({(~there).sum()} of {len(rows)}, the medium has {len(known.number)})")
        if not known.exact and len(known.number):
            computed.append(name)
    notes = [f"frames that the medium does not have count as not answered: {listed(beyond)}"] if beyond else []
    if computed:
        notes.append(f"no picture was decoded, so the times of frames follow from the rate of the medium: {listed(computed)}")
    return time, notes


def shared_labels(labels: LabelSet, reference: LabelSet) -> int:
    """How many labels of a reference a set can say; 0 where their kinds differ."""
    own = {canonical(label) for label in labels.labels}
    return sum(canonical(label) in own for label in reference.labels) if labels.kind == reference.kind else 0


def why_not(sets: Sequence[LabelSet], reference: LabelSet) -> str:
    """Why none of a source's label sets can be scored against a reference."""
    kinds = sorted({labels.kind for labels in sets})
    names = " and ".join(labels.name for labels in sets)
    if reference.kind not in kinds:
        return f"{names} {'is' if len(sets) == 1 else 'are'} {' and '.join(kinds)}, {reference.name} is {reference.kind}"
    return f"{names} {'shares' if len(sets) == 1 else 'share'} no label with {reference.name}"


def first_choice(sources: Iterable[str], main: Mapping[str, float], recipe: Mapping[str, Any]) -> str:
    """The source that a person wants to see first: the head, else the fusion, else the best.

    Args:
        sources: those there are.
        main: by source the metric that ranks them; NaN is worst.
        recipe: that of the run.
    """
    there = list(sources)
    for kind in ("head", "fusion"):
        if recipe.get(kind) in there:
            return str(recipe[kind])
    return max(there, key=lambda source: float(np.nan_to_num(main[source], nan=-np.inf)))


def listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    """Names for a message, the first few of many."""
    every = list(names)
    return (", ".join(every[:LISTED]) or "nothing") + (f" and {len(every) - LISTED} more" if len(every) > LISTED else "")
