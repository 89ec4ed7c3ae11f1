"""Faces: what a detector found, who is who from frame to frame, and the crops that modalities get.

Boxes are x0, y0, x1, y1 in pixels of the frame, times are seconds. A :class:`Tracker` follows faces over the sampled
frames of one medium; a :class:`FaceStore` cuts the crops at once and keeps them while their windows are open.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from affectkit.detections import Detections, iou
from affectkit.errors import PluginError
from affectkit.evidence import Evidence
from affectkit.media import Span
from affectkit.needs import Input, Sampling
from affectkit.tracking import Tracker

__all__ = ["Detections", "FaceStore", "Tracker", "crop", "iou", "pick", "within"]

GLIMPSE = 4  # who is seen in one of at least this many sampled frames is taken for a mistake of the detector
AS_PRESENT = 0.8  # subjects that reach this share of the highest presence count as equally present; the larger face is first
UNKNOWN_FPS = 25.0  # frames per second where a stride is asked of a medium that does not say its rate
EPS = 1e-6  # seconds; time stamps that differ by less are the same
ROUNDING = 1e-3  # seconds; a time stamp that misses a multiple of a period by less is that multiple, rounded


# crops


def crop(image: np.ndarray, box: np.ndarray, size: int, margin: float = 0.0) -> np.ndarray:
    """The square around a face, at the size that a model wants.

    Its side is the longer side of the box plus ``margin`` of it on each side, its centre that of the box. What lies outside
    the picture is filled with the picture's edge.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: (4,) x0, y0, x1, y1 in pixels.
        size: side of the result in pixels.
        margin: share of the longer side that is added on each side.

    Returns:
        (size, size, 3) uint8 RGB.

    >>> picture = np.arange(100, dtype=np.uint8).reshape(10, 10, 1).repeat(3, axis=2)
    >>> crop(picture, np.array([2, 4, 4, 5]), 2)[..., 0]
    array([[42, 43],
           [52, 53]], dtype=uint8)
    """
    import cv2

    left, top, side = _square(box, margin)
    height, width = image.shape[:2]
    if left >= 0 and top >= 0 and left + side <= width and top + side <= height:
        cut = image[top : top + side, left : left + side]
    else:
        rows = np.clip(np.arange(top, top + side), 0, height - 1)
        columns = np.clip(np.arange(left, left + side), 0, width - 1)
        cut = image[rows[:, None], columns[None]]
    if side == size:
        return np.ascontiguousarray(cut)
    return cv2.resize(cut, (size, size), interpolation=cv2.INTER_AREA if size < side else cv2.INTER_LINEAR)


def _square(box: np.ndarray, margin: float) -> tuple[int, int, int]:
    """Left, top and side of the square to cut, in whole pixels."""
    x0, y0, x1, y1 = (float(edge) for edge in box)
    side = max(x1 - x0, y1 - y0) * (1 + 2 * margin)
    pixels = max(1, round(side))
    return round((x0 + x1 - pixels) / 2), round((y0 + y1 - pixels) / 2), pixels


def within(times: np.ndarray, span: Span) -> np.ndarray:
    """Which times (N,) lie in a span: (N,) bool; the start counts even where the span has no length."""
    return ((times >= span.start - EPS) & (times < span.end - EPS)) | (np.abs(times - span.start) <= EPS)


def periods(times: np.ndarray, fps: float) -> np.ndarray:
    """Which period of ``1 / fps`` seconds, counted from time 0, a picture belongs to; Matroska rounds times to milliseconds.

    Args:
        times: (N,) seconds.
        fps: periods per second.

    Returns:
        (N,) int64.

    >>> periods(np.array([0.0, 0.033, 0.067, 0.1]), 30.0)
    array([0, 1, 2, 3])
    """
    return np.floor((times + ROUNDING) * fps).astype(np.int64)


def pick(times: np.ndarray, span: Span, wanted: Sampling | Input, native_fps: float | None = None) -> np.ndarray:
    """Which of the sampled pictures of a span are asked for; never one twice, and fewer where there are fewer.

    ``count`` spreads them evenly over the pictures that there are. ``count`` with ``stride`` takes pictures that many native
    frames apart, around the one nearest to the span's centre. ``fps`` takes the first picture of each period, with periods
    counted from time 0, so that overlapping windows choose the same pictures.

    Args:
        times: (N,) rising seconds.
        span: the window.
        wanted: count, stride and fps as in :class:`affectkit.needs.Sampling`.
        native_fps: frames per second of the medium, for ``stride``.

    Returns:
        (T,) rising int64 indices into ``times``.

    >>> times = np.arange(0, 4, 0.5)
    >>> pick(times, Span(0, 4), Sampling(count=4)), pick(times, Span(1, 4), Sampling(fps=1)), pick(times, Span(0, 4), Sampling(count=3, stride=25), 25)
    (array([1, 3, 5, 7]), array([2, 4, 6]), array([2, 4, 6]))
    """
    there = np.flatnonzero(within(np.asarray(times, dtype=np.float64), span))
    if not len(there):
        return there
    at = np.asarray(times, dtype=np.float64)[there]
    if wanted.fps is not None:
        return there[np.unique(periods(at, wanted.fps), return_index=True)[1]]
    count = wanted.count or 1
    if wanted.stride is None:
        return there if len(there) <= count else there[((np.arange(count) + 0.5) * len(there) / count).astype(np.int64)]
    native = native_fps or UNKNOWN_FPS
    step = wanted.stride / native
    middle = at[np.abs(at - (span.start + span.end) / 2).argmin()]
    places = middle + (np.arange(count) - count // 2) * step
    places = places[(places > at[0] - 0.5 / native) & (places < at[-1] + 0.5 / native)]
    distance = np.abs(at[None] - places[:, None])
    nearest = distance.argmin(axis=1)
    return there[np.unique(nearest[distance.min(axis=1) <= step / 2 + EPS])]


# the store


@dataclass(frozen=True)
class _Face:
    """One face in one sampled frame, with its crops by (size, margin)."""

    box: np.ndarray
    score: float
    landmarks: np.ndarray | None
    crops: Mapping[tuple[int, float], np.ndarray]


@dataclass
class _Sample:
    """One sampled frame: its time and the faces in it by track."""

    time: float
    faces: dict[int, _Face] = field(default_factory=dict)


class FaceStore:
    """The faces of one medium in its open windows, cut as the modalities want them.

    Crops are cut from the full frame when it passes by, one for each size and margin that anybody asked for, so that what
    one modality sees does not depend on the others. Nothing else of the frame is kept.

    Args:
        inputs: what is asked for; kinds other than ``"faces"`` are left out.
        native_fps: frames per second of the medium, for strides.
    """

    def __init__(self, inputs: Iterable[Input], native_fps: float | None = None) -> None:
        self.native_fps = native_fps
        self._cuts = tuple(dict.fromkeys((item.size or 0, item.margin) for item in inputs if item.kind == "faces"))
        self._samples: deque[_Sample] = deque()

    def __len__(self) -> int:
        """Number of crops that are kept."""
        return sum(len(face.crops) for sample in self._samples for face in sample.faces.values())

    def add(self, time: float, image: np.ndarray, detections: Detections, ids: np.ndarray) -> None:
        """Cuts the faces of one sampled frame.

        Args:
            time: seconds, later than that of the frame before.
            image: (H, W, 3) uint8 RGB.
            detections: its faces.
            ids: (K,) their tracks, from :meth:`Tracker.update`; -1 leaves a face out.
        """
        sample = _Sample(time)
        for index, track in enumerate(ids):
            if track >= 0:
                box = detections.boxes[index]
                crops = {(size, margin): crop(image, box, size, margin) for size, margin in self._cuts}
                landmarks = None if detections.landmarks is None else detections.landmarks[index]
                sample.faces[int(track)] = _Face(box, float(detections.scores[index]), landmarks, crops)
        self._samples.append(sample)

    def frames_sampled(self, span: Span) -> int:
        """Number of sampled frames in a span, with and without faces."""
        return len(self._within(span))

    def subjects(self, span: Span) -> list[tuple[int, float]]:
        """The tracks in a span and how present each is, the most present first.

        Presence is the sum of a subject's scores over the number of sampled frames. Subjects about as present as the first one
        (four fifths of it) are ordered by the mean area of their faces, so that of two people who are there all the time the one
        nearer to the camera is first, and whoever passes by is last. A face seen in a single one of four or more sampled frames is
        left out: more often than not it is none.

        >>> store, frame = FaceStore([Input("faces", count=4, size=8)]), np.zeros((90, 160, 3), np.uint8)
        >>> for i in range(4):
        ...     store.add(i / 4, frame, Detections(np.array([[0, 0, 20, 20], [30, 0, 70, 40]]), np.array([0.8, 0.8])), np.array([0, 1 if i >= 2 else -1]))
        >>> store.subjects(Span(0, 1))
        [(0, 0.8), (1, 0.4)]
        """
        samples = self._within(span)
        faces: dict[int, list[_Face]] = {}
        for sample in samples:
            for track, face in sample.faces.items():
                faces.setdefault(track, []).append(face)
        if len(samples) >= GLIMPSE:
            faces = {track: seen for track, seen in faces.items() if len(seen) > 1}
        presence = {track: round(sum(face.score for face in seen) / len(samples), 6) for track, seen in faces.items()}
        area = {track: float(np.mean([np.prod(face.box[2:] - face.box[:2]) for face in seen])) for track, seen in faces.items()}
        ordered: list[tuple[int, float]] = []
        left = sorted(presence)
        while left:
            enough = AS_PRESENT * max(presence[track] for track in left)
            best = max((track for track in left if presence[track] >= enough), key=lambda track: (area[track], presence[track], -track))
            ordered.append((best, presence[best]))
            left.remove(best)
        return ordered

    def place(self, span: Span, track: int) -> np.ndarray:
        """Where a subject is in a span: (4,) float64, the mean of its boxes x0, y0, x1, y1 in pixels of the frame."""
        return np.stack([face.box for _, face in self._seen(span, track)]).astype(np.float64).mean(axis=0)

    def evidence(self, span: Span, track: int, item: Input) -> Evidence:
        """The crops of one subject in a span, as ``item`` asks for them.

        Quality: ``face_size``, the median longer side of the boxes in pixels; ``face_score``, the mean score; ``face_share``, the
        share of the span's sampled frames in which the subject was seen.

        Raises:
            PluginError: where nobody announced this size and margin when the store was made.
        """
        seen = self._seen(span, track)
        chosen = pick(np.array([time for time, _ in seen]), span, item, self.native_fps)
        if not len(chosen):
            return Evidence.none("faces", "no face")
        return self._evidence([seen[i] for i in chosen], item, len(seen) / self.frames_sampled(span))

    def at(self, track: int, span: Span, item: Input) -> list[tuple[float, Evidence]]:
        """For frame units: the pictures that :meth:`evidence` has together, one by one with their times."""
        seen = self._seen(span, track)
        chosen = pick(np.array([time for time, _ in seen]), span, item, self.native_fps)
        return [(seen[i][0], self._evidence([seen[i]], item, 1.0)) for i in chosen]

    def forget(self, before: float) -> None:
        """Drops the frames before a time in seconds, and their crops."""
        while self._samples and self._samples[0].time < before - EPS:
            self._samples.popleft()

    def _within(self, span: Span) -> list[_Sample]:
        inside = within(np.array([sample.time for sample in self._samples]), span)
        return [sample for sample, keep in zip(self._samples, inside, strict=True) if keep]

    def _seen(self, span: Span, track: int) -> list[tuple[float, _Face]]:
        return [(sample.time, sample.faces[track]) for sample in self._within(span) if track in sample.faces]

    def _evidence(self, seen: Sequence[tuple[float, _Face]], item: Input, share: float) -> Evidence:
        cut = (item.size or 0, item.margin)
        if cut not in self._cuts:
            known = ", ".join(f"size {size} margin {margin:g}" for size, margin in self._cuts) or "none"
            raise PluginError(f"no crops of size {item.size} with margin {item.margin:g} were cut; announced were: {known}")
        faces = [face for _, face in seen]
        boxes, scores = np.stack([face.box for face in faces]), np.array([face.score for face in faces], dtype=np.float32)
        data: dict[str, np.ndarray] = {"crops": np.stack([face.crops[cut] for face in faces]), "boxes": boxes, "scores": scores}
        points = [face.landmarks for face in faces if face.landmarks is not None]
        if len(points) == len(faces):
            data["landmarks"] = np.stack(points)
        side = float(np.median((boxes[:, 2:] - boxes[:, :2]).max(axis=1)))
        quality = {"face_size": side, "face_score": float(scores.mean()), "face_share": share}
        return Evidence("faces", data, times=np.array([time for time, _ in seen]), quality=quality)
