"""What providers find for those who ask: evidence with its validity, and the words of a transcript."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Evidence:
    """What a provider found, with its validity. No evidence is ``valid=False`` with a reason, never zeros.

    Fields of ``data`` by kind:
      * ``"faces"`` as a detector returns it, for one frame: ``boxes`` (K, 4) float32 x0, y0, x1, y1 in pixels, ``scores`` (K,)
        float32 in [0, 1], and where the model has them ``landmarks`` (K, P, 2) float32 in pixels.
      * ``"faces"`` as a modality gets it, for one subject: ``crops`` (T, size, size, 3) uint8 RGB, ``boxes`` (T, 4) in
        pixels of the frame, ``scores`` (T,), and ``landmarks`` (T, P, 2) in pixels of the frame where the detector has them.
      * ``"transcript"``: ``text``, and ``words``, a sequence of :class:`Word`.
      * ``"description"``: ``text``.

    Attributes:
        kind: the kind of evidence.
        data: its content.
        valid: whether there is any.
        times: (T,) float64 seconds, one per picture, where the evidence is made of pictures.
        quality: numbers that say how good it is, for instance the side of the face in pixels.
        reason: why there is none, in a few words: "no face", "no subtitles beside the file".
    """

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)
    valid: bool = True
    times: np.ndarray | None = None
    quality: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""

    @classmethod
    def none(cls, kind: str, reason: str) -> Evidence:
        """No evidence of this kind, and why."""
        return cls(kind, valid=False, reason=reason)


@dataclass(frozen=True)
class Word:
    """A word or a subtitle cue.

    Attributes:
        text: what is said.
        start: seconds at which it begins.
        end: seconds at which it ends.
    """

    text: str
    start: float
    end: float
