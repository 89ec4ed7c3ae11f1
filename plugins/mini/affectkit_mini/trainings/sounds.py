"""What becomes of sounds in training: other speed, silence cut away, microphones, rooms, noise, levels, missing bands, clipping; and of their courses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

RATE = 16000  # samples per second
SPEEDS = (1.0, 0.84, 0.92, 1.09, 1.19)  # lengths of the first versions: pitch, formants and tempo change together
VERSIONS = len(SPEEDS) + 3
ECHO = RATE // 2  # samples of a room


def version(samples: np.ndarray, number: int, row: int) -> np.ndarray:
    """One of the versions of a sound: as it is, at four other speeds, or disturbed in three ways.

    Args:
        samples: (N,) float32 at 16 kHz.
        number: which one, from 0.
        row: of the sound in its corpus; with the number it is the seed.

    Returns:
        (N',) float32.
    """
    if number < len(SPEEDS):
        return _stretch(samples, SPEEDS[number])
    return disturb(samples, np.random.default_rng([number - len(SPEEDS), row]))


def disturb(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A sound at another speed, cut closely, through another microphone in another room, at another level, in noise, over a telephone, clipped: each perhaps."""
    samples = _stretch(samples, round(100 * float(np.exp(random.uniform(-0.18, 0.18)))) / 100)
    if random.random() < 0.6:
        heard = np.flatnonzero(np.abs(samples) > np.abs(samples).max() * 0.03)
        margin = int(random.uniform(0.0, 0.3) * RATE)
        samples = samples[max(heard[0] - margin, 0) : heard[-1] + margin]
    count = len(samples)
    spectrum = np.fft.rfft(samples, 1 << int(np.ceil(np.log2(count + ECHO))))
    hertz = np.linspace(0, 1, len(spectrum))  # as a share of 8 kHz
    colour = np.interp(hertz**0.5, np.linspace(0, 1, 8), random.normal(0, 3.5, 8)) + random.uniform(-6, 6) * hertz
    if random.random() < 0.15:
        colour = colour - 60 * (hertz > random.uniform(0.43, 0.6))
    spectrum = spectrum * 10 ** (colour / 20)
    if random.random() < 0.4:
        fading = random.uniform(0.1, 0.6)  # seconds until an echo is 60 dB lower
        echo = random.normal(size=ECHO) * np.exp(-6.9 * np.arange(ECHO) / RATE / fading) * random.uniform(0.02, 0.12)
        echo[0] = 1
        spectrum = spectrum * np.fft.rfft(echo, (len(spectrum) - 1) * 2)
    samples = np.fft.irfft(spectrum)[:count]
    samples = samples / np.abs(samples).max() * random.uniform(0.05, 0.9)
    if random.random() < 0.7:
        white = np.fft.rfft(random.normal(size=count))
        noise = np.fft.irfft(white * np.linspace(1, 0.02, len(white)) ** random.uniform(0, 1.5), count)
        loud = np.sqrt(np.mean(np.sort(samples**2)[count // 2 :]))
        samples = samples + noise / noise.std() * loud * 10 ** (-random.uniform(12, 50) / 20)
    if random.random() < 0.1:
        samples = np.clip(samples * 3, -1, 1)
    return samples.astype(np.float32)


def _stretch(samples: np.ndarray, length: float) -> np.ndarray:
    from scipy.signal import resample_poly

    if length == 1.0:
        return samples.copy()
    found: np.ndarray = resample_poly(samples, round(length * 100), 100)
    return found.astype(np.float32)


def vary(courses: Tensor, lengths: Tensor, length: int, random: np.random.Generator) -> Tensor:
    """Courses at other speeds, begun somewhere and looped, of other throats, through other microphones, in noise.

    Args:
        courses: (B, T, 66) float32, as ``voice.describe`` gives them, with anything after their ends.
        lengths: (B,) int64 frames that each has.
        length: frames that are wanted.
        random: what is random.

    Returns:
        (B, length, 66) float32.
    """
    import torch
    from torch.nn.functional import interpolate

    from affectkit_mini.sound import BANDS, HIGHEST, LOWEST, to_hertz, to_mel

    def drawn(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(values, np.float32))

    count, frames = len(courses), lengths[:, None]
    speed, begin = (
        drawn(np.exp(random.uniform(-0.22, 0.22, (count, 1)))),
        drawn(random.random((count, 1)) * (random.random((count, 1)) < 0.6)),
    )
    places = (begin * frames + torch.arange(length) * speed) % frames
    before = torch.minimum(places.long(), frames - 1)
    after, share = torch.minimum(before + 1, frames - 1), (places - before).clamp(0, 1)[..., None]
    row = torch.arange(count)[:, None]
    found = courses[row, before] * (1 - share) + courses[row, after] * share
    levels, higher = found[..., :BANDS], np.exp(random.uniform(-0.14, 0.14, count))
    low, high = to_mel(LOWEST), to_mel(HIGHEST)
    middles = to_hertz(np.linspace(low, high, BANDS + 2)[1:-1])
    band = drawn((to_mel(middles / higher[:, None]) - low) / (high - low) * (BANDS + 1) - 1).clamp(
        0, BANDS - 1
    )  # where it was before all became higher
    lower = band.long().clamp(max=BANDS - 2)
    share, lower = (band - lower)[:, None], lower[:, None].expand(-1, length, -1)
    levels = levels.gather(2, lower) * (1 - share) + levels.gather(2, lower + 1) * share
    colour = drawn(random.normal(0, 1, (count, 1, 8)) * random.uniform(0, 5, (count, 1, 1)))
    slope = drawn(random.uniform(-8, 8, (count, 1, 1))) * torch.linspace(-0.5, 0.5, BANDS)
    levels = levels + interpolate(colour, size=BANDS, mode="linear", align_corners=True) + slope
    below = drawn(random.uniform(15, 70, (count, 1, 1))) + drawn(random.uniform(0, 20, (count, 1, 1))) * torch.linspace(0, 1, BANDS)
    noise = levels.amax((1, 2), keepdim=True) - below + 2 * torch.from_numpy(random.standard_normal(levels.shape, np.float32))
    bel = math.log(10) / 10
    levels = torch.logaddexp(levels * bel, noise * bel) / bel
    pitch = found[..., BANDS : BANDS + 1] + 12 * drawn(np.log2(higher))[:, None, None]
    return torch.cat([levels, pitch, found[..., BANDS + 1 :]], 2)
