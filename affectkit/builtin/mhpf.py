"""Multi-Head Probability Fusion as a network. Nothing but torch code: import it late, the component is in ``fusion``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from affectkit.errors import UsageError

Loss = Literal["nll", "paper"]

PUBLISHED: Mapping[str, Any] = {"loss": "paper", "lr": 1e-4, "batch_size": 64, "epochs": 100, "weight": "balanced"}
"""How team RAS fitted it, for :meth:`MHPF.fit`."""
TINY = 1e-12  # a probability of 0 for what happened costs -ln(1e-12) = 27.6 nats, not infinity


@dataclass(frozen=True)
class FitRecord:
    """How :meth:`MHPF.fit` came to its weights; travels with them.

    Attributes:
        rows: rows that were used.
        left_out: rows without any valid source, or whose target no valid source can say.
        counts: rows used per class.
        loss: ``"nll"`` or ``"paper"``.
        epochs: passes over the rows; all of them are made, nothing stops early.
        lr: learning rate of Adam.
        weight: ``"balanced"`` or ``None``.
        batch_size: rows per step, ``None`` for all.
        seed: seed of the first parameters and of the order of rows.
        loss_of_mean: the loss with equal weights, on the rows used.
        losses: the loss on the rows used, before the first and after each epoch.
    """

    rows: int
    left_out: int
    counts: tuple[int, ...]
    loss: str
    epochs: int
    lr: float
    weight: str | None
    batch_size: int | None
    seed: int
    loss_of_mean: float
    losses: tuple[float, ...]


class MHPF(nn.Module):
    """Multi-Head Probability Fusion (Team RAS, 9th ABAW, arXiv 2507.02205): learned weights per source and class.

    With parameters theta (``head_weights``) and a (``head_combine``)::

        w[h, m, c] = softmax over m of theta[h, m, c]
        W[m, c]    = sum over h of softmax(a)[h] * w[h, m, c]           # sums to 1 over m
        Q[n, c]    = sum over m of W[m, c] * P[n, m, c]

    Rows of Q need not sum to 1. Where sources are missing, W is renormalised, per row and class, over those that are there.

    Args:
        num_sources: M sources.
        num_classes: C classes.
        num_heads: H heads; any number of them can express the same W, they only change the way it is learned.

    Raises:
        UsageError: for a number below 1.

    >>> fusion = MHPF(num_sources=2, num_classes=3)
    >>> probs = torch.tensor([[[0.7, 0.2, 0.1], [torch.nan, torch.nan, torch.nan]]])
    >>> fusion(probs, valid=torch.tensor([[True, False]])).tolist() == probs[:, 0].tolist()
    True
    """

    def __init__(self, num_sources: int, num_classes: int, num_heads: int = 3) -> None:
        super().__init__()
        for name, value in (("num_sources", num_sources), ("num_classes", num_classes), ("num_heads", num_heads)):
            if value < 1:
                raise UsageError(f"MHPF needs {name} of at least 1, found {value}")
        self.num_sources = num_sources
        self.num_classes = num_classes
        self.num_heads = num_heads
        self.head_weights = nn.Parameter(torch.rand(num_heads, num_sources, num_classes))
        self.head_combine = nn.Parameter(torch.rand(num_heads))

    def weights(self) -> Tensor:
        """W (M, C), the weight of each source per class; each column sums to 1."""
        return torch.einsum("h,hmc->mc", self.head_combine.softmax(dim=0), self.head_weights.softmax(dim=1))

    def forward(self, probs: Tensor, valid: Tensor | None = None) -> Tensor:
        """Fuses the sources of each row.

        Args:
            probs: (N, M, C) probabilities, of a floating point type.
            valid: (N, M) or (N, M, C) bool, what is there; what is not has no influence, whatever its value. ``None``: all of it.

        Returns:
            (N, C) of the same type; NaN where nothing is valid.

        Raises:
            UsageError: for other shapes or types.
        """
        self._check(probs, valid)
        wide = torch.promote_types(probs.dtype, self.head_weights.dtype)
        if valid is None:
            return torch.einsum("mc,nmc->nc", self.weights().to(wide), probs.to(wide)).to(probs.dtype)
        valid = (valid if valid.ndim == 3 else valid.unsqueeze(2)).expand(probs.shape)
        some = valid.any(dim=1, keepdim=True)
        # In the logarithm, because the weight of the only valid source may be too small for a float to hold.
        log_weights = torch.where(valid | ~some, self._log_weights().to(wide), -torch.inf)
        terms = log_weights.softmax(dim=1) * torch.where(valid, probs, torch.zeros_like(probs)).to(wide)
        return torch.where(some.squeeze(1), terms.sum(dim=1), torch.nan).to(probs.dtype)

    def fit(
        self,
        probs: Tensor,
        targets: Tensor,
        valid: Tensor | None = None,
        *,
        loss: Loss = "nll",
        epochs: int = 300,
        lr: float = 0.05,
        weight: Literal["balanced"] | None = None,
        batch_size: int | None = None,
        seed: int = 0,
    ) -> FitRecord:
        """Fits both parameters anew, with Adam. Every epoch is made: nothing is held back and nothing stops early.

        Args:
            probs: (N, M, C) probabilities, as :meth:`forward` takes them.
            targets: (N,) int64 classes in [0, C).
            valid: as :meth:`forward` takes it.
            loss: ``"nll"`` is the negative log likelihood of the fused rows, normalised to sum to 1. ``"paper"`` is what was
                published: cross entropy with Q as logits, a second softmax over what are probabilities already.
            epochs: passes over the rows.
            lr: learning rate; 1e-4 was published.
            weight: ``"balanced"`` weighs a class by the inverse of its number of rows, ``None`` counts every row alike.
            batch_size: rows per step, in shuffled order; ``None`` takes all rows in each step. 64 was published.
            seed: seed of the first parameters and of the order of rows.

        Returns:
            The record of the training.

        Raises:
            UsageError: for shapes or options that cannot be, or where no row can be used.
        """
        self._check(probs, valid)
        self._check_fit(probs, targets, loss, epochs, lr, weight, batch_size)
        probs, targets, valid, left_out = self._usable(probs, targets, valid)
        device = self.head_weights.device
        generator = torch.Generator().manual_seed(seed)
        counts = torch.bincount(targets, minlength=self.num_classes)
        class_weights = _class_weights(counts, weight).to(probs)

        def mean_loss(rows: Tensor | slice) -> Tensor:
            fused = self(probs[rows], None if valid is None else valid[rows])
            return _loss(fused, targets[rows], class_weights, loss)

        with torch.no_grad():
            self.head_weights.zero_()
            self.head_combine.zero_()
            loss_of_mean = float(mean_loss(slice(None)))
            self.head_weights.copy_(torch.rand(self.head_weights.shape, generator=generator).to(device))
            self.head_combine.copy_(torch.rand(self.head_combine.shape, generator=generator).to(device))
            losses = [float(mean_loss(slice(None)))]
        optimiser = torch.optim.Adam(self.parameters(), lr=lr)
        for _ in range(epochs):
            one_pass(optimiser, mean_loss, len(probs), batch_size, generator)
            with torch.no_grad():
                losses.append(float(mean_loss(slice(None))))
        return FitRecord(
            rows=len(probs),
            left_out=left_out,
            counts=tuple(counts.tolist()),
            loss=loss,
            epochs=epochs,
            lr=lr,
            weight=weight,
            batch_size=batch_size,
            seed=seed,
            loss_of_mean=loss_of_mean,
            losses=tuple(losses),
        )

    def extra_repr(self) -> str:
        """The three sizes."""
        return f"num_sources={self.num_sources}, num_classes={self.num_classes}, num_heads={self.num_heads}"

    def _log_weights(self) -> Tensor:
        """ln W (M, C)."""
        per_head = self.head_weights.log_softmax(dim=1)
        return (self.head_combine.log_softmax(dim=0)[:, None, None] + per_head).logsumexp(dim=0)

    def _check(self, probs: Tensor, valid: Tensor | None) -> None:
        sizes = f"(N, {self.num_sources}, {self.num_classes})"
        if probs.ndim != 3 or tuple(probs.shape[1:]) != (self.num_sources, self.num_classes):
            raise UsageError(f"MHPF expected probs of shape {sizes} (rows, sources, classes), found {tuple(probs.shape)}")
        if not probs.is_floating_point():
            raise UsageError(f"MHPF expected probs of a floating point type, found {probs.dtype}")
        if valid is None:
            return
        if tuple(valid.shape) not in (tuple(probs.shape), tuple(probs.shape[:2])):
            wanted = f"{tuple(probs.shape[:2])} or {tuple(probs.shape)}"
            raise UsageError(f"MHPF expected valid of shape {wanted} beside probs {tuple(probs.shape)}, found {tuple(valid.shape)}")
        if valid.dtype != torch.bool:
            raise UsageError(f"MHPF expected valid to be bool, found {valid.dtype}")

    def _check_fit(
        self, probs: Tensor, targets: Tensor, loss: str, epochs: int, lr: float, weight: str | None, batch_size: int | None
    ) -> None:
        if tuple(targets.shape) != (len(probs),):
            raise UsageError(f"MHPF.fit expected targets of shape ({len(probs)},), one per row, found {tuple(targets.shape)}")
        if targets.is_floating_point() or targets.dtype == torch.bool:
            raise UsageError(f"MHPF.fit expected targets to be whole numbers (classes), found {targets.dtype}")
        if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < self.num_classes:
            raise UsageError(f"MHPF.fit expected targets in [0, {self.num_classes}), found {int(targets.min())} to {int(targets.max())}")
        if loss not in ("nll", "paper"):
            raise UsageError(f"MHPF.fit has the losses nll and paper, not {loss!r}")
        if weight not in (None, "balanced"):
            raise UsageError(f"MHPF.fit takes weight='balanced' or None, found {weight!r}")
        if epochs < 1 or not (math.isfinite(lr) and lr > 0) or (batch_size is not None and batch_size < 1):
            raise UsageError(f"MHPF.fit needs epochs, lr and batch_size greater than 0, found {epochs}, {lr} and {batch_size}")

    def _usable(self, probs: Tensor, targets: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None, int]:
        """The rows whose target some valid source can say, on the device of the parameters, and how many others there are."""
        device = self.head_weights.device
        targets = targets.to(device=device, dtype=torch.int64)
        probs = probs.detach().to(device)
        if valid is None:
            keep = torch.ones(len(probs), dtype=torch.bool, device=device)
        else:
            valid = (valid if valid.ndim == 3 else valid.unsqueeze(2)).to(device).expand(probs.shape)
            keep = valid.any(dim=1).gather(1, targets[:, None]).squeeze(1)
            valid = valid[keep]
        if not keep.any():
            raise UsageError(f"MHPF.fit has nothing to learn from: in none of {len(probs)} rows can a valid source say the target")
        probs = probs[keep]
        there = probs if valid is None else probs[valid]
        if not torch.isfinite(there).all():
            raise UsageError("MHPF.fit found values that are not finite where probs are valid; mark them in valid")
        return probs, targets[keep], valid, int((~keep).sum())


def fit_as_published(network: nn.Module, probs: Tensor, targets: Tensor, valid: Tensor, *, seed: int = 0) -> None:
    """Fits another fusion of team RAS as they fitted MHPF (:data:`PUBLISHED`), in place.

    Args:
        network: one of :data:`affectkit.builtin.weighting.VERSIONS`.
        probs: (N, M, C) probabilities.
        targets: (N,) int64 classes in [0, C).
        valid: (N, M, C) bool, what is there; rows whose target no valid source says are left out.
        seed: of the order of rows.
    """
    keep = valid.any(dim=1).gather(1, targets[:, None]).squeeze(1)
    probs, targets, valid = probs[keep], targets[keep], valid[keep]
    weights = _class_weights(torch.bincount(targets, minlength=probs.shape[2]), PUBLISHED["weight"]).to(probs)
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=PUBLISHED["lr"])

    def mean_loss(rows: Tensor) -> Tensor:
        return _loss(network(probs[rows], valid[rows]), targets[rows], weights, PUBLISHED["loss"])

    for _ in range(PUBLISHED["epochs"]):
        one_pass(optimiser, mean_loss, len(probs), PUBLISHED["batch_size"], generator)


def one_pass(
    optimiser: torch.optim.Optimizer, mean_loss: Callable[[Tensor], Tensor], count: int, batch_size: int | None, generator: torch.Generator
) -> None:
    """Goes through ``count`` rows once, in an order of the generator, in steps of ``batch_size`` rows; ``None`` takes all at once."""
    for rows in torch.randperm(count, generator=generator).split(batch_size or count):
        optimiser.zero_grad()
        mean_loss(rows).backward()
        optimiser.step()


def _class_weights(counts: Tensor, weight: str | None) -> Tensor:
    """(C,) weight of a row by its class: 1, or N / (number of classes present * rows of the class)."""
    if weight is None:
        return torch.ones(len(counts), dtype=torch.float64)
    present = counts > 0
    return torch.where(present, counts.sum() / (present.sum() * counts.clamp(min=1)).double(), 0.0)


def _loss(fused: Tensor, targets: Tensor, class_weights: Tensor, loss: str) -> Tensor:
    """Weighted mean loss of fused rows (N, C); classes that nobody can say are left out of the normalisation."""
    said = ~fused.isnan()
    if loss == "paper":
        return functional.cross_entropy(torch.where(said, fused, -torch.inf), targets, weight=class_weights)
    fused = torch.where(said, fused, torch.zeros_like(fused))
    hit = fused.gather(1, targets[:, None]).squeeze(1) / fused.sum(dim=1).clamp(min=TINY)
    weights = class_weights[targets]
    return -(weights * hit.clamp(min=TINY).log()).sum() / weights.sum()
