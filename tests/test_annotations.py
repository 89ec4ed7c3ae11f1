"""Labels as people have them: every form, and what is said of those that are wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from affectkit.annotations import read
from affectkit.errors import ConfigError, Problems, UsageError
from affectkit.labels import AU12, BASIC7, BASIC8, COMPOUND7, DFEW7, KNOWN, VA, LabelSet
from affectkit.references import Annotations, Named, match

EXPR = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"
CE = "Fearfully_Surprised,Happily_Surprised,Sadly_Surprised,Disgustedly_Surprised,Angrily_Surprised,Sadly_Fearful,Sadly_Angry"
MEDIA = {
    "talk": "/data/monday/talk.mp4",
    "duo": "/data/duo.mov",
    "one_left": "/data/one_left.mp4",
    "130-25-1280x720": "/frames/130-25-1280x720",
}
AU = "AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26"


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def classes(found: Annotations, labels: LabelSet) -> list[str | None]:
    """The reference of each row by name, ``None`` where nothing is annotated."""
    return [None if np.isnan(row).any() else labels.labels[int(row.argmax())] for row in found.references[labels]]


class TestTables:
    def test_whole_media(self, tmp_path: Path) -> None:
        found = read(write(tmp_path / "l.csv", "media,label", "a.mp4,Happy", "b.mp4,calm", "c.mp4,", "d.mp4,-1"))
        assert found.names == ("a.mp4", "b.mp4", "c.mp4", "d.mp4")
        assert classes(found, BASIC7) == ["happiness", "neutral", None, None]
        assert np.isnan(found.start).all()
        assert not found.frame.any()
        assert found.where(1) == f"{tmp_path / 'l.csv'}, line 3"

    @pytest.mark.parametrize("column", ["media", "file", "video", "name", "clip", "video_name", "image", "Video Name"])
    def test_the_column_of_media_has_many_names(self, tmp_path: Path, column: str) -> None:
        assert read(write(tmp_path / "l.csv", f"{column},label", "a,anger")).names == ("a",)

    @pytest.mark.parametrize(("name", "delimiter"), [("l.csv", ","), ("l.csv", ";"), ("l.tsv", "\t"), ("l.txt", "\t")])
    def test_delimiters(self, tmp_path: Path, name: str, delimiter: str) -> None:
        path = write(tmp_path / name, *(delimiter.join(row) for row in (["media", "start", "end", "label"], ["a", "0", "2.5", "fear"])))
        found = read(path)
        assert (found.start.tolist(), found.end.tolist(), classes(found, BASIC7)) == ([0.0], [2.5], ["fear"])

    def test_segments_moments_and_frames(self, tmp_path: Path) -> None:
        segments = read(write(tmp_path / "s.csv", "media,start,end,label", "a,0,4,fear", "a,,,anger"))
        assert segments.start[0] == 0
        assert np.isnan(segments.start[1])
        moments = read(write(tmp_path / "m.csv", "media,time,label", "a,1.5,fear"))
        assert moments.start.tolist() == moments.end.tolist() == [1.5]
        frames = read(write(tmp_path / "f.csv", "media,frame,track,label", "a,1,,fear", "a,2,3,fear"))
        assert (frames.frame.tolist(), frames.track.tolist()) == ([1, 2], [-1, 3])

    def test_numbers_count_in_the_set_that_is_named(self, tmp_path: Path) -> None:
        path = write(tmp_path / "l.csv", "media,label", "a,0", "b,6", "c,-1")
        assert classes(read(path, BASIC8), BASIC8) == ["neutral", "surprise", None]
        assert classes(read(path, DFEW7), DFEW7) == ["happiness", "fear", None]

    def test_names_choose_the_smallest_set_that_has_them_all(self, tmp_path: Path) -> None:
        assert set(read(write(tmp_path / "l.csv", "media,label", "a,others")).references) == {BASIC8}
        assert set(read(write(tmp_path / "l.csv", "media,label", "a,Sadly Angry")).references) == {COMPOUND7}
        own = LabelSet("own2", ("tired", "awake"))
        path = write(tmp_path / "l.csv", "media,label", "a,tired", "b,awake")
        assert set(read(path, known={**KNOWN, "own2": own}).references) == {own}
        assert set(read(path).references) == {LabelSet("labels", ("awake", "tired"))}

    def test_a_column_per_label(self, tmp_path: Path) -> None:
        header = "media,time,valence,arousal,AU01,AU12,Happy,Sad,actor"
        found = read(write(tmp_path / "l.csv", header, "a,0,.5,-.5,1,0,0.7,0.3,9", "a,1,-5,-5,-1,1,,,9", "a,2,,,0.6,,0,1,9"))
        assert found.references[VA][0].tolist() == [0.5, -0.5]
        assert np.isnan(found.references[VA][1:]).all()
        units = found.references[AU12][:, [AU12.index("au1"), AU12.index("au12")]]
        np.testing.assert_array_equal(units, [[1, 0], [np.nan, 1], [1, np.nan]])
        assert np.isnan(found.references[AU12][:, AU12.index("au2")]).all()
        assert found.references[BASIC7][0, [BASIC7.index("happiness"), BASIC7.index("sadness")]].tolist() == [0.7, 0.3]
        assert classes(found, BASIC7) == ["happiness", None, "sadness"]
        assert "l.csv has no column for neutral, anger, disgust, fear, surprise of basic7" in found.notes

    def test_the_set_that_is_named_is_all_that_is_read(self, tmp_path: Path) -> None:
        path = write(tmp_path / "l.csv", "media,label,valence,arousal", "a,fear,0.5,2")
        assert set(read(path, BASIC7).references) == {BASIC7}
        mentioned = LabelSet("mentioned7", BASIC7.labels, "multilabel")
        both = write(tmp_path / "m.csv", "media,fear,anger", "a,1,1")
        assert np.nansum(read(both, mentioned).references[mentioned]) == 2
        with pytest.raises(ConfigError, match="the values of basic7 sum to 2 and not to 1"):
            read(both)

    def test_action_units_of_other_sets(self, tmp_path: Path) -> None:
        found = read(write(tmp_path / "l.csv", "media,frame,AU05,AU45", "a,1,0,1"))
        ((labels, values),) = found.references.items()
        assert (labels.labels, labels.kind, values.tolist()) == (("au5", "au45"), "multilabel", [[0.0, 1.0]])

    def test_parquet(self, tmp_path: Path) -> None:
        path = tmp_path / "l.parquet"
        pd.DataFrame({"media": ["a", "b"], "start": [0.0, np.nan], "end": [4.0, np.nan], "label": ["fear", None]}).to_parquet(path)
        found = read(path)
        assert (found.start[0], found.end[0], classes(found, BASIC7)) == (0.0, 4.0, ["fear", None])
        assert found.where(1) == f"{path}, row 2"
        pd.DataFrame({"media": ["a"], "label": [9]}).to_parquet(path)
        with pytest.raises(ConfigError, match=r"l\.parquet, row 1: 9 is no class of basic8"):
            read(path, BASIC8)

    def test_short_rows_are_filled_and_empty_lines_skipped(self, tmp_path: Path) -> None:
        found = read(write(tmp_path / "l.csv", "media,label,start,end", "a,fear", "", "b,anger,0,1"))
        assert (found.names, found.line.tolist()) == (("a", "b"), [2, 4])

    def test_remarks_before_the_header_are_skipped(self, tmp_path: Path) -> None:
        found = read(write(tmp_path / "l.csv", "# by two people", "# in May", "media,label", "a,fear"))
        assert (found.names, found.line.tolist()) == (("a",), [4])


class TestAbaw:
    def test_a_folder_of_files(self, tmp_path: Path) -> None:
        write(tmp_path / "v1.txt", EXPR, "0", "-1", "7")
        write(tmp_path / "v2_left.txt", EXPR, "4")
        write(tmp_path / "._v1.txt", "what a file manager leaves behind")
        found = read(tmp_path)
        assert found.names == ("v1", "v2_left")
        assert found.frame.tolist() == [1, 2, 3, 1]
        assert classes(found, BASIC8) == ["neutral", None, "other", "happiness"]
        assert found.where(3) == f"{tmp_path / 'v2_left.txt'}, line 2"

    @pytest.mark.parametrize(
        ("header", "line", "labels", "values"),
        [
            (EXPR, "4", BASIC8, [0, 0, 0, 0, 1, 0, 0, 0]),
            (CE, "6", COMPOUND7, [0, 0, 0, 0, 0, 0, 1]),
            ("valence,arousal", "0.25,-5", VA, [0.25, np.nan]),
            (AU, "0,1,-1,0,0,0,1,0,0,0,0,1", AU12, [0, 1, np.nan, 0, 0, 0, 1, 0, 0, 0, 0, 1]),
        ],
    )
    def test_one_file_of_each_track(self, tmp_path: Path, header: str, line: str, labels: LabelSet, values: list[float]) -> None:
        found = read(write(tmp_path / "12-24.txt", header, line))
        assert (found.names, set(found.references)) == (("12-24",), {labels})
        np.testing.assert_array_equal(found.references[labels][0], values)

    def test_an_empty_line_is_a_frame_without_annotation(self, tmp_path: Path) -> None:
        assert read(write(tmp_path / "v.txt", EXPR, "0", "", "3")).frame.tolist() == [1, 3]

    @pytest.mark.parametrize(
        ("header", "line", "labels", "values"),
        [
            (f"image_location,{EXPR}", "v1/00012.jpg,3", BASIC8, [0, 0, 0, 1, 0, 0, 0, 0]),
            ("image_location,valence,arousal", "v1/00012.jpg,0.5,-0.5", VA, [0.5, -0.5]),
            (f"image_location,{CE}", "v1/00012.jpg,0", COMPOUND7, [1, 0, 0, 0, 0, 0, 0]),
            (f"image_location,{AU}", "v1/00012.jpg,0,1,0,0,0,0,0,0,0,0,0,0", AU12, [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ],
    )
    def test_a_list_of_each_track(self, tmp_path: Path, header: str, line: str, labels: LabelSet, values: list[float]) -> None:
        found = read(write(tmp_path / "list.txt", header, line))
        assert (found.names, found.frame.tolist(), set(found.references)) == (("v1",), [12], {labels})
        assert found.references[labels][0].tolist() == values

    def test_a_list_of_three_tracks_at_once(self, tmp_path: Path) -> None:
        units = "0,1,0,1,0,1,0,1,0,1,0,1"
        lines = (f"v/00001.jpg,0.1,0.2,3,{units}", "v/00002.jpg,-5,-5,-1" + 12 * ",-1")
        found = read(write(tmp_path / "list.txt", "image,valence,arousal,expression,aus", *lines))
        assert found.references[VA][0].tolist() == [0.1, 0.2]
        assert classes(found, BASIC8) == ["fear", None]
        assert found.references[AU12][0].tolist() == [float(n) for n in units.split(",")]
        assert all(np.isnan(values[1]).all() for values in found.references.values())
        assert set(read(tmp_path / "list.txt", VA).references) == {VA}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "has nothing in it; labels are a table with a column media"),
        (("media,label",), "has a header and no rows; labels are a table"),
        (("talk,mood", "a,b"), "has no column media; found talk, mood. labels are a table with a column media and label columns"),
        (("media,mood", "a,b"), "has no column label and none of a known label set; --set names the set of its labels; found media, mood"),
        (("media,calm,neutral", "a,1,0"), "has two columns that mean neutral: media, calm, neutral"),
        (("media,start,end,frame,label", "a,0,1,1,fear"), "says when in several ways (start, end, frame); keep one of them"),
        (("media,start,label", "a,0,fear"), "has only one of the columns start and end; found media, start, label"),
        (("media,label", "a,fear,b"), "line 2: 3 cells where the header has 2"),
        (("media,label", ",fear"), "line 2: no name of a medium"),
        (("media,start,end,label", "a,0,,fear"), "line 2: has only one of start and end"),
        (("media,start,end,label", "a,3,2,fear"), "line 2: start 3 is after end 2"),
        (("media,start,end,label", "a,x,2,fear"), "line 2: start must be a number, found 'x'"),
        (("media,time,label", "a,inf,fear"), "line 2: time must be a finite number, found 'inf'"),
        (("media,time,label", "a,,fear"), "line 2: has no time"),
        (("media,frame,label", "a,0,fear"), "line 2: frame must be a whole number from 1, found 0"),
        (("media,frame,label", "a,,fear"), "line 2: has no frame"),
        (("media,track,label", "a,1.5,fear"), "line 2: track must be a whole number from 0, found 1.5"),
        (
            ("media,label", "a,-1", "b,3"),
            "line 3: the label is the number 3; name the label set that it counts in with --set, for instance",
        ),
        (("media,label", "a,"), "has nothing in its column label"),
        (("media,label,fear", "a,fear,1"), "has a column label and columns neutral, anger,"),
        (("media,fear,anger", "a,,"), "has rows and no annotation in any of them: is it a template that is still to be filled?"),
        (
            ("media,fear,anger", "a,0.5,0.2"),
            "line 2: the values of basic7 sum to 0.7 and not to 1; leave cells empty where nothing is annotated",
        ),
        (("media,fear,anger", "a,1.5,-0.5"), "line 2: anger is -0.5, outside [0, 1]"),
        (("media,valence", "a,1.5"), "line 2: valence is 1.5, outside [-1, 1]"),
        (("media,valence", "a,high"), "line 2: valence must be a number, found 'high'"),
        (("media,label", "a,fear", "b,fear", "a,anger"), "line 4: a is already labelled in line 2"),
        (("media,start,end,label", "a,0,4,fear", "a,0,4,fear"), "line 3: a from 0 to 4 s is already labelled in line 2"),
        ((EXPR, "0", "8"), "line 3: 8 is no class of basic8, whose classes are 0 to 7, and -1 for no annotation"),
        ((EXPR, "0,1"), "line 2: expected one number of a class of basic8, found 0, 1"),
        ((EXPR, "happy"), "line 2: a value must be a number, found 'happy'"),
        (("valence,arousal", "0.5"), "line 2: expected a number for each of valence, arousal, found 0.5"),
        (("valence,arousal", "0.5,-3"), "line 2: arousal is -3, outside [-1, 1]"),
        (("image_location,joy,anger", "v/00001.jpg,1"), "line 1: image_location, joy, anger is not the header of a list of an ABAW track"),
        ((f"image_location,{EXPR}", "00001.jpg,1"), "line 2: '00001.jpg' is not VIDEO/NUMBER.jpg with a number from 1"),
        ((f"image_location,{EXPR}", "v/one.jpg,1"), "line 2: 'v/one.jpg' is not VIDEO/NUMBER.jpg with a number from 1"),
        ((f"image_location,{EXPR}", "v/00001.jpg,"), "has rows and no annotation in any of them: is it a template"),
        ((f"image_location,{EXPR}", "v/00001.jpg,1", "v/00001.jpg,1"), "line 3: frame 1 of v is already labelled in line 2"),
        (
            ("image,valence,arousal,expression,aus", "v/00001.jpg,0,0,1"),
            "line 2: expected 1 valence, 1 arousal, 1 expression and 12 action units, found",
        ),
        (("media,label", 'a,"fear'), "not a row of a table"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    path = tmp_path / "l.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)


def test_an_unknown_label_offers_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 2: 'hapiness' is not in basic8\. Did you mean happiness\?"):
        read(write(tmp_path / "l.csv", "media,label", "a,hapiness"), BASIC8)


def test_several_problems_are_told_together(tmp_path: Path) -> None:
    with pytest.raises(Problems) as error:
        read(write(tmp_path / "l.csv", "media,start,end,label", "a,0,x,fear", "b,2,1,fear", "c,0,1,fear"))
    assert [str(p).partition(", ")[2] for p in error.value.problems] == [
        "line 2: end must be a number, found 'x'",
        "line 3: start 2 is after end 1",
    ]
    write(tmp_path / "x.txt", EXPR, "9")
    write(tmp_path / "y.txt", "notes", "about something")
    with pytest.raises(Problems) as error:
        read(tmp_path)
    assert [str(p) for p in error.value.problems] == [
        f"{tmp_path / 'x.txt'}, line 2: 9 is no class of basic8, whose classes are 0 to 7, and -1 for no annotation",
        f"{tmp_path / 'y.txt'}, line 1: notes are not the labels of an ABAW track",
    ]


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there are no labels at"):
        read(tmp_path / "absent.csv")
    with pytest.raises(ConfigError, match="there are no labels at"):
        read(tmp_path / "absent.parquet")
    with pytest.raises(ConfigError, match=r"has no VIDEO\.txt in it; labels are"):
        read(tmp_path)
    (tmp_path / "l.csv").write_bytes(b"media,label\n\xff\xfe,fear\n")
    with pytest.raises(ConfigError, match=r"l\.csv is not text in UTF-8; labels are"):
        read(tmp_path / "l.csv")
    write(tmp_path / "l.parquet", "media,label")
    with pytest.raises(ConfigError, match="cannot be read as Parquet"):
        read(tmp_path / "l.parquet")


def test_tracks_are_not_mixed_and_the_set_must_be_there(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", EXPR, "0")
    with pytest.raises(ConfigError, match="has labels of basic8, not of va: valence, arousal"):
        read(tmp_path, VA)
    write(tmp_path / "b.txt", "valence,arousal", "0,0")
    with pytest.raises(ConfigError, match=r"mixes tracks \(basic8 in a\.txt, va in b\.txt\); give a folder of one track"):
        read(tmp_path)


def test_the_official_template_is_told_to_be_empty(shared_data: Path) -> None:
    with pytest.raises(ConfigError, match="is it a template that is still to be filled"):
        read(shared_data / "abaw" / "cexpr_ce_template.txt")


def test_a_filled_template_is_read_whole(shared_data: Path, tmp_path: Path) -> None:
    lines = (shared_data / "abaw" / "cexpr_ce_template.txt").read_text().splitlines()
    found = read(write(tmp_path / "filled.txt", lines[0], *(f"{line}{i % 7}" for i, line in enumerate(lines[1:]))))
    assert (len(found), len(found.names)) == (26145, 56)
    counts = pd.read_csv(shared_data / "abaw" / "cexpr_official_frame_counts.csv", dtype={"video": str})
    assert np.bincount(found.media).tolist() == [int(dict(zip(counts.video, counts.official_frames, strict=True))[n]) for n in found.names]


class TestMatching:
    @pytest.mark.parametrize(
        ("name", "found"),
        [
            ("talk", Named("talk")),
            ("talk.mp4", Named("talk")),
            ("talk.avi", Named("talk")),
            ("monday/talk.mp4", Named("talk")),
            ("elsewhere\\talk.mp4", Named("talk")),
            ("duo_left", Named("duo", "left")),
            ("duo_right.mp4", Named("duo", "right")),
            ("one_left", Named("one_left")),
            ("130-25-1280x720_left", Named("130-25-1280x720", "left")),
        ],
    )
    def test_names_stand_for_media(self, name: str, found: Named) -> None:
        assert match([name], MEDIA) == {name: found}

    @pytest.mark.parametrize("name", ["other", "tal", "talk.v2", "one_right", "left", "_left"])
    def test_other_names_stand_for_none(self, name: str) -> None:
        assert match([name], MEDIA) == {}

    def test_names_of_several_media_are_refused_together(self) -> None:
        media = {"monday/a.mp4": "/data/monday/a.mp4", "tuesday/a.mp4": "/data/tuesday/a.mp4", "b.mp4": "/x/b.mp4", "b.wav": "/x/b.wav"}
        assert match(["monday/a", "b.wav"], media) == {"monday/a": Named("monday/a.mp4"), "b.wav": Named("b.wav")}
        with pytest.raises(Problems) as error:
            match(["a", "b"], media)
        assert all(isinstance(p, UsageError) for p in error.value.problems)
        assert [str(p) for p in error.value.problems] == [
            "'a' may be monday/a.mp4 or tuesday/a.mp4 of the run; write the id",
            "'b' may be b.mp4 or b.wav of the run; write the id",
        ]
