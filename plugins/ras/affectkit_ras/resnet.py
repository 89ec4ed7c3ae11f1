"""EmoAffectNet: the residual network with 50 layers that Ryumina, Dresvyanskiy and Karpov (Neurocomputing 514, 2022) trained on AffectNet.

He et al. (CVPR 2016), table 1, as it is for VGGFace2 (Cao et al., FG 2018): the first convolution of a stage has its stride. The weights come from
Keras, hence the epsilon of its normalisation, the uneven border of the first convolution, and none around the pooling.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

BLOCKS = (3, 4, 6, 3)  # of the four stages
WIDENING = 4  # of a block: what comes out has so many times the channels of its middle
WIDTH = 64
FEATURES = 512
EPSILON = 1e-3
STEM = "conv_layer_s2_same.weight"

PREFIX = re.compile(r"^(?:module|model|net|backbone)\.")
OTHER_NAMES = (
    (r"^conv1\.", "conv_layer_s2_same."),
    (r"(^|\.)bn(\d?)\.", r"\1batch_norm\2."),
    (r"(^|\.)(?:downsample|shortcut)\.", r"\1i_downsample."),
    (r"^(?:fc_feats|fc1)(?:\.0)?\.", "fc1."),
    (r"^(?:fc2|fc|classifier|fc_emo)(?:\.0)?\.", "fc2."),
)
"""Names under which TorchScript and others keep the same tensors, and the names here; ``fc_feats`` is that of the published TorchScript."""


class Bottleneck(nn.Module):
    """Three convolutions around which the input is added.

    Args:
        channels: of the input.
        middle: channels of the two first convolutions.
        stride: of the first convolution.
    """

    def __init__(self, channels: int, middle: int, stride: int) -> None:
        super().__init__()
        out = middle * WIDENING
        self.conv1 = nn.Conv2d(channels, middle, 1, stride, bias=False)
        self.batch_norm1 = nn.BatchNorm2d(middle, eps=EPSILON)
        self.conv2 = nn.Conv2d(middle, middle, 3, padding=1, bias=False)
        self.batch_norm2 = nn.BatchNorm2d(middle, eps=EPSILON)
        self.conv3 = nn.Conv2d(middle, out, 1, bias=False)
        self.batch_norm3 = nn.BatchNorm2d(out, eps=EPSILON)
        self.i_downsample = None
        if stride > 1 or channels != out:
            self.i_downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out, eps=EPSILON))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) float32 to (B, 4 middle, H / stride, W / stride)."""
        kept = x if self.i_downsample is None else self.i_downsample(x)
        x = self.batch_norm1(self.conv1(x)).relu()
        x = self.batch_norm2(self.conv2(x)).relu()
        return cast(Tensor, (self.batch_norm3(self.conv3(x)) + kept).relu())


class EmoAffectNet(nn.Module):
    """Faces as seven logits and the features that they are read from.

    Args:
        width: channels of the first convolution; the published network has 64.
        classes: logits.
    """

    def __init__(self, width: int = WIDTH, classes: int = 7) -> None:
        super().__init__()
        self.conv_layer_s2_same = nn.Conv2d(3, width, 7, 2, bias=False)
        self.batch_norm1 = nn.BatchNorm2d(width, eps=EPSILON)
        channels = width
        for stage, blocks in enumerate(BLOCKS):
            middle = width * 2**stage
            strides = [1 if stage == 0 else 2] + [1] * (blocks - 1)
            made = [Bottleneck(channels if block == 0 else middle * WIDENING, middle, stride) for block, stride in enumerate(strides)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*made))
            channels = middle * WIDENING
        self.fc1 = nn.Linear(channels, FEATURES)
        self.fc2 = nn.Linear(FEATURES, classes)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and features of faces.

        Args:
            pictures: (N, 3, 224, 224) float32, blue, green, red, each in [0, 255] less its mean.

        Returns:
            Logits (N, classes), and the features (N, 512) before their rectification, which the authors call ``fc_feats``.
        """
        x = self.batch_norm1(self.conv_layer_s2_same(_bordered(pictures, 7, 2))).relu()
        x = nn.functional.max_pool2d(x, 3, 2)
        for stage in range(len(BLOCKS)):
            x = getattr(self, f"layer{stage + 1}")(x)
        features = self.fc1(x.mean((2, 3)))
        return self.fc2(features.relu()), features


def _bordered(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Zeros around pictures so that ceil(side / stride) places come out; where their number is odd, the right and lower border is wider, as in Keras."""
    sides = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in (x.shape[3], x.shape[2])]
    return nn.functional.pad(x, [part for side in sides for part in (side // 2, side - side // 2)])


def own_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state of EmoAffectNet under the names of :class:`EmoAffectNet`, whatever it was stored as.

    Args:
        tensors: as ``FER_static_ResNet50_AffectNet.pt`` has them, or the published TorchScript after ``affectkit weights convert``.

    >>> list(own_names({"model.layer1.0.bn1.weight": torch.ones(1), "fc_feats.bias": torch.ones(1)}))
    ['layer1.0.batch_norm1.weight', 'fc1.bias']
    """
    found = {}
    for name, tensor in tensors.items():
        name = PREFIX.sub("", name)
        for pattern, own in OTHER_NAMES:
            name = re.sub(pattern, own, name)
        found[name] = tensor
    counts = {name.replace("running_mean", "num_batches_tracked") for name in found if name.endswith("running_mean")}
    return {**{name: torch.tensor(0) for name in counts - found.keys()}, **found}  # how many batches were seen matters to training alone


def width_of(tensors: Mapping[str, Tensor]) -> int:
    """The width of the network that a state under its own names is of; that of the published one where it cannot be told."""
    stem = tensors.get(STEM)
    return int(stem.shape[0]) if stem is not None and stem.dim() == 4 and len(stem) else WIDTH
