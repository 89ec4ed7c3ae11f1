"""Faces: geometry against brute force, which pictures are chosen, and what the store keeps."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from affectkit.api import Evidence, Input, PluginError, Span
from affectkit.faces import Detections, FaceStore, Tracker, crop, iou, pick
from affectkit.needs import Frames
from tests.face_helpers import GREY, faces, scene, square

ITEM = Input("faces", count=4, size=16)


# detections


def test_detections_are_checked_arrays() -> None:
    found = Detections([[0, 0, 10, 20], [5, 5, 9, 9]], [1, 0.5], np.zeros((2, 5, 2)))  # type: ignore[arg-type]
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.area.tolist() == [200, 16]
    assert found.side.tolist() == [20, 4]
    assert found.centre.tolist() == [[5, 10], [7, 7]]
    assert [len(part) for part in (found, found[0], found[found.scores > 0.7], found[::-1], found[[1, 0]])] == [2, 1, 1, 2, 2]
    assert found[1].landmarks.shape == (1, 5, 2)  # type: ignore[union-attr]
    assert len(Detections.empty()) == 0
    assert Detections.empty().side.shape == (0,)


@pytest.mark.parametrize(
    ("boxes", "scores", "landmarks", "message"),
    [
        (np.zeros((2, 5)), np.zeros(2), None, r"shape \(K, 4\), found \(2, 5\)"),
        (np.zeros(4), np.zeros(1), None, r"shape \(K, 4\), found \(4,\)"),
        ([[0, 0, 1, 1]], [0.5, 0.5], None, r"1 boxes of faces need scores of the shape \(1,\), found \(2,\)"),
        ([[10, 10, 5, 20]], [0.5], None, "did the detector return widths"),
        ([[0, 0, np.nan, 20]], [0.5], None, "finite"),
        ([[0, 0, 1, 1]], [1.5], None, r"in \[0, 1\], found \[1.5\]"),
        ([[0, 0, 1, 1]], [np.nan], None, r"in \[0, 1\]"),
        ([[0, 0, 1, 1]], [0.5], np.zeros((2, 5, 2)), r"landmarks of 1 faces must have the shape \(1, P, 2\), found \(2, 5, 2\)"),
    ],
)
def test_detections_that_break_the_contract_are_refused(boxes: object, scores: object, landmarks: object, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        Detections(np.asarray(boxes), np.asarray(scores), landmarks)  # type: ignore[arg-type]


def test_evidence_and_detections_are_the_same_thing() -> None:
    found = Detections(np.array([[0, 0, 10, 20]]), np.array([0.5]), np.ones((1, 5, 2)))
    again = Detections.from_evidence(found.to_evidence())
    assert np.array_equal(again.boxes, found.boxes)
    assert np.array_equal(again.landmarks, found.landmarks)  # type: ignore[arg-type]
    assert not Detections.empty().to_evidence().valid
    assert len(Detections.from_evidence(Evidence.none("faces", "no face"))) == 0
    with pytest.raises(PluginError, match=r"needs boxes and scores, found \['boxes'\] without scores"):
        Detections.from_evidence(Evidence("faces", {"boxes": np.zeros((0, 4))}))


# geometry

WHOLE_BOXES = hnp.arrays(np.int64, st.tuples(st.integers(0, 4), st.just(4)), elements=st.integers(0, 12))


@given(WHOLE_BOXES, WHOLE_BOXES)
def test_iou_counts_pixels(a: np.ndarray, b: np.ndarray) -> None:
    a, b = (np.concatenate([np.minimum(x[:, :2], x[:, 2:]), np.maximum(x[:, :2], x[:, 2:])], axis=1) for x in (a, b))

    def pixels(box: np.ndarray) -> set[tuple[int, int]]:
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    expected = [[len(pixels(p) & pixels(q)) / max(1, len(pixels(p) | pixels(q))) for q in b] for p in a]
    found = iou(a, b)
    assert found.shape == (len(a), len(b))
    assert np.allclose(found, np.array(expected).reshape(found.shape))


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3))),
    st.integers(-15, 20),
    st.integers(-15, 20),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
def test_crop_cuts_the_square_and_repeats_the_edge(image: np.ndarray, x: int, y: int, width: int, height: int, margin: float) -> None:
    side = max(1, round(max(width, height) * (1 + 2 * margin)))
    left, top = round(x + width / 2 - side / 2), round(y + height / 2 - side / 2)
    expected = np.empty((side, side, 3), np.uint8)
    for row in range(side):
        for column in range(side):
            expected[row, column] = image[min(max(top + row, 0), image.shape[0] - 1), min(max(left + column, 0), image.shape[1] - 1)]
    assert np.array_equal(crop(image, np.array([x, y, x + width, y + height]), side, margin), expected)


def test_crop_has_the_asked_size_and_keeps_proportions() -> None:
    image = GREY.copy()
    cv2.circle(image, (160, 90), 20, (255, 255, 255), -1)
    for box in (np.array([140, 70, 180, 110]), np.array([150, 70, 170, 110])):
        cut = crop(image, box, 80, margin=0.5)
        assert cut.shape == (80, 80, 3)
        disc = np.argwhere(cut[..., 0] > 190)
        assert np.ptp(disc, axis=0).tolist() == pytest.approx([40, 40], abs=3)
        assert disc.mean(axis=0).tolist() == pytest.approx([39.5, 39.5], abs=1.5)


def test_a_crop_is_a_copy() -> None:
    image = GREY.copy()
    cut = crop(image, np.array([10, 10, 42, 42]), 32)
    image[:] = 0
    assert cut.min() == 128


# choosing pictures


@given(
    st.lists(st.integers(0, 400), unique=True, max_size=60),
    st.integers(0, 300),
    st.integers(0, 100),
    st.integers(1, 20),
    st.sampled_from([None, 1, 4, 16]),
)
def test_pick_never_takes_one_twice_nor_one_outside(ticks: list[int], start: int, length: int, count: int, stride: int | None) -> None:
    times = np.array(sorted(ticks)) / 25
    span = Span(start / 25, (start + length) / 25)
    inside = [i for i, t in enumerate(sorted(ticks)) if start <= t < start + length or t == start]
    chosen = pick(times, span, Frames(count=count, stride=stride), 25.0).tolist()
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(inside)
    if stride is None:
        assert len(chosen) == min(count, len(inside))
    else:
        assert len(chosen) <= count
        assert bool(chosen) == bool(inside)
    assert set(pick(times, span, Frames(fps=5), 25.0).tolist()) <= set(inside)


def test_pick_spreads_evenly() -> None:
    chosen = pick(np.arange(100) / 25, Span(0, 4), Frames(count=16))
    assert set(np.diff(chosen)) <= {6, 7}
    assert chosen[0] + 1 == pytest.approx(100 - chosen[-1], abs=2)


def test_pick_strides_over_native_frames_around_the_centre() -> None:
    chosen = pick(np.arange(100) / 25, Span(0, 4), Frames(count=16, stride=4), 25.0)
    assert np.diff(chosen).tolist() == [4] * 15
    assert abs(chosen.mean() - 49.5) <= 2.5
    assert pick(np.arange(100) / 25, Span(0, 4), Frames(count=16, stride=4)).tolist() == chosen.tolist()
    assert np.diff(pick(np.arange(200) / 50, Span(0, 4), Frames(count=16, stride=4), 50.0)).tolist() == [4] * 15
    short = pick(np.arange(20) / 25, Span(0, 4), Frames(count=16, stride=4), 25.0)
    assert np.diff(short).tolist() == [4] * (len(short) - 1)
    assert len(short) == 5


def test_overlapping_windows_choose_the_same_pictures_at_a_rate() -> None:
    times = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.09, 200))
    first, second = (pick(times, Span(start, start + 4), Frames(fps=5)) for start in (0.0, 2.0))
    assert [i for i in first if times[i] >= 2] == [i for i in second if times[i] < 4]


# the store


def fill(frames: Sequence[tuple[float, dict[int, tuple[tuple[float, float, float, float], float]]]], *items: Input) -> FaceStore:
    """A store that has seen frames of (time, {track: (box, score)})."""
    store = FaceStore(items or (ITEM,), native_fps=25.0)
    for time, found in frames:
        boxes, scores = [box for box, _ in found.values()], [score for _, score in found.values()]
        store.add(time, GREY, faces(*boxes, scores=scores), np.array(list(found), np.int64))
    return store


def test_who_is_there_all_the_time_comes_first() -> None:
    def at(i: int) -> dict[int, tuple[tuple[float, float, float, float], float]]:
        found = {7: (square(60, 60, 30), 0.8)}
        if i < 8:
            found[3] = (square(200, 90, 120), 0.95)  # larger, and soon gone
        if i == 5:
            found[1] = (square(150, 90, 170), 1.0)  # found by mistake
        return found

    store = fill([(i / 5, at(i)) for i in range(20)])
    assert [track for track, _ in store.subjects(Span(0, 4))] == [7, 3]
    assert [presence for _, presence in store.subjects(Span(0, 4))] == pytest.approx([0.8, 0.38])
    assert [track for track, _ in store.subjects(Span(2, 4))] == [7]
    assert store.frames_sampled(Span(2, 4)) == 10
    assert store.subjects(Span(10, 14)) == []


def test_a_face_in_one_frame_of_many_is_no_subject_even_where_nobody_else_is() -> None:
    frames = [(i / 5, {0: (square(100, 90), 0.9)} if i == 3 else {}) for i in range(20)]
    store = fill(frames)
    assert store.subjects(Span(0, 4)) == []
    assert [track for track, _ in store.subjects(Span(0.2, 0.7))] == [0]  # of three sampled frames, one is something
    assert [track for track, _ in fill([*frames[:4], (0.8, {0: (square(100, 90), 0.9)})]).subjects(Span(0, 4))] == [0]


def test_of_two_who_are_there_all_the_time_the_larger_comes_first_whatever_the_scores_say() -> None:
    both = {0: (square(60, 60, 30), 0.95), 1: (square(200, 90, 60), 0.9)}
    assert [track for track, _ in fill([(i / 5, both) for i in range(20)]).subjects(Span(0, 4))] == [1, 0]


def test_equal_subjects_are_ordered_by_id() -> None:
    both = {4: (square(60, 60, 30), 0.9), 2: (square(200, 90, 30), 0.9)}
    assert [track for track, _ in fill([(0.0, both)]).subjects(Span(0, 1))] == [2, 4]


def test_evidence_of_one_subject() -> None:
    wide = Input("faces", fps=2.0, size=32, margin=0.3)
    frames = [(i / 5, {} if i % 4 == 3 else {0: (square(100 + i, 90, 40 + i), 0.5 + i / 100)}) for i in range(20)]
    store = fill(frames, ITEM, wide)
    evidence = store.evidence(Span(0, 4), 0, ITEM)
    assert evidence.valid
    assert evidence.times is not None
    assert evidence.times.dtype == np.float64
    assert evidence.times.tolist() == sorted(evidence.times.tolist())
    assert {name: (values.shape, values.dtype.name) for name, values in evidence.data.items()} == {
        "crops": ((4, 16, 16, 3), "uint8"),
        "boxes": ((4, 4), "float32"),
        "scores": ((4,), "float32"),
    }
    index = (evidence.times * 5).round().astype(int)
    assert evidence.data["scores"].tolist() == pytest.approx((0.5 + index / 100).tolist())
    assert evidence.quality["face_size"] == pytest.approx(float(np.median(40 + index)))
    assert evidence.quality["face_score"] == pytest.approx(float(np.mean(0.5 + index / 100)))
    assert evidence.quality["face_share"] == pytest.approx(0.75)
    assert store.evidence(Span(0, 4), 0, wide).data["crops"].shape == (8, 32, 32, 3)
    assert store.evidence(Span(0, 0.5), 0, ITEM).data["crops"].shape[0] == 3  # fewer than asked for, none twice


def test_no_evidence_says_why() -> None:
    store = fill([(0.0, {0: (square(100, 90), 0.9)})])
    for evidence in (store.evidence(Span(0, 1), 5, ITEM), store.evidence(Span(2, 3), 0, ITEM)):
        assert (evidence.valid, evidence.reason, evidence.kind) == (False, "no face", "faces")
    assert store.at(5, Span(0, 1), ITEM) == []


def test_crops_that_nobody_announced_are_an_error() -> None:
    with pytest.raises(PluginError, match=r"no crops of size 99 with margin 0 were cut; announced were: size 16 margin 0"):
        fill([(0.0, {0: (square(100, 90), 0.9)})]).evidence(Span(0, 1), 0, Input("faces", count=1, size=99))


def test_crops_do_not_depend_on_who_else_asks() -> None:
    frames = [(i / 5, {0: (square(100 + 3 * i, 90), 0.9)}) for i in range(10)]
    alone = fill(frames, ITEM).evidence(Span(0, 2), 0, ITEM)
    others = (Input("faces", count=9, size=64, margin=0.5), ITEM, Input("faces", fps=3, size=16), Input("landmarks"))
    among = fill(frames, *others).evidence(Span(0, 2), 0, ITEM)
    assert np.array_equal(alone.data["crops"], among.data["crops"])
    assert len(fill(frames, *others)) == 2 * 10  # one crop for each size and margin, not for each asker


def test_landmarks_are_kept_where_the_detector_has_them() -> None:
    store = FaceStore([ITEM])
    found = Detections(np.array([[10, 10, 50, 50], [90, 90, 120, 120]]), np.array([0.9, 0.8]), np.arange(20).reshape(2, 5, 2))
    store.add(0.0, GREY, found, np.array([-1, 3]))
    evidence = store.evidence(Span(0, 1), 3, ITEM)
    assert evidence.data["landmarks"].tolist() == found.landmarks[1:].tolist()  # type: ignore[index]
    assert store.subjects(Span(0, 1)) == [(3, pytest.approx(0.8))]


def test_frame_units_get_the_same_pictures_one_by_one() -> None:
    store = fill([(i / 5, {0: (square(100 + i, 90), 0.9)}) for i in range(20)])
    together, single = store.evidence(Span(0, 4), 0, ITEM), store.at(0, Span(0, 4), ITEM)
    assert [time for time, _ in single] == together.times.tolist()  # type: ignore[union-attr]
    assert np.array_equal(np.concatenate([evidence.data["crops"] for _, evidence in single]), together.data["crops"])
    assert all(evidence.times.tolist() == [time] and len(evidence.data["boxes"]) == 1 for time, evidence in single)  # type: ignore[union-attr]


def test_an_image_is_a_span_without_length() -> None:
    store = fill([(0.0, {0: (square(100, 90), 0.9)})])
    assert store.subjects(Span(0, 0)) == [(0, pytest.approx(0.9))]
    assert store.evidence(Span(0, 0), 0, Input("faces", count=16, size=16, stride=4)).data["crops"].shape[0] == 1
    assert store.frames_sampled(Span(0, 0)) == 1


def test_memory_is_that_of_the_open_windows() -> None:
    store = FaceStore([ITEM])
    kept = []
    for i in range(500):
        store.add(i / 5, GREY, faces(square(100, 90)), np.array([0]))
        store.forget(i / 5 - 4)
        kept.append(len(store))
    assert max(kept) == 21
    assert store.evidence(Span(0, 4), 0, ITEM).reason == "no face"
    assert store.frames_sampled(Span(96, 100)) == 20


def test_tracking_and_cutting_do_not_depend_on_chunks() -> None:
    frames = [(i / 5, scene(1 + i // 7), faces(square(100 + 5 * i, 90), square(250, 60, 50))) for i in range(20)]

    def read(chunk: int) -> tuple[list[list[int]], Evidence]:
        tracker, store, ids = Tracker(), FaceStore([ITEM]), []
        for first in range(0, len(frames), chunk):
            for frame in frames[first : first + chunk]:
                found = tracker.update(*frame)
                ids.append(found.tolist())
                store.add(*frame, found)
        return ids, store.evidence(Span(0, 4), 0, ITEM)

    (ids, evidence), (again, same) = read(1), read(7)
    assert ids == again
    assert np.array_equal(evidence.data["crops"], same.data["crops"])
