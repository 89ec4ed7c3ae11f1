"""Weights per source and class: the search of AVCER, the likelihood of mixtures, against scipy, scikit-learn and loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.metrics import f1_score, recall_score

from affectkit.builtin.simplex import CRITERIA, convex_fit, dirichlet_search, fuse_rows, log_likelihood, score_rows
from affectkit.errors import UsageError


def corpus(rows: int = 300, missing: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three sources of four classes: one that knows, one that knows two classes, one that guesses."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 4, rows)
    skill = np.array([[2.0, 2, 2, 2], [4, 4, 0, 0], [0, 0, 0, 0]])
    powers = np.exp(random.normal(size=(rows, 3, 4)) + np.eye(4)[truth][:, None] * skill)
    values = powers / powers.sum(axis=2, keepdims=True)
    values[random.random((rows, 3)) < missing] = np.nan
    return values, truth


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (M, C), values (N, M, C) of which some are missing, classes (N,)."""
    rows, sources, classes = draw(st.integers(1, 12)), draw(st.integers(1, 4)), draw(st.integers(2, 5))
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    values = random.dirichlet(np.ones(classes), (rows, sources))
    values[random.random(values.shape) < draw(st.sampled_from([0.0, 0.4]))] = np.nan
    return random.dirichlet(np.ones(sources), classes).T, values, random.integers(0, classes, rows)


@given(tables())
def test_fused_rows_equal_the_definition(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    weights, values, _ = case
    expected = np.full((len(values), values.shape[2]), np.nan)
    for n, c in np.ndindex(expected.shape):
        there = ~np.isnan(values[n, :, c])
        if there.any():
            expected[n, c] = (weights[there, c] * values[n, there, c]).sum() / weights[there, c].sum()
    np.testing.assert_allclose(fuse_rows(weights, values), expected, atol=1e-12)


@given(tables())
def test_scores_are_those_of_scikit_learn(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    weights, values, truth = case
    fused = fuse_rows(weights, np.nan_to_num(values))
    chosen, there = fused.argmax(axis=1), np.unique(truth)
    assert score_rows(fused, truth, "macro_f1") == pytest.approx(f1_score(truth, chosen, labels=there, average="macro", zero_division=0))
    assert score_rows(fused, truth, "uar") == pytest.approx(recall_score(truth, chosen, labels=there, average="macro", zero_division=0))
    assert score_rows(fused, truth, "war") == pytest.approx((chosen == truth).mean())
    if len(there) > 1:
        others = there[there != there[0]]
        expected = recall_score(truth, chosen, labels=others, average="macro", zero_division=0)
        assert score_rows(fused, truth, "uar_emotions", neutral=int(there[0])) == pytest.approx(expected)
    share = fused[np.arange(len(truth)), truth] / fused.sum(axis=1).clip(1e-12)
    assert score_rows(fused, truth, "nll") == pytest.approx(np.log(share.clip(1e-12)).mean())
    for criterion in CRITERIA:
        several = score_rows(np.stack([fused, fused[:, ::-1]]), truth, criterion, neutral=0) if len(there) > 1 else None
        if several is not None and not np.isnan(several).any():
            assert several[0] == pytest.approx(float(score_rows(fused, truth, criterion, 0)))


class TestSearch:
    @pytest.mark.parametrize("criterion", CRITERIA)
    @pytest.mark.parametrize("missing", [0.0, 0.3])
    def test_is_never_worse_than_equal_weights(self, criterion: str, missing: float) -> None:
        values, truth = corpus(120, missing)
        found = dirichlet_search(values, truth, criterion, draws=300)  # type: ignore[arg-type]
        assert found.score >= found.of_mean
        np.testing.assert_allclose(found.weights.sum(axis=0), 1)
        rescored = float(score_rows(fuse_rows(found.weights, values), truth, criterion, 0))  # type: ignore[arg-type]
        assert rescored == pytest.approx(found.score, abs=1e-4)

    def test_is_the_best_of_its_draws(self) -> None:
        """The same draws, one by one, with loops."""
        values, truth = corpus(60)
        found = dirichlet_search(values, truth, "uar", draws=50, seed=7)
        drawn = np.random.default_rng(7).dirichlet(np.ones(3), (50, 4)).transpose(0, 2, 1)
        scores = [recall_score(truth, np.einsum("mc,nmc->nc", w, values).argmax(axis=1), average="macro") for w in drawn]
        assert found.score == pytest.approx(max(max(scores), found.of_mean))
        if max(scores) > found.of_mean:
            np.testing.assert_allclose(found.weights, drawn[int(np.argmax(scores))], atol=1e-5)

    def test_finds_who_knows_and_gives_every_source_something(self) -> None:
        values, truth = corpus(600)
        found = dirichlet_search(values, truth, "nll", draws=3000)
        assert found.weights[2].mean() < found.weights[:2].mean()
        assert found.weights.min() > 0

    def test_the_seed_decides(self) -> None:
        values, truth = corpus(60)
        one, two, three = (dirichlet_search(values, truth, "nll", draws=100, seed=seed).weights for seed in (1, 1, 2))
        assert np.array_equal(one, two)
        assert not np.array_equal(one, three)


class TestLikelihood:
    @pytest.mark.parametrize("method", ["eg", "em"])
    @pytest.mark.parametrize("pull", [0.0, 20.0])
    def test_reaches_what_scipy_reaches(self, method: str, pull: float) -> None:
        values, truth = corpus(200)
        found = convex_fit(values, truth, method, pull=pull, steps=4000, tolerance=1e-12)  # type: ignore[arg-type]

        def loss(theta: np.ndarray) -> float:
            powers = np.exp(theta.reshape(3, 4) - theta.reshape(3, 4).max(axis=0))
            weights = powers / powers.sum(axis=0)
            return -log_likelihood(weights, values, truth) - pull / 3 * np.log(weights.clip(1e-12)).sum() / len(truth)

        best = min(
            minimize(loss, start, method="L-BFGS-B", options={"maxiter": 2000}).fun for start in (np.zeros(12), np.linspace(-1, 1, 12))
        )
        mine = -log_likelihood(found.weights, values, truth) - pull / 3 * np.log(found.weights.clip(1e-12)).sum() / len(truth)
        assert mine <= best + 2e-5
        assert found.score > found.of_mean

    @settings(max_examples=20)
    @given(st.integers(0, 2**31), st.sampled_from(["eg", "em"]), st.booleans())
    def test_never_falls_and_stays_on_the_simplex(self, seed: int, method: str, balanced: bool) -> None:
        values, truth = corpus(40, seed=seed)
        scores = [convex_fit(values, truth, method, pull=0.0, steps=n, tolerance=0.0, balanced=balanced) for n in (1, 3, 9, 27)]  # type: ignore[arg-type]
        for one, other in itertools.pairwise(scores):
            assert other.score >= one.score - 1e-4  # weights below the least are raised to it
            np.testing.assert_allclose(other.weights.sum(axis=0), 1)
            assert other.weights.min() > 0

    def test_takes_missing_sources(self) -> None:
        values, truth = corpus(400, missing=0.4)
        found = convex_fit(values, truth)
        assert found.score > found.of_mean
        assert found.weights[0].mean() > found.weights[2].mean()

    def test_a_class_that_nobody_says_or_has_asks_for_nothing(self) -> None:
        values, truth = corpus(100)
        wider = np.concatenate([values, np.full((100, 3, 1), np.nan)], axis=2)
        for method in ("eg", "em"):
            found = convex_fit(wider, truth, method)  # type: ignore[arg-type]
            np.testing.assert_allclose(found.weights[:, :4], convex_fit(values, truth, method).weights, atol=0.02)  # type: ignore[arg-type]
            np.testing.assert_allclose(found.weights.sum(axis=0), 1)
        none_of_last = truth % 3
        assert np.isfinite(convex_fit(values, none_of_last, "em", pull=0.0).weights).all()

    def test_a_strong_pull_gives_equal_weights(self) -> None:
        values, truth = corpus(100)
        np.testing.assert_allclose(convex_fit(values, truth, pull=1e6).weights, 1 / 3, atol=1e-3)

    def test_balanced_counts_every_class_alike(self) -> None:
        values, truth = corpus(300)
        keep = (truth == 0) | (np.arange(300) % 10 == 0)
        balanced = convex_fit(values[keep], truth[keep], balanced=True, pull=0.0).weights
        counts = np.bincount(truth[keep])
        tripled = np.repeat(np.flatnonzero(keep), np.round(counts.max() / counts[truth[keep]]).astype(int))
        np.testing.assert_allclose(balanced, convex_fit(values[tripled], truth[tripled], pull=0.0).weights, atol=0.06)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v, t: dirichlet_search(v, t, "auc"), r"there is no criterion 'auc'"),
        (lambda v, t: dirichlet_search(v, t, "uar_emotions", neutral=None), r"leaves neutral out; say which column neutral is"),
        (lambda v, t: dirichlet_search(v, t, draws=0), r"draws of at least 1 and a concentration greater than 0, found 0 and 1.0"),
        (lambda v, t: convex_fit(v, t, "newton"), r"convex_fit climbs with eg or em, not 'newton'"),
        (lambda v, t: convex_fit(v, t, pull=-1), r"needs pull and tolerance of at least 0 and steps of at least 1, found -1"),
        (lambda v, t: convex_fit(np.where(np.arange(3)[:, None] == 0, np.nan, v), t, "em"), r"em needs all sources in all rows, and some are missing; take eg"),
        (lambda v, t: convex_fit(np.full_like(v, np.nan), t), r"nothing to learn from: in none of 20 rows"),
        (lambda v, t: convex_fit(v[0], t), r"expected values \(N, M, C\) and truth \(N,\) with rows in them, found \(3, 4\)"),
        (lambda v, t: convex_fit(v, t[:5]), r"expected values \(N, M, C\) and truth \(N,\)"),
        (lambda v, t: convex_fit(v, t + 2), r"expected truth to be whole numbers \(classes\) in \[0, 4\)"),
        (lambda v, t: convex_fit(v, t.astype(float)), r"expected truth to be whole numbers"),
        (lambda v, t: convex_fit(-v, t), r"expected values of 0 or more, NaN where a source says nothing"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(call: object, message: str) -> None:
    values, truth = corpus(20)
    truth[:4] = range(4)
    with pytest.raises(UsageError, match=message):
        call(values, truth)  # type: ignore[operator]
