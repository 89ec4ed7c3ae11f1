"""Both detectors: portraits, odd frames, their weights, and real clips from detection to subjects."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from affectkit.api import CheckpointError, Clip, ConfigError, Input, Media, MediaError, Provider, Span
from affectkit.builtin.yunet import YuNet, YuNetOptions
from affectkit.decoding import read_frames
from affectkit.faces import Detections, FaceStore, Tracker, crop, iou
from affectkit.media import open_media

ITEM = Input("faces", count=4, size=16)


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
