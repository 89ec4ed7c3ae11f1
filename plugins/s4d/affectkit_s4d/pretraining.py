"""Masked pre-training of S4D on clips and pictures: an encoder of what is shown, a small decoder of what is hidden, and its loss.

Names of layers and parameters are those of the authors' pre-trained files. B is batch, N tokens, M hidden tokens, V shown tokens, D width.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from affectkit.api import UsageError
from affectkit_s4d.model import EPS, SPREAD, TUBELET, Block, PatchEmbed, Sizes, check_shape, first_numbers, sincos

WIDTH = 384  # of the published decoder
SMALL = 1e-6  # is added to the standard deviation of a patch


class Encoder(nn.Module):
    """The lower part of :class:`affectkit_s4d.model.S4D` without experts, over the tokens that are shown."""

    positions: Tensor

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.patch_embed = PatchEmbed(sizes)
        self.blocks = nn.ModuleList(Block(sizes.width, sizes.heads, sizes.hidden) for _ in range(sizes.depth))
        self.norm = nn.LayerNorm(sizes.width, eps=EPS)
        self.register_buffer("positions", sincos(sizes.tokens, sizes.width), persistent=False)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Clips or pictures as S4D reads them, without the tokens where ``hidden`` (B, N) is true, to (B, V, D)."""
        check_shape(x, self.sizes)
        tokens = self.patch_embed(x)
        tokens = tokens + self.positions[: tokens.shape[1]]
        tokens = tokens[~hidden].view(len(x), -1, tokens.shape[2])
        for block in self.blocks:
            tokens, _ = block(tokens)
        said: Tensor = self.norm(tokens)
        return said


class Decoder(nn.Module):
    """A narrow transformer that says the pixels of every token."""

    def __init__(self, width: int, depth: int, heads: int, pixels: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, 4 * width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.head = nn.Linear(width, pixels)

    def forward(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        """All tokens in their order (B, N, D) to the pixels of the hidden ones, (B, M, P)."""
        for block in self.blocks:
            tokens, _ = block(tokens)
        said: Tensor = self.head(self.norm(tokens[hidden].view(len(tokens), -1, tokens.shape[2])))
        return said


class MaskedAutoencoder(nn.Module):
    """Says what it was not shown of clips and pictures (S4D, section "Dual-modal pre-training"; VideoMAE, Tong et al. 2022, arXiv 2203.12602).

    Args:
        sizes: of the encoder; its experts are left out.
        width: of the decoder.
        depth: of the decoder.
        heads: of the decoder.
    """

    positions: Tensor

    def __init__(self, sizes: Sizes | None = None, *, width: int = WIDTH, depth: int = 4, heads: int = 6) -> None:
        super().__init__()
        self.sizes = sizes = replace(sizes or Sizes(), experts=0)
        self.encoder = Encoder(sizes)
        self.encoder_to_decoder = nn.Linear(sizes.width, width, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder = Decoder(width, depth, heads, 3 * TUBELET * sizes.patch**2)
        self.register_buffer("positions", sincos(sizes.tokens, width), persistent=False)
        first_numbers(self.encoder, SPREAD * (Sizes.width / sizes.width) ** 0.5)
        for part in (self.encoder_to_decoder, self.decoder):
            first_numbers(part, SPREAD * (WIDTH / width) ** 0.5)
        nn.init.trunc_normal_(self.mask_token, std=SPREAD)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The pixels of the hidden tokens, (B, M, P) as :func:`patches` lays them out.

        Args:
            x: clips (B, 3, T, H, W) or pictures (B, 3, H, W), as S4D reads them.
            hidden: (B, N) bool, as many in each row.

        Raises:
            UsageError: where rows hide different numbers of tokens, or none.
        """
        counts = hidden.sum(1)
        if not 0 < int(counts[0]) < hidden.shape[1] or not bool((counts == counts[0]).all()):
            raise UsageError(f"each clip must hide as many of its {hidden.shape[1]} tokens, some and not all; found {counts.tolist()}")
        shown = self.encoder_to_decoder(self.encoder(x, hidden))
        tokens = self.mask_token.to(shown.dtype).expand(*hidden.shape, -1).clone()
        tokens[~hidden] = shown.flatten(0, 1)
        said: Tensor = self.decoder(tokens + self.positions[: hidden.shape[1]], hidden)
        return said


def masks(count: int, tokens: int, share: float, generator: torch.Generator) -> Tensor:
    """Which tokens are hidden, drawn anew for each row over all times and places: (count, tokens) bool with ``int(share * tokens)`` true in each.

    >>> masks(2, 800, 0.95, torch.Generator()).sum(1), masks(1, 100, 0.9, torch.Generator()).sum(1)
    (tensor([760, 760]), tensor([90]))
    """
    number = int(share * tokens + 1e-9)  # 0.95 is a little less than it says
    order = torch.rand(count, tokens, generator=generator).argsort(1)
    return torch.zeros(count, tokens, dtype=torch.bool).scatter_(1, order[:, :number], True)


def patches(pixels: Tensor, patch: int) -> Tensor:
    """Pixels by token; a picture is taken twice.

    Args:
        pixels: clips (B, 3, T, H, W) or pictures (B, 3, H, W), any float.
        patch: side of a token.

    Returns:
        (B, N, K, 3): tokens by time, row and column, and of each its K pixels by time, row and column.
    """
    if pixels.dim() == 4:
        pixels = pixels[:, :, None].expand(-1, -1, TUBELET, -1, -1)
    batch, _, frames, height, width = pixels.shape
    cut = pixels.reshape(batch, 3, frames // TUBELET, TUBELET, height // patch, patch, width // patch, patch)
    return cut.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(batch, -1, TUBELET * patch**2, 3)


def targets(pixels: Tensor, patch: int) -> Tensor:
    """What is to be said of each token: its pixels, less their mean and over their standard deviation, channel by channel.

    Args:
        pixels: as of :func:`patches`, in [0, 1].
        patch: side of a token.

    Returns:
        (B, N, P) float; the standard deviation is the unbiased one, plus 1e-6.
    """
    cut = patches(pixels, patch)
    spread = cut.var(2, unbiased=True, keepdim=True).sqrt() + SMALL
    return ((cut - cut.mean(2, keepdim=True)) / spread).flatten(2)


def errors(said: Tensor, pixels: Tensor, hidden: Tensor, patch: int) -> Tensor:
    """Mean squared error of each row over its hidden tokens, (B,) float32; their mean is the loss.

    Args:
        said: (B, M, P).
        pixels: as of :func:`targets`.
        hidden: (B, N) bool.
        patch: side of a token.
    """
    wanted = targets(pixels.float(), patch)[hidden].view_as(said)
    return (said.float() - wanted).square().mean((1, 2))
