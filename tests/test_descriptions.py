"""Descriptions of windows: whose they are, which seconds they speak for, and what is wrong with a table."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectkit.builtin.descriptions import Descriptions, Options, Row, read, texts
from affectkit.errors import ConfigError, Problems
from affectkit.evidence import Evidence
from affectkit.media import Clip, Media, Span


def medium(path: Path, **kwargs: Any) -> Media:
    return Media(id=path.stem, path=path, kind="video", duration=10.0, **kwargs)


def describe(path: Path, *windows: tuple[float, float], table: Path | str = "", media: Media | None = None) -> list[Evidence]:
    provider = Descriptions(Options(path=str(table)))
    clips = [Clip(media or medium(path), Span(*window)) for window in windows]
    return list(provider.provide(clips))


def words(evidence: Evidence) -> str | None:
    return evidence.data["text"] if evidence.valid else None


@pytest.fixture
def table(tmp_path: Path):
    def write(text: str, name: str = "d.csv") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


# --- whose descriptions


def test_windows_get_the_rows_of_their_seconds(tmp_path, table):
    path = table("media,start,end,text\nclip.mp4,0,4,She smiles.\nclip.mp4,4,8,He frowns.\nother.mp4,0,8,A dog.\nclip.mp4,,,In a studio.\n")
    found = describe(tmp_path / "clip.mp4", (0, 4), (2, 6), (5, 7), (8, 10), table=path)
    assert [words(item) for item in found] == ["She smiles.", "She smiles. He frowns.", "He frowns.", "In a studio."]
    assert found[0].kind == "description"
    assert found[0].quality == {"words": 2.0}
    assert words(describe(tmp_path / "other.mp4", (2, 6), table=path)[0]) == "A dog."


@pytest.mark.parametrize("name", ["clip", "clip.mp4", "b/clip.mp4", "b/clip", "b\\clip.mp4", "ABSOLUTE"])
def test_names_of_media(tmp_path, table, name):
    media = tmp_path / "b" / "clip.mp4"
    path = table(f"media,text\n{str(media) if name == 'ABSOLUTE' else name},yes\nlip.mp4,no\na/clip.mp4,no\n")
    assert words(describe(media, (0, 4), table=path)[0]) == "yes"


def test_the_name_that_says_most_wins(tmp_path, table):
    path = table("media,text\nclip,stem\nclip.mp4,name\nb/clip.mp4,folder\nb/clip,folder stem\nthe_id,id\n")
    assert words(describe(tmp_path / "a" / "clip.avi", (0, 4), table=path)[0]) == "stem"
    assert words(describe(tmp_path / "a" / "clip.mp4", (0, 4), table=path)[0]) == "name"
    media = tmp_path / "b" / "clip.mp4"
    assert words(describe(media, (0, 4), table=path)[0]) == "folder"
    assert words(describe(media, (0, 4), table=path, media=Media("the_id", media, "video", 10.0))[0]) == "id"


def test_a_medium_without_rows(tmp_path, table):
    path = table("media,text\nclip1.mp4,yes\n")
    [found] = describe(tmp_path / "clip2.mp4", (0, 4), table=path)
    assert not found.valid
    assert found.reason == "d.csv has no row for clip2.mp4. Did you mean clip1.mp4?"


def test_a_window_without_rows(tmp_path, table):
    [found] = describe(tmp_path / "clip.mp4", (4, 8), table=table("media,start,end,text\nclip,0,4,yes\n"))
    assert (found.valid, found.reason) == (False, "d.csv has no row for this window")


def test_the_table_beside_a_medium(tmp_path, table):
    table("start,end,text\n0,4,beside\n", "clip.descriptions.csv")
    table("media,text\nthird.mp4,with its name\n", "third.descriptions.csv")
    assert words(describe(tmp_path / "clip.mp4", (0, 4))[0]) == "beside"
    assert words(describe(tmp_path / "third.mp4", (0, 4))[0]) == "with its name"
    [found] = describe(tmp_path / "other.mp4", (0, 4))
    assert not found.valid
    assert found.reason == "no descriptions given (--descriptions FILE, or NAME.descriptions.csv beside NAME)"


def test_a_wrong_table_beside_a_medium_is_the_reason(tmp_path, table):
    table("start,end,words\n0,4,beside\n", "clip.descriptions.csv")
    [found] = describe(tmp_path / "clip.mp4", (0, 4))
    assert not found.valid
    assert "clip.descriptions.csv has no column 'text'" in found.reason


# --- numbered windows


def test_numbered_windows(tmp_path, table):
    path = table(
        "video_name,text,Neutral\n01___0000.mp4,zero,1\n01___0001.mp4,one,\n01___0003.mp4,three,\n02___Happiness_0001.avi,happy,\n"
    )
    found = describe(tmp_path / "01.mp4", (0, 4), (2, 6), (4, 8), (6, 9.5), table=path)
    assert [words(item) for item in found] == ["zero", "one", "one three", "three"]
    assert words(describe(tmp_path / "02.avi", (2, 6), table=path)[0]) == "happy"
    assert words(describe(tmp_path / "01___0003.mp4", (0, 3), table=path)[0]) == "three"


def test_numbered_windows_count_from_the_start_of_the_medium(tmp_path, table):
    path = table("media,start,end,text\n01___0001,,,numbered\n02,2,6,timed\n")
    late = {name: medium(tmp_path / f"{name}.mp4", start=10.0) for name in ("01", "02")}
    assert words(describe(late["01"].path, (12, 16), table=path, media=late["01"])[0]) == "numbered"
    assert words(describe(late["02"].path, (12, 16), table=path, media=late["02"])[0]) is None
    assert words(describe(late["02"].path, (2, 6), table=path, media=late["02"])[0]) == "timed"


def test_another_grid(tmp_path, table):
    path = table("media,text\nx___0000,a\nx___0001,b\n")
    provider = Descriptions(Options(path=str(path), length=10, step=10))
    [found] = provider.provide([Clip(medium(tmp_path / "x.mp4"), Span(12, 16))])
    assert words(found) == "b"


def test_the_descriptions_of_team_ras(shared_data):
    folder = shared_data / "scene" / "ras_descriptions" / "C-EXPR-DB"
    tables = sorted(folder.glob("*/*.csv"))
    assert len(tables) == 6
    for path in tables:
        with path.open(encoding="utf-8", newline="") as file:
            expected = {row["video_name"]: row["text"].strip() for row in csv.DictReader(file)}
        provider = Descriptions(Options(path=str(path)))
        videos = {name.split("___")[0] for name in expected}
        assert len(videos) == 56
        for name, text in expected.items():
            video, index = name.removesuffix(".mp4").split("___")
            start = int(index) * 2.0
            [found] = provider.provide([Clip(medium(Path(f"{video}.mp4")), Span(start, start + 4))])
            assert words(found) == text, (path, name)


def test_the_descriptions_of_afew_are_read_without_the_label_in_their_names(shared_data):
    path = shared_data / "scene" / "ras_descriptions" / "AFEW" / "Qwen2.5-VL-3B-Instruct" / "dev_segment_with_text_1.csv"
    assert not any(label in name for name in read(path).rows if "___" not in name for label in ("Happiness", "Sadness", "Anger"))


# --- which texts


def test_a_row_that_adds_next_to_nothing_is_left_out():
    rows = [Row("a", Span(0, 3.7)), Row("b", Span(3.7, 8))]
    assert texts(rows, Span(0, 4)) == ["a"]
    assert texts(rows, Span(1, 5)) == ["a", "b"]


def test_several_texts_for_the_same_seconds():
    assert texts([Row("a", Span(0, 4)), Row("b", Span(0, 4))], Span(0, 4)) == ["a", "b"]
    assert texts([Row("a"), Row("b")], Span(0, 4)) == ["a", "b"]


def test_an_image():
    assert texts([Row("short", Span(0, 1)), Row("long", Span(0, 9)), Row("all")], Span(0, 0)) == ["short"]
    assert texts([Row("point", Span(0, 0)), Row("long", Span(0, 9))], Span(0, 0)) == ["point"]
    assert texts([Row("later", Span(1, 2)), Row("all")], Span(0, 0)) == ["all"]


times = st.integers(0, 40).map(lambda n: n / 2)
spans = st.tuples(times, times).map(lambda pair: Span(min(pair), max(pair)))


@given(st.lists(spans, max_size=8), spans.filter(lambda span: span.length > 0))
def test_texts_cover_what_can_be_covered_with_no_row_to_spare(rows, window):
    numbered = [Row(str(i), span) for i, span in enumerate(rows)]
    chosen = texts(numbered, window)
    assert len(set(chosen)) == len(chosen)

    def ticks(span: Span) -> set[int]:
        return {t for t in range(int(span.start * 2), int(span.end * 2)) if window.start <= t / 2 < window.end}

    covered = [ticks(rows[int(text)]) for text in chosen]
    assert all(covered)
    # Half-second steps in windows of up to 20 seconds: what a row adds is either nothing or above the tenth that counts, but for long windows
    if window.length <= 5:
        assert set().union(*covered) == set().union(set(), *map(ticks, rows))
    overlaps = [len(item) for item in covered]
    assert overlaps == sorted(overlaps, reverse=True)


# --- tables that are wrong


def refused(path: Path | str) -> str:
    with pytest.raises((ConfigError, Problems)) as error:
        describe(Path("clip.mp4"), table=path)
    return str(error.value)


def test_no_table(tmp_path):
    assert refused(tmp_path / "gone.csv") == f"there is no table of descriptions at {tmp_path / 'gone.csv'}"
    (tmp_path / "x.csv").mkdir()
    assert "x.csv cannot be read: Is a directory" in refused(tmp_path / "x.csv")
    (tmp_path / "y.csv").write_bytes(b"media,text\nclip,\xff\xfe")
    assert "y.csv is not text in UTF-8; save the table of descriptions as CSV in UTF-8" in refused(tmp_path / "y.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            "has no column 'text'; a table of descriptions has the header media,start,end,text (start and end may be left out), found nothing",
        ),
        ("clip.mp4,hello\n", "has no column 'text'"),
        ("text\nhello\n", "has no column 'media'"),
        ("media,start,text\nclip,1,x\n", "has only one of the columns start and end"),
        ("media,text\n", "has no rows with text"),
        ("media,text\nclip,\n", "has no rows with text"),
        ("media,start,end,text\nclip,one,2,x\n", "line 2: start must be a number of seconds, found 'one'"),
        ("media,start,end,text\nclip,1,,x\n", "line 2: end must be a number of seconds, found ''"),
        ("media,start,end,text\nclip,0,inf,x\n", "line 2: end must be a number of seconds, found 'inf'"),
        ("media,start,end,text\nclip,3,2,x\n", "line 2: start 3.0 is after end 2.0"),
        ("media,text\n,x\n", "line 2: no name of a medium"),
        ("media,text\nclip,a, b\n", "line 2: 3 columns where the header has 2; put texts with commas in quotes"),
        ('media,text\nclip,"a\n', "not a row of a table"),
        ("media,text\n1___0_119_0000.mp4,x\n", "1___0_119_0000.mp4 is numbered by frames, which say no time; give start and end"),
    ],
)
def test_wrong_tables(table, text, message):
    assert message in refused(table(text))


def test_wrong_rows_are_reported_together(table):
    message = refused(table("media,start,end,text\nclip,a,2,x\nclip,0,2,fine\nclip,b,2,x\n"))
    assert re.search(r"1\. .*line 2: .*\n2\. .*line 4: ", message)
    assert len(refused(table("media,start,end,text\n" + "clip,a,2,x\n" * 100)).splitlines()) == 10


@pytest.mark.parametrize("key", ["length", "step"])
def test_a_grid_without_extent(key):
    with pytest.raises(ConfigError, match=f"{key} must be greater than 0 seconds, found 0"):
        Options(**{key: 0.0})


def test_other_forms_of_tables(tmp_path, table):
    for text, name in (
        ("\ufeffMedia;Start;End;Description\nclip;0;4;yes, indeed\n", "semicolon.csv"),
        ("video_name\ttext\nclip.mp4\tyes, indeed\n", "tab.tsv"),
        ("video\ttext\nclip.mp4\tyes, indeed\n", "tab.csv"),
        ('media,text\r\nclip,"yes, indeed"\r\n\r\n', "crlf.csv"),
        ('file,text,extra\nclip,"yes, indeed"\n', "short.csv"),
    ):
        assert words(describe(tmp_path / "clip.mp4", (0, 4), table=table(text, name))[0]) == "yes, indeed", name
    text = 'media,text\nclip,"two\nlines"\n'
    assert words(describe(tmp_path / "clip.mp4", (0, 4), table=table(text))[0]) == "two\nlines"
