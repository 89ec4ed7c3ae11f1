"""Faces: geometry against brute force, tracking of made scenes, what the store keeps, and both detectors on real clips."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from affectkit.api import CheckpointError, Clip, ConfigError, Evidence, Input, Media, MediaError, PluginError, Provider, Span
from affectkit.builtin.yunet import YuNet, YuNetOptions
from affectkit.decoding import read_frames
from affectkit.faces import Detections, FaceStore, Tracker, crop, iou, pick
from affectkit.media import open_media
from affectkit.needs import Frames

GREY = np.full((180, 320, 3), 128, np.uint8)
ITEM = Input("faces", count=4, size=16)


def faces(*boxes: Sequence[float], scores: Sequence[float] | None = None) -> Detections:
    """Detections with the given boxes, all of score 0.9 unless told otherwise."""
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), 0.9) if scores is None else np.array(scores))


def square(x: float, y: float, side: float = 40.0) -> tuple[float, float, float, float]:
    """A box by its centre."""
    return (x - side / 2, y - side / 2, x + side / 2, y + side / 2)


def scene(seed: int, size: tuple[int, int] = (180, 320)) -> np.ndarray:
    """A picture of blocks of random colours: two seeds are two shots."""
    blocks = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return cv2.resize(blocks, size[::-1], interpolation=cv2.INTER_NEAREST)


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


# tracking


def follow(frames: Sequence[tuple[float, np.ndarray, Detections]], **options: float) -> list[list[int]]:
    tracker = Tracker(**options)  # type: ignore[arg-type]
    return [tracker.update(*frame).tolist() for frame in frames]


def test_two_people_who_cross_keep_their_ids() -> None:
    frames = []
    for i in range(21):
        boxes = [square(40 + 12 * i, 60), square(280 - 12 * i, 110)]
        frames.append((i / 5, GREY, faces(*(boxes if i % 2 else boxes[::-1]))))
    ids = follow(frames)
    assert all(found == ([1, 0] if i % 2 else [0, 1]) for i, found in enumerate(ids))


def test_a_fast_head_stays_the_same_subject() -> None:
    assert follow([(i / 5, GREY, faces(square(40 + 26 * i, 90))) for i in range(9)]) == [[0]] * 9


def test_two_people_side_by_side_are_not_exchanged_when_one_is_missed() -> None:
    ids = follow(
        [(0.0, GREY, faces(square(100, 90), square(145, 90))), (0.2, GREY, faces(square(145, 90))), (0.4, GREY, faces(square(100, 90)))]
    )
    assert ids == [[0, 1], [1], [0]]


@pytest.mark.parametrize(("absent", "same"), [(0.8, True), (1.0, True), (1.2, False)])
def test_who_comes_back_within_a_second_is_the_same(absent: float, same: bool) -> None:
    times = np.arange(0, absent - 0.1, 0.2)[1:]
    frames = [(0.0, GREY, faces(square(100, 90))), *((float(t), GREY, Detections.empty()) for t in times)]
    frames.append((absent, GREY, faces(square(102, 90))))
    assert follow(frames)[-1] == [0 if same else 1]


def test_frames_far_apart_do_not_end_a_track() -> None:
    assert follow([(5.0 * i, GREY, faces(square(100 + i, 90))) for i in range(3)]) == [[0]] * 3


def test_a_cut_ends_all_tracks() -> None:
    tracker = Tracker()
    ids = [tracker.update(i / 5, scene(1 if i < 3 else 2), faces(square(100, 90))).tolist() for i in range(6)]
    assert ids == [[0]] * 3 + [[1]] * 3
    assert tracker.cuts == [pytest.approx(0.6)]


def test_a_change_of_light_or_of_a_corner_is_no_cut() -> None:
    darker = (scene(1) * 0.9).astype(np.uint8)
    banner = darker.copy()
    banner[150:] = 255
    assert follow([(i / 5, image, faces(square(100, 90))) for i, image in enumerate((scene(1), darker, banner))]) == [[0]] * 3


def test_a_change_of_the_frame_size_is_a_cut() -> None:
    assert follow([(0.0, scene(1), faces(square(50, 50))), (0.2, scene(1, (90, 160)), faces(square(50, 50)))]) == [[0], [1]]


def test_the_largest_faces_are_followed_and_the_others_counted() -> None:
    tracker = Tracker(max_tracks=2)
    small, middle, large = square(30, 30, 20), square(100, 30, 30), square(200, 90, 60)
    assert tracker.update(0.0, GREY, faces(small, middle)).tolist() == [1, 0]
    assert tracker.dropped == 0
    assert tracker.update(0.2, GREY, faces(small, middle, large)).tolist() == [-1, 0, 2]
    assert tracker.dropped == 1
    assert tracker.update(0.4, GREY, faces(small, middle, large)).tolist() == [-1, 0, 2]
    assert tracker.dropped == 2


def test_who_is_out_of_sight_makes_room() -> None:
    tracker = Tracker(max_tracks=1)
    assert tracker.update(0.0, GREY, faces(square(200, 90, 60))).tolist() == [0]
    assert tracker.update(0.2, GREY, faces(square(50, 50, 20))).tolist() == [1]
    assert tracker.dropped == 0


@given(st.lists(st.lists(st.tuples(st.integers(0, 320), st.integers(0, 180), st.integers(5, 80)), max_size=5), max_size=8))
def test_ids_are_distinct_and_count_up_from_zero(frames: list[list[tuple[int, int, int]]]) -> None:
    made = [(i / 5, GREY, faces(*(square(*face) for face in found))) for i, found in enumerate(frames)]
    ids = follow(made, max_tracks=3)
    assert ids == follow(made, max_tracks=3)
    seen: list[int] = []
    for found, (_, _, detections) in zip(ids, made, strict=True):
        given_ids = [track for track in found if track >= 0]
        assert len(found) == len(detections)
        assert len(set(given_ids)) == len(given_ids) <= 3
        seen += given_ids
    # the id of a face that a larger one displaces in its first frame is not used again
    assert max(seen, default=-1) < sum(len(detections) for _, _, detections in made)
    assert all(track >= 0 for track in seen)


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


# detectors


def look(provider: Provider, image: np.ndarray) -> Detections:
    clip = Clip(Media("m", Path("m"), "image", 0.0), Span(0, 0), frames=image[None], frame_times=np.zeros(1))
    return Detections.from_evidence(provider.provide([clip])[0])


def loaded(provider: Provider) -> Provider:
    provider.load(torch.device("cpu"), torch.float32)
    return provider


@pytest.fixture(scope="module")
def own() -> Provider:
    from affectkit_mini.detector import Faces

    return loaded(Faces())


@pytest.fixture(scope="module")
def yunet(shared_data: Path) -> Provider:
    return loaded(YuNet(YuNetOptions(checkpoint=str(shared_data / "weights" / "face_detection_yunet.onnx"))))


@pytest.fixture(params=["own", "yunet"])
def detector(request: pytest.FixtureRequest) -> Provider:
    return request.getfixturevalue(request.param)


def sampled(path: Path, fps: float = 5.0) -> Iterator[tuple[float, np.ndarray]]:
    """Pictures of a file, at most ``fps`` a second, up to where it breaks."""
    due = -np.inf
    try:
        for frame in read_frames(open_media(path)):
            if frame.time >= due - 1e-6:
                due = (np.floor(frame.time * fps + 1e-6) + 1) / fps
                yield frame.time, frame.rgb()
    except MediaError:
        return


def watch(path: Path, provider: Provider) -> tuple[FaceStore, Tracker, dict[float, list[int]]]:
    """A whole clip through detector, tracker and store, and the ids in each sampled frame."""
    tracker, store, ids = Tracker(), FaceStore([ITEM]), {}
    for time, image in sampled(path):
        found = look(provider, image)
        tracks = tracker.update(time, image, found)
        store.add(time, image, found, tracks)
        ids[round(time, 2)] = tracks.tolist()
    return store, tracker, ids


def portrait() -> np.ndarray:
    """The public-domain photograph that matplotlib ships: (H, W, 3) uint8 RGB."""
    from matplotlib.cbook import get_sample_data

    with get_sample_data("grace_hopper.jpg") as file:
        return cv2.cvtColor(cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def test_a_portrait_is_found_at_any_size(detector: Provider) -> None:
    image = portrait()
    whole = look(detector, image)
    whole = whole[whole.side > 40]  # a decoration may look like a tiny face
    assert len(whole) == 1
    for scale in (0.3, 0.5, 2.0):
        found = look(detector, cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
        assert iou(found.boxes / scale, whole.boxes).max() > 0.75
    face = crop(image, whole.boxes[0], 200, margin=0.02)
    assert (look(detector, face).side > 100).sum() == 1  # a face that fills the picture


@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (19, 19), (500, 3), (240, 320)])
def test_detectors_find_nothing_in_nothing(detector: Provider, shape: tuple[int, int]) -> None:
    for image in (np.zeros((*shape, 3), np.uint8), np.full((*shape, 3), 255, np.uint8)):
        evidence = detector.provide([Clip(Media("m", Path("m"), "image", 0.0), Span(0, 0), frames=image[None])])[0]
        assert (evidence.valid, evidence.reason) == (False, "no face")


def test_detectors_take_frames_of_different_sizes_and_do_not_depend_on_neighbours(detector: Provider) -> None:
    images = [portrait(), np.zeros((90, 160, 3), np.uint8), portrait()[::2, ::2], portrait()[:, 100:]]
    clips = [Clip(Media("m", Path("m"), "image", 0.0), Span(0, 0), frames=image[None]) for image in images]
    together = detector.provide([*clips, Clip(Media("m", Path("m"), "image", 0.0), Span(0, 0))])
    assert [evidence.valid for evidence in together] == [True, False, True, True, False]
    assert together[-1].reason == "no picture"
    for clip, evidence in zip(clips, together, strict=False):
        alone = detector.provide([clip])[0]
        assert np.array_equal(Detections.from_evidence(alone).boxes, Detections.from_evidence(evidence).boxes)


def test_yunet_gives_landmarks_in_its_order(yunet: Provider) -> None:
    found = look(yunet, portrait())
    assert len(found) == 1
    assert found.landmarks is not None
    right_eye, left_eye, nose, right_mouth, left_mouth = found.landmarks[0]
    assert right_eye[0] < nose[0] < left_eye[0]
    assert right_mouth[0] < left_mouth[0]
    assert max(right_eye[1], left_eye[1]) < nose[1] < min(right_mouth[1], left_mouth[1])


def test_both_detectors_mean_the_same_box(own: Provider, yunet: Provider) -> None:
    a, b = look(own, portrait()), look(yunet, portrait())
    assert iou(a.boxes, b.boxes).max() > 0.7


def test_yunet_shrinks_large_frames_and_answers_in_their_pixels(shared_data: Path, yunet: Provider) -> None:
    large = look(yunet, cv2.resize(portrait(), None, fx=3, fy=3))
    weights = str(shared_data / "weights" / "face_detection_yunet.onnx")
    unshrunk = look(loaded(YuNet(YuNetOptions(checkpoint=weights, max_side=0))), portrait())
    assert iou(large.boxes / 3, unshrunk.boxes).max() > 0.8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: YuNetOptions(score=1.5), r"core/yunet: score must be in \[0, 1\], found 1.5"),
        (lambda: YuNetOptions(nms=-1), r"core/yunet: nms must be in \[0, 1\], found -1"),
        (lambda: YuNetOptions(max_side=-1), "core/yunet: max_side must not be negative, found -1"),
    ],
)
def test_options_out_of_range_are_refused(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()  # type: ignore[operator]


def test_yunet_says_how_to_get_its_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AFFECTKIT_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"yunet_n_640_640\.onnx are not here"):
        loaded(YuNet())


def test_yunet_refuses_a_file_that_is_no_network(tmp_path: Path) -> None:
    (tmp_path / "face.onnx").write_bytes(b"this is not a network")
    with pytest.raises(CheckpointError, match=r"face\.onnx is not a network that OpenCV .* can read"):
        loaded(YuNet(YuNetOptions(checkpoint=str(tmp_path / "face.onnx"))))


def test_declaring_the_detectors_imports_nothing_heavy() -> None:
    code = "import affectkit.builtin.yunet, affectkit_mini.detector, affectkit.faces, sys; print({'torch', 'cv2', 'av', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


# real clips


def test_a_single_face_is_one_subject_nearly_everywhere(shared_data: Path, detector: Provider) -> None:
    for name in ("single_face.mp4", "talking_head_8s.mp4"):
        store, tracker, ids = watch(shared_data / "video" / name, detector)
        subjects = store.subjects(Span(0, 60))
        assert tracker.cuts == []
        assert subjects[0][1] > 0.6
        best = subjects[0][0]
        assert sum(best in found for found in ids.values()) >= 0.95 * len(ids)
        assert store.evidence(Span(0, 4), best, ITEM).data["crops"].shape == (4, 16, 16, 3)


def test_a_clip_without_faces_has_none(shared_data: Path, detector: Provider) -> None:
    store, _, ids = watch(shared_data / "video" / "no_face.mp4", detector)
    assert not any(ids.values())
    assert store.subjects(Span(0, 60)) == []
    assert store.frames_sampled(Span(0, 60)) == len(ids) > 0


@pytest.mark.parametrize(("name", "first", "last"), [("face_noface.mov", True, False), ("noface_face.mov", False, True)])
def test_a_face_that_leaves_or_enters(shared_data: Path, detector: Provider, name: str, first: bool, last: bool) -> None:
    store, _, ids = watch(shared_data / "video" / name, detector)
    times = sorted(ids)
    assert bool(store.subjects(Span(0, 1))) == first
    assert bool(store.subjects(Span(times[-1] - 1, times[-1] + 1))) == last
    share = sum(bool(found) for found in ids.values()) / len(ids)
    assert 0.3 < share < 0.5
    [(best, _), *_] = store.subjects(Span(0, 60))
    seen = [time for time in times if best in ids[time]]
    assert max(seen) - min(seen) < 3  # there once, not now and then


def test_shots_of_a_debate(shared_data: Path, yunet: Provider) -> None:
    expected = json.loads((shared_data / "expected" / "test_video_audio_5_seconds_video_annotation.json").read_text())
    _, tracker, ids = watch(shared_data / "video" / "debate_5s.mp4", yunet)
    close_up = {round(t, 2): box for t, box in zip(expected["time"], expected["face_box"], strict=True) if box is not None}
    assert all(any(abs(cut - start) < 0.25 for cut in tracker.cuts) for start in (3.6, 3.8))
    before = {track for time, found in ids.items() if time < 3.5 for track in found}
    after = {track for time, found in ids.items() if time in close_up for track in found}
    assert not before & after
    most = Counter(track for time, found in ids.items() if time < 3.5 for track in found).most_common(2)
    assert all(count >= 16 for _, count in most)  # the two on stage, all the time


def test_faces_of_the_debate_are_where_another_tool_sees_them(shared_data: Path, detector: Provider) -> None:
    expected = json.loads((shared_data / "expected" / "test_video_audio_5_seconds_video_annotation.json").read_text())
    boxes = {round(t, 2): box for t, box in zip(expected["time"], expected["face_box"], strict=True)}
    overlaps = []
    for time, image in sampled(shared_data / "video" / "debate_5s.mp4"):
        box = boxes[round(time, 2)]
        if box is not None:
            overlaps.append(iou(look(detector, image).boxes, np.array([box])).max(initial=0.0))
    assert len(overlaps) == 6
    assert min(overlaps) > 0.5
    assert np.mean(overlaps) > 0.55


def test_a_shot_change_is_found_once(shared_data: Path) -> None:
    tracker = Tracker()
    for time, image in sampled(shared_data / "video_edge" / "shot_change.mp4"):
        tracker.update(time, image, Detections.empty())
    assert len(tracker.cuts) == 1
    assert tracker.cuts[0] == pytest.approx(3.2, abs=0.21)


@pytest.mark.parametrize("name", ["silent_audio_track.mp4", "corrupted.mp4", "nasa_13013.mp4", "park.mp4", "small.mp4"])
def test_other_clips_have_no_cut_where_there_is_none(shared_data: Path, name: str) -> None:
    tracker = Tracker()
    for time, image in sampled(shared_data / "video_edge" / name):
        tracker.update(time, image, Detections.empty())
    assert len(tracker.cuts) == (1 if name == "nasa_13013.mp4" else 0)
