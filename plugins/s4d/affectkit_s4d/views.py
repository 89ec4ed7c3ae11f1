"""Which frames of a clip S4D looks at: two views where it is measured or used, a drawn one where it learns. N is frames of a clip."""

from __future__ import annotations

import numpy as np

from affectkit.api import UsageError

FRAMES = 16  # of a view, as published
RATE = 25.0  # frames per second of a clip that does not say its own
STRIDES = {"dfew7": 4, "mafw11": 4, "ferv39k7": 1}
"""Native frames from one frame of a view to the next, by label set, as published; 4 of any other."""


def stride_of(labels: str) -> int:
    """The published stride of a data set with these labels, 4 of one that is not known."""
    return STRIDES.get(labels, 4)


def views(count: int, frames: int = FRAMES) -> np.ndarray:
    """The first and the last ``frames`` of what is sampled of a clip; a shorter one is one view, with its last frame repeated.

    The published test has four views, of which the two pairs are equal, because a square has no left and right part.

    Args:
        count: sampled frames, at least 1.
        frames: of a view.

    Returns:
        (V, frames) int64, V of 1 or 2.

    Raises:
        UsageError: where there are no frames.

    >>> views(3, 4), views(6, 4)
    (array([[0, 1, 2, 2]]), array([[0, 1, 2, 3],
           [2, 3, 4, 5]]))
    """
    if count < 1:
        raise UsageError("there are no frames to look at")
    starts = np.array([0]) if count <= frames else np.array([0, count - frames])
    return np.minimum(starts[:, None] + np.arange(frames), count - 1)


def measured_frames(count: int, stride: int, frames: int = FRAMES) -> np.ndarray:
    """Where S4D is measured: :func:`views` of every ``stride``-th frame of a clip of ``count`` frames, (V, frames) int64."""
    sampled = np.arange(0, count, stride)
    return sampled[views(len(sampled), frames)]


def training_frames(
    count: int, stride: int, random: np.random.Generator, frames: int = FRAMES, released_behaviour: bool = False
) -> np.ndarray:
    """Where it learns: a drawn stretch of the clip.

    By default every ``stride``-th frame from a drawn one on, and a drawn stretch of these; where there are too few the last is repeated, as in the test. As released, a
    clip that is not longer than a view gives ``count // stride`` frames spread over it, and then its last one over and over.

    Args:
        count: frames of the clip, at least 1.
        stride: native frames between two of a view.
        random: draws.
        frames: of a view.
        released_behaviour: whether it does as the authors' code.

    Returns:
        (frames,) int64, rising.

    >>> training_frames(12, 4, np.random.default_rng(0), released_behaviour=True)
    array([ 0,  6, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11])
    """
    if count < 1:
        raise UsageError("there are no frames to learn from")
    if released_behaviour:
        length = frames * stride
        if count <= length:
            spread = np.linspace(0, count, count // stride)
            places = np.concatenate([spread, np.full(frames - len(spread), count)])
            return np.clip(places, 0, count - 1).astype(np.int64)
        end = int(random.integers(length, count))
        return np.clip(np.linspace(end - length, end, frames), 0, end - 1).astype(np.int64)
    sampled = np.arange(int(random.integers(min(stride, count))), count, stride)
    first = int(random.integers(max(len(sampled) - frames, 0) + 1))
    return sampled[np.minimum(first + np.arange(frames), len(sampled) - 1)]
