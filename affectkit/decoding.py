"""Decoding: the frames and the sound of a medium, each stream once, forwards, in presentation time, in constant memory.

Where a stream is damaged, what can be decoded is given, and a :class:`~affectkit.errors.MediaError` with the time of the
first damage follows at the end of the stream, so nothing is lost silently:

* A video packet that cannot be decoded: pictures up to the next key frame refer to what is missing and are left out; from
  the key frame on they are given again. A file with one key frame thus ends where it breaks.
* A picture that FFmpeg marks as damaged but could complete is given, and counted as damage.
* A sound packet that cannot be decoded leaves a gap in time.
* A stream that ends earlier than its header says, by more than two frames and half a second, is damaged too.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler

from affectkit.errors import MediaError
from affectkit.media import Media
from affectkit.pictures import numbered_pictures, read_picture
from affectkit.probing import choose, header_end, opened, pixel_ratio, reason

SHORT_BY_FRAMES = 2  # a stream may end this many frames before the end in its header, or
SHORT_BY_SECONDS = 0.5  # this many seconds, whichever is more
BACK_SECONDS = 1.0  # time stamps that go back further than this start anew: files joined without care
JITTER_SECONDS = 0.01  # time stamps of sound are rounded, to 1 ms in Matroska; what differs more is a gap
PIECE_SECONDS = 1.0


@dataclass(frozen=True)
class Frame:
    """One picture of a medium; its colours are converted only when asked for.

    Attributes:
        time: presentation time in seconds. In a folder of frames the picture with the number ``n`` is at ``(n - 1) / fps``, or
            at ``n / fps`` where there is a picture with the number 0, so missing pictures are gaps in time.
        index: position in presentation order from 0; in a folder of frames the number in the file name.
        load: makes the picture, as :meth:`rgb` returns it.
    """

    time: float
    index: int
    load: Callable[[], np.ndarray] = field(repr=False)

    def rgb(self) -> np.ndarray:
        """The picture as displayed, after rotation: (H, W, 3) uint8 RGB in [0, 255]."""
        return self.load()


@dataclass(frozen=True)
class Sound:
    """A piece of sound: ``samples`` (n,) float32 mono, full scale [-1, 1], from ``start`` in seconds on."""

    start: float
    samples: np.ndarray


def read_frames(media: Media) -> Generator[Frame]:
    """The pictures of a medium in presentation order, at strictly rising times.

    Pictures without a time stamp follow the one before by one frame; of several with the same time the first is given.

    Args:
        media: a video, an image (one frame at 0) or a folder of frames; sound alone has no pictures.

    Raises:
        MediaError: after everything that could be decoded, with the time ``at`` which it broke.
    """
    if media.kind == "image":
        picture = read_picture(media.path)
        yield Frame(0.0, 0, lambda: picture)
    elif media.kind == "frames":
        yield from _read_folder(media)
    elif media.video is not None:
        yield from _read_video(media)


def _read_folder(media: Media) -> Iterator[Frame]:
    numbered = numbered_pictures(media.path)
    if numbered is None or media.fps is None:
        raise MediaError(f"{media.path} no longer is a folder of numbered frames")
    broken: list[tuple[float, str]] = []
    for number, path in numbered.pictures.items():
        time = numbered.time(number, media.fps)
        try:
            picture = read_picture(path)
        except MediaError:
            broken.append((time, path.name))
            continue
        yield Frame(time, number, lambda picture=picture: picture)  # type: ignore[misc]
    if broken:
        names = ", ".join(name for _, name in broken[:3]) + (", ..." if len(broken) > 3 else "")
        raise MediaError(f"{media.path}: {len(broken)} of {len(numbered.pictures)} pictures cannot be read: {names}", at=broken[0][0])


class Damage:
    """What is wrong with a stream, gathered while it is read.

    Args:
        what: the stream in words, for messages.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.at: float | None = None
        self.reason = ""
        self.open = False

    def note(self, at: float, reason: str, *, goes_on: bool = False) -> None:
        """Notes damage after the time ``at``; ``goes_on`` where nothing is missing after it."""
        if self.at is None:
            self.at, self.reason = at, reason
        self.open = not goes_on

    def error(self, rest: str) -> MediaError:
        """What was noted first, and what became of the ``rest`` of the stream."""
        return MediaError(f"{self.what} breaks after {self.at or 0.0:.2f} s: {self.reason}; {rest}", at=self.at)

    def check(self, last: float, end: float, header: float | None, packets: float, frame_seconds: float) -> None:
        """Raises what was noted, or that the stream ended much before it should.

        Damage in the last moments of a stream, within what a stream may be short by, is none: files are cut anywhere.

        Args:
            last: time of the last frame, or of the last sample, in seconds.
            end: time at which it ends, in seconds; equal to the start where nothing could be decoded.
            header: time at which it ends by its header, ``None`` where the header does not say.
            packets: time at which its packets end.
            frame_seconds: length of a frame or packet in seconds.

        Raises:
            MediaError: with the time of the first damage.
        """
        expected = max(header or 0.0, packets)
        short = expected - end > max(SHORT_BY_FRAMES * frame_seconds, SHORT_BY_SECONDS)
        if self.at is not None and (short or not self.open):
            rest = f"nothing after that can be decoded, of {expected:.2f} s" if self.open else "later parts can be decoded and are kept"
            raise self.error(rest)
        if short:
            why = f"its header says {header:.2f} s" if header is not None and header >= packets else f"its packets go on to {packets:.2f} s"
            raise MediaError(f"{self.what} ends at {last:.2f} s although {why}; is the file complete?", at=last)


def _read_video(media: Media) -> Iterator[Frame]:
    step = 1.0 / media.fps if media.fps else 0.04
    damage = Damage(f"{media.path}: video stream {media.video}")
    last: float | None = None
    index = 0
    with opened(media.path) as container:
        stream = choose(container, media.path, "video", media.video)
        stream.thread_type = "AUTO"
        header = header_end(container, stream)
        ratio = pixel_ratio(stream)
        packets = _Packets(container, stream)
        resume: float | None = None  # the time of the key frame from which on pictures are whole again
        waiting = False
        for packet in packets:
            if waiting:
                if not packet.is_keyframe:
                    continue
                waiting, resume = False, packets.time(packet)
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, ValueError) as error:
                damage.note(media.start if last is None else last, reason(error))
                stream.codec_context.flush_buffers()
                waiting = True
                continue
            for frame in frames:
                time = frame.time if frame.time is not None else (media.start if last is None else last + step)
                if resume is not None and time < resume:
                    continue
                if last is not None and time <= last:
                    if time > last - BACK_SECONDS:
                        continue
                    damage.note(last, f"its time stamps go back to {time:.2f} s")
                    raise damage.error("what follows is left out")
                damage.open = False
                if frame.is_corrupt:
                    damage.note(time, "a damaged picture", goes_on=True)
                yield Frame(time, index, _Picture(frame, ratio))
                last, index = time, index + 1
        if packets.error is not None:
            damage.note(media.start if last is None else last, packets.error)
    if last is None:
        raise MediaError(f"{damage.what} cannot be decoded: {damage.reason or 'it holds no pictures'}", at=media.start)
    damage.check(last, last + step, header, packets.end, step)


class _Packets:
    """The packets of one stream. A container that cannot be read on ends them, and ``error`` says why."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._packets = container.demux(stream)
        self.end = 0.0
        self.error: str | None = None

    def __iter__(self) -> Iterator[Any]:
        while True:
            try:
                packet = next(self._packets)
            except StopIteration:
                return
            except av.error.FFmpegError as error:
                self.error = reason(error)
                return
            time = self.time(packet)
            if time is not None and packet.size and not packet.is_discard:
                self.end = max(self.end, time + float((packet.duration or 0) * packet.time_base))
            yield packet

    @staticmethod
    def time(packet: Any) -> float | None:
        """Presentation time of a packet in seconds, ``None`` where it has none."""
        return None if packet.pts is None else float(packet.pts * packet.time_base)


@dataclass(frozen=True)
class _Picture:
    """A decoded video frame that becomes RGB with square pixels, and turns upright, when called."""

    frame: Any
    ratio: float

    def __call__(self) -> np.ndarray:
        image = self.frame.to_ndarray(format="rgb24", width=max(1, round(self.frame.width * self.ratio)))
        turns = round(self.frame.rotation / 90) % 4  # FFmpeg tells how far to turn it against the clock
        return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def read_sound(media: Media, rate: int) -> Iterator[Sound]:
    """The sound of a medium as mono at ``rate`` samples per second, in pieces of at most a second, in order.

    Sound keeps its time stamps: it starts when it starts, and a gap in time becomes a gap between two pieces. Rounded time
    stamps do not: pieces without a gap between them follow each other to the sample. Channels are mixed with the usual
    weights (front centre 1, others 0.71, low frequency effects 0, all divided by their sum).

    Args:
        media: what has the sound: ``media.sound`` where it is given, else ``media.path``.
        rate: samples per second.

    Raises:
        MediaError: after everything that could be decoded, with the time ``at`` which it broke.
    """
    if media.audio is None:
        return
    path = media.sound or media.path
    damage = Damage(f"{path}: audio stream {media.audio}")
    line = _Line(rate)
    packet_seconds = 0.0
    with opened(path) as container:
        stream = choose(container, path, "audio", media.audio)
        header = header_end(container, stream)
        packets = _Packets(container, stream)
        for packet in packets:
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, ValueError) as error:
                damage.note(line.end, reason(error))
                continue
            for frame in frames:
                if frame.time is not None and line.started and frame.time < line.end - BACK_SECONDS:
                    damage.note(line.end, f"its time stamps go back to {frame.time:.2f} s")
                    yield from line.flush()
                    raise damage.error("what follows is left out")
                damage.open = False
                packet_seconds = frame.samples / frame.sample_rate
                yield from line.push(frame)
        if packets.error is not None:
            damage.note(line.end, packets.error)
        yield from line.flush()
    if not line.started:
        raise MediaError(f"{damage.what} cannot be decoded: {damage.reason or 'it holds no samples'}", at=media.start)
    damage.check(line.end, line.end, header, packets.end, packet_seconds)


class _Line:
    """Decoded sound, put on one line of time: frames in, pieces of mono sound at one rate out."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.started = False
        self._format: Any = None
        self._resampler: AudioResampler | None = None
        self._weights = np.ones(1, dtype=np.float32)
        self._start = 0.0  # of the stretch without gaps, in seconds
        self._taken = 0.0  # seconds that went into the stretch
        self._given = 0  # samples that came out of it
        self._skip = 0  # samples to leave out, because an earlier stretch covers their time
        self._waiting: list[np.ndarray] = []

    @property
    def end(self) -> float:
        """Time up to which there is sound, in seconds."""
        return self._start + self._taken

    def push(self, frame: Any) -> Iterator[Sound]:
        """Takes a decoded frame of sound and gives the whole pieces that are ready."""
        time = self.end if frame.time is None else frame.time
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self._format or abs(time - self.end) > JITTER_SECONDS:
            yield from self.flush()
            self._skip = max(0, round((self.end - time) * self.rate)) if self.started else 0
            self._format, self._start, self._taken, self._given = form, time, 0.0, 0
            self._resampler = AudioResampler(format="fltp", rate=self.rate)
            self._weights = _mono_weights([channel.name for channel in frame.layout.channels])
        self.started = True
        self._taken += frame.samples / frame.sample_rate
        yield from self._resample(frame)

    def flush(self) -> Iterator[Sound]:
        """Gives what is left of the stretch."""
        if self._resampler is not None:
            yield from self._resample(None)
            yield from self._give(least=1)
            self._resampler = None
            self._format = None

    def _resample(self, frame: Any) -> Iterator[Sound]:
        for out in self._resampler.resample(frame) if self._resampler is not None else ():
            if out is not None:
                self._waiting.append(self._weights @ out.to_ndarray())
        yield from self._give(least=max(1, int(PIECE_SECONDS * self.rate)))

    def _give(self, least: int) -> Iterator[Sound]:
        if sum(len(part) for part in self._waiting) < least:
            return
        samples = np.clip(np.nan_to_num(np.concatenate(self._waiting)), -1.0, 1.0).astype(np.float32, copy=False)
        longest = max(1, int(PIECE_SECONDS * self.rate))
        first = min(self._skip, len(samples))
        self._skip -= first
        self._given += first
        samples = samples[first:]
        while len(samples) >= least:
            piece, samples = samples[:longest], samples[longest:]
            yield Sound(self._start + self._given / self.rate, piece)
            self._given += len(piece)
        self._waiting = [samples]


def _mono_weights(channels: list[str]) -> np.ndarray:
    """Weight of each channel in the mono mix: (channels,) float32 that sum to 1.

    >>> _mono_weights(["FL", "FR"])
    array([0.5, 0.5], dtype=float32)
    """
    weights = np.array([0.0 if name.startswith("LFE") else 1.0 if name == "FC" else 0.5**0.5 for name in channels], dtype=np.float32)
    return weights / weights.sum() if weights.sum() > 0 else np.full(len(channels), 1.0 / len(channels), dtype=np.float32)
