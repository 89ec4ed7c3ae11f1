"""Which frames of a clip a network sees: positions from 0 in a clip of N frames, rising, and repeated where it has fewer than are wanted. T is frames."""

from __future__ import annotations

from typing import Literal

import numpy as np

from affectkit.errors import UsageError

Short = Literal["stretch", "hold"]


def spread(count: int, frames: int) -> np.ndarray:
    """The frame in the middle of each of T equal pieces, (T,) int64: all of the clip, and nothing random.

    Args:
        count: frames of the clip.
        frames: T.

    >>> spread(32, 4), spread(2, 4)
    (array([ 4, 12, 20, 28]), array([0, 0, 1, 1]))
    """
    _check(count, frames)
    return np.minimum((np.arange(frames) + 0.5) * count / frames, count - 1).astype(np.int64)


def segments(count: int, frames: int, random: np.random.Generator) -> np.ndarray:
    """A random frame of each of T equal pieces, (T,) int64 (Wang et al. 2016, https://arxiv.org/abs/1608.00859, section 3.1).

    Args:
        count: frames of the clip.
        frames: T.
        random: where the numbers come from.

    >>> (segments(32, 4, np.random.default_rng(0)) // 8).tolist()
    [0, 1, 2, 3]
    """
    _check(count, frames)
    return np.minimum((np.arange(frames) + random.random(frames)) * count / frames, count - 1).astype(np.int64)


def window(count: int, frames: int, stride: int, place: float, short: Short = "stretch") -> np.ndarray:
    """T frames that are ``stride`` apart, (T,) int64.

    Args:
        count: frames of the clip.
        frames: T.
        stride: distance in frames.
        place: where the window lies among all that fit, in [0, 1]: 0 at the start, 0.5 in the middle, 1 at the end; random in training.
        short: what becomes of a clip that is shorter than the window: ``"stretch"`` spreads T frames over it, ``"hold"`` repeats its last.

    >>> window(20, 4, 2, 0.5), window(5, 4, 2, 0.5), window(5, 4, 2, 0.5, "hold")
    (array([ 7,  9, 11, 13]), array([0, 1, 3, 4]), array([0, 2, 4, 4]))
    """
    _check(count, frames)
    span = (frames - 1) * stride + 1
    if count < span and short == "stretch":
        return spread(count, frames)
    first = int(min(place * (max(count - span, 0) + 1), max(count - span, 0)))
    return np.minimum(first + stride * np.arange(frames, dtype=np.int64), count - 1)


def _check(count: int, frames: int) -> None:
    if count < 1 or frames < 1:
        raise UsageError(f"there is no choosing {frames} frames of {count}; both must be at least 1")
