"""How well predictions agree with references: pure functions on arrays.

Every metric is computed from sums over rows (a confusion matrix, counts, moments, bins), which are functions of their own: sums of single videos
add up to those of any resample of videos, which is what :mod:`affectkit.intervals` does.

What the rows cannot say is NaN: the recall of a class that does not occur, the precision of one that is never predicted.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from affectkit.errors import UsageError

Over = Literal["occurring", "all"]

BINS = 15  # of the calibration error, as in Guo et al. 2017
THRESHOLD = 0.5  # a unit is predicted from this probability on

_NOTHING = 1e-12  # variances below this share of the mean square are rounding of a constant


def predicted_class(values: np.ndarray) -> np.ndarray:
    """The class with the largest value; of equal ones the first.

    Args:
        values: (N, C) floats; NaN says nothing.

    Returns:
        (N,) int64 columns, -1 for rows that say nothing.

    >>> predicted_class(np.array([[0.2, 0.8], [np.nan, 0.1], [np.nan, np.nan]])).tolist()
    [1, 1, -1]
    """
    values = np.asarray(values, dtype=np.float64)
    said = ~np.isnan(values).all(axis=1)
    return np.where(said, np.argmax(np.where(np.isnan(values), -np.inf, values), axis=1), -1)


def confusion_matrix(reference: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """How often each reference class was predicted as which.

    Args:
        reference: (N,) int in [0, classes); -1 says nothing, and such rows are left out.
        predicted: (N,) int likewise.
        classes: C, the number of classes.

    Returns:
        (C, C) int64: rows are references, columns predictions.

    Raises:
        UsageError: for arrays that do not fit, or numbers that are no class.

    >>> confusion_matrix(np.array([0, 0, 1, -1]), np.array([0, 1, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    reference, predicted = _same_shape(np.asarray(reference), np.asarray(predicted), "confusion_matrix")
    for name, found in (("reference", reference), ("predicted", predicted)):
        if found.size and (not np.issubdtype(found.dtype, np.integer) or found.min() < -1 or found.max() >= classes):
            raise UsageError(
                f"confusion_matrix expected {name} classes as integers from 0 to {classes - 1}, or -1, found {found.dtype} "
                f"from {found.min()} to {found.max()}"
            )
    kept = (reference >= 0) & (predicted >= 0)
    return np.bincount(reference[kept] * classes + predicted[kept], minlength=classes * classes).reshape(classes, classes)


def precision(confusion: np.ndarray) -> np.ndarray:
    """Per class the share of its predictions that are right.

    Args:
        confusion: (..., C, C) counts as :func:`confusion_matrix` gives them.

    Returns:
        (..., C) float64; NaN where a class is never predicted.

    >>> precision(np.array([[1, 1], [0, 2]])).round(2).tolist()
    [1.0, 0.67]
    """
    return _share(_hits(confusion), np.sum(confusion, axis=-2))


def recall(confusion: np.ndarray) -> np.ndarray:
    """Per class the share of its references that are found.

    Args:
        confusion: (..., C, C) counts.

    Returns:
        (..., C) float64; NaN where a class does not occur.

    >>> recall(np.array([[1, 1], [0, 2]])).tolist()
    [0.5, 1.0]
    """
    return _share(_hits(confusion), np.sum(confusion, axis=-1))


def f1_per_class(confusion: np.ndarray) -> np.ndarray:
    """Per class the harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN) (van Rijsbergen 1979).

    Args:
        confusion: (..., C, C) counts.

    Returns:
        (..., C) float64; NaN where a class neither occurs nor is predicted.

    >>> f1_per_class(np.array([[1, 1, 0], [0, 2, 0], [0, 0, 0]])).round(2).tolist()
    [0.67, 0.8, nan]
    """
    return _share(2 * _hits(confusion), np.sum(confusion, axis=-1) + np.sum(confusion, axis=-2))


def macro_f1(confusion: np.ndarray, over: Over = "occurring") -> np.ndarray:
    """Mean of F1 over classes.

    Args:
        confusion: (..., C, C) counts.
        over: ``"occurring"``: the classes that the reference has. A class that is predicted and never occurs does not count as one more class
            with an F1 of 0; its predictions count as errors of the true classes. ``"all"``: all C classes, 0 for those without an F1,
            as the ABAW challenges score, ``f1_score(labels=range(C), average="macro", zero_division=0)`` of scikit-learn.

    Returns:
        (...) float64; NaN where nothing occurs.

    >>> confusion = np.array([[3, 0, 1], [0, 4, 0], [0, 0, 0]])
    >>> float(macro_f1(confusion).round(3)), float(macro_f1(confusion, over="all").round(3))
    (0.929, 0.619)
    """
    f1 = f1_per_class(confusion)
    occurs = np.sum(confusion, axis=-1) > 0
    if over == "occurring":
        return mean_where(f1, occurs)
    if over == "all":
        return np.where(occurs.any(axis=-1), np.nan_to_num(f1).mean(axis=-1), np.nan)
    raise UsageError(f"macro_f1 averages over 'occurring' or 'all' classes, not {over!r}")


def uar(confusion: np.ndarray) -> np.ndarray:
    """Unweighted average recall: the mean of recall over the classes that occur (Schuller et al. 2009).

    Args:
        confusion: (..., C, C) counts.

    Returns:
        (...) float64; NaN where nothing occurs.

    >>> float(uar(np.array([[1, 1, 0], [0, 2, 0], [0, 0, 0]])))
    0.75
    """
    return mean_where(recall(confusion), np.sum(confusion, axis=-1) > 0)


def war(confusion: np.ndarray) -> np.ndarray:
    """Weighted average recall, which is accuracy: the share of rows that are right.

    Args:
        confusion: (..., C, C) counts.

    Returns:
        (...) float64; NaN without rows.

    >>> float(war(np.array([[1, 1], [0, 2]])))
    0.75
    """
    return _share(_hits(confusion).sum(axis=-1), np.sum(confusion, axis=(-2, -1)))


def ccc(reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Concordance correlation, 2 s_xy / (s_x^2 + s_y^2 + (mean_x - mean_y)^2) with population moments (Lin 1989; ABAW, Kollias 2022, eq. 1).

    A constant prediction of a reference that varies has 0. Where both are constant and equal there is nothing that could agree: NaN.

    Args:
        reference: (N,) or (N, D) floats; NaN says nothing, and such rows are left out, in each dimension on its own.
        predicted: likewise, on the same scale.

    Returns:
        () or (D,) float64 in [-1, 1]; NaN without rows.

    >>> x = np.array([0.0, 0.5, 1.0, np.nan])
    >>> float(ccc(x, x)), float(ccc(x, np.full(4, 0.3))), round(float(ccc(x, x + 0.5)), 3)
    (1.0, 0.0, 0.571)
    """
    reference, predicted = _same_shape(np.asarray(reference, dtype=np.float64), np.asarray(predicted, dtype=np.float64), "ccc")
    columns = (reference, predicted) if reference.ndim > 1 else (reference[:, None], predicted[:, None])
    found = concordance(moments(*columns, np.zeros(len(reference), dtype=np.int64), 1))[0]
    return found.reshape(reference.shape[1:])


def unit_f1(reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Binary F1 of each unit; their mean is the score of the ABAW action unit track.

    Args:
        reference: (N, C) 0 or 1; NaN says nothing, and such rows are left out, for each unit on its own.
        predicted: (N, C) 0 or 1, or NaN.

    Returns:
        (C,) float64; 0 for a unit that neither occurs nor is predicted, as scikit-learn with ``zero_division=0``; NaN without rows.

    >>> unit_f1(np.array([[1, 0], [1, 0], [0, 0]]), np.array([[1, 0], [0, 0], [0, 0]])).round(2).tolist()
    [0.67, 0.0]
    """
    reference, predicted = _same_shape(np.asarray(reference, dtype=np.float64), np.asarray(predicted, dtype=np.float64), "unit_f1")
    counts = count_units(reference, predicted, np.zeros(len(reference), dtype=np.int64), 1)
    return unit_scores(counts)[0]


def ece(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: how far confidence is from accuracy, over bins of equal width (Guo et al. 2017, eq. 3).

    Args:
        confidence: (N,) probability of the predicted class in [0, 1]; NaN rows are left out.
        correct: (N,) bool, whether that class is right.
        bins: how many; bin m holds confidences in ((m - 1) / bins, m / bins].

    Returns:
        A number in [0, 1]; NaN without rows.

    >>> round(ece(np.array([0.9, 0.9, 0.6]), np.array([True, False, True])), 3)
    0.4
    """
    confidence, correct = _same_shape(np.asarray(confidence, dtype=np.float64), np.asarray(correct), "ece")
    return float(calibration_error(bin_confidence(confidence, correct, np.zeros(len(confidence), dtype=np.int64), 1, bins))[0])


def count_units(reference: np.ndarray, predicted: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Counts of true positives, false positives, false negatives and true negatives per group and unit.

    Args:
        reference: (N, C) 0 or 1, NaN says nothing.
        predicted: (N, C) 0 or 1, NaN says nothing.
        group: (N,) int64 in [0, groups).
        groups: V.

    Returns:
        (V, C, 4) float64.
    """
    said = ~np.isnan(reference) & ~np.isnan(predicted)
    yes, guess = reference > 0, predicted > 0
    parts = np.stack([yes & guess, ~yes & guess, yes & ~guess, ~yes & ~guess], axis=-1) & said[..., None]
    return _sum_by(parts.astype(np.float64), group, groups)


def unit_scores(counts: np.ndarray) -> np.ndarray:
    """F1 of counts (..., C, 4) as :func:`count_units` gives them: (..., C) float64, as :func:`unit_f1` documents it."""
    hit, false, missed = counts[..., 0], counts[..., 1], counts[..., 2]
    return np.where(counts.sum(axis=-1) > 0, np.nan_to_num(_share(2 * hit, 2 * hit + false + missed)), np.nan)


def moments(reference: np.ndarray, predicted: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """What :func:`concordance` is computed from, per group and dimension: rows, sums of x, y, x x, y y, x y, and the origins of x and y.

    The sums are of values less their first one, so that a constant has a variance of exactly 0.

    Args:
        reference: (N, D) floats, x; NaN says nothing.
        predicted: (N, D) floats, y; NaN says nothing.
        group: (N,) int64 in [0, groups).
        groups: V.

    Returns:
        (V, D, 8) float64.
    """
    said = ~np.isnan(reference) & ~np.isnan(predicted)
    first = np.argmax(said, axis=0)[None] if len(said) else np.zeros((1, reference.shape[1]), dtype=np.int64)
    origins = [np.take_along_axis(a, first, axis=0) if len(a) else np.zeros((1, a.shape[1])) for a in (reference, predicted)]
    x, y = (np.where(said, a - origin, 0.0) for a, origin in zip((reference, predicted), origins, strict=True))
    ones = said.astype(np.float64)
    away = [np.where(said, origin, 0.0) for origin in origins]
    return _sum_by(np.stack([ones, x, y, x * x, y * y, x * y, *away], axis=-1), group, groups)


def concordance(sums: np.ndarray) -> np.ndarray:
    """CCC of sums (..., D, 8) as :func:`moments` gives them: (..., D) float64, as :func:`ccc` documents it."""
    n = np.where(sums[..., 0] > 0, sums[..., 0], np.nan)
    x, y, xx, yy, xy, from_x, from_y = (sums[..., i] / n for i in range(1, 8))
    var_x, var_y = _variance(x, xx), _variance(y, yy)
    covariance = np.where((var_x > 0) & (var_y > 0), xy - x * y, 0.0 * n)
    apart = (x + from_x) - (y + from_y)
    apart = np.where(np.abs(apart) <= _NOTHING * (np.abs(x + from_x) + np.abs(y + from_y)), 0.0, apart)
    return _share(2 * covariance, var_x + var_y + apart**2)


def bin_confidence(confidence: np.ndarray, correct: np.ndarray, group: np.ndarray, groups: int, bins: int = BINS) -> np.ndarray:
    """What :func:`calibration_error` is computed from, per group and bin: rows, sum of confidence, rows that are right.

    Args:
        confidence: (N,) or (N, C) in [0, 1]; NaN is left out.
        correct: bool of the same shape.
        group: (N,) int64 in [0, groups).
        groups: V.
        bins: how many bins of equal width.

    Returns:
        (V, bins, 3) or (V, C, bins, 3) float64.
    """
    said = ~np.isnan(confidence)
    chosen = np.clip(np.ceil(np.where(said, confidence, 0.0) * bins).astype(np.int64) - 1, 0, bins - 1)
    out = np.zeros((groups, *confidence.shape[1:], bins, 3))
    at = np.broadcast_to(group.reshape(-1, *[1] * (confidence.ndim - 1)), confidence.shape)[said]
    columns = [index[said] for index in np.indices(confidence.shape)[1:]]
    np.add.at(
        out, (at, *columns, chosen[said]), np.stack([np.ones(said.sum()), confidence[said], correct[said].astype(np.float64)], axis=-1)
    )
    return out


def calibration_error(binned: np.ndarray) -> np.ndarray:
    """ECE of bins (..., bins, 3) as :func:`bin_confidence` gives them: (...) float64, NaN without rows."""
    return _share(np.abs(binned[..., 2] - binned[..., 1]).sum(axis=-1), binned[..., 0].sum(axis=-1))


def _hits(confusion: np.ndarray) -> np.ndarray:
    return np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)


def _variance(mean: np.ndarray, mean_square: np.ndarray) -> np.ndarray:
    found = mean_square - mean**2
    return np.where(found <= _NOTHING * mean_square, 0.0 * mean, found)  # what is left of a constant is rounding


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan), where=whole > 0)


def mean_where(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Mean over the last axis of the values that are counted; NaN where none is."""
    return _share(np.where(counted, values, 0.0).sum(axis=-1), counted.sum(axis=-1))


def _sum_by(values: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    out = np.zeros((groups, *values.shape[1:]))
    np.add.at(out, group, values)
    return out


def _same_shape(a: np.ndarray, b: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
    if a.shape != b.shape:
        raise UsageError(f"{what} expected two arrays of the same shape, found {a.shape} and {b.shape}")
    return a, b
