"""Data sets: the lists of their authors and of S4D, where the clips lie, tables of one's own, and everything that can be wrong with them."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from affectkit import datasets
from affectkit.datasets import DATASETS, Fold, Item
from affectkit.datasets.checks import check, class_counts
from affectkit.errors import AffectKitError
from affectkit.labels import BASIC7, DFEW7, FERV39K7, MAFW11, LabelSet

LISTS = {"dfew": "DFEW", "ferv39k": "FERV39K", "mafw": "MAFW"}
DFEW_S4D = "EmoLabel_DataSplit/{mode}(single-labeled)/{mode}_set_{fold}.csv"
DFEW_OFFICIAL = "EmoLabel_DataSplit/{mode}(single-labeled)/set_{fold}.csv"
MAFW_S4D = "anno/single/no_caption/set_{fold}/{mode}.csv"
MAFW_OFFICIAL = "Train & Test Set/single/no_caption/set_{fold}/{mode}.txt"
FERV_S4D = "Annotation/{mode}.csv"
FERV_OFFICIAL = "4_setups/All_scenes/{mode}_All.csv"


@pytest.fixture(scope="session")
def lists(shared_data: Path) -> Path:
    """The lists that S4D publishes."""
    folder = shared_data / "annotations"
    if not folder.is_dir():
        pytest.skip(f"annotation lists are not here: {folder}")
    return folder


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def both(folder: Path, pattern: str, train: list[str], test: list[str], fold: int = 1, header: tuple[str, ...] = ()) -> Path:
    """Writes the two lists of a fold."""
    for mode, lines in (("train", train), ("test", test)):
        write(folder / pattern.format(mode=mode, fold=fold), *header, *lines)
    return folder


def dfew(folder: Path, train: list[str], test: list[str], pattern: str = DFEW_S4D, fold: int = 1) -> Path:
    return both(folder, pattern, train, test, fold, ("video_name,label",))


def labels(items: tuple[Item, ...]) -> dict[str, int]:
    return {item.id: item.label for item in items}


def message(*words: object, **options: object) -> str:
    with pytest.raises(AffectKitError) as caught:
        datasets.read(*words, **options)  # type: ignore[arg-type]
    return str(caught.value)


# the lists


@pytest.mark.parametrize("name", LISTS)
def test_published_lists_have_the_counts_of_the_catalogue_and_test_every_clip_once(lists: Path, name: str) -> None:
    folds = [datasets.read(name, lists / LISTS[name], fold) for fold in DATASETS[name].folds]
    found = check(folds)
    assert [problem.kind for problem in found] == ["missing"]  # the clips themselves are not here
    tested = Counter(item.id for fold in folds for item in fold.test)
    every = {item.id for fold in folds for item in (*fold.train, *fold.test)}
    assert set(tested.values()) == {1}
    assert len(every) == {"dfew": 11_697, "ferv39k": 38_935, "mafw": 9_172}[name]
    assert name == "ferv39k" or set(tested) == every


def test_a_label_is_what_the_list_says(lists: Path) -> None:
    assert DFEW7.labels[labels(datasets.read("dfew", lists / "DFEW", 1).test)["00001"]] == "sadness"
    assert FERV39K7.labels[labels(datasets.read("ferv39k", lists / "FERV39K").train)["Crime/Angry/0063"]] == "anger"
    assert MAFW11.labels[labels(datasets.read("mafw", lists / "MAFW", 1).train)["03747"]] == "anger"  # as MAFW's own page has it
    assert class_counts(datasets.read("dfew", lists / "DFEW", 1).test, 7) == (489, 379, 534, 435, 294, 29, 181)


def test_official_lists_say_the_same_as_those_of_s4d(lists: Path, tmp_path: Path) -> None:
    words = {"anger": "Angry", "happiness": "Happy", "sadness": "Sad"}
    for name, fold in (("dfew", "2"), ("ferv39k", "1"), ("mafw", "5")):
        before = datasets.read(name, lists / LISTS[name], fold)
        for mode, items in (("train", before.train), ("test", before.test)):
            said = [before.labels.labels[item.label] for item in items]
            if name == "dfew":
                rows = ["video_name,label", *(f"{int(item.id)},{item.label + 1}" for item in items)]
                write(tmp_path / DFEW_OFFICIAL.format(mode=mode, fold=fold), *rows)
            elif name == "ferv39k":
                rows = [f"{item.id} {words.get(label, label.title())}" for item, label in zip(items, said, strict=True)]
                write(tmp_path / FERV_OFFICIAL.format(mode=mode), *rows)
            else:
                rows = [f"{item.id}.mp4 {label}" for item, label in zip(items, said, strict=True)]
                write(tmp_path / MAFW_OFFICIAL.format(mode=mode, fold=fold), *rows)
        after = datasets.read(name, tmp_path, fold)
        assert (labels(after.train), labels(after.test)) == (labels(before.train), labels(before.test))


def test_ifdds_names_of_the_official_lists_are_read_too(tmp_path: Path) -> None:
    dfew(tmp_path, ["1,1", "2,7"], ["3,7"], "{mode}_single-labeled/set_{fold}.csv")
    both(tmp_path, "label/no_caption/set_{fold}/{mode}.txt", ["00001.mp4 helplessness"], ["00002.mp4 disappointment"])
    both(tmp_path, "All_scenes/{mode}_All.csv", ["Crime/Angry/0001 Angry"], ["War/Fear/0002 Fear"])
    assert labels(datasets.read("dfew", tmp_path, 1).train) == {"00001": 0, "00002": 6}
    assert labels(datasets.read("mafw", tmp_path, 1).test) == {"00002": MAFW11.index("disappointment")}
    assert labels(datasets.read("ferv39k", tmp_path).test) == {"War/Fear/0002": FERV39K7.index("fear")}


def test_clips_without_a_single_label_are_left_out_and_told(tmp_path: Path) -> None:
    fold = datasets.read("dfew", dfew(tmp_path, ["1,1", "2,0", "3,7"], ["4,7"], DFEW_OFFICIAL), 1)
    assert labels(fold.train) == {"00001": 0, "00003": 6}
    assert fold.notes == ("1 clips of set_1.csv have no single label and are left out",)


def test_numbers_that_count_from_the_other_end_are_refused(tmp_path: Path) -> None:
    official = message("dfew", dfew(tmp_path / "a", ["1,0", "2,6"], ["3,7"], DFEW_OFFICIAL), 1)
    assert "has labels from 0 to 6; lists of this name count from 1" in official
    assert "call them train_set_1.csv" in official
    other = message("dfew", dfew(tmp_path / "b", ["1,0", "2,7"], ["3,6"]), 1)
    assert "train_set_1.csv, line 3: the label must be a number from 0 to 6, found '7'" in other
    assert "the official ones, set_1.csv to set_5.csv, from 1" in other


def test_affectnet_may_have_one_list_only(tmp_path: Path) -> None:
    write(tmp_path / "test_affectnet7_2w.txt", "0/ab_aligned/face_det_000000.bmp 0", "6/cd_aligned/face_det_000000.bmp 6")
    fold = datasets.read("affectnet7", tmp_path)
    assert fold.train == ()
    assert fold.notes == ("there is no list of items to learn from",)
    assert [DATASETS["affectnet7"].labels.labels[item.label] for item in fold.test] == ["neutral", "anger"]  # type: ignore[union-attr]
    assert fold.test[0].path == tmp_path / "0/ab_aligned/face_det_000000.bmp"
    assert fold.test[0].fps is None


def test_descriptions_of_mafw_are_of_what_is_learned_from(tmp_path: Path) -> None:
    both(tmp_path, MAFW_OFFICIAL, ["03747.mp4 anger", "00002.mp4 fear"], ["00003.mp4 fear"])
    lines = ["03747.mp4 anger <br>一个男人 <br> A man speaks excitedly. The deep frown.", "00003.mp4 fear <br>x <br> A test clip."]
    write(tmp_path / "caption-label/single_label.txt", *lines)
    fold = datasets.read("mafw", tmp_path, 1)
    assert [item.text for item in (*fold.train, *fold.test)] == ["A man speaks excitedly. The deep frown.", None, None]
    assert fold.notes == ("1 of 2 items to learn from have a description",)
    write(tmp_path / "caption-label/single_label.txt", "03747.mp4 anger", "00003.mp4 fear <br>x <br> y")
    assert "single_label.txt, line 1: expected a clip, its label and two descriptions after <br>" in message("mafw", tmp_path, 1)


def test_what_is_wrong_in_a_list_is_told_with_its_line(tmp_path: Path) -> None:
    header = message("dfew", both(tmp_path / "a", DFEW_S4D, ["1,1"], ["2,1"], header=("name,emotion",)), 1)
    assert "train_set_1.csv, line 1: expected the columns video_name, label, found name, emotion" in header
    word = message("mafw", both(tmp_path / "b", MAFW_OFFICIAL, ["00001.mp4 anger", "00002.mp4 bored"], ["00003.mp4 fear"]), 1)
    assert "train.txt, line 2: 'bored' is not in label set 'mafw11'" in word
    short = message("mafw", both(tmp_path / "c", MAFW_OFFICIAL, ["00001.mp4"], ["00003.mp4 fear"]), 1)
    assert "train.txt, line 1: expected a clip and its label, found 00001.mp4" in short
    cells = message("dfew", dfew(tmp_path / "d", ["1"], ["2,1"]), 1)
    assert "line 2: expected video_name and label, found 1" in cells
    empty = message("mafw", both(tmp_path / "e", MAFW_OFFICIAL, [""], ["00003.mp4 fear"]), 1)
    assert "train.txt has nothing in it" in empty
    path = tmp_path / "f" / MAFW_OFFICIAL.format(mode="train", fold=1)
    both(tmp_path / "f", MAFW_OFFICIAL, ["00001.mp4 anger"], ["00003.mp4 fear"])
    path.write_bytes(b"\xff\xfe\x00")
    assert "train.txt is not text in UTF-8" in message("mafw", tmp_path / "f", 1)


def test_a_list_of_ferv39k_in_another_order_does_not_pass(tmp_path: Path) -> None:
    other = message("ferv39k", both(tmp_path / "a", FERV_S4D, ["Crime/Angry/0001,3"], ["War/Fear/0002,2"], header=("path,id",)))
    assert "line 2: 'Crime/Angry/0001' has the label '3', which is happiness here: is the list in another order?" in other
    path = message("ferv39k", both(tmp_path / "b", FERV_S4D, ["Crime/0001,0"], ["War/Fear/0002,2"], header=("path,id",)))
    assert "'Crime/0001' is not SCENE/EMOTION/NUMBER" in path


def test_items_that_are_in_both_lists_or_twice_in_one_are_refused(tmp_path: Path) -> None:
    found = message("dfew", dfew(tmp_path, ["1,1", "2,2", "2,2"], ["00001,1"]), 1)
    assert "dfew, fold 1: 1 items are to learn from and to be tested on: 00001" in found
    assert "dfew, fold 1: 1 items are twice in the train list: 00002" in found


def test_lists_that_are_not_there_are_told_by_name(tmp_path: Path) -> None:
    assert "no lists of fold 1. Looked there, and one folder further down, for train(single-labeled)/train_set_1.csv" in message(
        "dfew", tmp_path, 1
    )
    write(tmp_path / "Annotation/test.csv", "path,id", "War/Fear/0002,2")
    assert "(there is only " in message("ferv39k", tmp_path)
    for copy in ("one", "two"):
        dfew(tmp_path / copy, ["1,1"], ["2,1"], "{mode}(single-labeled)/{mode}_set_{fold}.csv")
    assert "has several lists train(single-labeled)/train_set_1.csv" in message("dfew", tmp_path, 1)


def test_names_folds_and_numbers_that_there_are_not(tmp_path: Path) -> None:
    assert message("dfwe", tmp_path) == "there is no data set 'dfwe'. Did you mean dfew?"
    assert message("dfew", tmp_path) == "dfew has the folds 1, 2, 3, 4, 5; choose one with --fold"
    assert message("dfew", tmp_path, 6).startswith("dfew has no fold '6'. ")
    assert message("dfew", tmp_path / "none", 1) == f"there is no {tmp_path / 'none'}; --data takes the folder of DFEW, clips of one label"
    assert "frames per second must be a positive number, found 0" in message("dfew", tmp_path, 1, fps=0)
    assert "dfew has its own label set, dfew7" in message("dfew", tmp_path, 1, labels=BASIC7)


# where the clips are


def test_clips_are_folders_videos_and_files_without_leading_zeros(tmp_path: Path) -> None:
    clips = tmp_path / "Clip" / "original"
    (clips / "00001").mkdir(parents=True)
    for name in ("00002.mp4", "3.avi", "notes.txt"):
        (clips / name).touch()
    fold = datasets.read("dfew", dfew(tmp_path, ["1,1", "2,2", "3,3"], ["4,4"]), 1, fps=30)
    assert [(item.path.name, item.fps) for item in fold.train] == [("00001", 30), ("00002.mp4", None), ("3.avi", None)]
    assert fold.test[0].path == clips / "00004"  # where it would be


def test_one_of_several_folders_of_clips_is_chosen_by_the_user(tmp_path: Path) -> None:
    dfew(tmp_path, ["1,1"], ["2,1"])
    for name in ("clip_224x224", "clip_224x224_16f"):
        (tmp_path / "Clip" / name / "00001").mkdir(parents=True)
    assert "has several folders of clips" in message("dfew", tmp_path, 1)
    chosen = datasets.read("dfew", tmp_path, 1, clips=tmp_path / "Clip/clip_224x224_16f")
    assert chosen.train[0].path == tmp_path / "Clip/clip_224x224_16f/00001"
    assert "is no folder; --clips takes the folder with the clips" in message("dfew", tmp_path, 1, clips=tmp_path / "none")


def test_the_innermost_of_folders_in_each_other_is_taken(tmp_path: Path) -> None:
    inner = tmp_path / "2_ClipsforFaceCrop/2_ClipsforFaceCrop"
    (inner / "Crime/Angry/0001").mkdir(parents=True)
    both(tmp_path, FERV_S4D, ["Crime/Angry/0001,0"], ["War/Fear/0002,2"], header=("path,id",))
    assert datasets.read("ferv39k", tmp_path).train[0].path == inner / "Crime/Angry/0001"


# ABAW


def videos(folder: Path, header: str, **lines: str) -> None:
    for name, values in lines.items():
        write(folder / f"{name}.txt", header, *values.split())


EXPR = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"
CE = "Fearfully_Surprised,Happily_Surprised,Sadly_Surprised,Disgustedly_Surprised,Angrily_Surprised,Sadly_Fearful,Sadly_Angry"


def test_aff_wild2_is_cut_into_stretches_of_one_class(tmp_path: Path) -> None:
    top = tmp_path / "6th ABAW Annotations/EXPR_Recognition_Challenge"
    videos(top / "Train_Set", EXPR, one="0 0 0 4 4 -1 4", two_left="1 1")
    videos(top / "Validation_Set", EXPR, three=" ".join(["7"] * 150))
    (tmp_path / "cropped_aligned/one").mkdir(parents=True)
    fold = datasets.read("abaw-expr", tmp_path)
    assert [(item.id, item.frames, item.label, item.group) for item in fold.train] == [
        ("one/00001-00003", (1, 3), 0, "one"),
        ("one/00004-00005", (4, 5), 4, "one"),
        ("one/00007-00007", (7, 7), 4, "one"),
        ("two_left/00001-00002", (1, 2), 1, "two"),
    ]
    assert fold.train[0].path == tmp_path / "cropped_aligned/one"
    assert [item.frames for item in fold.test] == [(1, 64), (65, 128), (129, 150)]
    assert fold.notes == ()


def test_c_expr_db_without_parts_is_all_tested_on(tmp_path: Path) -> None:
    videos(tmp_path / "annotations", CE, **{"01": "0 0 6"})
    fold = datasets.read("abaw-ce", tmp_path)
    assert fold.train == ()
    assert [(item.frames, item.label) for item in fold.test] == [((1, 2), 0), ((3, 3), 6)]
    assert fold.notes == ("the annotations are not divided, so all of them are tested on",)


def test_annotations_of_abaw_that_are_absent_or_there_twice(tmp_path: Path) -> None:
    assert "has no annotations in basic8: looked there, and one folder further down, for EXPR_*" in message("abaw-expr", tmp_path)
    for year in ("EXPR_5", "EXPR_6"):
        videos(tmp_path / year / "Train_Set", EXPR, one="0")
    assert "has several sets of annotations" in message("abaw-expr", tmp_path)
    videos(tmp_path / "other" / "EXPR_1/Validation_Set", CE, one="0")
    assert "not of basic8" in message("abaw-expr", tmp_path / "other")


# tables


def test_a_table_with_folds(tmp_path: Path) -> None:
    table = write(tmp_path / "clips.csv", "file,label,fold,group", "a.mp4,happy,1,ann", "b,sad,2,bob", "c,angry,10,")
    (tmp_path / "b").mkdir()
    assert datasets.folds("csv", tmp_path) == ("1", "2", "10")
    fold = datasets.read("csv", table, "2", fps=12)
    assert (labels(fold.train), labels(fold.test)) == ({"a.mp4": 4, "c": 1}, {"b": 5})
    assert fold.labels == BASIC7
    assert [(item.group, item.fps) for item in (*fold.train, *fold.test)] == [("ann", None), ("c", 12), ("bob", 12)]


def test_a_table_that_divides_itself_and_describes_its_clips(tmp_path: Path) -> None:
    lines = ["video,label,split,fps,text", 'a,bored,train,30,"She looks away, and sighs."', "b,amused,test,,"]
    fold = datasets.read("csv", write(tmp_path / "mine.csv", *lines), clips=tmp_path / "clips")
    assert fold.labels == LabelSet("labels", ("amused", "bored"))
    assert fold.train[0] == Item("a", tmp_path / "clips/a", 1, "a", 30.0, "She looks away, and sighs.")
    assert fold.test[0] == Item("b", tmp_path / "clips/b", 0, "b", 25.0, None)
    assert fold.name == "1"


def test_numbers_of_a_table_count_in_the_set_that_is_named(tmp_path: Path) -> None:
    table = write(tmp_path / "mine.csv", "file,label,split", "a,6,train", "b,0,test")
    assert "name the label set" in message("csv", table)
    assert labels(datasets.read("csv", table, labels=DFEW7).train) == {"a": 6}


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["file,label", "a,happy"], "has no column split (train, test) or fold (1, 2, ...)"),
        (["file,label,split,fold", "a,happy,train,1"], "has both a column split and a column fold; keep one"),
        (["file,label,split", "a,happy,dev"], "line 2: split must be train or test, found 'dev'"),
        (["file,label,fold", "a,happy,"], "line 2: fold must be the name of a fold, found ''"),
        (["file,label,split", "a,happy,train", "b,,test"], "line 3: has no label"),
        (["file,label,split,fps", "a,happy,train,-1"], "line 2: fps must be greater than 0, found -1"),
        (["file,label,split,fps", "a,happy,train,fast"], "line 2: fps must be a number, found 'fast'"),
        (["file,label,split,start,end", "a,happy,train,0,1"], "has the column end, start: a row is a whole clip here"),
        (["file,valence,split", "a,0.5,train"], "needs one class per clip, in a column label; found va"),
    ],
)
def test_what_is_wrong_with_a_table(tmp_path: Path, lines: list[str], told: str) -> None:
    assert told in message("csv", write(tmp_path / "mine.csv", *lines))


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    assert f"there is no table of clips at {tmp_path / 'clips.csv'}; --data takes a CSV file" in message("csv", tmp_path)


# checks


def item(id: str, path: Path, label: int = 0) -> Item:
    return Item(id, path, label, id)


def test_check_tells_of_clips_that_are_not_there_once(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/1.jpg").touch()
    train = (item("a", tmp_path / "full"), item("b", tmp_path / "empty"))
    fold = Fold("csv", "1", BASIC7, train, (item("c", tmp_path / "none"),))
    (found,) = check([fold])
    assert found.kind == "missing"
    assert found.text == f"csv: 2 of 3 clips are not there: b (no pictures in {tmp_path / 'empty'}), c (no {tmp_path / 'none'})"
    (found,) = check([fold], train=False)
    assert found.text == f"csv: 1 of 1 clips are not there: c (no {tmp_path / 'none'})"


def test_check_names_few_clips_and_where_they_may_lie(tmp_path: Path) -> None:
    items = tuple(item(f"{n:05}", tmp_path / f"{n:05}") for n in range(5))
    (found,) = (found for found in check([Fold("dfew", "1", DFEW7, (), items)], train=False) if found.kind == "missing")
    assert found.text == (
        f"dfew: 5 of 5 clips are not there: 00000 (no {tmp_path / '00000'}), 00001 (no {tmp_path / '00001'}), 00002 (no {tmp_path / '00002'}) and 2 more"
        f"; without --clips their folder is one called {', '.join(DATASETS['dfew'].clips)}"
    )


def test_check_tells_of_items_that_two_folds_test_on(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").touch()
    one, two = (
        Fold("csv", name, BASIC7, (), tuple(item(id, tmp_path / "x.mp4") for id in ids)) for name, ids in (("1", "ab"), ("2", "bc"))
    )
    assert [(found.kind, found.text) for found in check([one, two])] == [
        ("shared", "csv: 1 items are tested on in fold 1 and in fold 2: b")
    ]


def test_check_sees_labels_in_another_order(lists: Path, tmp_path: Path) -> None:
    """Happiness and sadness of DFEW exchanged: every number is one that the list may have."""
    for mode in ("train", "test"):
        path = lists / "DFEW" / DFEW_S4D.format(mode=mode, fold=1)
        rows = list(csv.reader(path.open()))
        swapped = [f"{name},{ {'0': '1', '1': '0'}.get(label, label) }" for name, label in rows[1:]]
        write(tmp_path / DFEW_S4D.format(mode=mode, fold=1), "video_name,label", *swapped)
    counts = [found.text for found in check([datasets.read("dfew", tmp_path, 1)]) if found.kind == "counts"]
    assert counts[1] == (
        "dfew, fold 1: the test list has 2341 items as that of its authors, and 379 of happiness and not 489, 489 of sadness and not 379; "
        "are its labels in another order?"
    )


def test_check_tells_of_lists_of_another_length(tmp_path: Path) -> None:
    fold = datasets.read("dfew", dfew(tmp_path, ["1,1"], ["2,1"]), 1)
    assert [found.text for found in check([fold], train=False) if found.kind == "counts"] == [
        "dfew, fold 1: the test list has 1 items, and that of its authors has 2341"
    ]
