"""Providers that look at the crops of a face, as many as the modality reads."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from affectkit.api import Clip, Evidence, Needs, Provider
from affectkit.components import Scope
from affectkit_finecliper.views import FACES


class OnCrops(Provider):
    """Says something of the crops of a window, where there are any."""

    scope: ClassVar[Scope] = "face"
    needs = Needs(inputs=(FACES,))

    def provide(self, clips: Sequence[Clip]) -> list[Evidence]:
        """What is said of the crops of each clip."""
        return [self._of(clip.inputs["faces"]) for clip in clips]

    @abstractmethod
    def look(self, crops: np.ndarray, times: np.ndarray | None) -> Evidence:
        """What is said of the crops of one clip.

        Args:
            crops: (T, S, S, 3) uint8 RGB, at least one.
            times: (T,) seconds of the crops, where they are known.
        """

    def _of(self, faces: Evidence) -> Evidence:
        crops = faces.data.get("crops")
        if not faces.valid or crops is None or not len(crops):
            return Evidence.none(self.kind, faces.reason or "no face")
        return self.look(crops, faces.times)
