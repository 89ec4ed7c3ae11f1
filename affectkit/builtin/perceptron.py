"""Small networks that are made of runs and labels. Nothing but torch code: import it late."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from affectkit.builtin.mhpf import MHPF, TINY


class Perceptron(nn.Module):
    """Layer norm, and one layer, or two with GELU and dropout between them.

    Args:
        size: numbers of the embedding.
        hidden: width between the layers, 0 for one layer alone.
        outputs: C columns.
        dropout: share of the hidden numbers that are left out in training.
    """

    def __init__(self, size: int, hidden: int, outputs: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.first: nn.Module = nn.Sequential(nn.Linear(size, hidden), nn.GELU(), nn.Dropout(dropout)) if hidden else nn.Identity()
        self.last = nn.Linear(hidden or size, outputs)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Embeddings (B, D) float to logits (B, C)."""
        found: Tensor = self.last(self.first(self.norm(embeddings)))
        return found


class FusedLogits(nn.Module):
    """Multi-Head Probability Fusion that begins at about equal weights, and gives logarithms of rows that sum to 1, made surer by each further source.

    Args:
        sources: M sources.
        classes: C classes.
    """

    def __init__(self, sources: int, classes: int) -> None:
        super().__init__()
        self.fusion = MHPF(sources, classes)
        with torch.no_grad():
            for value in self.fusion.parameters():
                value.mul_(0.02)
        self.sharpness = nn.Parameter(torch.tensor([0.0, -1.0]))  # ln of the exponent of one source, and what makes the growth

    def forward(self, values: Tensor, valid: Tensor) -> Tensor:
        """Values (B, M, C) with validity (B, M, C) to logits (B, C); classes that nobody says have a probability of almost 0."""
        fused = self.fusion(values, valid).nan_to_num(0.0).clamp_min(TINY)
        further = valid.any(2).sum(1, keepdim=True) - 1
        return ((1 + self.growth * further) / self.temperature * fused.log()).log_softmax(1)

    @property
    def temperature(self) -> Tensor:
        """Greater than 0; divides the exponent of all rows."""
        return (-self.sharpness[0]).exp()

    @property
    def growth(self) -> Tensor:
        """Greater than 0; of the exponent with each source beyond the first."""
        return functional.softplus(self.sharpness[1])


class Unchanged(nn.Module):
    """Logits as they are; there is nothing to learn."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("place", torch.zeros(1))

    def forward(self, logits: Tensor) -> Tensor:
        """(B, C) to the same."""
        return logits
