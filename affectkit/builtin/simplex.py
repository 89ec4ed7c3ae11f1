"""Weights of sources per class, fitted: the random search of AVCER, and the likelihood of mixtures. N is rows, M sources, C classes.

What these functions fit is W (M, C), each column of which is a point of the simplex; the fused row is
``Q[n, c] = sum over the valid m of W[m, c] P[n, m, c] / sum over the valid m of W[m, c]``. They are for rows by the thousand, in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from affectkit.errors import UsageError, did_you_mean

Criterion = Literal["macro_f1", "uar", "uar_emotions", "war", "nll"]
Method = Literal["eg", "em"]

CRITERIA: tuple[Criterion, ...] = ("macro_f1", "uar", "uar_emotions", "war", "nll")
TINY = 1e-12
LEAST = 1e-6  # weight of a source that a fit would give none: alone, it must still speak
BLOCK = 4_000_000  # numbers that a search holds at once: 32 MB


@dataclass(frozen=True)
class Found:
    """Weights that were fitted.

    Attributes:
        weights: (M, C) float64; columns sum to 1.
        score: what was made as large as possible, on the rows it was fitted on: the criterion, or the mean log likelihood in nats.
        of_mean: the same with equal weights.
        steps: draws or steps that were made.
    """

    weights: np.ndarray
    score: float
    of_mean: float
    steps: int


def fuse_rows(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Fused rows (N, C), NaN where nothing is valid.

    Args:
        weights: (M, C) float, 0 or more.
        values: (N, M, C) float; NaN is what is not valid.

    >>> fuse_rows(np.array([[0.25], [0.75]]), np.array([[[0.4], [0.8]], [[0.4], [np.nan]]])).round(2).tolist()
    [[0.7], [0.4]]
    """
    valid = ~np.isnan(values)
    total = (weights * valid).sum(axis=1)
    return np.divide((weights * np.nan_to_num(values)).sum(axis=1), total, out=np.full(total.shape, np.nan), where=total > 0)


def score_rows(fused: np.ndarray, truth: np.ndarray, criterion: Criterion, neutral: int | None = None) -> np.ndarray:
    """How good fused rows are: higher is better.

    Args:
        fused: (..., N, C) floats; NaN is a class that nobody says, and a row of NaN is an answer that is wrong.
        truth: (N,) int64 columns.
        criterion: ``"macro_f1"`` and ``"uar"`` are means over the classes that occur in ``truth``; ``"uar_emotions"`` leaves
            ``neutral`` out of the mean, as AVCER does; ``"war"`` is the share of right rows; ``"nll"`` the mean logarithm of the
            share of the true class.
        neutral: the column of neutral, for ``"uar_emotions"``.

    Returns:
        (...) float64.

    Raises:
        UsageError: for another criterion.

    >>> rows = np.array([[0.7, 0.3], [0.6, 0.4], [0.1, 0.9]])
    >>> score_rows(rows, np.array([0, 1, 1]), "uar").item()
    0.75
    """
    if criterion not in CRITERIA:
        raise UsageError(f"there is no criterion {criterion!r}. {did_you_mean(str(criterion), CRITERIA)}")
    filled = np.where(np.isnan(fused), 0.0, fused)
    if criterion == "nll":
        share = np.take_along_axis(
            filled, truth[..., :, None] if fused.ndim == 2 else np.broadcast_to(truth[:, None], (*fused.shape[:-1], 1)), -1
        )
        return np.asarray(np.log((share[..., 0] / filled.sum(axis=-1).clip(TINY)).clip(TINY)).mean(axis=-1))
    classes = fused.shape[-1]
    chosen = np.where(np.isnan(fused).all(axis=-1), -1, filled.argmax(axis=-1))
    right = chosen == truth
    if criterion == "war":
        return np.asarray(right.mean(axis=-1))
    is_true = truth[:, None] == np.arange(classes)
    hits = (right[..., :, None] & is_true).sum(axis=-2)
    counts = is_true.sum(axis=0)
    used = counts > 0
    if criterion == "uar_emotions":
        if neutral is None:
            raise UsageError("the criterion uar_emotions leaves neutral out; say which column neutral is")
        used = used & (np.arange(classes) != neutral)
    if criterion in ("uar", "uar_emotions"):
        return np.asarray((hits[..., used] / counts[used]).mean(axis=-1))
    said = np.stack([(chosen == column).sum(axis=-1) for column in range(classes)], axis=-1)
    return np.asarray((2 * hits[..., used] / (counts[used] + said[..., used])).mean(axis=-1))


def dirichlet_search(
    values: np.ndarray,
    truth: np.ndarray,
    criterion: Criterion = "uar_emotions",
    *,
    draws: int = 10_000,
    concentration: float = 1.0,
    neutral: int | None = 0,
    seed: int = 42,
) -> Found:
    """The best of many weights that are drawn at random, class by class, from a Dirichlet distribution (AVCER, 6th ABAW).

    Equal weights are the first that are tried, so what is found is never worse than they are on the rows it is fitted on.

    Args:
        values: (N, M, C) float; NaN is what is not valid.
        truth: (N,) int64 columns.
        criterion: as in :func:`score_rows`; AVCER took ``"uar_emotions"``.
        draws: how many weights are tried; AVCER tried 10,000.
        concentration: 1 draws evenly from the simplex, as AVCER did; a larger one nearer to equal weights.
        neutral: as in :func:`score_rows`.
        seed: of the draws; AVCER's is 42.

    Raises:
        UsageError: for shapes or numbers that cannot be.
    """
    values, truth = checked_rows(values, truth)
    if draws < 1 or not concentration > 0:
        raise UsageError(
            f"dirichlet_search needs draws of at least 1 and a concentration greater than 0, found {draws} and {concentration}"
        )
    rows, sources, classes = values.shape
    random = np.random.default_rng(seed)
    filled, valid = np.nan_to_num(values), (~np.isnan(values)).astype(np.float64)
    partial = bool((valid == 0).any())
    best = np.full((sources, classes), 1 / sources)
    of_mean = score = float(score_rows(fuse_rows(best, values), truth, criterion, neutral))
    step = max(1, BLOCK // (rows * classes))
    for begin in range(0, draws, step):
        count = min(step, draws - begin)
        drawn = random.dirichlet(np.full(sources, concentration), (count, classes)).transpose(0, 2, 1)
        fused = np.einsum("dmc,nmc->dnc", drawn, filled, optimize=True)
        if partial:
            total = np.einsum("dmc,nmc->dnc", drawn, valid, optimize=True)
            fused = np.divide(fused, total, out=np.full_like(fused, np.nan), where=total > 0)
        scores = score_rows(fused, truth, criterion, neutral)
        place = int(scores.argmax())
        if scores[place] > score:
            best, score = drawn[place], float(scores[place])
    return Found(_floored(best), score, of_mean, draws)


def log_likelihood(weights: np.ndarray, values: np.ndarray, truth: np.ndarray, row_weights: np.ndarray | None = None) -> float:
    """Mean logarithm, in nats, of the share of the true class in the fused rows; what :func:`convex_fit` makes as large as it can."""
    fused = np.nan_to_num(fuse_rows(weights, values))
    share = fused[np.arange(len(truth)), truth] / fused.sum(axis=1).clip(TINY)
    return float(np.average(np.log(share.clip(TINY)), weights=row_weights))


def convex_fit(
    values: np.ndarray,
    truth: np.ndarray,
    method: Method = "eg",
    *,
    balanced: bool = False,
    pull: float = 1.0,
    steps: int = 500,
    tolerance: float = 1e-7,
) -> Found:
    """Weights of the largest likelihood of the fused rows, normalised to sum to 1.

    With S[n] the sum of a fused row, the mean over rows of ``ln(Q[n, truth[n]] / S[n])`` is climbed, and never goes down:

      * ``"eg"``: exponentiated gradient (Kivinen and Warmuth 1997), ``W[m, c] ~ W[m, c] exp(rate * gradient[m, c])``, with a rate that is halved until a
        step climbs. It takes missing sources.
      * ``"em"``: expectation and maximisation. ``ln Q`` is bounded below by Jensen's inequality and ``-ln S`` by its tangent, and the
        maximum of both is ``W[m, c] = A[m, c] / (B[m, c] + lambda_c)``, with A the expected counts and B the slope. All sources must be there.

    Args:
        values: (N, M, C) float; NaN is what is not valid. Rows whose true class nobody says are left out.
        truth: (N,) int64 columns.
        method: how it climbs.
        balanced: counts a row by the inverse of the rows of its class.
        pull: rows per class that speak for equal weights: a Dirichlet prior of ``1 + pull / M``. 0 for none.
        steps: at most.
        tolerance: nats per row; smaller gains end it.

    Raises:
        UsageError: for shapes or numbers that cannot be, or missing sources with ``"em"``.
    """
    values, truth = checked_rows(values, truth)
    if method not in ("eg", "em"):
        raise UsageError(f"convex_fit climbs with eg or em, not {method!r}")
    if pull < 0 or steps < 1 or not tolerance >= 0:
        raise UsageError(
            f"convex_fit needs pull and tolerance of at least 0 and steps of at least 1, found {pull}, {tolerance} and {steps}"
        )
    keep = ~np.isnan(values[np.arange(len(truth)), :, truth]).all(axis=1)
    if not keep.any():
        raise UsageError(f"convex_fit has nothing to learn from: in none of {len(truth)} rows can a source say the true class")
    values, truth = values[keep], truth[keep]
    values = np.where(np.isnan(values).all(axis=(0, 1)), 0.0, values)  # a class that nobody ever says asks for no weights
    if method == "em" and np.isnan(values).any():
        raise UsageError("convex_fit: em needs all sources in all rows, and some are missing; take eg")
    sources, classes = values.shape[1:]
    counts = np.bincount(truth, minlength=classes)
    mass = (1 / counts[truth]) if balanced else np.ones(len(truth))
    mass *= len(truth) / mass.sum()

    def gain(weights: np.ndarray) -> float:
        return log_likelihood(weights, values, truth, mass) + pull / sources * float(np.log(weights.clip(TINY)).sum()) / len(truth)

    step = _Gradient(values, truth, mass, pull, gain) if method == "eg" else _Expectation(values, truth, mass, pull)
    weights = np.full((sources, classes), 1 / sources)
    before = gain(weights)
    made = 0
    for made in range(1, steps + 1):  # noqa: B007
        following = step(weights)
        after = gain(following)
        if after - before <= tolerance:
            weights = following if after > before else weights
            break
        weights, before = following, after
    weights = _floored(weights)
    equal = np.full((sources, classes), 1 / sources)
    return Found(weights, log_likelihood(weights, values, truth, mass), log_likelihood(equal, values, truth, mass), made)


class _Gradient:
    """One step of exponentiated gradient that climbs, as far as the rate can be made small enough."""

    def __init__(self, values: np.ndarray, truth: np.ndarray, mass: np.ndarray, pull: float, gain: object) -> None:
        self._valid = (~np.isnan(values)).astype(np.float64)
        self._values, self._truth, self._mass, self._pull = np.nan_to_num(values), truth, mass, pull
        self._gain = gain
        self._rate = 1.0

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        slope = self._slope(weights)
        now = self._gain(weights)  # type: ignore[operator]
        self._rate *= 2
        while self._rate > 1e-8:
            logs = np.log(weights.clip(TINY)) + self._rate * slope
            logs -= logs.max(axis=0)
            following = np.exp(logs).clip(TINY)
            following /= following.sum(axis=0)
            if self._gain(following) >= now:  # type: ignore[operator]
                return following
            self._rate /= 2
        return weights

    def _slope(self, weights: np.ndarray) -> np.ndarray:
        """(M, C) gradient of the mean gain."""
        count, classes = len(self._truth), weights.shape[1]
        total = (weights * self._valid).sum(axis=1)
        fused = np.divide((weights * self._values).sum(axis=1), total, out=np.zeros_like(total), where=total > 0)
        is_true = self._truth[:, None] == np.arange(classes)
        by_row = is_true / fused.clip(TINY) - 1 / fused.sum(axis=1, keepdims=True).clip(TINY)
        by_row = np.divide(by_row * self._mass[:, None], total, out=np.zeros_like(total), where=total > 0)
        found = np.einsum("nc,nmc->mc", by_row, self._valid * (self._values - fused[:, None]), optimize=True)
        return np.asarray((found + self._pull / weights.shape[0] / weights.clip(TINY)) / count * weights.shape[0])


class _Expectation:
    """One step of expectation and maximisation."""

    def __init__(self, values: np.ndarray, truth: np.ndarray, mass: np.ndarray, pull: float) -> None:
        self._values, self._mass, self._pull = values, mass, pull
        self._is_true = truth[:, None] == np.arange(values.shape[2])

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        parts = weights * self._values
        fused = parts.sum(axis=1)
        shares = parts / fused[:, None].clip(TINY)
        expected = np.einsum("nmc,nc->mc", shares, self._is_true * self._mass[:, None], optimize=True) + self._pull / len(weights)
        slope = np.einsum("nmc,n->mc", self._values, self._mass / fused.sum(axis=1).clip(TINY), optimize=True)
        return np.stack([_maximum(expected[:, c], slope[:, c], weights[:, c]) for c in range(weights.shape[1])], axis=1)


def _maximum(expected: np.ndarray, slope: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The point of the simplex where ``sum of expected ln w - slope w`` is largest: w = expected / (slope + lambda), which falls in lambda."""
    if not expected.sum() > 0:  # nobody has a row of this class, so whatever makes it least likely is best: the smallest slope
        out = np.zeros_like(before)
        out[slope.argmin()] = 1.0
        return out
    there = expected > 0
    low = float(-slope[there].min()) + TINY
    high = low + float(expected.sum()) + float(slope.max() - slope.min()) + 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if (expected[there] / (slope[there] + middle)).sum() > 1:
            low = middle
        else:
            high = middle
    out = np.zeros_like(before)
    out[there] = expected[there] / (slope[there] + high)
    return np.asarray(out / out.sum())


def _floored(weights: np.ndarray) -> np.ndarray:
    kept = weights.clip(LEAST)
    return np.asarray(kept / kept.sum(axis=0))


def checked_rows(values: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows as float64 and int64.

    Raises:
        UsageError: for other shapes, numbers that are no probabilities, or classes that are none.
    """
    values, truth = np.asarray(values, dtype=np.float64), np.asarray(truth)
    if values.ndim != 3 or truth.shape != (len(values),) or not len(values) or 0 in values.shape:
        raise UsageError(f"expected values (N, M, C) and truth (N,) with rows in them, found {values.shape} and {truth.shape}")
    if not np.issubdtype(truth.dtype, np.integer) or truth.min() < 0 or truth.max() >= values.shape[2]:
        raise UsageError(
            f"expected truth to be whole numbers (classes) in [0, {values.shape[2]}), found {truth.dtype}, {truth.min()} to {truth.max()}"
        )
    there = values[~np.isnan(values)]
    if there.size and (there.min() < 0 or not np.isfinite(there).all()):
        raise UsageError("expected values of 0 or more, NaN where a source says nothing")
    return values, truth.astype(np.int64)
