"""``affectkit submit`` as users meet it: files of the five ABAW tracks, damaged lists, checks, scores, reports, and a challenge of a plugin."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from affectkit.api import AU12, BASIC7, BASIC8, COMPOUND7, VA
from affectkit.builtin.abaw import CE, CEXPR_PRIORS, EXPR, MTL, TRACKS, ActionUnits, ValenceArousal
from tests.engine_helpers import command
from tests.run_folders import Film, one_hot, write_run

HEADERS = {track.name: track.header for track in TRACKS}


def text(path: Path, *lines: str, end: str = "\n") -> Path:
    path.write_text("\n".join(lines) + end, encoding="utf-8", newline="")
    return path


def template(path: Path, header: str, *names: str) -> Path:
    return text(path, header, *(f"{name}," for name in names))


def images(video: str, *numbers: int) -> list[str]:
    return [f"{video}/{number:05d}.jpg" for number in numbers]


def units(*there: str, sure: float = 0.9) -> list[float]:
    return [sure if unit in there else 0.1 for unit in AU12.labels]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two videos with all label sets: ``01`` has evidence for its first three of four frames, ``02`` for both."""
    films = {}
    for name, frames, until, emotion, compound, va, au in (
        ("01", 4, 0.6, "anger", "sadly_fearful", [0.25, -1.0], units("au1", "au26")),
        ("02", 2, 1.0, "other", "fearfully_surprised", [1 / 3, 0.0], units("au12", sure=0.5)),
    ):
        said = [
            ("core/mean", BASIC8, -1, 0.0, until, one_hot(BASIC8, emotion)),
            ("core/ppa", COMPOUND7, -1, 0.0, until, one_hot(COMPOUND7, compound)),
            ("a/va", VA, -1, 0.0, until, va),
            ("a/au", AU12, -1, 0.0, until, au),
        ]
        films[name] = Film(frames, said)
    return write_run(tmp_path / "run", films)


NAMES = [*images("01", 1, 2, 3, 4), *images("02", 1, 2)]


@pytest.mark.parametrize(
    ("track", "first", "last"),
    [
        ("abaw-ce", "5", "0"),
        ("abaw-expr", "1", "7"),
        ("abaw-va", "0.250000,-1.000000", "0.333333,0.000000"),
        ("abaw-au", "1,0,0,0,0,0,0,0,0,0,0,1", "0,0,0,0,0,0,1,0,0,0,0,0"),
        ("abaw-mtl", "0.250000,-1.000000,1,1,0,0,0,0,0,0,0,0,0,0,1", "0.333333,0.000000,7,0,0,0,0,0,0,1,0,0,0,0,0"),
    ],
)
def test_every_track_writes_its_file(run, tmp_path, track, first, last):
    asked, out = template(tmp_path / "list.txt", HEADERS[track], *NAMES), tmp_path / "out.txt"
    done = command("submit", run, "--to", track, "--template", asked, "--out", out)
    assert done.exit_code == 0, done.output
    assert (
        out.read_bytes().decode()
        == "\n".join([HEADERS[track], *(f"{n},{first}" for n in NAMES[:4]), *(f"{n},{last}" for n in NAMES[4:])]) + "\n"
    )
    assert f"{out}: 6 lines for core/{track}, checked" in done.stdout
    assert "   83.3%  evidence (5 of 6 lines)\n   16.7%  filled, hold (1 of 6 lines)\n" in done.stdout
    checked = command("submit", "--check", out, "--template", asked)
    assert (checked.exit_code, checked.stdout) == (0, f"{out}: nothing wrong for core/{track}\n")


def test_official_headers():
    assert CE.header.split(",")[1:] == [label.title() for label in COMPOUND7.labels]
    assert EXPR.header.split(",")[1:] == [label.title() for label in BASIC8.labels]
    assert ValenceArousal.header.split(",") == ["image_location", *VA.labels]
    assert ActionUnits.header.split(",")[1:] == [label.upper() for label in AU12.labels]
    assert MTL.header == "image,valence,arousal,expression,aus"


def test_the_official_list_of_the_compound_track(shared_data, tmp_path):
    """All 26,145 lines, answered by the default alone: nothing is left out, doubled or moved."""
    asked, out = shared_data / "abaw" / "cexpr_ce_template.txt", tmp_path / "ce.txt"
    empty = write_run(tmp_path / "run", {"x": Film(1, [("core/ppa", COMPOUND7, -1, 0.0, 1.0, one_hot(COMPOUND7, "sadly_angry"))])})
    done = command("submit", empty, "--to", "abaw-ce", "--template", asked, "--out", out, "--default", "Sadly_Angry", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["lines"], told["sets"]["compound7"]["default"], told["media_not_asked_for"]) == (26145, 26145, ["x"])
    assert out.read_text() == asked.read_text().replace(".jpg,\n", ".jpg,6\n")


# lists


@pytest.mark.parametrize(
    ("ending", "mark", "value", "end"),
    [
        ("\n", "", ",", "\n"),
        ("\r\n", "", ",", "\r\n"),
        ("\n", "\ufeff", "", ""),
        ("\r\n", "\ufeff", ",3", "\r\n\r\n"),
        ("\n", "", ",,,,,,,", "\n \n"),
    ],
)
def test_lists_come_in_many_spellings(run, tmp_path, ending, mark, value, end):
    asked, out = tmp_path / "list.txt", tmp_path / "out.txt"
    asked.write_bytes((mark + ending.join([CE.header, *(name + value for name in NAMES)]) + end).encode())
    assert command("submit", run, "--to", "abaw-ce", "--template", asked, "--out", out).exit_code == 0
    assert out.read_text().splitlines() == [CE.header, *(f"{n},5" for n in NAMES[:4]), *(f"{n},0" for n in NAMES[4:])]
    assert command("submit", "--check", out, "--template", asked).exit_code == 0


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], ["list.txt: is empty"]),
        ([CE.header], ["list.txt: the list asks for nothing: there is no line after the header"]),
        ([EXPR.header, "01/00001.jpg,"], [f"line 1: expected the header {CE.header}, found '{EXPR.header}', which is that of abaw-expr"]),
        (["01/00001.jpg,", "01/00002.jpg,"], [f"line 1: expected the header {CE.header}, found '01/00001.jpg,'"]),
        (["media,start,end", "a,0,1", "b,1,2"], [f"line 1: expected the header {CE.header}, found 'media,start,end'"]),
        (
            [CE.header, "01/00001.jpg,", "", "01/00001.jpg,", "01/1.jpg,", "01/x.jpg,", "00001.jpg", "01/00000.jpg", "01/00002.jpg"],
            [
                "list.txt, line 3: is blank",
                "list.txt, line 4: 01/00001.jpg is in line 2 already",
                "list.txt, line 5: 01/1.jpg is in line 2 already",
                "list.txt, line 6: '01/x.jpg' is no frame; expected VIDEO/NUMBER.jpg, frames counted from 1",
                "list.txt, line 7: '00001.jpg' is no frame",
                "list.txt, line 8: '01/00000.jpg' is no frame",
            ],
        ),
        ([CE.header, *["?"] * 30], ["line 21: '?' is no frame", "list.txt: 10 more lines like these"]),
    ],
)
def test_a_damaged_list_is_told_with_all_its_lines(run, tmp_path, lines, told):
    asked, out = text(tmp_path / "list.txt", *lines) if lines else text(tmp_path / "list.txt", end=""), tmp_path / "out.txt"
    done = command("submit", run, "--to", "abaw-ce", "--template", asked, "--out", out)
    assert done.exit_code == 2
    for sentence in told:
        assert sentence in done.stderr
    assert not out.exists()
    text(out, CE.header, "01/00001.jpg,0")
    assert command("submit", "--check", out, "--template", asked, "--to", "abaw-ce").exit_code == 2
    assert out.read_text() == f"{CE.header}\n01/00001.jpg,0\n"


def test_lists_that_cannot_be_read(run, tmp_path):
    out = tmp_path / "out.txt"
    done = command("submit", run, "--to", "abaw-ce", "--template", tmp_path / "absent.txt", "--out", out)
    assert (done.exit_code, done.stderr) == (2, f"Error: {tmp_path / 'absent.txt'} cannot be read: No such file or directory\n")
    (tmp_path / "list.txt").write_bytes(CE.header.encode() + b"\n\xff\n")
    done = command("submit", run, "--to", "abaw-ce", "--template", tmp_path / "list.txt", "--out", out)
    assert (done.exit_code, done.stderr) == (2, f"Error: {tmp_path / 'list.txt'} is no text file in UTF-8 (byte {len(CE.header) + 1})\n")


# reports


def test_the_report_says_how_lines_were_answered(tmp_path):
    said = [("core/ppa", COMPOUND7, -1, 0.0, 1.0, one_hot(COMPOUND7, label)) for label in ("sadly_angry",)]
    films = {"01": Film(5, said), "02": Film(9, [(*row[:4], 2.0, row[5]) for row in said]), "spare": Film(1)}
    run = write_run(tmp_path / "run", films)
    asked = template(tmp_path / "list.txt", CE.header, *images("01", *range(1, 7)), *images("02", *range(1, 17)), *images("03", 1, 2))
    done = command("submit", run, "--to", "core/abaw-ce", "--template", asked, "--out", tmp_path / "out.txt", "--default", "sadly_fearful")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "compound7 from core/ppa",
        "   58.3%  evidence (14 of 24 lines)",
        "   33.3%  filled, hold (8 of 24 lines)",
        "    8.3%  default (2 of 24 lines)",
        *(f"  {label:24}   0.0%" for label in COMPOUND7.labels[:5]),
        "  sadly_fearful              8.3%",
        "  sadly_angry               91.7%",
        "Diagnostics, which are no scores: kl_from_cexpr_priors inf",
        "01 (list 6, file 5): 1 line for frames that the file does not have, filled",
        "02 (list 16, file 9): 7 lines for frames that the file does not have, filled",
        "In the run and not in the list: spare",
        f"{tmp_path / 'out.txt'}: 24 lines for core/abaw-ce, checked",
    ]
    assert done.stderr == (
        "Warning: the list goes 1.4 s beyond the end of 02 (16 lines for 02, 9 frames); the file may be another version of the video\n"
    )


def test_the_report_as_json(run, tmp_path):
    asked = template(tmp_path / "list.txt", MTL.header, *NAMES)
    done = command(
        "submit", run, "--to", "abaw-mtl", "--template", asked, "--out", tmp_path / "out.txt", "--json", "--smooth", "box", "0.1"
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["to"], told["lines"], told["gaps"], told["smooth"], told["warnings"]) == ("core/abaw-mtl", 6, "hold", ["box", 0.1], [])
    va, expression, au = told["sets"].values()
    assert (va["source"], va["evidence"], va["gaps"], va["default"]) == ("a/va", 5, 1, 0)
    assert va["share"] == {"evidence": 0.8333, "gaps": 0.1667, "default": 0.0}
    assert va["answers"]["arousal"] == {"mean": -0.6667, "low": -1.0, "high": 0.0}
    assert {label: count for label, count in expression["answers"].items() if count} == {"anger": 4, "other": 2}
    assert {unit: share for unit, share in au["answers"].items() if share} == {"au1": 0.6667, "au12": 0.3333, "au26": 0.6667}
    assert told["videos"]["01"] == {
        "media": "01",
        "subject": "most present",
        "lines": 4,
        "frames": 4,
        "not_in_the_file": 0,
        "seconds_beyond": 0.0,
        "not_asked_for": 0,
    }


def test_the_diagnostic_of_the_compound_track(tmp_path):
    """KL divergence of the published priors from the answers; it is infinite where a class is never answered."""
    said = [("core/ppa", COMPOUND7, -1, i / 5, (i + 1) / 5, one_hot(COMPOUND7, label)) for i, label in enumerate(COMPOUND7.labels)]
    run = write_run(tmp_path / "run", {"01": Film(7, said)})
    for last, expected in ((7, np.sum((p := np.array(CEXPR_PRIORS) / 90302) * np.log(p * 7))), (6, None)):
        asked = template(tmp_path / "list.txt", CE.header, *images("01", *range(1, last + 1)))
        done = command("submit", run, "--to", "abaw-ce", "--template", asked, "--out", tmp_path / "out.txt", "--json")
        assert json.loads(done.stdout)["remarks"] == {"kl_from_cexpr_priors": expected if expected is None else pytest.approx(expected)}


def test_times_that_follow_from_the_rate_are_said(tmp_path):
    film = Film(2, [("a/va", VA, -1, 0.0, 1.0, [0, 0])], decoded=False)
    asked = template(tmp_path / "list.txt", ValenceArousal.header, *images("01", 1))
    done = command(
        "submit", write_run(tmp_path / "run", {"01": film}), "--to", "abaw-va", "--template", asked, "--out", tmp_path / "out.txt"
    )
    assert done.exit_code == 0
    assert done.stderr == "Warning: no pictures of 01 were decoded, so the times of their frames follow from the frame rate\n"


# choices


def test_choices_reach_the_answers(run, tmp_path):
    asked, out = template(tmp_path / "list.txt", ActionUnits.header, *NAMES), tmp_path / "out.txt"
    assert command("submit", run, "--to", "abaw-au", "--template", asked, "--out", out, "--threshold", "0.6").exit_code == 0
    assert out.read_text().splitlines()[-1] == "02/00002.jpg" + ",0" * 12
    assert command("submit", run, "--to", "abaw-au", "--template", asked, "--out", out, "--set", "threshold=0.1").exit_code == 0
    assert out.read_text().splitlines()[-1] == "02/00002.jpg" + ",1" * 12
    more = template(tmp_path / "list.txt", MTL.header, *NAMES, *images("03", 1))
    given = ["--default", "va=0.5,-0.5", "--default", "basic8=fear", "--default", "au12=au4,au26", "--source", "va=a/va"]
    done = command("submit", run, "--to", "abaw-mtl", "--template", more, "--out", out, *given)
    assert done.exit_code == 0, done.output
    assert out.read_text().splitlines()[-1] == "03/00001.jpg,0.500000,-0.500000,3,0,0,1,0,0,0,0,0,0,0,0,1"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing to do: give a RUN to submit, --check FILE --template LIST, or --score FILE --labels PATH"),
        (["RUN", "--check", "x"], "RUN and --check are different things to do"),
        (["RUN"], "3 problems:\n1. RUN needs --to\n2. RUN needs --template\n3. RUN needs --out\n"),
        (["--check", "x"], "--check needs --template"),
        (["--score", "x", "--out", "y"], "2 problems:\n1. --out means nothing with --score; leave it out\n2. --score needs --labels"),
        (["--check", "x", "--template", "y", "--default", "0"], "--default means nothing with --check; leave it out"),
        (
            ["RUN", "--to", "abaw-cee", "--template", "LIST", "--out", "x"],
            "there is no submitter 'core/abaw-cee'. Did you mean core/abaw-ce?",
        ),
        (["RUN", "--to", "core/ppa", "--template", "LIST", "--out", "x"], "core/ppa is a head, not a submitter"),
        (["RUN", "--to", "abaw-va", "--template", "LIST", "--out", "x", "--threshold", "0.5"], "core/abaw-va.threshold: unknown key"),
        (["RUN", "--to", "abaw-au", "--template", "LIST", "--out", "x", "--threshold", "2"], "threshold must be from 0 to 1, found 2.0"),
        (["RUN", "--to", "abaw-au", "--template", "LIST", "--out", "x", "--set", "threshold"], "--set takes KEY=VALUE, found 'threshold'"),
        (["RUN", "--to", "abaw-au", "--template", "LIST", "--out", "x", "--set", "threshold=["], "--set threshold: '[' is no value"),
        (
            ["RUN", "--to", "abaw-va", "--template", "LIST", "--out", "x", "--smooth", "box", "0"],
            "--smooth needs seconds greater than 0, found 0",
        ),
        (
            ["RUN", "--to", "abaw-mtl", "--template", "LIST", "--out", "x", "--default", "0,0"],
            "--default takes va=... or basic8=... or au12=..., found '0,0'",
        ),
        (
            ["RUN", "--to", "abaw-va", "--template", "LIST", "--out", "x", "--source", "a/b", "--source", "va=a/c"],
            "--source is given twice for va: a/b and a/c",
        ),
        (["RUN", "--to", "abaw-va", "--template", "LIST", "--out", "x", "--default", "high"], "--default of va is 2 numbers from -1 to 1"),
        (["nowhere", "--to", "abaw-va", "--template", "LIST", "--out", "x"], "nowhere holds no run"),
    ],
)
def test_commands_that_cannot_be(run, tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    template(tmp_path / "LIST", ValenceArousal.header, *NAMES)
    done = command("submit", *(str(run) if word == "RUN" else word for word in arguments))
    assert (done.exit_code, done.stdout) == (2, "")
    assert told in done.stderr
    assert not (tmp_path / "x").exists()


def test_a_run_without_the_label_set(run, tmp_path):
    lone = write_run(tmp_path / "lone", {"01": Film(1, [("a/b", BASIC7, -1, 0.0, 1.0, one_hot(BASIC7, "fear"))])})
    asked, out = template(tmp_path / "list.txt", MTL.header, *NAMES), tmp_path / "out.txt"
    out.write_text("as it was")
    done = command("submit", lone, "--to", "abaw-mtl", "--template", asked, "--out", out)
    assert done.exit_code == 2
    assert f"1. core/abaw-mtl needs va (valence, arousal), which the run {lone} does not have; it has basic7 from a/b\n" in done.stderr
    assert "2. core/abaw-mtl needs au12 (au1, au2," in done.stderr
    assert out.read_text() == "as it was"
    assert [path.name for path in tmp_path.iterdir() if "tmp" in path.name] == []


# checks


def lines_of(*answers: tuple[str, object]) -> list[str]:
    return [f"{name},{value}" for name, value in answers]


@pytest.mark.parametrize(
    ("header", "lines", "told"),
    [
        (CE.header, [(n, 0) for n in NAMES], []),
        (
            CE.header,
            [(NAMES[0], 7), (NAMES[1], ""), (NAMES[2], "1,2"), (NAMES[3], "1.0"), (NAMES[4], -1), (NAMES[5], 6)],
            [
                "line 2: 01/00001.jpg: compound7 is '7', expected a whole number from 0 to 6",
                "line 3: 01/00002.jpg: compound7 is '', expected a whole number from 0 to 6",
                "line 4: 01/00003.jpg has 2 values, expected 1",
                "line 5: 01/00004.jpg: compound7 is '1.0', expected a whole number from 0 to 6",
                "line 6: 02/00001.jpg: compound7 is '-1', expected a whole number from 0 to 6",
            ],
        ),
        (
            CE.header,
            [(NAMES[0], 0), (NAMES[0], 0), ("03/00001.jpg", 0), (NAMES[1], 0), (NAMES[3], 0), (NAMES[4], 0)],
            [
                "line 3: 01/00001.jpg is in line 2 already",
                "line 4: 03/00001.jpg is not asked for",
                "01/00003.jpg, line 4 of the list, is missing",
                "02/00002.jpg, line 7 of the list, is missing",
            ],
        ),
        (CE.header, [(NAMES[i], 0) for i in (5, 0, 1, 2, 3, 4)], ["line 2: 02/00002.jpg is line 7 of the list"]),
        (
            CE.header,
            [(NAMES[i], 0) for i in (4, 5, 0, 1, 2, 3)],
            ["line 2: 02/00001.jpg is line 6 of the list", "line 3: 02/00002.jpg is line 7 of the list"],
        ),
        (
            ValenceArousal.header,
            [*((n, "0,0.5") for n in NAMES[:4]), (NAMES[4], "1.01,nan"), (NAMES[5], "-1,x")],
            [
                "line 6: 02/00001.jpg: valence is '1.01', expected a number from -1 to 1",
                "line 6: 02/00001.jpg: arousal is 'nan', expected a number from -1 to 1",
                "line 7: 02/00002.jpg: arousal is 'x', expected a number from -1 to 1",
            ],
        ),
        (
            MTL.header,
            [*((n, "0,0.5,7" + ",1" * 12) for n in NAMES[:4]), (NAMES[4], "0,0,8,2" + ",0" * 11), (NAMES[5], "0,0,0")],
            [
                "line 6: 02/00001.jpg: basic8 is '8', expected a whole number from 0 to 7",
                "line 6: 02/00001.jpg: au1 is '2', expected 0 or 1",
                "line 7: 02/00002.jpg has 3 values, expected 15",
            ],
        ),
    ],
)
def test_check_says_exactly_which_lines(tmp_path, header, lines, told):
    asked, file = template(tmp_path / "list.txt", header, *NAMES), text(tmp_path / "file.txt", header, *lines_of(*lines))
    done = command("submit", "--check", file, "--template", asked)
    assert done.exit_code == (1 if told else 0), done.output
    assert done.stdout.splitlines()[:-1] == told
    as_json = command("submit", "--check", file, "--template", asked, "--json")
    assert as_json.exit_code == done.exit_code
    assert [p["message"] if not p["line"] else f"line {p['line']}: {p['message']}" for p in json.loads(as_json.stdout)["problems"]] == told


def test_check_lists_the_first_and_counts_the_rest(tmp_path):
    asked = template(tmp_path / "list.txt", CE.header, *images("01", *range(1, 51)))
    file = text(tmp_path / "file.txt", CE.header, *(f"{name},9" for name in images("01", *range(1, 21))), "")
    done = command("submit", "--check", file, "--template", asked)
    said = done.stdout.splitlines()
    assert said[0] == "line 2: 01/00001.jpg: compound7 is '9', expected a whole number from 0 to 6"
    assert said[10] == "... and 10 more of this kind (value); --json has them all"
    assert said[11] == "01/00021.jpg, line 22 of the list, is missing"
    assert said[21] == "... and 20 more of this kind (missing); --json has them all"
    assert said[22] == f"{file}: 50 problems for core/abaw-ce (20 value, 30 missing)"
    assert len(json.loads(command("submit", "--check", file, "--template", asked, "--json").stdout)["problems"]) == 50


def test_check_of_files_that_are_something_else(tmp_path):
    asked = template(tmp_path / "list.txt", CE.header, *NAMES)
    other = text(tmp_path / "file.txt", "media,label", "01,3")
    done = command("submit", "--check", other, "--template", asked)  # the list says which track it is
    assert done.exit_code == 1
    assert done.stdout.splitlines()[0] == f"line 1: expected the header {CE.header}, found 'media,label'"
    marked = tmp_path / "marked.txt"
    marked.write_bytes("\n".join(["\ufeff" + CE.header, *(f"{name},0" for name in NAMES)]).encode())
    done = command("submit", "--check", marked, "--template", asked)
    assert done.stdout.splitlines()[0] == "line 1: begins with a byte order mark, which readers may take for a part of the header"
    text(tmp_path / "list.txt", "a,b", "c,d")
    done = command("submit", "--check", other, "--template", asked)
    assert done.exit_code == 2
    assert (
        f"the first line of {other} does not tell which challenge it is of (known are challenge/moods, core/abaw-au, core/abaw-ce,"
        in done.stderr
    )
    assert "give it with --to" in done.stderr
    done = command("submit", "--check", tmp_path / "absent.txt", "--template", asked)
    assert (done.exit_code, done.stderr) == (2, f"Error: there is no file {tmp_path / 'absent.txt'}\n")


# scores


def test_scores_are_the_official_metrics(tmp_path):
    """Against closed forms and scikit-learn; what is annotated with -1 or -5 does not count."""
    random = np.random.default_rng(3)
    names = images("01", *range(1, 41))
    truth, said = random.integers(0, 6, 40), random.integers(0, 8, 40)  # class 7 is answered and never true
    truth[5:8] = -1
    folder = tmp_path / "labels"
    folder.mkdir()
    text(folder / "01.txt", EXPR.header.partition(",")[2], *map(str, truth))
    file = text(tmp_path / "expr.txt", EXPR.header, *(f"{n},{v}" for n, v in zip(names, said, strict=True)))
    told = json.loads(command("submit", "--score", file, "--labels", folder, "--json").stdout)
    kept = truth >= 0
    expected = f1_score(truth[kept], said[kept], labels=range(8), average="macro", zero_division=0)
    assert next(iter(told["scores"].items())) == ("macro_f1", pytest.approx(expected))
    assert (told["to"], told["scores"]["frames"], told["scores"]["without_annotation"]) == ("core/abaw-expr", 37, 3)


def test_scores_of_all_tracks(tmp_path):
    random = np.random.default_rng(5)
    names = images("130-25-1280x720_left", *range(1, 61))
    va, va_said = random.uniform(-1, 1, (60, 2)).round(3), random.uniform(-1, 1, (60, 2)).round(3)
    expr, expr_said = random.integers(0, 8, 60), random.integers(0, 8, 60)
    au, au_said = random.integers(0, 2, (60, 12)), random.integers(0, 2, (60, 12))
    va[:4], expr[4:8], au[8:12] = -5, -1, -1

    def column(*parts: np.ndarray) -> list[str]:
        return [",".join([name, *(f"{v:g}" for part in parts for v in np.atleast_1d(part[i]))]) for i, name in enumerate(names)]

    def ccc(x: np.ndarray, y: np.ndarray) -> float:
        return float(2 * np.mean((x - x.mean()) * (y - y.mean())) / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))

    mean_ccc = np.mean([ccc(va[4:, d], va_said[4:, d]) for d in range(2)])
    macro_f1 = f1_score(expr[expr >= 0], expr_said[expr >= 0], labels=range(8), average="macro", zero_division=0)
    kept = au[:, 0] >= 0
    mean_f1 = np.mean([f1_score(au[kept, u], au_said[kept, u]) for u in range(12)])
    for track, truth, said, score in (
        (ValenceArousal, column(va), column(va_said), mean_ccc),
        (EXPR, column(expr), column(expr_said), macro_f1),
        (ActionUnits, column(au), column(au_said), mean_f1),
        (MTL, column(va, expr, au), column(va_said, expr_said, au_said), mean_ccc + macro_f1 + mean_f1),
    ):
        labels, file = text(tmp_path / "labels.txt", track.header, *truth), text(tmp_path / "file.txt", track.header, *said)
        told = json.loads(command("submit", "--score", file, "--labels", labels, "--json").stdout)
        assert told["to"] == f"core/{track.name}"
        assert next(iter(told["scores"].values())) == pytest.approx(score), track
    printed = command("submit", "--score", file, "--labels", labels).stdout.splitlines()
    assert printed[0].split() == ["sum", f"{mean_ccc + macro_f1 + mean_f1:.4f}"]
    assert {line.split()[0] for line in printed} >= {"mean_ccc", "macro_f1", "mean_f1", "ccc_arousal", "f1_other", "f1_au26", "frames"}


def test_the_compound_track_counts_seven_classes(tmp_path):
    names = images("01", 1, 2, 3, 4)
    labels = text(tmp_path / "labels.txt", CE.header, *(f"{n},{v}" for n, v in zip(names, (0, 0, 1, -1), strict=True)))
    file = text(tmp_path / "file.txt", CE.header, *(f"{n},{v}" for n, v in zip(names, (0, 0, 1, 6), strict=True)))
    told = json.loads(command("submit", "--score", file, "--labels", labels, "--json").stdout)["scores"]
    assert told["macro_f1"] == pytest.approx(2 / 7)
    assert (told["f1_fearfully_surprised"], told["f1_sadly_angry"]) == (1.0, None)  # what neither occurs nor is answered has no F1


def test_scores_that_cannot_be(tmp_path):
    names = images("01", 1, 2, 3)
    labels = text(tmp_path / "labels.txt", CE.header, *(f"{n},1" for n in [*names, *images("02", 1, 2)]))
    file = text(tmp_path / "file.txt", CE.header, *(f"{n},1" for n in names[:2]))
    done = command("submit", "--score", file, "--labels", labels)
    assert done.exit_code == 2
    assert (
        f"3 frames that {labels} annotates are not in {file}: 01/00003.jpg, 02/00001.jpg, 02/00002.jpg. The metric is over every"
        in done.stderr
    )
    text(file, CE.header, "01/00001.jpg,9", "01/00001.jpg,1")
    done = command("submit", "--score", file, "--labels", labels)
    assert done.exit_code == 2
    assert "line 2: 01/00001.jpg: compound7 is '9'" in done.stderr
    assert "line 3: 01/00001.jpg is in line 2 already" in done.stderr
    text(file, EXPR.header, *(f"{n},1" for n in names))
    done = command("submit", "--score", file, "--labels", labels)
    assert done.exit_code == 2
    assert f"{labels} has labels of compound7; core/abaw-expr also needs basic8" in done.stderr


# a challenge of a plugin


def test_a_plugin_with_one_answer_per_video(run, tmp_path):
    asked, out = text(tmp_path / "list.txt", "02", "01", "03"), tmp_path / "moods.csv"
    done = command(
        "submit", run, "--to", "challenge/moods", "--template", asked, "--out", out, "--default", "neutral", "--set", "capitals=true"
    )
    assert done.exit_code == 0, done.output
    assert out.read_text() == "02;OTHER\n01;ANGER\n03;NEUTRAL\n"
    assert command("submit", "--check", out, "--template", asked, "--to", "challenge/moods").exit_code == 0
    text(out, "01;ANGER")
    done = command("submit", "--check", out, "--template", asked, "--to", "challenge/moods")
    assert (done.exit_code, done.stdout.splitlines()) == (1, ["is not in the order of the list", f"{out}: 1 problem for challenge/moods"])
    done = command("submit", "--score", out, "--labels", asked, "--to", "challenge/moods")
    assert (done.exit_code, done.stderr) == (
        2,
        "Error: challenge/moods knows no official metric of its challenge, so it cannot score a file\n",
    )


def test_help_says_what_there_is():
    said = command("submit", "--help").stdout
    for option in ("--to", "--template", "--gaps", "--default", "--smooth", "--check", "--score", "--labels", "--json"):
        assert option in said
