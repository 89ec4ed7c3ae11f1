"""The published losses. B rows, C classes."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from affectkit_ras.audio_network import TEMPERATURE

SOFT = (0.2, 0.01)  # smoothing of the labels, and weight of the divergence, while the targets are soft
HARD = (0.0, 0.5)  # and afterwards
CALM = 0.01  # weight of the square of the logarithms of the variances


def soft_focal(logits: Tensor, target: Tensor, weights: Tensor, gamma: float = 2.0, smoothing: float = 0.1) -> Tensor:
    """Focal loss (Lin et al., arXiv 1708.02002) on soft labels, as Team RAS trained its feature fusion.

    With p the softmax of the logits, t the smoothed target and a the weights: the mean over rows of ``-sum_c a_c t_c (1 - p_c)^gamma log p_c``.

    Args:
        logits: (B, C) float.
        target: (B, C) float, rows sum to 1.
        weights: (C,) how much a class counts.
        gamma: how much less counts what is known already.
        smoothing: share of the target that goes to all classes alike.
    """
    target = (1 - smoothing) * target + smoothing / target.shape[1]
    known = logits.log_softmax(dim=1)
    return -(weights * target * (1 - known.exp()) ** gamma * known).sum(dim=1).mean()


def uncertain(mu: Tensor, logvar: Tensor, target: Tensor, weights: Tensor, *, soft: bool) -> Tensor:
    """The loss of the audio head (EmotionNLLLossStable of Team RAS): how likely the target is under a normal distribution for each class.

    The mean over rows of ``sum_c ((mu_c - y_c)^2 / exp(logvar_c) + logvar_c) + k KL(t / |t| || softmax(mu / 1.5))``, and a hundredth of the mean
    square of ``logvar``. The target t is the label times the weight of its class, then smoothed, so it may be greater than 1, as published; y is t
    itself while it is soft, and 1 at its largest class afterwards.

    Args:
        mu: (B, C) float means.
        logvar: (B, C) float logarithms of variances.
        target: (B, C) float, rows sum to 1.
        weights: (C,) how much a class counts.
        soft: whether this is the beginning of the training.
    """
    smoothing, share = SOFT if soft else HARD
    target = (1 - smoothing) * target * weights + smoothing / target.shape[1]
    aim = target if soft else functional.one_hot(target.argmax(dim=1), target.shape[1]).to(mu.dtype)
    likely = ((mu - aim).square() / logvar.exp() + logvar).sum(dim=1).mean()
    wanted = target / target.sum(dim=1, keepdim=True)
    divergence = functional.kl_div((mu / TEMPERATURE).log_softmax(dim=1), wanted, reduction="batchmean")
    loss: Tensor = likely + share * divergence + CALM * logvar.square().mean()
    return loss
