"""What FineCLIPER sees of a window: its crops, and pictures drawn from them, as frames at the same moments."""

from __future__ import annotations

import numpy as np

from affectkit.api import Evidence, Input

FRAMES = 16  # frames that the network reads
SIDE = 224  # pixels of a crop
MARGIN = 0.2  # share of the box around a face; landmarks need some of what is around it
FACES = Input("faces", count=FRAMES, size=SIDE, margin=MARGIN)
"""The crops that the modality reads and its providers draw over: who asks for the same gets the same."""

DRAWN = ("parsing", "landmarks")
"""Kinds of evidence with pictures drawn from crops: ``data["maps"]`` (T, S, S, 3) uint8 and ``data["valid"]`` (T,) bool, a row per crop."""


def taken(count: int, frames: int) -> np.ndarray:
    """Which of some pictures become the frames: the middle ones of ``frames`` equal shares of the time.

    DFER-CLIP tests so (its segments; no random place in them). It fills short clips up with their last frame; here a short clip is slowed
    down evenly instead, because a still at the end would be read as motion that stops.

    Args:
        count: pictures that there are, at least 1.
        frames: how many are wanted.

    Returns:
        (frames,) int64 places, in order.

    >>> taken(32, 4)
    array([ 4, 12, 20, 28])
    >>> taken(2, 4)
    array([0, 0, 1, 1])
    """
    return ((2 * np.arange(frames) + 1) * count) // (2 * frames)


def nearest(valid: np.ndarray) -> np.ndarray | None:
    """For each of T pictures the nearest one that is valid, the earlier of two, or ``None`` where none is.

    Args:
        valid: (T,) bool.

    Returns:
        (T,) int64 places.

    >>> nearest(np.array([False, True, False, False, True]))
    array([1, 1, 1, 4, 4])
    """
    places = np.flatnonzero(valid)
    if not len(places):
        return None
    return places[np.abs(np.arange(len(valid))[:, None] - places).argmin(1)]


def drawn(evidence: Evidence | None, times: np.ndarray | None, count: int) -> np.ndarray | None:
    """One map per crop: its own, or the nearest that could be drawn.

    Args:
        evidence: what a provider of one of :data:`DRAWN` found, if any.
        times: (count,) seconds of the crops, where they are known.
        count: number of crops.

    Returns:
        (count, S, S, 3) uint8, or ``None`` where nothing could be drawn.
    """
    if evidence is None or not evidence.valid:
        return None
    maps, valid = np.asarray(evidence.data["maps"]), np.asarray(evidence.data["valid"], dtype=bool)
    places = nearest(valid)
    if places is None:
        return None
    if times is not None and evidence.times is not None:
        rows = np.abs(np.asarray(times)[:, None] - np.asarray(evidence.times)).argmin(1)
    else:
        rows = taken(len(maps), count)
    found: np.ndarray = maps[places[rows]]
    return found
