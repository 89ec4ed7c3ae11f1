"""``affectkit evaluate`` as users meet it, against references worked out here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score

from affectkit.labels import AU12, BASIC7, BASIC8, COMPOUND7, VA, LabelSet
from affectkit.metrics import ccc
from tests.engine_helpers import command, plain
from tests.run_folders import Film, one_hot, write_run
from tests.scored_runs import FPS, LENGTH, STEP, Said, call, edited, film, told, windows, write


def one(found: dict[str, Any], source: str, labels: str = "basic8") -> dict[str, Any]:
    return found["sets"][labels]["sources"][source]


def value(found: dict[str, Any], source: str, metric: str, labels: str = "basic8") -> float:
    return one(found, source, labels)["metrics"][metric]["value"]


def said_by_chance(rng: np.random.Generator, labels: LabelSet, count: int = 5) -> list[np.ndarray | None]:
    return [None if rng.random() < 0.15 else rng.dirichlet(np.full(len(labels), 0.5)) for _ in range(count)]


def at(rows: Sequence[Sequence[float] | None], time: float) -> np.ndarray | None:
    """The mean of the windows that cover a moment."""
    covering = [row for i, row in enumerate(rows) if row is not None and i * STEP <= time < i * STEP + LENGTH]
    return np.mean(np.float32(covering), axis=0, dtype=np.float64) if covering else None


# what is scored


@pytest.mark.parametrize("form", ["abaw", "table", "list"])
def test_frames_are_scored_as_scikit_learn_scores_the_mean_of_their_windows(tmp_path: Path, form: str) -> None:
    rng = np.random.default_rng(7)
    rows = {f"v{i}": said_by_chance(rng, BASIC8) for i in range(6)}
    truth = {name: rng.integers(-1, 7, 60) for name in rows}
    run = write_run(tmp_path / "run", {name: film(windows("core/mean", BASIC8, mine)) for name, mine in rows.items()})
    header = ",".join(label.title() for label in BASIC8.labels)
    labels = tmp_path / "labels.csv"
    if form == "abaw":
        labels = tmp_path / "labels"
        labels.mkdir()
        for name, mine in truth.items():
            write(labels / f"{name}.txt", header, *map(str, mine))
    elif form == "list":
        write(labels, f"image_location,{header}", *(f"{n}/{i + 1:05d}.jpg,{c}" for n, mine in truth.items() for i, c in enumerate(mine)))
    else:
        write(labels, "video,frame,label", *(f"{n}.mp4,{i + 1},{c}" for n, mine in truth.items() for i, c in enumerate(mine)))
    found = told("evaluate", run, "--labels", labels, "--set", "basic8", "--bootstrap", 50)
    pairs = [
        (int(c), said.argmax())
        for name, mine in truth.items()
        for i, c in enumerate(mine)
        if c >= 0 and (said := at(rows[name], i / FPS)) is not None
    ]
    asked = sum(int((mine >= 0).sum()) for mine in truth.values())
    reference, predicted = np.array(pairs).T
    source = one(found, "core/mean")
    assert (source["rows"], source["answered"], source["media"]) == (asked, len(pairs), 6)
    assert source["coverage"] == pytest.approx(len(pairs) / asked)
    present = np.unique(reference)
    assert 7 not in present
    assert value(found, "core/mean", "macro_f1") == pytest.approx(f1_score(reference, predicted, labels=present, average="macro"))
    assert value(found, "core/mean", "macro_f1_all") == pytest.approx(
        f1_score(reference, predicted, labels=range(8), average="macro", zero_division=0)
    )
    assert value(found, "core/mean", "uar") == pytest.approx(recall_score(reference, predicted, labels=present, average="macro"))
    assert value(found, "core/mean", "war") == pytest.approx((reference == predicted).mean())
    interval = source["metrics"]["macro_f1"]
    assert interval["low"] < interval["value"] < interval["high"]


def test_stretches_are_the_mean_of_windows_weighted_by_overlap(tmp_path: Path) -> None:
    anger, fear = one_hot(BASIC7, "anger"), one_hot(BASIC7, "fear")
    run = write_run(tmp_path / "run", {"a": film(windows("far/face", BASIC7, [anger, anger, fear, None, fear]))})
    # 0 to 5 s: anger overlaps 4 + 3 s, fear 1 s; 5 to 9 s: anger 1 s, fear 3 + 1 s; 6.5 to 7 s has fear alone
    labels = write(tmp_path / "l.csv", "media,start,end,label", "a,0,5,anger", "a,5,9,fear", "a,6.5,7,fear", "a,20,21,fear")
    found = told("evaluate", run, "--labels", labels)
    source = one(found, "far/face", "basic7")
    assert (source["rows"], source["answered"]) == (4, 3)
    assert value(found, "far/face", "war", "basic7") == 1
    # confidences 7/8, 4/5 and 1
    assert value(found, "far/face", "ece", "basic7") == pytest.approx((1 / 8 + 1 / 5 + 0) / 3)


def test_moments_are_covered_half_open(tmp_path: Path) -> None:
    rows = [one_hot(BASIC7, "anger"), None, None, None, one_hot(BASIC7, "fear")]
    run = write_run(tmp_path / "run", {"a": film(windows("far/face", BASIC7, rows))})
    labels = write(
        tmp_path / "l.csv", "media,time,label", "a,0,anger", "a,3.99,anger", "a,4,anger", "a,8,fear", "a,11.99,fear", "a,12,fear"
    )
    source = one(told("evaluate", run, "--labels", labels), "far/face", "basic7")
    assert (source["rows"], source["answered"], source["metrics"]["war"]["value"]) == (6, 4, 1)


def test_a_whole_medium_is_the_mean_of_its_valid_windows(tmp_path: Path) -> None:
    rows = [[0.1, 0.9, 0, 0, 0, 0, 0], [0.6, 0.4, 0, 0, 0, 0, 0], None, [0.6, 0.4, 0, 0, 0, 0, 0], None]
    run = write_run(tmp_path / "run", {"a": film(windows("far/face", BASIC7, rows)), "b": film(windows("far/face", BASIC7, [None]))})
    labels = write(tmp_path / "l.csv", "media,label", "a.mp4,anger", "b.mp4,anger")
    found = told("evaluate", run, "--labels", labels)
    source = one(found, "far/face", "basic7")
    assert (source["answered"], source["coverage"], source["metrics"]["war"]["value"]) == (1, 0.5, 1)
    assert value(found, "far/face", "ece", "basic7") == pytest.approx(1 - (0.9 + 0.4 + 0.4) / 3)


def test_pictures_have_no_length(tmp_path: Path) -> None:
    still: Said = ("far/face", BASIC7, 0, 0.0, 0.0, one_hot(BASIC7, "fear"))
    run = write_run(tmp_path / "run", {name: Film(0, [still], suffix=".jpg") for name in ("a", "b", "c")})
    labels = write(tmp_path / "l.csv", "media,start,end,label", "a.jpg,,,fear", "b.jpg,0,0,fear", "c.jpg,0,1,fear")
    source = one(told("evaluate", run, "--labels", labels), "far/face", "basic7")
    assert (source["answered"], source["metrics"]["war"]["value"]) == (3, 1)


def test_valence_and_arousal_are_compared_on_the_scale_of_the_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    share = LabelSet("share", ("arousal", "valence"), "continuous", 0.0, 1.0)
    values = {f"v{i}": rng.random((5, 2)) for i in range(4)}
    run = write_run(tmp_path / "run", {name: film(windows("far/va", share, rows)) for name, rows in values.items()})
    times = [1.0, 5.0, 9.0]
    truth = {name: rng.uniform(-1, 1, (3, 2)).round(3) for name in values}
    lines = [f"{name},{t},{v},{a}" for name, mine in truth.items() for t, (v, a) in zip(times, mine, strict=True)]
    found = told("evaluate", run, "--labels", write(tmp_path / "l.csv", "media,time,valence,arousal", *lines, "v0,6,-5,-5"))
    reference = np.concatenate(list(truth.values()))
    predicted = np.array([2 * at(rows, t)[::-1] - 1 for rows in values.values() for t in times])
    expected = ccc(reference, predicted)
    metrics = one(found, "far/va", "va")["metrics"]
    assert [metrics["ccc_by_label"][name]["value"] for name in VA.labels] == pytest.approx(expected.tolist(), abs=1e-6)
    assert metrics["mean_ccc"]["value"] == pytest.approx(expected.mean(), abs=1e-6)
    assert one(found, "far/va", "va")["rows"] == 12
    assert "1 rows of media of the run have no annotation of va and are left out." in found["notes"]


def test_action_units_are_scored_one_by_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    own = LabelSet("some", ("au12", "au1", "au2"), "multilabel")
    values = {f"v{i}": rng.random((5, 3)) for i in range(5)}
    run = write_run(tmp_path / "run", {name: film(windows("far/au", own, rows)) for name, rows in values.items()})
    truth = {name: (rng.random((60, 12)) < 0.4).astype(int) for name in values}
    folder = tmp_path / "labels"
    folder.mkdir()
    for name, mine in truth.items():
        write(folder / f"{name}.txt", ",".join(label.upper() for label in AU12.labels), *(",".join(map(str, row)) for row in mine))
    found = told("evaluate", run, "--labels", folder)
    predicted = {label: [] for label in own.labels}
    for rows in values.values():
        for i in range(60):
            for label, share in zip(own.labels, at(rows, i / FPS), strict=True):
                predicted[label].append(share >= 0.5)
    reference = np.concatenate(list(truth.values()))
    expected = {label: f1_score(reference[:, AU12.index(label)], predicted[label]) for label in own.labels}
    metrics = one(found, "far/au", "au12")["metrics"]
    assert {label: metrics["f1_by_label"][label]["value"] for label in own.labels} == pytest.approx(expected)
    assert metrics["f1_by_label"]["au26"]["value"] == 0
    assert metrics["mean_f1"]["value"] == pytest.approx(sum(expected.values()) / 12)
    assert one(found, "far/au", "au12")["cannot_say"] == [label for label in AU12.labels if label not in own.labels]
    shown = call("evaluate", run, "--labels", folder)
    assert "far/au cannot say au4, au6, au7, au10, au15, au23, au24, au25, au26: every such row is an error of theirs." in shown.stdout


# label sets


def test_each_source_is_scored_in_its_own_label_set(two_films: Path, tmp_path: Path) -> None:
    labels = write(tmp_path / "l.csv", "media,label", "a,angry", "b,others")
    found = told("evaluate", two_films, "--labels", labels)
    assert found["sets"]["basic8"]["default"] == "core/mean"
    assert {name: source["says"] for name, source in found["sets"]["basic8"]["sources"].items()} == {
        "far/face": "basic7",
        "core/mean": "basic8",
    }
    assert [one(found, name)["cannot_say"] for name in ("far/face", "core/mean")] == [["other"], []]
    assert [value(found, name, "war") for name in ("far/face", "core/mean")] == [0.5, 0.5]
    assert found["sets"]["basic8"]["not_evaluated"] == {"core/ppa": "compound7 shares no label with basic8"}


def test_a_class_that_never_occurs_does_not_dilute_the_mean(two_films: Path, tmp_path: Path) -> None:
    found = told("evaluate", two_films, "--labels", write(tmp_path / "l.csv", "media,label", "a,anger", "b,anger"))
    assert value(found, "core/mean", "macro_f1", "basic7") == pytest.approx(2 / 3)
    assert value(found, "core/mean", "macro_f1_all", "basic7") == pytest.approx(2 / 3 / 7)


def test_labels_that_only_a_source_has_are_errors(tmp_path: Path) -> None:
    own = LabelSet("own3", ("anger", "contempt", "calm"))
    run = write_run(tmp_path / "run", {n: film(windows("far/face", own, [one_hot(own, c)])) for n, c in (("a", "contempt"), ("b", "calm"))})
    found = told("evaluate", run, "--labels", write(tmp_path / "l.csv", "media,label", "a,anger", "b,neutral"), "--set", "basic7")
    confusion = one(found, "far/face", "basic7")["confusion"]
    assert confusion["labels"] == [*BASIC7.labels, "contempt"]
    assert confusion["counts"][BASIC7.index("anger")][-1] == 1
    assert value(found, "far/face", "macro_f1", "basic7") == 0.5


def test_compound_expressions_are_scored_as_well(two_films: Path, tmp_path: Path) -> None:
    found = told("evaluate", two_films, "--labels", write(tmp_path / "l.csv", "media,label", "a,Sadly_Angry", "b,Sadly Fearful"))
    assert found["sets"]["compound7"]["default"] == "core/ppa"
    assert value(found, "core/ppa", "war", "compound7") == 0.5
    assert set(found["sets"]["compound7"]["not_evaluated"]) == {"far/face", "core/mean"}


def test_sources_of_another_kind_are_told_together(tmp_path: Path) -> None:
    both = [
        *windows("far/va", VA, [[0.1, 0.2]]),
        *windows("far/more", VA, [[0.1, 0.2]]),
        *windows("far/more", COMPOUND7, [[1, 0, 0, 0, 0, 0, 0]]),
    ]
    faces = windows("far/face", BASIC7, [one_hot(BASIC7, "fear")])
    run = write_run(tmp_path / "run", {"a": film([*both, *windows("far/va2", VA, [[0.1, 0.2]]), *faces])})
    found = call("evaluate", run, "--labels", write(tmp_path / "l.csv", "media,label", "a,fear"))
    assert "Not evaluated: far/va, far/va2: va is continuous, basic7 is categorical." in found.stdout
    assert "Not evaluated: far/more: va and compound7 share no label with basic7." in found.stdout


def test_several_label_sets_in_one_file(tmp_path: Path) -> None:
    said = [*windows("far/face", BASIC7, [one_hot(BASIC7, "fear")]), *windows("far/face", VA, [[0.5, 0.5]])]
    run = write_run(tmp_path / "run", {"a": film(said)})
    labels = write(tmp_path / "l.csv", "image,valence,arousal,expression,aus", "a/00001.jpg,0.1,0.2,3" + ",0" * 12)
    found = told("evaluate", run, "--labels", labels)
    assert set(found["sets"]) == {"va", "basic8"}
    assert (one(found, "far/face", "va")["says"], one(found, "far/face")["says"]) == ("va", "basic7")
    assert set(told("evaluate", run, "--labels", labels, "--set", "va")["sets"]) == {"va"}


def test_labels_that_nothing_can_say_show_both_sets(two_films: Path, tmp_path: Path) -> None:
    found = call("evaluate", two_films, "--labels", write(tmp_path / "l.csv", "media,time,valence,arousal", "a,1,0,0"))
    assert found.exit_code == 2
    assert "no source of the run" in found.stderr
    assert "(va: valence, arousal); the run says basic7: neutral, anger," in found.stderr
    assert found.stdout == ""


# subjects


@pytest.fixture
def duo(tmp_path: Path) -> Path:
    """A film of two people, happy on the left and, more present, sad on the right; the left one leaves for the last window."""
    said = [
        *windows("far/face", BASIC7, [one_hot(BASIC7, "happiness")] * 2, track=1),
        *windows("far/face", BASIC7, [one_hot(BASIC7, "sadness")] * 3, track=0),
        *windows("far/voice", BASIC7, [one_hot(BASIC7, "fear")] * 3, track=-1),
    ]
    seen = [(track, i * STEP, i * STEP + LENGTH, x) for i in range(3) for track, x in ((0, 0.7), (1, 0.2)) if (i, track) != (2, 1)]
    return write_run(tmp_path / "run", {"duo": film(said, 8.0, seen=seen)}, subjects="all")


@pytest.mark.parametrize(
    ("header", "row", "expected", "answered"),
    [
        ("media,label", "duo", "sadness", True),
        ("media,label", "duo_left", "happiness", True),
        ("media,label", "duo_right", "sadness", True),
        ("media,track,label", "duo,1", "happiness", True),
        ("media,track,label", "duo,0", "sadness", True),
        ("media,track,label", "duo,7", "sadness", False),
        ("media,time,label", "duo_left,5", "happiness", True),
        ("media,time,label", "duo_left,7", "happiness", False),
        ("media,time,label", "duo_right,7", "sadness", True),
    ],
)
def test_labels_choose_the_subject(duo: Path, tmp_path: Path, header: str, row: str, expected: str, answered: bool) -> None:
    found = told("evaluate", duo, "--labels", write(tmp_path / "l.csv", header, f"{row},{expected}"))
    face, voice = (one(found, name, "basic7") for name in ("far/face", "far/voice"))
    assert (face["answered"], face["metrics"]["war"]["value"]) == ((1, 1) if answered else (0, None))
    assert (voice["answered"], voice["metrics"]["war"]["value"]) == (1, 0)


def test_two_people_of_a_film_are_one_medium(duo: Path, tmp_path: Path) -> None:
    found = told("evaluate", duo, "--labels", write(tmp_path / "l.csv", "media,label", "duo_left,happy", "duo_right,sad"))
    assert (one(found, "far/face", "basic7")["rows"], one(found, "far/face", "basic7")["media"]) == (2, 1)


def test_a_run_of_main_subjects_is_told_to_have_no_others(tmp_path: Path) -> None:
    here = film(windows("far/face", BASIC7, [one_hot(BASIC7, "anger")]), seen=[(0, 0.0, 4.0, 0.2)])
    run = write_run(tmp_path / "run", {"a": here})
    labels = write(tmp_path / "l.csv", "media,label", "a_left,anger", "a_right,anger")
    assert one(told("evaluate", run, "--labels", labels), "far/face", "basic7")["answered"] == 1
    found = call("evaluate", run, "--labels", labels)
    assert (
        "Note: the labels choose subjects (a_left, a_right), and the run has only the main one of each window; --subjects all"
        in found.stdout
    )


# what is printed


def test_what_is_printed(two_films: Path, tmp_path: Path) -> None:
    labels = write(tmp_path / "l.csv", "media,label", "a,angry", "b,sad", "c,sad")
    found = call("evaluate", two_films, "--labels", labels, "--set", "basic8")
    assert found.exit_code == 0, found.output
    assert found.stderr == ""
    lines = [line.split() for line in found.stdout.splitlines()]
    assert ["source", "says", "macro-F1", "over", "all", "8", "UAR", "WAR", "ECE", "rows", "coverage", "media"] in lines
    assert ["core/mean", "basic8", "0.500", "[0.00,", "1.00]", "0.125", "0.500", "0.500", "0.500", "2", "100%", "2"] in lines
    assert ["anger", "1.000", "[1.00,", "1.00]", "1.000", "1.000", "1"] in lines
    assert ["sadness", "0.000", "[0.00,", "0.00]", "-", "0.000", "1"] in lines
    assert ["happiness", "0.000", "[0.00,", "0.00]", "0.000", "-", "0"] in lines
    assert ["sadness", "0", "1", "0"] in lines  # taken for happiness
    assert "Intervals: 95 % of 1000 resamples of whole media." in found.stdout
    assert "Intervals of fewer than 6 media are too narrow." in found.stdout
    assert "Not evaluated: core/ppa: compound7 shares no label with basic8." in found.stdout
    assert "Note: 1 of 3 labelled media are not in the run: c." in found.stdout


def test_another_source_can_be_shown(two_films: Path, tmp_path: Path) -> None:
    labels = write(tmp_path / "l.csv", "media,label", "a,angry", "b,sad")
    assert "\nfar/face " in call("evaluate", two_films, "--labels", labels, "--source", "far/face").stdout
    unknown = call("evaluate", two_films, "--labels", labels, "--source", "far/fac")
    assert (unknown.exit_code, unknown.stderr) == (2, f"Error: the run {two_films} has no source 'far/fac'. Did you mean far/face?\n")
    other = call("evaluate", two_films, "--labels", labels, "--source", "core/ppa")
    assert other.exit_code == 2
    assert "core/ppa is not evaluated against basic7: compound7 shares no label with basic7" in other.stderr


def test_rows_without_an_answer_may_count_as_wrong(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {n: film(windows("far/face", BASIC7, [r])) for n, r in (("a", one_hot(BASIC7, "fear")), ("b", None))})
    labels = write(tmp_path / "l.csv", "media,label", "a,fear", "b,fear")
    assert value(told("evaluate", run, "--labels", labels), "far/face", "war", "basic7") == 1
    found = told("evaluate", run, "--labels", labels, "--unanswered", "wrong")
    assert value(found, "far/face", "war", "basic7") == 0.5
    assert one(found, "far/face", "basic7")["confusion"]["no_answer"][BASIC7.index("fear")] == 1
    shown = call("evaluate", run, "--labels", labels, "--unanswered", "wrong").stdout
    assert "Rows without an answer count as wrong (--unanswered wrong)." in shown
    assert "no answer" in shown


def test_one_medium_has_no_intervals(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {"a": film(windows("far/face", BASIC7, [one_hot(BASIC7, "fear")]))})
    labels = write(tmp_path / "l.csv", "media,time,label", "a,0,fear", "a,1,anger")
    found = told("evaluate", run, "--labels", labels)
    assert one(found, "far/face", "basic7")["metrics"]["war"] == {"value": 0.5, "low": None, "high": None}
    assert found["notes"] == ["No intervals where the rows are of one medium: there is nothing to resample."]


def test_the_seed_and_the_number_of_resamples_are_those_that_are_given(two_films: Path, tmp_path: Path) -> None:
    labels = write(tmp_path / "l.csv", "media,label", "a,angry", "b,sad")
    assert told("evaluate", two_films, "--labels", labels) == told(
        "evaluate", two_films, "--labels", labels, "--seed", 0, "--bootstrap", 1000
    )
    none = one(told("evaluate", two_films, "--labels", labels, "--bootstrap", 0), "core/mean", "basic7")
    assert none["metrics"]["war"] == {"value": 0.5, "low": None, "high": None}


def test_frames_that_are_not_there_are_told(tmp_path: Path) -> None:
    row = windows("core/mean", BASIC8, [one_hot(BASIC8, "fear")] * 5)
    films = {"a": film(row), "b": film(row, decoded=False), "c": film(row, numbers=[*range(1, 60), 62])}
    run = write_run(tmp_path / "run", films)
    labels = tmp_path / "labels"
    labels.mkdir()
    for name in films:
        write(labels / f"{name}.txt", ",".join(BASIC8.labels), *["3"] * 61)
    found = told("evaluate", run, "--labels", labels)
    assert (one(found, "core/mean")["rows"], one(found, "core/mean")["answered"]) == (183, 179)
    beyond = "a (1 of 61, the medium has 60), b (1 of 61, the medium has 60), c (2 of 61, the medium has 60)"
    assert f"Note: frames that the medium does not have count as not answered: {beyond}." in found["notes"]
    assert "Note: no picture was decoded, so the times of frames follow from the rate of the medium: b." in found["notes"]


# what is wrong


@pytest.mark.parametrize("name", ["evaluate", "compare"])
def test_mistakes_are_told(two_films: Path, tmp_path: Path, name: str) -> None:
    labels = write(tmp_path / "l.csv", "media,label", "a,anger", "x,anger")
    more = [] if name == "evaluate" else ["--source", "far/face", "--source", "core/mean"]

    def error(run: Path, path: Path, *words: str) -> str:
        found = call(name, run, "--labels", path, *more, *words)
        assert (found.exit_code, found.stdout) == (2, ""), found.output
        return found.stderr

    assert f"there are no labels at {tmp_path / 'absent.csv'}" in error(two_films, tmp_path / "absent.csv")
    assert f"{tmp_path / 'nothing'} holds no run" in error(tmp_path / "nothing", labels)
    assert "there is no label set 'basic9'. Did you mean basic8?" in error(two_films, labels, "--set", "basic9")
    other = write(tmp_path / "o.csv", "media,label", "x,anger", "y,anger")
    assert f"no medium of the run {two_films} is labelled in {other}: the labels are for x, y; the run has a, b." in error(two_films, other)
    doubled = write(tmp_path / "d.csv", "media,label", "a,anger", "b,anger", "a.mp4,fear")
    assert f"{doubled}, line 4: a.mp4 is already labelled in line 2" in error(two_films, doubled)


def test_a_run_that_was_stopped_is_to_be_finished(two_films: Path, tmp_path: Path) -> None:
    edited(two_films, lambda info: info.pop("media"))
    found = call("evaluate", two_films, "--labels", write(tmp_path / "l.csv", "media,label", "a,anger"))
    assert found.exit_code == 2
    assert f"the run {two_films} was stopped before its end; give its command again" in found.stderr


def test_labels_of_other_media_alone_say_nothing(two_films: Path, tmp_path: Path) -> None:
    labels = write(tmp_path / "l.csv", "media,label,valence", "a,,0.5", "b,,0.5", "c,anger,")
    found = call("evaluate", two_films, "--labels", labels)
    assert found.exit_code == 0, found.output
    assert ["far/face", "basic7", "-", "-", "-", "-", "-", "0", "-", "0"] in [line.split() for line in found.stdout.splitlines()]
    assert "2 rows of media of the run have no annotation of basic7 and are left out." in found.stdout


def test_a_run_of_another_version_needs_to_run_again_for_several_subjects(duo: Path, tmp_path: Path) -> None:
    for part in (duo / "subjects.parquet").iterdir():
        part.unlink()
    found = call("evaluate", duo, "--labels", write(tmp_path / "l.csv", "media,label", "duo,sad"))
    assert found.exit_code == 2
    assert "the run does not say where the subjects of duo are in the window from 0 to 4 s" in found.stderr


# whole


def test_a_real_run_is_evaluated(tmp_path: Path) -> None:
    """A run of the engine, with frames that it timed itself, in a process as users start it."""
    from affectkit.testing.media import make_video
    from tests.engine_helpers import recipe_file

    films = [make_video(tmp_path / f"f{i}.mp4", seconds=5, fps=5, size=(32, 48), picture=plain(level)) for i, level in enumerate((250, 10))]
    assert command("run", *films, "--recipe", recipe_file(tmp_path / "r.yaml", "fake/still"), "--out", tmp_path / "out").exit_code == 0
    folder = tmp_path / "labels"
    folder.mkdir()
    for i, label in enumerate("40"):
        write(folder / f"f{i}.txt", ",".join(BASIC8.labels), *[label] * 25)
    found = told("evaluate", tmp_path / "out", "--labels", folder)
    assert (one(found, "fake/still")["rows"], one(found, "fake/still")["coverage"]) == (50, 1)
    assert value(found, "fake/still", "war") == value(found, "core/mean", "war") == 1
    assert not [note for note in found["notes"] if "no picture was decoded" in note]


def test_real_pictures_are_evaluated(shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("affectkit_mini")
    expressions = ("angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")
    pictures = [shared_data / "images" / f"{name}.jpg" for name in expressions]
    chosen = ("--plugins", "mini/face_static", "--fusion", "core/mean")
    assert call("run", *pictures, *chosen, "--head", "none", "--out", tmp_path / "run").exit_code == 0
    labels = write(tmp_path / "l.csv", "media,label", *(f"{name}.jpg,{name}" for name in expressions))
    found = told("evaluate", tmp_path / "run", "--labels", labels)
    assert one(found, "core/mean", "basic7")["coverage"] == 1
    assert value(found, "core/mean", "war", "basic7") > 3 / 7
