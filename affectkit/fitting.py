"""What is fitted and measured beside a training: the temperature, the weights of classes, the metrics of a part with their intervals. N is rows, C classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from affectkit.errors import PluginError, UsageError
from affectkit.intervals import Tally, tally_classes, tally_dimensions, tally_units
from affectkit.labels import LabelSet

if TYPE_CHECKING:
    import torch

    from affectkit.trainings import Part

MAIN = {"categorical": "macro_f1", "multilabel": "mean_f1", "continuous": "mean_ccc"}
"""The metric that chooses the epoch where a recipe names none, by kind of label set."""

COLDEST, HOTTEST = 0.05, 20.0  # temperatures that are looked at


def fit_temperature(logits: torch.Tensor, truth: np.ndarray, kind: str = "categorical") -> float:
    """The temperature T with the smallest mean cross-entropy of ``logits / T`` (Guo et al. 2017, section 4.2).

    The loss is convex in 1 / T, so a search that narrows an interval of ln T by the golden section finds it; it stops at a ten-thousandth.

    Args:
        logits: (N, C) float.
        truth: (N,) int64 columns, or (N, C) values in [0, 1] for ``"multilabel"``; NaN says nothing.
        kind: of the label set.

    >>> import torch
    >>> round(fit_temperature(torch.tensor([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]]), np.array([0, 0, 0, 1])), 2)
    3.64
    """
    import torch
    from torch.nn import functional

    logits = logits.double()
    target = torch.from_numpy(np.asarray(truth))

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        if kind == "categorical":
            return float(functional.cross_entropy(scaled, target))
        said = ~target.isnan()
        return float(functional.binary_cross_entropy_with_logits(scaled[said], target[said].double()))

    low, high, ratio = float(np.log(COLDEST)), float(np.log(HOTTEST)), (5**0.5 - 1) / 2
    while high - low > 1e-4:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return float(np.exp((low + high) / 2))


def class_weights(truth: np.ndarray, labels: LabelSet, exponent: float) -> np.ndarray:
    """How much each class counts, (C,) float32: (mean rows of a class / its rows) to the power ``exponent``; classes without rows count 1.

    >>> from affectkit.labels import LabelSet
    >>> class_weights(np.array([0, 0, 1, 1, 1, 1]), LabelSet("pair", ("no", "yes")), 1.0).tolist()
    [1.5, 0.75]
    """
    if labels.kind == "continuous":
        return np.ones(len(labels), np.float32)
    counts = np.bincount(truth, minlength=len(labels)) if labels.kind == "categorical" else np.nansum(truth, axis=0)
    there = counts > 0
    return np.where(there, (counts[there].mean() / np.maximum(counts, 1e-9)) ** exponent, 1.0).astype(np.float32)


def even_chances(truth: np.ndarray, labels: LabelSet) -> np.ndarray:
    """How often each row is drawn so that classes are equally frequent, (N,) float64; a row of several classes counts as its rarest."""
    weights = class_weights(truth, labels, 1.0).astype(np.float64)
    if labels.kind == "categorical":
        return weights[truth]
    if labels.kind == "multilabel":
        return np.where(np.nan_to_num(truth) > 0, weights, 0.0).max(axis=1).clip(weights.min())
    raise PluginError(f"draw: even needs classes, and {labels.name} has quantities; write draw: shuffled")


def tally(labels: LabelSet, part: Part, values: np.ndarray, rows: np.ndarray | None = None) -> Tally:
    """Sums of a part per group, from which its metrics and their intervals are computed.

    Args:
        labels: the label set of the columns.
        part: the rows.
        values: (N, C) values of the label set.
        rows: (N,) bool of the rows that count; ``None`` for all.
    """
    keep = np.ones(len(part), dtype=bool) if rows is None else rows
    truth, groups, values = part.truth[keep], np.asarray(part.groups)[keep].astype(str), values[keep].astype(np.float64)
    if labels.kind == "categorical":
        return tally_classes(truth, values, groups, labels.labels)
    if labels.kind == "multilabel":
        return tally_units(truth.astype(np.float64), values, groups, labels.labels)
    return tally_dimensions(truth.astype(np.float64), values, groups, labels.labels)


def metrics(labels: LabelSet, part: Part, values: np.ndarray, rows: np.ndarray | None = None) -> dict[str, float]:
    """The metrics of :func:`tally` without intervals, by name."""
    return {name: float(found[0]) for name, found in tally(labels, part, values, rows).metrics().items()}


def check_disjoint(parts: Mapping[str, Part], owner: str) -> None:
    """Raises where a group (a speaker, a subject, a film) is in two parts.

    Raises:
        PluginError: naming the groups.
    """
    seen: dict[str, str] = {}
    for name, part in parts.items():
        for group in np.unique(np.asarray(part.groups).astype(str)).tolist():
            if group in seen:
                both = sorted(set(map(str, part.groups)) & set(map(str, parts[seen[group]].groups)))
                shown = ", ".join(both[:5]) + (f" and {len(both) - 5} more" if len(both) > 5 else "")
                raise PluginError(f"{owner}: {shown} in both {seen[group]} and {name}; no speaker, subject or film may be in two parts")
            seen[group] = name


def check_classes(truth: np.ndarray, labels: LabelSet, owner: str) -> None:
    """Raises where the rows that are learned from, (N,) int64 columns, are all of one class.

    Raises:
        UsageError: naming the class.
    """
    classes = np.unique(truth)
    if len(classes) < 2:
        raise UsageError(
            f"{owner}: all {len(truth)} rows to learn from are {labels.labels[classes[0]]}; there must be two of {', '.join(labels.labels)}"
        )


def halves(groups: np.ndarray, seed: int) -> np.ndarray:
    """(N,) bool that puts half of the groups, chosen by ``seed``, on one side.

    >>> halves(np.array(["a", "a", "b", "b"]), 0).sum()
    np.int64(2)
    """
    names = np.unique(groups)
    return np.isin(groups, np.random.default_rng(seed).permutation(names)[: len(names) // 2])
