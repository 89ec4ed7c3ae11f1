"""mini/face_static and mini/face_dynamic: emotions of a face, one picture at a time and in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from affectkit.api import BASIC7, Clip, Evidence, Input, Modality, Needs, Output
from affectkit_mini.records import checkpoint, load_network, write_random

if TYPE_CHECKING:
    from pathlib import Path

    import torch

SIDE = 48  # pixels; FER2013's pictures are the box of a face detector, so no margin is added
FACES = Input("faces", fps=5.0, size=SIDE, margin=0.0)
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # luma of red, green, blue (ITU-R BT.601), as in FER2013's JPEG files


def _found(clip: Clip) -> Evidence | None:
    """The faces of a clip, or ``None`` where there are none."""
    faces = clip.inputs.get("faces")
    return faces if faces is not None and faces.valid and len(faces.data["crops"]) else None


def _tensors(faces: Evidence) -> dict[str, torch.Tensor]:
    """Grey crops (T, 48, 48) float32 in [0, 1], the side of each face in pixels (T,), and how sharp each crop is (T,)."""
    import torch

    crops = np.asarray(faces.data["crops"])
    grey = crops.astype(np.float32) @ GREY / 255.0
    boxes = faces.data.get("boxes")
    side = np.full(len(crops), SIDE, np.float32) if boxes is None else np.asarray(boxes, np.float32)[:, 2:] - np.asarray(boxes)[:, :2]
    side = side.max(1) if side.ndim == 2 else side
    edges = 4 * grey[:, 1:-1, 1:-1] - grey[:, :-2, 1:-1] - grey[:, 2:, 1:-1] - grey[:, 1:-1, :-2] - grey[:, 1:-1, 2:]
    sharpness = edges.std((1, 2)) / np.maximum(grey.std((1, 2)), 1e-2)
    return {
        "faces": torch.from_numpy(np.ascontiguousarray(grey)),
        "side": torch.from_numpy(side.astype(np.float32)),
        "sharpness": torch.from_numpy(sharpness.astype(np.float32)),
    }


def _mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of (B, T, ...) over the real entries of ``mask`` (B, T)."""
    keep = mask.view(*mask.shape, *(1,) * (values.dim() - 2)).to(values.dtype)
    return (values * keep).sum(1) / keep.sum(1).clamp_min(1)


@dataclass(frozen=True)
class FaceStaticOptions:
    """Options of mini/face_static.

    Attributes:
        checkpoint: ``default``, or the path of a file that ``affectkit train mini/face_static`` wrote.
    """

    checkpoint: str = "default"


class FaceStatic(Modality):
    """Basic emotions of a single face: a residual network over grey 48 x 48 crops, trained on FER2013.

    Embedding ``face``: 128 numbers per face. Quality: ``side`` of the face in pixels of the frame, and ``sharpness``,
    the spread of the crop's Laplacian over the spread of its grey.
    """

    name = "face_static"
    labels = BASIC7
    needs = Needs(inputs=(FACES,))
    unit = "frame"
    Options = FaceStaticOptions
    checkpoints: ClassVar = {"default": checkpoint("face_static")}

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        from affectkit_mini.backbone import load_backbone

        self._net = load_backbone(self.weights(), device)
        self._temperature = float(self._net.settings["temperature"])

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """The network with random numbers."""
        from affectkit_mini.networks import FaceNet

        return write_random(folder / "face_static.safetensors", FaceNet, temperature=1.0)

    def preprocess(self, clip: Clip) -> Mapping[str, torch.Tensor] | None:
        faces = _found(clip)
        return None if faces is None else _tensors(faces)

    def predict(self, batch: Mapping[str, torch.Tensor]) -> Output:
        import torch

        faces, mask = batch["faces"], batch["faces_mask"]
        logits, embeddings = self._net.read(faces, mask)
        face = _mean(torch.nn.functional.normalize(embeddings, dim=2), mask)
        return Output(
            values={BASIC7: _mean((logits / self._temperature).softmax(2), mask)},
            embeddings={"face": face},
            quality={"side": _mean(batch["side"], mask), "sharpness": _mean(batch["sharpness"], mask)},
        )


@dataclass(frozen=True)
class FaceDynamicOptions:
    """Options of mini/face_dynamic.

    Attributes:
        least: pictures of the face that a window must hold; a still says nothing about a motion.
        backbone: path of a file that ``affectkit train mini/face_static`` wrote, instead of the one in this package.
        head: path of a file that ``affectkit train mini/face_dynamic`` wrote, instead of the one in this package.
    """

    least: int = 2
    backbone: str | None = None
    head: str | None = None


class FaceDynamic(Modality):
    """Basic emotions of a face over a window: a recurrent network over the embeddings of mini/face_static.

    It sees order: an expression that appears is read as that expression, one that goes away as less of it. Embedding ``motion``: 64
    numbers. Quality: ``onset`` in [-1, 1], the probability that an expression appears minus that it goes away; ``faces``,
    the number of pictures; ``side`` in pixels.
    """

    name = "face_dynamic"
    labels = BASIC7
    needs = Needs(inputs=(FACES,))
    unit = "window"
    Options = FaceDynamicOptions
    checkpoints: ClassVar = {"backbone": checkpoint("face_static"), "head": checkpoint("face_dynamic")}

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        from affectkit.checkpoints import resolve
        from affectkit_mini.backbone import load_backbone
        from affectkit_mini.networks import FaceDynamics

        self._head = FaceDynamics()
        used = {tag: resolve(found, owner=self.id, tag=tag, option=tag) for tag, found in self.used_checkpoints().items()}
        self._net = load_backbone(used["backbone"], device)
        self._temperature = float(load_network(self._head, used["head"])["temperature"])
        self._head.to(device)

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """The network of faces, or the recurrent one, with random numbers."""
        from affectkit_mini.networks import FaceDynamics, FaceNet

        return write_random(folder / f"{tag}.safetensors", FaceNet if tag == "backbone" else FaceDynamics, temperature=1.0)

    def preprocess(self, clip: Clip) -> Mapping[str, torch.Tensor] | None:
        faces = _found(clip)
        if faces is None or len(faces.data["crops"]) < max(self.options.least, 2):
            return None
        return _tensors(faces)

    def predict(self, batch: Mapping[str, torch.Tensor]) -> Output:
        from affectkit_mini.networks import DIRECTIONS

        faces, mask = batch["faces"], batch["faces_mask"]
        logits, embeddings = self._net.read(faces, mask)
        found, way, motion = (part.float() for part in self._head(embeddings, logits, mask))
        ways = way.softmax(1)
        return Output(
            values={BASIC7: (found / self._temperature).softmax(1)},
            embeddings={"motion": motion},
            quality={
                "onset": ways[:, DIRECTIONS.index("onset")] - ways[:, DIRECTIONS.index("offset")],
                "faces": mask.sum(1).float(),
                "side": _mean(batch["side"], mask),
            },
        )
