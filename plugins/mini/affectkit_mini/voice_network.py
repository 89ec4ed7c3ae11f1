"""The network of mini/audio: a speech encoder that hears, and small networks side by side that tell the emotion from what it heard.

M members, B voices, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from affectkit_mini.listening import NUMBERS, Listener

MOMENTUM = 0.01  # of what is noted of the rows of training


class VoiceNet(nn.Module):
    """A listener, and members with one hidden layer over its numbers.

    Each member leaves out a part of the voices in training, so that those can be measured by a member that did not hear them. The listener is not
    trained.

    Args:
        folds: parts into which the voices are cut; there is a member for each.
        hidden: width of the hidden layer.
        classes: logits that it gives.
        dropout: share of the hidden layer that is left out in training; of the inputs a third of it.

    Attributes:
        listener: what hears.
        folds: members.
    """

    def __init__(self, folds: int = 5, hidden: int = 64, classes: int = 7, dropout: float = 0.5) -> None:
        super().__init__()
        self.folds, self.dropout = folds, dropout
        self.listener = Listener().requires_grad_(False)
        self.standard = nn.BatchNorm1d(folds * NUMBERS, affine=False, momentum=MOMENTUM)
        self.inner = nn.Parameter((torch.rand(folds, NUMBERS, hidden) * 2 - 1) / NUMBERS**0.5)
        self.norm = nn.BatchNorm1d(folds * hidden)
        self.outer = nn.Parameter((torch.rand(folds, hidden, classes) * 2 - 1) / hidden**0.5)
        self.bias = nn.Parameter(torch.zeros(folds, 1, classes))

    def standardise(self, numbers: Tensor) -> Tensor:
        """Numbers of a voice for each member (M, B, 2304) with zero mean and unit variance over the rows of training, within 4."""
        return _side_by_side(self.standard, numbers).clamp(-4, 4)

    def classify(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (M, B, C) of standardised numbers (M, B, 2304), and the hidden layers (M, B, H)."""
        x = torch.bmm(functional.dropout(numbers, self.dropout / 3, self.training), self.inner)
        hidden = functional.silu(_side_by_side(self.norm, x))
        return torch.bmm(functional.dropout(hidden, self.dropout, self.training), self.outer) + self.bias, hidden

    def forward(self, numbers: Tensor, left_out: int | Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Classify voices.

        Args:
            numbers: (B, 2304) float, as the listener gives them.
            left_out: part, or (B,) int64 part of each row, that a member must have left out to be asked; ``None`` asks all.

        Returns:
            Mean log-probabilities of the members that are asked (B, C), which a softmax makes a distribution, and all hidden layers (B, M * H).
        """
        logits, hidden = self.classify(self.standardise(numbers.expand(self.folds, -1, -1)))
        said = logits.float().log_softmax(2)
        if left_out is None:
            return said.mean(0), hidden.transpose(0, 1).flatten(1)
        member = torch.as_tensor(left_out, device=numbers.device).expand(len(numbers))
        return said[member, torch.arange(len(numbers), device=numbers.device)], hidden.transpose(0, 1).flatten(1)


def _side_by_side(norm: nn.Module, x: Tensor) -> Tensor:
    """A norm over the rows of (M, B, D), with statistics of its own for each of the M times D columns."""
    found: Tensor = norm(x.transpose(0, 1).flatten(1))
    return found.unflatten(1, (len(x), -1)).transpose(0, 1)
