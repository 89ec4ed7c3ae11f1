"""The network of mini/faces: one pass over a picture gives a score, a box and five points for every cell of three grids.

A second, small one looks at what was found from closer.

B batch, N cells of all grids one after the other, the finest first, each row by row, K boxes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

STRIDES = (8, 16, 32)  # pixels between the cells of each grid
POINTS = 5
WIDTHS = (32, 48, 64, 96)  # channels at strides 4, 8, 16 and 32
NECK = 32  # channels of every grid where the answers are read
RARE = -4.6  # logit of 0.01: at first every cell says that one in a hundred is a face (Lin et al. 2017, section 3.3)
LARGEST = 6.0  # logarithm of the largest side in strides; keeps exp finite
CLOSE = 48  # pixels: both sides of what the closer look sees
MARGIN = 1.5  # sides of the square that the closer look sees, in longer sides of the box
JUDGE = (16, 32, 64, 96)  # channels of the closer look at strides 2, 4, 8 and 16


def _norm(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution and its normalisation. One of 1 x 1 is dilated, which changes nothing but that torch takes its fast kernel on one thread as well."""
    pad, gap = (size - stride + 1) // 2 if stride > 1 else size // 2, 2 if size == 1 else 1
    return nn.Sequential(nn.Conv2d(inputs, outputs, size, stride, pad, gap, bias=False), nn.BatchNorm2d(outputs))


class Step(nn.Module):
    """A convolution and what was there before, where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.across = _norm(inputs, outputs, 3, stride)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        y = functional.relu(self.across(x), inplace=True)
        return y + x if self.shortcut else y


def _judge() -> nn.Sequential:
    """What :func:`closer` shows, (K, 3, 48, 48) float in [-1, 1], to (K, 1): logit of a face."""
    first, second, third, last = JUDGE
    steps = (Step(3, first, 2), Step(first, second, 2), Step(second, third, 2), Step(third, third), Step(third, last, 2))
    return nn.Sequential(*steps, nn.Flatten(), nn.Linear(last * (CLOSE // 16) ** 2, 1))


class FaceFinder(nn.Module):
    """A detector without anchors: dense convolutions from stride 4 on, a pyramid of three grids, one head for all of them; and a small classifier of its boxes.

    Processors do dense convolutions of few channels at nearly all of their speed, and convolutions per channel, or many channels at stride 2, at little of it.
    """

    def __init__(self) -> None:
        super().__init__()
        first, fine, middle, coarse = WIDTHS
        self.stem = nn.Sequential(_norm(3, first, 8, 4), nn.ReLU(inplace=True))
        self.fine = nn.Sequential(Step(first, fine, 2), Step(fine, fine))
        self.middle = nn.Sequential(Step(fine, middle, 2), Step(middle, middle), Step(middle, middle))
        self.coarse = nn.Sequential(Step(middle, coarse, 2), Step(coarse, coarse), Step(coarse, coarse))
        self.lateral = nn.ModuleList(_norm(width, NECK, 1) for width in (fine, middle, coarse))
        self.head = nn.Sequential(Step(NECK, NECK), Step(NECK, NECK))
        self.answer = nn.Conv2d(NECK, 1 + 4 + 2 * POINTS, 1, dilation=2)
        nn.init.normal_(self.answer.weight, std=0.01)
        nn.init.zeros_(self.answer.bias)
        nn.init.constant_(self.answer.bias[:1], RARE)
        self.judge = _judge()

    def forward(self, pictures: Tensor) -> Tensor:
        """What every cell says.

        Args:
            pictures: (B, 3, H, W) float RGB in [-1, 1], sides multiples of 32.

        Returns:
            (B, N, 15) float: logit of a face; offset x, y of its centre from the cell's, and logarithm of its width and height,
            both in strides; x, y of the five points from the cell's centre, in strides.
        """
        fine = self.fine(self.stem(pictures))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        above: Tensor | None = None
        grids = []
        for index, features in reversed(list(enumerate((fine, middle, coarse)))):
            lateral = self.lateral[index](features)
            above = functional.relu(lateral if above is None else lateral + functional.interpolate(above, scale_factor=2.0))
            grids.append(self.answer(self.head(above)).flatten(2).transpose(1, 2))
        return torch.cat(grids[::-1], 1)


def fold(network: nn.Module) -> nn.Module:
    """Puts every batch normalisation into the convolution before it: the same answers in less time.

    Args:
        network: in evaluation mode; it is changed.
    """
    for part in network.modules():
        if isinstance(part, nn.Sequential) and len(part) == 2 and isinstance(part[1], nn.BatchNorm2d):
            part[0] = fuse_conv_bn_eval(part[0], part[1])
            part[1] = nn.Identity()
    return network


def cells(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Where the cells of a picture are.

    Args:
        height: pixels, a multiple of 32.
        width: likewise.

    Returns:
        Centres (N, 2) float32 x, y in pixels, and strides (N, 1) float32 in pixels.

    >>> centres, strides = cells(32, 32)
    >>> centres[:2].tolist(), centres[-1].tolist(), len(strides)
    ([[4.0, 4.0], [12.0, 4.0]], [16.0, 16.0], 21)
    """
    centres, strides = [], []
    for stride in STRIDES:
        y, x = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
        centres.append((torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride)
        strides.append(torch.full((len(centres[-1]), 1), float(stride)))
    return torch.cat(centres), torch.cat(strides)


def decode(answers: Tensor, centres: Tensor, strides: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes and points in pixels.

    Args:
        answers: (..., N, 15) float, of :class:`FaceFinder`.
        centres: (N, 2) of :func:`cells`, or (..., N, 2).
        strides: (N, 1) likewise.

    Returns:
        Boxes (..., N, 4) x0, y0, x1, y1 and points (..., N, 5, 2) x, y.
    """
    middle = centres + answers[..., 1:3] * strides
    half = answers[..., 3:5].clamp(-LARGEST, LARGEST).exp() * strides / 2
    points = centres[..., None, :] + answers[..., 5:].unflatten(-1, (POINTS, 2)) * strides[..., None]
    return torch.cat([middle - half, middle + half], -1), points


def closer(picture: Tensor, boxes: Tensor) -> Tensor:
    """What the judge of :class:`FaceFinder` looks at.

    Args:
        picture: (3, H, W) RGB in [0, 255], uint8 or float, with as many pixels as there are.
        boxes: (K, 4) float x0, y0, x1, y1 in its pixels; each has a part in the picture.

    Returns:
        (K, 3, 48, 48) of the same type: the square around each box, with its surroundings, and black beside the picture.
    """
    height, width = picture.shape[1:]
    sides = (MARGIN * (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True)).clamp(2, 2 * max(height, width))
    low = (boxes[:, :2] + boxes[:, 2:] - sides) / 2
    views = [picture.new_zeros((0, 3, CLOSE, CLOSE))]
    for x0, y0, x1, y1 in torch.cat([low, low + sides], 1).round().int().tolist():
        left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
        view = functional.pad(picture[None, :, top:bottom, left:right], (left - x0, x1 - right, top - y0, y1 - bottom))
        views.append(functional.interpolate(view, (CLOSE, CLOSE), mode="bilinear", antialias=True))
    return torch.cat(views)
