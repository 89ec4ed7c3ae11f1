"""``affectkit evaluate --dataset`` and ``affectkit train --dataset`` as users meet them, with a modality whose answers are known."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from sklearn.metrics import accuracy_score, recall_score

from affectkit.api import BASIC7, Input, Modality, Needs, Output
from affectkit.cli import cli
from affectkit.datasets import Item
from affectkit.datasets.cutting import Cutter
from affectkit.labels import DFEW7, canonical
from affectkit.store import stamp
from affectkit.testing.media import make_video

PLUGIN = Path(__file__).with_name("dataset_plugin")
STEP = 30  # grey levels from one class to the next
FOLDS = 3
Clips = dict[str, tuple[str, str, int]]  # id to the label of the list, what the pictures show, and the fold


def call(*words: object) -> Result:
    return CliRunner().invoke(cli, ["--plugins-dir", str(PLUGIN), *map(str, words)], terminal_width=200)


def evaluate(*words: object) -> dict[str, Any]:
    """What the command prints with --json."""
    found = call("evaluate", *words, "--json", "--device", "cpu", "--bootstrap", 50)
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def killed(*words: object) -> int:
    """The exit status of the program in a process of its own."""
    start = "import sys; from affectkit.cli import main; sys.argv[0] = 'affectkit'; main()"
    return subprocess.run(
        [sys.executable, "-c", start, "--plugins-dir", str(PLUGIN), *map(str, words)], capture_output=True, check=False
    ).returncode


def refused(*words: object, status: int = 2) -> str:
    found = call(*words)
    assert found.exit_code == status, found.output
    return found.stderr


def picture(level: float, side: int = 10) -> bytes:
    return cv2.imencode(".png", np.full((side, side, 3), level, np.uint8))[1].tobytes()


def folder(path: Path, levels: Sequence[float]) -> Path:
    """A folder of frames."""
    path.mkdir(parents=True)
    for number, level in enumerate(levels, start=1):
        (path / f"{number}.png").write_bytes(picture(level))
    return path


def shown(label: str) -> float:
    return STEP * BASIC7.index(label)


def tree(path: Path, clips: Clips, frames: int = 3) -> Path:
    """Clips in the form of DFEW's authors; every fold but one's own is learned from."""
    for id, (_, look, _) in clips.items():
        folder(path / "Clip/clip_224x224" / id, [shown(look)] * frames)
    for fold in range(1, 6):
        for mode in ("train", "test"):
            rows = [f"{int(id)},{DFEW7.index(label) + 1}" for id, (label, _, own) in clips.items() if (own == fold) == (mode == "test")]
            file = path / f"EmoLabel_DataSplit/{mode}(single-labeled)/set_{fold}.csv"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(["video_name,label", *rows]) + "\n")
    return path


def some_clips(seed: int = 0, each: int = 2) -> Clips:
    """Clips of three folds; about a third shows something else than the list says. The third fold has no disgust."""
    random = np.random.default_rng(seed)
    clips: Clips = {}
    for fold in range(1, FOLDS + 1):
        for label in DFEW7.labels:
            for _ in range(each if (fold, label) != (3, "disgust") else 0):
                look = label if random.random() < 0.65 else str(random.choice(DFEW7.labels))
                clips[f"{len(clips) + 1:05}"] = (label, look, fold)
    return clips


@pytest.fixture(scope="module")
def clips() -> Clips:
    return some_clips()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, clips: Clips) -> Path:
    return tree(tmp_path_factory.mktemp("dfew"), clips)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of three folds; those of the second are off by one class."""
    for fold, shift in ((1, 0), (2, 1), (3, 0)):
        (tmp_path / f"fold-{fold}").mkdir()
        (tmp_path / f"fold-{fold}/window.txt").write_text(str(shift))
    return tmp_path / "fold-{fold}/window.txt"


def expected(clips: Clips, folds: Sequence[int], shifts: dict[int, int]) -> tuple[float, float]:
    """UAR and WAR by scikit-learn, over the classes that occur."""
    kept = [(label, look, fold) for label, look, fold in clips.values() if fold in folds]
    truth = [BASIC7.index(label) for label, _, _ in kept]
    said = [(BASIC7.index(look) + shifts.get(fold, 0)) % 7 for _, look, fold in kept]
    return recall_score(truth, said, labels=sorted(set(truth)), average="macro", zero_division=0), accuracy_score(truth, said)


def figures(found: dict[str, Any]) -> tuple[float, float]:
    return found["metrics"]["uar"]["value"], found["metrics"]["war"]["value"]


# scores


def test_every_fold_is_scored_with_its_own_weights(data: Path, clips: Clips, weights: Path) -> None:
    found = evaluate("grey/window", "--dataset", "dfew", "--data", data, "--folds", "1-3", "--weights", weights)
    shifts = {2: 1}
    each = {fold: expected(clips, [fold], shifts) for fold in (1, 2, 3)}
    for fold in (1, 2, 3):
        assert figures(found["folds"][str(fold)]) == pytest.approx(each[fold])
        assert found["folds"][str(fold)]["weights"][0]["uri"] == str(weights).replace("{fold}", str(fold))
    for column, name in enumerate(("uar", "war")):
        values = [each[fold][column] for fold in (1, 2, 3)]
        assert found["mean"][name]["value"] == pytest.approx(np.mean(values))
        assert found["mean"][name]["standard_deviation"] == pytest.approx(np.std(values, ddof=1))
    assert figures(found["pooled"]) == pytest.approx(expected(clips, [1, 2, 3], shifts))
    war = found["pooled"]["metrics"]["war"]
    assert war["low"] < war["value"] < war["high"]
    assert found["pooled"]["rows"] == len(clips)


def test_a_class_that_a_fold_does_not_have_is_not_counted(data: Path, clips: Clips) -> None:
    found = evaluate("grey/window", "--dataset", "dfew", "--data", data, "--folds", "3")
    assert "disgust" not in {label for label, _, fold in clips.values() if fold == 3}
    assert figures(found["folds"]["3"]) == pytest.approx(expected(clips, [3], {}))
    assert found["mean"]["uar"] == {"value": pytest.approx(expected(clips, [3], {})[0]), "standard_deviation": None}


def test_a_person_reads_a_table(data: Path) -> None:
    found = call("evaluate", "grey/window", "--dataset", "dfew", "--data", data, "--folds", "1,2", "--bootstrap", 50)
    assert found.exit_code == 0, found.output
    lines = found.stdout.splitlines()
    assert lines[0].strip() == f"grey/window on dfew: {', '.join(DFEW7.labels)}"
    first = [line.split()[0] for line in lines if line.strip()]
    assert first[1:7] == ["fold", lines[3].split()[0], "1", "2", "mean", "pooled"]
    assert "Intervals: 95 % of 50 resamples of whole clips; ± is over the folds." in lines
    assert "Note: dfew, fold 1: the test list has 14 items, and that of its authors has 2341." in lines
    assert "fold 1: 14 of 14" in found.stderr


def test_batches_change_nothing(data: Path) -> None:
    one, many = (evaluate("grey/window", "--dataset", "dfew", "--data", data, "--folds", 1, "--batch-size", size) for size in (1, 64))
    assert one["pooled"] == many["pooled"]


def test_the_same_weights_in_every_fold_are_remarked_upon(data: Path, weights: Path) -> None:
    one = str(weights).replace("{fold}", "1")
    found = evaluate("grey/window", "--dataset", "dfew", "--data", data, "--folds", "1-3", "--weights", one)
    assert "checkpoint is the same in every fold; it must not have learned from any of the test lists" in found["notes"]


def test_weights_of_another_fold_are_remarked_upon(data: Path, weights: Path) -> None:
    record = {"plan": {"options": {"dataset": "dfew", "fold": 2}}}
    for fold in (1, 2):
        (Path(str(weights).replace("{fold}", str(fold)))).with_suffix(".json").write_text(json.dumps(record))
    found = evaluate("grey/window", "--dataset", "dfew", "--data", data, "--folds", "1-2", "--weights", weights)
    assert [note for note in found["notes"] if "trained" in note] == [
        "window.txt was trained on fold 2 and is tested on fold 1, whose items it may have learned from"
    ]


def test_options_of_the_component_may_name_the_fold(data: Path, weights: Path, clips: Clips) -> None:
    found = evaluate(
        "grey/window", "--dataset", "dfew", "--data", data, "--folds", "2", "--option", f"checkpoint={weights}", "--option", "least=2"
    )
    assert figures(found["folds"]["2"]) == pytest.approx(expected(clips, [2], {2: 1}))


def greys(*classes: str) -> str:
    """The option that gives classes texts of one's own."""
    return "labels={" + ", ".join(f"{label}: grey {shown(canonical(label)):.0f}" for label in classes) + "}"


def test_texts_of_ones_own_are_scored_as_the_classes_that_they_stand_for(data: Path, clips: Clips, tmp_path: Path) -> None:
    """In any order, and by any name that the class has."""
    names = ["fear", "joy", "Neutral", *(label for label in DFEW7.labels if label not in ("fear", "happiness", "neutral"))]
    words = ("--dataset", "dfew", "--data", data, "--folds", "1-2", "--option", greys(*names))
    found = evaluate("grey/asked", *words, "--out", tmp_path / "run")
    assert figures(found["pooled"]) == pytest.approx(expected(clips, [1, 2], {}))
    assert evaluate("grey/asked", *words, "--out", tmp_path / "run")["folds"]["1"]["answered_before"] == 14
    (again,) = evaluate(tmp_path / "run", "--labels", tmp_path / "run/labels.csv", "--set", "dfew7")["sets"].values()
    assert figures(again["sources"]["grey/asked"]) == pytest.approx(figures(found["pooled"]))


def test_a_table_wants_texts_for_the_classes_that_it_has(tmp_path: Path) -> None:
    for label in ("anger", "fear"):
        folder(tmp_path / label, [shown(label)] * 4)
    (tmp_path / "clips.csv").write_text("file,label,split\nanger,anger,test\nfear,fear,test\n")
    assert figures(evaluate("grey/asked", "--dataset", "csv", "--data", tmp_path, "--option", greys("fear", "anger"))["pooled"]) == (1, 1)
    found = refused("evaluate", "grey/asked", "--dataset", "csv", "--data", tmp_path, "--option", greys("fear", "sadness"))
    assert found == (
        "Error: grey/asked cannot be scored on csv: labels has no text for anger; give each of its classes a text: "
        "--option 'labels={anger: TEXT, fear: TEXT}'\n"
    )


CLASSES = f"give each of its classes a text: --option 'labels={{{', '.join(f'{label}: TEXT' for label in DFEW7.labels)}}}'"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("labels=[grey 0, grey 30]", f"is continuous, dfew7 is categorical; {CLASSES}"),
        (
            greys("anger", *DFEW7.labels).replace("anger: grey", "angry: dark grey", 1),
            f"cannot be scored on dfew: labels has two texts for anger; {CLASSES}",
        ),
        (
            "labels={bored: grey 0, happy: grey 120, sadness: grey 150, smug: grey 80}",
            "labels has no text for neutral, anger, surprise, disgust, fear and has a text for what is none of its classes, bored, smug; ",
        ),
        ("labels={anger: grey 30, fear: grey 30}", "labels: anger and fear have the same text, 'grey 30'; nothing would tell them apart"),
        ("labels={anger: '!', fear: grey 30}", "labels: anger needs a text with letters, found '!'"),
        ("labels={anger:grey, fear: grey 30}", "labels.anger:grey: expected text, found null; YAML wants a space after the colon"),
    ],
)
def test_texts_that_are_not_one_for_each_class(data: Path, option: str, message: str) -> None:
    assert message in refused("evaluate", "grey/asked", "--dataset", "dfew", "--data", data, "--folds", 1, "--option", option)


def test_a_modality_of_single_pictures_says_the_mean_of_them(tmp_path: Path) -> None:
    folder(tmp_path / "clip", [shown("anger"), shown("anger"), shown("fear")])
    (tmp_path / "clips.csv").write_text("file,label,split\nclip,angry,test\n")
    found = evaluate("grey/frame", "--dataset", "csv", "--data", tmp_path, "--out", tmp_path / "run")
    assert figures(found["pooled"]) == (1.0, 1.0)
    assert any("grey/frame also reads landmarks, which it goes without here" in note for note in found["notes"])
    (table,) = (tmp_path / "run/basic7.parquet").iterdir()
    row = pq.read_table(table).to_pylist()[0]
    assert (row["p_anger"], row["p_fear"]) == pytest.approx(((2 * 0.94 + 0.01) / 3, (0.94 + 2 * 0.01) / 3), abs=1e-6)
    assert (row["start"], row["end"]) == (0.0, pytest.approx(3 / 25))


def test_a_recipe_gives_options_and_what_is_made_from_faces(data: Path, clips: Clips, tmp_path: Path) -> None:
    """grey/marked reads the brightness that grey/marks found in its own crops, and nothing else."""
    words = ("grey/marked", "--dataset", "dfew", "--data", data, "--folds", 1)
    alone = evaluate(*words)
    assert alone["pooled"]["answered"] == 0
    assert (
        "grey/marked also reads landmarks, which it goes without here; a recipe with providers of what is made from faces, --recipe, gives that"
        in alone["notes"]
    )
    lines = ["modalities: [grey/marked]", "providers: {faces: mini/faces, landmarks: grey/marks}", "fusion: core/mean"]
    recipe = tmp_path / "marked.yaml"
    recipe.write_text("\n".join(lines))
    assert figures(evaluate(*words, "--recipe", recipe)["pooled"]) == pytest.approx(expected(clips, [1], {}))
    recipe.write_text("\n".join([*lines, "components: {grey/marked: {least: 9, batch_size: 2}}"]))
    assert evaluate(*words, "--recipe", recipe)["pooled"]["answered"] == 0
    assert figures(evaluate(*words, "--recipe", recipe, "--option", "least=1")["pooled"]) == pytest.approx(expected(clips, [1], {}))


def test_what_is_said_can_be_evaluated_and_fused_afterwards(data: Path, clips: Clips, tmp_path: Path) -> None:
    words = ("--dataset", "dfew", "--data", data, "--folds", "1-3")
    found = evaluate("grey/window", *words, "--out", tmp_path / "window")
    evaluate("grey/frame", *words, "--out", tmp_path / "frame")
    again = evaluate(tmp_path / "window", "--labels", tmp_path / "window/labels.csv")["sets"]["basic7"]["sources"]["grey/window"]
    assert figures(again) == pytest.approx(figures(found["pooled"]))
    assert again["rows"] == len(clips)
    fused = call("fuse", tmp_path / "window", tmp_path / "frame", "--out", tmp_path / "both", "--head", "none")
    assert fused.exit_code == 0, fused.output
    both = evaluate(tmp_path / "both", "--labels", tmp_path / "window/labels.csv")["sets"]["basic7"]["sources"]["core/mean"]
    assert figures(both) == pytest.approx(figures(found["pooled"]))


def test_real_faces_are_told_apart(shared_data: Path, tmp_path: Path) -> None:
    """A modality that is not made for the test: stills of FER2013's test list as clips of four frames."""
    stills = pq.read_table(shared_data / "faces/fer2013.parquet").to_pandas()
    stills = stills[stills.split == "public_test"]
    rows = ["file,label,split"]
    for label in ("happy", "surprise", "neutral"):
        some = stills[[canonical(text) == canonical(label) for text in stills.label]].jpeg[:48]
        for number, start in enumerate(range(0, len(some), 4)):
            path = tmp_path / f"{label}{number}"
            path.mkdir()
            for frame, jpeg in enumerate(some.iloc[start : start + 4], start=1):
                (path / f"{frame}.jpg").write_bytes(jpeg)
            rows.append(f"{path.name},{label},test")
    (tmp_path / "clips.csv").write_text("\n".join(rows) + "\n")
    found = evaluate("mini/face_static", "--dataset", "csv", "--data", tmp_path)
    assert found["pooled"]["metrics"]["uar"]["low"] > 0.5


# which frames are seen


class Asking(Modality):
    """Asks for whatever it is made with."""

    name = "asking"
    labels = BASIC7

    def __init__(self, wanted: Input, unit: str = "window") -> None:
        super().__init__()
        self.needs = Needs(inputs=(wanted,))
        self.unit = unit  # type: ignore[misc]

    def preprocess(self, clip: object) -> None:
        return None

    def predict(self, batch: object) -> Output:
        raise NotImplementedError


def seen(item: Item, wanted: Input, unit: str = "window") -> list[tuple[list[float], list[float]]]:
    """Grey levels and times of the crops of each clip."""
    found = Cutter(Asking(wanted, unit))(item)
    faces = [clip.inputs["faces"] for clip in found]
    return [([float(level) for level in face.data["crops"].mean((1, 2, 3))], face.times.round(6).tolist()) for face in faces]


def test_crops_are_those_that_the_modality_asks_for(tmp_path: Path) -> None:
    item = Item("x", folder(tmp_path / "x", [10 * i for i in range(12)]), 0, "x", 10.0)
    assert seen(item, Input("faces", count=3, size=8)) == [([20, 60, 100], [0.2, 0.6, 1.0])]
    assert seen(item, Input("faces", count=3, stride=2, size=8)) == [([40, 60, 80], [0.4, 0.6, 0.8])]
    assert seen(item, Input("faces", fps=5.0, size=8)) == [([0, 20, 40, 60, 80, 100], [0, 0.2, 0.4, 0.6, 0.8, 1.0])]
    assert seen(item, Input("faces", count=2, size=8), "frame") == [([30], [0.3]), ([90], [0.9])]
    assert seen(item, Input("faces", count=99, size=8))[0][1] == [i / 10 for i in range(12)]  # never one twice


def test_a_stretch_a_picture_and_a_video(tmp_path: Path) -> None:
    path = folder(tmp_path / "x", [10 * i for i in range(12)])
    stretch = Item("x/4-7", path, 0, "x", 10.0, frames=(4, 7))
    assert seen(stretch, Input("faces", count=9, size=8)) == [([30, 40, 50, 60], [0.3, 0.4, 0.5, 0.6])]
    assert seen(Item("p", path / "3.png", 0, "p"), Input("faces", count=9, size=8)) == [([20], [0.0])]
    film = make_video(tmp_path / "v.mkv", seconds=1, fps=10, size=(16, 16), picture=lambda t: np.full((16, 16, 3), 200 * t, np.uint8))
    ((levels, times),) = seen(Item("v", film, 0, "v"), Input("faces", count=5, size=8))
    assert times == [0.1, 0.3, 0.5, 0.7, 0.9]
    assert levels == pytest.approx([20, 60, 100, 140, 180], abs=4)


# clips that are not there or cannot be read


@pytest.fixture
def holes(tmp_path: Path) -> Path:
    """A data set of which one clip is absent and one is damaged; both would be right."""
    clips: Clips = {f"{i:05}": (label, label, 1) for i, label in enumerate(DFEW7.labels, start=1)}
    clips["00008"] = ("fear", "fear", 2)
    data = tree(tmp_path / "data", clips)
    for file in (data / "Clip/clip_224x224/00001").iterdir():
        file.unlink()
    (data / "Clip/clip_224x224/00001").rmdir()
    for file in (data / "Clip/clip_224x224/00002").iterdir():
        file.write_bytes(b"no picture")
    return data


def test_absent_clips_are_an_error_unless_one_says_what_becomes_of_them(holes: Path) -> None:
    words = ("evaluate", "grey/window", "--dataset", "dfew", "--data", holes, "--folds", 1)
    told = refused(*words)
    assert f"dfew: 1 of 7 clips are not there: 00001 (no {holes / 'Clip/clip_224x224/00001'})" in told
    assert "give --clips, or --unanswered skip or wrong to go on without them" in told


def test_what_cannot_be_read_is_left_out_or_counts_as_wrong(holes: Path) -> None:
    words = ("grey/window", "--dataset", "dfew", "--data", holes, "--folds", 1)
    skipped, wrong = (evaluate(*words, "--unanswered", policy) for policy in ("skip", "wrong"))
    assert figures(skipped["pooled"]) == (1.0, 1.0)
    assert skipped["pooled"]["coverage"] == pytest.approx(5 / 7)
    assert figures(wrong["pooled"]) == pytest.approx((5 / 7, 5 / 7))
    (note,) = [note for note in wrong["notes"] if "cannot be read" in note]
    assert note.startswith("2 clips cannot be read and count as wrong: 00001 (")
    assert "00002 (" in note


def test_clips_that_show_too_little_are_told(data: Path) -> None:
    words = ("grey/window", "--dataset", "dfew", "--data", data, "--folds", "1-2", "--option", "least=4")
    found = evaluate(*words)
    assert [line.split()[:2] for line in call("evaluate", *words).stdout.splitlines() if line.startswith(" mean")] == [["mean", "-"]]
    assert found["pooled"]["answered"] == 0
    assert found["pooled"]["metrics"]["uar"]["value"] is None
    (note,) = [note for note in found["notes"] if "show" in note]
    assert found["mean"]["uar"] == {"value": None, "standard_deviation": None}
    assert note.startswith("28 clips do not show grey/window enough and are left out (--unanswered wrong counts them as wrong): 00001, ")


# what was stopped goes on


def without_work(found: dict[str, Any]) -> dict[str, Any]:
    """Figures without what tells how much was done for them."""
    folds = {
        name: {key: value for key, value in fold.items() if key not in ("seconds", "answered_before")}
        for name, fold in found["folds"].items()
    }
    return found | {"folds": folds}


def test_a_scoring_that_was_stopped_does_nothing_twice_and_finds_the_same(data: Path, clips: Clips, weights: Path, tmp_path: Path) -> None:
    out, diary, stop = tmp_path / "out", tmp_path / "one.txt", tmp_path / "one.stop"
    words = ("grey/counted", "--dataset", "dfew", "--data", data, "--folds", "1-3", "--weights", weights, "--batch-size", 4)
    mine = ("--out", out, "--option", f"diary={diary}")
    stop.write_text("3 SIGINT")
    assert refused("evaluate", *words, *mine, status=130).splitlines()[-1] == (
        f"Stopped by Ctrl-C: 8 of {len(clips)} clips are answered and kept in {out}; the same command goes on from there."
    )
    assert evaluate(out, "--labels", out / "labels.csv")["sets"]["basic7"]["sources"]["grey/counted"]["answered"] == 8
    stop.write_text("8 SIGKILL")  # the first pass after the stop sees the third batch again; the eighth is in the second fold
    assert killed("evaluate", *words, *mine) == -9
    kept = len(list((out / "media").glob("*.json")))
    assert kept > 14
    stop.unlink()
    found = evaluate(*words, *mine)
    passes = [int(line) for line in diary.read_text().split()]
    assert sum(passes) - passes[2] - passes[7] == len(clips)
    assert sum(fold["answered_before"] for fold in found["folds"].values()) == kept
    whole = evaluate(*words, "--option", f"diary={tmp_path / 'other.txt'}")
    assert without_work(found) == without_work(whole)
    again = evaluate(*words, *mine)
    assert without_work(again) == without_work(whole)
    assert len(diary.read_text().split()) == len(passes)


def test_a_scoring_without_a_folder_says_how_it_could_have_gone_on(data: Path, tmp_path: Path) -> None:
    (tmp_path / "d.stop").write_text("1 SIGINT")
    words = ("evaluate", "grey/counted", "--dataset", "dfew", "--data", data, "--folds", 1, "--option", f"diary={tmp_path / 'd.txt'}")
    assert refused(*words, status=130).splitlines()[-1] == (
        "Stopped by Ctrl-C. Nothing is kept without --out DIR; with it, the same command goes on where it was stopped."
    )


def test_a_folder_with_other_answers_is_refused_or_begun_anew(data: Path, weights: Path, tmp_path: Path) -> None:
    words = ("grey/window", "--dataset", "dfew", "--data", data, "--folds", "1-2", "--weights", weights, "--out", tmp_path / "out")
    evaluate(*words)
    assert "(different: dataset.folds.1.options.least, dataset.folds.2.options.least)" in refused("evaluate", *words, "--option", "least=2")
    assert "different: precision" in refused("evaluate", *words, "--precision", "bf16", "--device", "cpu")
    Path(str(weights).replace("{fold}", "2")).write_text("3")
    told = refused("evaluate", *words)
    assert f"{tmp_path / 'out'} holds a run of another recipe (different: dataset.folds.2.weights); give another folder with --out" in told
    anew = evaluate(*words, "--no-resume")
    assert anew["folds"]["1"]["answered_before"] == 0
    assert figures(anew["folds"]["2"]) == figures(evaluate(*words[:-2])["folds"]["2"])


def test_clips_that_changed_are_asked_about_again(holes: Path, tmp_path: Path) -> None:
    words = ("grey/window", "--dataset", "dfew", "--data", holes, "--folds", 1, "--unanswered", "wrong", "--out", tmp_path / "out")
    first, second = evaluate(*words), evaluate(*words)
    assert second["folds"]["1"]["answered_before"] == 7
    assert without_work(second) == without_work(first)
    folder(holes / "Clip/clip_224x224/00001", [shown("happiness")])
    (holes / "Clip/clip_224x224/00002/1.png").write_bytes(picture(shown("sadness")))
    third = evaluate(*words)
    assert third["folds"]["1"]["answered_before"] == 5
    assert figures(third["pooled"]) == pytest.approx((6 / 7, 6 / 7))  # of 00002 two pictures are still damaged


def test_a_folder_of_many_stretches_is_looked_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = [shown(label) for label in ("anger", "anger", "fear", "fear", "anger", "fear")]
    one, two = (folder(tmp_path / "cropped_aligned" / name, levels) for name in ("one", "two"))
    for path in (one, two):
        file = tmp_path / "EXPR_Set/Validation_Set" / f"{path.name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(["Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other", *"113313"]))
    looked: list[Path] = []
    monkeypatch.setattr("affectkit.datasets.keeping.stamp", lambda path: looked.append(path) or stamp(path))
    words = ("grey/window", "--dataset", "abaw-expr", "--data", tmp_path, "--out", tmp_path / "out")
    first = evaluate(*words)
    assert (first["pooled"]["rows"], figures(first["pooled"])) == (8, (1.0, 1.0))
    assert sorted(looked) == [one, two]
    looked.clear()
    (two / "3.png").write_bytes(picture(shown("surprise"), side=20))
    second = evaluate(*words)
    assert second["folds"]["1"]["answered_before"] == 4
    assert sorted(looked) == [one, two]
    assert figures(second["pooled"])[1] < 1


def test_a_clip_of_two_test_lists_has_no_place_in_one_folder(data: Path, tmp_path: Path) -> None:
    mine = tmp_path / "data"
    shutil.copytree(data, mine)
    lists = mine / "EmoLabel_DataSplit"
    (lists / "test(single-labeled)/set_2.csv").write_text((lists / "test(single-labeled)/set_1.csv").read_text())
    (lists / "train(single-labeled)/set_2.csv").write_text((lists / "train(single-labeled)/set_1.csv").read_text())
    words = ("grey/window", "--dataset", "dfew", "--data", mine, "--folds", "1-2")
    assert any("14 items are tested on in fold 1 and in fold 2" in note for note in evaluate(*words)["notes"])
    told = refused("evaluate", *words, "--out", tmp_path / "out")
    assert "a run folder has one answer for each clip: give each fold its own with --folds and --out" in told
    assert not (tmp_path / "out").exists()


# looking a data set over


def test_without_a_component_a_data_set_is_looked_over(holes: Path, tmp_path: Path) -> None:
    found = call("evaluate", "--dataset", "dfew", "--data", holes, "--folds", 1)
    assert found.exit_code == 2
    assert "Problem: dfew: 1 of 8 clips are not there: 00001" in found.stdout
    told = json.loads(call("evaluate", "--dataset", "dfew", "--data", holes, "--folds", "1", "--json").stdout)
    assert told["folds"]["1"]["test"] == dict.fromkeys(DFEW7.labels, 1)
    assert [problem["kind"] for problem in told["problems"]] == ["counts", "counts", "missing"]
    folder(tmp_path / "clip", [1])
    (tmp_path / "clips.csv").write_text("file,label,split\nclip,angry,test\n")
    fine = call("evaluate", "--dataset", "csv", "--data", tmp_path)
    assert fine.exit_code == 0, fine.output
    assert "Every clip is there, and no item is in two lists that must not share any." in fine.stdout


# refusals


def test_what_is_wrong_in_the_lists_of_several_folds_is_told_at_once(data: Path, tmp_path: Path) -> None:
    mine = tmp_path / "data"
    shutil.copytree(data, mine)
    for fold in (1, 3):
        (mine / f"EmoLabel_DataSplit/test(single-labeled)/set_{fold}.csv").write_text("video_name,label\n1,happy\n2,9\n")
    told = refused("evaluate", "--dataset", "dfew", "--data", mine, "--folds", "1-3")
    assert "4 problems" in told
    for fold in (1, 3):
        assert f"set_{fold}.csv, line 2: the label must be a number from 0 to 7, found 'happy'" in told
        assert f"set_{fold}.csv, line 3: the label must be a number from 0 to 7, found '9'" in told


def test_a_component_must_fit(data: Path) -> None:
    words = ("--dataset", "dfew", "--data", data, "--folds", 1)
    assert "grey/ear does not look at faces" in refused("evaluate", "grey/ear", *words)
    units = refused("evaluate", "grey/units", *words)
    assert "grey/units cannot be scored on dfew: au12 is multilabel, dfew7 is categorical" in units
    assert "fold 1: " not in units
    fixed = refused("evaluate", "grey/fixed", *words, "--weights", "x.txt")
    assert "grey/fixed does not say which of its options takes the file that a training writes, so --weights cannot be used" in fixed
    assert "give it with --option NAME=PATTERN. Its options are size" in fixed
    assert "Did you mean grey/window?" in refused("evaluate", "grey/windw", *words)
    assert "nope: unknown key" in refused("evaluate", "grey/window", *words, "--option", "nope=1")
    assert "grey/broken: preprocess raised ValueError for 00001: no such thing" in refused("evaluate", "grey/broken", *words)
    assert "00001: the forward pass raised ValueError: no such thing either" in refused("evaluate", "grey/stuck", *words)


def test_weights_that_are_not_there_are_all_told_before_anything_is_scored(data: Path, tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("0")
    told = refused("evaluate", "grey/window", "--dataset", "dfew", "--data", data, "--folds", "1-3", "--weights", tmp_path / "{fold}.txt")
    assert "2 problems" in told
    assert str(tmp_path / "2.txt") in told
    assert str(tmp_path / "3.txt") in told
    assert "fold 1: " not in told


def test_weights_that_are_lacking_are_given_in_the_words_of_this_command(data: Path, tmp_path: Path) -> None:
    words = ("evaluate", "grey/unmade", "--dataset", "dfew", "--data", data, "--folds", 1)
    told = refused(*words)
    assert "Make them with 'affectkit train grey/unmade', and give the file with --weights /path/to/absent_head.txt" in told
    assert "Give the right file with --option backbone=/path/to/absent_backbone.bin" in told
    assert "--set" not in told
    several = refused(*words, "--option", "backbone=hf:org/name@v1/net.bin")
    assert "net.bin from hf:org/name; or --option backbone=FILE" in several
    assert "absent_head.txt: 'affectkit train grey/unmade'; or --weights FILE" in several
    assert "--set" not in several
    (tmp_path / "net.bin").write_bytes(b"")
    given = ("--weights", tmp_path / "net.bin", "--option", f"backbone={tmp_path / 'net.bin'}")
    assert evaluate(*words[1:], *given)["pooled"]["answered"] == 0, "it goes without landmarks"
    recipe = tmp_path / "lost.yaml"
    recipe.write_text("modalities: [grey/unmade]\nproviders: {faces: mini/faces, landmarks: grey/lost}\nfusion: core/mean\n")
    told = refused(*words, *given, "--recipe", recipe)
    assert "Give the right file with components.grey/lost.checkpoint=/path/to/absent_marks.bin in the file of --recipe" in told


def test_weights_that_cannot_be_loaded_are_told_before_anything_is_scored(data: Path, weights: Path) -> None:
    Path(str(weights).replace("{fold}", "3")).write_text("no number")
    told = refused("evaluate", "grey/window", "--dataset", "dfew", "--data", data, "--folds", "1-3", "--weights", weights)
    assert "grey/window could not be set up: ValueError: invalid literal for int()" in told
    assert "fold 1: " not in told


def test_options_of_the_one_use_are_refused_in_the_other(data: Path, tmp_path: Path) -> None:
    assert "--data belongs to a data set; name it with --dataset" in refused("evaluate", "grey/window", "--data", data)
    assert "--option belongs to a data set" in refused("evaluate", "run", "--option", "a=1")
    assert "--labels is for a run folder" in refused("evaluate", "grey/window", "--dataset", "dfew", "--data", data, "--labels", "x")
    assert "--source is for a run folder" in refused("evaluate", "grey/window", "--dataset", "dfew", "--data", data, "--source", "x")
    assert "--dataset scores a component, for instance ras/face_dynamic; found 'run'" in refused("evaluate", "run", "--dataset", "dfew")
    assert "--dataset dfew needs --data DIR, the folder of DFEW" in refused("evaluate", "grey/window", "--dataset", "dfew")
    assert "Missing option '--labels'" in refused("evaluate", "run")
    assert "Missing argument 'RUN'" in refused("evaluate")
    folds = ("evaluate", "grey/window", "--dataset", "dfew", "--data", data, "--folds", "4-6")
    assert "--folds 4-6: there is no fold '6'; there are 1, 2, 3, 4, 5" in refused(*folds)
    assert "there is no label set 'basic9'" in refused("evaluate", "grey/window", "--dataset", "csv", "--data", data, "--set", "basic9")
    (tmp_path / "old").mkdir()
    (tmp_path / "old/x").touch()
    out = ("evaluate", "grey/window", "--dataset", "dfew", "--data", data, "--folds", 1, "--out", tmp_path / "old")
    assert "is not empty and holds no run of affectkit; give an empty or new folder with --out" in refused(*out)
    assert "--no-resume belongs to a data set" in refused("evaluate", "run", "--labels", "x", "--no-resume")
    (tmp_path / "clips.csv").write_text("file,label,split\nclip,angry,train\n")
    assert "csv, fold 1 has no test items" in refused("evaluate", "grey/window", "--dataset", "csv", "--data", tmp_path)


# training


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    text = "training: grey/learn\nname: line\nepochs: 1\nbatch_size: 4\noptions: {frames: 2, size: 8, held: 0.5, augment: {crop: 1}}\n"
    path = tmp_path / "line.yaml"
    path.write_text(text)
    return path


def test_a_training_reads_no_clip_of_the_test_list(clips: Clips, tmp_path: Path, recipe: Path) -> None:
    data = tree(tmp_path / "data", clips)
    for id, (_, _, fold) in clips.items():
        if fold == 2:
            (data / "Clip/clip_224x224" / id).rename(tmp_path / id)
    found = call("train", recipe, "--dataset", "dfew", "--fold", 2, "--data", data, "--out", tmp_path / "out", "--device", "cpu")
    assert found.exit_code == 0, found.output
    record = json.loads((tmp_path / "out/line.json").read_text())
    assert sum(part["rows"] for part in record["rows"].values()) == sum(fold != 2 for _, _, fold in clips.values())
    assert record["plan"]["options"]["dataset"] == "dfew"
    assert record["command"] == "affectkit train line.yaml --dataset dfew --fold 2 --data DATA --out OUT"


def test_a_training_that_misses_clips_says_all_of_them_at_once(clips: Clips, tmp_path: Path, recipe: Path) -> None:
    data = tree(tmp_path / "data", clips)
    gone = [id for id, (_, _, fold) in clips.items() if fold == 1][:2]
    for id in gone:
        (data / "Clip/clip_224x224" / id).rename(tmp_path / id)
    told = refused("train", recipe, "--dataset", "dfew", "--fold", "2", "--data", data, "--out", tmp_path / "out")
    assert f"dfew: 2 of {sum(fold != 2 for _, _, fold in clips.values())} clips to learn from are not there: {gone[0]} (no " in told


def test_clips_of_a_training_may_lie_elsewhere(clips: Clips, tmp_path: Path, recipe: Path) -> None:
    data = tree(tmp_path / "data", clips)
    (data / "Clip/clip_224x224").rename(tmp_path / "elsewhere")
    words = ("train", recipe, "--dataset", "dfew", "--fold", 1, "--data", data, "--device", "cpu")
    assert "clips to learn from are not there" in refused(*words, "--out", tmp_path / "out")
    found = call(*words, "--clips", tmp_path / "elsewhere", "--out", tmp_path / "out")
    assert found.exit_code == 0, found.output
    assert json.loads((tmp_path / "out/line.json").read_text())["command"] == (
        "affectkit train line.yaml --dataset dfew --fold 1 --clips CLIPS --data DATA --out OUT"
    )


def test_a_training_of_something_else_takes_no_data_set(data: Path, tmp_path: Path) -> None:
    words = ("--data", data, "--out", tmp_path / "out")
    assert "mini/face_static_training does not learn from a data set of clips; leave out --dataset, --fold" in refused(
        "train", "mini/face_static", "--dataset", "dfew", "--fold", 1, *words
    )
    assert "there is no data set 'dfwe'. Did you mean dfew?" in refused("train", "mini/face_static", "--dataset", "dfwe", *words)
