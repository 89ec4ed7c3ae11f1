"""What becomes of crops of faces in training: other boxes, tilt, light, blur, holes; and sequences that are made of stills."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

LENGTH = 20  # crops of a made sequence: 4 seconds at 5 per second


def augment(grey: Tensor, generator: torch.Generator, erase: float = 0.4) -> Tensor:
    """Box and margin jitter, tilt, mirror, light, blur, lower resolution and erased rectangles.

    Args:
        grey: (B, 1, 48, 48) float in [0, 1].
        generator: source of every random number.
        erase: share of crops that lose a rectangle.

    Returns:
        (B, 1, 48, 48) float in [0, 1].
    """
    count, _, height, width = grey.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator) * (high - low) + low

    zoom = torch.exp(uniform(math.log(0.80), math.log(1.22)))
    stretch = uniform(0.92, 1.08)
    angle = uniform(-0.30, 0.30) * uniform(0, 1)  # radians, most of them small
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    theta = torch.stack(
        [
            torch.stack([cosine * zoom * mirror, -sine * zoom * stretch, uniform(-0.12, 0.12)], 1),
            torch.stack([sine * zoom * mirror, cosine * zoom * stretch, uniform(-0.12, 0.12)], 1),
        ],
        1,
    )
    grid = functional.affine_grid(theta, [count, 1, height, width], align_corners=False)
    grey = functional.grid_sample(grey, grid, padding_mode="reflection", align_corners=False)

    poor = uniform(0, 1) < 0.2
    if poor.any():
        coarse = int(torch.randint(18, 40, (1,), generator=generator))
        small = functional.interpolate(grey[poor], size=coarse, mode="area")
        grey[poor] = functional.interpolate(small, size=(height, width), mode="bilinear", align_corners=False)
    soft = uniform(0, 1) < 0.15
    if soft.any():
        grey[soft] = functional.avg_pool2d(grey[soft], 3, 1, 1, count_include_pad=False)

    gamma = torch.exp(uniform(-0.5, 0.5, 1, 1, 1))
    grey = grey.clamp(1e-4, 1) ** gamma
    slope = torch.linspace(-1, 1, width) * uniform(-0.25, 0.25, 1, 1, 1)  # light from one side
    grey = grey * uniform(0.6, 1.4, 1, 1, 1) * (1 + slope) + uniform(-0.15, 0.15, 1, 1, 1)
    grey = grey + torch.randn(grey.shape, generator=generator) * uniform(0, 0.03, 1, 1, 1)

    rows, columns = torch.arange(height).view(1, height, 1), torch.arange(width).view(1, 1, width)
    tall, wide = uniform(0.15, 0.45, 1, 1) * height, uniform(0.15, 0.45, 1, 1) * width
    top, left = uniform(-0.1, 0.9, 1, 1) * height, uniform(-0.1, 0.9, 1, 1) * width
    hole = (rows >= top) & (rows < top + tall) & (columns >= left) & (columns < left + wide)
    hole &= uniform(0, 1, 1, 1) < erase
    return torch.where(hole[:, None], uniform(0, 1, 1, 1, 1), grey).clamp(0, 1)


def make_sequences(before: Tensor, after: Tensor, generator: torch.Generator) -> Tensor:
    """Cross-fades two pictures under a drifting camera.

    Args:
        before: (N, 48, 48) float in [0, 1].
        after: (N, 48, 48) float in [0, 1].
        generator: source of every random number.

    Returns:
        (N, LENGTH, 48, 48) float in [0, 1].
    """
    count = len(before)
    begin = torch.rand(count, 1, generator=generator) * 0.6 * LENGTH
    width = torch.rand(count, 1, generator=generator) * 0.4 * LENGTH + 1
    share = ((torch.arange(LENGTH) - begin) / width).clamp(0, 1)[:, :, None, None]
    frames = (1 - share) * before[:, None] + share * after[:, None]
    zoom = torch.exp(_drift(count, -0.15, 0.15, 0.015, generator))
    angle = _drift(count, -0.15, 0.15, 0.02, generator)
    mirror = torch.where(torch.rand(count, 1, generator=generator) < 0.5, -1.0, 1.0)
    right, down = (_drift(count, -0.06, 0.06, 0.015, generator) for _ in range(2))
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    theta = torch.stack([torch.stack([cosine * mirror, -sine, right], 2), torch.stack([sine * mirror, cosine, down], 2)], 2)
    grid = functional.affine_grid(theta.flatten(0, 1), [count * LENGTH, 1, 48, 48], align_corners=False)
    frames = functional.grid_sample(frames.flatten(0, 1)[:, None], grid, padding_mode="reflection", align_corners=False)
    gain = torch.exp(_drift(count, -0.3, 0.3, 0.03, generator)).flatten()[:, None, None]
    noise = torch.rand(count, 1, generator=generator).mul(0.03).expand(-1, LENGTH).flatten()[:, None, None]
    frames = frames[:, 0] * gain + torch.randn(frames[:, 0].shape, generator=generator) * noise
    return frames.clamp(0, 1).view(count, LENGTH, 48, 48)


def _drift(count: int, low: float, high: float, step: float, generator: torch.Generator) -> Tensor:
    """A slow random walk (count, LENGTH) that begins anywhere in [low, high]."""
    first = torch.rand(count, 1, generator=generator) * (high - low) + low
    moves = torch.randn(count, LENGTH, generator=generator) * step
    return first + moves.cumsum(1) - moves[:, :1]
