"""finecliper/landmarks: the networks of the bundle on real faces and on drawn ones, what is drawn of them, and what is no evidence."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from affectkit_finecliper import drawing, landmarker, mesh, tiny_landmarker
from affectkit_finecliper.landmarker import DETECTOR, SHAPES, Found, Landmarker
from affectkit_finecliper.landmarks import Landmarks, LandmarksOptions
from affectkit_finecliper.parsing import Parsing
from affectkit_finecliper.views import FACES

from affectkit.api import BASIC7, CheckpointError, Clip, ConfigError, Evidence, Modality, Needs, Output, Provider
from affectkit.builtin.yunet import YuNet, YuNetOptions
from affectkit.clips import Clock
from affectkit.config import Recipe
from affectkit.faces import crop
from affectkit.media import Span, open_media
from affectkit.planner import Plan
from affectkit.reader import Reader
from affectkit.testing import ProviderContract

from .conftest import CPU, MEDIA

NEAR = 0.13  # of the distance between the eyes: YuNet's points are about a tenth of it away from what they mean
PHOTOS = ("angry", "disgusted", "fearful", "happy", "justin", "neutral", "sad", "single_face", "surprised")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that sees the same face in every crop."""
    return tiny_landmarker.write(tmp_path_factory.mktemp("tiny") / "face_landmarker.task")


@pytest.fixture(scope="module")
def bundle(shared_data: Path) -> Path:
    """MediaPipe's own."""
    return shared_data / "weights" / "face_landmarker.task"


@pytest.fixture(scope="module")
def real(bundle: Path) -> Landmarker:
    return Landmarker(bundle, "finecliper/landmarks", blendshapes=True)


@pytest.fixture(scope="module")
def detector(shared_data: Path) -> YuNet:
    found = YuNet(YuNetOptions(checkpoint=str(shared_data / "weights" / "face_detection_yunet.onnx")))
    found.load(CPU, torch.float32)
    return found


@pytest.fixture(scope="module")
def photos(shared_data: Path, detector: YuNet) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The largest face of each photo: its crop (224, 224, 3), and YuNet's five points (5, 2) in pixels of it."""
    found = {}
    for name in PHOTOS:
        image, faces = picture(shared_data / "images" / f"{name}.jpg", detector)
        largest = np.argmax(np.prod(faces.data["boxes"][:, 2:] - faces.data["boxes"][:, :2], axis=1))
        box, five = faces.data["boxes"][largest], faces.data["landmarks"][largest]
        found[name] = (crop(image, box, FACES.size, FACES.margin), in_crop(five, box))
    return found


def picture(path: Path, detector: YuNet) -> tuple[np.ndarray, Evidence]:
    import cv2

    image = cv2.imread(str(path))[..., ::-1]
    (faces,) = detector.provide([Clip(replace(MEDIA, size=image.shape[:2]), Span(0, 0), frames=image[None])])
    return image, faces


def in_crop(points: np.ndarray, box: np.ndarray, size: int = FACES.size, margin: float = FACES.margin) -> np.ndarray:
    """Points of a frame in pixels of the crop around a box."""
    side = (box[2:] - box[:2]).max() * (1 + 2 * margin)
    return (points - ((box[:2] + box[2:]) / 2 - side / 2)) * size / side


def five_of(points: np.ndarray) -> np.ndarray:
    """What YuNet's points are among (..., 478, 3): (..., 5, 2)."""
    return np.stack([points[..., list(some), :2].mean(axis=-2) for some in mesh.FIVE], axis=-2)


def eyes(points: np.ndarray) -> np.ndarray:
    """Distance between the eyes, the unit of errors."""
    five = five_of(points)
    return np.linalg.norm(five[..., 0, :] - five[..., 1, :], axis=-1)


def error(points: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Mean distance of points (..., P, 2 or more) in units of the distance between the eyes of the first."""
    return np.linalg.norm(points[..., :2] - wanted[..., :2], axis=-1).mean(axis=-1) / eyes(points)


def turned(image: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """A picture turned about its middle, and the map (2, 3) of its points."""
    import cv2

    side = image.shape[0]
    turn = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), degrees, 1.0)
    shown = cv2.warpAffine(np.ascontiguousarray(image), turn, (side, side), borderMode=cv2.BORDER_REPLICATE)
    points = turn.copy()
    points[:, 2] += 0.5 - turn[:, :2] @ np.full(2, 0.5)  # points count from the corner of the first pixel
    return shown, points


def clip(crops: np.ndarray | None, reason: str = "no face") -> Clip:
    times = np.arange(0 if crops is None else len(crops)) / 4
    faces = Evidence.none("faces", reason) if crops is None else Evidence("faces", {"crops": crops}, times=times)
    return Clip(MEDIA, Span(0, 4), 0, inputs={"faces": faces})


def noise(count: int, side: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def made(path: Path, **options: Any) -> Landmarks:
    component = Landmarks(LandmarksOptions(checkpoint=str(path), **options))
    component.id = "finecliper/landmarks"
    component.load(CPU, torch.float32)
    return component


class TestLandmarks(ProviderContract):
    """What every provider promises, with a drawn face."""

    component = Landmarks

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def random_weights(cls, tiny: Path) -> None:
        cls.options = {"checkpoint": str(tiny), "blendshapes": True}


# real faces


def test_points_lie_on_the_eyes_the_nose_and_the_mouth(real: Landmarker, photos: dict):
    crops, wanted = (np.stack(rows) for rows in zip(*photos.values(), strict=True))
    found = real.find(crops)
    each = np.linalg.norm(five_of(found.points) - wanted, axis=-1) / eyes(found.points)[:, None]
    assert found.presence.min() > 0.9
    assert np.median(each, axis=0).max() < NEAR, "right eye, left eye, nose, right and left corner of the mouth"
    assert each.mean() < NEAR
    swapped = five_of(found.points)[:, [1, 0, 2, 4, 3]]
    assert (np.linalg.norm(swapped - wanted, axis=-1) / eyes(found.points)[:, None])[:, [0, 1, 3, 4]].min() > 0.3, (
        "right is the person's right"
    )


def test_irises_lie_within_the_lids_of_open_eyes(real: Landmarker, photos: dict):
    points = real.find(photos["surprised"][0][None]).points[0, :, :2]
    for iris, lids in ((mesh.IRISES[0], mesh.RIGHT_EYE), (mesh.IRISES[5], mesh.LEFT_EYE)):
        low, high = points[list(lids)].min(axis=0), points[list(lids)].max(axis=0)
        assert (low < points[iris]).all()
        assert (points[iris] < high).all()


def test_what_is_no_face_is_not_taken_for_one(real: Landmarker, shared_data: Path):
    import cv2

    view = cv2.imread(str(shared_data / "images" / "no-faces.jpg"))[..., ::-1]
    side = min(view.shape[:2]) // 2
    parts = [view[top : top + side, left : left + side] for top in (0, side) for left in range(0, view.shape[1] - side, side)]
    flat = [np.full((96, 96, 3), level, np.uint8) for level in (0, 128, 255)]
    assert max(real.find(image[None]).presence[0] for image in [*parts, *flat, noise(1)[0]]) < 0.5


@pytest.mark.parametrize("degrees", [-30, 15, 30])
def test_a_second_look_follows_a_head_that_is_turned(real: Landmarker, photos: dict, degrees: float):
    once, twice = [], []
    for shown, _ in photos.values():
        image, move = turned(shown, degrees)
        wanted = real.find(shown[None], 3).points[0, :, :2] @ move[:, :2].T + move[:, 2]
        once.append(error(real.find(image[None], 1).points[0], wanted))
        twice.append(error(real.find(image[None], 2).points[0], wanted))
    assert np.median(twice) < 0.04
    assert np.median(twice) < 0.7 * np.median(once)


def test_a_mirrored_face_has_mirrored_points(real: Landmarker, photos: dict):
    """What stands in the tables for right and left is each other's mirror image."""
    crops = np.stack([shown for shown, _ in photos.values()])
    points, mirrored = real.find(crops, 3).points, real.find(crops[:, :, ::-1], 3).points
    mirrored = mirrored * [-1, 1, 1] + [crops.shape[1], 0, 0]
    pairs = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
    pairs += [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]  # eyes
    pairs += [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]  # lips
    assert sorted(pairs) == list(range(68))
    table = np.array(mesh.IBUG68)
    difference = np.linalg.norm(points[:, table, :2] - mirrored[:, table[pairs], :2], axis=-1) / eyes(points)[:, None]
    assert np.median(difference, axis=0).max() < 0.12
    assert difference.mean() < 0.05
    for right, left in ((mesh.RIGHT_EYE, mesh.LEFT_EYE), (mesh.RIGHT_BROW, mesh.LEFT_BROW)):
        assert error_of_sets(points, mirrored, right, left) < 0.06


def error_of_sets(points: np.ndarray, mirrored: np.ndarray, right: Sequence[int], left: Sequence[int]) -> float:
    difference = points[:, list(right), :2] - mirrored[:, list(left), :2]
    return float((np.linalg.norm(difference, axis=-1) / eyes(points)[:, None]).mean())


def test_blendshapes_name_what_a_face_does(real: Landmarker, photos: dict):
    crops = np.stack([shown for shown, _ in photos.values()])
    weights, mirrored = real.find(crops).blendshapes, real.find(crops[:, :, ::-1]).blendshapes
    assert weights.shape == (len(photos), 52)
    happy, neutral, angry, surprised = (
        dict(zip(mesh.BLENDSHAPES, weights[list(photos).index(name)].tolist(), strict=True))
        for name in ("happy", "neutral", "angry", "surprised")
    )
    assert min(happy["mouthSmileLeft"], happy["mouthSmileRight"]) > 0.6 > 0.3 > neutral["mouthSmileLeft"]
    assert min(angry["browDownLeft"], angry["browDownRight"]) > 2 * max(happy["browDownLeft"], happy["browDownRight"])
    assert surprised["jawOpen"] > max(neutral["jawOpen"], angry["jawOpen"])
    assert happy["neutral"] < 0.1
    sides = [
        [mesh.BLENDSHAPES.index(f"{name[:-4]}{side}") for name in mesh.BLENDSHAPES if name.endswith("Left") for side in ("Left", "Right")]
    ]
    left, right = np.array(sides).reshape(-1, 2).T
    slant, mirror = (values[:, left] - values[:, right] for values in (weights, mirrored))
    assert np.corrcoef(slant.ravel(), mirror.ravel())[0, 1] < -0.5, "left and right are each other's mirror image"


def test_size_and_margin_of_crops_hardly_matter(real: Landmarker, shared_data: Path, detector: YuNet):
    image, faces = picture(shared_data / "images" / "single_face.jpg", detector)
    box = faces.data["boxes"][0]
    found = {}
    for size, margin in ((224, 0.2), (96, 0.2), (640, 0.2), (224, 0.0), (224, 0.4)):
        side = (box[2:] - box[:2]).max() * (1 + 2 * margin)
        points = real.find(crop(image, box, size, margin)[None]).points[0]
        found[size, margin] = points[:, :2] * side / size - side / 2
    first = found.pop((224, 0.2))
    assert max(error(points, first) for points in found.values()) < 0.05


class Viewer(Modality):
    """Asks for crops and what is drawn over them."""

    labels = BASIC7
    needs = Needs(inputs=(FACES, replace(FACES, kind="landmarks"), replace(FACES, kind="parsing")))

    def preprocess(self, clip: Clip) -> None:
        return None

    def predict(self, batch: object) -> Output:
        raise NotImplementedError


@pytest.mark.parametrize("name", ["talking_head_8s.mp4", "single_face.mp4", "noface_face.mov", "expressive_d3.mp4"])
def test_on_real_videos_the_points_are_in_the_pixels_of_the_crops(name: str, bundle: Path, detector: YuNet, shared_data: Path):
    providers: dict[str, list[Provider]] = {"faces": [detector], "landmarks": [made(bundle)], "parsing": [Parsing()]}
    recipe = Recipe.from_mapping({"modalities": ["test/viewer"], "providers": {}, "fusion": "core/mean"})

    def fail(stage: str, component: str, problem: Exception) -> None:
        raise problem

    windows = Reader(open_media(shared_data / "video" / name), Plan(recipe, {"test/viewer": Viewer()}, providers), Clock(), fail).windows()
    errors, seen = [], 0
    for request in (request for window in windows for request in window.requests):
        faces, marks, parts = (request.clip.inputs[kind] for kind in ("faces", "landmarks", "parsing"))
        if not faces.valid:
            assert (marks.valid, parts.valid, marks.reason) == (False, False, faces.reason)
            continue
        seen += 1
        assert marks.valid
        np.testing.assert_array_equal(marks.times, faces.times)
        assert marks.data["maps"].shape == parts.data["maps"].shape == faces.data["crops"].shape
        wanted = np.stack([in_crop(five, box) for five, box in zip(faces.data["landmarks"], faces.data["boxes"], strict=True)])
        points = marks.data["points"][marks.data["valid"]]
        errors.append(np.linalg.norm(five_of(points) - wanted[marks.data["valid"]], axis=-1) / eyes(points)[:, None])
        nose = marks.data["points"][:, mesh.FIVE[2][0], :2].astype(int)
        regions = parts.data["labels"][np.arange(len(nose)), nose[:, 1], nose[:, 0]]
        assert set(regions.tolist()) == {mesh.REGIONS.index("nose")}
    each = np.concatenate(errors)
    assert seen
    assert np.median(each) < NEAR


def test_the_benchmark_prints_errors_and_times(shared_data: Path):
    script = Path(__file__).resolve().parents[3] / "benchmarks" / "landmarks.py"
    if not script.is_file():
        pytest.skip("benchmarks are in the repository, not in the package")
    command = [sys.executable, str(script), "--data", str(shared_data), "--most", "2", "--repeat", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 faces")
    assert re.search(r"^  2 looks: (0\.\d{3} ){4}0\.\d{3}; 0\.\d{3}; 0\.\d{3}$", done.stdout, re.MULTILINE)
    assert re.search(r"^  turned by 30 degrees +(0\.\d{3} ?){3}$", done.stdout, re.MULTILINE)
    assert re.search(r"^  two looks +\d+\.\d\d +\d+\.\d\d$", done.stdout, re.MULTILINE)


# the provider


def test_nothing_depends_on_the_crops_beside(tiny: Path):
    component = made(tiny, blendshapes=True)
    clips = [clip(noise(5, seed=1)), clip(noise(3, seed=2)), clip(None), clip(noise(1, seed=3))]
    together = component.provide(clips)
    for one, found in zip(clips, together, strict=True):
        (alone,) = component.provide([one])
        assert alone.valid == found.valid
        for name, values in alone.data.items():
            np.testing.assert_array_equal(values, found.data[name])
    np.testing.assert_array_equal(component.provide([clip(noise(5, seed=1)[2:3])])[0].data["points"][0], together[0].data["points"][2])


def test_what_it_gives(tiny: Path):
    (found,) = made(tiny, blendshapes=True, drawn="478").provide([clip(noise(4, side=80))])
    assert {name: (values.shape, str(values.dtype)) for name, values in found.data.items()} == {
        "maps": ((4, 80, 80, 3), "uint8"),
        "valid": ((4,), "bool"),
        "points": ((4, 478, 3), "float32"),
        "presence": ((4,), "float32"),
        "blendshapes": ((4, 52), "float32"),
    }
    assert found.times.tolist() == [0, 0.25, 0.5, 0.75]
    assert found.quality["presence"] == pytest.approx(1 / (1 + np.exp(-tiny_landmarker.SURE)), abs=1e-6)
    assert found.quality["found"] == 1.0
    assert 0 <= found.quality["movement"] <= 1
    np.testing.assert_array_equal(found.data["maps"][2], drawing.dots(found.data["points"][2], 80))
    assert set(np.unique(found.data["maps"])) == {0, 255}


def test_points_follow_a_face_that_moves(tiny: Path):
    """The drawn face goes right where a picture is red, and down where it is green."""
    crops = np.zeros((3, 128, 128, 3), np.uint8)
    crops[1, ..., 0] = crops[2, ..., 1] = 255
    points = made(tiny, looks=1).provide([clip(crops)])[0].data["points"]
    np.testing.assert_allclose(points[0], tiny_landmarker.face() / 2, atol=1e-3)
    moved = tiny_landmarker.MOVED / 2
    np.testing.assert_allclose(points[1:] - points[0], np.tile([[[moved, 0, 0]], [[0, moved, 0]]], (1, 478, 1)), atol=1e-3)


def test_a_crop_without_a_face_has_the_picture_of_the_nearest(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    component = made(tiny)
    whole = component._landmarker.find(noise(6))
    presence = np.array([0.1, 0.9, 0.2, 0.1, 0.4, 0.8], np.float32)
    moved = whole.points + np.arange(6, dtype=np.float32)[:, None, None]
    monkeypatch.setattr(component, "_landmarker", Answering(Found(moved, presence)))
    (found,) = component.provide([clip(noise(6))])
    assert found.data["valid"].tolist() == [False, True, False, False, False, True]
    assert (found.data["points"][:, 0, 0] - whole.points[0, 0, 0]).round().tolist() == [1, 1, 1, 1, 5, 5]
    for place, source in enumerate((1, 1, 1, 1, 5, 5)):
        np.testing.assert_array_equal(found.data["maps"][place], drawing.dots(moved[source][list(mesh.IBUG68)], 64))
    np.testing.assert_array_equal(found.data["presence"], presence)
    assert found.quality == {"presence": pytest.approx(presence.mean()), "found": pytest.approx(1 / 3)}
    monkeypatch.setattr(component, "_landmarker", Answering(Found(moved, presence / 2)))
    (none,) = component.provide([clip(noise(6))])
    assert (none.valid, none.reason) == (False, "no crop shows a face clearly enough for landmarks")


class Answering:
    """A landmarker that answers what it was made with."""

    def __init__(self, found: Found) -> None:
        self.found = found

    def find(self, crops: np.ndarray, looks: int) -> Found:
        return self.found


def test_no_crops_are_no_evidence(tiny: Path):
    component = made(tiny)
    empty = component.provide([clip(None, "nobody there"), clip(np.zeros((0, 64, 64, 3), np.uint8))])
    assert [(found.valid, found.reason) for found in empty] == [(False, "nobody there"), (False, "no face")]
    (single,) = component.provide([clip(np.full((1, 1, 1, 3), 90, np.uint8))])
    assert single.data["maps"].shape == (1, 1, 1, 3), "a picture of one pixel breaks nothing"


def test_a_crop_is_looked_at_once_as_long_as_it_is_remembered(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    """Windows overlap, and several who ask may ask about the same crops."""
    looked: list[int] = []
    one = Landmarker._one

    def spy(self: Landmarker, crop: np.ndarray, looks: int) -> tuple[np.ndarray, float, np.ndarray]:
        looked.append(int(crop.sum()))
        return one(self, crop, looks)

    monkeypatch.setattr(Landmarker, "_one", spy)
    crops = noise(6)
    subject, forgetful = (Landmarker(tiny, "test", blendshapes=True, kept=kept) for kept in (4, 0))
    first = subject.find(crops[:4])
    again = subject.find(crops[[1, 3, 1]])
    assert len(looked) == 4
    np.testing.assert_array_equal(again.points, first.points[[1, 3, 1]])
    np.testing.assert_array_equal(again.blendshapes, first.blendshapes[[1, 3, 1]])
    subject.find(crops[4:])  # forgets the crops 0 and 2
    subject.find(crops[[1, 3]])
    assert len(looked) == 6
    subject.find(crops[:1])
    subject.find(crops[:1], looks=1)
    assert len(looked) == 8
    np.testing.assert_array_equal(forgetful.find(crops[[0, 0]]).points, subject.find(crops[[0, 0]]).points)
    assert len(looked) == 9, "who remembers nothing looks once at what is asked for twice at a time"


def test_points_that_are_no_face_are_not_looked_at_again():
    assert landmarker.upright(np.full((478, 3), 5.0), 100) is None
    assert landmarker.upright(np.random.default_rng(0).normal(0, 1e4, (478, 3)), 100) is None
    level = tiny_landmarker.face().astype(float)
    move = landmarker.upright(level, 256)
    np.testing.assert_allclose(move[0, 1], 0, atol=1e-9)
    low, high = level[: mesh.MESH, :2].min(axis=0), level[: mesh.MESH, :2].max(axis=0)
    np.testing.assert_allclose(move @ [128, 128, 1], (low + high) / 2, atol=1e-9)
    np.testing.assert_allclose(move[0, 0] * 256, 1.5 * (high - low).max(), atol=1e-9)


# files


def test_the_random_bundle_is_marked_and_the_same_each_time(tmp_path: Path, tiny: Path):
    from affectkit.weight_files import is_random

    again = Landmarks().write_random("default", tmp_path)
    assert again.read_bytes() == tiny.read_bytes()
    assert is_random(again)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("text", r"is damaged or no bundle of MediaPipe \(File is not a zip file\); fetch it again"),
        ("absent", r"has no face_landmarks_detector.tflite; is it MediaPipe's face_landmarker.task\?"),
        ("cut", "face_landmarks_detector.tflite in .* is damaged or no TFLite network"),
        ("swapped", r"reads \[\(1, 146, 2\)\] and answers \[52\] numbers, expected \[\(1, 256, 256, 3\)\] and \[1434, 1\]"),
        ("shapes", "has no face_blendshapes.tflite"),
    ],
)
def test_another_file_is_refused(change: str, said: str, tiny: Path, tmp_path: Path):
    path = tmp_path / "other.task"
    with zipfile.ZipFile(tiny) as bundle:
        held = {name: bundle.read(name) for name in bundle.namelist()}
    if change == "absent":
        del held[DETECTOR]
    elif change == "cut":
        held[DETECTOR] = b"nothing of TFLite"
    elif change == "swapped":
        held[DETECTOR], held[SHAPES] = held[SHAPES], held[DETECTOR]
    elif change == "shapes":
        del held[SHAPES]
    with zipfile.ZipFile(path, "w") as bundle:
        for name, content in held.items():
            bundle.writestr(name, content)
    if change == "text":
        path.write_text("not a zip")
    with pytest.raises(CheckpointError, match=said) as caught:
        made(path, blendshapes=True)
    assert str(caught.value).startswith("finecliper/landmarks: ")


def test_where_the_bundle_is_absent_the_command_that_gets_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AFFECTKIT_CACHE", str(tmp_path))
    component = Landmarks()
    component.id = "finecliper/landmarks"
    with pytest.raises(CheckpointError, match=re.escape("affectkit weights fetch finecliper/landmarks")):
        component.load(CPU, torch.float32)
    assert not [*tmp_path.rglob("*")]


def test_the_published_digest_is_that_of_the_bundle(bundle: Path):
    from affectkit.checkpoints import sha256

    (published,) = Landmarks.checkpoints.values()
    assert (published.sha256, published.size) == (sha256(bundle), bundle.stat().st_size)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"presence": 1.5}, "presence must be in [0, 1], found 1.5"),
        ({"looks": 0}, "looks must be at least 1, found 0"),
        ({"drawn": "69"}, "drawn must be 68 or 478, found '69'. Known: 478, 68."),
        ({"radius": 0.0}, "radius must be greater than 0 pixels, found 0.0"),
    ],
)
def test_options_that_cannot_be(options: dict, said: str):
    with pytest.raises(ConfigError, match=re.escape(said)):
        LandmarksOptions(**options)


def test_reading_a_network_prints_nothing(tiny: Path, capfd: pytest.CaptureFixture[str]):
    made(tiny)
    sys.stderr.write("and what follows is seen")
    assert capfd.readouterr() == ("", "and what follows is seen")
