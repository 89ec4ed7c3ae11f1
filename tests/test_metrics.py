"""Metrics against scikit-learn and closed forms, and intervals against brute force, on random and degenerate cases."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from affectkit import intervals, metrics
from affectkit.errors import UsageError
from affectkit.intervals import Tally, differences, draws, holm, scores, tally_classes, tally_dimensions, tally_units

SEEDS = st.integers(0, 2**31)
NAMES = ("a", "b", "c", "d", "e")
C = len(NAMES)


def classes(seed: int, rows: int = 40, occurring: int = C) -> tuple[np.ndarray, np.ndarray]:
    """References of the first ``occurring`` classes, and predictions of all."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, occurring, rows), rng.integers(0, C, rows)


def probabilities(seed: int, rows: int = 40) -> np.ndarray:
    return np.random.default_rng(seed + 1).dirichlet(np.ones(C), rows)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


class TestClasses:
    @given(SEEDS, st.integers(0, 60), st.integers(1, C))
    def test_equals_scikit_learn(self, seed: int, rows: int, occurring: int) -> None:
        reference, predicted = classes(seed, rows, occurring)
        confusion = metrics.confusion_matrix(reference, predicted, C)
        if not rows:
            assert not confusion.any()
            assert all(np.isnan(f(confusion)) for f in (metrics.macro_f1, metrics.uar, metrics.war))
            assert np.isnan(metrics.macro_f1(confusion, over="all"))
            return
        every = range(C)
        np.testing.assert_array_equal(confusion, sk.confusion_matrix(reference, predicted, labels=every))
        f1 = sk.f1_score(reference, predicted, labels=every, average=None, zero_division=0)
        np.testing.assert_allclose(np.nan_to_num(metrics.f1_per_class(confusion)), f1)
        precise = sk.precision_score(reference, predicted, labels=every, average=None, zero_division=np.nan)
        np.testing.assert_allclose(metrics.precision(confusion), precise)
        found = sk.recall_score(reference, predicted, labels=every, average=None, zero_division=np.nan)
        np.testing.assert_allclose(metrics.recall(confusion), found)
        present = np.unique(reference)
        assert metrics.macro_f1(confusion) == pytest.approx(
            sk.f1_score(reference, predicted, labels=present, average="macro", zero_division=0)
        )
        official = sk.f1_score(reference, predicted, labels=every, average="macro", zero_division=0)
        assert metrics.macro_f1(confusion, over="all") == pytest.approx(official)
        assert metrics.uar(confusion) == pytest.approx(sk.recall_score(reference, predicted, labels=present, average="macro"))
        assert metrics.war(confusion) == pytest.approx(sk.accuracy_score(reference, predicted))

    def test_a_predicted_class_that_never_occurs_does_not_dilute_but_counts_as_an_error(self) -> None:
        right = metrics.confusion_matrix(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), 3)
        wrong = metrics.confusion_matrix(np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1]), 3)
        assert metrics.macro_f1(right) == 1.0
        assert metrics.macro_f1(wrong) == pytest.approx((2 / 3 + 1) / 2)
        assert sk.f1_score([0, 0, 1, 1], [0, 2, 1, 1], average="macro", zero_division=0) == pytest.approx((2 / 3 + 1) / 3)  # what dilutes
        assert metrics.macro_f1(right, over="all") == pytest.approx(2 / 3)

    def test_rows_that_say_nothing_are_left_out(self) -> None:
        values = np.array([[0.9, 0.1], [np.nan, np.nan], [np.nan, 0.3]])
        assert metrics.predicted_class(values).tolist() == [0, -1, 1]
        assert metrics.confusion_matrix(np.array([0, 0, -1]), metrics.predicted_class(values), 2).tolist() == [[1, 0], [0, 0]]

    def test_of_equal_values_the_first_is_predicted(self) -> None:
        assert metrics.predicted_class(np.array([[0.2, 0.4, 0.4]])).tolist() == [1]

    @pytest.mark.parametrize("bad", [np.array([0, 2]), np.array([0, -2]), np.array([0.0, 1.0])])
    def test_what_is_no_class_is_refused(self, bad: np.ndarray) -> None:
        with pytest.raises(UsageError, match=r"confusion_matrix expected predicted classes as integers from 0 to 1, or -1, found"):
            metrics.confusion_matrix(np.array([0, 1]), bad, 2)

    def test_shapes_must_agree(self) -> None:
        with pytest.raises(UsageError, match=r"expected two arrays of the same shape, found \(2,\) and \(3,\)"):
            metrics.confusion_matrix(np.zeros(2, dtype=int), np.zeros(3, dtype=int), 2)

    def test_an_unknown_way_to_average_is_refused(self) -> None:
        with pytest.raises(UsageError, match="averages over 'occurring' or 'all' classes, not 'some'"):
            metrics.macro_f1(np.eye(2), over="some")  # type: ignore[arg-type]


class TestConcordance:
    @given(SEEDS, st.integers(2, 50), st.floats(-100, 100))
    def test_equals_the_closed_form(self, seed: int, rows: int, shift: float) -> None:
        rng = np.random.default_rng(seed)
        x = rng.normal(size=rows) + shift
        y = 0.5 * x + rng.normal(size=rows)
        covariance = np.cov(x, y, ddof=0)
        expected = 2 * covariance[0, 1] / (covariance[0, 0] + covariance[1, 1] + (x.mean() - y.mean()) ** 2)
        assert float(metrics.ccc(x, y)) == pytest.approx(expected, abs=1e-9)
        assert float(metrics.ccc(y, x)) == pytest.approx(expected, abs=1e-9)

    @pytest.mark.parametrize("constant", [0.0, 0.1, 0.3, -0.7, 1e6])
    def test_constants(self, constant: float) -> None:
        varying, flat = np.linspace(-1, 1, 1001), np.full(1001, constant)
        assert metrics.ccc(varying, flat) == 0
        assert metrics.ccc(flat, varying) == 0
        assert metrics.ccc(flat, flat + 1) == 0
        assert np.isnan(metrics.ccc(flat, flat))

    def test_what_agrees_has_one_and_what_opposes_minus_one(self) -> None:
        x = np.linspace(-1, 1, 7)
        assert float(metrics.ccc(x, x)) == pytest.approx(1)
        assert float(metrics.ccc(x, -x)) == pytest.approx(-1)

    def test_nan_is_left_out_in_each_dimension_on_its_own(self) -> None:
        x = np.array([[0.0, np.nan], [0.5, 0.5], [1.0, 1.0], [np.nan, 0.2]])
        y = np.array([[0.1, 0.3], [0.4, np.nan], [0.8, 0.9], [0.2, 0.1]])
        both = metrics.ccc(x, y)
        assert both.shape == (2,)
        assert both[0] == pytest.approx(float(metrics.ccc(x[:3, 0], y[:3, 0])))
        assert both[1] == pytest.approx(float(metrics.ccc(x[2:, 1], y[2:, 1])))

    def test_nothing_says_nothing(self) -> None:
        assert np.isnan(metrics.ccc(np.empty(0), np.empty(0)))
        assert np.isnan(metrics.ccc(np.empty((0, 2)), np.empty((0, 2)))).all()
        assert np.isnan(metrics.ccc(np.array([np.nan]), np.array([1.0])))


class TestUnits:
    @given(SEEDS, st.integers(1, 40), st.floats(0, 1))
    def test_equals_scikit_learn(self, seed: int, rows: int, rate: float) -> None:
        rng = np.random.default_rng(seed)
        reference, predicted = rng.random((2, rows, C)) < rate
        expected = [sk.f1_score(reference[:, c], predicted[:, c], zero_division=0) for c in range(C)]
        np.testing.assert_allclose(metrics.unit_f1(reference, predicted), expected)

    def test_nan_is_left_out_in_each_unit_on_its_own(self) -> None:
        reference = np.array([[1, np.nan], [1, 1], [0, 1]])
        predicted = np.array([[1, 1], [np.nan, 1], [1, 0]])
        np.testing.assert_allclose(metrics.unit_f1(reference, predicted), [2 / 3, 2 / 3])

    def test_nothing_says_nothing(self) -> None:
        assert np.isnan(metrics.unit_f1(np.empty((0, 2)), np.empty((0, 2)))).all()


class TestCalibration:
    @given(SEEDS, st.integers(1, 80))
    def test_equals_the_sum_over_bins(self, seed: int, rows: int) -> None:
        rng = np.random.default_rng(seed)
        confidence, correct = rng.random(rows), rng.random(rows) < 0.5
        expected = 0.0
        for m in range(1, 16):
            inside = (confidence > (m - 1) / 15) & (confidence <= m / 15)
            if inside.any():
                expected += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
        assert metrics.ece(confidence, correct) == pytest.approx(expected)

    def test_ends_are_in_the_outer_bins(self) -> None:
        assert metrics.ece(np.array([0.0, 1.0]), np.array([True, False])) == 1.0
        assert metrics.ece(np.array([0.0, 1.0]), np.array([False, True])) == 0.0

    def test_nan_is_left_out_and_nothing_says_nothing(self) -> None:
        assert metrics.ece(np.array([0.8, np.nan]), np.array([True, True])) == pytest.approx(0.2)
        assert np.isnan(metrics.ece(np.array([np.nan]), np.array([True])))
        assert np.isnan(metrics.ece(np.empty(0), np.empty(0, dtype=bool)))


class TestTallies:
    """A tally over all rows equals the functions; a resample equals the functions over its rows, written out."""

    @given(SEEDS, st.integers(1, 5), st.booleans())
    def test_resamples_of_classes_equal_their_rows_written_out(self, seed: int, videos: int, unanswered: bool) -> None:
        rng = np.random.default_rng(seed)
        reference, values = rng.integers(-1, C, 40), probabilities(seed)
        values[rng.random(40) < 0.2] = np.nan
        video = rng.integers(0, videos, 40)
        tally = tally_classes(reference, values, video, NAMES, unanswered=unanswered)
        weights = next(draws(max(1, len(tally.videos)), 3, seed))[:, : len(tally.videos)]
        found = tally.metrics(weights)
        for r in range(3):
            rows = written_out(tally, weights[r], video)
            again = tally_classes(reference[rows], values[rows], np.zeros(len(rows)), NAMES, unanswered=unanswered).metrics()
            for name, value in again.items():
                np.testing.assert_allclose(found[name][r], value[0], err_msg=name, atol=1e-12)

    @given(SEEDS, st.integers(1, 5))
    def test_resamples_of_units_and_dimensions_equal_their_rows_written_out(self, seed: int, videos: int) -> None:
        rng = np.random.default_rng(seed)
        values, video = rng.random((40, C)), rng.integers(0, videos, 40)
        values[rng.random((40, C)) < 0.1] = np.nan
        for make, reference in (
            (tally_units, (rng.random((40, C)) < 0.3).astype(float)),
            (tally_dimensions, values + rng.normal(size=(40, C))),
        ):
            tally = make(reference, values, video, NAMES)
            weights = next(draws(max(1, len(tally.videos)), 3, seed))[:, : len(tally.videos)]
            found = tally.metrics(weights)
            for r in range(3):
                rows = written_out(tally, weights[r], video)
                again = make(reference[rows], values[rows], np.zeros(len(rows)), NAMES).metrics()
                for name, value in again.items():
                    np.testing.assert_allclose(found[name][r], value[0], err_msg=name, atol=1e-9)

    @given(SEEDS)
    def test_of_all_rows_equal_the_functions(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        reference, values = rng.integers(0, C - 1, 40), probabilities(seed)
        found = {
            name: float(value[0]) for name, value in tally_classes(reference, values, np.arange(40) % 3, NAMES, track=3).metrics().items()
        }
        predicted = values.argmax(axis=1)
        confusion = metrics.confusion_matrix(reference, predicted, C)
        assert found["macro_f1"] == pytest.approx(metrics.macro_f1(confusion))
        assert found["macro_f1_all"] == pytest.approx(sk.f1_score(reference, predicted, labels=range(3), average="macro", zero_division=0))
        assert found["uar"] == pytest.approx(metrics.uar(confusion))
        assert found["war"] == pytest.approx((predicted == reference).mean())
        assert found["ece"] == pytest.approx(metrics.ece(values.max(axis=1), predicted == reference))
        np.testing.assert_allclose([found[f"f1/{name}"] for name in NAMES], metrics.f1_per_class(confusion))
        assert np.isnan(found["recall/e"])

    def test_what_is_not_answered_is_left_out_or_wrong(self) -> None:
        reference, values = np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [np.nan, np.nan]])
        video = np.array([0, 0, 1])
        skipped, wrong = (tally_classes(reference, values, video, ("no", "yes"), unanswered=how) for how in (False, True))
        assert (len(skipped.videos), len(wrong.videos)) == (1, 2)
        assert (skipped.metrics()["war"][0], wrong.metrics()["war"][0]) == (1.0, pytest.approx(2 / 3))
        assert wrong.metrics()["f1/yes"][0] == pytest.approx(2 / 3)
        assert wrong.metrics()["macro_f1_all"][0] == pytest.approx((1 + 2 / 3) / 2)
        assert skipped.metrics()["ece"] == wrong.metrics()["ece"]

    def test_a_unit_that_cannot_be_said_is_never_predicted(self) -> None:
        reference = np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
        values = np.array([[0.9, np.nan], [0.1, np.nan], [np.nan, np.nan]])
        found = tally_units(reference, values, np.zeros(3), ("au1", "au2"), unsaid=np.array([False, True])).metrics()
        assert (found["f1/au1"][0], found["f1/au2"][0], found["mean_f1"][0]) == (1.0, 0.0, 0.5)
        assert found["ece"][0] == pytest.approx(0.1)
        assert np.isnan(found["ece/au2"][0])

    def test_units_that_are_not_answered_are_wrong_where_they_shall_be(self) -> None:
        reference, values = np.array([[1.0], [0.0], [1.0]]), np.array([[0.9], [np.nan], [np.nan]])
        found = tally_units(reference, values, np.zeros(3), ("au1",), unanswered=True).metrics()
        assert found["f1/au1"][0] == pytest.approx(2 / (2 + 1 + 1))

    def test_a_unit_that_never_occurs_is_not_averaged_but_in_the_official_mean(self) -> None:
        reference, values = np.array([[1.0, 0.0]]), np.array([[0.9, 0.1]])
        found = tally_units(reference, values, np.zeros(1), ("au1", "au2")).metrics()
        assert (found["mean_f1"][0], found["mean_f1_all"][0]) == (1.0, 0.5)

    def test_a_dimension_that_is_not_said_is_not_averaged(self) -> None:
        x = np.array([[0.1, 0.5], [0.3, 0.2]])
        found = tally_dimensions(x, np.where([True, False], x, np.nan), np.zeros(2), ("valence", "arousal")).metrics()
        assert found["mean_ccc"][0] == found["ccc/valence"][0] == pytest.approx(1)
        assert np.isnan(found["ccc/arousal"][0])

    @pytest.mark.parametrize(
        "tally",
        [
            tally_classes(np.full(2, -1), np.full((2, C), 0.2), np.zeros(2), NAMES),
            tally_units(np.full((2, C), np.nan), np.full((2, C), 0.2), np.zeros(2), NAMES),
            tally_dimensions(np.empty((0, C)), np.empty((0, C)), np.empty(0), NAMES),
        ],
        ids=["classes", "units", "dimensions"],
    )
    def test_without_rows_nothing_is_said(self, tally: Tally) -> None:
        assert tally.videos == ()
        assert all(np.isnan(score.value) and score.low is None for score in scores(tally).values())


def written_out(tally: Tally, weights: np.ndarray, video: np.ndarray) -> np.ndarray:
    """The rows of a resample, each as often as its video was drawn."""
    times = dict(zip(tally.videos, weights.astype(int), strict=True))
    return np.repeat(np.arange(len(video)), [times.get(str(v), 0) for v in video])


class TestIntervals:
    def test_are_percentiles_over_resampled_videos(self) -> None:
        rng = np.random.default_rng(3)
        reference, video = rng.integers(0, 2, 60), np.repeat(np.arange(6), 10)
        values = np.stack([1 - (p := rng.random(60)), p], axis=1)
        found = scores(tally_classes(reference, values, video, ("no", "yes")), resamples=200, seed=5)["war"]
        correct = (values.argmax(axis=1) == reference).reshape(6, 10).sum(axis=1)
        drawn = [(weights * correct).sum() / 60 for weights in next(draws(6, 200, 5))]
        assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))
        assert found.low < found.value < found.high

    def test_draw_whole_videos(self) -> None:
        """All rows of a video stand or fall together: with two videos, one right and one wrong, a resample has 0, a half or all."""
        reference, values = np.zeros(200, dtype=int), np.tile([0.9, 0.1], (200, 1))
        values[100:] = [0.1, 0.9]
        tally = tally_classes(reference, values, np.repeat([0, 1], 100), ("no", "yes"))
        assert set(tally.metrics(next(draws(2, 100, 0)))["war"]) == {0.0, 0.5, 1.0}
        found = scores(tally)["war"]
        assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)

    def test_many_videos_are_resampled_in_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reference, predicted = classes(0)
        tally = tally_classes(reference, np.eye(C)[predicted], np.arange(40) % 7, NAMES)
        whole = scores(tally, resamples=50)
        monkeypatch.setattr(intervals, "BLOCK", 7 * 8)
        assert [len(block) for block in draws(7, 50, 0)] == [8] * 6 + [2]
        assert scores(tally, resamples=50)["uar"] == whole["uar"]

    def test_one_video_has_none(self) -> None:
        reference, predicted = classes(0)
        found = scores(tally_classes(reference, np.eye(C)[predicted], np.zeros(40), NAMES))
        assert all(score.low is None and score.high is None for score in found.values())
        assert not np.isnan(found["war"].value)

    def test_zero_resamples_have_none(self) -> None:
        reference, predicted = classes(0)
        assert scores(tally_classes(reference, np.eye(C)[predicted], np.arange(40), NAMES), resamples=0)["war"].low is None

    def test_the_same_seed_gives_the_same(self) -> None:
        reference, predicted = classes(0)
        tally = tally_classes(reference, np.eye(C)[predicted], np.arange(40) % 7, NAMES)
        assert scores(tally, seed=1)["uar"] == scores(tally, seed=1)["uar"] != scores(tally, seed=2)["uar"]

    def test_a_metric_that_hardly_any_resample_says_has_none(self) -> None:
        reference = np.array([0] * 9 + [1])
        tally = tally_classes(reference, np.tile([0.9, 0.1], (10, 1)), np.array([0] + [1] * 8 + [2]), ("no", "yes"))
        found = scores(tally)
        assert np.isnan(found["precision/yes"].value)
        assert found["precision/yes"].low is None


class TestDifferences:
    def tallies(self, better: float, videos: int = 20, seed: int = 0) -> tuple[Tally, Tally]:
        """Two that are right in a share of 0.5 and ``better`` of the rows."""
        rng = np.random.default_rng(seed)
        reference, video = rng.integers(0, 2, videos * 30), np.repeat(np.arange(videos), 30)
        made = []
        for share in (0.5, better):
            said = np.where(rng.random(len(reference)) < share, reference, 1 - reference)
            made.append(tally_classes(reference, np.eye(2)[said], video, ("no", "yes")))
        return made[0], made[1]

    def test_one_that_is_there_is_found(self) -> None:
        found = differences(*self.tallies(0.8))["war"]
        assert found.value == pytest.approx(0.3, abs=0.08)
        assert 0 < found.low < found.value < found.high
        assert found.p == pytest.approx(2 / 1001)

    def test_none_is_not_found_more_often_than_the_level_says(self) -> None:
        p = [differences(*self.tallies(0.5, seed=seed), resamples=200)["war"].p for seed in range(60)]
        assert 0 <= sum(value < 0.05 for value in p) <= 9

    def test_of_the_same_is_nothing(self) -> None:
        one, _ = self.tallies(0.5)
        found = differences(one, one)
        assert all((d.value, d.low, d.high, d.p) == (0, 0, 0, 1) for name, d in found.items() if not np.isnan(d.value))

    def test_changes_its_sign_with_the_order(self) -> None:
        one, other = self.tallies(0.6, videos=5)
        there, back = differences(one, other)["uar"], differences(other, one)["uar"]
        assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))
        assert there.p == back.p

    def test_rounding_is_no_difference(self) -> None:
        reference, video = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
        one, other = (
            tally_classes(reference, np.stack([(p := np.full(4, 0.6) + shift), 1 - p], axis=1), video, ("no", "yes")) for shift in (0, 1e-8)
        )
        found = differences(one, other)["ece"]
        assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)

    def test_one_video_tells_nothing(self) -> None:
        one, other = self.tallies(0.8, videos=1)
        found = differences(one, other)["war"]
        assert (found.low, found.high, found.p) == (None, None, None)

    def test_needs_the_same_videos(self) -> None:
        with pytest.raises(UsageError, match="a paired comparison needs the same videos, found 0, 1 and 0, 1, 2"):
            differences(self.tallies(0.5, videos=2)[0], self.tallies(0.5, videos=3)[1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_its_definition_rejects(p: list[float]) -> None:
    for alpha in (0.01, 0.05, 0.3):
        rejected = set()
        for rank, i in enumerate(sorted(range(len(p)), key=lambda i: (p[i], i))):
            if p[i] * (len(p) - rank) > alpha:
                break
            rejected.add(i)
        assert {i for i, value in enumerate(holm(p)) if value is not None and value <= alpha} == rejected


def test_holm_leaves_out_what_is_not_known() -> None:
    assert holm([None, 0.02, None]) == [None, 0.02, None]
    assert holm([]) == []
