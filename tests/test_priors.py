"""Class priors: the estimate of Saerens, the nearest rows with given shares, dealing classes out; against scipy and loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, minimize
from scipy.stats import entropy

from affectkit.errors import UsageError
from affectkit.labels import BASIC8, COMPOUND7
from affectkit.priors import PRIORS, Prior, divergence, histogram, prior_of, saerens, toward


def rows(count: int = 60, classes: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.7), count)


def shifted(prior: np.ndarray, count: int = 6000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Exact posteriors under even classes of two normal distributions, for data of another prior, and their classes."""
    random = np.random.default_rng(seed)
    truth = random.choice(2, count, p=prior)
    x = random.normal(size=count) + np.array([-1.0, 1.0])[truth]
    ratio = np.exp(-2 * x)  # N(x; -1) / N(x; 1)
    return np.stack([ratio, np.ones(count)], axis=1) / (1 + ratio)[:, None], truth


def test_the_priors_of_cexpr_db_are_those_of_the_specification() -> None:
    assert PRIORS["cexpr_db"].labels == COMPOUND7
    np.testing.assert_allclose(PRIORS["cexpr_db"].shares, [0.160, 0.276, 0.119, 0.118, 0.117, 0.112, 0.098], atol=5e-4)


def test_saerens_finds_the_prior_and_the_posteriors_under_it() -> None:
    prior = np.array([0.85, 0.15])
    values, truth = shifted(prior)
    found = saerens(values, np.array([0.5, 0.5]))
    np.testing.assert_allclose(found.values.mean(axis=0), prior, atol=0.02)
    exact = values * prior
    np.testing.assert_allclose(found.values, exact / exact.sum(axis=1, keepdims=True), atol=0.03)
    assert (found.values.argmax(axis=1) == truth).mean() > (values.argmax(axis=1) == truth).mean()


def test_saerens_maximises_the_likelihood() -> None:
    """Equation 2.5 of Saerens et al.: the estimate maximises the sum of ln(sum over c of p[n, c] pi'[c] / pi[c])."""
    values, trained = rows(80, 3), np.array([0.2, 0.3, 0.5])
    found = saerens(values, trained, tolerance=1e-12, steps=20000)

    def loss(theta: np.ndarray) -> float:
        prior = np.exp(theta) / np.exp(theta).sum()
        return -float(np.log(values @ (prior / trained)).mean())

    best = minimize(loss, np.zeros(3), method="BFGS").fun
    prior = found.values.mean(axis=0)
    assert loss(np.log(prior.clip(1e-12))) <= best + 1e-6


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.5, 1.0]))
def test_toward_gives_the_shares_and_keeps_what_says_nothing(seed: int, strength: float) -> None:
    random = np.random.default_rng(seed)
    values = rows(40, 4, seed)
    values[3] = np.nan
    wanted, mass = random.dirichlet(np.full(4, 3.0)), random.random(40) + 0.1
    found = toward(values, wanted, strength=strength, weights=mass)
    some = ~np.isnan(values).all(axis=1)
    assert np.isnan(found.values[3]).all()
    np.testing.assert_allclose(found.values[some].sum(axis=1), 1)
    now = np.average(values[some], axis=0, weights=mass[some])
    np.testing.assert_allclose(
        np.average(found.values[some], axis=0, weights=mass[some]), (1 - strength) * now + strength * wanted, atol=1e-4
    )
    ratio = found.values[some] / values[some] / found.factors
    np.testing.assert_allclose(ratio / ratio[:, :1], 1, rtol=1e-6)  # one factor per column


def test_toward_is_the_nearest_table_with_these_shares() -> None:
    values, wanted = rows(12, 3), np.array([0.5, 0.3, 0.2])
    found = toward(values, wanted, tolerance=1e-10).values

    def distance(table: np.ndarray) -> float:
        return float(entropy(table.ravel(), values.ravel()))

    random = np.random.default_rng(1)
    for _ in range(200):  # other tables with the same sums of rows and columns are farther away
        i, j = random.choice(12, 2, replace=False)
        a, b = random.choice(3, 2, replace=False)
        moved = found.copy()
        step = 0.5 * min(found[i, a], found[j, b]) * random.random()
        moved[[i, j], [a, b]] -= step
        moved[[i, j], [b, a]] += step
        assert distance(moved / 12) >= distance(found / 12) - 1e-12


@settings(max_examples=10)
@given(st.integers(0, 2**31))
def test_hard_deals_the_classes_out_as_the_assignment_problem_does(seed: int) -> None:
    values, wanted = rows(40, 4, seed), np.array([0.1, 0.2, 0.3, 0.4])
    found = toward(values, wanted, hard=True)
    places = np.repeat(np.arange(4), (wanted * 40).round().astype(int))
    one, other = linear_sum_assignment(-np.log(values[:, places].clip(1e-12)))
    expected = np.empty(40, dtype=int)
    expected[one] = places[other]
    assert (found.values.argmax(axis=1) == expected).mean() >= 0.95
    np.testing.assert_allclose(found.after, wanted, atol=0.03)


def test_a_class_that_is_not_said_stays_so() -> None:
    values = rows(30, 4)
    values[:, 2] = np.nan
    found = toward(values, np.array([0.25, 0.25, 0.25, 0.25]))
    assert np.isnan(found.values[:, 2]).all()
    np.testing.assert_allclose(np.nanmean(found.values, axis=0)[[0, 1, 3]], 1 / 3, atol=1e-4)


def test_histogram_and_divergence() -> None:
    values = np.array([[0.7, 0.3], [0.2, 0.8], [np.nan, np.nan]])
    assert histogram(values, np.array([3.0, 1.0, 9.0])).tolist() == [0.75, 0.25]
    assert np.isnan(histogram(np.full((2, 2), np.nan))).all()
    assert divergence([0.5, 0.5], [0.2, 0.8]) == pytest.approx(entropy([0.5, 0.5], [0.2, 0.8]))
    assert divergence([0.5, 0.5], [0.0, 1.0]) == float("inf")
    assert divergence([0.0, 1.0], [0.0, 1.0]) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: prior_of("cexpr", COMPOUND7), "there is no prior 'cexpr'. Did you mean cexpr_db"),
        (lambda: prior_of("cexpr_db", BASIC8), "the prior 'cexpr_db' is of compound7, and what is to be corrected is of basic8"),
        (lambda: prior_of("anger=x", BASIC8), "shares of 0 or more, found 'anger=x'"),
        (lambda: prior_of("angr=1", BASIC8), "basic8 has no label 'angr'. Did you mean anger"),
        (lambda: prior_of("anger=0", BASIC8), "a prior needs a share greater than 0"),
        (lambda: Prior(BASIC8, (1.0,), ""), "a prior of basic8 is 8 shares of 0 or more that sum to 1"),
        (lambda: toward(rows(), np.ones(3)), r"expected rows \(N, C\) and C shares, found \(60, 4\) and \(3,\)"),
        (lambda: toward(rows(), np.array([1.0, -1, 1, 1])), "shares of classes are numbers of 0 or more"),
        (lambda: toward(-rows(), np.ones(4)), "expected rows of 0 or more, NaN where nothing is said"),
        (lambda: toward(np.full((2, 4), np.nan), np.ones(4)), "no row that says anything, so there is nothing to correct"),
        (lambda: toward(rows(), np.ones(4), strength=2), "strength is from 0 to 1, found 2"),
        (lambda: toward(rows(), np.ones(4), weights=np.ones(3)), "expected 60 weights of 0 or more, one per row"),
        (lambda: saerens(rows(), np.array([1.0, 1, 1, 0])), "the shares of the training data must be greater than 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(call: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()  # type: ignore[operator]
