"""What the network of mini/faces loses where it is wrong. B batch, N cells, K cells that give a box."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from affectkit.detections import iou
from affectkit_mini.detector import distinct, scaled
from affectkit_mini.single_shot import cells, closer, decode

LOOKED_AT, CELLS = 4, 24  # boxes of a picture that are judged; cells with the highest scores among which they are
OVERLAP = 0.4  # IoU of two boxes of which one is judged
FACE, NONE = 0.5, 0.35  # IoU with a face: from which on a box is one, below which it is none


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


def of_judge(judge: nn.Module, answers: Tensor, goal: Tensor, wanted: Tensor, size: tuple[int, ...], large: Tensor) -> Tensor:
    """The loss of the closer look at what the network finds now: it learns to tell faces from what looks like them at first.

    Args:
        judge: of the network.
        answers: as in :func:`loss`, without gradients.
        goal: as in :func:`loss`.
        wanted: as in :func:`loss`.
        size: as in :func:`loss`.
        large: (B, H, W, 3) uint8, the pictures with all their pixels.
    """
    centres, strides = cells(*size[:2])
    zoom, views, truth = large.shape[1] / size[0], [], []
    pictures = (
        large.permute(0, 3, 1, 2) if large.device.type == "cpu" else large.permute(0, 3, 1, 2).float()
    )  # only there does torch shrink bytes
    for picture, said, aim, boxes in zip(pictures, answers.cpu(), goal.cpu(), wanted[..., :4].cpu(), strict=True):
        best = said[:, 0].topk(CELLS)[1]
        found = decode(said[best], centres[best], strides[best])[0]
        middle = (found[:, :2] + found[:, 2:]) / 2
        inside = ((middle > 0) & (middle < torch.tensor(size[1::-1]))).all(1)
        best, found = best[inside], found[inside]
        kept = distinct(found.numpy(), OVERLAP)[:LOOKED_AT]
        overlap = torch.from_numpy(iou(found[kept].numpy(), boxes[boxes[:, 2] > boxes[:, 0]].numpy()).max(1, initial=0.0))
        sure = (overlap >= FACE) | ((overlap < NONE) & (aim[best[kept]] >= 0))
        views.append(closer(picture, found[kept][sure] * zoom))
        truth.append((overlap[sure] >= FACE).float().to(large.device))
    of_face = torch.cat(truth)
    if not len(of_face):
        return answers.new_zeros(())
    logits = judge(scaled(torch.cat(views).float()).contiguous(memory_format=torch.channels_last))[:, 0]
    return functional.binary_cross_entropy_with_logits(logits.float(), of_face)
