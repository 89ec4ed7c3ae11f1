"""What a reader keeps of the open windows: sound at one rate, downscaled frames of one size, and which times are due."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import av
import cv2
import numpy as np
from av.audio.resampler import AudioResampler

from affectkit.decoding import Sound
from affectkit.faces import periods, pick
from affectkit.media import Span
from affectkit.needs import Frames

SILENCE = 2.0 / 32768  # a peak below two steps of 16-bit sound is digital silence
QUIET_SECONDS = 0.2  # pieces of sound are cut in the quietest stretch of this length in their last third


@dataclass
class SoundBuffer:
    """Consecutive pieces of sound at one rate (samples per second), oldest first."""

    rate: int
    pieces: deque[Sound] = field(default_factory=deque)

    @property
    def end(self) -> float:
        """Time of the end of the last piece in seconds; minus infinity where there is none."""
        return self.pieces[-1].start + len(self.pieces[-1].samples) / self.rate if self.pieces else -np.inf

    def cut(self, start: float, end: float) -> tuple[np.ndarray, float] | None:
        """Sound between two times: (N,) float32 with gaps filled with zeros, and the time of its first sample; ``None`` where there is none.

        >>> buffer = SoundBuffer(10, deque([Sound(1.0, np.ones(5, np.float32))]))
        >>> samples, start = buffer.cut(0.0, 1.2)
        >>> len(samples), start
        (2, 1.0)
        """
        parts = []
        for piece in self.pieces:
            first = max(0, round((start - piece.start) * self.rate))
            last = min(len(piece.samples), round((end - piece.start) * self.rate))
            if first < last:
                parts.append((piece.start + first / self.rate, piece.samples[first:last]))
        if not parts:
            return None
        begin = parts[0][0]
        places = [round((at - begin) * self.rate) for at, _ in parts]
        out = np.zeros(max(place + len(samples) for place, (_, samples) in zip(places, parts, strict=True)), dtype=np.float32)
        for place, (_, samples) in zip(places, parts, strict=True):
            out[place : place + len(samples)] = samples
        return out, begin

    def forget(self, before: float) -> None:
        """Drops the pieces that end before a time."""
        while self.pieces and self.pieces[0].start + len(self.pieces[0].samples) / self.rate <= before:
            self.pieces.popleft()


@dataclass
class FrameBuffer:
    """Whole frames with the shorter side ``size`` pixels (native where ``None``), with their times."""

    size: int | None
    times: list[float] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list)

    def add(self, at: float, image: np.ndarray) -> None:
        """Keeps a picture (H, W, 3) uint8 that has this size already."""
        self.times.append(at)
        self.images.append(image)

    def cut(self, span: Span, frames: Frames, fps: float | None) -> tuple[np.ndarray, np.ndarray] | None:
        """The frames (T, H, W, 3) uint8 that ``frames`` asks for in a span, and their times (T,); ``None`` where there are none."""
        chosen = pick(np.array(self.times), span, frames, fps)
        if not len(chosen):
            return None
        return np.stack([self.images[i] for i in chosen]), np.array([self.times[i] for i in chosen])

    def forget(self, before: float) -> None:
        """Drops the frames before a time."""
        keep = next((i for i, t in enumerate(self.times) if t >= before), len(self.times))
        del self.times[:keep], self.images[:keep]


class Ticker:
    """Says of rising times which to take: at most ``fps`` a second, the first at or after each multiple of the period.

    >>> ticker = Ticker(2.0)
    >>> [t for t in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0) if ticker.due(t)]
    [0.0, 0.6, 1.0]
    """

    def __init__(self, fps: float) -> None:
        self.fps = fps
        self._last: int | None = None  # the period of the last picture that was taken

    def due(self, at: float) -> bool:
        """Whether to take the picture at this time (seconds)."""
        period = int(periods(np.array([at]), self.fps)[0])
        if self._last is not None and period <= self._last:
            return False
        self._last = period
        return True


def is_silent(samples: np.ndarray) -> bool:
    """Whether sound (N,) float32 in [-1, 1] is digital silence."""
    return bool(np.abs(samples).max(initial=0.0) < SILENCE)


def resample(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Sound (N,) float32 at another rate."""
    resampler = Resampler(rate, wanted)
    pieces = [*resampler.push(Sound(0.0, samples)), *resampler.flush()]
    return np.concatenate([piece.samples for piece in pieces]) if pieces else np.empty(0, dtype=np.float32)


class Resampler:
    """Consecutive pieces of sound at another rate, without seams where they meet.

    Args:
        rate: samples per second that come in.
        wanted: samples per second that come out.

    >>> resampler = Resampler(100, 50)
    >>> pieces = [*resampler.push(Sound(1.0, np.ones(100, np.float32))), *resampler.flush()]
    >>> pieces[0].start, sum(len(piece.samples) for piece in pieces)
    (1.0, 50)
    """

    def __init__(self, rate: int, wanted: int) -> None:
        self.rate = rate
        self.wanted = wanted
        self._resampler: AudioResampler | None = None
        self._start = 0.0  # of the stretch without gaps, in seconds
        self._taken = 0  # samples that went into it
        self._given = 0  # samples that came out of it

    def push(self, sound: Sound) -> list[Sound]:
        """Takes a piece; gives what is ready, which lags a few samples behind."""
        if self.rate == self.wanted:
            return [sound]
        out = []
        if self._resampler is None or abs(sound.start - self._start - self._taken / self.rate) > 0.5 / self.wanted:
            out = self.flush()
            self._resampler = AudioResampler(format="flt", layout="mono", rate=self.wanted)
            self._start, self._taken, self._given = sound.start, 0, 0
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound.samples[None]), format="flt", layout="mono")
        frame.sample_rate = self.rate
        self._taken += len(sound.samples)
        return out + self._give(self._resampler.resample(frame))

    def flush(self) -> list[Sound]:
        """Gives what is left; the next piece begins a new stretch."""
        resampler, self._resampler = self._resampler, None
        return [] if resampler is None else self._give(resampler.resample(None))

    def _give(self, frames: Iterable[av.AudioFrame]) -> list[Sound]:
        out = []
        for frame in frames:
            samples = frame.to_ndarray()[0]
            out.append(Sound(self._start + self._given / self.wanted, samples))
            self._given += len(samples)
        return out


def quietest(samples: np.ndarray, rate: int) -> int:
    """Index in the last third of ``samples`` (N,) float32 around which the sound is quietest."""
    width = max(1, int(QUIET_SECONDS * rate))
    first = 2 * len(samples) // 3
    energy = np.add.reduceat(samples[first:].astype(np.float64) ** 2, np.arange(0, max(1, len(samples) - first), width))
    return min(len(samples), first + int(energy.argmin()) * width + width // 2)


def downscale(image: np.ndarray, size: int | None) -> np.ndarray:
    """A picture (H, W, 3) uint8 with its shorter side ``size`` pixels; a smaller picture is enlarged, so that frames of a batch agree."""
    if size is None:
        return image.copy()
    height, width = image.shape[:2]
    scale = size / min(height, width)
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, shape, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
