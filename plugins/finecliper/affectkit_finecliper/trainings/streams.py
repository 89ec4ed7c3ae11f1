"""The other streams of a training: maps of the frames that a clip was asked for, drawn by the providers of this plugin."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.api import Clip, Evidence, Media, Span
from affectkit_finecliper.views import drawn

if TYPE_CHECKING:
    from affectkit_finecliper.landmarks import Landmarks


@dataclass
class Drawer:
    """Draws maps of frames; the network of landmarks is read when the first are asked for, in each process that reads clips.

    Attributes:
        streams: ``"landmarks"``, ``"parsing"`` (the regions that landmarks bound) or both.
        landmarker: ``default``, or the path of a ``face_landmarker.task``.
        owner: id of who wants them, for messages.
    """

    streams: Sequence[str]
    landmarker: str
    owner: str
    _made: dict[int, tuple[Landmarks, Any]] = field(default_factory=dict)  # by process: a network does not survive a fork

    def maps(self, frames: np.ndarray) -> dict[str, np.ndarray | None]:
        """Maps by stream, (T, S, S, 3) uint8, or ``None`` where no face was found in any frame.

        Args:
            frames: (T, S, S, 3) uint8 RGB of a face.
        """
        from affectkit_finecliper.parsing import Parsing

        provider, lock = self._provider()
        with lock:
            (marks,) = provider.provide([_clip({"faces": Evidence("faces", {"crops": np.ascontiguousarray(frames)})})])
        found = {"landmarks": marks}
        if "parsing" in self.streams:
            (found["parsing"],) = Parsing().provide([_clip({"landmarks": marks})])
        return {name: drawn(found[name], None, len(frames)) for name in self.streams}

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs to begin; it reads the network itself."""
        return {**self.__dict__, "_made": {}}

    def load(self) -> None:
        """Reads the network.

        Raises:
            CheckpointError: where it is not here.
        """
        self._provider()

    def _provider(self) -> tuple[Landmarks, Any]:
        import torch

        from affectkit_finecliper.landmarks import Landmarks, LandmarksOptions

        if (here := os.getpid()) not in self._made:
            provider = Landmarks(LandmarksOptions(checkpoint=self.landmarker))
            provider.id = "finecliper/landmarks"
            provider.load(torch.device("cpu"), torch.float32)
            self._made[here] = provider, threading.Lock()
        return self._made[here]


def _clip(inputs: Mapping[str, Evidence]) -> Clip:
    return Clip(Media(id="clip", path=Path("clip"), kind="video", duration=1.0, fps=None, size=None), Span(0.0, 1.0), inputs=inputs)
