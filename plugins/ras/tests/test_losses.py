"""The published losses, against loops over rows and classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from affectkit_ras.trainings.losses import soft_focal, uncertain
from torch.nn import functional


def test_the_focal_loss_without_focus_is_the_cross_entropy() -> None:
    logits, target = torch.randn(5, 8), torch.randn(5, 8).softmax(1)
    weights = torch.rand(8) + 0.5
    plain = soft_focal(logits, target, torch.ones(8), gamma=0.0, smoothing=0.2)
    torch.testing.assert_close(plain, functional.cross_entropy(logits, target, label_smoothing=0.2))
    known = logits.softmax(1).double().numpy()
    mixed = 0.9 * target.double().numpy() + 0.1 / 8
    wanted = [-sum(weights[c].item() * mixed[b, c] * (1 - known[b, c]) ** 2 * np.log(known[b, c]) for c in range(8)) for b in range(5)]
    assert float(soft_focal(logits, target, weights)) == pytest.approx(np.mean(wanted), rel=1e-5)


@pytest.mark.parametrize("soft", [True, False])
def test_the_loss_of_the_audio_head(soft: bool) -> None:
    """Class by class as specified: the weight of a class in the target, before it is smoothed."""
    mu, logvar, target = torch.randn(4, 8), torch.randn(4, 8), torch.randn(4, 8).softmax(1)
    weights = torch.rand(8) + 0.5
    smoothing, share = (0.2, 0.01) if soft else (0.0, 0.5)
    total = 0.0
    for row in range(4):
        t = [(1 - smoothing) * target[row, c].item() * weights[c].item() + smoothing / 8 for c in range(8)]
        aim = t if soft else [1.0 if c == int(np.argmax(t)) else 0.0 for c in range(8)]
        p = torch.softmax(mu[row] / 1.5, 0).tolist()
        total += sum((mu[row, c].item() - aim[c]) ** 2 / np.exp(logvar[row, c].item()) + logvar[row, c].item() for c in range(8))
        total += share * sum(t[c] / sum(t) * np.log(t[c] / sum(t) / p[c]) for c in range(8))
    wanted = total / 4 + 0.01 * float(logvar.square().mean())
    assert float(uncertain(mu, logvar, target, weights, soft=soft)) == pytest.approx(wanted, rel=1e-4)
