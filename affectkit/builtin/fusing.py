"""Fusions fitted and compared on tables of predictions: nested cross-validation by group, and sources left out. N is rows, M sources, C classes.

Nothing here knows files: :mod:`affectkit.builtin.fusion_training` reads runs into :class:`Rows` and writes what was fitted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.builtin.class_weights import VERSIONS
from affectkit.builtin.simplex import convex_fit, dirichlet_search, fuse_rows, score_rows
from affectkit.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import torch

Options = Mapping[str, Any]

GRIDS: Mapping[str, tuple[Options, ...]] = {
    "mean": ({},),
    "dirichlet": (
        {"criterion": "nll", "concentration": 100.0},
        {"criterion": "macro_f1", "concentration": 100.0},
        {"criterion": "macro_f1", "concentration": 1.0},
    ),
    "convex": tuple({"pull": pull, "balanced": True} for pull in (3000.0, 1000.0, 300.0, 30.0)),
    "mhpf_published": ({},),
    "mhpf": tuple({"epochs": epochs, "weight": "balanced"} for epochs in (3, 10, 40, 160)),
    "mhpf_gated": tuple({"epochs": epochs, "balanced": True, "decay": 1.0} for epochs in (3, 10, 40)),
    **{version: ({},) for version in VERSIONS},
}
"""The fusions that can be fitted, and the options among which the inner cross-validation chooses, the nearest to the mean first.

``mhpf_published`` is MHPF as team RAS fitted it: cross entropy with the fused rows as logits, Adam with a rate of 1e-4, 100 passes in steps of 64 rows;
``v1`` to ``v5`` are the versions that they published before, fitted in the same way.
"""

MARGIN = 0.005  # of macro-F1, by which options farther from the mean must be better: less is chance with a thousand rows
DRAWS = 2000  # of a Dirichlet search within cross-validation; the one that is written makes AVCER's 10,000


@dataclass(frozen=True)
class Rows:
    """What several sources say of the same windows.

    Attributes:
        sources: M names.
        values: (N, M, C) float64 probabilities; NaN is what is not valid.
        truth: (N,) int64 columns.
        groups: (N,) text, what rows are of; a group is never on both sides of a fold.
        quality: (N, M, Q) float64 figures, NaN where not known.
        quality_names: names of the figures of each source.
    """

    sources: tuple[str, ...]
    values: np.ndarray
    truth: np.ndarray
    groups: np.ndarray
    quality: np.ndarray | None = None
    quality_names: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, rows: np.ndarray) -> Rows:
        """Some of the rows."""
        quality = None if self.quality is None else self.quality[rows]
        return Rows(self.sources, self.values[rows], self.truth[rows], self.groups[rows], quality, self.quality_names)

    def without(self, source: str) -> Rows:
        """All rows, one source less."""
        kept = [place for place, name in enumerate(self.sources) if name != source]
        names = tuple(self.quality_names[place] for place in kept) if self.quality_names else ()
        quality = None if self.quality is None else self.quality[:, kept]
        return Rows(tuple(self.sources[place] for place in kept), self.values[:, kept], self.truth, self.groups, quality, names)


@dataclass(frozen=True)
class Fit:
    """A fitted fusion.

    Attributes:
        name: one of :data:`GRIDS`.
        options: the options that it was fitted with.
        weights: (M, C) float64, the weight of each source per class; where it depends on the row, the mean over the rows that it was fitted on.
        model: the network, where it has one; ``None`` for weights alone.
    """

    name: str
    options: Options
    weights: np.ndarray
    model: torch.nn.Module | None = None

    def fuse(self, rows: Rows) -> np.ndarray:
        """(N, C) float64 rows that sum to 1 over the classes that are said; NaN where no source is valid."""
        if self.model is None:
            fused = fuse_rows(self.weights, rows.values)
        else:
            fused = _through(self.model, rows)
        total = np.nansum(fused, axis=1, keepdims=True)
        return np.divide(fused, total, out=np.full_like(fused, np.nan), where=total > 0)


@dataclass(frozen=True)
class Checked:
    """A fusion, as cross-validation found it.

    Attributes:
        name: one of :data:`GRIDS`.
        fused: (N, C) rows, each from a fit that saw no row of its group, with the options that an inner cross-validation chose.
        chosen: the options chosen in each outer fold.
        without: macro-F1 without each source, by source; empty where it was not asked for.
    """

    name: str
    fused: np.ndarray
    chosen: tuple[Options, ...]
    without: Mapping[str, float] = field(default_factory=dict)


def fit(name: str, rows: Rows, options: Options | None = None, *, seed: int = 0, draws: int = DRAWS) -> Fit:
    """Fits one fusion.

    Args:
        name: one of :data:`GRIDS`.
        rows: what it learns from.
        options: one of its grid; ``None`` for the first.
        seed: of all that is random.
        draws: of ``dirichlet``.

    Raises:
        UsageError: for another name, or rows that nothing can be learned from.
    """
    if name not in GRIDS:
        raise UsageError(f"there is no fusion {name!r} to fit. {did_you_mean(name, GRIDS)}")
    given = dict(GRIDS[name][0] if options is None else options)
    if name == "mean":
        shape = rows.values.shape[1:]
        return Fit(name, given, np.full(shape, 1 / shape[0]))
    if name == "dirichlet":
        return Fit(name, given, dirichlet_search(rows.values, rows.truth, draws=draws, seed=seed, **given).weights)
    if name == "convex":
        return Fit(name, given, convex_fit(rows.values, rows.truth, **given).weights)
    if name == "mhpf_gated":
        return _fit_gated(rows, given, seed)
    if name in VERSIONS:
        return _fit_version(name, rows, seed)
    return _fit_mhpf(name, rows, given, seed)


def folds(groups: np.ndarray, truth: np.ndarray, count: int, seed: int) -> np.ndarray:
    """(N,) int64 fold of each row; whole groups, and in every fold about the same share of each class.

    Groups are dealt out in an order that ``seed`` shuffles, the largest first, each to the fold that has the fewest rows of its classes.

    Raises:
        UsageError: where there are fewer groups than folds.

    >>> folds(np.array(["a", "a", "b", "c", "d"]), np.array([0, 0, 0, 1, 1]), 2, 0).tolist()
    [0, 0, 1, 1, 0]
    """
    names, place = np.unique(groups, return_inverse=True)
    place = place.ravel()
    if count < 2 or len(names) < count:
        raise UsageError(f"{count} folds need as many groups (media, or what options.groups finds) and at least 2, found {len(names)}")
    classes = int(truth.max()) + 1
    table = np.zeros((len(names), classes))
    np.add.at(table, (place, truth), 1)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-table[order].sum(axis=1), kind="stable")]
    held = np.zeros((count, classes))
    fold = np.zeros(len(names), dtype=np.int64)
    share = table.sum(axis=0).clip(1)
    for group in order:
        cost = ((held + table[group]) ** 2 / share).sum(axis=1) - (held**2 / share).sum(axis=1)
        best = int(np.lexsort((held.sum(axis=1), cost.round(12)))[0])
        fold[group] = best
        held[best] += table[group]
    return fold[place]


def split(rows: Rows, count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows to learn from and rows held out, for each fold; all (K,) int64."""
    fold = folds(rows.groups, rows.truth, count, seed)
    for number in range(count):
        yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


def choose(name: str, rows: Rows, count: int, seed: int) -> Options:
    """The options of a fusion with the largest macro-F1 over ``count`` folds of these rows; those farther from the mean must be better by :data:`MARGIN`."""
    grid = GRIDS[name]
    if len(grid) == 1:
        return grid[0]
    best, options = -np.inf, grid[0]
    for candidate in grid:
        found = np.full((len(rows), rows.values.shape[2]), np.nan)
        for learned, held in split(rows, count, seed):
            found[held] = fit(name, rows.take(learned), candidate, seed=seed).fuse(rows.take(held))
        score = float(score_rows(found, rows.truth, "macro_f1"))
        if score > best + MARGIN:
            best, options = score, candidate
    return options


def check(name: str, rows: Rows, *, outer: int = 5, inner: int = 3, seed: int = 0, leave_out: bool = False) -> Checked:
    """Nested cross-validation of one fusion.

    Args:
        name: one of :data:`GRIDS`.
        rows: all rows.
        outer: folds in which rows are held out.
        inner: folds of the rest, in which options are chosen.
        seed: of the folds and fits.
        leave_out: whether it is fitted again without each source, with the options that were chosen with all of them.
    """
    fused = np.full((len(rows), rows.values.shape[2]), np.nan)
    fewer = {source: fused.copy() for source in rows.sources} if leave_out and len(rows.sources) > 1 else {}
    chosen = []
    for learned, held in split(rows, outer, seed):
        mine, theirs = rows.take(learned), rows.take(held)
        chosen.append(choose(name, mine, inner, seed + 1))
        fused[held] = fit(name, mine, chosen[-1], seed=seed).fuse(theirs)
        for source, found in fewer.items():
            found[held] = fit(name, mine.without(source), chosen[-1], seed=seed).fuse(theirs.without(source))
    without = {source: float(score_rows(found, rows.truth, "macro_f1")) for source, found in fewer.items()}
    return Checked(name, fused, tuple(chosen), without)


def _fit_mhpf(name: str, rows: Rows, options: dict[str, Any], seed: int) -> Fit:
    import torch

    from affectkit.builtin.mhpf import MHPF, PUBLISHED

    model = _seeded(lambda: MHPF(*rows.values.shape[1:]), seed)
    values, valid = torch.from_numpy(np.nan_to_num(rows.values)).float(), torch.from_numpy(~np.isnan(rows.values))
    model.fit(values, torch.from_numpy(rows.truth), valid, seed=seed, **(PUBLISHED if name == "mhpf_published" else options))
    model.requires_grad_(False).eval()
    return Fit(name, options, model.weights().double().numpy(), model)


def _fit_version(name: str, rows: Rows, seed: int) -> Fit:
    import torch

    from affectkit.builtin import weighting
    from affectkit.builtin.mhpf import fit_as_published

    model: Any = _seeded(lambda: weighting.VERSIONS[name](*rows.values.shape[1:]), seed)
    values, valid = torch.from_numpy(np.nan_to_num(rows.values)).float(), torch.from_numpy(~np.isnan(rows.values))
    fit_as_published(model, values, torch.from_numpy(rows.truth), valid, seed=seed)
    model.requires_grad_(False).eval()
    return Fit(name, {}, model.by_class().double().numpy(), model)


def _fit_gated(rows: Rows, options: dict[str, Any], seed: int) -> Fit:
    import torch

    from affectkit.builtin.gated import fit_gated

    model = fit_gated(rows.values, rows.truth, rows.quality, seed=seed, **options)
    values, valid = torch.from_numpy(np.nan_to_num(rows.values)).float(), torch.from_numpy(~np.isnan(rows.values))
    quality = None if rows.quality is None else torch.from_numpy(rows.quality).float()
    weights = model.row_weights(values, valid, quality).double().numpy()
    some = ~np.isnan(weights)
    mean = np.nan_to_num(weights).sum(axis=0) / some.sum(axis=0).clip(1)
    return Fit("mhpf_gated", options, mean, model)


def _through(model: torch.nn.Module, rows: Rows) -> np.ndarray:
    """(N, C) what a network makes of rows."""
    import torch

    from affectkit.builtin.weighting import Gated

    values, valid = torch.from_numpy(np.nan_to_num(rows.values)).float(), torch.from_numpy(~np.isnan(rows.values))
    further = (None if rows.quality is None else torch.from_numpy(rows.quality).float(),) if isinstance(model, Gated) else ()
    with torch.inference_mode():
        return np.asarray(model(values, valid, *further).double().numpy())


def _seeded(make: Any, seed: int) -> Any:
    """What ``make`` gives with torch's random numbers at ``seed``, which are as before afterwards."""
    import torch

    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        return make()
    finally:
        torch.set_rng_state(state)


def named(names: Sequence[str]) -> tuple[str, ...]:
    """The names themselves.

    Raises:
        UsageError: for one that is not in :data:`GRIDS`, or for none.
    """
    if not names:
        raise UsageError(f"there is no fusion to fit; name some of {', '.join(GRIDS)}")
    for name in names:
        if name not in GRIDS:
            raise UsageError(f"there is no fusion {name!r} to fit. {did_you_mean(name, GRIDS)}")
    return tuple(dict.fromkeys(names))
