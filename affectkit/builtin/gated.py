"""``core/mhpf_gated``: the component around :class:`affectkit.builtin.weighting.Gated`, its file of weights, and how they are fitted.

The file is that of :mod:`affectkit.builtin.fitted`; its header names the quality figures of each source in ``quality``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.builtin.fitted import Fitted, FittedFusion, Sharpening, check_named, read_header, save_fitted
from affectkit.components import Sources
from affectkit.errors import CheckpointError, UsageError
from affectkit.labels import LabelSet

if TYPE_CHECKING:
    import torch

    from affectkit.builtin.weighting import Gated

TENSORS = ("theta", "into", "there", "bias", "out", "quality_mean", "quality_scale")
SHAPES = "theta (M, C), into (M, C + 1 + 2 Q, H), there (M, M, H), bias (M, H), out (M, H, C), quality_mean (M, Q) and quality_scale (M, Q)"


class GatedFusion(FittedFusion):
    """``core/mhpf_gated``: weights per source and class that depend on the row.

    They read the sources' probabilities and how undecided they are, their quality figures, and which sources are there; see
    :class:`affectkit.builtin.weighting.Gated`. A figure that is not in the run counts as not known.
    """

    name = "mhpf_gated"
    made_as = "fusion_mhpf_gated.safetensors"

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._quality: tuple[tuple[str, ...], ...] = ()

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Loads the fitted weights and the names of their quality figures; errors as of every fitted fusion."""
        super().load(device, dtype)
        self._quality = load_gated(self.weights(), self.labels)[1]

    def made(self, sources: int) -> torch.nn.Module:
        from affectkit.builtin.weighting import Gated

        return Gated(sources, len(self.labels))

    def read(self, path: Path) -> Fitted:
        return load_gated(path, self.labels)[0]

    def save(
        self, path: Path, model: torch.nn.Module, sources: Sequence[str], record: Mapping[str, Any], sharpening: Sharpening | None = None
    ) -> None:
        save_gated(path, model, sources, [()] * len(sources), self.labels, record, sharpening)  # type: ignore[arg-type]

    def weigh(self, model: torch.nn.Module, values: torch.Tensor, valid: torch.Tensor | None, sources: Sources) -> torch.Tensor:
        quality = values.new_full((*values.shape[:2], model.num_quality), float("nan"))  # type: ignore[arg-type]
        for place, (source, names) in enumerate(zip(self.trained_for or (), self._quality, strict=True)):
            for column, name in enumerate(names):
                if (found := sources.quality.get(f"{source}:{name}")) is not None:
                    quality[:, place, column] = found.to(quality)
        fused: torch.Tensor = model(values, valid, quality)
        return fused


def save_gated(
    path: Path,
    model: Gated,
    sources: Sequence[str],
    quality: Sequence[Sequence[str]],
    labels: LabelSet,
    record: Mapping[str, Any],
    sharpening: Sharpening | None = None,
) -> None:
    """Writes fitted weights of ``core/mhpf_gated``.

    Args:
        path: the file, ending in .safetensors.
        model: the network.
        sources: M component ids in the order of the weights.
        quality: names of the quality figures of each source, in the order of the weights; at most as many as the network takes.
        labels: the label set of the C classes.
        record: as in :func:`affectkit.builtin.fitted.save_fitted`.
        sharpening: how sure its rows are made; ``None`` leaves them as they are.

    Raises:
        UsageError: where the figures do not match the network.
        ConfigError: where sources or labels do not.
    """
    names = [list(own) for own in quality]
    if len(names) != model.num_sources or any(len(own) > model.num_quality for own in names):
        raise UsageError(
            f"the network takes {model.num_quality} quality figures of each of {model.num_sources} sources, found {[len(own) for own in names]}"
        )
    save_fitted(path, "core/mhpf_gated", model, sources, labels, record, sharpening, {"quality": names})


def load_gated(path: Path, labels: LabelSet) -> tuple[Fitted, tuple[tuple[str, ...], ...]]:
    """Reads what :func:`save_gated` wrote: the network, and the names of the quality figures of each source.

    Args:
        path: the file.
        labels: the label set that its classes must be.

    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    from affectkit.builtin.weighting import Gated

    tensors, header, sharpening = read_header(path, TENSORS, labels, ("quality",))
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if (
        len(shapes["theta"]) != 2
        or len(shapes["bias"]) != 2
        or len(shapes["quality_mean"]) != 2
        or 0 in (*shapes["theta"], *shapes["bias"])
    ):
        raise CheckpointError(f"{path}: expected {SHAPES} with C = {len(labels)}, found {shapes}; fit it anew")
    sources = check_named(path, "theta", shapes["theta"][0], header["sources"])
    model = Gated(len(sources), len(labels), shapes["quality_mean"][1], shapes["bias"][1])
    if shapes != {name: tuple(value.shape) for name, value in model.state_dict().items()}:
        raise CheckpointError(f"{path}: expected {SHAPES} with C = {len(labels)}, found {shapes}; fit it anew")
    quality = header["quality"]
    fits = isinstance(quality, list) and len(quality) == len(sources)
    if not fits or not all(
        isinstance(own, list) and len(own) <= model.num_quality and all(isinstance(n, str) for n in own) for own in quality
    ):
        raise CheckpointError(f"{path}: its header must name the quality figures of {len(sources)} sources, found {quality}; fit it anew")
    model.load_state_dict(tensors)
    return Fitted(model, sources, labels.labels, header["record"], sharpening), tuple(tuple(own) for own in quality)


def fit_gated(
    values: np.ndarray,
    truth: np.ndarray,
    quality: np.ndarray | None = None,
    *,
    start: np.ndarray | None = None,
    hidden: int = 4,
    epochs: int = 60,
    lr: float = 0.02,
    decay: float = 0.1,
    dropped: float = 0.2,
    balanced: bool = False,
    seed: int = 0,
) -> Gated:
    """Fits weights that depend on the row, by the likelihood of the fused rows, with AdamW over all rows at once.

    Sources are left out at random while it learns, so that it knows what to do without them.

    Args:
        values: (N, M, C) probabilities; NaN is what is not valid.
        truth: (N,) int64 columns.
        quality: (N, M, Q) figures in their own units, NaN where not known; ``None`` for none.
        start: (M, C) weights to begin with, for instance those of :func:`affectkit.builtin.simplex.convex_fit`; ``None`` for equal ones.
        hidden: H.
        epochs: steps.
        lr: learning rate.
        decay: pull of what depends on the row to zero.
        dropped: share of the sources that are left out; at least one stays in every row.
        balanced: counts a row by the inverse of the rows of its class.
        seed: of the first parameters and of what is left out.

    Raises:
        UsageError: for shapes or numbers that cannot be, or where no row can be used.
    """
    import torch

    from affectkit.builtin.simplex import checked_rows
    from affectkit.builtin.weighting import Gated

    values, truth = checked_rows(values, truth)
    if epochs < 1 or not lr > 0 or decay < 0 or not 0 <= dropped < 1:
        raise UsageError(
            f"fit_gated needs epochs of at least 1, lr greater than 0, decay of at least 0 and dropped in [0, 1), found {epochs}, {lr}, {decay} and {dropped}"
        )
    keep = ~np.isnan(values[np.arange(len(truth)), :, truth]).all(axis=1)
    if not keep.any():
        raise UsageError(f"fit_gated has nothing to learn from: in none of {len(truth)} rows can a source say the true class")
    values, truth = values[keep], truth[keep]
    figures = np.zeros((*values.shape[:2], 0)) if quality is None else np.asarray(quality, dtype=np.float64)[keep]
    if figures.ndim != 3 or figures.shape[:2] != values.shape[:2]:
        raise UsageError(f"fit_gated expected quality (N, M, Q) beside values {values.shape}, found {figures.shape}")
    generator = torch.Generator().manual_seed(seed)
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    model = Gated(values.shape[1], values.shape[2], figures.shape[2], hidden)
    torch.set_rng_state(state)
    known = ~np.isnan(figures)
    count = known.sum(axis=0).clip(1)
    mean = np.nan_to_num(figures).sum(axis=0) / count
    spread = np.sqrt((np.where(known, figures - mean, 0.0) ** 2).sum(axis=0) / count)
    with torch.no_grad():
        model.quality_mean.copy_(torch.from_numpy(mean))
        model.quality_scale.copy_(torch.from_numpy(np.where(spread > 1e-6, spread, 1.0)))
        if start is not None:
            model.theta.copy_(torch.from_numpy(np.log(np.asarray(start).clip(1e-6))))
    rows = torch.from_numpy(np.nan_to_num(values)).float()
    valid = torch.from_numpy(~np.isnan(values))
    target = torch.from_numpy(truth)
    measured = torch.from_numpy(figures).float()
    counts = np.bincount(truth, minlength=values.shape[2])
    mass = torch.from_numpy(1 / counts[truth] if balanced else np.ones(len(truth))).float()
    fixed = [model.theta] if start is None else []  # weights to begin with are not forgotten again
    learned = [model.into, model.there, model.bias, model.out]
    model.theta.requires_grad_(start is None)
    optimiser = torch.optim.AdamW([{"params": learned, "weight_decay": decay}, {"params": fixed, "weight_decay": decay}], lr=lr)
    for _ in range(epochs):
        there = valid & _kept(valid, target, dropped, generator)
        fused = model(rows, there, measured).nan_to_num(0.0)
        hit = fused.gather(1, target[:, None]).squeeze(1) / fused.sum(dim=1).clamp_min(1e-12)
        loss = -(mass * hit.clamp_min(1e-12).log()).sum() / mass.sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.requires_grad_(False).eval()


def _kept(valid: torch.Tensor, target: torch.Tensor, dropped: float, generator: torch.Generator) -> torch.Tensor:
    """(N, M, 1) bool: which sources stay; in every row one that can say the true class does."""
    import torch

    says = valid.gather(2, target[:, None, None].expand(-1, valid.shape[1], 1)).squeeze(2)
    chance = torch.rand(says.shape, generator=generator)
    first = (chance + says).argmax(dim=1, keepdim=True)
    return ((chance >= dropped) | torch.zeros_like(says).scatter(1, first, True)).unsqueeze(2)
