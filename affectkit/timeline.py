"""What one source says about one subject of a medium over time, and the ways between windows and frames. Times are seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, overload

import numpy as np

from affectkit.errors import UsageError
from affectkit.labels import LabelSet

if TYPE_CHECKING:
    import pandas as pd

Policy = Literal["half_open", "published"]

COLUMNS = ("media", "track", "start", "end", "source", "valid")
"""The columns of a table of results; the labels follow as ``p_<label>``."""


@dataclass(frozen=True, eq=False, repr=False)
class Timeline:
    """Values of one source for one subject of one medium, one row per window; arrays run in parallel.

    Windows may overlap, leave gaps, and come in any order. Where several hold at a time, their mean is what the source says.

    Attributes:
        media_id: id of the medium.
        track: id of the subject; -1 where there is no subject.
        source: component id, for instance ``"core/ppa"``.
        labels: what the columns of ``values`` mean.
        start: (N,) float64 seconds.
        end: (N,) float64 seconds, exclusive; equal to ``start`` for an image, whose window holds at that one time.
        values: (N, C) float32; rows that are not valid are NaN, and so is a class that cannot be said.
        valid: (N,) bool, whether there was evidence.
        quality: (N,) float32 by name.

    Raises:
        UsageError: for arrays that do not fit each other; the message states the expected and the found shape.

    >>> mood = LabelSet("mood", ("calm", "excited"))
    >>> timeline = Timeline("talk", 0, "x/y", mood, [0, 2, 4], [4, 6, 8], [[1, 0], [0.5, 0.5], [np.nan, np.nan]], [True, True, False])
    >>> timeline
    <Timeline of x/y in talk, subject 0: mood, 3 windows from 0 to 8 s, 67 % valid>
    >>> timeline.at(3.0)
    {'calm': 0.75, 'excited': 0.25}
    >>> timeline[6:].valid
    array([False])
    >>> timeline.resample(0.5).values.tolist()
    [[1.0, 0.0], [0.75, 0.25], [0.5, 0.5], [nan, nan]]
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

    @classmethod
    def from_frame(cls, table: pd.DataFrame, labels: LabelSet) -> list[Timeline]:
        """Timelines from a table of results, one per medium, track and source, in the order in which they first appear.

        Args:
            table: columns as :attr:`frame` has them, others are ignored; where it has a column ``labels``, as
                :func:`affectkit.read_run` gives it, only the rows of this label set are taken.
            labels: the label set to read.

        Raises:
            UsageError: where columns are missing; the message lists what was expected and found.
        """
        columns = [f"p_{label}" for label in labels.labels]
        missing = [name for name in (*COLUMNS, *columns) if name not in table.columns]
        if missing:
            found = ", ".join(map(str, table.columns))
            raise UsageError(
                f"a table of {labels.name!r} needs the columns {', '.join((*COLUMNS, *columns))}; "
                f"missing {', '.join(missing)}; found {found}"
            )
        if "labels" in table.columns:
            table = table[table["labels"] == labels.name]
        return [
            cls(
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

    @property
    def frame(self) -> pd.DataFrame:
        """A table with the columns media, track, start, end, source, valid and ``p_<label>``; one row per window."""
        import pandas as pd

        n = len(self)
        head = ([self.media_id] * n, np.full(n, self.track, np.int64), self.start, self.end, [self.source] * n, self.valid)
        table = pd.DataFrame(dict(zip(COLUMNS, head, strict=True)))
        return table.assign(**{f"p_{label}": self.values[:, column] for column, label in enumerate(self.labels.labels)})

    @overload
    def at(self, seconds: float) -> dict[str, float]: ...

    @overload
    def at(self, seconds: Sequence[float] | np.ndarray) -> np.ndarray: ...

    def at(self, seconds: float | Sequence[float] | np.ndarray) -> dict[str, float] | np.ndarray:
        """What the source says at a time: the mean over the windows with ``start <= time < end``.

        The mean is taken per class over the windows that say something; where none does, the value is NaN.

        Args:
            seconds: one time, or (T,) times in any order, in seconds.

        Returns:
            For one time the values by label; for several (T, C) float64, columns in the order of ``labels``.

        Raises:
            UsageError: for a time that is not a number, or an array of another shape.
        """
        try:
            times = np.asarray(seconds, dtype=np.float64)
        except (TypeError, ValueError):
            raise UsageError(f"Timeline.at expected times in seconds, found {seconds!r}") from None
        if times.ndim > 1:
            raise UsageError(f"Timeline.at expected one time or times of shape (T,), found {times.shape}")
        if np.isnan(times).any():
            raise UsageError(f"Timeline.at expected times in seconds, found {'NaN' if seconds is not None else None}")
        order = np.argsort(times, axis=None)
        ranges = frame_ranges(self.start, self.end, times=times.reshape(-1)[order])
        means = np.empty((len(order), len(self.labels)))
        means[order], _ = overlap_mean(self.values, ranges, len(order))
        return means if times.ndim else dict(zip(self.labels.labels, means[0].tolist(), strict=True))

    def resample(self, fps: float, *, start: float | None = None, end: float | None = None) -> Timeline:
        """The same in consecutive windows of ``1 / fps`` seconds, which neither overlap nor leave gaps.

        A window takes what :meth:`at` says in its middle, which rounded borders cannot move into another window. For the values of frames
        whose times are known, ask :meth:`at` for those times.

        Args:
            fps: windows per second.
            start: seconds at which the first window begins; the start of the earliest window where it is left out.
            end: seconds at which the last window ends, shorter than the others where need be; the end of the latest window
                where it is left out.

        Returns:
            A timeline of the same source; ``valid`` where a valid window holds, and ``quality`` averaged as values are. From
            a single time, such as an image, a single window without length.

        Raises:
            UsageError: where ``fps`` is not greater than 0, or ``end`` lies before ``start``.
        """
        if not 0 < fps < np.inf:
            raise UsageError(f"Timeline.resample needs fps greater than 0, found {fps}")
        if not len(self) and (start is None or end is None):
            return self
        first = float(self.start.min()) if start is None else float(start)
        last = float(self.end.max()) if end is None else float(end)
        if not -np.inf < first <= last < np.inf:
            raise UsageError(f"Timeline.resample needs an end that is not before the start, found start {first} and end {last}")
        steps = max(1, int(np.ceil((last - first) * fps - 1e-6)))  # a millionth of a window is rounding, not a window
        borders = first + np.arange(steps + 1) / fps
        borders[-1] = last
        ranges = frame_ranges(self.start, self.end, times=(borders[:-1] + borders[1:]) / 2)
        means, count = overlap_mean(np.column_stack([self.values, *self.quality.values()]), ranges, steps, self.valid)
        classes = len(self.labels)
        quality = {name: means[:, classes + i] for i, name in enumerate(self.quality)}
        return replace(self, start=borders[:-1], end=borders[1:], values=means[:, :classes], valid=count > 0, quality=quality)

    def __getitem__(self, seconds: slice) -> Timeline:
        """The windows that overlap a stretch of time, whole: ``timeline[2.0:6.0]`` has those with ``start < 6`` and ``end > 2``.

        Bounds are seconds, also where they are negative or whole numbers; each may be left out.

        Raises:
            UsageError: for anything but a slice of two times.
        """
        if not isinstance(seconds, slice) or seconds.step is not None:
            found = f"a step of {seconds.step}" if isinstance(seconds, slice) else repr(seconds)
            raise UsageError(
                f"a timeline is sliced by two times in seconds, timeline[2.0:6.0], found {found}; "
                "timeline.at(2.0) says what holds at a time, timeline.resample(fps) makes steps, and timeline.frame has the rows"
            )
        first = -np.inf if seconds.start is None else _seconds(seconds.start)
        last = np.inf if seconds.stop is None else _seconds(seconds.stop)
        if first > last:
            raise UsageError(f"a timeline is sliced from the earlier to the later time, found [{first}:{last}]")
        instant = (self.start == self.end) & (self.start >= first)
        rows = (first < last) & (self.start < last) & ((self.end > first) | instant)
        quality = {name: value[rows] for name, value in self.quality.items()}
        return replace(self, start=self.start[rows], end=self.end[rows], values=self.values[rows], valid=self.valid[rows], quality=quality)

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.start)

    def __repr__(self) -> str:
        who = f"subject {self.track}" if self.track >= 0 else "no subject"
        rows = "no windows"
        if len(self):
            span = f"from {self.start.min():.6g} to {self.end.max():.6g} s, {self.valid.mean():.0%} valid".replace("%", " %")
            rows = f"{len(self)} window{'s' if len(self) > 1 else ''} {span}"
        return f"<Timeline of {self.source} in {self.media_id}, {who}: {self.labels.name}, {rows}>"

    def _what(self, name: str) -> str:
        return f"timeline of {self.source} in {self.media_id}, {name}"


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


def _seconds(bound: object) -> float:
    if not isinstance(bound, int | float | np.integer | np.floating) or np.isnan(bound):
        raise UsageError(f"a timeline is sliced by two times in seconds, timeline[2.0:6.0], found {bound!r}")
    return float(bound)


def _as_bool(array: object, what: str) -> np.ndarray:
    found = np.asarray(array)
    if found.size and found.dtype != np.bool_:
        raise UsageError(f"{what}: expected bool, found {found.dtype}")
    return found.astype(bool)


def _expect(what: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise UsageError(f"{what}: expected shape {shape}, found {array.shape}")
