"""What becomes of sounds in training: other speed, silence cut away, microphones, rooms, noise, levels, missing bands, clipping; and much noise, a telephone, a
word or two alone."""

from __future__ import annotations

import numpy as np

RATE = 16000  # samples per second
SPEEDS = (1.0, 0.84, 0.92, 1.09, 1.19)  # lengths of the first versions: pitch, formants and tempo change together
DISTURBED = 3
TELEPHONE = 300.0, 3400.0  # Hz
WAYS = ("noise", "telephone", "short")  # in which the last versions are poor
VERSIONS = len(SPEEDS) + DISTURBED + len(WAYS)
ECHO = RATE // 2  # samples of a room


def version(samples: np.ndarray, number: int, row: int) -> np.ndarray:
    """One of the versions of a sound: as it is, at four other speeds, disturbed three times, or poor in one of three ways.

    Args:
        samples: (N,) float32 at 16 kHz.
        number: which one, from 0.
        row: of the sound in its corpus; with the number it is the seed.

    Returns:
        (N',) float32.
    """
    if number < len(SPEEDS):
        return _stretch(samples, SPEEDS[number])
    number -= len(SPEEDS)
    random = np.random.default_rng([number, row])
    return disturb(samples, random) if number < DISTURBED else impair(samples, WAYS[number - DISTURBED], random)


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
        samples = _in_noise(samples, random.uniform(12, 50), random)
    if random.random() < 0.1:
        samples = np.clip(samples * 3, -1, 1)
    return samples.astype(np.float32)


def impair(samples: np.ndarray, way: str, random: np.random.Generator) -> np.ndarray:
    """A sound at another speed, in noise that is nearly or quite as loud, over a telephone, or half a second to a second and a half of it."""
    samples = _stretch(samples, round(100 * float(np.exp(random.uniform(-0.18, 0.18)))) / 100)
    if way == "noise":
        return _in_noise(samples, random.uniform(0, 14), random).astype(np.float32)
    if way == "telephone":
        spectrum = np.fft.rfft(samples)
        hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
        inside = (hertz > TELEPHONE[0] * random.uniform(0.8, 1.2)) & (hertz < TELEPHONE[1] * random.uniform(0.8, 1.2))
        return _in_noise(np.fft.irfft(spectrum * inside, len(samples)), random.uniform(15, 50), random).astype(np.float32)
    heard = np.flatnonzero(np.abs(samples) > np.abs(samples).max() * 0.1)
    length = int(random.uniform(0.4, 1.5) * RATE)
    first = int(random.uniform(heard[0], max(heard[-1] - length, heard[0] + 1)))
    return samples[first : first + length]


def _in_noise(samples: np.ndarray, below: float, random: np.random.Generator) -> np.ndarray:
    """A sound with noise, white to red, so many dB below its loud half."""
    count = len(samples)
    white = np.fft.rfft(random.normal(size=count))
    noise = np.fft.irfft(white * np.linspace(1, 0.02, len(white)) ** random.uniform(0, 1.5), count)
    loud = np.sqrt(np.mean(np.sort(samples**2)[count // 2 :]))
    found: np.ndarray = samples + noise / noise.std() * loud * 10 ** (-below / 20)
    return found


def _stretch(samples: np.ndarray, length: float) -> np.ndarray:
    from scipy.signal import resample_poly

    if length == 1.0:
        return samples.copy()
    found: np.ndarray = resample_poly(samples, round(length * 100), 100)
    return found.astype(np.float32)
