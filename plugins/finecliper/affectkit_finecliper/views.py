"""What FineCLIPER sees of a window: its crops, and pictures drawn from them, as frames at the same moments."""

from __future__ import annotations

import numpy as np

from affectkit.api import Evidence, Input
from affectkit.clip_sampling import spread

FRAMES = 16  # frames that the network reads
SIDE = 224  # pixels of a crop
MARGIN = 0.2  # share of the box around a face; landmarks need some of what is around it
FACES = Input("faces", count=FRAMES, size=SIDE, margin=MARGIN)
"""The crops that the modality reads and its providers draw over: who asks for the same gets the same."""

DRAWN = ("parsing", "landmarks")
"""Kinds of evidence with pictures drawn from crops: ``data["maps"]`` (T, S, S, 3) uint8 and ``data["valid"]`` (T,) bool, a row per crop."""


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
        rows = spread(len(maps), count)
    found: np.ndarray = maps[places[rows]]
    return found
