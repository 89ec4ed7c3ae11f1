"""Timelines, their tables, and the ways between windows and frames."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectkit.errors import UsageError
from affectkit.labels import BASIC8, COMPOUND7, LabelSet
from affectkit.planner import windows
from affectkit.timeline import COLUMNS, Timeline, frame_ranges, overlap_mean

TWO = LabelSet("two", ("no", "yes"))
SEEDS = st.integers(0, 2**31)


def timeline(
    media: str = "a/b.mp4", track: int = 0, source: str = "core/ppa", labels: LabelSet = COMPOUND7, n: int = 4, seed: int = 0
) -> Timeline:
    rng = np.random.default_rng(seed)
    values = rng.dirichlet(np.ones(len(labels)), n)
    valid = rng.random(n) < 0.7
    values[~valid] = np.nan
    start = np.arange(n) * 2.0
    return Timeline(media, track, source, labels, start, start + 4, values, valid, {"size": rng.random(n)})


class TestTimeline:
    def test_types(self) -> None:
        one = timeline()
        assert (one.start.dtype, one.end.dtype, one.values.dtype, one.valid.dtype) == (np.float64, np.float64, np.float32, bool)
        assert one.quality["size"].dtype == np.float32
        assert len(one) == 4

    def test_no_rows(self) -> None:
        one = Timeline("a", -1, "x/y", TWO, np.empty(0), np.empty(0), np.empty((0, 2)), np.empty(0))
        assert len(one) == 0
        assert one.valid.dtype == bool
        assert list(one.frame.columns) == [*COLUMNS, "p_no", "p_yes"]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"start": np.zeros((2, 1))}, r"start: expected shape \(N,\), found \(2, 1\)"),
            ({"end": np.ones(3)}, r"end: expected shape \(2,\), found \(3,\)"),
            ({"valid": np.ones(3, bool)}, r"valid: expected shape \(2,\), found \(3,\)"),
            ({"valid": np.ones(2)}, r"valid: expected bool, found float64"),
            ({"values": np.ones((2, 7))}, r"values of 'two': expected shape \(2, 2\), found \(2, 7\)"),
            ({"quality": {"words": np.ones(1)}}, r"quality 'words': expected shape \(2,\), found \(1,\)"),
            ({"end": np.array([4.0, -1])}, r"start: row 1 begins at 0\.0 and ends at -1\.0"),
            ({"start": np.array([np.nan, 0])}, r"start: row 0 begins at nan and ends at 4\.0"),
            ({"valid": np.array([True, False])}, r"values: row 1 has no evidence and says \[0\.5 0\.5\]; its values must be NaN"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, change: dict, message: str) -> None:
        whole = {"start": np.zeros(2), "end": np.full(2, 4.0), "values": np.full((2, 2), 0.5), "valid": np.ones(2, bool), "quality": {}}
        with pytest.raises(UsageError, match=rf"timeline of x/y in a\.mp4, {message}"):
            Timeline("a.mp4", 0, "x/y", TWO, **(whole | change))

    def test_table(self) -> None:
        one = timeline()
        table = one.frame
        assert list(table.columns) == [*COLUMNS, *(f"p_{label}" for label in COMPOUND7.labels)]
        assert (table["media"].unique().tolist(), table["track"].unique().tolist(), table["source"].unique().tolist()) == (
            ["a/b.mp4"],
            [0],
            ["core/ppa"],
        )
        assert table["p_sadly_angry"].isna().tolist() == (~one.valid).tolist()
        assert table["p_sadly_angry"].dtype == np.float32

    def test_tables_come_back(self) -> None:
        lines = [timeline("b", 0), timeline("a", 1, seed=1), timeline("a", -1, "mini/audio", seed=2, n=1)]
        table = pd.concat([line.frame for line in lines], ignore_index=True)
        table[["media", "source"]] = table[["media", "source"]].astype("category")  # as Parquet may give it
        for found, expected in zip(Timeline.from_frame(table, COMPOUND7), lines, strict=True):
            assert (found.media_id, found.track, found.source, found.labels) == (
                expected.media_id,
                expected.track,
                expected.source,
                expected.labels,
            )
            for name in ("start", "end", "values", "valid"):
                np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))

    def test_a_table_of_several_label_sets(self) -> None:
        """As ``read_run`` gives it: a column ``labels``, and columns that a set does not have are NaN."""
        lines = [timeline(labels=COMPOUND7), timeline(labels=BASIC8, source="core/mean")]
        table = pd.concat([line.frame.assign(labels=line.labels.name) for line in lines])
        (found,) = Timeline.from_frame(table, BASIC8)
        assert found.source == "core/mean"
        np.testing.assert_array_equal(found.values, lines[1].values)

    def test_missing_columns_are_named(self) -> None:
        table = timeline(labels=TWO).frame.drop(columns=["valid", "p_yes"])
        message = r"a table of 'two' needs the columns media, .*p_yes; missing valid, p_yes; found media, track, start, end, source, p_no"
        with pytest.raises(UsageError, match=message):
            Timeline.from_frame(table, TWO)

    def test_an_empty_table(self) -> None:
        assert Timeline.from_frame(timeline(labels=TWO).frame.iloc[:0], TWO) == []


def brute_force(start: np.ndarray, end: np.ndarray, values: np.ndarray, valid: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Frame by frame, class by class."""
    out = np.full((len(times), values.shape[1]), np.nan)
    for t, at in enumerate(times):
        covers = [i for i in range(len(start)) if valid[i] and (start[i] <= at < end[i] or start[i] == at == end[i])]
        for c in range(values.shape[1]):
            said = [values[i, c] for i in covers if not np.isnan(values[i, c])]
            if said:
                out[t, c] = np.mean(said)
    return out


@st.composite
def scenes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Any windows (start, end, values, valid) and frame times, on a coarse clock so that borders meet."""
    rng = np.random.default_rng(draw(SEEDS))
    n, frames, classes = draw(st.integers(0, 6)), draw(st.integers(0, 30)), draw(st.integers(1, 3))
    start = rng.integers(0, 20, n) / 2
    end = start + rng.integers(0, 10, n) / 2
    values = rng.random((n, classes))
    values[rng.random(values.shape) < 0.2] = np.nan
    return start, end, values, rng.random(n) < 0.8, np.sort(rng.integers(0, 40, frames) / 4)


class TestFrames:
    @given(scenes())
    def test_mean_over_windows_equals_brute_force(self, scene: tuple[np.ndarray, ...]) -> None:
        start, end, values, valid, times = scene
        means, count = overlap_mean(values, frame_ranges(start, end, times=times), len(times), valid)
        np.testing.assert_allclose(means, brute_force(start, end, values, valid, times), atol=1e-12)
        covers = [sum(bool(v) and (s <= t < e or s == t == e) for s, e, v in zip(start, end, valid, strict=True)) for t in times]
        assert count.tolist() == covers

    @given(st.floats(0.1, 60), st.sampled_from([24000 / 1001, 25, 30000 / 1001, 30, 50]), SEEDS)
    def test_published_expansion_equals_a_loop(self, duration: float, fps: float, seed: int) -> None:
        spans = windows(duration)
        values = np.random.default_rng(seed).random((len(spans), 7))
        by_frame: dict[int, list[np.ndarray]] = {}
        for span, row in zip(spans, values, strict=True):
            for frame in range(int(span.start * fps) + 1, int(span.end * fps) + 2):
                by_frame.setdefault(frame, []).append(row)
        start, end = np.array([s.start for s in spans]), np.array([s.end for s in spans])
        means, count = overlap_mean(values, frame_ranges(start, end, fps=fps, policy="published"))
        assert len(means) == max(by_frame)
        assert count.tolist() == [len(by_frame[frame]) for frame in range(1, len(means) + 1)]
        np.testing.assert_allclose(means, [np.mean(by_frame[frame], axis=0) for frame in range(1, len(means) + 1)], atol=1e-12)

    def test_an_image_is_covered_by_its_window(self) -> None:
        assert frame_ranges(np.zeros(1), np.zeros(1), times=np.zeros(1)).tolist() == [[0, 1]]

    def test_a_constant_stays_exactly_what_it_is(self) -> None:
        spans = windows(1000.0)
        start, end = np.array([s.start for s in spans]), np.array([s.end for s in spans])
        means, _ = overlap_mean(np.full((len(spans), 1), 0.1), frame_ranges(start, end, times=np.arange(25_000) / 25), 25_000)
        assert np.unique(means).tolist() == [0.1]

    def test_frames_beyond_the_list_are_left_out_and_uncovered_ones_say_nothing(self) -> None:
        means, count = overlap_mean(np.array([[1.0]]), np.array([[1, 9]]), frames=3)
        assert count.tolist() == [0, 1, 1]
        assert np.isnan(means[0, 0])
        means, count = overlap_mean(np.array([[1.0]]), np.array([[0, 1]]), frames=3)
        assert (count.tolist(), means[0, 0]) == ([1, 0, 0], 1.0)

    def test_ten_hours_of_frames(self) -> None:
        spans = windows(36_000.0)
        start, end = np.array([s.start for s in spans]), np.array([s.end for s in spans])
        means, _ = overlap_mean(np.random.default_rng(0).random((len(spans), 7)), frame_ranges(start, end, times=np.arange(900_000) / 25))
        assert len(means) == 900_000

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: frame_ranges(np.zeros((2, 2)), np.zeros(2), times=np.zeros(1)), r"frame_ranges expected start of shape \(N,\), found \(2, 2\)"),
            (lambda: frame_ranges(np.zeros(2), np.zeros(3), times=np.zeros(1)), r"frame_ranges, end: expected shape \(2,\), found \(3,\)"),
            (lambda: frame_ranges(np.zeros(1), np.ones(1)), r"'half_open' needs times, the seconds of the frames"),
            (lambda: frame_ranges(np.zeros(1), np.ones(1), policy="published"), r"'published' needs fps greater than 0, found None"),
            (lambda: frame_ranges(np.zeros(1), np.ones(1), policy="closed"), r"policies half_open and published, not 'closed'"),
            (lambda: frame_ranges(np.zeros(1), np.ones(1), times=np.array([1.0, 0.5])), r"frame_ranges expected times in order"),
            (lambda: frame_ranges(np.zeros(1), np.ones(1), times=np.array([np.nan])), r"frame_ranges expected times in order"),
            (lambda: frame_ranges(np.zeros(1), np.ones(1), times=np.zeros((1, 1))), r"frame_ranges expected times of shape \(T,\), found \(1, 1\)"),
            (lambda: overlap_mean(np.zeros(2), np.zeros((2, 2))), r"overlap_mean expected values of shape \(N, C\), found \(2,\)"),
            (lambda: overlap_mean(np.zeros((2, 1)), np.zeros((3, 2))), r"overlap_mean, ranges: expected shape \(2, 2\), found \(3, 2\)"),
            (lambda: overlap_mean(np.zeros((1, 1)), np.zeros((1, 2)), valid=np.ones(2, bool)), r"overlap_mean, valid: expected shape \(1,\), found \(2,\)"),
        ],
    )  # fmt: skip
    def test_what_does_not_fit_is_refused(self, call: object, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            call()  # type: ignore[operator]


def spoken(scene: tuple[np.ndarray, ...]) -> Timeline:
    """A scene's windows as a timeline, in their random order, with one number of quality."""
    start, end, values, valid, _ = scene
    values = np.where(valid[:, None], values, np.nan)
    labels = LabelSet("some", tuple(f"class{c}" for c in range(values.shape[1])))
    return Timeline("a", 0, "x/y", labels, start, end, values, valid, {"size": np.where(valid, start + 1, np.nan)})


def exact(one: Timeline, times: np.ndarray) -> np.ndarray:
    """By hand what a timeline says at times."""
    return brute_force(one.start, one.end, one.values.astype(np.float64), one.valid, times)


IMAGE = Timeline("a.jpg", 0, "x/y", TWO, [0.0], [0.0], [[0.25, 0.75]], [True], {"size": [80]})
EMPTY = Timeline("a", 0, "x/y", TWO, [], [], np.empty((0, 2)), [])


class TestAt:
    @given(scenes(), SEEDS)
    def test_equals_brute_force_for_times_in_any_order(self, scene: tuple[np.ndarray, ...], seed: int) -> None:
        one, times = spoken(scene), np.random.default_rng(seed).permutation(scene[-1])
        expected = exact(one, times)
        np.testing.assert_allclose(one.at(times), expected, atol=1e-12)
        np.testing.assert_allclose(one.at(list(times)), expected, atol=1e-12)
        for at, row in zip(times, expected, strict=True):
            np.testing.assert_allclose(list(one.at(at).values()), row, atol=1e-12)

    def test_a_time_gives_values_by_label(self) -> None:
        one = Timeline("a", 0, "x/y", TWO, [0, 2], [4, 6], [[0.25, 0.75], [np.nan, 0.25]], [True, True])
        assert one.at(3) == {"no": 0.25, "yes": 0.5}, "per class over the windows that say something"
        assert one.at(np.float32(0)) == {"no": 0.25, "yes": 0.75}
        found = one.at([4.0, 6.0, -1.0])
        assert (found.shape, found.dtype) == ((3, 2), np.float64)
        np.testing.assert_array_equal(found, [[np.nan, 0.25], [np.nan, np.nan], [np.nan, np.nan]])

    def test_an_image_and_no_windows(self) -> None:
        assert IMAGE.at(0) == {"no": 0.25, "yes": 0.75}
        assert np.isnan(list(IMAGE.at(0.01).values())).all()
        assert np.isnan(EMPTY.at([0.0, 1.0])).all()
        assert EMPTY.at([]).shape == (0, 2)

    @pytest.mark.parametrize(
        ("times", "message"),
        [
            (np.zeros((2, 2)), r"Timeline\.at expected one time or times of shape \(T,\), found \(2, 2\)"),
            (np.nan, r"Timeline\.at expected times in seconds, found NaN"),
            ([0.0, np.nan], r"Timeline\.at expected times in seconds, found NaN"),
            ("two", r"Timeline\.at expected times in seconds, found 'two'"),
            (None, r"Timeline\.at expected times in seconds, found None"),
        ],
    )
    def test_what_is_no_time_is_refused(self, times: object, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            IMAGE.at(times)  # type: ignore[call-overload]


class TestResample:
    @given(scenes(), st.sampled_from([0.3, 0.5, 1, 2, 24000 / 1001, 25]))
    def test_windows_follow_each_other_and_say_what_holds_in_their_middle(self, scene: tuple[np.ndarray, ...], fps: float) -> None:
        one = spoken(scene)
        found = one.resample(fps)
        if not len(one):
            assert len(found) == 0
            return
        assert (found.start[0], found.end[-1]) == (one.start.min(), one.end.max())
        assert (found.start[1:] == found.end[:-1]).all()
        np.testing.assert_allclose(found.end[:-1] - found.start[:-1], 1 / fps)
        assert found.end[-1] - found.start[-1] <= 1 / fps + 1e-6
        middle = (found.start + found.end) / 2
        np.testing.assert_allclose(found.values, exact(one, middle), atol=1e-6)
        covered = [bool((one.valid & (one.start <= t) & ((t < one.end) | (t == one.start))).any()) for t in middle]
        assert found.valid.tolist() == covered

    @given(st.floats(0.1, 60), st.integers(1, 50), st.floats(-100, 1000), SEEDS)
    def test_windows_that_neither_overlap_nor_leave_gaps_stay_as_they_are(self, fps: float, n: int, first: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        borders, order = first + np.arange(n + 1) / fps, rng.permutation(n)
        values, valid = rng.random((n, 2)).astype(np.float32), rng.random(n) < 0.8
        values[~valid] = np.nan
        size = np.where(valid, rng.random(n), np.nan)
        one = Timeline("a", 0, "x/y", TWO, borders[:-1][order], borders[1:][order], values[order], valid[order], {"size": size[order]})
        found = one.resample(fps)
        np.testing.assert_allclose(found.start, borders[:-1])
        np.testing.assert_array_equal(found.values, values)
        np.testing.assert_array_equal(found.valid, valid)
        np.testing.assert_array_equal(found.quality["size"], size.astype(np.float32))

    def test_the_last_window_ends_where_the_timeline_ends(self) -> None:
        found = Timeline("a", 0, "x/y", TWO, [0.0], [5.0], [[0.25, 0.75]], [True]).resample(0.5)
        assert (found.start.tolist(), found.end.tolist()) == ([0, 2, 4], [2, 4, 5])
        assert found.values.tolist() == [[0.25, 0.75]] * 3

    def test_a_stretch_may_be_given(self) -> None:
        one = Timeline("a", 3, "x/y", TWO, [1.0], [2.0], [[0.25, 0.75]], [True])
        found = one.resample(1, start=0, end=3)
        assert (found.media_id, found.track, found.source, found.labels) == ("a", 3, "x/y", TWO)
        assert (found.start.tolist(), found.valid.tolist()) == ([0, 1, 2], [False, True, False])
        assert EMPTY.resample(2, start=0, end=1).valid.tolist() == [False, False]

    def test_an_image_stays_an_image(self) -> None:
        found = IMAGE.resample(25)
        assert (found.start.tolist(), found.end.tolist(), found.values.tolist()) == ([0], [0], [[0.25, 0.75]])
        assert (found.valid.tolist(), found.quality["size"].tolist()) == ([True], [80])

    def test_ten_hours(self) -> None:
        spans = windows(36_000.0)
        start, end = np.array([s.start for s in spans]), np.array([s.end for s in spans])
        assert (
            len(Timeline("a", 0, "x/y", TWO, start, end, np.full((len(spans), 2), 0.5), np.ones(len(spans), bool)).resample(25)) == 900_000
        )

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: IMAGE.resample(0), r"Timeline\.resample needs fps greater than 0, found 0"),
            (lambda: IMAGE.resample(np.nan), r"Timeline\.resample needs fps greater than 0, found nan"),
            (lambda: IMAGE.resample(25, start=1), r"an end that is not before the start, found start 1\.0 and end 0\.0"),
            (lambda: IMAGE.resample(25, end=np.nan), r"an end that is not before the start, found start 0\.0 and end nan"),
            (lambda: IMAGE.resample(25, end=np.inf), r"an end that is not before the start, found start 0\.0 and end inf"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_is_refused(self, call: object, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            call()  # type: ignore[operator]


class TestSlices:
    @given(scenes(), st.integers(0, 40), st.integers(1, 40))
    def test_inside_a_slice_the_timeline_says_the_same(self, scene: tuple[np.ndarray, ...], first: int, length: int) -> None:
        one, start, end = spoken(scene), first / 4, (first + length) / 4
        times = scene[-1][(scene[-1] >= start) & (scene[-1] < end)]
        np.testing.assert_array_equal(one[start:end].at(times), one.at(times))

    @given(scenes(), st.integers(0, 40), st.integers(0, 40))
    def test_windows_that_overlap_are_taken_whole_and_in_their_order(self, scene: tuple[np.ndarray, ...], a: int, b: int) -> None:
        one, (first, last) = spoken(scene), (min(a, b) / 4, max(a, b) / 4)
        found = one[first:last]
        # a window and [first, last) share a moment: the later of the two starts is in both
        later = [(i, max(one.start[i], first)) for i in range(len(one))]
        rows = [i for i, t in later if first <= t < last and (one.start[i] <= t < one.end[i] or one.start[i] == t == one.end[i])]
        for name in ("start", "end", "values", "valid"):
            np.testing.assert_array_equal(getattr(found, name), getattr(one, name)[rows])
        np.testing.assert_array_equal(found.quality["size"], one.quality["size"][rows])

    def test_bounds_are_seconds(self) -> None:
        one = timeline(n=4)  # 0-4, 2-6, 4-8, 6-10
        assert one[2:6].start.tolist() == one[2.0 : np.float64(6)].start.tolist() == [0, 2, 4]
        assert one[:4].start.tolist() == [0, 2]
        assert one[8:].start.tolist() == [6]
        assert len(one[:]) == 4
        assert len(one[-1:]) == 4, "a negative number is a time, not a place from the end"
        assert len(one[3:3]) == 0
        assert len(IMAGE[0:1]) == len(IMAGE[:]) == 1
        assert len(IMAGE[0.1:]) == len(IMAGE[:0]) == len(EMPTY[0:1]) == 0

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: IMAGE[0], r"sliced by two times in seconds, timeline\[2\.0:6\.0\], found 0; timeline\.at\(2\.0\) says what holds"),
            (lambda: IMAGE["yes"], r"found 'yes'; timeline\.at"),
            (lambda: IMAGE[0:4:2], r"found a step of 2; .*timeline\.resample\(fps\) makes steps"),
            (lambda: IMAGE["0":], r"sliced by two times in seconds, timeline\[2\.0:6\.0\], found '0'"),
            (lambda: IMAGE[:np.nan], r"sliced by two times in seconds, .* found nan"),
            (lambda: IMAGE[6:2], r"sliced from the earlier to the later time, found \[6\.0:2\.0\]"),
            (lambda: list(IMAGE), r"timeline\.frame has the rows"),
        ],
    )  # fmt: skip
    def test_what_is_no_stretch_of_time_is_refused(self, call: object, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            call()  # type: ignore[operator]


class TestRepr:
    @pytest.mark.parametrize(
        ("one", "text"),
        [
            (timeline(n=10), "<Timeline of core/ppa in a/b.mp4, subject 0: compound7, 10 windows from 0 to 22 s, 60 % valid>"),
            (timeline(track=-1, source="mini/audio")[0:1], "<Timeline of mini/audio in a/b.mp4, no subject: compound7, 1 window from 0 to 4 s, 100 % valid>"),
            (IMAGE, "<Timeline of x/y in a.jpg, subject 0: two, 1 window from 0 to 0 s, 100 % valid>"),
            (EMPTY, "<Timeline of x/y in a, subject 0: two, no windows>"),
        ],
    )  # fmt: skip
    def test_says_what_it_is(self, one: Timeline, text: str) -> None:
        assert repr(one) == text
