"""What the reader hands to the engine: windows, with the clips that were cut for them; and the clock that both use."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from affectkit.media import Clip, Span


class Clock:
    """Seconds per stage, added up over threads.

    >>> clock = Clock()
    >>> with clock("decode"):
    ...     pass
    >>> list(clock.seconds)
    ['decode']
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - begin)

    def add(self, stage: str, seconds: float) -> None:
        """Adds seconds to a stage."""
        with self._lock:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds


@dataclass(frozen=True)
class Request:
    """One clip for one modality.

    Attributes:
        modality: its component id.
        track: subject, or -1.
        at: window index for window units, seconds for frame units, piece number for media units.
        clip: what the modality will preprocess.
    """

    modality: str
    track: int
    at: float
    clip: Clip


@dataclass(frozen=True)
class Subject:
    """Somebody who is seen in a window.

    Attributes:
        track: id of the subject.
        presence: sum of the detection scores of its faces over the number of sampled frames, in [0, 1].
        box: x0, y0, x1, y1, the mean of its boxes in pixels of the frame.
    """

    track: int
    presence: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Window:
    """One window of the grid with the clips that were cut for it.

    Attributes:
        index: position in the grid.
        span: seconds.
        subjects: who is analysed in it, most present first; empty where nobody is seen.
        requests: clips that came with it; a picture of a frame unit comes with the first window that shows it.
        reasons: why a modality has nothing to look at here, by component id.
    """

    index: int
    span: Span
    subjects: tuple[Subject, ...]
    requests: tuple[Request, ...]
    reasons: Mapping[str, str]

    @property
    def tracks(self) -> tuple[int, ...]:
        """Ids of the subjects, most present first."""
        return tuple(subject.track for subject in self.subjects)
