"""Log-mel features of sound, by librosa's definitions, computed with torch.

At 16 kHz: a Hann window of 400 samples (25 ms) every 160 samples (10 ms), so 100 frames per second; 80 mel bands
up to 8 kHz, as Whisper takes them; decibels of power with a floor of 1e-10 (-100 dB). A frame counts as sounding when it is within 35 dB of the loudest stretch
of the clip and above -75 dB.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

RATE = 16000  # samples per second
WINDOW = 400  # samples, 25 ms
HOP = 160  # samples, 10 ms: 100 frames per second
BANDS = 80
LOWEST, HIGHEST = 0.0, 8000.0  # Hz
FLOOR = 1e-10  # power; -100 dB
RANGE_DB, LEAST_DB = 35.0, -75.0  # a sounding frame: this close to the loudest stretch, and not below
STRETCH = 7  # frames, more than twice as many as a click is heard in
SHORTEST = 0.3  # seconds of sounding frames that make evidence


KNEE, STEP = 1000.0, 200.0 / 3.0  # Slaney's mel scale: 200/3 Hz per mel up to 1000 Hz,
GROWTH = np.log(6.4) / 27.0  # and from there 27 mel from 1000 to 6400 Hz, evenly in the logarithm


def to_mel(hertz: np.ndarray | float) -> np.ndarray:
    """Slaney's mel of frequencies in Hz, as ``librosa.hz_to_mel``."""
    hertz = np.asarray(hertz, float)
    return np.where(hertz < KNEE, hertz / STEP, KNEE / STEP + np.log(np.maximum(hertz, KNEE) / KNEE) / GROWTH)


def to_hertz(mel: np.ndarray | float) -> np.ndarray:
    """Inverse of :func:`to_mel`."""
    mel = np.asarray(mel, float)
    return np.where(mel < KNEE / STEP, mel * STEP, KNEE * np.exp(GROWTH * (mel - KNEE / STEP)))


@lru_cache(maxsize=4)
def mel_filters(rate: int = RATE, window: int = WINDOW, bands: int = BANDS, lowest: float = LOWEST, highest: float = HIGHEST) -> Tensor:
    """Triangular filters on Slaney's mel scale, each of unit area, as ``librosa.filters.mel``.

    Slaney, Auditory Toolbox, Interval Research technical report 1998-010. A filter rises from the centre of its lower neighbour to
    its own and falls to that of its upper one.

    Args:
        rate: samples per second.
        window: samples of a frame.
        bands: number of filters.
        lowest: lower end of the lowest filter in Hz.
        highest: upper end of the highest filter in Hz.

    Returns:
        (bands, window // 2 + 1) float32.
    """
    corners = to_hertz(np.linspace(to_mel(lowest), to_mel(highest), bands + 2))
    low, centre, high = (corners[i : bands + i, None] for i in range(3))
    lines = np.arange(window // 2 + 1) * rate / window  # Hz of each line of the spectrum
    shape = np.minimum((lines - low) / (centre - low), (high - lines) / (high - centre)).clip(0.0)
    return torch.from_numpy((shape * 2.0 / (high - low)).astype(np.float32))


def mel_power(samples: Tensor) -> Tensor:
    """Mel power of a sound, as ``librosa.feature.melspectrogram(power=2, center=True, pad_mode="constant")``.

    Args:
        samples: (N,) or (B, N) float32 in [-1, 1] at 16 kHz.

    Returns:
        (T, 80) or (B, T, 80) float32, T = 1 + N // 160.
    """
    window = torch.hann_window(WINDOW, device=samples.device)
    spectrum = torch.stft(samples, WINDOW, HOP, window=window, center=True, pad_mode="constant", return_complex=True)
    power = spectrum.real.square() + spectrum.imag.square()
    return (mel_filters().to(samples.device) @ power).transpose(-1, -2)


def decibels(power: Tensor) -> Tensor:
    """10 log10 of power (..., 80) with the floor at -100 dB."""
    return 10.0 * power.clamp_min(FLOOR).log10()


def loudest(levels: Tensor) -> Tensor:
    """The level, in dB, that the loudest band of mel levels (T, 80) keeps for most of 70 ms: a click is none."""
    loudness = levels.amax(1)
    least = min(STRETCH, len(loudness))
    return loudness.unfold(0, least, 1).median(1).values.max()


def sounding(levels: Tensor) -> Tensor:
    """Which frames hold sound: (T,) bool of mel levels (T, 80) in dB."""
    loudness = levels.amax(1)
    return (loudness >= loudest(levels) - RANGE_DB) & (loudness >= LEAST_DB)
