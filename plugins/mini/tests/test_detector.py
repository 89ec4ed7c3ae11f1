"""mini/faces: the contract, batches, sizes, and where real faces are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import affectkit_mini
import cv2
import numpy as np
import pytest
import torch
from affectkit_mini.detector import Faces, FacesOptions, distinct
from affectkit_mini.single_shot import CLOSE, MARGIN, FaceFinder, cells, closer, decode, fold

from affectkit.api import CheckpointError, Clip, ConfigError, Evidence, Media, Span
from affectkit.builtin.yunet import YuNet, YuNetOptions
from affectkit.detections import Detections, iou
from affectkit.testing import ProviderContract
from affectkit.weight_files import random_network

CPU = torch.device("cpu")


def still(picture: np.ndarray) -> Clip:
    """A clip of one frame (H, W, 3) uint8."""
    return Clip(Media("still", Path("still.png"), "image", 0.0), Span(0.0, 0.0), frames=picture[None], frame_times=np.zeros(1))


def find(component: Faces, *pictures: np.ndarray) -> list[Detections]:
    return [Detections.from_evidence(evidence) for evidence in component.provide([still(picture) for picture in pictures])]


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def faces() -> Faces:
    component = Faces(FacesOptions(bf16=False))  # the same on every processor
    component.load(CPU, torch.float32)
    return component


@pytest.fixture(scope="module")
def eager() -> Faces:
    """Says something about every picture, whatever is in it."""
    component = Faces(FacesOptions(score=0.0, bf16=False))
    component.load(CPU, torch.float32)
    return component


@pytest.fixture(scope="module")
def photo(shared_data: Path) -> np.ndarray:
    """Five people, (H, W, 3) uint8 RGB."""
    return cv2.imread(str(shared_data / "images" / "multi_face.jpg"))[..., ::-1].copy()


@pytest.fixture(scope="module")
def portrait(shared_data: Path) -> np.ndarray:
    return cv2.imread(str(shared_data / "images" / "angry.jpg"))[..., ::-1].copy()


class TestFaces(ProviderContract):
    component = Faces
    options: ClassVar = {"score": 0.0}  # the clips of the contract hold no face; what is said of them anyway must be well formed

    @staticmethod
    def examples() -> Sequence[Clip]:
        return [still(noise(height, width)) for height, width in ((240, 320), (320, 240), (150, 200), (48, 64))]


def test_the_people_of_a_photo_are_where_yunet_sees_them(faces: Faces, photo: np.ndarray, shared_data: Path):
    teacher = YuNet(YuNetOptions(checkpoint=str(shared_data / "weights" / "face_detection_yunet.onnx")))
    teacher.load(CPU, torch.float32)
    truth, found = Detections.from_evidence(teacher.provide([still(photo)])[0]), find(faces, photo)[0]
    overlap = iou(truth.boxes, found.boxes)
    assert overlap.shape == (5, 5)
    assert (overlap.max(1) > 0.5).all()
    apart = np.linalg.norm(found.landmarks[overlap.argmax(1)] - truth.landmarks, axis=2) / truth.side[:, None]
    assert np.median(apart) < 0.1
    assert np.median(apart, axis=1).max() < 0.25


def test_half_precision_finds_the_same_faces(photo: np.ndarray, portrait: np.ndarray):
    found = []
    for options, dtype in ((FacesOptions(score=0.5, bf16=False), torch.float32), (FacesOptions(score=0.5, bf16=True), torch.float32)):
        component = Faces(options)
        component.load(CPU, dtype)
        found.append(find(component, photo, portrait))
    for single, half in zip(*found, strict=True):
        assert len(single) == len(half) > 0
        np.testing.assert_allclose(half.scores, single.scores, atol=0.02)
        np.testing.assert_allclose(half.boxes, single.boxes, atol=1.0)
        np.testing.assert_allclose(half.landmarks, single.landmarks, atol=1.0)
    assert not np.array_equal(found[0][0].boxes, found[1][0].boxes), "it was asked for and is used"


def test_boxes_follow_the_picture(faces: Faces, portrait: np.ndarray):
    wide = np.zeros((portrait.shape[0] + 60, portrait.shape[1] + 100, 3), np.uint8)
    wide[60:, 100:] = portrait
    here, there = find(faces, portrait, wide)
    assert len(here) == len(there) == 1
    assert iou(here.boxes + np.array([100, 60, 100, 60]), there.boxes)[0, 0] > 0.7


def test_landmarks_are_the_persons_own_left_and_right(faces: Faces, portrait: np.ndarray):
    plain, mirrored = find(faces, portrait, portrait[:, ::-1].copy())
    width = portrait.shape[1]
    for found in (plain, mirrored):
        right_eye, left_eye, nose, right_corner, left_corner = found.landmarks[0]
        assert right_eye[0] < nose[0] < left_eye[0]
        assert right_corner[0] < left_corner[0]
        assert right_eye[1] < nose[1] < right_corner[1]
    swapped = mirrored.landmarks[0][[1, 0, 2, 4, 3]] * np.array([-1, 1]) + np.array([width, 0])
    assert np.abs(swapped - plain.landmarks[0]).max() < 0.15 * plain.side[0]


def test_a_frame_alone_is_read_as_in_a_batch(eager: Faces):
    pictures = [noise(120, 160), noise(160, 120), noise(120, 160)[::-1].copy(), *([noise(90, 90)] * 20)]
    together = find(eager, *pictures)
    assert sum(map(len, together)) > 0
    for picture, found in zip(pictures, together, strict=True):
        alone = find(eager, picture)[0]
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=1e-2)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (7, 9), (33, 31), (320, 320), (1080, 1920)])
def test_every_size_has_an_answer(eager: Faces, size: tuple[int, int]):
    [found] = find(eager, noise(*size))
    assert found.landmarks is None or np.isfinite(found.landmarks).all()
    assert (found.boxes[:, :2] < size[::-1]).all()
    assert (found.boxes[:, 2:] > 0).all()


@pytest.mark.parametrize("colour", [0, 128, 255])
def test_nobody_is_in_an_empty_picture(faces: Faces, colour: int):
    [evidence] = faces.provide([still(np.full((240, 320, 3), colour, np.uint8))])
    assert (evidence.valid, evidence.reason) == (False, "no face")


def test_no_picture_is_no_evidence(faces: Faces, portrait: np.ndarray):
    without = replace(still(portrait), frames=None, frame_times=None)
    first, second = faces.provide([without, still(portrait)])
    assert (first.valid, first.reason) == (False, "no picture")
    assert second.valid
    assert isinstance(second, Evidence)


def test_a_higher_score_leaves_out_more(eager: Faces):
    many = find(eager, noise(240, 320))[0]
    least = float(np.median(many.scores))
    strict = Faces(FacesOptions(score=least))
    strict.load(CPU, torch.float32)
    few = find(strict, noise(240, 320))[0]
    assert 0 < len(few) < len(many)
    assert few.scores.min() >= least


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"score": 1.5}, "score must be in"),
        ({"nms": -0.1}, "nms must be in"),
        ({"max_side": 31}, "max_side must be at least 32 pixels, found 31"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], told: str):
    with pytest.raises(ConfigError, match=told):
        FacesOptions(**options)


def test_there_are_no_random_weights(tmp_path: Path):
    with pytest.raises(CheckpointError, match="has no random weights: with random numbers it would find no face"):
        Faces().write_random("default", tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_of_another_network_are_refused():
    other = Path(affectkit_mini.__file__).parent / "weights" / "scene.safetensors"
    with pytest.raises(CheckpointError, match="does not fit FaceFinder"):
        Faces(FacesOptions(checkpoint=str(other))).load(CPU, torch.float32)


def test_cells_lie_row_by_row_in_three_grids():
    centres, strides = cells(64, 96)
    assert len(centres) == 8 * 12 + 4 * 6 + 2 * 3
    assert strides.unique().tolist() == [8.0, 16.0, 32.0]
    np.testing.assert_array_equal(centres[12], [4.0, 12.0])
    np.testing.assert_array_equal(centres[-1], [80.0, 48.0])


def test_answers_are_offsets_logarithms_and_points_in_strides():
    answers = torch.zeros(1, 15)
    answers[0, 1:5] = torch.tensor([0.5, -0.5, np.log(2.0), np.log(4.0)])
    answers[0, 5:7] = torch.tensor([1.0, -1.0])
    boxes, points = decode(answers, torch.tensor([[100.0, 200.0]]), torch.tensor([[16.0]]))
    torch.testing.assert_close(boxes, torch.tensor([[92.0, 160.0, 124.0, 224.0]]))
    torch.testing.assert_close(points[0, :2], torch.tensor([[116.0, 184.0], [100.0, 200.0]]))


def test_folded_normalisation_says_the_same():
    network = random_network(FaceFinder)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(part.running_var, 0.5, 2.0)
    network.eval()
    pictures = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        plain = network(pictures), network.judge(pictures[..., :CLOSE, :CLOSE])
        fold(network)
        folded = network(pictures), network.judge(pictures[..., :CLOSE, :CLOSE])
    torch.testing.assert_close(plain, folded, atol=1e-4, rtol=1e-4)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in network.modules())


def test_the_closer_look_sees_the_square_around_a_box():
    picture = torch.zeros(3, 100, 200, dtype=torch.uint8)
    picture[0, 40:60, 100:140] = 255
    side = 40 * MARGIN
    inside, beside = closer(picture, torch.tensor([[100.0, 40, 140, 60], [180, 80, 220, 120]]))
    edge = CLOSE * (1 - 40 / side) / 2
    columns = torch.nonzero(inside[0, CLOSE // 2] > 127).flatten()
    assert abs(columns.min() - edge) <= 1
    assert abs(columns.max() - (CLOSE - 1 - edge)) <= 1
    assert (inside[0] > 127).sum() == pytest.approx((CLOSE - 2 * edge) ** 2 / 2, rel=0.1)
    assert not inside[1:].any()
    assert not beside.any()


def test_what_is_beside_the_picture_is_black_at_a_closer_look():
    [view] = closer(torch.full((3, 40, 40), 200, dtype=torch.uint8), torch.tensor([[20.0, 20, 60, 60]]))
    seen = (40 - (40 - 20 * MARGIN)) / (40 * MARGIN)  # share of the square that is in the picture
    assert (view[0] > 100).float().mean() == pytest.approx(seen**2, abs=0.05)


def test_a_box_without_a_face_falls_through_at_the_closer_look(faces: Faces, portrait: np.ndarray):
    height, width = portrait.shape[:2]
    found = find(faces, portrait)[0]
    elsewhere = np.array([[0, 0, 0.2 * width, 0.2 * height]], np.float32)
    both = Detections(np.concatenate([found.boxes[:1], elsewhere]), np.array([0.5, 0.5]), np.repeat(found.landmarks[:1], 2, 0))
    frame = torch.from_numpy(portrait).permute(2, 0, 1)
    always = Faces(FacesOptions(score=0.0))
    always.load(CPU, torch.float32)
    judged, none = always._judged(
        torch.stack([frame, frame]), [both, found.__class__(found.boxes[:0], found.scores[:0], found.landmarks[:0])]
    )
    assert not len(none)
    np.testing.assert_array_equal(judged.boxes[0], found.boxes[0])
    assert judged.scores[0] > 0.6
    assert judged.scores[1] < 0.2


def test_of_overlapping_boxes_the_best_stays():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [2, 0, 12, 10], [30, 0, 40, 10]], np.float32)
    assert distinct(boxes, 0.5).tolist() == [0, 3]
    assert distinct(boxes, 0.9).tolist() == [0, 1, 2, 3]
    assert distinct(np.zeros((0, 4), np.float32), 0.5).tolist() == []
