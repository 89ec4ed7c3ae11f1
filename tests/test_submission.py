"""From windows to an answer per line: frames, gaps, smoothing, people, sources, and what is said where something cannot be answered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from affectkit.api import AU12, BASIC7, BASIC8, COMPOUND7, VA, Asked, LabelSet, PluginError, Problem, Submitter, UsageError
from affectkit.errors import Problems, StoreError
from affectkit.gaps import fill, smooth
from affectkit.series import seconds_of
from affectkit.subjects import of_subject
from affectkit.submission import Choices, answer, default_of, submit
from affectkit.tables import FrameTimes
from affectkit.timeline import Timeline
from tests.run_folders import Film, one_hot, write_run

NAN = np.nan


class Plain(Submitter):
    """Writes one number per line; takes any list of videos and frames."""

    name = "plain"
    labels = VA

    def __init__(self, *labels: LabelSet) -> None:
        super().__init__()
        self.labels = labels or (VA,)

    def read_template(self, template: Path) -> Asked:
        return listed(*(line.split() for line in template.read_text().splitlines()))

    def write(self, asked: Asked, answers, out: Path) -> None:
        out.write_text("".join(f"{name} {answers[VA][line, 0]:g}\n" for line, name in enumerate(asked.names)))

    def check(self, file: Path, template: Path) -> list[Problem]:
        return [Problem(1, "is not welcome")] if "unwelcome" in file.read_text() else []


def listed(*lines: tuple[str, int | str]) -> Asked:
    return Asked(tuple(f"{v}/{f}" for v, f in lines), tuple(v for v, _ in lines), np.array([int(f) for _, f in lines]))


def frames_of(video: str, count: int) -> list[tuple[str, int]]:
    return [(video, number) for number in range(1, count + 1)]


def va(start: float, end: float, value: float | None, track: int = -1, source: str = "a/b"):
    return source, VA, track, start, end, None if value is None else [value, -value]


def valence(run: Path, asked: Asked, **choices) -> list[float]:
    return answer(run, Plain(), asked, Choices(**choices)).values[VA][:, 0].round(6).tolist()


# smoothing and gaps


@given(
    values=arrays.arrays(np.float64, st.tuples(st.integers(1, 25), st.integers(1, 3)), elements=st.one_of(st.just(NAN), st.floats(-2, 2))),
    gaps=st.lists(st.floats(0.02, 0.5), min_size=25, max_size=25),
    kernel=st.sampled_from(["box", "gaussian"]),
    seconds=st.floats(0.05, 2.0),
)
def test_smoothing_is_a_mean_over_what_is_said(values, gaps, kernel, seconds):
    times = np.cumsum(gaps)[: len(values)]
    found = smooth(times, values, kernel, seconds)
    for t in range(len(values)):
        distance = np.abs(times - times[t])
        for c in range(values.shape[1]):
            if np.isnan(values[t, c]):
                assert np.isnan(found[t, c])
                continue
            weight = (distance <= seconds / 2 + 1e-6) * 1.0 if kernel == "box" else np.exp(-0.5 * (distance / seconds) ** 2)
            said = ~np.isnan(values[:, c])
            assert found[t, c] == pytest.approx(np.average(values[said, c], weights=weight[said]), abs=2e-3)


def test_a_box_has_its_whole_width_and_a_gaussian_its_standard_deviation():
    times, impulse = np.arange(101) / 25, np.zeros((101, 1))
    impulse[50] = 1.0
    assert np.flatnonzero(smooth(times, impulse, "box", 0.2)[:, 0]).tolist() == [48, 49, 50, 51, 52]  # 0.1 s to each side
    bell = smooth(times, impulse, "gaussian", 0.2)[:, 0]
    assert np.sqrt(np.sum(bell * (times - 2.0) ** 2) / bell.sum()) == pytest.approx(0.2, rel=0.01)


@given(
    values=arrays.arrays(np.float64, st.tuples(st.integers(1, 20), st.just(1)), elements=st.one_of(st.just(NAN), st.floats(-2, 2))),
    gaps=st.lists(st.floats(0.1, 1.0), min_size=20, max_size=20),
)
def test_gaps_are_filled_as_pandas_and_numpy_fill_them(values, gaps):
    times = np.cumsum(gaps)[: len(values)]
    column = pd.Series(values[:, 0])
    assert np.array_equal(fill(times, values, "hold")[:, 0], column.ffill().bfill(), equal_nan=True)
    assert np.array_equal(fill(times, values, "published")[:, 0], column.ffill(), equal_nan=True)
    said = ~column.isna()
    if said.any():
        assert fill(times, values, "interpolate")[:, 0] == pytest.approx(np.interp(times, times[said], column[said]))
    else:
        assert np.isnan(fill(times, values, "interpolate")).all()


def test_a_class_that_cannot_be_said_stays_so_in_a_filled_row():
    values = np.array([[0.4, NAN], [NAN, NAN], [0.6, 0.2]])
    assert fill(np.arange(3.0), values, "interpolate").tolist()[1] == [0.5, pytest.approx(NAN, nan_ok=True)]
    assert np.isnan(fill(np.arange(3.0), values, "hold")[1, 1])


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: smooth(np.zeros(1), np.zeros((1, 1)), "tent", 1), "smoothing is box or gaussian, not 'tent'"),
        (lambda: smooth(np.zeros(1), np.zeros((1, 1)), "box", 0), "smoothing needs seconds greater than 0, found 0"),
        (lambda: smooth(np.zeros(1), np.zeros((1, 1)), "box", float("nan")), "smoothing needs seconds greater than 0, found nan"),
        (lambda: fill(np.zeros(1), np.zeros((1, 1)), "guess"), "policies for gaps are hold, interpolate, published, not 'guess'"),
    ],
)
def test_unknown_kernels_widths_and_policies(call, told):
    with pytest.raises(UsageError) as error:
        call()
    assert str(error.value) == told


# frames


def test_a_frame_is_the_mean_over_the_windows_that_cover_it(tmp_path):
    run = write_run(tmp_path / "run", {"v": Film(8, [va(0, 1, 0.2), va(0.4, 1.6, 0.6)])})
    assert valence(run, listed(*frames_of("v", 8))) == [0.2, 0.2, 0.4, 0.4, 0.4, 0.6, 0.6, 0.6]


def test_lines_are_answered_in_the_order_of_the_list_and_only_those(tmp_path):
    run = write_run(tmp_path / "run", {"v": Film(8, [va(0, 1, 0.2), va(1, 1.6, 0.6)]), "w": Film(2, [va(0, 1, -1)]), "z": Film(2)})
    answered = answer(run, Plain(), listed(("v", 7), ("w", 2), ("v", 1)))
    assert answered.values[VA][:, 0].round(6).tolist() == [0.6, -1, 0.2]
    assert answered.unasked == ("z",)
    assert [(v.name, v.lines, v.frames, v.extra, v.unasked) for v in answered.videos] == [("v", 2, 8, 0, 6), ("w", 1, 2, 0, 1)]


@pytest.mark.parametrize(
    ("gaps", "filled"), [("hold", [0.2, 0.2, 0.2, 0.2, 0.6, 0.6]), ("interpolate", [0.2, 0.2, 0.333333, 0.466667, 0.6, 0.6])]
)
def test_gaps_within_a_video(tmp_path, gaps, filled):
    run = write_run(tmp_path / "run", {"v": Film(6, [va(0, 0.2, None), va(0.2, 0.4, 0.2), va(0.4, 0.8, None), va(0.8, 1.0, 0.6)])})
    answered = answer(run, Plain(), listed(*frames_of("v", 6)), Choices(gaps=gaps))
    assert answered.values[VA][:, 0].round(6).tolist() == filled
    (report,) = answered.sets
    assert (report.source, report.evidence, report.filled, report.default, report.crossed) == ("a/b", 2, 4, 0, 0)


def test_gaps_are_never_filled_from_another_video(tmp_path):
    run = write_run(tmp_path / "run", {"v": Film(2, [va(0, 1, 0.5)]), "w": Film(2, [va(0, 1, None)])})
    with pytest.raises(
        UsageError, match=r"^1 of 2 videos of the list have nothing from a/b in the run .*: w \(no evidence\)\. Analyse them, "
    ):
        answer(run, Plain(), listed(*frames_of("v", 2), *frames_of("w", 2)))
    assert valence(run, listed(*frames_of("v", 2), *frames_of("w", 2)), defaults={"va": np.array([0.1, 0])}) == [0.5, 0.5, 0.1, 0.1]


def test_the_published_policy_fills_down_the_list_across_videos(tmp_path):
    films = {"v": Film(2, [va(0, 0.4, 0.5)]), "w": Film(2, [va(0, 1, None)]), "x": Film(9, [va(0, 0.8, -0.5)])}
    run = write_run(tmp_path / "run", films)
    asked = listed(*frames_of("v", 4), *frames_of("w", 2), *frames_of("x", 7))
    answered = answer(run, Plain(), asked, Choices(gaps="published"))
    # windows end int(end * fps) + 1: frame 3 of v (which has two) and frame 5 of x are covered
    assert answered.values[VA][:, 0].tolist() == [0.5] * 6 + [-0.5] * 7
    (report,) = answered.sets
    assert (report.evidence, report.filled, report.crossed) == (3 + 5, 1 + 2 + 2, 2)
    with pytest.raises(UsageError, match=r"w \(no evidence\)"):
        answer(run, Plain(), listed(*frames_of("w", 2), *frames_of("v", 2)), Choices(gaps="published"))
    ahead = answer(run, Plain(), listed(*frames_of("w", 2), *frames_of("v", 2)), Choices(gaps="published", defaults={"va": np.zeros(2)}))
    assert (ahead.values[VA][:, 0].tolist(), ahead.sets[0].default) == ([0, 0, 0.5, 0.5], 2)


def test_smoothing_goes_over_all_frames_and_leaves_gaps_to_the_policy(tmp_path):
    run = write_run(tmp_path / "run", {"v": Film(6, [va(0, 0.4, 0.0), va(0.4, 0.8, 0.6)])})
    smoothed = [0.0, 0.2, 0.4, 0.6, 0.6, 0.6]  # three frames of 0.2 s each; the last two have no evidence
    assert valence(run, listed(*frames_of("v", 6)), smoothing=("box", 0.4)) == smoothed
    assert valence(run, listed(("v", 2), ("v", 6)), smoothing=("box", 0.4)) == [0.2, 0.6]


def test_one_frame_more_or_fewer_than_the_file_has(tmp_path):
    run = write_run(tmp_path / "run", {"v": Film(4, [va(0, 0.4, 0.2), va(0.4, 9, 0.6)]), "w": Film(9, [va(0, 9, 0.1)])})
    asked = listed(*frames_of("v", 5), *frames_of("w", 8))
    answered = answer(run, Plain(), asked)
    assert answered.values[VA][:, 0].round(6).tolist() == [0.2, 0.2, 0.6, 0.6, 0.6] + [0.1] * 8
    assert (answered.sets[0].evidence, answered.sets[0].filled) == (12, 1)  # no window speaks of a frame that the file does not have
    v, w = answered.videos
    assert (v.extra, v.unasked, v.beyond) == (1, 0, pytest.approx(0.2))
    assert (w.extra, w.unasked, w.beyond) == (0, 1, 0)


def test_folders_of_frames_are_asked_for_by_the_numbers_of_their_names(tmp_path):
    film = Film(0, [va(0, 0.4, 0.2), va(0.4, 1.0, 0.6)], numbers=[2, 3, 5])
    answered = answer(write_run(tmp_path / "run", {"v": film}), Plain(), listed(*frames_of("v", 6)))
    assert answered.values[VA][:, 0].round(6).tolist() == [0.2, 0.2, 0.6, 0.6, 0.6, 0.6]
    assert answered.sets[0].evidence == 4  # 2, 3 and 5, and 4, whose picture is missing but which windows cover
    assert (answered.videos[0].extra, answered.videos[0].unasked) == (2, 0)


@given(st.integers(1, 40), st.integers(1, 5), st.sampled_from([23.976, 25.0, 30.0]))
def test_times_of_frames_that_a_file_does_not_have(count, more, fps):
    frames = FrameTimes(np.arange(1, count + 1), np.arange(count) / fps, True)
    found = seconds_of(frames, np.arange(1, count + more + 1))
    expected = np.arange(count + more) / fps if count > 1 else np.zeros(1 + more)  # one frame says nothing of the rate
    assert found == pytest.approx(expected)


def test_one_answer_per_video_is_the_mean_over_its_windows(tmp_path):
    run = write_run(tmp_path / "run", {"v": Film(4, [va(0, 4, 0.2), va(2, 6, 0.6), va(4, 8, None)]), "s": Film(0, [va(0, 4, -0.5)])})
    answered = answer(run, Plain(), Asked(("s.wav", "v.mp4"), ("s", "v")))
    assert answered.values[VA][:, 0].round(6).tolist() == [-0.5, 0.4]
    assert (answered.sets[0].evidence, answered.videos[1].frames) == (2, 0)


# sources


def rows(source: str, labels: LabelSet, values: list[float]):
    return source, labels, -1, 0.0, 9.0, values


def test_the_head_and_the_fusion_speak_first(tmp_path):
    sure = one_hot(BASIC8, "fear")
    said = [rows("a/b", BASIC8, one_hot(BASIC8, "anger")), rows("core/mean", BASIC8, sure), rows("a/c", BASIC7, one_hot(BASIC7, "anger"))]
    answered = answer(write_run(tmp_path / "run", {"v": Film(1, said)}), Plain(BASIC8), listed(("v", 1)))
    assert answered.sets[0].source == "core/mean"
    assert answered.values[BASIC8].tolist() == [sure]


def test_the_only_source_speaks_and_may_be_projected(tmp_path):
    run = write_run(tmp_path / "run", {"v": Film(1, [rows("a/c", BASIC7, one_hot(BASIC7, "surprise"))])})
    answered = answer(run, Plain(BASIC8), listed(("v", 1)))
    (report,) = answered.sets
    assert (report.source, report.spoken, report.unsaid) == ("a/c", BASIC7, ("other",))
    assert np.nanargmax(answered.values[BASIC8][0]) == BASIC8.index("surprise")


def test_a_source_is_chosen_where_there_are_several(tmp_path):
    said = [rows("a/b", BASIC7, one_hot(BASIC7, "fear")), rows("a/c", BASIC7, one_hot(BASIC7, "anger"))]
    run = write_run(tmp_path / "run", {"v": Film(1, said)})
    with pytest.raises(UsageError, match=r"^several sources of the run .* say basic8: a/b, a/c\. Choose one with --source, for instance"):
        answer(run, Plain(BASIC8), listed(("v", 1)))
    chosen = answer(run, Plain(BASIC8), listed(("v", 1)), Choices(sources={"basic8": "a/c"}))
    assert np.nanargmax(chosen.values[BASIC8][0]) == BASIC8.index("anger")
    with pytest.raises(UsageError, match=r"^a/x says nothing in the run .* read as basic8; a/b, a/c does\. Did you mean"):
        answer(run, Plain(BASIC8), listed(("v", 1)), Choices(sources={"basic8": "a/x"}))


def test_a_run_without_the_label_set_says_what_it_has(tmp_path):
    run = write_run(tmp_path / "run", {"v": Film(1, [rows("a/c", BASIC7, one_hot(BASIC7, "fear")), rows("a/b", VA, [0, 0])])})
    with pytest.raises(UsageError) as error:
        answer(run, Plain(COMPOUND7), listed(("v", 1)))
    assert str(error.value) == (
        "plain needs compound7 (fearfully_surprised, happily_surprised, sadly_surprised, disgustedly_surprised, angrily_surprised, "
        f"sadly_fearful, sadly_angry), which the run {run} does not have; it has basic7 from a/c; va from a/b"
    )


def test_several_label_sets_have_a_source_each_and_all_problems_are_told(tmp_path):
    said = [rows("a/b", VA, [0.5, 0]), rows("a/c", VA, [0.1, 0]), rows("core/mean", BASIC8, one_hot(BASIC8, "fear"))]
    run = write_run(tmp_path / "run", {"v": Film(1, said)})
    answered = answer(run, Plain(VA, BASIC8), listed(("v", 1)), Choices(sources={"va": "a/c"}))
    assert [report.source for report in answered.sets] == ["a/c", "core/mean"]
    with pytest.raises(Problems) as error:
        answer(run, Plain(VA, BASIC8, AU12), listed(("v", 1)), Choices(defaults={"vb": np.zeros(2)}))
    assert [str(p).split(" of the run ")[0].split(" (au1")[0] for p in error.value.problems] == [
        "--default vb=...: plain has no label set 'vb'. Known: au12, basic8, va.",
        "several sources",
        "plain needs au12",
    ]


def test_units_that_no_source_says_are_the_users_decision(tmp_path):
    few = LabelSet("au3", ("au1", "au12", "au26"), kind="multilabel")
    run = write_run(tmp_path / "run", {"v": Film(2, [("a/b", few, -1, 0.0, 1.0, [0.9, 0.1, 0.6])])})
    asked = listed(*frames_of("v", 2))
    with pytest.raises(
        UsageError, match=r"^a/b cannot say au2, au4, au6, au7, au10, au15, au23, au24, au25 of au12 in all lines; .*--default none"
    ):
        answer(run, Plain(AU12), asked)
    answered = answer(run, Plain(AU12), asked, Choices(defaults={"au12": default_of(AU12, "au25")}))
    assert answered.values[AU12][0].round(6).tolist() == [0.9, 0, 0, 0, 0, 0, 0.1, 0, 0, 0, 1, 0.6]
    assert answered.sets[0].unsaid == ("au2", "au4", "au6", "au7", "au10", "au15", "au23", "au24", "au25")
    assert answered.sets[0].default == 0  # no line is answered by it alone


# videos and people


def test_videos_that_are_not_there_are_all_named(tmp_path):
    run = write_run(tmp_path / "run", {"clip01": Film(2, [va(0, 1, 0.5)]), "s": Film(0, [va(0, 1, 0.5)]), "w": Film(2, [va(0, 1, None)])})
    with pytest.raises(UsageError) as error:
        answer(run, Plain(), listed(("01", 1), ("s", 1), ("w", 1), ("w", 2)))
    assert str(error.value) == (
        f"3 of 3 videos of the list have nothing from a/b in the run {run}: 01 (not in the run), s (of kind audio, without frames), "
        "w (no evidence). Analyse them, or say what their 4 lines are to hold, for instance --default 0,0. "
        "The run also has clip01, which the list does not ask for"
    )


def test_a_film_is_meant_where_its_sound_has_the_same_name(tmp_path):
    run = write_run(tmp_path / "run", {"01.mp4": Film(2, [va(0, 1, 0.5)], suffix=""), "01.wav": Film(0, [va(0, 1, -0.5)], suffix="")})
    assert valence(run, listed(("01", 1))) == [0.5]


def person(track: int, start: float, end: float, value: float | None = None):
    return va(start, end, track / 10 if value is None else value, track)


TWO = Film(
    20,  # 4 s
    [person(1, 0, 1), person(2, 0, 1), person(3, 1, 2), person(4, 2, 3), va(3, 4, -0.9)],
    seen=[(2, 0, 1, 0.7), (1, 0, 1, 0.2), (3, 1, 2, 0.4), (4, 2, 3, 0.5)],
)
EACH_SECOND = (1, 6, 11, 16)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v", [0.2, 0.3, 0.4, -0.9]),  # the first of a window is the most present
        ("v_left", [0.1, 0.3, 0.3, -0.9]),  # the third second has nobody on the left: held
        ("v_right", [0.2, 0.2, 0.4, -0.9]),
    ],
)
def test_names_choose_the_person(tmp_path, name, said):
    run = write_run(tmp_path / "run", {"v": TWO}, subjects="all")
    asked = listed(*((name, number) for number in EACH_SECOND))
    assert valence(run, asked) == said
    (video,) = answer(run, Plain(), asked).videos
    assert (video.media, video.side) == ("v", name[2:])


def test_three_people_have_a_left_and_a_right_one(tmp_path):
    film = Film(5, [person(track, 0, 1) for track in (1, 2, 3)], seen=[(1, 0, 1, 0.5), (2, 0, 1, 0.8), (3, 0, 1, 0.6)])
    run = write_run(tmp_path / "run", {"v": film}, subjects="all")
    assert valence(run, listed(("v_left", 1), ("v", 1), ("v_right", 1))) == [0.1, 0.1, 0.2]


def test_a_medium_of_the_whole_name_comes_first(tmp_path):
    run = write_run(tmp_path / "run", {"v_left": Film(2, [va(0, 1, 0.5)]), "v": TWO}, subjects="all")
    assert valence(run, listed(("v_left", 1), ("v_right", 1))) == [0.5, 0.2]


def test_sound_and_words_hold_for_everybody(tmp_path):
    run = write_run(tmp_path / "run", {"v": Film(5, [va(0, 1, 0.3)])})  # in a run of main subjects as well
    assert valence(run, listed(("v_left", 1), ("v_right", 2), ("v", 3))) == [0.3, 0.3, 0.3]


def test_choosing_a_person_needs_a_run_that_followed_all(tmp_path):
    run = write_run(tmp_path / "run", {"v": TWO})
    with pytest.raises(
        UsageError, match=r"^v_left mean(s)? the person on one side of the picture, .*; run again with --subjects all and another --out$"
    ):
        answer(run, Plain(), listed(("v_left", 1)))


def test_nobody_on_that_side_is_said(tmp_path):
    run = write_run(tmp_path / "run", {"v": Film(5, [person(1, 0, 1)], seen=[(1, 0, 1, 0.2)])}, subjects="all")
    with pytest.raises(UsageError, match=r"v_right \(nobody on the right\)"):
        answer(run, Plain(), listed(("v_right", 1)))


def test_people_whose_place_is_not_known(tmp_path):
    run = write_run(tmp_path / "run", {"v": Film(5, [person(1, 0, 1), person(2, 0, 1)])}, subjects="all")
    with pytest.raises(UsageError, match=r"^the run does not say where the subjects of v are in the window from 0 to 1 s, .*--no-resume$"):
        answer(run, Plain(), listed(("v", 1)))


def test_rows_of_nobody_are_an_empty_timeline():
    alone = Timeline("v", 1, "a/b", VA, [0.0], [1.0], [[0.1, 0.1]], [True])
    seen = pd.DataFrame({"start": [0.0], "end": [1.0], "track": [1], "x": [0.2]})
    assert len(of_subject([alone], seen, "right")) == 0
    assert of_subject([alone], seen, "left").values.tolist() == alone.values.tolist()


# defaults, files, declarations


@pytest.mark.parametrize(
    ("labels", "text", "told"),
    [
        (BASIC8, "joyful", "--default of basic8 is one of its labels; found 'joyful'. Known: anger,"),
        (BASIC8, "fear,anger", "--default of basic8 is one of its labels; found 'fear,anger'"),
        (VA, "0", "--default of va is 2 numbers from -1 to 1 (valence, arousal), for instance 0,0; found '0'"),
        (VA, "0,2", "--default of va is 2 numbers from -1 to 1"),
        (VA, "0,x", "--default of va is 2 numbers from -1 to 1"),
        (VA, "0,nan", "--default of va is 2 numbers from -1 to 1"),
        (AU12, "au1,au3", "--default of au12 is labels of it with commas, or none; found 'au1,au3'. Did you mean"),
    ],
)
def test_defaults_that_are_none(labels, text, told):
    with pytest.raises(UsageError) as error:
        default_of(labels, text)
    assert str(error.value).startswith(told)


def test_defaults():
    assert default_of(BASIC8, "Happy").tolist() == one_hot(BASIC8, "happiness")
    assert default_of(COMPOUND7, "Sadly_Angry").tolist() == one_hot(COMPOUND7, "sadly_angry")
    assert default_of(AU12, "none").tolist() == [0.0] * 12


def test_a_file_is_whole_or_as_it_was(tmp_path):
    run = write_run(tmp_path / "run", {"v": Film(2, [va(0, 1, 0.5)]), "unwelcome": Film(2, [va(0, 1, 0.5)])})
    folder = tmp_path / "sent"
    folder.mkdir()
    out, template = folder / "file.txt", tmp_path / "list.txt"
    template.write_text("v 1\nv 2\n")
    submit(run, Plain(), template, out)
    assert out.read_text() == "v/1 0.5\nv/2 0.5\n"
    template.write_text("unwelcome 1\n")
    with pytest.raises(
        StoreError, match=r"^plain wrote a file that its own check refuses, so .*file\.txt is not written: line 1: is not welcome$"
    ):
        submit(run, Plain(), template, out)
    template.write_text("w 1\n")
    with pytest.raises(UsageError, match="not in the run"):
        submit(run, Plain(), template, out)
    assert out.read_text() == "v/1 0.5\nv/2 0.5\n"
    assert [path.name for path in folder.iterdir()] == ["file.txt"]


def test_a_writer_that_fails_leaves_nothing(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", {"v": Film(2, [va(0, 1, 0.5)])})
    template, out = tmp_path / "list.txt", tmp_path / "sent" / "file.txt"
    template.write_text("v 1\n")
    out.parent.mkdir()

    def full(self, asked, answers, path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Plain, "write", full)
    with pytest.raises(
        StoreError, match=r"^cannot write .*file\.txt: No space left on device; make room or choose another place with --out$"
    ):
        submit(run, Plain(), template, out)
    assert list(out.parent.iterdir()) == []


def test_places_that_cannot_be_written_to(tmp_path):
    with pytest.raises(UsageError, match=r"is a folder; give a file$"):
        submit(tmp_path, Plain(), tmp_path / "list.txt", tmp_path)
    with pytest.raises(UsageError, match=r"^there is no folder .*absent to write file\.txt to$"):
        submit(tmp_path, Plain(), tmp_path / "list.txt", tmp_path / "absent" / "file.txt")
    (tmp_path / "list.txt").write_text("v 1\n")
    (tmp_path / "link.txt").symlink_to(tmp_path / "list.txt")
    with pytest.raises(UsageError, match=r"link\.txt is the organisers' list itself; give another name with --out$"):
        submit(tmp_path, Plain(), tmp_path / "list.txt", tmp_path / "link.txt")


def test_lists_that_contradict_themselves():
    with pytest.raises(PluginError, match="found 2 names, 1 videos, 2 frames"):
        Asked(("a", "b"), ("a",), np.array([1, 2]))
    with pytest.raises(PluginError, match="Asked has a name twice"):
        Asked(("a", "a"), ("a", "a"))
    with pytest.raises(UsageError, match=r"^plain knows no official metric of its challenge"):
        Plain().score(Path("a"), Path("b"))
