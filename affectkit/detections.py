"""What a face detector found in one frame, as parallel arrays, and how far two detectors agree. Boxes are x0, y0, x1, y1 in pixels of the frame."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from affectkit.errors import PluginError
from affectkit.evidence import Evidence

SURE, UNSURE = 0.7, 0.5  # scores of the faces that another detector must find, and that it may find
LARGE = 40.0  # pixels: smaller faces need not be found
SAME, NEAR = 0.5, 0.3  # intersection over union of a face that is found, and of a box that is not false


@dataclass(frozen=True)
class Detections:
    """The faces of one frame, as parallel arrays.

    Attributes:
        boxes: (K, 4) float32 x0, y0, x1, y1 in pixels of the frame; they may reach over its edge.
        scores: (K,) float32 in [0, 1].
        landmarks: (K, P, 2) float32 x, y in pixels of the frame, or ``None`` where the detector has none.

    >>> found = Detections(np.array([[10, 10, 50, 60], [0, 0, 8, 8]]), np.array([0.9, 0.4]))
    >>> len(found), found.area
    (2, array([2000.,   64.], dtype=float32))
    >>> len(found[found.scores > 0.5])
    1
    """

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray | None = None

    def __post_init__(self) -> None:
        boxes, scores = np.asarray(self.boxes, dtype=np.float32), np.asarray(self.scores, dtype=np.float32)
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise PluginError(f"boxes of faces must have the shape (K, 4), found {boxes.shape}")
        if scores.shape != boxes.shape[:1]:
            raise PluginError(f"{len(boxes)} boxes of faces need scores of the shape ({len(boxes)},), found {scores.shape}")
        if not np.isfinite(boxes).all() or (boxes[:, 2:] <= boxes[:, :2]).any():
            raise PluginError("boxes of faces must be finite x0, y0, x1, y1 with x0 < x1 and y0 < y1; did the detector return widths?")
        if not ((scores >= 0) & (scores <= 1)).all():
            raise PluginError(f"scores of faces must be in [0, 1], found {scores.tolist()}")
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "scores", scores)
        if self.landmarks is not None:
            landmarks = np.asarray(self.landmarks, dtype=np.float32)
            if landmarks.ndim != 3 or landmarks.shape[0] != len(boxes) or landmarks.shape[2] != 2:
                raise PluginError(f"landmarks of {len(boxes)} faces must have the shape ({len(boxes)}, P, 2), found {landmarks.shape}")
            object.__setattr__(self, "landmarks", landmarks)

    @classmethod
    def empty(cls) -> Detections:
        """No face.

        >>> len(Detections.empty())
        0
        """
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))

    @classmethod
    def from_evidence(cls, evidence: Evidence) -> Detections:
        """What a provider of kind ``"faces"`` returned for one frame; nothing where it has no evidence.

        Raises:
            PluginError: where boxes or scores are absent or have the wrong shape.
        """
        if not evidence.valid:
            return cls.empty()
        missing = [name for name in ("boxes", "scores") if evidence.data.get(name) is None]
        if missing:
            raise PluginError(f"evidence of faces needs boxes and scores, found {sorted(evidence.data)} without {' and '.join(missing)}")
        return cls(evidence.data["boxes"], evidence.data["scores"], evidence.data.get("landmarks"))

    def to_evidence(self) -> Evidence:
        """What a provider of kind ``"faces"`` returns for one frame."""
        if not len(self):
            return Evidence.none("faces", "no face")
        data = {"boxes": self.boxes, "scores": self.scores}
        return Evidence("faces", data if self.landmarks is None else {**data, "landmarks": self.landmarks})

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Any) -> Detections:
        """Some of the faces: an index, a slice, or an array of indices or booleans."""
        if isinstance(index, int | np.integer):
            index = [index]
        return Detections(self.boxes[index], self.scores[index], None if self.landmarks is None else self.landmarks[index])

    @property
    def area(self) -> np.ndarray:
        """(K,) float32 square pixels."""
        return (self.boxes[:, 2] - self.boxes[:, 0]) * (self.boxes[:, 3] - self.boxes[:, 1])

    @property
    def side(self) -> np.ndarray:
        """(K,) float32 longer side of each box in pixels."""
        return (self.boxes[:, 2:] - self.boxes[:, :2]).max(axis=1, initial=0.0)

    @property
    def centre(self) -> np.ndarray:
        """(K, 2) float32 x, y of each box's centre in pixels."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of every box of ``a`` with every box of ``b``.

    Args:
        a: (K, 4) x0, y0, x1, y1 in pixels.
        b: (L, 4) likewise.

    Returns:
        (K, L) float64 in [0, 1]; 0 for boxes without area.

    >>> iou(np.array([[0, 0, 2, 2]]), np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6]])).round(3)
    array([[1.   , 0.333, 0.   ]])
    """
    a, b = np.asarray(a, dtype=np.float64)[:, None], np.asarray(b, dtype=np.float64)[None]
    sides = np.maximum(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0)
    shared = sides.prod(axis=-1)
    union = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


@dataclass(frozen=True)
class Agreement:
    """How far a detector finds what another one does, over some frames; two of them add up.

    Attributes:
        frames: how many there are.
        faces: those that must be found.
        found: those of them that were.
        frames_with_faces: frames in which a face must be found.
        largest_found: those in which the largest was.
        false: boxes that meet no face, not even one that need not be found.
    """

    frames: int = 0
    faces: int = 0
    found: int = 0
    frames_with_faces: int = 0
    largest_found: int = 0
    false: int = 0

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(*(here + there for here, there in zip(astuple(self), astuple(other), strict=True)))

    @property
    def recall(self) -> float:
        """Share of the faces that were found; NaN without a face."""
        return self.found / self.faces if self.faces else float("nan")

    @property
    def recall_of_largest(self) -> float:
        """Share of the frames with a face whose largest was found; NaN without one."""
        return self.largest_found / self.frames_with_faces if self.frames_with_faces else float("nan")

    @property
    def false_per_frame(self) -> float:
        """False boxes per frame; NaN without a frame."""
        return self.false / self.frames if self.frames else float("nan")


def agreement(found: Detections, truth: Detections) -> Agreement:
    """How far what was found in a frame is what is taken for the truth.

    Faces of at least :data:`SURE` and with a longer side of more than :data:`LARGE` pixels must be found, at an intersection over union of at
    least :data:`SAME`. A box is false where it is below :data:`NEAR` with every face of at least :data:`UNSURE`, of any size.

    Args:
        found: of the detector that is measured.
        truth: of the other one.

    >>> truth = Detections(np.array([[0, 0, 50, 50], [60, 0, 120, 60], [0, 90, 9, 99]]), np.array([0.9, 0.8, 0.5]))
    >>> found = Detections(np.array([[0, 0, 50, 45], [0, 90, 9, 99], [80, 80, 99, 99]]), np.array([0.9, 0.9, 0.9]))
    >>> agreement(found, truth)
    Agreement(frames=1, faces=2, found=1, frames_with_faces=1, largest_found=0, false=1)
    """
    overlap = iou(truth.boxes, found.boxes)
    must = (truth.scores >= SURE) & (truth.side > LARGE)
    hit = overlap.max(axis=1, initial=0.0) >= SAME
    return Agreement(
        frames=1,
        faces=int(must.sum()),
        found=int((hit & must).sum()),
        frames_with_faces=int(must.any()),
        largest_found=int(must.any() and hit[np.argmax(np.where(must, truth.area, -1.0))]),
        false=int((overlap[truth.scores >= UNSURE].max(axis=0, initial=0.0) < NEAR).sum()),
    )
