"""Media, spans and clips: what is read, which part of it, and what a modality sees of it. Times are seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from affectkit.errors import MediaError

if TYPE_CHECKING:
    from affectkit.components import Evidence

MediaKind = Literal["video", "audio", "image", "frames"]


@dataclass(frozen=True)
class Span:
    """A stretch of time, half open: ``start <= t < end``, in seconds. An image has ``start == end == 0``."""

    start: float
    end: float

    def __post_init__(self) -> None:
        if not self.start <= self.end:
            raise MediaError(f"a span must not end before it starts: start {self.start}, end {self.end}")

    @property
    def length(self) -> float:
        """Length in seconds."""
        return self.end - self.start


@dataclass(frozen=True)
class Media:
    """One file, or one folder of numbered frames, that can be analysed.

    Attributes:
        id: name of the medium in result tables, unique within a run.
        path: the file or folder.
        kind: ``"video"`` (with or without sound), ``"audio"``, ``"image"``, or ``"frames"`` (folder of numbered frames).
        start: time of the first frame or sample, in seconds of the container's own presentation time.
        duration: seconds from ``start`` to the end of the last frame or sample; 0 for an image.
        fps: average frames per second, ``None`` without video.
        size: (height, width) in pixels as displayed, that is after rotation, ``None`` without video.
        video: index of the video stream in the container, ``None`` without video.
        audio: index of the audio stream in its container, ``None`` without sound.
        sound: the file that holds the sound where it is not ``path`` (folders of frames).
    """

    id: str
    path: Path
    kind: MediaKind
    duration: float
    start: float = 0.0
    fps: float | None = None
    size: tuple[int, int] | None = None
    video: int | None = None
    audio: int | None = None
    sound: Path | None = None


@dataclass(frozen=True)
class Clip:
    """One window of one subject, with only what was asked for.

    Attributes:
        media: the medium that it is cut from.
        span: its window; for frame units a single time, ``start == end``.
        track: id of the subject; -1 where there is no subject.
        frames: (T, H, W, 3) uint8 RGB whole frames, or ``None``.
        frame_times: (T,) float64 seconds, or ``None``.
        audio: (N,) float32 mono samples in [-1, 1] at the rate asked for: what there is of sound inside the span, gaps
            filled with zeros; ``None`` where there is no sound or only digital silence.
        audio_start: time of the first sample, in seconds.
        inputs: the evidence of every input that was declared, by kind; it may be invalid.
    """

    media: Media
    span: Span
    track: int = -1
    frames: np.ndarray | None = None
    frame_times: np.ndarray | None = None
    audio: np.ndarray | None = None
    audio_start: float = 0.0
    inputs: Mapping[str, Evidence] = field(default_factory=dict)
