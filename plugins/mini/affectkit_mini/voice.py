"""What a voice does, in 310 numbers and as a course: pitch, harmonicity, timing, energy, spectrum and modulation, computed with torch.

Frames are those of :mod:`affectkit_mini.sound`, 100 per second; T is their number. Pitch is the autocorrelation of a windowed frame over that of
its window (Boersma 1993, "Accurate short-term analysis of the fundamental frequency"), chosen in two passes: the second one prefers what is near
the median of the first. Silence before and after the voice is cut off, and what depends on the recording's own level is left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from affectkit_mini.sound import BANDS, HOP, RATE, decibels, mel_power, sounding

NUMBERS = 310
ROWS = BANDS + 2  # of a course: mel levels, pitch, its strength
FRAME, LINES = 800, 2048  # samples of a frame for pitch (50 ms), and of its transform
LOWEST_PITCH, HIGHEST_PITCH = 65.0, 550.0  # Hz
PITCH_FROM = 55.0  # Hz; pitch is in semitones above it
HIGHER, NEARER = 0.01 / 12, 0.012  # strength per semitone that a higher pitch, and one near the median, is preferred by
VOICED, VOICED_DB = 0.5, 30.0  # a voiced frame: of this strength, and this close to the loudest one
LEAST_FRAMES, LEAST_VOICED = 12, 4
FRAMES_PER_SECOND = RATE / HOP
PARTS = ((0.3, 2.0), (2.0, 4.0), (4.0, 8.0), (8.0, 16.0))  # Hz of modulation


def describe(samples: Tensor, power: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The numbers and the course of a sound.

    Args:
        samples: (N,) float32 in [-1, 1] at 16 kHz, with at least one sounding frame.
        power: (T, 64) the mel power of the samples without their mean, where it is known.

    Returns:
        The numbers (310,) float32, and the course (T', 66) float32 from the first sounding frame to the last, 50 frames per second: mel levels in dB,
        pitch in semitones above 55 Hz, and its strength in [0, 1].
    """
    samples = samples - samples.mean()
    if power is None:
        power = mel_power(samples)
    voice = _voice(power, *pitch(samples))
    numbers = torch.cat([_pitch_numbers(voice), _voicing_numbers(voice), _energy_numbers(voice), _spectrum_numbers(voice)])
    rows = torch.cat([voice.levels, voice.pitch[:, None], voice.strength[:, None]], 1)
    return numbers, rows[: len(rows) // 2 * 2].unflatten(0, (-1, 2)).mean(1)


def pitch(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Pitch (T,) in semitones above 55 Hz, smoothed by a median of five frames, and its strength (T,) in [0, 1], of samples (N,)."""
    count = 1 + len(samples) // HOP
    frames = functional.pad(samples, (FRAME // 2, FRAME // 2 + HOP)).unfold(0, FRAME, HOP)[:count]
    window = torch.hann_window(FRAME)
    frames = (frames - frames.mean(1, keepdim=True)) * window
    own = torch.fft.irfft(torch.fft.rfft(frames, LINES).abs().square(), LINES)[:, : FRAME // 2]
    of_window = torch.fft.irfft(torch.fft.rfft(window, LINES).abs().square(), LINES)[: FRAME // 2]
    shares = own / own[:, :1].clamp_min(1e-8) / (of_window / of_window[0])
    low, high = int(RATE / HIGHEST_PITCH), int(RATE / LOWEST_PITCH)
    lags = torch.arange(low, high + 1)
    shares = shares[:, low - 1 : high + 2]  # with a neighbour on both sides
    inner = shares[:, 1:-1]
    peaks = torch.where((inner >= shares[:, :-2]) & (inner >= shares[:, 2:]), inner, -1.0)
    heights = 12 * torch.log2(RATE / lags.float() / PITCH_FROM)
    first = peaks + HIGHER * heights
    best, place = first.max(1)
    loud = frames.square().mean(1)
    sure = (best > 0.6) & (loud > loud.max() * 1e-3)
    middle = (heights[place[sure]] if sure.sum() > 5 else heights[place]).median()
    place = (first - NEARER * (heights - middle).abs()).argmax(1)
    strength = peaks.gather(1, place[:, None])[:, 0].clamp(0, 1)
    before, at, after = (shares.gather(1, (place + 1 + step)[:, None])[:, 0] for step in (-1, 0, 1))
    bend = before - 2 * at + after  # of the parabola through the peak and its neighbours
    offset = (0.5 * (before - after) / torch.where(bend.abs() > 1e-6, bend, 1.0)).clamp(-0.5, 0.5)
    found = 12 * torch.log2(RATE / (lags[place].float() + offset) / PITCH_FROM)
    smooth = functional.pad(found[None], (2, 2), mode="replicate")[0].unfold(0, 5, 1).median(1).values
    return smooth, strength


@dataclass(frozen=True)
class _Voice:
    """The frames from the first sounding one to the last.

    Attributes:
        levels: (T, 64) mel levels in dB.
        pitch: (T,) semitones.
        strength: (T,) of the pitch.
        energy: (T,) level over all bands in dB.
        voiced: (T,) bool.
        active: (T,) bool, sounding frames.
        floor: level of the recording's quietest frames in dB.
    """

    levels: Tensor
    pitch: Tensor
    strength: Tensor
    energy: Tensor
    voiced: Tensor
    active: Tensor
    floor: Tensor

    @property
    def frames(self) -> int:
        return len(self.levels)

    @property
    def seconds(self) -> float:
        return self.frames / FRAMES_PER_SECOND


def _voice(power: Tensor, tones: Tensor, strength: Tensor) -> _Voice:
    levels, energy = decibels(power), 10 * power.sum(1).clamp_min(1e-9).log10()
    active = sounding(levels)
    floor = torch.quantile(energy, 0.05)
    places = torch.nonzero(active)[:, 0]
    some = slice(int(places[0]), int(places[-1]) + 1)
    parts = [values[some] for values in (levels, tones, strength, energy, active)]
    if len(parts[0]) < LEAST_FRAMES:
        times = math.ceil(LEAST_FRAMES / len(parts[0]))
        parts = [values.repeat(times, *([1] * (values.dim() - 1))) for values in parts]
    levels, tones, strength, energy, active = parts
    voiced = (strength > VOICED) & (energy > energy.max() - VOICED_DB)
    if voiced.sum() < LEAST_VOICED:
        voiced = strength >= strength.topk(LEAST_VOICED).values[-1]
    return _Voice(levels, tones, strength, energy, voiced, active, floor)


def _pitch_numbers(voice: _Voice) -> Tensor:
    """(29,): level and spread, trend, steps from frame to frame, the course over the voice."""
    voiced, tones = voice.voiced, voice.pitch[voice.voiced]
    at = torch.quantile(tones, torch.tensor([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95]))
    skew = (tones - tones.mean()).pow(3).mean() / tones.std().clamp_min(0.1).pow(3)
    places = torch.linspace(-1, 1, voice.frames)[voiced]
    steps = (voice.pitch[1:] - voice.pitch[:-1])[voiced[1:] & voiced[:-1]]
    steps = steps if len(steps) > 3 else torch.zeros(4)
    course = _between(voice.frames, torch.nonzero(voiced)[:, 0], tones)
    end = max(voice.frames // 6, 3)
    return torch.cat(
        [
            at,
            _row(tones.mean(), tones.std(), at[5] - at[1], at[4] - at[2], skew),
            _row(_slope(places, tones), _slope(places * voice.seconds / 2, tones)),
            _row(steps.abs().mean(), steps.clamp(-3, 3).std(), steps.clamp(0, 2).mean(), steps.clamp(-2, 0).mean()),
            _row((steps[1:] - steps[:-1]).abs().clamp(max=2).mean(), (steps > 0).float().mean()),
            _shape(course),
            _row(course[-end:].mean() - course.mean(), course[:end].mean() - course.mean(), int(course.argmax()) / voice.frames),
        ]
    )


def _voicing_numbers(voice: _Voice) -> Tensor:
    """(15,): harmonicity, voiced runs, pauses."""
    strength = voice.strength[voice.voiced]
    share = strength.clamp(0.01, 0.99)
    harmonic = (share / (1 - share)).log()
    runs, pauses = _runs(voice.voiced), _runs(~voice.active)
    still = pauses if len(pauses) else torch.zeros(1)
    return torch.cat(
        [
            _row(voice.voiced.float().mean(), strength.mean(), strength.std(), harmonic.mean()),
            torch.quantile(harmonic, torch.tensor([0.1, 0.9])),
            _row(len(runs) / voice.seconds, runs.mean(), runs.max(), runs.std() if len(runs) > 1 else 0.0),
            _row(math.log(voice.seconds), voice.active.float().mean(), len(pauses) / voice.seconds, still.max(), still.mean()),
        ]
    )


def _energy_numbers(voice: _Voice) -> Tensor:
    """(21,): syllables, spread, steps, the course over the voice, and how it goes with pitch."""
    energy, inner = voice.energy, voice.voiced[1:-1]
    smooth = functional.avg_pool1d(functional.pad(energy[None, None], (3, 3), mode="replicate"), 7, 1)[0, 0]
    peaks = (smooth[1:-1] > smooth[:-2]) & (smooth[1:-1] >= smooth[2:]) & (smooth[1:-1] > smooth.max() - 20)
    top = torch.quantile(energy, 0.95)
    heard = energy[voice.active] if voice.active.sum() > 3 else energy
    steps = smooth[1:] - smooth[:-1]
    bends = (energy[2:] - 2 * energy[1:-1] + energy[:-2])[inner].abs()
    return torch.cat(
        [
            _row(int(peaks.sum()) / voice.seconds),
            torch.quantile(energy, torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])) - top,
            _row(heard.std(), _slope(torch.linspace(-1, 1, voice.frames), energy), (energy[1:] - energy[:-1]).abs().mean()),
            _row(steps.clamp_min(0).max(), steps.clamp_max(0).min(), bends.mean() if len(bends) else 0.0, top - voice.floor),
            _shape(smooth),
            _row(int(smooth.argmax()) / voice.frames, _correlation(voice.pitch[voice.voiced], energy[voice.voiced])),
        ]
    )


def _spectrum_numbers(voice: _Voice) -> Tensor:
    """(245,): shape of the spectrum, cepstrum and bands, in voiced and other frames, and modulation."""
    levels, voiced = voice.levels, voice.voiced
    unvoiced = voice.active & ~voiced
    shapes = _spectral_shapes(levels)
    cepstrum = levels @ _cosines(BANDS, 15).T
    change = (cepstrum[2:] - cepstrum[:-2])[voiced[1:-1]] / 2
    bands = levels.view(-1, 16, 4).mean(2)
    bands = (bands - bands.mean(1, keepdim=True))[voiced]
    energy = voice.energy[voiced]
    loudest = energy >= torch.quantile(energy, 0.75)
    return torch.cat(
        [
            _spread(shapes[voiced], ends=True),
            _spread(shapes[unvoiced]),
            _spread(cepstrum[voiced][:, 1:], ends=True),
            _spread(cepstrum[unvoiced][:, 1:]),
            _spread(change),
            _row(*(_correlation(energy, shapes[voiced][:, column]) for column in (1, 2, 5))),
            _spread(bands),
            bands[loudest].mean(0),
            _modulation(levels),
        ]
    )


def _spectral_shapes(levels: Tensor) -> Tensor:
    """(T, 8) of levels (T, 64) in dB: middle and high over low bands, centre, width, slope of low and of middle bands, change, and the
    loudest low over the loudest high band (the Hammarberg index, below and above 2 kHz or so)."""
    bands = torch.arange(BANDS).float()
    power = 10 ** (levels / 10)
    low, middle, high = (10 * power[:, part].sum(1).log10() for part in (slice(22), slice(22, 44), slice(44, None)))
    centre = (power * bands).sum(1) / power.sum(1)
    width = ((power * (bands - centre[:, None]).square()).sum(1) / power.sum(1)).sqrt()
    slopes = []
    for part in (slice(12), slice(12, 40)):
        place, some = bands[part] - bands[part].mean(), levels[:, part]
        slopes.append((place * (some - some.mean(1, keepdim=True))).sum(1) / place.square().sum())
    change = torch.cat([torch.zeros(1), (levels[1:] - levels[:-1]).clamp(-20, 20).square().mean(1).sqrt()])
    index = levels[:, :34].amax(1) - levels[:, 34:52].amax(1)
    return torch.stack([middle - low, high - low, centre, width, *slopes, change, index], 1)


def _modulation(levels: Tensor) -> Tensor:
    """(32,): log power of the slow changes of eight bands, in four ranges of Hz."""
    bands = torch.clamp(levels.view(-1, 8, 8).mean(2) - levels.max(), min=-60)
    bands = (bands - bands.mean(0)) * torch.hann_window(len(levels))[:, None]
    power = torch.fft.rfft(bands, 512, dim=0).abs().square() / len(levels)
    hertz = torch.arange(257) * FRAMES_PER_SECOND / 512
    return torch.cat([power[(hertz >= low) & (hertz < high)].sum(0).add(1e-3).log() for low, high in PARTS])


def _row(*numbers: Tensor | float) -> Tensor:
    return torch.stack([torch.as_tensor(number, dtype=torch.float32) for number in numbers])


def _spread(values: Tensor, ends: bool = False) -> Tensor:
    """Mean and deviation of each column of (n, D), and its lower and upper tenth with ``ends``; zeros where there are no two rows."""
    if len(values) < 2:
        return torch.zeros(values.shape[1] * (4 if ends else 2))
    outer = torch.quantile(values, torch.tensor([0.1, 0.9]), dim=0).flatten() if ends else torch.zeros(0)
    return torch.cat([values.mean(0), values.std(0), outer])


def _slope(places: Tensor, values: Tensor) -> Tensor:
    places = places - places.mean()
    return (places * (values - values.mean())).sum() / places.square().sum().clamp_min(1e-3)


def _correlation(some: Tensor, others: Tensor) -> Tensor:
    some, others = some - some.mean(), others - others.mean()
    return (some * others).sum() / (some.square().sum() * others.square().sum()).sqrt().clamp_min(1e-6)


def _runs(mask: Tensor) -> Tensor:
    """Lengths of the runs of True in (T,) bool, in frames."""
    edges = functional.pad(mask.float(), (1, 1)).diff()
    return (torch.nonzero(edges < 0)[:, 0] - torch.nonzero(edges > 0)[:, 0]).float()


def _shape(course: Tensor) -> Tensor:
    """(6,): the slow parts of a course (T,), whatever its length and mean."""
    short = functional.interpolate(course[None, None], size=24, mode="linear", align_corners=True)[0, 0]
    return _cosines(24, 7)[1:] @ (short - short.mean())


def _cosines(length: int, count: int) -> Tensor:
    """The first ``count`` rows of the orthonormal discrete cosine transform of type II."""
    angles = math.pi / length * (torch.arange(length) + 0.5) * torch.arange(count)[:, None]
    rows = torch.cos(angles) * math.sqrt(2 / length)
    rows[0] *= math.sqrt(0.5)
    return rows


def _between(length: int, places: Tensor, values: Tensor) -> Tensor:
    """(length,) values on the straight lines between known places, as ``numpy.interp``."""
    right = torch.searchsorted(places, torch.arange(length)).clamp(1, len(places) - 1)
    left = right - 1
    share = ((torch.arange(length) - places[left]) / (places[right] - places[left])).clamp(0, 1)
    return values[left] + share * (values[right] - values[left])
