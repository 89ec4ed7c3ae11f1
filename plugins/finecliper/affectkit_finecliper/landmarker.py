"""MediaPipe's face landmarker on crops: what its TFLite networks want to see and what they answer. LiteRT runs them; it is imported when one is loaded.

``face_landmarker.task`` is a zip. ``face_landmarks_detector.tflite`` reads a face (1, 256, 256, 3) RGB in [0, 1] and answers 478 points x, y, z in
pixels of what it read, how surely that is a face (a logit), and whether the tongue is out. ``face_blendshapes.tflite`` reads 146 of the points, in pixels, and
answers 52 weights in [0, 1].

The network was trained on upright faces that fill two thirds of its picture, so MediaPipe cuts them from the frame in this way, by the points of the frame
before. Here, what is looked at again is cut from the crop by the points of the first look. Points are compared with crops of other margins and angles in
``benchmarks/landmarks.py``.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from affectkit.api import CheckpointError
from affectkit.remembering import Remembered
from affectkit_finecliper.mesh import BLENDSHAPE_POINTS, BLENDSHAPES, MESH, POINTS

DETECTOR, SHAPES = "face_landmarks_detector.tflite", "face_blendshapes.tflite"
SIDE = 256  # pixels that the network reads
ROOM = 1.5  # side of what is looked at again, in sides of the box around the points: as MediaPipe cuts a face that it follows
KEPT = 256  # crops, 3 MB: those of the open windows of several subjects
LARGEST = 512  # pixels: larger crops are shrunk first, so that a second look does not skip pixels
SMALLEST, WIDEST = 8.0, 4.0  # a second look at less than so many pixels, or at more than so many sides of the crop, shows nothing
CORNERS = (33, 263)  # outer corners of the eyes, which are level in an upright face


@dataclass(frozen=True)
class Found:
    """The points of N crops.

    Attributes:
        points: (N, 478, 3) float32 x, y in pixels of the crop, counted from its upper left corner, and z in the same unit, smaller where nearer.
        presence: (N,) float32, how surely a crop shows a face, in [0, 1].
        blendshapes: (N, 52) float32 in [0, 1], in the order of :data:`affectkit_finecliper.mesh.BLENDSHAPES`; ``None`` where they were not asked for.
    """

    points: np.ndarray
    presence: np.ndarray
    blendshapes: np.ndarray | None = None


class Landmarker:
    """The networks of a bundle. Crops are looked at one by one, so none depends on the others; what was found in the last ones is kept, because windows overlap.

    Args:
        path: ``face_landmarker.task``.
        owner: id of the component, for messages.
        blendshapes: whether they are wanted.
        threads: of the processor.
        kept: how many crops are remembered, by their content.

    Raises:
        CheckpointError: where the file is no such bundle.
    """

    def __init__(self, path: Path, owner: str, *, blendshapes: bool = False, threads: int = 1, kept: int = KEPT) -> None:
        self._mesh = _Network(path, DETECTOR, (1, SIDE, SIDE, 3), (POINTS * 3, 1), owner, threads)
        self._shapes = _Network(path, SHAPES, (1, len(BLENDSHAPE_POINTS), 2), (len(BLENDSHAPES),), owner, threads) if blendshapes else None
        self._said: Remembered[tuple[bytes, int], tuple[np.ndarray, float, np.ndarray]] = Remembered(kept)

    def find(self, crops: np.ndarray, looks: int = 2) -> Found:
        """The points of crops.

        Args:
            crops: (N, S, S, 3) uint8 RGB, a face in each.
            looks: how often each is looked at, at least once. From the second time on, the face is cut out upright by the points of the time before.
        """
        keys = [(hashlib.sha256(crop.tobytes()).digest(), looks) for crop in crops]
        each = self._said(keys, lambda places: [self._one(crops[place], looks) for place in places])
        points = np.array([points for points, _, _ in each], np.float32).reshape(-1, POINTS, 3)
        presence = np.array([presence for _, presence, _ in each], np.float32)
        weights = np.array([weights for _, _, weights in each], np.float32).reshape(len(each), -1)
        return Found(points, presence, None if self._shapes is None else weights)

    def _one(self, crop: np.ndarray, looks: int) -> tuple[np.ndarray, float, np.ndarray]:
        """Points, presence and blendshapes of a crop, the last of which are empty where they are not wanted."""
        points, presence = self._points(crop, looks)
        return points, presence, np.empty(0) if self._shapes is None else self._shapes(points[list(BLENDSHAPE_POINTS), :2])[0]

    def _points(self, crop: np.ndarray, looks: int) -> tuple[np.ndarray, float]:
        import cv2

        given = crop.shape[0]
        if given > LARGEST:
            crop = cv2.resize(crop, (LARGEST, LARGEST), interpolation=cv2.INTER_AREA)
        side = crop.shape[0]
        shown = cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA if side > SIDE else cv2.INTER_LINEAR) if side != SIDE else crop
        back = np.array([[side / SIDE, 0, 0], [0, side / SIDE, 0]])
        points, presence = self._look(shown, back)
        for _ in range(looks - 1):
            again = upright(points, side)
            if again is None:
                break
            points, presence = self._look(cut(crop, again), again)
        return points * (given / side), presence

    def _look(self, shown: np.ndarray, back: np.ndarray) -> tuple[np.ndarray, float]:
        """Points (478, 3) of a picture (256, 256, 3) uint8, brought back by a map (2, 3) from its pixels; and the presence of a face."""
        answer = self._mesh(shown.astype(np.float32) / 255)
        seen = answer[0].reshape(POINTS, 3).astype(np.float64)
        points = np.concatenate([seen[:, :2] @ back[:, :2].T + back[:, 2], seen[:, 2:] * np.hypot(*back[:, 0])], axis=1)
        return points, float(1 / (1 + np.exp(-np.clip(answer[1][0], -50, 50))))


def upright(points: np.ndarray, side: int) -> np.ndarray | None:
    """Where to look again: the square around a face with its eyes level.

    Args:
        points: (478, 2 or more) x, y in pixels of a crop.
        side: side of the crop in pixels.

    Returns:
        (2, 3) the map from pixels of the picture that the network reads to those of the crop; ``None`` where the points are too near to each other, or too
        far, to be a face.
    """
    face = np.asarray(points, np.float64)[:MESH, :2]
    right, left = (face[corner] for corner in CORNERS)
    angle = np.arctan2(left[1] - right[1], left[0] - right[0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    level = face @ turn
    low, high = level.min(axis=0), level.max(axis=0)
    wanted = ROOM * float((high - low).max())
    if not SMALLEST <= wanted <= WIDEST * side:
        return None
    scale = turn * (wanted / SIDE)
    centre = turn @ ((low + high) / 2)
    return np.concatenate([scale, (centre - scale @ np.full(2, SIDE / 2))[:, None]], axis=1)


def cut(crop: np.ndarray, back: np.ndarray) -> np.ndarray:
    """A part of a crop as the network reads it.

    Args:
        crop: (S, S, 3) uint8 RGB; what lies outside is filled with its edge.
        back: (2, 3) the map from pixels of the result to those of the crop, both counted from the upper left corner.

    Returns:
        (256, 256, 3) uint8 RGB.
    """
    import cv2

    middle = back.copy()  # OpenCV counts from the middle of the first pixel
    middle[:, 2] += back[:, :2] @ np.full(2, 0.5) - 0.5
    found: np.ndarray = cv2.warpAffine(
        np.ascontiguousarray(crop), middle, (SIDE, SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    return found


class _Network:
    """A TFLite network of a bundle, whose form is checked: one input, and outputs of so many numbers first."""

    def __init__(self, path: Path, name: str, reads: tuple[int, ...], answers: tuple[int, ...], owner: str, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        content = _member(path, name, owner)
        try:
            with _hushed():
                self._interpreter: Any = Interpreter(model_content=content, num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise CheckpointError(f"{owner}: {name} in {path} is damaged or no TFLite network ({first[:200]}); fetch it again") from None
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        shapes = [tuple(int(size) for size in one["shape"]) for one in inputs]
        sizes = tuple(int(np.prod(one["shape"])) for one in outputs)
        if shapes != [reads] or sizes[: len(answers)] != answers:
            raise CheckpointError(
                f"{owner}: {name} in {path} reads {shapes} and answers {list(sizes)} numbers, expected {[reads]} and {list(answers)}; "
                "is it MediaPipe's face landmarker of 478 points?"
            )
        self._reads, self._shape = inputs[0]["index"], reads
        self._answers = [one["index"] for one in outputs]

    def __call__(self, values: np.ndarray) -> list[np.ndarray]:
        """The outputs, flat, for one input without its batch dimension."""
        self._interpreter.set_tensor(self._reads, values.astype(np.float32).reshape(self._shape))
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index).ravel() for index in self._answers]


@contextmanager
def _hushed() -> Iterator[None]:
    """No standard error of the process: LiteRT greets there whenever it makes a network, and has no switch for it. What is wrong it raises as well."""
    try:
        kept = os.dup(2)
    except OSError:  # there is none
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _member(path: Path, name: str, owner: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as bundle:
            return bundle.read(name)
    except KeyError:
        raise CheckpointError(f"{owner}: {path} has no {name}; is it MediaPipe's face_landmarker.task?") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{owner}: {path} is damaged or no bundle of MediaPipe ({error}); fetch it again") from None
