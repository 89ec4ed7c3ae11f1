"""A small ``face_landmarker.task`` in the format of the real one, to try a run with: it sees the same drawn face in every crop."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from affectkit.weight_files import RANDOM, writing
from affectkit_finecliper import mesh
from affectkit_finecliper.landmarker import DETECTOR, SHAPES, SIDE

MOVED = 6.0  # pixels by which colours move the face, from black to white
SURE = 4.0  # logit of the presence of a face
SPREAD = 0.05  # standard deviation of the weights of blendshapes per pixel
# Middle and half axes of each contour, in shares of the picture.
ELLIPSES = (
    (mesh.OVAL, (0.5, 0.5), (0.28, 0.33)),
    (mesh.RIGHT_BROW, (0.38, 0.34), (0.09, 0.02)),
    (mesh.LEFT_BROW, (0.62, 0.34), (0.09, 0.02)),
    (mesh.RIGHT_EYE, (0.39, 0.41), (0.06, 0.025)),
    (mesh.LEFT_EYE, (0.61, 0.41), (0.06, 0.025)),
    (mesh.NOSE, (0.5, 0.5), (0.06, 0.12)),
    (mesh.OUTER_LIPS, (0.5, 0.68), (0.12, 0.05)),
    (mesh.INNER_LIPS, (0.5, 0.68), (0.09, 0.02)),
    (mesh.IRISES[:5], (0.39, 0.41), (0.015, 0.015)),
    (mesh.IRISES[5:], (0.61, 0.41), (0.015, 0.015)),
)


def face() -> np.ndarray:
    """Points (478, 3) float32 of a drawn face, in pixels of what the network reads; its left is the picture's right."""
    random = np.random.default_rng(0)
    points = np.zeros((mesh.POINTS, 3))
    points[:, :2] = 0.5 + random.uniform(-0.15, 0.15, (mesh.POINTS, 2))
    points[list(mesh.MIDLINE), 0], points[list(mesh.MIDLINE), 1] = 0.5, np.linspace(0.35, 0.58, len(mesh.MIDLINE))
    for contour, middle, axes in ELLIPSES:
        angles = np.arange(len(contour)) * 2 * np.pi / len(contour)
        points[list(contour), 0] = middle[0] + axes[0] * np.cos(angles)
        points[list(contour), 1] = middle[1] + axes[1] * np.sin(angles)
    for (right, left), height in (((33, 263), 0.41), ((61, 291), 0.68)):
        points[[right, left], 1] = height
    points[33, 0], points[133, 0], points[362, 0], points[263, 0] = 0.33, 0.45, 0.55, 0.67
    points[61, 0], points[291, 0] = 0.38, 0.62
    found: np.ndarray = (points * SIDE).astype(np.float32)
    return found


def write(path: Path) -> Path:
    """Writes the bundle.

    Raises:
        CheckpointError: where it cannot be written.
    """
    with writing(path) as file, zipfile.ZipFile(file, "w") as bundle:
        for name, content in (("README", RANDOM.encode()), (DETECTOR, _detector()), (SHAPES, _shapes())):
            bundle.writestr(zipfile.ZipInfo(name), content)  # with no date: the same file each time
    return path


def _detector() -> bytes:
    """The mean colour of a picture, and points, presence and tongue as linear functions of it."""
    network = _Writer((1, SIDE, SIDE, 3))
    colours = network.mean(network.input, (1, 2))
    points = face()
    moves = np.zeros((mesh.POINTS, 3, 3), np.float32)
    moves[:, :2, :2] = MOVED * np.eye(2)
    said = [
        network.linear(colours, moves.reshape(-1, 3), points.ravel()),
        network.linear(colours, np.zeros((1, 3)), np.array([SURE])),
        network.linear(colours, np.zeros((1, 3)), np.array([-SURE])),
    ]
    return network.finish(said)


def _shapes() -> bytes:
    """Weights that follow the places of the points."""
    random = np.random.default_rng(1)
    network = _Writer((1, len(mesh.BLENDSHAPE_POINTS), 2))
    numbers = 2 * len(mesh.BLENDSHAPE_POINTS)
    weights = random.normal(0, SPREAD / numbers**0.5, (len(mesh.BLENDSHAPES), numbers))
    flat = network.reshape(network.input, (1, numbers))
    return network.finish([network.logistic(network.linear(flat, weights, np.zeros(len(weights))))])


class _Writer:
    """A TFLite network, operation by operation."""

    def __init__(self, reads: tuple[int, ...]) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._schema: Any = schema
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._buffers = [schema.BufferT()]  # the first one is empty by agreement
        self._codes: list[int] = []
        self.input = self._tensor(reads)

    def mean(self, values: int, axes: tuple[int, ...]) -> int:
        """The mean over some axes."""
        shape = tuple(size for axis, size in enumerate(self._shape(values)) if axis not in axes)
        options = self._schema.ReducerOptionsT()
        options.keepDims = False
        return self._operation("MEAN", [values, self._held(np.array(axes, np.int32))], shape, "ReducerOptions", options)

    def linear(self, values: int, weights: np.ndarray, bias: np.ndarray) -> int:
        """Weights (out, in) times values (1, in), and a bias (out,)."""
        inputs = [values, self._held(np.asarray(weights, np.float32)), self._held(np.asarray(bias, np.float32))]
        return self._operation("FULLY_CONNECTED", inputs, (1, len(bias)), "FullyConnectedOptions", self._schema.FullyConnectedOptionsT())

    def reshape(self, values: int, shape: tuple[int, ...]) -> int:
        """The same numbers in another shape."""
        options = self._schema.ReshapeOptionsT()
        options.newShape = list(shape)
        return self._operation("RESHAPE", [values, self._held(np.array(shape, np.int32))], shape, "ReshapeOptions", options)

    def logistic(self, values: int) -> int:
        """Numbers in [0, 1]."""
        return self._operation("LOGISTIC", [values], self._shape(values))

    def finish(self, outputs: Sequence[int]) -> bytes:
        """The file."""
        import flatbuffers

        schema = self._schema
        self._graph.inputs, self._graph.outputs = [self.input], list(outputs)
        model = schema.ModelT()
        model.version, model.description = 3, RANDOM
        model.subgraphs, model.buffers, model.operatorCodes = [self._graph], self._buffers, []
        for code in self._codes:
            one = schema.OperatorCodeT()
            one.builtinCode = one.deprecatedBuiltinCode = code
            one.version = 1
            model.operatorCodes.append(one)
        builder = flatbuffers.Builder(0)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _tensor(self, shape: Sequence[int], buffer: int = 0, kind: str = "FLOAT32") -> int:
        tensor = self._schema.TensorT()
        tensor.shape, tensor.buffer, tensor.type = list(shape), buffer, getattr(self._schema.TensorType, kind)
        tensor.name = f"tensor{len(self._graph.tensors)}"
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _held(self, values: np.ndarray) -> int:
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self._buffers.append(buffer)
        return self._tensor(values.shape, len(self._buffers) - 1, "INT32" if values.dtype == np.int32 else "FLOAT32")

    def _shape(self, tensor: int) -> tuple[int, ...]:
        return tuple(self._graph.tensors[tensor].shape)

    def _operation(self, name: str, inputs: list[int], shape: tuple[int, ...], kind: str = "NONE", options: Any = None) -> int:
        code = getattr(self._schema.BuiltinOperator, name)
        if code not in self._codes:
            self._codes.append(code)
        operation = self._schema.OperatorT()
        operation.opcodeIndex, operation.inputs = self._codes.index(code), inputs
        operation.builtinOptionsType, operation.builtinOptions = getattr(self._schema.BuiltinOptions, kind), options
        operation.outputs = [self._tensor(shape)]
        self._graph.operators.append(operation)
        return int(operation.outputs[0])
