"""The head of ras/audio over the frames of a speech encoder: what a voice says and how uncertain that is.

WavLMEmotionClassifierV5 of Team RAS (9th ABAW, arXiv 2507.02205; SMIL-SPCRAS/ICCVW_25, src/audio/models/vae_models.py), with the names of its
parameters. B sounds, T frames, D size of a frame, C classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from affectkit_ras.means import over_time

TEMPERATURE = 1.5  # of the published softmax over the means
LEAST_LOGVAR, MOST_LOGVAR = -3.0, 3.0
PARTS = 3  # thirds of a sound that are attended to one by one


class Heard(NamedTuple):
    """What the head says of B sounds.

    Attributes:
        mu: (B, C) means of the classes; their softmax at :data:`TEMPERATURE` is the distribution.
        logvar: (B, C) logarithm of the variance of each mean, in [-3, 3].
        feature: (B, 256) embedding.
    """

    mu: Tensor
    logvar: Tensor
    feature: Tensor


class UncertaintyHead(nn.Module):
    """Attention within each third of a sound, the mean over all of it, and a mean and a variance for each class.

    Args:
        size: D.
        classes: C.
        dropout: share of the numbers that are left out in training.
    """

    def __init__(self, size: int = 768, classes: int = 8, dropout: float = 0.3) -> None:
        super().__init__()
        self.temporal_module = Thirds(size, dropout)
        self.global_fc = nn.Sequential(*_layer(size, 256, dropout))
        self.combined_fc = nn.Sequential(*_layer(512, 256, dropout))
        self.uncertainty_head = MeanAndVariance(256, classes)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Heard:
        """Classify sounds.

        Args:
            features: (B, T, D) float frames of the encoder.
            mask: (B, T) bool, true where a frame is real, what is padded last; ``None`` takes all frames as real, as published.
        """
        if mask is None:
            mask = features.new_ones(features.shape[:2], dtype=torch.bool)
        whole = self.global_fc(over_time(features, mask))
        feature = self.combined_fc(torch.cat([self.temporal_module(features, mask), whole], dim=1))
        mu, logvar = self.uncertainty_head(feature)
        return Heard(mu, logvar, feature)


class Thirds(nn.Module):
    """Attention of its own within each third, whose means are read together. Of T frames the last T modulo 3 are in none.

    Args:
        size: D.
        dropout: share of the numbers that are left out in training.
    """

    def __init__(self, size: int, dropout: float) -> None:
        super().__init__()
        self.segment_attn = nn.ModuleList(nn.MultiheadAttention(size, 4, batch_first=True) for _ in range(PARTS))
        self.relational_fc = nn.Sequential(*_layer(PARTS * size, 512, dropout), *_layer(512, 256, dropout))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """(B, 256) of frames (B, T, D) and what is real of them (B, T)."""
        found: Tensor = self.relational_fc(torch.cat(self.means(features, mask), dim=1))
        return found

    def means(self, features: Tensor, mask: Tensor) -> list[Tensor]:
        """The mean of what the attention of each third says, (B, D) each; thirds are of the real frames of a row, so padding moves none."""
        count = mask.sum(dim=1)
        third = (count // PARTS).clamp_min(1)
        within = torch.arange(int(third.max()), device=features.device)
        real = within < third[:, None]
        out = []
        for part, attention in enumerate(self.segment_attn):
            start = torch.minimum(part * third, (count - 1).clamp_min(0))  # fewer than three frames are heard more than once
            place = (start[:, None] + within).clamp_max(features.shape[1] - 1)
            x = features.gather(1, place[..., None].expand(-1, -1, features.shape[2]))
            said, _ = attention(x, x, x, key_padding_mask=~real, need_weights=False)
            out.append(over_time(said, real))
        return out


class MeanAndVariance(nn.Module):
    """A mean and the logarithm of a variance for each class."""

    def __init__(self, size: int, classes: int) -> None:
        super().__init__()
        self.mu_layer = nn.Linear(size, classes)
        self.logvar_layer = nn.Linear(size, classes)
        nn.init.xavier_uniform_(self.mu_layer.weight, gain=0.5)
        nn.init.zeros_(self.mu_layer.bias)
        nn.init.xavier_uniform_(self.logvar_layer.weight, gain=0.1)
        nn.init.constant_(self.logvar_layer.bias, -1.0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) to means (B, C) and logarithms of variances (B, C)."""
        return self.mu_layer(x), self.logvar_layer(x).clamp(LEAST_LOGVAR, MOST_LOGVAR)


def _layer(inputs: int, outputs: int, dropout: float) -> tuple[nn.Module, ...]:
    return nn.Linear(inputs, outputs), nn.ReLU(), nn.LayerNorm(outputs), nn.Dropout(dropout)
