"""Weights in a byte each: whole numbers from -127 to 127 with a scale per row."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = ".scale"


def pack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as whole numbers and their scales, the rest in half precision.

    Args:
        tensors: state of a network. Those of at least two dimensions whose names end with ``weight`` are packed; the first dimension is that of rows.

    Returns:
        The same names; beside a packed weight (R, ...) int8 stands ``<name>.scale`` (R,) float32.
    """
    found = {}
    for name, value in tensors.items():
        if value.ndim < 2 or not name.endswith("weight"):
            found[name] = value.half() if value.is_floating_point() else value
            continue
        scale = value.float().flatten(1).abs().amax(1).clamp_min(1e-12) / 127
        found[name] = (value.float() / _beside(scale, value)).round().to(torch.int8)
        found[name + SCALE] = scale
    return found


def unpack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a network, from what :func:`pack` made of it; other tensors stay as they are."""
    scales = {name.removesuffix(SCALE) for name in tensors if name.endswith(SCALE)}
    return {
        name: value.float() * _beside(tensors[name + SCALE], value) if name in scales else value
        for name, value in tensors.items()
        if name.removesuffix(SCALE) not in scales or name in scales
    }


def _beside(scale: Tensor, value: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (value.ndim - 1))
