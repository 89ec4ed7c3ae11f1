"""Fixtures that several test modules share."""

from __future__ import annotations

from pathlib import Path

import torch

from affectkit.api import Clip, Evidence, Media, Modality, Output, Span
from affectkit.batching import collate

MEDIA = Media(id="made", path=Path("made.mp4"), kind="video", duration=4.0, fps=25.0, size=(240, 320))
WINDOW = Span(0.0, 4.0)


def predict(component: Modality, *clips: Clip) -> Output:
    """Preprocess and predict clips as one batch."""
    rows = [component.preprocess(clip) for clip in clips]
    assert all(row is not None for row in rows)
    with torch.inference_mode():
        return component.predict(collate(rows))


def words_clip(text: str, kind: str = "transcript", valid: bool = True) -> Clip:
    """A clip with words, or with a description."""
    return Clip(MEDIA, WINDOW, inputs={kind: Evidence(kind, {"text": text, "words": ()}, valid=valid)})
