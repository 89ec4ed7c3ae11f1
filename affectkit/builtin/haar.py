"""core/haar: frontal faces by OpenCV's cascade of Haar-like features, which works offline and needs no weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from affectkit.api import CheckpointError, Clip, ConfigError, Evidence, Frames, Needs, Provider
from affectkit.detections import Detections

if TYPE_CHECKING:
    import torch

CASCADE = "haarcascade_frontalface_alt2.xml"
SMALLEST = 20  # pixels: the window that the cascade was trained on
STEPS = (1.2, 1.1)  # factor between the sizes that are searched; the finer, slower one only where the first finds nothing
BORDER = 0.15  # share of the shorter side by which the picture is continued, so that a face that fills it can be found
INSIDE = 0.8  # share of its box that must lie in the picture,
CLOSE_UP = 0.5  # unless the box takes at least this share of the picture's shorter side
NESTED = 0.5  # share of the smaller square above which two overlapping ones are one face: the one with more finds
DOUBTFUL = 2.0  # overlapping finds at which a face scores 0.5

# The cascade's square reaches from the brows to below the lips. Medians over 590 faces that core/yunet found as well: where
# the face from forehead to chin lies in that square. With it the boxes of both detectors, and so the crops, agree.
CENTRE = (0.497, 0.525)
EXTENT = (0.852, 1.136)


@dataclass(frozen=True)
class HaarOptions:
    """Options of core/haar.

    Attributes:
        max_side: longer side in pixels that frames are shrunk to before they are searched; larger finds smaller faces and is slower.
        min_size: height of the smallest face that is looked for, as a share of the frame's shorter side, in [0, 1].
        neighbours: number of overlapping finds that make a face; fewer finds more faces and more that are none.
    """

    max_side: int = 480
    min_size: float = 0.04
    neighbours: int = 3

    def __post_init__(self) -> None:
        if self.max_side < SMALLEST:
            raise ConfigError(f"core/haar: max_side must be at least {SMALLEST} pixels, found {self.max_side}")
        if not 0 <= self.min_size <= 1:
            raise ConfigError(f"core/haar: min_size is a share of the frame in [0, 1], found {self.min_size}")
        if self.neighbours < 2:
            raise ConfigError(f"core/haar: neighbours must be at least 2, found {self.neighbours}")


class Haar(Provider):
    """Boxes and scores of the frontal faces of a frame.

    Viola and Jones: Robust real-time face detection. International Journal of Computer Vision 57 (2004); the cascade is by
    Lienhart, Kuranov and Pisarevsky (2003). A score is n / (n + 2) for n overlapping finds: it ranks faces, it is no probability.
    """

    name = "haar"
    kind = "faces"
    scope = "frame"
    needs = Needs(frames=Frames(count=1))
    Options = HaarOptions
    checkpoints: ClassVar = {}

    _cascade: Any = None

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Reads the cascade that OpenCV ships; it runs on the processor whatever the device."""
        import cv2
        from cv2.data import haarcascades

        path = Path(haarcascades) / CASCADE
        cascade = cv2.CascadeClassifier()
        if not path.is_file() or not cascade.load(str(path)):
            raise CheckpointError(
                f"core/haar: OpenCV {cv2.__version__} has no {path}; install opencv-python<5, which ships it, or choose core/yunet"
            )
        self._cascade = cascade

    def provide(self, clips: Sequence[Clip]) -> list[Evidence]:
        """Boxes (K, 4) and scores (K,) of each clip's one frame."""
        return [Evidence.none("faces", "no picture") if clip.frames is None else self._faces(clip.frames[0]) for clip in clips]

    def _faces(self, image: np.ndarray) -> Evidence:
        """Faces of one picture (H, W, 3) uint8 RGB, in its own pixels."""
        import cv2

        height, width = image.shape[:2]
        shrink = min(1.0, self.options.max_side / max(height, width))
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if shrink < 1:
            size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        for step in STEPS:
            corner, side, finds = self._squares(grey, step)
            if len(side):
                return Detections(_face_boxes(corner, side) / shrink, finds / (finds + DOUBTFUL)).to_evidence()
        return Evidence.none("faces", "no face")

    def _squares(self, grey: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the cascade finds in a picture (H, W) uint8: corners (K, 2) and sides (K,) in pixels, and numbers of finds (K,)."""
        import cv2

        short = min(grey.shape)
        border = round(BORDER * short)
        wide = cv2.copyMakeBorder(grey, border, border, border, border, cv2.BORDER_REPLICATE)
        smallest = max(SMALLEST, round(self.options.min_size * short / EXTENT[1]))
        least = self.options.neighbours - 1  # OpenCV keeps groups of more finds than this
        squares, finds = self._cascade.detectMultiScale2(wide, scaleFactor=step, minNeighbors=least, minSize=(smallest, smallest))
        corner = np.asarray(squares, dtype=np.float64).reshape(-1, 4)[:, :2] - border
        side = np.asarray(squares, dtype=np.float64).reshape(-1, 4)[:, 2]
        counts = np.asarray(finds, dtype=np.float64).ravel()
        keep = np.flatnonzero(_shown(corner, side, grey.shape[::-1]))
        keep = keep[_distinct(corner[keep], side[keep], counts[keep])]
        return corner[keep], side[keep], counts[keep]


def _shown(corner: np.ndarray, side: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Which squares, by corner (K, 2) and side (K,), lie in a picture of ``size`` (width, height), or fill it: (K,) bool."""
    inside = np.minimum(corner + side[:, None], size) - np.maximum(corner, 0)
    return (inside.clip(0).prod(axis=1) >= INSIDE * side**2) | (side >= CLOSE_UP * min(size))


def _distinct(corner: np.ndarray, side: np.ndarray, finds: np.ndarray) -> np.ndarray:
    """Indices of the squares, by corner (K, 2) and side (K,), that are left where of overlapping ones the one with more ``finds`` stays.

    >>> _distinct(np.array([[0.0, 0.0], [20.0, 40.0], [200.0, 0.0]]), np.array([100.0, 50.0, 100.0]), np.array([9.0, 3.0, 3.0]))
    array([0, 2])
    """
    kept: list[int] = []
    for index in np.argsort(-finds, kind="stable"):
        low, high = np.maximum(corner[index], corner[kept]), np.minimum(corner[index] + side[index], corner[kept] + side[kept, None])
        shared = (high - low).clip(0).prod(axis=1)
        if not (shared > NESTED * np.minimum(side[index], side[kept]) ** 2).any():
            kept.append(int(index))
    return np.array(sorted(kept), dtype=np.int64)


def _face_boxes(corner: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Boxes (K, 4) x0, y0, x1, y1 of the faces in the cascade's squares, by corner (K, 2) and side (K,), in pixels.

    >>> _face_boxes(np.array([[0.0, 0.0]]), np.array([1000.0]))
    array([[  71.,  -43.,  923., 1093.]])
    """
    centre, extent = corner + side[:, None] * CENTRE, side[:, None] * EXTENT
    return np.concatenate([centre - extent / 2, centre + extent / 2], axis=1)
