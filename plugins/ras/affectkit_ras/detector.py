"""``ras/faces``: boxes of faces by a detector of the YOLO family, as an ONNX file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from affectkit.api import Checkpoint, CheckpointError, Clip, ConfigError, Evidence, Frames, Needs, Provider
from affectkit.detections import Detections

if TYPE_CHECKING:
    from pathlib import Path

    import torch

GREY = 114  # of the border around a frame, as YOLO was trained
STRIDE = 32  # pixels: the coarsest cell of YOLO; sides that it sees are multiples
BATCH = 8  # frames of one forward pass, where the file allows more than one
CANDIDATES = 300  # boxes of a frame that go into non-maximum suppression, those with the highest scores
NARROW = 2.0  # pixels of the frame: a box with a shorter side is no face
BOX = 5  # rows of the answer before its points: centre x, centre y, width, height, score
POINTS = {BOX: (0, 0), BOX + 10: (5, 2), BOX + 15: (5, 3)}  # by rows of the answer: how many points, and numbers of each
KINDS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
TINY = 64  # pixels that the random detector sees
PUBLISHED = Checkpoint(
    uri="hf:deepghs/yolo-face@e3662574830c534dfcc9c3b7ea4d89272f8aae4e/yolov11n-face/model.onnx",
    licence="model-distribution-disclaimer-license of huggingface.co/deepghs/yolo-face; its training code is GPL-3.0 or AGPL-3.0",
    source="github.com/akanametov/yolo-face (YOLO11n trained on WIDER FACE), exported to ONNX by deepghs",
)


@dataclass(frozen=True)
class FacesOptions:
    """Options of ras/faces.

    Attributes:
        checkpoint: ``default``, YOLO11n for faces; or the ONNX file of another detector of one class, as ultralytics exports YOLOv8 and YOLO11 without
            their own suppression: an answer of (1, 5, N), or of (1, 15, N) or (1, 20, N) with five points.
        score: faces below this score, in [0, 1], are left out. The authors took 0.01 and dropped what a second detector (FaceMesh) did not confirm; there
            is no second one here, so the default is that of ultralytics.
        nms: of two boxes that overlap by more than this share, in [0, 1], the one with the lower score is left out.
        side: pixels of the square that frames are fitted into, where the file does not fix them.
    """

    checkpoint: str = "default"
    score: float = 0.25
    nms: float = 0.5
    side: int = 640

    def __post_init__(self) -> None:
        for name in ("score", "nms"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"ras/faces: {name} must be in [0, 1], found {getattr(self, name)}")
        if self.side < STRIDE or self.side % STRIDE:
            raise ConfigError(f"ras/faces: side must be a multiple of {STRIDE} pixels, found {self.side}")


class Faces(Provider):
    """Boxes and scores of the faces of a frame, and five points of each where the detector has them.

    Team RAS (9th ABAW) took YOLO11n for faces at 640 pixels, which is the default. A frame is fitted into a square with a grey border, and its colours
    are divided by 255.
    """

    name = "faces"
    kind = "faces"
    scope = "frame"
    needs = Needs(frames=Frames(count=1))
    Options = FacesOptions
    checkpoints: ClassVar = {"default": PUBLISHED}
    requires = ("onnxruntime",)

    _session: Any = None

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Reads the network. It runs on the GPU where onnxruntime can, else on the processor."""
        import torch

        from affectkit_ras import onnx_files

        path = self.weights()
        wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
        session = onnx_files.session(path, self.id, threads=torch.get_num_threads(), providers=wanted)
        self._path = path
        self._batch, self._height, self._width = self._seen(session)
        self._count, self._numbers = self._points(session)
        self._input = session.get_inputs()[0].name
        self._kind = KINDS[session.get_inputs()[0].type]
        self._session = session

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """A detector that sees one face in the middle of every frame, a little moved by its brightness: with random numbers it would find none."""
        from affectkit.weight_files import RANDOM, writing

        path = folder / "faces.onnx"
        try:
            content = _tiny(RANDOM)
        except ImportError:
            raise CheckpointError(f"{self.id} has no random weights without the package that writes ONNX: pip install onnx") from None
        with writing(path) as file:
            file.write(content)
        return path

    def provide(self, clips: Sequence[Clip]) -> list[Evidence]:
        """Boxes (K, 4), scores (K,) and, where there are any, landmarks (K, 5, 2) of each clip's one frame."""
        found = [Evidence.none("faces", "no picture")] * len(clips)
        places = [place for place, clip in enumerate(clips) if clip.frames is not None]
        for first in range(0, len(places), self._batch):
            some = places[first : first + self._batch]
            frames = [np.asarray(clips[place].frames)[0] for place in some]
            for place, faces in zip(some, self._search(frames), strict=True):
                found[place] = faces.to_evidence()
        return found

    def _search(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        """Faces of frames (H, W, 3) uint8 RGB, each in its own pixels."""
        fitted = [fit(frame, self._height, self._width) for frame in frames]
        shown = np.stack([picture for picture, _, _ in fitted]).transpose(0, 3, 1, 2) / np.float32(255)
        answers = self._session.run(None, {self._input: np.ascontiguousarray(shown, self._kind)})[0].astype(np.float32)
        self._check(answers.shape)
        return [
            decode(answer, scale, corner, frame.shape[:2], self._numbers, self.options.score, self.options.nms)
            for answer, frame, (_, scale, corner) in zip(answers, frames, fitted, strict=True)
        ]

    def _seen(self, session: Any) -> tuple[int, int, int]:
        """How many frames go in together, and the height and width that they are fitted into."""
        inputs = session.get_inputs()
        shape = inputs[0].shape if inputs else []
        if len(inputs) != 1 or len(shape) != 4 or shape[1] not in (3, "3") or inputs[0].type not in KINDS:
            told = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
            raise CheckpointError(
                f"{self.id}: {self._path} is no detector of the YOLO family: it wants {told}, expected one input (1, 3, H, W) of floats"
            )
        batch, height, width = (size if isinstance(size, int) else None for size in (shape[0], *shape[2:]))
        return batch or BATCH, height or self.options.side, width or self.options.side

    def _points(self, session: Any) -> tuple[int, int]:
        """How many points a face has, and how many numbers each point."""
        shape = session.get_outputs()[0].shape
        self._rows = shape[1] if len(shape) == 3 and isinstance(shape[1], int) else None
        told = session.get_modelmeta().custom_metadata_map.get("kpt_shape")
        if told:
            count, numbers = json.loads(told)
            self._expected = BOX + count * numbers
            if numbers in (2, 3):
                self._check(shape)
                return count, numbers
        if self._rows in POINTS:
            self._expected = self._rows
            return POINTS[self._rows]
        self._expected = BOX
        self._check(shape)
        return 0, 0

    def _check(self, shape: Sequence[Any]) -> None:
        """Refuses answers of another form.

        Raises:
            CheckpointError: saying which form was found.
        """
        rows = shape[1] if len(shape) == 3 else None
        if len(shape) != 3 or (isinstance(rows, int) and rows != self._expected):
            raise CheckpointError(
                f"{self.id}: {self._path} answers {tuple(shape)}, expected (1, {self._expected}, N): centre, size and score of N boxes of one class, and "
                "their points. Give a face detector of one class, as ultralytics exports YOLOv8 or YOLO11 with format=onnx and without nms"
            )


def fit(frame: np.ndarray, height: int, width: int) -> tuple[np.ndarray, float, tuple[int, int]]:
    """A frame in the middle of a grey picture.

    Args:
        frame: (H, W, 3) uint8.
        height: of the picture, in pixels.
        width: of the picture, in pixels.

    Returns:
        The picture (height, width, 3) uint8, what the sides of the frame were multiplied with, and where its corner is: x, y.
    """
    import cv2

    scale = min(height / frame.shape[0], width / frame.shape[1])
    inner = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))  # width, height
    resized = frame if inner == frame.shape[1::-1] else cv2.resize(frame, inner, interpolation=cv2.INTER_LINEAR)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    picture = np.full((height, width, 3), GREY, np.uint8)
    picture[top : top + inner[1], left : left + inner[0]] = resized
    return picture, scale, (left, top)


def decode(
    answer: np.ndarray, scale: float, corner: tuple[int, int], size: tuple[int, int], numbers: int, score: float, nms: float
) -> Detections:
    """What a detector says of one frame, as faces in the pixels of that frame.

    Args:
        answer: (5 + P numbers, N) float32: centre x, centre y, width, height in pixels of the picture, score in [0, 1], and points.
        scale: what :func:`fit` multiplied the frame with.
        corner: where it put the frame.
        size: height and width of the frame.
        numbers: of each point: 2, or 3 where the last says how sure it is; 0 where there are no points.
        score: least score, in [0, 1].
        nms: intersection over union in [0, 1] above which the box with the lower score is left out.
    """
    import torch
    from torchvision.ops import nms as suppress

    rows = answer.T[np.isfinite(answer).all(axis=0)]
    rows = rows[rows[:, 4] >= score]
    rows = rows[np.argsort(-rows[:, 4], kind="stable")][:CANDIDATES]
    centre, half = rows[:, :2], rows[:, 2:4] / 2
    boxes = (np.concatenate([centre - half, centre + half], axis=1) - np.tile(corner, 2)) / scale
    wide = (boxes[:, 2:] - boxes[:, :2] >= NARROW).all(axis=1)
    inside = (boxes[:, :2] < size[::-1]).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    rows, boxes = rows[wide & inside], boxes[wide & inside].astype(np.float32)
    kept = suppress(torch.from_numpy(boxes), torch.from_numpy(np.ascontiguousarray(rows[:, 4])), nms).numpy()
    points = None
    if numbers:
        points = (rows[kept, BOX:].reshape(len(kept), -1, numbers)[..., :2] - np.array(corner)) / scale
    return Detections(boxes[kept], rows[kept, 4].clip(0, 1), points)


def _tiny(note: str) -> bytes:
    """An ONNX file with the answer of a detector: the mean colour of a frame, weighted with random numbers, moves one box in the middle."""
    from onnx import TensorProto, helper

    random = np.random.default_rng(0)
    weights = random.uniform(-1, 1, (BOX, 3)) * [[2.0], [2.0], [4.0], [4.0], [0.05]]
    middle = [TINY / 2, TINY / 2, TINY / 2, TINY / 2, 0.8]
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        helper.make_node("Conv", ["mean", "weights", "middle"], ["moved"]),
        helper.make_node("Squeeze", ["moved", "last"], ["answer"]),
    ]
    held = [
        helper.make_tensor("weights", TensorProto.FLOAT, (BOX, 3, 1, 1), weights.astype(np.float32).ravel()),
        helper.make_tensor("middle", TensorProto.FLOAT, (BOX,), np.array(middle, np.float32)),
        helper.make_tensor("last", TensorProto.INT64, (1,), [3]),
    ]
    seen = helper.make_tensor_value_info("images", TensorProto.FLOAT, ("batch", 3, TINY, TINY))
    said = helper.make_tensor_value_info("answer", TensorProto.FLOAT, ("batch", BOX, 1))
    graph = helper.make_graph(nodes, "faces", [seen], [said], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, doc_string=note)
    content: bytes = model.SerializeToString(deterministic=True)
    return content
