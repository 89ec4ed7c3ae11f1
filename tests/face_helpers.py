"""Made faces and made shots."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from affectkit.faces import Detections

GREY = np.full((180, 320, 3), 128, np.uint8)


def faces(*boxes: Sequence[float], scores: Sequence[float] | None = None) -> Detections:
    """Detections with the given boxes, all of score 0.9 unless told otherwise."""
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), 0.9) if scores is None else np.array(scores))


def square(x: float, y: float, side: float = 40.0) -> tuple[float, float, float, float]:
    """A box by its centre."""
    return (x - side / 2, y - side / 2, x + side / 2, y + side / 2)


def scene(seed: int, size: tuple[int, int] = (180, 320)) -> np.ndarray:
    """A picture of blocks of random colours: two seeds are two shots."""
    blocks = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return cv2.resize(blocks, size[::-1], interpolation=cv2.INTER_NEAREST)
