"""Label sets, aliases, and projection by name."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectkit.errors import LabelError
from affectkit.labels import (
    AFFECTNET7,
    AFFECTNET8,
    AU12,
    BASIC7,
    BASIC8,
    COMPOUND7,
    DFEW7,
    FERV39K7,
    FERV39K7_DFER_CLIP,
    KNOWN,
    MAFW11,
    MAFW11_DFER_CLIP,
    MAFW11_OFFICIAL,
    VA,
    LabelSet,
    canonical,
    project,
    projection,
    projects,
)

# Label orders as the notes on the data sets and models write them, in their own words.
WRITTEN = {
    "basic8": "Neutral Anger Disgust Fear Happiness Sadness Surprise Other",
    "compound7": "Fearfully_Surprised Happily_Surprised Sadly_Surprised Disgustedly_Surprised Angrily_Surprised Sadly_Fearful Sadly_Angry",
    "dfew7": "happy sad neutral angry surprise disgust fear",
    "ferv39k7": "angry disgust fear happy neutral sad surprise",
    "ferv39k7_dfer_clip": "happy sad neutral anger surprise disgust fear",
    "mafw11": "anger anxiety contempt disappointment disgust fear happiness helplessness neutral sadness surprise",
    "mafw11_official": "anger disgust fear happiness neutral sadness surprise contempt anxiety helplessness disappointment",
    "mafw11_dfer_clip": "happiness sadness neutral anger surprise disgust fear contempt anxiety helplessness disappointment",
    "affectnet7": "neutral happy sad surprise fear disgust anger",
    "affectnet8": "neutral happy sad surprise fear disgust anger contempt",
    "va": "valence arousal",
}
SAME_LABELS = [(DFEW7, FERV39K7), (FERV39K7, AFFECTNET7), (AFFECTNET7, BASIC7), (FERV39K7_DFER_CLIP, DFEW7)]
SAME_LABELS += list(itertools.permutations([MAFW11, MAFW11_OFFICIAL, MAFW11_DFER_CLIP], 2))


def distributions(n: int, labels: LabelSet, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(len(labels)), n)


class TestSets:
    @pytest.mark.parametrize("name", WRITTEN)
    def test_orders(self, name: str) -> None:
        written = WRITTEN[name].split()
        assert [canonical(label) for label in written] == list(KNOWN[name].labels)
        assert [KNOWN[name].index(label) for label in written] == list(range(len(written)))

    def test_kinds_and_ranges(self) -> None:
        assert {s.kind for s in (BASIC8, BASIC7, COMPOUND7)} == {"categorical"}
        assert (VA.kind, VA.low, VA.high) == ("continuous", -1, 1)
        assert (AU12.kind, AU12.low, AU12.high) == ("multilabel", 0, 1)
        assert AU12.labels == ("au1", "au2", "au4", "au6", "au7", "au10", "au12", "au15", "au23", "au24", "au25", "au26")

    def test_names_are_unique(self) -> None:
        assert all(name == labels.name for name, labels in KNOWN.items())
        assert len(KNOWN) == 13

    def test_compounds_name_their_pairs(self) -> None:
        assert COMPOUND7.pairs is not None
        columns = [[BASIC8.index(one), BASIC8.index(other)] for one, other in COMPOUND7.pairs]
        assert columns == [[3, 6], [4, 6], [5, 6], [2, 6], [1, 6], [5, 3], [5, 1]]

    def test_sets_are_values(self) -> None:
        assert LabelSet("two", ["no", "yes"]) == LabelSet("two", ("no", "yes"))  # type: ignore[arg-type]
        assert len({LabelSet("a", ("x",), pairs=[["p", "q"]]), LabelSet("a", ("x",), pairs=(("p", "q"),))}) == 1  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("x", ()), r"label set 'x' has no labels; give at least one"),
            (("x", "happy"), r"label set 'x' needs a tuple of labels, found the text 'happy'; write \('happy',\)"),
            (("x", ("a", "b", "a")), r"label set 'x' names a twice: \[a, b, a\]"),
            (("x", ("Happy",)), r"label set 'x': \[Happy\] must be lower snake case, for instance 'happy'"),
            (("My Set", ("a",)), r"\[My Set\] must be lower snake case, for instance 'my_set'"),
            (("x", ("a",), "ordinal"), r"label set 'x' has kind 'ordinal'; kinds are categorical, multilabel, continuous"),
            (("x", ("a",), "continuous", 1.0, 1.0), r"label set 'x' has the empty range \[1\.0, 1\.0\]"),
            (("x", ("a",), "continuous", float("nan"), 1.0), r"label set 'x' has the empty range \[nan, 1\.0\]"),
            (("x", ("a",), "categorical", -1.0, 1.0), r"label set 'x' is categorical, so its values are probabilities in \[0, 1\], not \[-1\.0, 1\.0\]"),
            (("x", ("a", "b"), "categorical", 0.0, 1.0, (("p", "q"),)), r"label set 'x' has 2 labels and 1 pairs; give one pair per label"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_is_refused(self, arguments: tuple, message: str) -> None:
        with pytest.raises(LabelError, match=message):
            LabelSet(*arguments)

    def test_an_unknown_label_shows_the_list(self) -> None:
        with pytest.raises(
            LabelError, match=r"'boredom' is not in label set 'dfew7': \[happiness, sadness, neutral, anger, surprise, disgust, fear\]"
        ):
            DFEW7.index("boredom")

    @pytest.mark.parametrize(
        ("word", "name"),
        [
            *(("angry", "anger"), ("Happy", "happiness"), ("joy", "happiness"), ("calm", "neutral"), ("SAD", "sadness"), ("surprised", "surprise")),
            *(("fearful", "fear"), ("disgusted", "disgust"), ("Sadly Angry", "sadly_angry"), ("sadly-angry", "sadly_angry"), (" Other ", "other")),
        ],
    )  # fmt: skip
    def test_aliases(self, word: str, name: str) -> None:
        assert canonical(word) == name


class TestProjection:
    @pytest.mark.parametrize(("source", "target"), SAME_LABELS, ids=lambda s: s.name)
    @given(seed=st.integers(0, 2**31))
    def test_orders_round_trip(self, source: LabelSet, target: LabelSet, seed: int) -> None:
        values = distributions(4, source, seed)
        there, support = project(values, source, target)
        assert support.all()
        for label in source.labels:
            np.testing.assert_array_equal(there[:, target.index(label)], values[:, source.index(label)])
        back, _ = project(there, target, source)
        np.testing.assert_array_equal(back, values)

    def test_s4d_to_dfer_clip(self) -> None:
        """The bijection of MAFW that was found by matching clip ids."""
        expected = {0: 3, 1: 8, 2: 7, 3: 10, 4: 5, 5: 6, 6: 0, 7: 9, 8: 2, 9: 1, 10: 4}
        assert dict(enumerate(projection(MAFW11, MAFW11_DFER_CLIP).matrix.argmax(axis=1).tolist())) == expected

    def test_emoaffectnet_to_abaw(self) -> None:
        """Notes on Team RAS: p8[[0, 4, 5, 6, 3, 2, 1]] = p_emo, and nothing is said about other."""
        values = distributions(3, AFFECTNET7)
        out, support = project(values, AFFECTNET7, BASIC8)
        np.testing.assert_array_equal(out[:, [0, 4, 5, 6, 3, 2, 1]], values)
        assert support.tolist() == [True] * 7 + [False]
        assert np.isnan(out[:, 7]).all()

    @given(st.integers(0, 2**31))
    def test_calm_merges_into_neutral(self, seed: int) -> None:
        ravdess = LabelSet("ravdess8", ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"))
        values = distributions(5, ravdess, seed)
        out, support = project(values, ravdess, BASIC8, "error")
        np.testing.assert_allclose(out[:, 0], values[:, 0] + values[:, 1])
        np.testing.assert_allclose(np.nansum(out, axis=1), 1)
        assert support.tolist() == [True] * 7 + [False]

    @given(
        st.sampled_from([DFEW7, MAFW11, AFFECTNET8, BASIC7, BASIC8]),
        st.sampled_from([BASIC8, BASIC7, DFEW7, MAFW11]),
        st.sampled_from(["other", "drop"]),
        st.integers(0, 2**31),
    )
    def test_rows_stay_distributions(self, source: LabelSet, target: LabelSet, outside: str, seed: int) -> None:
        if outside == "other" and "other" not in target.labels:
            outside = "drop"
        values = distributions(6, source, seed)
        values[0] = np.nan
        out, support = project(values, source, target, outside)  # type: ignore[arg-type]
        np.testing.assert_allclose(np.nansum(out[1:], axis=1), 1)
        assert np.isnan(out[0]).all()
        assert np.isnan(out[:, ~support]).all()
        assert not np.isnan(out[1:, support]).any()

    def test_outside_other_adds_up(self) -> None:
        values = distributions(3, MAFW11)
        out, support = project(values, MAFW11, BASIC8)
        extra = [MAFW11.index(label) for label in ("anxiety", "contempt", "disappointment", "helplessness")]
        np.testing.assert_allclose(out[:, 7], values[:, extra].sum(axis=1))
        assert support.all()

    def test_outside_drop_renormalises(self) -> None:
        values = distributions(3, AFFECTNET8)
        out, support = project(values, AFFECTNET8, BASIC8, "drop")
        np.testing.assert_allclose(out[:, 4], values[:, 1] / (1 - values[:, 7]))
        assert not support[7]
        assert projection(AFFECTNET8, BASIC8, "drop").dropped == ("contempt",)

    def test_a_row_with_nothing_left_is_nan(self) -> None:
        out, _ = project(np.eye(8)[[7, 0]], AFFECTNET8, BASIC7, "drop")
        assert np.isnan(out[0]).all()
        assert out[1, 0] == 1

    def test_a_class_that_is_nan_does_not_spoil_the_others(self) -> None:
        values = distributions(1, BASIC8)
        values[0, 7] = np.nan
        out, support = project(values, BASIC8, BASIC7, "drop")
        np.testing.assert_allclose(out[0], values[0, :7] / values[0, :7].sum())
        assert support.all()

    def test_continuous_values_move_with_the_range(self) -> None:
        five = LabelSet("sam", ("arousal", "dominance", "valence"), kind="continuous", low=1, high=5)
        out, support = project(np.array([[1.0, 3.0, 5.0], [3.0, 1.0, 2.0]]), five, VA, "drop")
        np.testing.assert_allclose(out, [[1, -1], [-0.5, 0]])
        assert support.all()

    def test_multilabel_columns_that_meet_are_averaged(self) -> None:
        words = LabelSet("words", ("joy", "happy", "sad"), kind="multilabel")
        moods = LabelSet("moods", ("happiness", "sadness", "fear"), kind="multilabel")
        out, support = project(np.array([[0.2, 0.8, 0.9]]), words, moods)
        np.testing.assert_allclose(out[0], [0.5, 0.9, np.nan])
        assert support.tolist() == [True, True, False]

    def test_what_can_be_projected(self) -> None:
        assert projects(MAFW11, BASIC8)
        assert not projects(VA, BASIC8)
        assert not projects(COMPOUND7, BASIC8)

    def test_the_input_is_left_alone(self) -> None:
        values = distributions(2, AFFECTNET8)
        before = values.copy()
        project(values, AFFECTNET8, BASIC8, "drop")
        np.testing.assert_array_equal(values, before)


BASIC7_LIST = r"basic7: \[neutral, anger, disgust, fear, happiness, sadness, surprise\]"
BASIC8_LIST = BASIC7_LIST.replace("basic7", "basic8").replace(r"\]", r", other\]")


class TestMismatches:
    """A mismatch is an error that shows both lists."""

    @pytest.mark.parametrize(
        ("source", "target", "outside", "message"),
        [
            (VA, BASIC8, "other", rf"'va' is continuous and 'basic8' is categorical: one cannot be read as the other \(va: \[valence, arousal\]; {BASIC8_LIST}\)"),
            (COMPOUND7, BASIC8, "other", rf"'compound7' and 'basic8' share no label \(compound7: \[fearfully_surprised, .*sadly_angry\]; {BASIC8_LIST}\)"),
            (BASIC8, BASIC7, "error", rf"'basic8' has labels that 'basic7' does not: \[other\]; choose outside='drop' or 'other' \({BASIC8_LIST}; {BASIC7_LIST}\)"),
            (BASIC8, BASIC7, "other", rf"'basic7' has no class 'other' for \[other\]; choose outside='drop' \({BASIC8_LIST}; {BASIC7_LIST}\)"),
        ],
    )  # fmt: skip
    def test_projection(self, source: LabelSet, target: LabelSet, outside: str, message: str) -> None:
        with pytest.raises(LabelError, match=message):
            projection(source, target, outside)  # type: ignore[arg-type]

    def test_wrong_number_of_columns(self) -> None:
        with pytest.raises(
            LabelError, match=rf"shape \(N, 7\) for 'dfew7', found \(2, 8\) \(dfew7: \[happiness, .*fear\]; {BASIC8_LIST}\)"
        ):
            project(np.zeros((2, 8)), DFEW7, BASIC8)

    def test_unknown_policy(self) -> None:
        with pytest.raises(LabelError, match=r"unknown policy outside='ignore'; policies are other, drop, error"):
            projection(DFEW7, BASIC8, "ignore")  # type: ignore[arg-type]
