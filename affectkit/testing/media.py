"""Tiny media for tests, made on the spot with PyAV: videos, sound files and folders of frames.

The same call shows the same pictures; with ``mpeg4`` or ``ffv1`` it also makes the same file, which x264 does not promise.
"""

from __future__ import annotations

import wave
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.evidence import Word

if TYPE_CHECKING:
    import av.container

TICKS = 90000  # per second: what the times of the pictures are rounded to, before the container rounds them to its own
SOUND_CODECS = {".webm": "libopus", ".mkv": "aac", ".ogg": "libopus"}
SUBTITLE_CODECS = {".mp4": "mov_text", ".mov": "mov_text", ".mkv": "subrip", ".webm": "webvtt"}
ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, StrikeOut, \
ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,0

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""  # FFmpeg's encoders of text subtitles start from this, whatever they write


def moving_pattern(time: float, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    """A smooth picture that differs from time to time: (H, W, 3) uint8 RGB.

    >>> moving_pattern(0.0).shape
    (96, 128, 3)
    """
    height, width = size
    rows, columns = np.mgrid[0:height, 0:width]
    red = 128 + 100 * np.sin(2 * np.pi * (columns / width + time))
    green = 255 * rows / max(1, height - 1)
    blue = np.full(size, 128 + 100 * np.sin(2 * np.pi * 0.1 * time))
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def tone(times: np.ndarray, frequency: float = 220.0) -> np.ndarray:
    """A tone of half the full scale at ``times`` (N,) in seconds: (N,) float32 in [-0.5, 0.5].

    >>> tone(np.array([0.0])).dtype
    dtype('float32')
    """
    return (0.5 * np.sin(2 * np.pi * frequency * times)).astype(np.float32)


def make_video(
    path: Path,
    *,
    seconds: float = 2.0,
    fps: float = 25.0,
    size: tuple[int, int] = (96, 128),
    times: Sequence[float] | None = None,
    picture: Callable[[float], np.ndarray] | None = None,
    sound: np.ndarray | Callable[[np.ndarray], np.ndarray] | None = None,
    rate: int = 16000,
    sound_start: float = 0.0,
    codec: str = "libx264",
    rotation: int | None = None,
    pix_fmt: str = "yuv420p",
    subtitles: Sequence[Word] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Writes a video; the suffix of its name says which container.

    Args:
        path: where to write it.
        seconds: its length.
        fps: pictures per second.
        size: (height, width) of the stored pictures in pixels, even numbers.
        times: presentation times of the pictures in seconds, for a variable frame rate; instead of ``seconds`` and ``fps``.
        picture: makes the picture (H, W, 3) uint8 RGB of a time in seconds; :func:`moving_pattern` where it is not given.
        sound: (N,) or (N, channels) float32 samples in [-1, 1], or what makes them of their times (N,) in seconds.
        rate: samples per second of the sound.
        sound_start: time of the first sample in seconds.
        codec: a video encoder of FFmpeg.
        rotation: how far a player turns the stored pictures against the clock, in degrees.
        pix_fmt: pixel format, for instance ``"yuv420p10le"`` for 10 bits.
        subtitles: cues of a text stream.
        options: options of the container.

    Returns:
        ``path``.
    """
    import av

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    moments = list(np.arange(round(seconds * fps)) / fps) if times is None else list(times)
    draw = picture if picture is not None else lambda time: moving_pattern(time, size)
    with av.open(f"file:{path}", "w", format=_format(path), options={"fflags": "+bitexact", **(options or {})}) as container:
        video: Any = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=_quick(codec))
        video.height, video.width = size
        video.pix_fmt = pix_fmt
        if codec != "mpeg4":  # which takes at most 65535 ticks a second; it keeps the clock of its frame rate
            video.codec_context.time_base = Fraction(1, TICKS)
        if rotation is not None:
            video.set_display_rotation(rotation)
        audio: Any = None
        if sound is not None:
            audio = container.add_stream(SOUND_CODECS.get(path.suffix.lower(), "aac"), rate=rate)
            audio.layout = "stereo" if not callable(sound) and sound.ndim == 2 else "mono"
        text: Any = None
        if subtitles is not None:
            text = container.add_stream(SUBTITLE_CODECS[path.suffix.lower()])
            text.codec_context.subtitle_header = ASS_HEADER
            text.codec_context.time_base = Fraction(1, 1000)
        container.start_encoding()
        for word in subtitles or ():
            container.mux(_cue(text, word))
        length = moments[-1] + 1.0 / fps if moments else 0.0
        sounds = _sound_frames(sound, rate, sound_start, length) if audio is not None else iter(())
        heard = next(sounds, None)
        for moment in moments:
            while heard is not None and heard.time <= moment:
                container.mux(audio.encode(heard))
                heard = next(sounds, None)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(draw(float(moment))), format="rgb24").reformat(format=pix_fmt)
            base = Fraction(1, TICKS) if codec != "mpeg4" else 1 / Fraction(fps).limit_denominator(1001)
            frame.pts, frame.time_base = round(float(moment) / float(base)), base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        while audio is not None and heard is not None:
            container.mux(audio.encode(heard))
            heard = next(sounds, None)
        if audio is not None:
            container.mux(audio.encode(None))
    return path


def make_wav(path: Path, samples: np.ndarray, rate: int = 16000) -> Path:
    """Writes 16-bit sound.

    Args:
        path: where to write it.
        samples: (N,) or (N, channels) float in [-1, 1].
        rate: samples per second.

    Returns:
        ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.asarray(samples)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def make_frames(
    folder: Path,
    numbers: Iterable[int],
    size: tuple[int, int] = (96, 128),
    picture: Callable[[float], np.ndarray] | None = None,
    *,
    name: str = "{:05d}.jpg",
) -> Path:
    """Writes a folder of numbered pictures.

    Args:
        folder: where to write them.
        numbers: the numbers, with gaps where there should be gaps.
        size: (height, width) in pixels.
        picture: makes the picture (H, W, 3) uint8 RGB of a number; :func:`moving_pattern` of a tenth of it where it is not given.
        name: how the files are named; the suffix says which kind of picture.

    Returns:
        ``folder``.
    """
    import cv2

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        image = moving_pattern(number / 10, size) if picture is None else picture(number)
        path = folder / name.format(number)
        path.write_bytes(cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())
    return folder


def _format(path: Path) -> str | None:
    """Container by suffix where FFmpeg would not find it itself."""
    return {".mkv": "matroska", ".m4v": "mp4"}.get(path.suffix.lower())


def _quick(codec: str) -> dict[str, str]:
    return {
        "libx264": {"preset": "veryfast"},
        "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
        "libsvtav1": {"preset": "12"},
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    }.get(codec, {})


def _sound_frames(sound: np.ndarray | Callable[[np.ndarray], np.ndarray] | None, rate: int, start: float, end: float) -> Any:
    """The sound as frames of a tenth of a second."""
    import av

    if callable(sound):
        sound = sound(start + np.arange(max(0, round((end - start) * rate))) / rate)
    samples = np.asarray(sound, dtype=np.float32)
    layout = "mono" if samples.ndim == 1 else "stereo"
    step = max(1, rate // 10)
    for first in range(0, len(samples), step):
        piece = samples[first : first + step].reshape(-1, 1 if layout == "mono" else 2)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece.T), format="fltp", layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), round(start * rate) + first
        yield frame


def _cue(stream: Any, word: Word) -> av.packet.Packet:
    import av

    text = word.text.encode()
    packet = av.Packet(len(text).to_bytes(2, "big") + text if stream.codec_context.name == "mov_text" else text)
    packet.stream, packet.time_base = stream, Fraction(1, 1000)
    packet.pts = packet.dts = round(word.start * 1000)
    packet.duration = round((word.end - word.start) * 1000)
    packet.is_keyframe = True
    return packet
