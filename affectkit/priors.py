"""Class priors: moving the histogram of predicted classes toward shares that are known. N is rows, C classes.

A classifier learned with the shares pi of its own classes. Where the shares are others, pi', its rows become ``q[n, c] ~ p[n, c] pi'[c] / pi[c]``
(Saerens, Latinne and Decaestecker 2002, equation 2.4). :func:`saerens` estimates pi' from the rows themselves; :func:`toward` knows it, and finds the
factors that give it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from affectkit.errors import LabelError, UsageError, did_you_mean
from affectkit.labels import COMPOUND7, LabelSet

TINY = 1e-12


@dataclass(frozen=True)
class Prior:
    """Shares of classes that are known.

    Attributes:
        labels: the label set.
        shares: C numbers of 0 or more that sum to 1.
        source: where they are from.
    """

    labels: LabelSet
    shares: tuple[float, ...]
    source: str

    def __post_init__(self) -> None:
        if len(self.shares) != len(self.labels) or not abs(sum(self.shares) - 1) < 1e-6 or min(self.shares) < 0:
            raise UsageError(
                f"a prior of {self.labels.name} is {len(self.labels)} shares of 0 or more that sum to 1, found {list(self.shares)}"
            )


_CEXPR_FRAMES = (14445, 24915, 10780, 10637, 10535, 10112, 8878)

PRIORS: Mapping[str, Prior] = {
    "cexpr_db": Prior(
        COMPOUND7,
        tuple(count / sum(_CEXPR_FRAMES) for count in _CEXPR_FRAMES),
        "frames per class of the whole C-EXPR-DB (Kollias, CVPR 2023), of which the test set of the challenge is a part",
    ),
    "even": Prior(COMPOUND7, (1 / 7,) * 7, "every class alike"),
}
"""Priors by name."""


@dataclass(frozen=True)
class Corrected:
    """Rows with other priors.

    Attributes:
        values: (N, C) float64 rows that sum to 1; rows that say nothing stay NaN.
        factors: (C,) float64 by which the columns were multiplied before, with a mean of 1.
        before: (C,) shares of the predicted classes before.
        after: (C,) shares of the predicted classes afterwards.
        steps: how many were made.
    """

    values: np.ndarray
    factors: np.ndarray
    before: np.ndarray
    after: np.ndarray
    steps: int


def prior_of(text: str, labels: LabelSet) -> Prior:
    """A prior by its name, or as ``label=share`` for each label, separated by commas.

    Args:
        text: what a user wrote; shares need not sum to 1, and a label that is not named has none.
        labels: the label set that it must be of.

    Raises:
        UsageError: for an unknown name or label, a share that is none, or a prior of other labels.

    >>> prior_of("fearfully_surprised=1,sadly_angry=3", COMPOUND7).shares[0]
    0.25
    """
    if "=" not in text:
        if text not in PRIORS:
            raise UsageError(f"there is no prior {text!r}. {did_you_mean(text, PRIORS)} Or write label=share for each label, with commas")
        if PRIORS[text].labels != labels:
            raise UsageError(f"the prior {text!r} is of {PRIORS[text].labels.name}, and what is to be corrected is of {labels.name}")
        return PRIORS[text]
    shares = np.zeros(len(labels))
    for word in text.split(","):
        name, _, share = word.partition("=")
        try:
            value = float(share)
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf"):
            raise UsageError(f"a prior is written as label=share with shares of 0 or more, found {word.strip()!r}")
        try:
            shares[labels.index(name)] = value
        except LabelError:
            raise UsageError(f"{labels.name} has no label {name.strip()!r}. {did_you_mean(name.strip(), labels.labels)}") from None
    if not shares.sum() > 0:
        raise UsageError(f"a prior needs a share greater than 0, found {text!r}")
    return Prior(labels, tuple(float(share) for share in shares / shares.sum()), "as given")


def histogram(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(C,) shares of the predicted classes; rows of NaN are left out, and all are NaN where there are no others.

    Args:
        values: (N, C) floats.
        weights: (N,) how much each row counts, for instance its number of frames; ``None`` for all alike.

    >>> histogram(np.array([[0.7, 0.3], [0.6, 0.4], [0.2, 0.8], [np.nan, np.nan]])).round(2).tolist()
    [0.67, 0.33]
    """
    some = ~np.isnan(values).all(axis=1)
    chosen = np.where(np.isnan(values[some]), -np.inf, values[some]).argmax(axis=1)
    mass = np.ones(len(chosen)) if weights is None else np.asarray(weights, dtype=np.float64)[some]
    counts = np.bincount(chosen, weights=mass, minlength=values.shape[1])
    return np.asarray(np.divide(counts, counts.sum(), out=np.full(counts.shape, np.nan), where=counts.sum() > 0))


def divergence(prior: Sequence[float] | np.ndarray, shares: Sequence[float] | np.ndarray) -> float:
    """Kullback and Leibler's divergence of predicted shares from a prior, ``sum of prior ln(prior / shares)``, in nats; infinite where a class is never predicted.

    >>> round(divergence([0.5, 0.5], [0.25, 0.75]), 4)
    0.1438
    """
    known, found = np.asarray(prior, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    there = known > 0
    if bool((found[there] <= 0).any()):
        return float("inf")
    return float((known[there] * np.log(known[there] / found[there])).sum())


def saerens(
    values: np.ndarray, trained: np.ndarray, *, weights: np.ndarray | None = None, steps: int = 1000, tolerance: float = 1e-9
) -> Corrected:
    """Rows with the priors under which they are most likely, estimated from the rows alone (Saerens et al. 2002, section 2.2).

    With the shares pi of the training data: ``q[n, c] ~ p[n, c] pi'[c] / pi[c]`` and ``pi'[c] = mean of q[n, c]``, in turn, until nothing moves. It is
    expectation and maximisation, and right where p are the classifier's posteriors; sums of pairs (PPA) are not.

    Args:
        values: (N, C) rows that sum to 1; rows of NaN say nothing.
        trained: (C,) shares in the training data, greater than 0.
        weights: (N,) how much each row counts; ``None`` for all alike.
        steps: at most.
        tolerance: largest change of a share that ends it.

    Raises:
        UsageError: for shapes or numbers that cannot be.
    """
    rows, some, mass = _checked(values, trained, weights)
    if not bool((trained > 0).all()):
        raise UsageError(f"the shares of the training data must be greater than 0, found {np.asarray(trained).round(4).tolist()}")
    trained = trained / trained.sum()
    prior = trained.copy()
    made = 0
    for made in range(1, steps + 1):  # noqa: B007
        following = mass @ _scaled(rows, prior / trained)
        moved = np.abs(following - prior).max()
        prior = following
        if moved <= tolerance:
            break
    return _corrected(values, some, rows, prior / trained, weights, made)


def toward(
    values: np.ndarray,
    prior: Prior | np.ndarray,
    *,
    strength: float = 1.0,
    hard: bool = False,
    weights: np.ndarray | None = None,
    steps: int = 2000,
    tolerance: float = 1e-6,
) -> Corrected:
    """Rows whose shares are those of a prior: each column has a factor, and each row sums to 1 again.

    Of all rows with these shares they are the nearest to the given ones (Kullback and Leibler): iterative proportional fitting. With ``hard`` the shares
    are those of the predicted classes: the rows are raised to a power that grows, which ends where the classes are dealt out to the rows as well as
    the shares allow.

    Args:
        values: (N, C) rows of 0 or more; rows of NaN say nothing, and a class of NaN is not said.
        prior: the shares, (C,).
        strength: 1 goes all the way, 0 nowhere; the shares aimed at are the weighted mean of the present ones and the prior.
        hard: whether the shares of predicted classes are meant, instead of the mean of the rows.
        weights: (N,) how much each row counts; ``None`` for all alike.
        steps: at most, for each power.
        tolerance: largest distance of a share that ends it.

    Raises:
        UsageError: for shapes or numbers that cannot be.

    >>> rows = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    >>> toward(rows, np.array([0.5, 0.5]), hard=True).values.argmax(axis=1).tolist()
    [0, 0, 1, 1]
    """
    if not 0 <= strength <= 1:
        raise UsageError(f"strength is from 0 to 1, found {strength}")
    wanted = np.asarray(prior.shares if isinstance(prior, Prior) else prior, dtype=np.float64)
    rows, some, mass = _checked(values, wanted, weights)
    logs = np.log(rows.clip(TINY))
    now = mass @ rows if not hard else np.nan_to_num(histogram(values, weights))
    wanted = (1 - strength) * now + strength * wanted / wanted.sum()
    said = rows.max(axis=0) > 0
    wanted = np.where(said, wanted, 0.0)
    wanted = wanted / wanted.sum()
    offset = np.zeros(rows.shape[1])
    made = 0
    for power in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0) if hard else (1.0,):
        for _ in range(steps):
            found = mass @ _softmax(power * (logs + offset))
            made += 1
            if np.abs(found - wanted).max() <= tolerance:
                break
            offset += np.where(wanted > 0, np.log(wanted.clip(TINY)) - np.log(found.clip(TINY)), -50.0) / power
            offset = (offset - offset[wanted > 0].mean()).clip(-60.0, 60.0)
    return _corrected(values, some, rows, np.exp(offset), weights, made)


def _corrected(
    values: np.ndarray, some: np.ndarray, rows: np.ndarray, factors: np.ndarray, weights: np.ndarray | None, steps: int
) -> Corrected:
    out = np.full(values.shape, np.nan)
    out[some] = np.where(np.isnan(values[some]), np.nan, _scaled(rows, factors))
    return Corrected(out, factors / factors.mean(), histogram(values, weights), histogram(out, weights), steps)


def _checked(values: np.ndarray, shares: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows that say something, normalised, with zeros for classes that they do not; which they are; and their mass, which sums to 1."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or shares.shape != (values.shape[1],):
        raise UsageError(f"expected rows (N, C) and C shares, found {values.shape} and {shares.shape}")
    if not bool(np.isfinite(shares).all()) or shares.min() < 0 or not shares.sum() > 0:
        raise UsageError(f"shares of classes are numbers of 0 or more, found {shares.tolist()}")
    there = values[~np.isnan(values)]
    if there.size and (there.min() < 0 or not np.isfinite(there).all()):
        raise UsageError("expected rows of 0 or more, NaN where nothing is said")
    some = np.nansum(values, axis=1) > 0
    if not some.any():
        raise UsageError("there is no row that says anything, so there is nothing to correct")
    if weights is not None and (np.shape(weights) != (len(values),) or not np.asarray(weights)[some].sum() > 0 or np.min(weights) < 0):
        raise UsageError(f"expected {len(values)} weights of 0 or more, one per row, found {np.shape(weights)}")
    rows = np.nan_to_num(values[some])
    mass = np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=np.float64)[some]
    return rows / rows.sum(axis=1, keepdims=True), some, mass / mass.sum()


def _scaled(rows: np.ndarray, factors: np.ndarray) -> np.ndarray:
    scaled = rows * factors
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True).clip(TINY))


def _softmax(logs: np.ndarray) -> np.ndarray:
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
