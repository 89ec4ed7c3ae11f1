"""Who is who from sampled frame to sampled frame, within a shot. Boxes are in pixels of the frame, times are seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from affectkit.detections import Detections, iou

OVERLAP = 0.3  # a face is the same face where its boxes of two sampled frames overlap by this much
REACH = 0.8  # or where its centre moved by less than this share of its side: a fast head at 5 frames a second
RESIZE = 1.6  # and then its side must not change by more than this factor
MAX_GAP = 1.0  # seconds that a subject may be out of sight without becoming another one
MAX_TRACKS = 16
EPS = 1e-6  # seconds; time stamps that differ by less are the same

HISTOGRAM = 8  # levels per colour
THUMBNAIL = (32, 18)  # pixels
CUT_COLOURS = 0.3  # share of the pixels that have to change their colour between two sampled frames of different shots
CUT_LAYOUT = 0.1  # and by how much, of the range, the small picture has to change on average


@dataclass
class _Track:
    """An open track: its id, where and when it was last seen, and in which of the tracker's frames."""

    id: int
    face: Detections
    time: float
    frame: int


class Tracker:
    """Gives the faces of consecutive sampled frames the ids of subjects, frame by frame.

    A face continues the track whose last box it overlaps, or, for a fast head, whose centre is near. A track ends where it
    is out of sight for longer than ``max_gap`` seconds, and all tracks end at a cut: who is seen after it is a new subject.

    Args:
        max_gap: seconds that a subject may be out of sight; one sampled frame without it never ends a track by itself.
        max_tracks: tracks open at the same time; the largest faces are followed.

    Attributes:
        dropped: faces that got no track because there were too many.
        cuts: times at which a new shot began, in seconds.

    >>> tracker, frame = Tracker(), np.zeros((90, 160, 3), np.uint8)
    >>> tracker.update(0.0, frame, Detections(np.array([[10, 10, 40, 40], [80, 10, 130, 70]]), np.array([0.9, 0.8])))
    array([1, 0])
    >>> tracker.update(0.2, frame, Detections(np.array([[82, 12, 132, 72]]), np.array([0.9])))
    array([0])
    """

    def __init__(self, max_gap: float = MAX_GAP, max_tracks: int = MAX_TRACKS) -> None:
        self.max_gap = max_gap
        self.max_tracks = max_tracks
        self.dropped = 0
        self.cuts: list[float] = []
        self._open: list[_Track] = []
        self._frames = 0
        self._next_id = 0
        self._look: _Look | None = None

    def update(self, time: float, image: np.ndarray, detections: Detections) -> np.ndarray:
        """The subjects of one sampled frame.

        Args:
            time: seconds, later than that of the frame before.
            image: (H, W, 3) uint8 RGB, for finding cuts.
            detections: its faces.

        Returns:
            (K,) int64 track ids; new ones count from 0 in order of appearance, larger faces first; -1 where a face is one too many.
        """
        look = _Look.of(image)
        if self._look is not None and look.is_cut_after(self._look):
            self.cuts.append(time)
            self._open = []
        self._look = look
        self._frames += 1
        self._open = [t for t in self._open if time - t.time <= self.max_gap + EPS or t.frame == self._frames - 1]
        ids = np.full(len(detections), -1, dtype=np.int64)
        for index, track in self._match(detections):
            ids[index] = track.id
            track.face, track.time, track.frame = detections[index], time, self._frames
        new = [index for index in np.argsort(-detections.area, kind="stable") if ids[index] < 0]
        for index in new:
            if len(self._open) >= self.max_tracks and not self._make_room(detections.area[index], ids):
                self.dropped += 1
                continue
            ids[index] = self._next_id
            self._open.append(_Track(self._next_id, detections[int(index)], time, self._frames))
            self._next_id += 1
        return ids

    def _match(self, detections: Detections) -> list[tuple[int, _Track]]:
        """Pairs of face and open track: the best overlaps first, then the nearest centres."""
        if not self._open or not len(detections):
            return []
        boxes = np.concatenate([track.face.boxes for track in self._open])
        sides = np.concatenate([track.face.side for track in self._open])
        centres = np.concatenate([track.face.centre for track in self._open])
        overlap = iou(detections.boxes, boxes)
        larger = np.maximum(detections.side[:, None], sides[None])
        smaller = np.minimum(detections.side[:, None], sides[None])
        moved = np.linalg.norm(detections.centre[:, None] - centres[None], axis=-1) / smaller
        near = (moved < REACH) & (larger < RESIZE * smaller)
        costs = np.where(overlap >= OVERLAP, -overlap, np.where(near, moved, np.inf))  # every overlap comes before every distance
        pairs: list[tuple[int, _Track]] = []
        while np.isfinite(costs).any():
            row, column = np.unravel_index(int(costs.argmin()), costs.shape)
            pairs.append((int(row), self._open[column]))
            costs[row, :] = costs[:, column] = np.inf
        return pairs

    def _make_room(self, area: float, ids: np.ndarray) -> bool:
        """Ends a track that is out of sight, or else the smallest face in sight if it is smaller than ``area``; false where none is."""
        victim = min(self._open, key=lambda track: (track.frame == self._frames, float(track.face.area[0])))
        if victim.frame == self._frames:
            if victim.face.area[0] >= area:
                return False
            self.dropped += 1
            ids[ids == victim.id] = -1
        self._open.remove(victim)
        return True


@dataclass(frozen=True)
class _Look:
    """What a frame looks like, for telling shots apart: its size, its colours, and the frame at thumbnail size."""

    shape: tuple[int, ...]
    colours: np.ndarray
    thumbnail: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray) -> _Look:
        import cv2

        small = cv2.resize(image, (4 * THUMBNAIL[0], 4 * THUMBNAIL[1]), interpolation=cv2.INTER_LINEAR)  # some of the pixels tell enough
        levels = (small // (256 // HISTOGRAM)).astype(np.int64)
        colours = np.bincount((levels @ np.array([HISTOGRAM**2, HISTOGRAM, 1])).ravel(), minlength=HISTOGRAM**3) / levels[..., 0].size
        thumbnail = cv2.resize(small, THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        return cls(image.shape, colours, thumbnail)

    def is_cut_after(self, before: _Look) -> bool:
        colours = np.abs(self.colours - before.colours).sum() / 2
        layout = np.abs(self.thumbnail - before.thumbnail).mean()
        return self.shape != before.shape or bool(colours > CUT_COLOURS and layout > CUT_LAYOUT)
