"""The network of mini/faces: one pass over a picture gives a score, a box and five points for every cell of three grids.

B batch, N cells of all grids one after the other, the finest first, each row by row.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

STRIDES = (8, 16, 32)  # pixels between the cells of each grid
POINTS = 5
WIDTHS = (16, 32, 64, 96, 128)  # channels at strides 2, 4, 8, 16 and 32
NECK = 64  # channels of every grid where the answers are read
RARE = -4.6  # logit of 0.01: at first every cell says that one in a hundred is a face (Lin et al. 2017, section 3.3)
LARGEST = 6.0  # logarithm of the largest side in strides; keeps exp finite


def _norm(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    gap = 2 if size == 1 else 1  # changes nothing of a convolution of 1 x 1 but that torch takes its fast kernel on one thread as well
    return nn.Sequential(nn.Conv2d(inputs, outputs, size, stride, size // 2, gap, groups, bias=False), nn.BatchNorm2d(outputs))


class Separable(nn.Module):
    """A convolution per channel, one across channels, and a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.within = _norm(inputs, inputs, size, stride, groups=inputs)
        self.across = _norm(inputs, outputs, 1)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        y = self.across(functional.relu(self.within(x), inplace=True))
        return functional.relu(y.add_(x) if self.shortcut else y, inplace=True)


class FaceFinder(nn.Module):
    """A detector without anchors, 152,319 parameters: separable convolutions, a pyramid of three grids, one head for all of them."""

    def __init__(self) -> None:
        super().__init__()
        first, second, fine, middle, coarse = WIDTHS
        opening = (_norm(3, first, 3, 2), nn.ReLU(inplace=True), _norm(first, second, 3, 2), nn.ReLU(inplace=True))
        self.stem = nn.Sequential(*opening, Separable(second, second))
        self.fine = nn.Sequential(Separable(second, fine, 5, 2), Separable(fine, fine), Separable(fine, fine))
        self.middle = nn.Sequential(Separable(fine, middle, 5, 2), Separable(middle, middle, 5), Separable(middle, middle, 5))
        self.coarse = nn.Sequential(Separable(middle, coarse, 5, 2), Separable(coarse, coarse, 5), Separable(coarse, coarse, 5))
        self.lateral = nn.ModuleList(_norm(width, NECK, 1) for width in (fine, middle, coarse))
        self.smooth = nn.ModuleList(Separable(NECK, NECK) for _ in STRIDES)
        self.head = nn.Sequential(Separable(NECK, NECK), Separable(NECK, NECK, 5))
        self.answer = nn.Conv2d(NECK, 1 + 4 + 2 * POINTS, 1, dilation=2)
        nn.init.normal_(self.answer.weight, std=0.01)
        nn.init.zeros_(self.answer.bias)
        nn.init.constant_(self.answer.bias[:1], RARE)

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
            above = self.smooth[index](lateral if above is None else lateral + functional.interpolate(above, scale_factor=2.0))
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
