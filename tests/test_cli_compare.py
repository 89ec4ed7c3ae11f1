"""``affectkit compare`` as users meet it: differences that are there, and those that are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affectkit.labels import AU12, BASIC7, BASIC8, COMPOUND7, VA
from tests.run_folders import one_hot, write_run
from tests.scored_runs import call, edited, film, told, windows, write


def guesses(tmp_path: Path, name: str, right: float, *, videos: int = 12, seed: int = 0, source: str = "core/mean") -> Path:
    """A run that is right in a share of its windows about films in which everybody is angry or sad."""
    rng = np.random.default_rng(seed)
    truth = truths(videos)
    films = {}
    for film_name, classes in truth.items():
        said = [one_hot(BASIC8, c if rng.random() < right else "fear") for c in classes]
        films[film_name] = film([(source, BASIC8, 0, 4.0 * i, 4.0 * i + 4, row) for i, row in enumerate(said)], 40.0)
    return write_run(tmp_path / name, films)


def truths(videos: int) -> dict[str, list[str]]:
    rng = np.random.default_rng(99)
    return {f"v{i}": [str(c) for c in rng.choice(["anger", "sadness"], 10)] for i in range(videos)}


def annotated(tmp_path: Path, videos: int = 12) -> Path:
    lines = [f"{name},{4 * i},{4 * i + 4},{c}" for name, classes in truths(videos).items() for i, c in enumerate(classes)]
    return write(tmp_path / "labels.csv", "media,start,end,label", *lines)


def pairs(found: dict[str, Any], labels: str = "basic7") -> list[dict[str, Any]]:
    return found["sets"][labels]


def test_a_difference_that_is_there_is_larger_than_chance(tmp_path: Path) -> None:
    good, bad = guesses(tmp_path, "good", 0.9), guesses(tmp_path, "bad", 0.4, seed=1)
    (pair,) = pairs(told("compare", bad, good, "--labels", annotated(tmp_path)))
    war = pair["metrics"]["war"]
    assert (pair["rows"], pair["asked"], pair["media"]) == (120, 120, 12)
    assert war["second"] - war["first"] == pytest.approx(war["difference"])
    assert 0.3 < war["low"] < war["difference"] < war["high"] < 0.7
    assert (war["p"], war["verdict"]) == (pytest.approx(2 / 1001), "larger than chance")
    shown = call("compare", bad, good, "--labels", annotated(tmp_path))
    assert f"A: {bad} core/mean\nB: {good} core/mean\nbasic7: 120 of 120 rows, of 12 media, which both answer" in shown.stdout
    assert [line.split()[-3:] for line in shown.stdout.splitlines() if line.strip().startswith("WAR")] == [["larger", "than", "chance"]]
    assert "Intervals and p: 1000 resamples of whole media, the same for A and B." in shown.stdout


def test_one_that_is_not_there_is_not(tmp_path: Path) -> None:
    runs = [guesses(tmp_path, name, 0.6, seed=seed) for name, seed in (("one", 3), ("other", 4))]
    (pair,) = pairs(told("compare", *runs, "--labels", annotated(tmp_path)))
    assert pair["metrics"]["macro_f1"]["verdict"] == "not larger than chance"
    assert pair["metrics"]["macro_f1"]["low"] < 0 < pair["metrics"]["macro_f1"]["high"]


def test_three_are_compared_pair_by_pair_and_corrected(tmp_path: Path) -> None:
    runs = [guesses(tmp_path, f"run{i}", share, seed=i) for i, share in enumerate((0.4, 0.5, 0.9))]
    labels = annotated(tmp_path)
    found = told("compare", *runs, "--labels", labels)
    alone = [pairs(told("compare", runs[a], runs[b], "--labels", labels))[0]["metrics"]["war"]["p"] for a, b in ((0, 1), (0, 2), (1, 2))]
    three = [pair["metrics"]["war"]["p"] for pair in pairs(found)]
    assert found["holm"] == {"basic7": True}
    assert [Path(pair["first"]["run"]).name + Path(pair["second"]["run"]).name for pair in pairs(found)] == [
        "run0run1",
        "run0run2",
        "run1run2",
    ]
    assert sorted(three) == pytest.approx([3 * min(alone), 3 * min(alone), max(alone)])
    assert "p is corrected for the number of pairs (Holm), for each metric on its own." in found["notes"]
    assert "p (Holm)" in call("compare", *runs, "--labels", labels).stdout


def test_more_are_compared_with_the_first(tmp_path: Path) -> None:
    runs = [guesses(tmp_path, f"run{i}", 0.5, seed=i) for i in range(4)]
    found = pairs(told("compare", *runs, "--labels", annotated(tmp_path)))
    assert [(pair["first"]["run"], pair["second"]["run"]) for pair in found] == [(str(runs[0]), str(run)) for run in runs[1:]]


def test_sources_of_one_run(two_films: Path, tmp_path: Path) -> None:
    labels = write(tmp_path / "l.csv", "media,label", "a,angry", "b,sad")
    found = told("compare", two_films, "--labels", labels, "--source", "far/face", "--source", "core/mean")
    (pair,) = pairs(found)
    assert (pair["first"]["source"], pair["second"]["source"]) == ("far/face", "core/mean")
    assert pair["metrics"]["war"] == {
        "first": 0.5,
        "second": 0.5,
        "difference": 0.0,
        "low": 0.0,
        "high": 0.0,
        "p": 1.0,
        "verdict": "2 of 6 media needed to tell",
    }
    assert "With fewer than 6 media even a difference that is the same way in every one of them may be chance." in found["notes"]


def test_only_rows_that_both_answer_count(tmp_path: Path) -> None:
    fear, joy = one_hot(BASIC7, "fear"), one_hot(BASIC7, "happiness")
    films = {
        name: film([*windows("far/face", BASIC7, [fear, fear]), *windows("far/voice", BASIC7, [joy, voice], track=-1)])
        for name, voice in (("a", None), ("b", fear))
    }
    run = write_run(tmp_path / "run", films)
    labels = write(tmp_path / "l.csv", "media,start,end,label", "a,0,2,fear", "a,4,6,fear", "b,4,6,fear")
    (pair,) = pairs(told("compare", run, "--labels", labels, "--source", "far/face", "--source", "far/voice"))
    assert (pair["rows"], pair["asked"], pair["media"]) == (2, 3, 2)
    assert (pair["metrics"]["war"]["first"], pair["metrics"]["war"]["second"]) == (1, 0.5)
    never = write(tmp_path / "n.csv", "media,start,end,label", "a,4.5,6,fear")
    found = call("compare", run, "--labels", never, "--source", "far/face", "--source", "far/voice")
    assert found.exit_code == 2
    assert "far/face and far/voice answer no row of basic7 both, so there is nothing to compare" in found.stderr


def test_one_medium_tells_nothing(tmp_path: Path) -> None:
    runs = [guesses(tmp_path, name, share, videos=1) for name, share in (("one", 0.2), ("other", 0.9))]
    found = told("compare", *runs, "--labels", annotated(tmp_path, 1))
    (pair,) = pairs(found)
    assert (pair["metrics"]["war"]["p"], pair["metrics"]["war"]["verdict"]) == (None, "1 of 6 media needed to tell")
    assert "With one medium there is nothing to resample, so no difference can be told from chance." in found["notes"]


def test_continuous_labels_and_units_are_compared(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = {f"v{i}": rng.uniform(-1, 1, (5, 2)) for i in range(8)}
    films = {
        name: film(
            [
                *windows("far/good", VA, mine * 0.9),
                *windows("far/bad", VA, rng.uniform(-1, 1, (5, 2))),
                *windows("far/good", AU12, np.repeat(mine[:, :1] > 0, 12, axis=1).astype(float)),
                *windows("far/bad", AU12, rng.random((5, 12))),
            ]
        )
        for name, mine in truth.items()
    }
    run = write_run(tmp_path / "run", films)
    units = ["1,1,1,1,1,1,1,1,1,1,1,1", "0,0,0,0,0,0,0,0,0,0,0,0"]
    lines = [f"{n}/00001.jpg,{m[0, 0]},{m[0, 1]},-1,{units[int(m[0, 0] <= 0)]}" for n, m in truth.items()]
    labels = write(tmp_path / "l.csv", "image,valence,arousal,expression,aus", *lines)
    found = told("compare", run, "--labels", labels, "--source", "far/bad", "--source", "far/good")
    assert set(found["sets"]) == {"va", "au12"}
    assert pairs(found, "va")[0]["metrics"]["mean_ccc"]["second"] > 0.95
    assert pairs(found, "au12")[0]["metrics"]["mean_f1"]["second"] == 1
    shown = call("compare", run, "--labels", labels, "--source", "far/bad", "--source", "far/good").stdout
    assert [line.split()[0] for line in shown.splitlines() if line.strip().startswith(("valence", "arousal", "au26"))]


def test_runs_of_different_grids_are_refused(tmp_path: Path) -> None:
    grids = ({"length": 4.0, "step": 2.0, "min_tail": 1.0}, {"length": 4.0, "step": 1.0, "min_tail": 1.0})
    one_run, other = (
        edited(guesses(tmp_path, f"run{i}", 0.5, seed=i), lambda info, grid=grid: info["recipe"].update(windows=grid))
        for i, grid in enumerate(grids)
    )
    labels = annotated(tmp_path)
    found = call("compare", one_run, other, "--labels", labels)
    assert (found.exit_code, found.stdout) == (2, "")
    assert "have different windows (length 4, step 2, min_tail 1 and length 4, step 1, min_tail 1)" in found.stderr
    assert "--across-grids" in found.stderr
    assert call("compare", one_run, other, "--labels", labels, "--across-grids").exit_code == 0


def test_what_cannot_be_compared_is_told(two_films: Path, tmp_path: Path) -> None:
    labels = write(tmp_path / "l.csv", "media,label", "a,angry", "b,sad", "z,fear")
    (tmp_path / "more").mkdir()
    elsewhere = write_run(tmp_path / "more" / "elsewhere", {"z": film(windows("core/mean", BASIC8, [one_hot(BASIC8, "fear")]))})
    compound = write_run(tmp_path / "more" / "compound", {"a": film(windows("core/ppa", COMPOUND7, [one_hot(COMPOUND7, "sadly_angry")]))})

    def error(*words: str | Path) -> str:
        found = call("compare", *words, "--labels", labels)
        assert (found.exit_code, found.stdout) == (2, ""), found.output
        return found.stderr

    assert "a comparison needs two of something: two run folders, or one and --source twice" in error(two_films)
    assert f"{two_films} is given twice; give different run folders, or one and several --source" in error(two_films, two_films)
    assert "far/face is given twice" in error(two_films, "--source", "far/face", "--source", "far/face")
    assert f"{two_films} and {elsewhere} have no labelled medium in common: a, b in the one, z in the other" in error(two_films, elsewhere)
    assert f"no source of the run {compound} speaks the labels of {labels}" in error(two_films, compound)
    several = error(two_films, "--source", "core/ppa", "--source", "far/fac")
    assert "core/ppa of the run" in several
    assert "it cannot be compared: compound7 shares no label with basic7" in several
    assert "there is no such source. Did you mean far/face?" in several


def test_a_label_set_that_one_alone_speaks_is_told(tmp_path: Path) -> None:
    both = [*windows("far/face", BASIC7, [one_hot(BASIC7, "fear")]), *windows("far/va", VA, [[0.1, 0.2]])]
    one_run = write_run(tmp_path / "one", {"a": film(both)})
    other = write_run(tmp_path / "other", {"a": film(both[:1])})
    labels = write(tmp_path / "l.csv", "media,label,valence,arousal", "a,fear,0.5,0.5")
    found = told("compare", one_run, other, "--labels", labels)
    assert set(found["sets"]) == {"basic7"}
    assert f"Note: {one_run} far/va alone speaks va, so nothing is compared there." in found["notes"]
