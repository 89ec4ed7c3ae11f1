"""Means over what is real of a batch. Nothing but torch code: import it late."""

from __future__ import annotations

from torch import Tensor


def over_time(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over time (B, D) of (B, T, D), of the real places alone where a mask (B, T) says which they are; zeros where none is."""
    if mask is None:
        return x.mean(dim=1)
    return x.masked_fill(~mask[..., None], 0.0).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp_min(1)


def per_clip(rows: Tensor, mask: Tensor) -> Tensor:
    """Mean per clip (B, D) of rows (N, D) that stand where ``mask`` (B, T) is true, in its order; zeros where none does."""
    clips = mask.nonzero()[:, 0]
    return rows.new_zeros(len(mask), rows.shape[1]).index_add_(0, clips, rows) / mask.sum(dim=1, keepdim=True).clamp_min(1)
