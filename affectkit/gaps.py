"""Frames without evidence: smoothing over those that have it, and the ways to fill the others. T is frames, C columns."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from affectkit.errors import UsageError

Kernel = Literal["box", "gaussian"]
Gaps = Literal["hold", "interpolate", "published"]

KERNELS: tuple[Kernel, ...] = get_args(Kernel)
POLICIES: tuple[Gaps, ...] = get_args(Gaps)

REACH = 4.0  # a gaussian ends at this many of its standard deviations: what is left out weighs 6e-5 of the whole
SAME = 1e-6  # seconds; time stamps that differ by less are the same


def smooth(times: np.ndarray, values: np.ndarray, kernel: Kernel, seconds: float) -> np.ndarray:
    """A weighted mean over the frames around each frame, per column over those that say something; a gap remains a gap.

    Args:
        times: (T,) seconds of the frames, not decreasing.
        values: (T, C); NaN says nothing.
        kernel: ``"box"``: the frames at most ``seconds / 2`` away, with equal weights. ``"gaussian"``: all frames, with the weights
            exp(-d^2 / (2 seconds^2)) of their distance d.
        seconds: the whole width of the box, or the standard deviation of the gaussian.

    Returns:
        (T, C) float64, NaN where ``values`` are.

    Raises:
        UsageError: for a width that is not positive, or another kernel.

    >>> smooth(np.arange(4.0), np.array([[0.0], [3.0], [np.nan], [1.0]]), "box", 2.0)[:, 0].tolist()
    [1.5, 1.5, nan, 1.0]
    """
    if kernel not in KERNELS:
        raise UsageError(f"smoothing is {' or '.join(KERNELS)}, not {kernel!r}")
    if not 0 < seconds < float("inf"):
        raise UsageError(f"smoothing needs seconds greater than 0, found {seconds}")
    times, values = np.asarray(times, dtype=np.float64), np.asarray(values, dtype=np.float64)
    reach = (seconds / 2 if kernel == "box" else REACH * seconds) + SAME
    first, after = np.searchsorted(times, times - reach, side="left"), np.searchsorted(times, times + reach, side="right")
    said = ~np.isnan(values)
    known = np.where(said, values, 0.0)
    out = np.full_like(values, np.nan)
    for frame in np.flatnonzero(said.any(axis=1)):
        near = slice(first[frame], after[frame])
        distance = times[near] - times[frame]
        weight = np.ones_like(distance) if kernel == "box" else np.exp(-0.5 * (distance / seconds) ** 2)
        np.divide(weight @ known[near], weight @ said[near], out=out[frame], where=said[frame])
    return out


def fill(times: np.ndarray, values: np.ndarray, policy: Gaps) -> np.ndarray:
    """Rows for frames that say nothing, from those of the same series that do.

    Args:
        times: (T,) seconds of the frames, not decreasing.
        values: (T, C); a row of NaN says nothing.
        policy: ``"hold"``: the last row before; ahead of the first, the first. ``"interpolate"``: linear in time between the rows
            around it, held at both ends. ``"published"``: the last row before, and nothing ahead of the first, as Team RAS filled its list.

    Returns:
        (T, C) float64; all NaN where no row says anything.

    Raises:
        UsageError: for another policy.

    >>> fill(np.arange(5.0), np.array([[np.nan], [1.0], [np.nan], [2.0], [np.nan]]), "interpolate")[:, 0].tolist()
    [1.0, 1.0, 1.5, 2.0, 2.0]
    """
    if policy not in POLICIES:
        raise UsageError(f"policies for gaps are {', '.join(POLICIES)}, not {policy!r}")
    times, values = np.asarray(times, dtype=np.float64), np.asarray(values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(values).all(axis=1))
    if not len(known):
        return values.copy()
    place = np.searchsorted(known, np.arange(len(values)), side="right") - 1
    before = known[np.maximum(place, 0)]
    if policy == "published":
        return np.where((place >= 0)[:, None], values[before], np.nan)
    if policy == "hold":
        return values[before]
    after = known[np.minimum(np.searchsorted(known, np.arange(len(values)), side="left"), len(known) - 1)]
    length = times[after] - times[before]
    share = np.divide(times - times[before], length, out=np.zeros(len(times)), where=length > 0)[:, None]
    return np.asarray((1 - share) * values[before] + share * values[after])
