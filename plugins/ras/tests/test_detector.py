"""ras/faces: an ONNX detector of the YOLO family. The files are made here; what they answer is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from affectkit_ras.detector import GREY, Faces, decode, fit

from affectkit import weight_files
from affectkit.api import CheckpointError, Clip, ConfigError, Evidence
from affectkit.config import component_options
from affectkit.detections import Detections
from affectkit.testing import ProviderContract

from .conftest import MEDIA, WINDOW

onnx = pytest.importorskip("onnx")
helper, FLOAT, FLOAT16 = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16

SIDE = 64
FACE = [32.0, 24.0, 16.0, 8.0, 0.9]  # centre x, centre y, width, height, score, in pixels of the square
TWIN = [33.0, 24.0, 16.0, 8.0, 0.8]  # the same face again
OTHER = [10.0, 30.0, 8.0, 8.0, 0.6]
FAINT = [50.0, 30.0, 8.0, 8.0, 0.1]


def model(answer: np.ndarray, path: Path, shape: tuple = (1, 3, SIDE, SIDE), kind: int = FLOAT, meta: dict | None = None) -> Path:
    """A file that answers the same whatever it sees."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["constant", "nothing"], ["output0"]),
    ]
    dtype = np.float16 if kind == FLOAT16 else np.float32
    held = [
        onnx.numpy_helper.from_array(answer.astype(dtype), "constant"),
        onnx.numpy_helper.from_array(np.zeros((), dtype), "zero"),
    ]
    seen, said = helper.make_tensor_value_info("images", kind, shape), helper.make_tensor_value_info("output0", kind, answer.shape)
    made = helper.make_model(helper.make_graph(nodes, "g", [seen], [said], held), opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(made, meta or {})
    path.write_bytes(made.SerializeToString())
    return path


def loaded(path: Path, **options: object) -> Faces:
    component = Faces(component_options(Faces, {"checkpoint": str(path), **options}, "ras/faces"))
    component.id = "ras/faces"
    component.load(torch.device("cpu"), torch.float32)
    return component


def clip(height: int = 48, width: int = 64, value: int = 128) -> Clip:
    return Clip(MEDIA, WINDOW, frames=np.full((1, height, width, 3), value, np.uint8), frame_times=np.zeros(1))


def found(component: Faces, *clips: Clip) -> list[Detections]:
    return [Detections.from_evidence(evidence) for evidence in component.provide(clips)]


def answer(*boxes: list[float]) -> np.ndarray:
    """(1, rows, N), and some boxes that are none."""
    empty = [[0.0] * len(boxes[0])] * 3
    return np.array([*boxes, *empty], np.float32).T[None]


class TestFaces(ProviderContract):
    """What every provider promises, with random weights."""

    component = Faces

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def random_weights(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.options = {"checkpoint": str(Faces().write_random("default", tmp_path_factory.mktemp("random")))}


def test_boxes_in_pixels_of_the_frame_the_best_first(tmp_path):
    """A frame of 96 x 128 in a square of 64: halved, with 8 pixels of border above and below."""
    component = loaded(model(answer(OTHER, FACE, TWIN, FAINT), tmp_path / "yolo.onnx"))
    (faces,) = found(component, clip(96, 128))
    np.testing.assert_allclose(faces.boxes, [[48, 24, 80, 40], [12, 36, 28, 52]], atol=1e-4)
    np.testing.assert_allclose(faces.scores, [0.9, 0.6], atol=1e-6)
    assert faces.landmarks is None


def test_thresholds(tmp_path):
    path = model(answer(OTHER, FACE, TWIN, FAINT), tmp_path / "yolo.onnx")
    assert [len(found(loaded(path, **options), clip())[0]) for options in ({"score": 0.05}, {"score": 0.7}, {"nms": 0.95}, {})] == [
        3,
        1,
        3,
        2,
    ]


@pytest.mark.parametrize(("numbers", "meta"), [(3, {}), (2, {}), (3, {"kpt_shape": "[5, 3]"}), (2, {"kpt_shape": "[5, 2]"})])
def test_points(tmp_path, numbers, meta):
    points = [30.0, 22, 34, 22, 32, 24, 30, 26, 34, 26]
    told = points if numbers == 2 else [number for place in range(0, 10, 2) for number in (points[place], points[place + 1], 0.5)]
    component = loaded(model(answer([*FACE, *told], [*TWIN, *told]), tmp_path / "pose.onnx", meta=meta))
    (faces,) = found(component, clip(96, 128))
    expected = (np.array(points).reshape(5, 2) - [0, 8]) * 2
    np.testing.assert_allclose(faces.landmarks, expected[None], atol=1e-4)


def test_other_numbers_of_points_as_the_file_says(tmp_path):
    component = loaded(model(answer([*FACE, 30, 22, 34, 22]), tmp_path / "eyes.onnx", meta={"kpt_shape": "[2, 2]"}))
    assert found(component, clip())[0].landmarks.shape == (1, 2, 2)


def test_half_precision_and_free_sizes(tmp_path):
    half = loaded(model(answer(FACE), tmp_path / "half.onnx", kind=FLOAT16))
    np.testing.assert_allclose(found(half, clip(48, 64))[0].boxes, [[24, 12, 40, 20]], atol=0.1)
    free = loaded(model(answer(FACE), tmp_path / "free.onnx", shape=("batch", 3, "height", "width")), side=64)
    np.testing.assert_allclose(found(free, clip(48, 64))[0].boxes, [[24, 12, 40, 20]], atol=1e-4)
    wide = loaded(model(answer(FACE), tmp_path / "wide.onnx", shape=(1, 3, 32, 64)))
    np.testing.assert_allclose(found(wide, clip(64, 128))[0].boxes, [[48, 40, 80, 56]], atol=1e-4)


def test_what_it_sees(tmp_path):
    """RGB in [0, 1], and the border of grey."""
    frame = np.zeros((32, 64, 3), np.uint8)
    frame[..., 0] = 255
    picture, scale, corner = fit(frame, 64, 64)
    assert (scale, corner) == (1.0, (0, 16))
    assert (picture[:16] == GREY).all()
    assert (picture[48:] == GREY).all()
    assert np.array_equal(picture[16:48], frame)
    seen = {}
    component = loaded(model(answer(FACE), tmp_path / "yolo.onnx"))
    session = component._session

    class Watched:
        def run(self, names, given):
            seen.update(given)
            return session.run(names, given)

    component._session = Watched()
    found(component, replace(clip(), frames=frame[None]))
    shown = seen["images"]
    assert (shown.shape, shown.dtype) == ((1, 3, 64, 64), np.float32)
    np.testing.assert_allclose(shown[0, :, 32, 32], [1, 0, 0])
    np.testing.assert_allclose(shown[0, :, 0, 0], GREY / 255)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (64, 64), (480, 640), (1081, 607)])
def test_boxes_come_back_from_any_frame(size):
    """The border and the scale undone: a box of the frame, put into the square, is found where it was."""
    height, width = size
    box = np.array([width * 0.25, height * 0.25, width * 0.75, height * 0.75])
    _, scale, corner = fit(np.zeros((height, width, 3), np.uint8), 640, 640)
    inside = box * scale + np.tile(corner, 2)
    told = np.array([*(inside[:2] + inside[2:]) / 2, *(inside[2:] - inside[:2]), 0.9], np.float32)[:, None]
    faces = decode(told, scale, corner, (height, width), 0, 0.25, 0.5)
    if min(size) < 4:
        assert len(faces) == 0  # too narrow for a face
    else:
        np.testing.assert_allclose(faces.boxes, box[None], atol=0.02)


def test_what_is_no_box_is_left_out():
    rows = np.array(
        [
            [np.nan, 24, 16, 8, 0.9],
            [32, 24, np.inf, 8, 0.9],
            [32, 24, 0.5, 8, 0.9],
            [-40, 24, 16, 8, 0.9],
            [32, 24, -16, 8, 0.9],
            FACE,
        ],
        np.float32,
    )
    assert len(decode(rows.T, 1.0, (0, 0), (64, 64), 0, 0.25, 0.5)) == 1
    assert len(decode(rows.T[:, :5], 1.0, (0, 0), (64, 64), 0, 0.25, 0.5)) == 0


def test_no_face_and_no_picture(tmp_path):
    component = loaded(model(answer(FAINT), tmp_path / "yolo.onnx"))
    evidence = component.provide([clip(), Clip(MEDIA, WINDOW)])
    assert [(one.valid, one.reason) for one in evidence] == [(False, "no face"), (False, "no picture")]


def test_frames_of_any_size_together(tmp_path):
    component = loaded(Faces().write_random("default", tmp_path))
    clips = [clip(48, 64, value) for value in (0, 100, 255)] + [Clip(MEDIA, WINDOW), clip(100, 50)]
    together = component.provide(clips)
    assert [one.valid for one in together] == [True, True, True, False, True]
    for one, evidence in zip(clips, together, strict=True):
        (alone,) = component.provide([one])
        assert alone.valid == evidence.valid
        if alone.valid:
            np.testing.assert_allclose(alone.data["boxes"], evidence.data["boxes"], atol=1e-4)
    assert np.abs(together[0].data["boxes"] - together[2].data["boxes"]).max() > 0.1


def test_random_weights_are_an_onnx_file_that_says_so(tmp_path):
    path = Faces().write_random("default", tmp_path)
    onnx.checker.check_model(onnx.load(path))
    assert weight_files.is_random(path)
    assert path.read_bytes() == Faces().write_random("default", tmp_path).read_bytes()
    assert isinstance(loaded(path).provide([clip()])[0], Evidence)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 84, 10), "answers (1, 84, 10), expected (1, 5, N)"),
        ((1, 25200, 6), "answers (1, 25200, 6), expected (1, 5, N)"),
        ((1, 300, 6), "Give a face detector of one class, as ultralytics exports YOLOv8 or YOLO11 with format=onnx and without nms"),
        ((1, 5), "answers (1, 5), expected (1, 5, N)"),
    ],
)
def test_answers_of_other_networks(tmp_path, shape, message):
    with pytest.raises(CheckpointError) as error:
        loaded(model(np.zeros(shape, np.float32), tmp_path / "other.onnx"))
    assert message in str(error.value)
    assert "ras/faces: " in str(error.value)


def test_answers_that_are_not_what_the_file_said(tmp_path):
    component = loaded(model(answer(FACE), tmp_path / "yolo.onnx"))

    class Other:
        def run(self, names, given):
            return [np.zeros((1, 6, 3), np.float32)]

    component._session = Other()
    with pytest.raises(CheckpointError, match=r"answers \(1, 6, 3\), expected \(1, 5, N\)"):
        component.provide([clip()])


def test_inputs_of_other_networks(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"is no detector of the YOLO family: it wants images tensor\(float\) \[1, 1, 64, 64\], expected one input"
    ):
        loaded(model(answer(FACE), tmp_path / "grey.onnx", shape=(1, 1, 64, 64)))


def test_files_that_are_none(tmp_path):
    (tmp_path / "page.onnx").write_text("<html>")
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name in ("page.onnx", "empty.onnx"):
        with pytest.raises(CheckpointError, match=rf"{name} is damaged or no ONNX file that onnxruntime reads"):
            loaded(tmp_path / name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score": 2.0}, "score must be in [0, 1]"),
        ({"nms": -1.0}, "nms must be in [0, 1]"),
        ({"side": 100}, "side must be a multiple of 32 pixels"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(ConfigError) as error:
        component_options(Faces, options, "ras/faces")
    assert message in str(error.value)


def test_absent_weights_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFECTKIT_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    component = Faces()
    component.id = "ras/faces"
    with pytest.raises(CheckpointError, match=r"model\.onnx are not here .* 'affectkit weights fetch ras/faces'"):
        component.load(torch.device("cpu"), torch.float32)
