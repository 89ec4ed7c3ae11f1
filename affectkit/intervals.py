"""How far a metric, or the difference of two, would move with other videos: bootstrap resampled by video.

Frames of one video resemble each other: 26,000 frames of 56 videos are 56 observations and not 26,000. So videos are drawn and not rows (Efron and Tibshirani
1993, chapter 8). A :class:`Tally` holds, per video, the sums that metrics are computed from, and a resample is a weighted sum of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from affectkit.errors import UsageError
from affectkit.metrics import (
    BINS,
    THRESHOLD,
    bin_confidence,
    calibration_error,
    concordance,
    count_units,
    f1_per_class,
    macro_f1,
    mean_where,
    moments,
    precision,
    predicted_class,
    recall,
    uar,
    unit_scores,
    war,
)

Sums = Mapping[str, np.ndarray]

LEVEL = 0.95  # share of resamples that an interval holds
RESAMPLES = 1000
BLOCK = 4_000_000  # resamples times videos that are held at once: 32 MB
NEGLIGIBLE = 1e-6  # differences below it are rounding: results are written with seven digits


@dataclass(frozen=True)
class Score:
    """A metric with its interval.

    Attributes:
        value: the metric; NaN where the rows cannot say it.
        low: lower end of the interval, ``None`` where there is none: with one video nothing can be resampled.
        high: upper end of the interval.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Difference:
    """A difference of two metrics over the same videos.

    Attributes:
        first: the metric of the first.
        second: the metric of the second.
        low: lower end of the interval of ``second - first``, ``None`` where there is none.
        high: upper end of it.
        p: probability, two-sided, of a difference as large where there is none; ``None`` where there is no interval.
    """

    first: float
    second: float
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @property
    def value(self) -> float:
        """``second - first``, and 0 where that is rounding."""
        found = self.second - self.first
        return 0.0 if abs(found) < NEGLIGIBLE else found


@dataclass(frozen=True)
class Tally:
    """What metrics are computed from, summed per video.

    Attributes:
        videos: V names of the videos that have rows.
        sums: arrays (V, ...) by name.
        measure: from sums (R, ...) of R resamples to metrics (R,) by name.
    """

    videos: tuple[str, ...]
    sums: Sums
    measure: Callable[[Sums], dict[str, np.ndarray]]

    def metrics(self, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Metrics (R,) by name.

        Args:
            weights: (R, V) how often each video counts; ``None`` for once.
        """
        if weights is None:
            weights = np.ones((1, len(self.videos)))
        return self.measure({name: np.tensordot(weights, part, axes=(1, 0)) for name, part in self.sums.items()})


def tally_classes(
    reference: np.ndarray, values: np.ndarray, videos: np.ndarray, names: Sequence[str], track: int | None = None, unanswered: bool = False
) -> Tally:
    """A tally of one class per row: ``macro_f1``, ``macro_f1_all``, ``uar``, ``war``, ``ece``, and ``f1/NAME``, ``precision/NAME``, ``recall/NAME``.

    Args:
        reference: (N,) int64 columns of ``names``; -1 says nothing, and such rows are left out.
        values: (N, C) probabilities, NaN where nothing is said.
        videos: (N,) names of the videos.
        names: C names of the classes.
        track: ``macro_f1_all`` averages over this many first classes, ``None`` for all of them.
        unanswered: whether rows that say nothing count as wrong instead of being left out; ``ece`` always leaves them out.

    >>> tally = tally_classes(np.array([0, 1]), np.array([[0.9, 0.1], [0.6, 0.4]]), np.array(["a", "b"]), ("no", "yes"))
    >>> float(tally.metrics()["war"][0])
    0.5
    """
    predicted = predicted_class(values)
    kept = (reference >= 0) & ((predicted >= 0) | unanswered)
    found, video = np.unique(np.asarray(videos)[kept], return_inverse=True)
    reference, predicted, values = reference[kept], predicted[kept], values[kept]
    size = len(names) + 1  # the last column is no answer, which is wrong for every class
    cell = (video * size + reference) * size + np.where(predicted < 0, size - 1, predicted)
    confusion = np.bincount(cell, minlength=len(found) * size * size).reshape(len(found), size, size)
    sure = np.take_along_axis(values, np.maximum(predicted, 0)[:, None], axis=1)[:, 0]
    bins = bin_confidence(np.where(predicted < 0, np.nan, sure), predicted == reference, video, len(found), BINS)

    def measure(sums: Sums) -> dict[str, np.ndarray]:
        counts = sums["confusion"]
        f1 = f1_per_class(counts)
        official = np.where(np.isnan(war(counts)), np.nan, np.nan_to_num(f1[:, : len(names) if track is None else track]).mean(axis=1))
        main = {"macro_f1": macro_f1(counts), "macro_f1_all": official, "uar": uar(counts), "war": war(counts)}
        return {
            **main,
            "ece": calibration_error(sums["bins"]),
            **_each("f1", names, f1),
            **_each("precision", names, precision(counts)),
            **_each("recall", names, recall(counts)),
        }

    return Tally(tuple(map(str, found)), {"confusion": confusion, "bins": bins}, measure)


def tally_units(
    reference: np.ndarray,
    values: np.ndarray,
    videos: np.ndarray,
    names: Sequence[str],
    unsaid: np.ndarray | None = None,
    unanswered: bool = False,
) -> Tally:
    """A tally of units: ``mean_f1``, ``mean_f1_all``, ``ece``, and ``f1/NAME``, ``ece/NAME``.

    ``mean_f1`` is over the units that the reference has at least once, ``mean_f1_all`` over all of them, as the ABAW challenge scores.

    Args:
        reference: (N, C) 0 or 1, NaN says nothing.
        values: (N, C) probabilities, NaN where nothing is said; 0.5 and more is predicted.
        videos: (N,) names of the videos.
        names: C names of the units.
        unsaid: (C,) bool, units that cannot be said: they are never predicted in rows in which another unit is; ``None`` for none.
        unanswered: whether what is not answered counts as wrong instead of being left out.

    >>> tally = tally_units(np.array([[1.0], [1.0]]), np.array([[0.9], [0.4]]), np.array(["a", "b"]), ("au1",))
    >>> round(float(tally.metrics()["mean_f1"][0]), 3)
    0.667
    """
    silent = np.isnan(values)
    never = np.zeros(len(names), dtype=bool) if unsaid is None else unsaid
    predicted = np.where(silent, 1.0 - reference if unanswered else np.nan, (values >= THRESHOLD).astype(np.float64))
    predicted = np.where(never & ~silent.all(axis=1, keepdims=True), 0.0, predicted)
    kept = (~np.isnan(reference) & ~np.isnan(predicted)).any(axis=1)
    found, video = np.unique(np.asarray(videos)[kept], return_inverse=True)
    reference, values, predicted = reference[kept], values[kept], predicted[kept]
    counts = count_units(reference, predicted, video, len(found))
    sure = np.where(np.isnan(reference), np.nan, np.maximum(values, 1.0 - values))
    bins = bin_confidence(sure, predicted == reference, video, len(found), BINS)

    def measure(sums: Sums) -> dict[str, np.ndarray]:
        f1, error = unit_scores(sums["counts"]), calibration_error(sums["bins"])
        occurs = sums["counts"][..., [0, 2]].sum(axis=-1) > 0
        main = {"mean_f1": mean_where(f1, occurs), "mean_f1_all": mean_where(f1, ~np.isnan(f1)), "ece": mean_where(error, ~np.isnan(error))}
        return {**main, **_each("f1", names, f1), **_each("ece", names, error)}

    return Tally(tuple(map(str, found)), {"counts": counts, "bins": bins}, measure)


def tally_dimensions(reference: np.ndarray, values: np.ndarray, videos: np.ndarray, names: Sequence[str]) -> Tally:
    """A tally of quantities: ``mean_ccc`` over those that the rows can say, and ``ccc/NAME``.

    Args:
        reference: (N, C) floats, NaN says nothing.
        values: (N, C) floats on the same scale, NaN where nothing is said.
        videos: (N,) names of the videos.
        names: C names of the dimensions.

    >>> tally = tally_dimensions(np.array([[0.0], [1.0]]), np.array([[0.0], [1.0]]), np.array(["a", "a"]), ("valence",))
    >>> float(tally.metrics()["ccc/valence"][0])
    1.0
    """
    kept = (~np.isnan(reference) & ~np.isnan(values)).any(axis=1)
    found, video = np.unique(np.asarray(videos)[kept], return_inverse=True)
    sums = moments(reference[kept], values[kept], video, len(found))

    def measure(sums: Sums) -> dict[str, np.ndarray]:
        each = concordance(sums["moments"])
        return {"mean_ccc": mean_where(each, ~np.isnan(each)), **_each("ccc", names, each)}

    return Tally(tuple(map(str, found)), {"moments": sums}, measure)


def scores(tally: Tally, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Score]:
    """Metrics with percentile intervals over resampled videos.

    A resample is measured as the whole is: its mean is over the classes that occur in it.

    Args:
        tally: sums per video.
        resamples: how many; 0 for no intervals.
        seed: of the random numbers.

    Returns:
        Scores by the name of the metric.

    >>> reference, values = np.array([0, 1, 0, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]])
    >>> found = scores(tally_classes(reference, values, np.array(["a", "a", "b", "b"]), ("no", "yes")))["war"]
    >>> (found.value, found.low, found.high)
    (0.75, 0.5, 1.0)
    """
    whole = {name: float(value[0]) for name, value in tally.metrics().items()}
    if resamples == 0 or len(tally.videos) < 2:
        return {name: Score(value) for name, value in whole.items()}
    (drawn,) = _resampled((tally,), resamples, seed)
    return {name: Score(value, *_interval(drawn[name])) for name, value in whole.items()}


def differences(first: Tally, second: Tally, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Difference]:
    """Differences of the metrics of two, ``second - first``, over the same resampled videos.

    p is twice the smaller share of resamples in which the difference is not above, or not below, zero, one added to both counts (Davison and
    Hinkley 1997, section 4.2), so that it is never 0.

    Args:
        first: sums per video.
        second: sums of the same videos, over the same rows.
        resamples: how many; 0 for no intervals.
        seed: of the random numbers.

    Returns:
        Differences by name, of the metrics that both have.

    Raises:
        UsageError: where the videos differ.
    """
    if first.videos != second.videos:
        raise UsageError(f"a paired comparison needs the same videos, found {', '.join(first.videos)} and {', '.join(second.videos)}")
    one, other = first.metrics(), second.metrics()
    shared = [name for name in one if name in other]
    values = {name: (float(one[name][0]), float(other[name][0])) for name in shared}
    if resamples == 0 or len(first.videos) < 2:
        return {name: Difference(*value) for name, value in values.items()}
    one, other = _resampled((first, second), resamples, seed)
    found = {}
    for name in shared:
        drawn = other[name] - one[name]
        drawn = np.where(np.abs(drawn) < NEGLIGIBLE, 0.0, drawn)
        low, high = _interval(drawn)
        found[name] = Difference(*values[name], low, high, None if low is None else _two_sided(drawn))
    return found


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Probabilities corrected for the number of comparisons (Holm 1979); ``None`` stays, and is none of them.

    >>> holm([0.01, 0.04, None, 0.03])
    [0.03, 0.06, None, 0.06]
    """
    known = sorted((value, i) for i, value in enumerate(p) if value is not None)
    out: list[float | None] = [None] * len(p)
    least = 0.0
    for rank, (value, i) in enumerate(known):
        least = max(least, min(1.0, value * (len(known) - rank)))
        out[i] = least
    return out


def draws(videos: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each video is in each resample: blocks of (R, V) float64, whose rows sum to V; R resamples in all."""
    generator = np.random.default_rng(seed)
    size = max(1, BLOCK // videos)
    for done in range(0, resamples, size):
        yield generator.multinomial(videos, np.full(videos, 1 / videos), size=min(size, resamples - done)).astype(np.float64)


def _resampled(tallies: Sequence[Tally], resamples: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Metrics (R,) of each tally over the same resamples of its videos."""
    blocks = [[tally.metrics(weights) for tally in tallies] for weights in draws(len(tallies[0].videos), resamples, seed)]
    return [{name: np.concatenate([block[i][name] for block in blocks]) for name in blocks[0][i]} for i in range(len(tallies))]


def _interval(drawn: np.ndarray) -> tuple[float | None, float | None]:
    """Percentiles of the resamples that say the metric; none where hardly any does."""
    said = drawn[~np.isnan(drawn)]
    if 2 * len(said) < len(drawn):
        return None, None
    low, high = np.percentile(said, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def _two_sided(drawn: np.ndarray) -> float:
    said = drawn[~np.isnan(drawn)]
    return float(min(1.0, 2 * (min((said <= 0).sum(), (said >= 0).sum()) + 1) / (len(said) + 1)))


def _each(metric: str, names: Sequence[str], values: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{metric}/{name}": values[:, c] for c, name in enumerate(names)}
