"""What `robustness.py` does to pictures, sound and words before they are read."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import av
import cv2
import numpy as np
from av.audio.resampler import AudioResampler

RATE = 16000  # samples per second of the corpora
Picture = Callable[[np.ndarray], np.ndarray]
Recording = tuple[np.ndarray, int]  # samples (N,) or (N, channels) in [-1, 1], and samples per second
Speech = Callable[[np.ndarray], Recording]


def smaller(side: int) -> Picture:
    """A face of ``side`` pixels, enlarged again."""

    def change(picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        return cv2.resize(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), (width, height), interpolation=cv2.INTER_LINEAR)

    return change


def lit(gain: float, offset: float) -> Picture:
    """Another exposure: what leaves [0, 255] is lost."""
    return lambda picture: np.round(picture.astype(np.float32) * gain + offset).clip(0, 255).astype(np.uint8)


def tilted(degrees: float) -> Picture:
    """Turned about its middle; the border goes on outwards."""

    def change(picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        turn = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), degrees, 1.0)
        return cv2.warpAffine(picture, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    return change


def grey(picture: np.ndarray) -> np.ndarray:
    """Without colour."""
    return cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def blurred(spread: float) -> Picture:
    """Out of focus; ``spread`` is the standard deviation in pixels."""
    return lambda picture: cv2.GaussianBlur(picture, (0, 0), spread)


def jpeg(quality: int) -> Picture:
    """Compressed."""

    def change(picture: np.ndarray) -> np.ndarray:
        return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)

    return change


def covered(part: str, box: tuple[float, float, float, float] = (0, 0, 1, 1)) -> Picture:
    """The ``lower`` or ``left`` half of a box in one grey; the box is x0, y0, x1, y1 as shares of the picture."""

    def change(picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        x0, x1 = (round(value * width) for value in box[::2])
        y0, y1 = (round(value * height) for value in box[1::2])
        hidden = picture.copy()
        if part == "lower":
            hidden[max((y0 + y1) // 2, 0) : y1, max(x0, 0) : x1] = 128
        else:
            hidden[max(y0, 0) : y1, max(x0, 0) : (x0 + x1) // 2] = 128
        return hidden

    return change


def resampled(samples: np.ndarray, before: int, after: int) -> np.ndarray:
    """Samples (N,) at another rate, by FFmpeg."""
    resampler = AudioResampler(format="flt", layout="mono", rate=after)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None], dtype=np.float32), format="flt", layout="mono")
    frame.sample_rate = before
    pieces = [piece.to_ndarray()[0] for given in (frame, None) for piece in resampler.resample(given)]
    return np.concatenate(pieces)


def recorded_at(rate: int) -> Speech:
    """Recorded at another rate."""
    return lambda samples: (resampled(samples, RATE, rate), rate)


def one_channel(samples: np.ndarray) -> Recording:
    """Stereo with the voice on the left and next to nothing on the right."""
    return np.stack([samples, np.full_like(samples, 1e-4)], 1), RATE


def clipped(share: float) -> Speech:
    """Overdriven so far that ``share`` of the sounding samples are cut off."""

    def change(samples: np.ndarray) -> Recording:
        loud = np.abs(samples)[np.abs(samples) > 0.01 * np.abs(samples).max()]
        return np.clip(samples / max(float(np.quantile(loud, 1 - share)), 1e-6), -1, 1), RATE

    return change


def piece(seconds: float) -> Speech:
    """Only the loudest stretch of that length."""

    def change(samples: np.ndarray) -> Recording:
        length = int(seconds * RATE)
        energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
        if len(samples) <= length:
            return samples, RATE
        start = int(np.argmax(energy[length:] - energy[:-length]))
        return samples[start : start + length], RATE

    return change


def surrounded(seconds: float) -> Speech:
    """Silence of so many seconds before and behind it."""
    silence = np.zeros(int(seconds * RATE), np.float32)
    return lambda samples: (np.concatenate([silence, samples, silence]), RATE)


def paused(seconds: float) -> Speech:
    """Silence of so many seconds in its middle."""
    silence = np.zeros(int(seconds * RATE), np.float32)
    return lambda samples: (np.concatenate([samples[: len(samples) // 2], silence, samples[len(samples) // 2 :]]), RATE)


def clicked(samples: np.ndarray) -> Recording:
    """A quarter of a second before a voice that is quiet (0.05 at most), a click as loud as can be, of 2.5 ms."""
    click = np.zeros(RATE // 2, np.float32)
    click[RATE // 4 : RATE // 4 + 40] = np.repeat([0.95, -0.95], 20)
    return np.concatenate([click, samples / max(float(np.abs(samples).max()), 1e-6) * 0.05]).astype(np.float32), RATE


def noisy(decibels: float) -> Speech:
    """White noise that many decibels below the speech, by the power of its sounding samples."""

    def change(samples: np.ndarray) -> Recording:
        random = np.random.default_rng(len(samples))
        loud = samples[np.abs(samples) > 0.05 * np.abs(samples).max()]
        noise = random.normal(0, np.sqrt(np.mean(loud.astype(np.float64) ** 2)) * 10 ** (-decibels / 20), len(samples))
        mixed = samples + noise
        return (mixed / max(1.0, float(np.abs(mixed).max()))).astype(np.float32), RATE

    return change


def telephone(samples: np.ndarray) -> Recording:
    """300 to 3400 Hz, at 8 kHz."""
    lines = np.fft.rfft(samples)
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    band = np.fft.irfft(lines * ((hertz >= 300) & (hertz <= 3400)), len(samples)).astype(np.float32)
    return resampled(band, RATE, 8000), 8000


def silent(samples: np.ndarray) -> Recording:
    """As long, and nothing in it."""
    return np.zeros_like(samples), RATE


def mistyped(text: str) -> str:
    """Two neighbouring letters changed places in every third word of at least four letters."""
    random = np.random.default_rng(zlib.crc32(text.encode()))
    words = text.split(" ")
    longer = [place for place, word in enumerate(words) if len(word) >= 4]
    for place in longer[::3]:
        word, at = words[place], int(random.integers(1, len(words[place]) - 2))
        words[place] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


def repeated(text: str, words: int = 2000) -> str:
    """The same text over and over, up to a number of words."""
    return " ".join((text.split() * (words // max(len(text.split()), 1) + 1))[:words])


def first_sentence(text: str) -> str:
    """What stands before the first full stop."""
    return text.split(". ")[0]
