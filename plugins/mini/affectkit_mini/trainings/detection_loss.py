"""What the network of mini/faces loses where it is wrong. B batch, N cells, K cells that give a box."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from affectkit_mini.single_shot import cells, decode


def loss(answers: Tensor, goal: Tensor, wanted: Tensor, size: tuple[int, ...]) -> Tensor:
    """The loss of a batch.

    Args:
        answers: (B, N, 15) float32 of the network.
        goal: (B, N), see ``canvases.goals``.
        wanted: (B, N, 14) boxes and points in pixels; zeros where a cell need not give one.
        size: height and width of the pictures in pixels.
    """
    logits = answers[..., 0]
    score, hit, miss = logits.sigmoid(), goal == 1, (goal >= 0) & (goal < 1)
    # Zhou, Wang and Kraehenbuehl: Objects as points (2019), equation 1
    found = (functional.softplus(-logits) * (1 - score) ** 2)[hit].sum()
    quiet = (functional.softplus(logits) * score**2 * (1 - goal.clamp(0, 1)) ** 4)[miss].sum()
    total = (found + quiet) / hit.sum().clamp_min(1)
    mine = wanted[..., 2] > wanted[..., 0]
    if not mine.any():
        return total
    centres, strides = (part.to(answers.device).expand(len(answers), -1, -1)[mine] for part in cells(*size[:2]))
    truth, said = wanted[mine], answers[mine]
    boxes, points = decode(said, centres, strides)
    sides = truth[:, 2:4] - truth[:, :2]
    extent = sides.prod(1, keepdim=True).sqrt()
    total = total + 2 * of_boxes(boxes, truth[:, :4]).mean()
    total = total + 0.3 * functional.smooth_l1_loss(said[:, 3:5], (sides / strides).log(), beta=0.2)
    return total + 2 * functional.smooth_l1_loss(points.flatten(1) / extent, truth[:, 4:] / extent, beta=0.05)


def of_boxes(boxes: Tensor, truth: Tensor) -> Tensor:
    """1 - IoU, and how far centres and sides differ (Zhang et al.: Focal and efficient IOU loss, 2022, equation 8): (K,) of boxes (K, 4)."""
    shared = (torch.minimum(boxes[:, 2:], truth[:, 2:]) - torch.maximum(boxes[:, :2], truth[:, :2])).clamp_min(0).prod(1)
    sides, wanted = boxes[:, 2:] - boxes[:, :2], truth[:, 2:] - truth[:, :2]
    around = torch.maximum(boxes[:, 2:], truth[:, 2:]) - torch.minimum(boxes[:, :2], truth[:, :2])
    apart = (boxes[:, :2] + boxes[:, 2:] - truth[:, :2] - truth[:, 2:]).square().sum(1) / 4 / around.square().sum(1)
    return 1 - shared / (sides.prod(1) + wanted.prod(1) - shared) + apart + ((sides - wanted) / around).square().sum(1)
