"""``finecliper/landmarks``: 478 points of a face in each crop, and pictures of them, by MediaPipe's face landmarker without MediaPipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from affectkit.api import Checkpoint, ConfigError, Evidence
from affectkit.errors import did_you_mean
from affectkit_finecliper import drawing, mesh
from affectkit_finecliper.on_crops import OnCrops
from affectkit_finecliper.views import nearest

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from affectkit_finecliper.landmarker import Found

KIND = "landmarks"
NO_FACE = "no crop shows a face clearly enough for landmarks"
DRAWN = {"68": mesh.IBUG68, "478": tuple(range(mesh.POINTS))}
PUBLISHED = Checkpoint(
    uri="https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task",
    sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    licence="Apache-2.0",
    source="MediaPipe face landmarker (float16, version 1), https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker",
    size=3_758_596,
)


@dataclass(frozen=True)
class LandmarksOptions:
    """Options of finecliper/landmarks.

    Attributes:
        checkpoint: ``default``, or the path of a ``face_landmarker.task``.
        presence: a crop that is less surely one of a face than this, in [0, 1], has no landmarks; 0.5 is MediaPipe's own choice.
        looks: how often a crop is looked at. From the second time on, the face is turned upright and cut out by the points of the time before, which costs
            the same again.
        drawn: ``68`` draws the points of iBUG, ``478`` all of them.
        radius: of a dot, in pixels of a picture of 224.
        blendshapes: whether the weights of 52 facial movements are wanted too.
    """

    checkpoint: str = "default"
    presence: float = 0.5
    looks: int = 2
    drawn: str = "68"
    radius: float = 2.0
    blendshapes: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.presence <= 1:
            raise ConfigError(f"presence must be in [0, 1], found {self.presence}")
        if self.looks < 1:
            raise ConfigError(f"looks must be at least 1, found {self.looks}")
        if self.drawn not in DRAWN:
            raise ConfigError(f"drawn must be 68 or 478, found {self.drawn!r}. {did_you_mean(self.drawn, DRAWN)}")
        if not self.radius > 0:
            raise ConfigError(f"radius must be greater than 0 pixels, found {self.radius}")


class Landmarks(OnCrops):
    """478 points of the face in each crop of a window, and pictures of them, by MediaPipe's face landmarker without MediaPipe.

    ``maps`` (T, S, S, 3) uint8, white dots on black; ``points`` (T, 478, 3) float32 x, y, z in pixels of the crop; ``presence`` (T,) float32 in [0, 1];
    ``valid`` (T,) bool. A crop in which no face is found has the points and the map of the nearest one in which there is one. Quality: ``presence``, its mean, and
    ``found``, the share of crops with a face. With blendshapes there are also ``blendshapes`` (T, 52) float32 and the quality ``movement``, the largest
    range that one of them has over the window. The network runs on the processor.
    """

    name = "landmarks"
    kind: ClassVar[str] = KIND
    Options = LandmarksOptions
    checkpoints: ClassVar = {"default": PUBLISHED}
    requires = ("ai_edge_litert",)

    _landmarker: Any = None

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Reads the networks.

        Raises:
            CheckpointError: where they are absent or of another kind.
        """
        import torch

        from affectkit_finecliper.landmarker import Landmarker

        threads = torch.get_num_threads()
        self._landmarker = Landmarker(self.weights(), self.id, blendshapes=self.options.blendshapes, threads=threads)

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """A bundle whose networks see the same face in every crop, moved a little by its colours: with random numbers there would be none."""
        from affectkit_finecliper.tiny_landmarker import write

        return write(folder / "face_landmarker.task")

    def look(self, crops: np.ndarray, times: np.ndarray | None) -> Evidence:
        found: Found = self._landmarker.find(crops, self.options.looks)
        valid = found.presence >= self.options.presence
        places = nearest(valid)
        if places is None:
            return Evidence.none(KIND, NO_FACE)
        size, radius = crops.shape[1], self.options.radius / 224
        drawn = {place: drawing.dots(found.points[place][list(DRAWN[self.options.drawn])], size, radius) for place in np.flatnonzero(valid)}
        data = {
            "maps": np.stack([drawn[place] for place in places]),
            "valid": valid,
            "points": found.points[places],
            "presence": found.presence,
        }
        quality = {"presence": float(found.presence.mean()), "found": float(valid.mean())}
        if found.blendshapes is not None:
            data["blendshapes"] = found.blendshapes[places]
            quality["movement"] = float(np.ptp(found.blendshapes[valid], axis=0).max())
        return Evidence(KIND, data, times=times, quality=quality)
