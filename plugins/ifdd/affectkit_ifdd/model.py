"""IFDD (AAAI 2025, arXiv 2412.13168): a multiscale vision transformer of ten blocks, two of its stages as a pyramid, and lifting over time.

B is batch, T frames, S slots, G the side of the last grid of patches. Attribute names are the keys of the published state dict.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.video.mvit import MSBlockConfig, MultiscaleBlock, PositionalEncoding

from affectkit.api import UsageError
from affectkit_ifdd.lifting import Lifted, Lifting
from affectkit_ifdd.sizes import MEAN, SLOTS, STD, Sizes

RELEASED_CONSTRAINT = 0.1  # weight of the constraint term, a sum over the batch, in the published loss
DROPPED = 0.5  # share of the numbers of a clip that the classifier does not see in training
BRANCHES = 0.2  # share of the training clips for which a residual branch is left out, in the last block and in the lifting; less in the blocks before


class Seen(NamedTuple):
    """All that the network makes of clips on its way.

    Attributes:
        embedded: (B, width, S, side / 4, side / 4) the first patches.
        stage2: (B, 1 + S * (2G)^2, 4 * width) with the class token.
        stage3: (B, 1 + S * G^2, 8 * width) with the class token, after the norm.
        pyramid: (B, S, 8 * width, G, G) both, one over the other.
        lifted: the splitting and what the lifting made of it.
        logits: (B, classes).
    """

    embedded: Tensor
    stage2: Tensor
    stage3: Tensor
    pyramid: Tensor
    lifted: Lifted
    logits: Tensor

    @property
    def constraint(self) -> Tensor:
        """(B, G, G): by how much the static part differs from the mean of neighbouring slots, on average over channels and time.

        The constraint term of the loss pulls it to zero, so that the static part is what stays (IFDD, the constraint on the approximation).
        """
        batch, slots, channels, grid, _ = self.pyramid.shape
        pairs = self.pyramid.unflatten(1, (slots // 2, 2)).mean(2)
        static = self.lifted.static.transpose(1, 2).reshape(batch, channels, slots // 2, grid, grid)
        return pairs.mean((1, 2)) - static.mean((1, 2))


class Embedding(nn.Module):
    """Patches of two frames; where there are 32 frames, two neighbours in time become one."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.conv_proj = nn.Conv3d(3, sizes.width, (3, 7, 7), (2, 4, 4), (1, 3, 3))
        self.together = sizes.frames // (2 * SLOTS)

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, T, side, side) as (B, width, S, side / 4, side / 4)."""
        return functional.avg_pool3d(self.conv_proj(clips), (self.together, 1, 1))


class Multiscale(nn.Module):
    """The transformer: torchvision's blocks of MViTv2, of which each stage halves the grid and doubles the channels."""

    def __init__(self, sizes: Sizes, branches: float) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, eps=1e-6)
        side, last = sizes.side // 4, sum(sizes.blocks) - 1
        self.sizes = sizes
        self.pos_encoding = PositionalEncoding(sizes.width, (side, side), SLOTS, rel_pos_embed=True)
        self.blocks = nn.ModuleList()
        for stage, count in enumerate(sizes.blocks):
            for place in range(count):
                halves = 2 if stage and not place else 1
                config = MSBlockConfig(
                    num_heads=2**stage,
                    input_channels=sizes.width * 2**stage // halves,
                    output_channels=sizes.width * 2**stage,
                    kernel_q=[3, 3, 3],
                    kernel_kv=[3, 3, 3],
                    stride_q=[1, halves, halves],
                    stride_kv=[1, 8 >> stage, 8 >> stage],
                )
                self.blocks.append(
                    MultiscaleBlock(
                        [SLOTS, side, side],
                        config,
                        residual_pool=True,
                        residual_with_cls_embed=False,
                        rel_pos_embed=True,
                        proj_after_attn=True,
                        stochastic_depth_prob=branches * len(self.blocks) / last,
                        norm_layer=norm,
                    )
                )
                side //= halves
        self.norm = norm(sizes.channels)

    def forward(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """(B, width, S, side / 4, side / 4) as the tokens of the third and the last stage, with the class token first."""
        tokens = self.pos_encoding(embedded.flatten(2).transpose(1, 2))
        shape = tuple(embedded.shape[2:])
        third = tokens
        for number, block in enumerate(self.blocks, 1):
            tokens, shape = block(tokens, shape)
            if number == sum(self.sizes.blocks[:3]):
                third = tokens
        return third, self.norm(tokens)


class Pyramid(nn.Module):
    """The transformer, two of its stages over each other, and the lifting."""

    def __init__(self, sizes: Sizes, branches: float) -> None:
        super().__init__()
        fine, coarse = sizes.channels // 2, sizes.channels
        self.backbone = Multiscale(sizes, branches)
        self.PANLayer = nn.Sequential(nn.Conv2d(fine, fine, 3, stride=2, padding=2, dilation=2, bias=False))
        self.CatConv = nn.Conv2d(fine + coarse, coarse, 1, bias=False)
        self.WaveLifts = Lifting(coarse, sizes.grid, aligned=not sizes.released, dropped=branches, whole_dropped=sizes.released)

    def forward(self, embedded: Tensor) -> tuple[Tensor, Tensor, Tensor, Lifted]:
        """The stages, the pyramid and the lifting of (B, width, S, side / 4, side / 4)."""
        stage2, stage3 = self.backbone(embedded)
        fine = self.PANLayer(_pictures(stage2))
        pyramid = self.CatConv(torch.cat([fine, _pictures(stage3)], 1)).unflatten(0, (-1, SLOTS))
        return stage2, stage3, pyramid, self.WaveLifts(pyramid)


class Head(nn.Module):
    """The classifier."""

    def __init__(self, sizes: Sizes, dropped: float) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Dropout(dropped), nn.Linear(sizes.channels, sizes.classes))

    def forward(self, feature: Tensor) -> Tensor:
        """(B, 8 * width) as (B, classes)."""
        logits: Tensor = self.head(feature)
        return logits


class IFDD(nn.Module):
    """Implicit facial dynamics disentanglement (IFDD; Wang and Chai, AAAI 2025, arXiv 2412.13168): logits of an expression from what moves in a face.

    Eight slots of frames go through the transformer, whose last two stages make one pyramid of patches. The inter-frame static-dynamic splitting module (ISSM) takes
    four of the slots as the static part and four as the dynamic part; the lifting-based aggregation-disentanglement module (LADM) moves what both share
    into the static part and classifies what is left of the dynamic one. Their equations are those of :class:`affectkit_ifdd.lifting.Splitting` and
    :class:`affectkit_ifdd.lifting.Lifting`.

    Args:
        sizes: what it is made of.
        dropped: share of the numbers of a clip that the classifier does not see in training; the published one.
        branches: share of the training clips for which a residual branch is left out; the published one.
    """

    def __init__(self, sizes: Sizes | None = None, *, dropped: float = DROPPED, branches: float = BRANCHES) -> None:
        super().__init__()
        self.sizes = sizes = sizes or Sizes()
        self.embed = Embedding(sizes)
        self.backbone = Pyramid(sizes, branches)
        self.head = Head(sizes, dropped)
        nn.init.trunc_normal_(self.backbone.backbone.pos_encoding.class_token, std=0.02)

    def forward(self, clips: Tensor) -> Tensor:
        """Logits (B, classes) of clips (B, 3, T, side, side) float RGB in [0, 1]."""
        return self.see(clips).logits

    def see(self, clips: Tensor) -> Seen:
        """All that becomes of clips on their way; arguments as in :meth:`forward`.

        Raises:
            UsageError: for clips of another shape.
        """
        wanted = (3, self.sizes.frames, self.sizes.side, self.sizes.side)
        if tuple(clips.shape[1:]) != wanted:
            raise UsageError(f"IFDD was made for clips of shape (B, {', '.join(map(str, wanted))}), found {tuple(clips.shape)}")
        embedded = self.embed(clips if self.sizes.released else (clips - MEAN) / STD)
        stage2, stage3, pyramid, lifted = self.backbone(embedded)
        return Seen(embedded, stage2, stage3, pyramid, lifted, self.head(lifted.feature))

    def places(self, index: Tensor) -> Tensor:
        """Slots in [0, 7] that indices (B, K) of the splitting read; a slot is two frames of 16, or four of 32."""
        return self.backbone.WaveLifts.adapt_split.places(index)


def constraint_loss(maps: Tensor, *, per_clip: bool = True) -> Tensor:
    """The constraint term without its weight: the smooth L1 distance of each map to zero.

    Args:
        maps: (B, G, G) as in :attr:`Seen.constraint`.
        per_clip: the mean over the clips. The published code adds them up, so that a larger batch constrains more; ``False`` does the same.

    >>> maps = torch.ones(4, 7, 7)
    >>> constraint_loss(maps).item(), constraint_loss(maps, per_clip=False).item()
    (0.5, 2.0)
    """
    each = functional.smooth_l1_loss(maps, torch.zeros_like(maps), reduction="none").mean((1, 2))
    return each.mean() if per_clip else each.sum()


def _pictures(tokens: Tensor) -> Tensor:
    """Tokens (B, 1 + S * n * n, C) without the class token as pictures (B * S, C, n, n)."""
    side = math.isqrt((tokens.shape[1] - 1) // SLOTS)
    return tokens[:, 1:].unflatten(1, (SLOTS, side, side)).flatten(0, 1).permute(0, 3, 1, 2)
