"""Who is who: made scenes, cuts, and what holds for any boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectkit.faces import Detections, Tracker
from tests.face_helpers import GREY, faces, scene, square


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
