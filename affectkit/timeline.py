"""What one source says about one subject of a medium over time, and the ways between windows and frames. Times are seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from affectkit.errors import UsageError
from affectkit.labels import LabelSet

if TYPE_CHECKING:
    import pandas as pd

Policy = Literal["half_open", "published"]

COLUMNS = ("media", "track", "start", "end", "source", "valid")
"""The columns of a table of results; the labels follow as ``p_<label>``."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """Values of one source for one subject of one medium, one row per window; arrays run in parallel.

    Attributes:
        media_id: id of the medium.
        track: id of the subject; -1 where there is no subject.
        source: component id, for instance ``"core/ppa"``.
        labels: what the columns of ``values`` mean.
        start: (N,) float64 seconds.
        end: (N,) float64 seconds, exclusive; equal to ``start`` for an image.
        values: (N, C) float32; rows that are not valid are NaN, and so is a class that cannot be said.
        valid: (N,) bool, whether there was evidence.
        quality: (N,) float32 by name.

    Raises:
        UsageError: for arrays that do not fit each other; the message states the expected and the found shape.

    >>> timeline = Timeline("a.mp4", 0, "x/y", LabelSet("two", ("no", "yes")), [0, 2], [4, 6], [[0.5, 0.5], [np.nan, np.nan]], [True, False])
    >>> len(timeline), timeline.values.dtype
    (2, dtype('float32'))
    """

    media_id: str
    track: int
    source: str
    labels: LabelSet
    start: np.ndarray
    end: np.ndarray
    values: np.ndarray
    valid: np.ndarray
    quality: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        put("start", np.asarray(self.start, dtype=np.float64))
        put("end", np.asarray(self.end, dtype=np.float64))
        put("values", np.asarray(self.values, dtype=np.float32))
        put("valid", _as_bool(self.valid, self._what("valid")))
        put("quality", {name: np.asarray(value, dtype=np.float32) for name, value in self.quality.items()})
        if self.start.ndim != 1:
            raise UsageError(f"{self._what('start')}: expected shape (N,), found {self.start.shape}")
        n = len(self.start)
        _expect(self._what("end"), self.end, (n,))
        _expect(self._what("valid"), self.valid, (n,))
        _expect(self._what(f"values of {self.labels.name!r}"), self.values, (n, len(self.labels)))
        for name, value in self.quality.items():
            _expect(self._what(f"quality {name!r}"), value, (n,))
        if not bool(np.all(self.start <= self.end)):  # NaN fails as well
            row = int(np.argmin(self.start <= self.end))
            raise UsageError(f"{self._what('start')}: row {row} begins at {self.start[row]} and ends at {self.end[row]}")
        said = ~self.valid & ~np.isnan(self.values).all(axis=1)
        if said.any():
            row = int(np.argmax(said))
            raise UsageError(f"{self._what('values')}: row {row} has no evidence and says {self.values[row]}; its values must be NaN")

    def __len__(self) -> int:
        return len(self.start)

    def to_frame(self) -> pd.DataFrame:
        """A table with the columns media, track, start, end, source, valid and ``p_<label>``; one row per window."""
        import pandas as pd

        n = len(self)
        head = ([self.media_id] * n, np.full(n, self.track, np.int64), self.start, self.end, [self.source] * n, self.valid)
        table = pd.DataFrame(dict(zip(COLUMNS, head, strict=True)))
        return table.assign(**{f"p_{label}": self.values[:, column] for column, label in enumerate(self.labels.labels)})

    def _what(self, name: str) -> str:
        return f"timeline of {self.source} in {self.media_id}, {name}"


def from_frame(table: pd.DataFrame, labels: LabelSet) -> list[Timeline]:
    """Timelines from a table of results, one per medium, track and source, in the order in which they first appear.

    Args:
        table: columns as :meth:`Timeline.to_frame` makes them, others are ignored; where it has a column ``labels``, as
            ``affectkit.read_run`` gives it, only the rows of this label set are taken.
        labels: the label set to read.

    Raises:
        UsageError: where columns are missing; the message lists what was expected and found.
    """
    columns = [f"p_{label}" for label in labels.labels]
    missing = [name for name in (*COLUMNS, *columns) if name not in table.columns]
    if missing:
        found = ", ".join(map(str, table.columns))
        raise UsageError(
            f"a table of {labels.name!r} needs the columns {', '.join((*COLUMNS, *columns))}; missing {', '.join(missing)}; found {found}"
        )
    if "labels" in table.columns:
        table = table[table["labels"] == labels.name]
    return [
        Timeline(
            media_id=str(media),
            track=int(rows["track"].iloc[0]),
            source=str(source),
            labels=labels,
            start=rows["start"].to_numpy(np.float64),
            end=rows["end"].to_numpy(np.float64),
            values=rows[columns].to_numpy(np.float32),
            valid=rows["valid"].to_numpy(bool),
        )
        for (media, _, source), rows in table.groupby(["media", "track", "source"], sort=False, observed=True)
    ]


def frame_ranges(
    start: np.ndarray,
    end: np.ndarray,
    *,
    times: np.ndarray | None = None,
    fps: float | None = None,
    policy: Policy = "half_open",
) -> np.ndarray:
    """The frames that each window covers.

    Args:
        start: (N,) seconds.
        end: (N,) seconds.
        times: (T,) seconds of the frames, not decreasing; for the policy ``"half_open"``.
        fps: frames per second; for the policy ``"published"``.
        policy: ``"half_open"``: frames with ``start <= time < end``, and for a window without length (an image) those at its
            time. ``"published"``: frames int(start * fps) + 1 to int(end * fps) + 1, counted from 1 and both included, as
            Team RAS expands its windows: one frame more than fits.

    Returns:
        (N, 2) int64 indices from 0 of the first frame and of the one after the last.

    Raises:
        UsageError: where what the policy needs is missing, or arrays do not fit.

    >>> frame_ranges(np.array([0.0, 2.0]), np.array([4.0, 6.0]), times=np.arange(6.0)).tolist()
    [[0, 4], [2, 6]]
    >>> frame_ranges(np.array([0.0, 2.0]), np.array([4.0, 6.0]), fps=1.0, policy="published").tolist()
    [[0, 5], [2, 7]]
    """
    start, end = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    if start.ndim != 1:
        raise UsageError(f"frame_ranges expected start of shape (N,), found {start.shape}")
    _expect("frame_ranges, end", end, start.shape)
    if policy == "half_open":
        if times is None:
            raise UsageError("frame_ranges with the policy 'half_open' needs times, the seconds of the frames")
        times = _in_order(times, "frame_ranges")
        first = np.searchsorted(times, start, side="left")
        after = np.where(start == end, np.searchsorted(times, end, side="right"), np.searchsorted(times, end, side="left"))
    elif policy == "published":
        if fps is None or not fps > 0:
            raise UsageError(f"frame_ranges with the policy 'published' needs fps greater than 0, found {fps}")
        first, after = (start * fps).astype(np.int64), (end * fps).astype(np.int64) + 1
    else:
        raise UsageError(f"frame_ranges has the policies half_open and published, not {policy!r}")
    return np.stack([first, after], axis=1).astype(np.int64)


def overlap_mean(
    values: np.ndarray, ranges: np.ndarray, frames: int | None = None, valid: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Values per frame: the mean over the windows that cover it, per class over those that say something.

    Args:
        values: (N, C) values of windows; NaN says nothing.
        ranges: (N, 2) int64 as :func:`frame_ranges` gives them.
        frames: T, how many frames there are; frames of windows beyond it are left out. ``None``: as many as are covered.
        valid: (N,) bool, windows that count; ``None`` for all.

    Returns:
        (T, C) float64 means, NaN where no window says anything, and (T,) int64 numbers of valid windows that cover a frame.

    Raises:
        UsageError: for arrays that do not fit.

    >>> overlap_mean(np.array([[0.2], [0.6]]), np.array([[0, 2], [1, 3]]))
    (array([[0.2],
           [0.4],
           [0.6]]), array([1, 2, 1]))
    """
    values, ranges = np.asarray(values, dtype=np.float64), np.asarray(ranges)
    if values.ndim != 2:
        raise UsageError(f"overlap_mean expected values of shape (N, C), found {values.shape}")
    _expect("overlap_mean, ranges", ranges, (len(values), 2))
    keep = np.ones(len(values), dtype=bool) if valid is None else _as_bool(valid, "overlap_mean, valid")
    _expect("overlap_mean, valid", keep, (len(values),))
    total = int(ranges[:, 1].max(initial=0)) if frames is None else frames
    values, ranges = values[keep], ranges[keep]
    window, frame = _members(np.clip(ranges, 0, total))
    return _mean_by(values[window], frame, total), np.bincount(frame, minlength=total)


def _members(ranges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of a range and an index in it: two (P,) int64 arrays."""
    sizes = np.maximum(ranges[:, 1] - ranges[:, 0], 0)
    owner = np.repeat(np.arange(len(ranges)), sizes)
    offset = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return owner, np.repeat(ranges[:, 0], sizes) + offset


def _mean_by(values: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """(G, C) mean of the rows of each group, per column over what is not NaN; NaN where a group has nothing."""
    said = ~np.isnan(values)
    total = np.zeros((groups, values.shape[1]))
    count = np.zeros((groups, values.shape[1]))
    np.add.at(total, group, np.where(said, values, 0.0))
    np.add.at(count, group, said)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _in_order(times: np.ndarray, what: str) -> np.ndarray:
    times = np.asarray(times, dtype=np.float64)
    if times.ndim != 1:
        raise UsageError(f"{what} expected times of shape (T,), found {times.shape}")
    if not bool(np.all(times[1:] >= times[:-1])) or np.isnan(times).any():
        raise UsageError(f"{what} expected times in order; sort them together with what belongs to them")
    return times


def _as_bool(array: object, what: str) -> np.ndarray:
    found = np.asarray(array)
    if found.size and found.dtype != np.bool_:
        raise UsageError(f"{what}: expected bool, found {found.dtype}")
    return found.astype(bool)


def _expect(what: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise UsageError(f"{what}: expected shape {shape}, found {array.shape}")
