"""core/yunet: faces by YuNet, a small convolutional detector, through OpenCV's ``FaceDetectorYN``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from affectkit.api import Checkpoint, CheckpointError, Clip, ConfigError, Evidence, Frames, Needs, Provider
from affectkit.detections import Detections

if TYPE_CHECKING:
    from pathlib import Path

    import torch

LANDMARKS = ("right_eye", "left_eye", "nose", "right_mouth_corner", "left_mouth_corner")
"""Order of the five points; right and left are the person's own."""

SMALLEST = 32  # pixels: its coarsest cell; of smaller pictures OpenCV gives boxes that change from call to call
CANDIDATES = 5000  # boxes that go into non-maximum suppression; OpenCV's own default


@dataclass(frozen=True)
class YuNetOptions:
    """Options of core/yunet.

    Attributes:
        checkpoint: ``default``, or the path of an ONNX file that ``FaceDetectorYN`` reads.
        score: faces below this score, in [0, 1], are left out.
        nms: of two boxes that overlap by more than this share, in [0, 1], the one with the lower score is left out.
        max_side: longer side in pixels that frames are shrunk to before they are searched; 0 keeps their size.
    """

    checkpoint: str = "default"
    score: float = 0.7
    nms: float = 0.3
    max_side: int = 640

    def __post_init__(self) -> None:
        for name in ("score", "nms"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"core/yunet: {name} must be in [0, 1], found {getattr(self, name)}")
        if self.max_side < 0:
            raise ConfigError(f"core/yunet: max_side must not be negative, found {self.max_side}")


class YuNet(Provider):
    """Boxes, scores and five landmarks of the faces of a frame, in the order of :data:`LANDMARKS`.

    Wu, Peng and Yu: YuNet: a tiny millisecond-level face detector. Machine Intelligence Research 20 (2023).
    """

    name = "yunet"
    kind = "faces"
    scope = "frame"
    needs = Needs(frames=Frames(count=1))
    Options = YuNetOptions
    checkpoints: ClassVar = {
        "default": Checkpoint(
            uri="https://github.com/ShiqiYu/libfacedetection.train/raw/master/onnx/yunet_n_640_640.onnx",
            sha256="25a606a145a5b6d7271ae138fbd00eba91dad8b83222ae3f2c7ecd0f4a7b0e31",
            licence="Apache-2.0",
            source="https://github.com/ShiqiYu/libfacedetection.train",
        )
    }

    _detector: Any = None

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Reads the network; it runs on the processor whatever the device."""
        import cv2

        path = self.weights()
        try:
            self._detector = cv2.FaceDetectorYN.create(str(path), "", (320, 320), self.options.score, self.options.nms, CANDIDATES)
        except cv2.error as error:
            raise CheckpointError(
                f"core/yunet: {path} is not a network that OpenCV {cv2.__version__} can read ({str(error.err).strip() or error}); "
                "give YuNet's ONNX file as the option checkpoint"
            ) from None

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """There is none: nothing that affectkit depends on writes ONNX."""
        raise CheckpointError(
            f"{self.id} has no random weights: they would be an ONNX file, and nothing that affectkit is installed with writes one. "
            "To try a run without downloads, take mini/faces, whose weights are in its package; else get the real one with "
            "'affectkit weights fetch core/yunet'"
        )

    def provide(self, clips: Sequence[Clip]) -> list[Evidence]:
        """Boxes (K, 4), scores (K,) and landmarks (K, 5, 2) of each clip's one frame."""
        return [Evidence.none("faces", "no picture") if clip.frames is None else self._faces(clip.frames[0]) for clip in clips]

    def _faces(self, image: np.ndarray) -> Evidence:
        """Faces of one picture (H, W, 3) uint8 RGB, in its own pixels."""
        import cv2

        height, width = image.shape[:2]
        if min(height, width) < SMALLEST:
            return Evidence.none("faces", "no face")
        scale = min(1.0, self.options.max_side / max(height, width)) if self.options.max_side else 1.0
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        if scale < 1:
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        self._detector.setInputSize(size)
        found = self._detector.detect(np.ascontiguousarray(image[..., ::-1]))[1]
        if found is None:
            return Evidence.none("faces", "no face")
        # a very long and narrow picture makes the network answer infinities
        found = found[np.isfinite(found).all(axis=1) & (found[:, 2:4] > 0).all(axis=1)]
        stretch = np.array([width / size[0], height / size[1]], dtype=np.float32)
        corner, extent = found[:, 0:2], found[:, 2:4]
        boxes = np.concatenate([corner, corner + extent], axis=1) * np.tile(stretch, 2)
        landmarks = found[:, 4:14].reshape(-1, len(LANDMARKS), 2) * stretch
        return Detections(boxes, np.clip(found[:, 14], 0, 1), landmarks).to_evidence()
