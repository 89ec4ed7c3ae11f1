"""What becomes of sounds in training: other speed, pitch, noise, microphones, missing bands."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from affectkit_mini.sound import decibels, normalise, sounding


def augment(power: Tensor, random: np.random.Generator, seconds: tuple[float, float] = (1.5, 4.0)) -> Tensor:
    """A piece of a clip with other speed, pitch, noise, room tone and missing bands.

    Args:
        power: (T, 64) mel power.
        random: source of every random number.
        seconds: shortest and longest piece.

    Returns:
        Normalised decibels (T', 64).
    """
    speed, pitch = math.exp(random.uniform(-0.15, 0.15)), math.exp(random.uniform(-0.10, 0.10))
    length = max(int(len(power) / speed), 30)
    rows = torch.linspace(-1, 1, length)
    columns = torch.linspace(-1, 1, 64).add(1).mul(pitch).sub(1).clamp(-1, 1)
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], 2)[None]
    levels = functional.grid_sample(decibels(power)[None, None], grid, padding_mode="border", align_corners=True)[0, 0]
    wanted = int(100 * random.uniform(*seconds))
    if len(levels) > wanted:
        active = torch.nonzero(sounding(levels))[:, 0]
        centre = int(active[random.integers(len(active))])
        start = int(np.clip(centre - random.integers(wanted), 0, len(levels) - wanted))
        levels = levels[start : start + wanted]
    if random.random() < 0.5:  # noise of a random colour below the voice
        tilt = torch.linspace(0, random.uniform(-30, 5), 64)
        loud = levels.amax(1).max() - random.uniform(20, 55)
        grain = torch.from_numpy(random.exponential(1.0, tuple(levels.shape))).float().clamp_min(1e-3)
        noise = 10 ** ((loud + tilt) / 10) * grain
        levels = decibels(10 ** (levels / 10) + noise)
    if random.random() < 0.5:  # a microphone's colour
        knots = torch.from_numpy(random.normal(0, 4, 6)).float()
        levels = levels + functional.interpolate(knots[None, None], size=64, mode="linear", align_corners=True)[0]
    if random.random() < 0.15:  # a telephone's band
        levels = levels.clone()
        levels[:, 44 + int(random.integers(10)) :] = -100.0
    mel = normalise(levels, sounding(levels))
    for _ in range(2):
        width, first = int(random.integers(0, 10)), int(random.integers(0, 64))
        mel[:, first : first + width] = 0
        span, begin = int(random.integers(0, max(len(mel) // 8, 1))), int(random.integers(0, len(mel)))
        mel[begin : begin + span] = 0
    return mel


def pad(pieces: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Batch (B, T, 64) and mask (B, T) of pieces of different lengths."""
    batch = torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True)
    lengths = torch.tensor([len(piece) for piece in pieces])
    return batch, torch.arange(batch.shape[1]) < lengths[:, None]
