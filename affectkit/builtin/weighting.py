"""Networks that weigh sources by class. Nothing but torch code: import it late, the components are in ``class_weights``. N is rows, M sources, C classes."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from affectkit.errors import UsageError

COLDEST = 0.1  # version 5 divides by no smaller temperature


class Weighting(nn.Module):
    """A weighted sum of the sources per class: ``Q[n, c] = sum over m of W[m, c] P[n, m, c]``.

    Where sources are missing, the weights of those that are there are scaled up, per row and class, to the sum of all.

    Args:
        num_sources: M sources.
        num_classes: C classes.

    Raises:
        UsageError: for a number below 1.
    """

    def __init__(self, num_sources: int, num_classes: int) -> None:
        super().__init__()
        for name, value in (("num_sources", num_sources), ("num_classes", num_classes)):
            if value < 1:
                raise UsageError(f"{type(self).__name__} needs {name} of at least 1, found {value}")
        self.num_sources = num_sources
        self.num_classes = num_classes

    @abstractmethod
    def by_class(self) -> Tensor:
        """W (M, C), 0 or more; each column sums to 1 but in tables that were published otherwise."""

    def forward(self, probs: Tensor, valid: Tensor | None = None) -> Tensor:
        """Fuses the sources of each row.

        Args:
            probs: (N, M, C) probabilities, of a floating point type.
            valid: (N, M, C) bool, what is there; what is not has no influence, whatever its value. ``None``: all of it.

        Returns:
            (N, C) of the same type; NaN where nothing is valid, or nothing that is valid has a weight.

        Raises:
            UsageError: for other shapes or types.
        """
        check_rows(type(self).__name__, probs, valid, self.num_sources, self.num_classes)
        wide = torch.promote_types(probs.dtype, torch.float32)
        weights = self.by_class().to(wide)
        if valid is None:
            return torch.einsum("mc,nmc->nc", weights, probs.to(wide)).to(probs.dtype)
        return masked_sum(weights.log(), probs.to(wide), valid, weights.sum(dim=0)).to(probs.dtype)

    def extra_repr(self) -> str:
        """The two sizes."""
        return f"num_sources={self.num_sources}, num_classes={self.num_classes}"


class ClassWeights(Weighting):
    """Weights as they are, of ``core/dirichlet`` and ``core/convex``; equal ones at first.

    >>> fusion = ClassWeights(2, 3)
    >>> [round(value, 2) for value in fusion(torch.tensor([[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]]]))[0].tolist()]
    [0.4, 0.5, 0.1]
    """

    def __init__(self, num_sources: int, num_classes: int) -> None:
        super().__init__(num_sources, num_classes)
        self.weights = nn.Parameter(torch.full((num_sources, num_classes), 1 / num_sources), requires_grad=False)

    def by_class(self) -> Tensor:
        return self.weights


class ProbabilityFusion(Weighting):
    """Version 1 of team RAS: ``W = softmax over m of theta[m, c]``. It is MHPF with one head."""

    def __init__(self, num_sources: int, num_classes: int) -> None:
        super().__init__(num_sources, num_classes)
        self.weights = nn.Parameter(torch.rand(num_sources, num_classes))

    def by_class(self) -> Tensor:
        return self.weights.softmax(dim=0)


class ProbabilityFusionV3(Weighting):
    """Version 3 of team RAS, one weight per source: ``softmax over m of (K q)[m] / sqrt(C)``."""

    def __init__(self, num_sources: int, num_classes: int) -> None:
        super().__init__(num_sources, num_classes)
        self.query = nn.Parameter(torch.rand(num_classes, 1))
        self.keys = nn.Parameter(torch.rand(num_sources, num_classes))

    def by_class(self) -> Tensor:
        scores = (self.keys @ self.query) / math.sqrt(self.num_classes)
        return scores.softmax(dim=0).expand(-1, self.num_classes)


class ProbabilityFusionV4(ProbabilityFusion):
    """Version 4 of team RAS: version 1 and the mean, ``(1 - s) W + s / M`` with ``s = sigmoid(res_weight)``."""

    def __init__(self, num_sources: int, num_classes: int) -> None:
        super().__init__(num_sources, num_classes)
        self.res_weight = nn.Parameter(torch.tensor(0.1))

    def by_class(self) -> Tensor:
        share = self.res_weight.sigmoid()
        return (1 - share) * super().by_class() + share / self.num_sources


class ProbabilityFusionV5(ProbabilityFusion):
    """Version 5 of team RAS: ``softmax over m of theta[m, c] / max(temperature, 0.1)``."""

    def __init__(self, num_sources: int, num_classes: int) -> None:
        super().__init__(num_sources, num_classes)
        self.temperature = nn.Parameter(torch.tensor(1.0))

    def by_class(self) -> Tensor:
        return (self.weights / self.temperature.clamp_min(COLDEST)).softmax(dim=0)


VERSIONS: dict[str, type[Weighting]] = {
    "v1": ProbabilityFusion,
    "v3": ProbabilityFusionV3,
    "v4": ProbabilityFusionV4,
    "v5": ProbabilityFusionV5,
}
"""The published versions beside MHPF, which is version 6; version 2 fails for more than one row where it was published."""


class Gated(nn.Module):
    """Weights that depend on the row, of ``core/mhpf_gated``.

    For source m of row n, with features x (logarithms of its probabilities about their mean, how undecided it is, its quality figures) and the
    presence of all sources z::

        h[n, m]    = tanh(A_m x[n, m] + E_m z[n] + b_m)                       # H numbers
        W[n, m, c] = softmax over the valid m of theta[m, c] + (B_m h[n, m])[c]
        Q[n, c]    = sum over m of W[n, m, c] P[n, m, c]

    B is 0 at first, and theta too, so that it begins as the mean.

    Args:
        num_sources: M sources.
        num_classes: C classes.
        num_quality: Q quality figures per source; a source that has fewer is given zeros.
        hidden: H.

    Raises:
        UsageError: for a number below 1, or a negative number of figures.
    """

    def __init__(self, num_sources: int, num_classes: int, num_quality: int = 0, hidden: int = 4) -> None:
        super().__init__()
        if min(num_sources, num_classes, hidden) < 1 or num_quality < 0:
            raise UsageError(
                f"Gated needs num_sources, num_classes and hidden of at least 1, and num_quality of at least 0; "
                f"found {num_sources}, {num_classes}, {hidden} and {num_quality}"
            )
        self.num_sources, self.num_classes = num_sources, num_classes
        self.num_quality, self.hidden = num_quality, hidden
        size = num_classes + 1 + 2 * num_quality
        self.theta = nn.Parameter(torch.zeros(num_sources, num_classes))
        self.into = nn.Parameter(torch.randn(num_sources, size, hidden) / math.sqrt(size))
        self.there = nn.Parameter(torch.zeros(num_sources, num_sources, hidden))
        self.bias = nn.Parameter(torch.zeros(num_sources, hidden))
        self.out = nn.Parameter(torch.zeros(num_sources, hidden, num_classes))
        self.quality_mean = nn.Parameter(torch.zeros(num_sources, num_quality), requires_grad=False)
        self.quality_scale = nn.Parameter(torch.ones(num_sources, num_quality), requires_grad=False)

    def row_weights(self, probs: Tensor, valid: Tensor | None = None, quality: Tensor | None = None) -> Tensor:
        """W (N, M, C) of each row; columns sum to 1 over what is valid, and are NaN where nothing is. Arguments as in :meth:`forward`."""
        check_rows("Gated", probs, valid, self.num_sources, self.num_classes)
        wanted = (len(probs), self.num_sources, self.num_quality)
        if quality is not None and tuple(quality.shape) != wanted:
            raise UsageError(f"Gated expected quality of shape {wanted} beside probs {tuple(probs.shape)}, found {tuple(quality.shape)}")
        if valid is None:
            valid = torch.ones(probs.shape, dtype=torch.bool, device=probs.device)
        features = self._features(probs, valid, quality)
        present = valid.any(dim=2).to(features.dtype)
        inner = torch.einsum("nmf,mfh->nmh", features, self.into) + torch.einsum("nk,mkh->nmh", present, self.there) + self.bias
        scores = self.theta + torch.einsum("nmh,mhc->nmc", inner.tanh(), self.out)
        some = valid.any(dim=1, keepdim=True)
        weights = scores.masked_fill(~valid & some, -torch.inf).softmax(dim=1)
        return weights.masked_fill(~some, torch.nan)

    def forward(self, probs: Tensor, valid: Tensor | None = None, quality: Tensor | None = None) -> Tensor:
        """Fuses the sources of each row.

        Args:
            probs: (N, M, C) float32 probabilities.
            valid: (N, M, C) bool, what is there; what is not has no influence, whatever its value. ``None``: all of it.
            quality: (N, M, Q) figures in their own units, NaN where not known; ``None`` for none known.

        Returns:
            (N, C); NaN where nothing is valid.

        Raises:
            UsageError: for other shapes or types.
        """
        weights = self.row_weights(probs, valid, quality)
        there = probs if valid is None else probs.where(valid, torch.zeros_like(probs))
        return (weights * there).sum(dim=1)

    def _features(self, probs: Tensor, valid: Tensor, quality: Tensor | None) -> Tensor:
        """x (N, M, C + 1 + 2 Q): centred logarithms, normalised entropy, figures, and whether they are known; zeros for what is not valid."""
        there = valid.any(dim=2, keepdim=True)
        kept = probs.where(valid, torch.zeros_like(probs))
        rows = kept / kept.sum(dim=2, keepdim=True).clamp_min(1e-12)
        logs = rows.clamp_min(1e-4).log()  # below one in ten thousand it does not matter how small
        count = valid.sum(dim=2, keepdim=True).clamp_min(1)
        centred = (logs - (logs * valid).sum(dim=2, keepdim=True) / count) * valid / 4
        entropy = -(rows * logs).sum(dim=2, keepdim=True) / count.clamp_min(2).log() * there
        if quality is None:
            quality = probs.new_full((*probs.shape[:2], self.num_quality), torch.nan)
        known = ~quality.isnan() & there
        figures = ((quality - self.quality_mean) / self.quality_scale).clamp(-3, 3).where(known, torch.zeros_like(quality))
        return torch.cat([centred, entropy, figures, known.to(probs.dtype)], dim=2)


def masked_sum(log_weights: Tensor, probs: Tensor, valid: Tensor, total: Tensor | None = None) -> Tensor:
    """Sum over the second axis with weights that are shared among what is valid; on logarithms, so that the only one left may have a tiny weight.

    Args:
        log_weights: (M, C) logarithms, minus infinity for none.
        probs: (N, M, C); what is not valid has no influence.
        valid: (N, M, C) bool.
        total: (C,) what weights sum to; ``None`` for 1.

    Returns:
        (N, C); NaN where nothing that is valid has a weight.
    """
    heard = valid & log_weights.isfinite()
    some = heard.any(dim=1, keepdim=True)
    shares = torch.where(heard | ~some, log_weights.nan_to_num(neginf=0.0), -torch.inf).softmax(dim=1)
    found = (shares * torch.where(heard, probs, torch.zeros_like(probs))).sum(dim=1)
    return torch.where(some.squeeze(1), found if total is None else found * total, torch.nan)


def check_rows(name: str, probs: Tensor, valid: Tensor | None, sources: int, classes: int) -> None:
    """Refuses other shapes and types than (N, M, C) floats and bool.

    Raises:
        UsageError: showing what was expected and found.
    """
    if probs.ndim != 3 or tuple(probs.shape[1:]) != (sources, classes):
        raise UsageError(f"{name} expected probs of shape (N, {sources}, {classes}) (rows, sources, classes), found {tuple(probs.shape)}")
    if not probs.is_floating_point():
        raise UsageError(f"{name} expected probs of a floating point type, found {probs.dtype}")
    if valid is not None and (tuple(valid.shape) != tuple(probs.shape) or valid.dtype != torch.bool):
        raise UsageError(
            f"{name} expected valid to be bool of shape {tuple(probs.shape)}, as probs, found {valid.dtype} of {tuple(valid.shape)}"
        )
