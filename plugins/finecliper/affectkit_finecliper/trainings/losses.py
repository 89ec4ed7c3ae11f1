"""What FineCLIPER learns by: the class, each class for itself against its negative text, and descriptions of clips. Reconstructed; B clips, C classes, D size of a point."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from affectkit_finecliper.model import cosines


def shares(truth: Tensor, classes: int) -> Tensor:
    """Labels as distributions (B, C) float32: of (B,) int64 columns, or of what is a distribution already."""
    return truth.float() if truth.is_floating_point() else functional.one_hot(truth, classes).float()


def two_sided(fits: Tensor, misses: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Whether each class is closer to its positive than to its negative text: the binary cross-entropy of sigmoid(fits - misses).

    Args:
        fits: (B, C) scaled cosines with the positive texts.
        misses: (B, C) with the negative ones.
        truth: as in :func:`shares`.
        weights: (C,) how much a clip of a class counts.
    """
    target = shares(truth, fits.shape[1])
    each = functional.binary_cross_entropy_with_logits(fits - misses, target, reduction="none").mean(1)
    counts = target @ weights
    return (each * counts).sum() / counts.sum()


def contrast(points: Tensor, texts: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    """How well each clip finds its description among the others of the batch, and the other way round: the symmetric InfoNCE of CLIP.

    Descriptions of other clips of the same class may be just as true of a clip, so they are no negatives.

    Args:
        points: (N, D) of clips, of unit length.
        texts: (N, D) of their descriptions, of unit length.
        labels: (N,) int64.
        scale: what cosines are multiplied with.

    Returns:
        The mean of both directions; 0 where no clip has a negative.
    """
    matched = scale * cosines(points, texts)
    same = (labels[:, None] == labels) & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    matched = matched.masked_fill(same, -math.inf)
    own = torch.arange(len(labels), device=labels.device)
    return (functional.cross_entropy(matched, own) + functional.cross_entropy(matched.T, own)) / 2
