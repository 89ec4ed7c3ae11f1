"""Pictures drawn from the points of a face, aligned with the crop that they were found in."""

from __future__ import annotations

import numpy as np

from affectkit_finecliper import mesh

RADIUS = 2 / 224  # of a dot, as a share of the side of the picture
SHIFT = 4  # binary digits of a pixel that OpenCV draws with
WHITE = (255, 255, 255)

# Region by region, each over those before it. A contour that has collapsed, such as that of closed eyes, leaves nothing.
_LAYERS = (
    ("nose", (mesh.NOSE,)),
    ("brows", (mesh.RIGHT_BROW, mesh.LEFT_BROW)),
    ("eyes", (mesh.RIGHT_EYE, mesh.LEFT_EYE)),
    ("lips", (mesh.OUTER_LIPS,)),
    ("inner_mouth", (mesh.INNER_LIPS,)),
)


def dots(points: np.ndarray, size: int, radius: float = RADIUS) -> np.ndarray:
    """White dots on black.

    Args:
        points: (P, 2 or more) float x, y in pixels of a square picture, counted from its upper left corner; those outside are not seen.
        size: side of the picture in pixels.
        radius: of a dot, as a share of the side.

    Returns:
        (size, size, 3) uint8 RGB.

    >>> dots(np.array([[1.5, 1.5]]), 4, radius=0.1)[..., 0].tolist()
    [[0, 0, 0, 0], [0, 255, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    import cv2

    picture = np.zeros((size, size, 3), np.uint8)
    for x, y in _fixed(points, size):
        cv2.circle(picture, (int(x), int(y)), round(radius * size * 2**SHIFT), WHITE, cv2.FILLED, cv2.LINE_8, SHIFT)
    return picture


def region_labels(points: np.ndarray, size: int) -> np.ndarray:
    """Which region of the face every pixel is of.

    Args:
        points: (478, 2 or more) float, as in :func:`dots`.
        size: side of the picture in pixels.

    Returns:
        (size, size) uint8 places in :data:`affectkit_finecliper.mesh.REGIONS`.
    """
    import cv2

    fixed = _fixed(points, size)
    labels = np.zeros((size, size), np.uint8)
    # The hull of the whole mesh: the contour of the face runs through itself where a head is turned.
    cv2.fillConvexPoly(labels, cv2.convexHull(fixed[: mesh.MESH]), mesh.REGIONS.index("skin"), cv2.LINE_8, SHIFT)
    for region, contours in _LAYERS:
        for contour in contours:
            cv2.fillPoly(labels, [fixed[list(contour)]], mesh.REGIONS.index(region), cv2.LINE_8, SHIFT)
    return labels


def coloured(labels: np.ndarray) -> np.ndarray:
    """Regions in the colours of :data:`affectkit_finecliper.mesh.PALETTE`.

    Args:
        labels: (...) integers, places in :data:`affectkit_finecliper.mesh.REGIONS`.

    Returns:
        (..., 3) uint8 RGB.
    """
    colours = np.array(list(mesh.PALETTE.values()), np.uint8)
    found: np.ndarray = colours[labels]
    return found


def _fixed(points: np.ndarray, size: int) -> np.ndarray:
    """Points (P, 2) int32 as OpenCV draws them: the middle of the first pixel is 0, fractions are whole numbers. What is far outside is cut off."""
    places = np.clip(np.asarray(points, np.float64)[:, :2], -size, 2 * size) - 0.5
    return np.round(places * 2**SHIFT).astype(np.int32)
