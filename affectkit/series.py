"""Values of single frames of a video from what a source says of its windows. L is lines, T frames, C columns; times are seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from affectkit.gaps import Gaps, Kernel, fill, smooth
from affectkit.labels import LabelSet
from affectkit.tables import FrameTimes
from affectkit.timeline import Timeline, frame_ranges, overlap_mean

Series = tuple[np.ndarray, np.ndarray, np.ndarray]  # numbers (T,) rising, seconds (T,), values (T, C)


def per_video(rows: Timeline) -> np.ndarray:
    """(C,) float64 mean over the windows with evidence, per column over those that say something; NaN where none does."""
    means, _ = overlap_mean(rows.values, np.tile([0, 1], (len(rows), 1)), 1, rows.valid)
    return np.asarray(means[0])


def per_frame(
    rows: Timeline,
    asked: np.ndarray,
    frames: FrameTimes | None,
    record: Mapping[str, Any],
    gaps: Gaps,
    smoothing: tuple[Kernel, float] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Values of the frames of one video: the mean over the windows that cover each, smoothed, with the gaps filled.

    Smoothing and filling go over all frames of the video, not only over those that are asked for. With the policy
    ``"published"`` windows are expanded by the frame rate from the beginning of the medium, one frame more than fits, as team
    RAS expanded them; its gaps are filled down the whole list, which is not done here.

    Args:
        rows: what one source says about one person.
        asked: (L,) int64 frames, counted from 1.
        frames: when the frames of the medium are shown; nothing is said where there are none.
        record: what ``run.json`` says of the medium.
        gaps: policy for frames without evidence.
        smoothing: kernel and seconds.

    Returns:
        (L, C) float64 from evidence alone, and (L, C) with smoothing and filling; NaN where there is nothing.
    """
    series = _published(rows, int(asked.max()), record) if gaps == "published" else _half_open(rows, asked, frames)
    if series is None:
        nothing = np.full((len(asked), len(rows.labels)), np.nan)
        return nothing, nothing
    numbers, times, own = series
    at = np.searchsorted(numbers, asked)
    values = own if smoothing is None else smooth(times, own, *smoothing)
    if gaps != "published":
        values = fill_rows(rows.labels, times, values, gaps)
    return own[at], values[at]


def fill_rows(labels: LabelSet, times: np.ndarray, values: np.ndarray, gaps: Gaps) -> np.ndarray:
    """As :func:`affectkit.gaps.fill`: whole rows of a categorical set; each column of another set on its own.

    Args:
        labels: what the columns mean.
        times: (T,) seconds, not decreasing.
        values: (T, C); NaN says nothing.
        gaps: the policy.
    """
    if labels.kind == "categorical":
        return fill(times, values, gaps)
    return np.hstack([fill(times, values[:, [column]], gaps) for column in range(len(labels))])


def seconds_of(frames: FrameTimes, numbers: np.ndarray) -> np.ndarray:
    """The seconds of numbered frames: those of the file, and where it has none, what its others tell.

    Args:
        frames: at least one.
        numbers: (T,) int64.

    >>> seconds_of(FrameTimes(np.array([1, 2, 4]), np.array([0.0, 0.5, 1.5]), True), np.array([2, 3, 6])).tolist()
    [0.5, 1.0, 2.5]
    """
    times = np.interp(numbers, frames.number, frames.time)
    steps = np.diff(frames.time) / np.diff(frames.number)
    period = float(np.median(steps)) if len(steps) else 0.0
    before, after = numbers < frames.number[0], numbers > frames.number[-1]
    times[before] += period * (numbers[before] - frames.number[0])
    times[after] += period * (numbers[after] - frames.number[-1])
    return np.asarray(times)


def _half_open(rows: Timeline, asked: np.ndarray, frames: FrameTimes | None) -> Series | None:
    """The frames of a video and those that are asked for; what is before its first frame or after its last says nothing."""
    if frames is None or not len(frames.number):
        return None
    numbers = np.union1d(frames.number, asked)
    times = seconds_of(frames, numbers)
    values, _ = overlap_mean(rows.values, frame_ranges(rows.start, rows.end, times=times), len(times), rows.valid)
    values[(numbers < frames.number[0]) | (numbers > frames.number[-1])] = np.nan
    return numbers, times, values


def _published(rows: Timeline, last: int, record: Mapping[str, Any]) -> Series | None:
    """Frames from 1 to the last that is covered or asked for."""
    fps, begin = record.get("fps"), float(record.get("start", 0.0))
    if not fps:
        return None
    ranges = frame_ranges(np.maximum(rows.start - begin, 0.0), np.maximum(rows.end - begin, 0.0), fps=fps, policy="published")
    count = max(int(ranges[:, 1].max(initial=0)), last)
    values, _ = overlap_mean(rows.values, ranges, count, rows.valid)
    return np.arange(1, count + 1), begin + np.arange(count) / fps, values
