"""Descriptions to learn from: tables of them, read for the clips of a fold; and affectkit finecliper describe, which writes such a table."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from affectkit_finecliper import describing
from affectkit_finecliper.descriptions import naming, read, told
from click.testing import CliRunner, Result

from affectkit.api import BASIC8, ConfigError
from affectkit.builtin.descriptions import read as read_table
from affectkit.cli import cli
from affectkit.datasets.items import Fold, Item
from affectkit.errors import Problems
from affectkit.labels import DFEW7, MAFW11
from affectkit.testing.media import make_video

IDS = ("00001", "00002", "00013")

DESCRIBER = '''
"""Says how bright pictures are, and what it was asked."""

from dataclasses import dataclass
from pathlib import Path

from affectkit.api import AffectKitError, Evidence, Frames, Needs, Provider, hookimpl


class Describer(Provider):
    """A describer that takes a question."""

    name = "describer"
    kind = "description"
    scope = "window"
    needs = Needs(frames=Frames(count=2, size=32))

    @dataclass(frozen=True)
    class Options:
        """What it is asked, and below which level it says nothing."""

        prompt: str = "What is it?"
        dark: float = 20.0

    def provide(self, clips):
        return [self.say(clip) for clip in clips]

    def say(self, clip):
        if clip.frames is None or clip.frames.mean() < self.options.dark:
            return Evidence.none("description", "too dark")
        if clip.frames.mean() > 230:
            raise ValueError("blinded")
        asked = self.options.prompt.split()[-1]
        return Evidence("description", {"text": f'It is {clip.frames.mean():.0f} bright, "{asked}"'})


class Silent(Describer):
    """Takes no question."""

    name = "silent"

    @dataclass(frozen=True)
    class Options:
        """None."""

    def say(self, clip):
        return Evidence.none("description", "nothing to say")


class Other(Silent):
    """Makes something else."""

    name = "other"
    kind = "mood"


@hookimpl
def affectkit_providers():
    return [Describer, Silent, Other]
'''


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Writes a table of descriptions."""

    def write(*lines: str, name: str = "texts.csv", header: str = "media,text") -> Path:
        path = tmp_path / name
        path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        return path

    return write


def fold(ids: Sequence[str] = IDS, labels: Sequence[int] = (0, 1, 2)) -> Fold:
    train = tuple(Item(id, Path(f"{id}.mp4"), label, id) for id, label in zip(ids, labels, strict=True))
    return Fold("dfew", "1", DFEW7, train, (Item("00099", Path("00099.mp4"), 0, "00099"),), ("a note",))


# reading


@pytest.mark.parametrize(
    "names",
    [IDS, ("00001.mp4", "00002.mp4", "00013.mp4"), ("clips/00001.mp4", "clips\\00002.mp4", "a/b/00013"), ("1", "2.mp4", "13")],
)
def test_names_with_and_without_suffix_folders_and_zeros(table: Callable[..., Path], names: Sequence[str]):
    path = table(*(f"{name},text {number}" for number, name in enumerate(names)), "00099,of a test clip")
    assert read(path, IDS, complete=True, others=["00099"]) == {id: f"text {number}" for number, id in enumerate(IDS)}


@pytest.mark.parametrize("column", ["clip", "id", "video_name", "Media"])
def test_names_of_the_column(table: Callable[..., Path], column: str):
    assert read(table("00001,a text", header=f"{column},text"), IDS) == {"00001": "a text"}


def test_the_longest_end_of_a_path_decides(table: Callable[..., Path]):
    ids = ["Crime/Angry/0063", "Crime/Happy/0063"]
    path = table("2_ClipsforFaceCrop/Crime/Happy/0063.mp4,happy one", "Crime/Angry/0063,angry one")
    assert read(path, ids) == {"Crime/Angry/0063": "angry one", "Crime/Happy/0063": "happy one"}
    with pytest.raises(ConfigError, match="describes none of the 2 clips"):
        read(table("0063,which of them?"), ids)


def test_windows_are_joined_in_time(table: Callable[..., Path]):
    path = table(
        "00001.mp4,4,8,then it smiles.", '00001.mp4,0,4,"First, the brows rise,"', "00002,,,all along", header="media,start,end,text"
    )
    assert read(path, IDS) == {"00001": "First, the brows rise, then it smiles.", "00002": "all along"}


def test_all_that_is_wrong_is_told_together(table: Callable[..., Path]):
    path = table("00001,one", "00001,another", "00002.mp4,a text", "2,the same clip again")
    with pytest.raises(Problems) as caught:
        read(path, IDS, complete=True)
    said = str(caught.value)
    assert "2 clips are described more than once: 00001, 00002. Keep one row of each, or give rows times" in said
    assert "1 of 3 clips have no description: 00013" in said
    assert read(table("00001,one"), IDS) == {"00001": "one"}, "not every clip needs one"
    doubled = table("00001,0,4,one", "00001,0,4,two", header="media,start,end,text")
    with pytest.raises(ConfigError, match="described more than once: 00001"):
        read(doubled, IDS)
    mixed = table("00001,0,4,one", "00001,,,two", header="media,start,end,text")
    with pytest.raises(ConfigError, match="described more than once: 00001"):
        read(mixed, IDS)


def test_tables_that_cannot_be_read(table: Callable[..., Path], tmp_path: Path):
    with pytest.raises(ConfigError, match=r"describes none of the 3 clips: it has one, two, they are called 00001, 00002, 00013\."):
        read(table("one,a", "two,b"), IDS)
    with pytest.raises(ConfigError, match="there is no table of descriptions at"):
        read(tmp_path / "absent.csv", IDS)
    (tmp_path / "latin.csv").write_bytes("media,text\n00001,Augen weit ge\xf6ffnet\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="is not text in UTF-8"):
        read(tmp_path / "latin.csv", IDS)
    with pytest.raises(ConfigError, match="has no column 'text'"):
        read(table("00001,a", header="media,label"), IDS)
    (tmp_path / "excel.csv").write_bytes(b"\xef\xbb\xbfmedia;text\r\n00001;Augen weit ge\xc3\xb6ffnet\r\n")
    assert read(tmp_path / "excel.csv", IDS) == {"00001": "Augen weit geöffnet"}


def test_a_fold_is_told_and_its_test_list_is_not(table: Callable[..., Path]):
    path = table("00001,The lips part and rise.", "00002,A sad face looks down.", "00013,It stays neutral; a happy one.", "00099,tested")
    found = told(fold(), path)
    assert [item.text for item in found.train] == ["The lips part and rise.", "A sad face looks down.", "It stays neutral; a happy one."]
    assert found.test[0].text is None
    assert [item.label for item in found.train] == [0, 1, 2]
    assert found.notes == (
        "a note",
        "3 of 3 clips to learn from have a description in texts.csv, and 2 of these name the clip's own label (00002, 00013)",
    )
    assert told(fold(), table("1,a")).notes[1] == "1 of 3 clips to learn from have a description in texts.csv"
    with pytest.raises(ConfigError, match="2 of 3 clips have no description"):
        told(fold(), table("1,a"), complete=True)


def test_a_label_is_named_by_any_of_its_words():
    def item(text: str | None, label: str, labels: object = BASIC8) -> Item:
        return Item(text or "", Path("x"), labels.index(label), "x", text=text)

    texts = [
        item("Joy.", "happiness"),
        item("She is HAPPY", "happiness"),
        item("calm", "neutral"),
        item("angry", "sadness"),
        item(None, "fear"),
    ]
    assert naming(texts, BASIC8) == ["Joy.", "She is HAPPY", "calm"]
    assert naming([item("Some anxiety", "anxiety", MAFW11)], MAFW11) == ["Some anxiety"]


def test_a_training_learns_from_a_table(table: Callable[..., Path], tmp_path: Path):
    from affectkit_finecliper.trainings.clips import FaceDynamicTraining, TuningOptions

    for name in ("1", "2", "3"):
        video(tmp_path / f"{name}.mp4", 120)
    (tmp_path / "clips.csv").write_text("file,label,split,text\n1.mp4,happiness,train,old\n2.mp4,sadness,train,kept\n3.mp4,sadness,test,\n")
    options = TuningOptions(dataset="csv", described=table("1.mp4,The lips rise.", "3.mp4,of a test clip"))
    found = FaceDynamicTraining(options).read(tmp_path / "clips.csv")
    assert [item.text for item in found.train] == ["The lips rise.", "kept"]
    assert [item.text for item in found.test] == [None]
    assert FaceDynamicTraining(TuningOptions(dataset="csv")).read(tmp_path / "clips.csv").train[0].text == "old"


# the question


def test_our_question_names_no_emotion_and_asks_for_change():
    asked = describing.question()
    words = set(re.findall(r"[a-z]+", asked.lower()))
    assert not words & {*BASIC8.labels, *MAFW11.labels, "happy", "sad", "angry", "joy", "afraid", "calm"}
    assert {"changes", "brows", "lips", "eyelids", "head"} <= words
    assert "Do not name, guess or hint at an emotion" in asked
    assert "\n" not in asked


def test_our_question_is_one_that_ras_describe_takes():
    ras = pytest.importorskip("affectkit_ras.describe", reason="affectkit-ras is not installed")
    component = ras.Describe(ras.DescribeOptions(prompt=describing.question()))
    assert component._prompt == describing.question()


# the command


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    """Runs ``affectkit finecliper describe`` with the plugin above."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "say.py").write_text(DESCRIBER)

    def command(*arguments: str | Path) -> Result:
        given = ["finecliper", "describe", "--plugins-dir", str(tmp_path / "plugins"), "--device", "cpu", *map(str, arguments)]
        return CliRunner().invoke(cli, given, terminal_width=400)

    return command


def video(path: Path, *levels: int) -> Path:
    """A video of so many seconds, each of one grey level."""

    def draw(time: float) -> np.ndarray:
        return np.full((32, 48, 3), levels[min(int(time), len(levels) - 1)], np.uint8)

    return make_video(path, seconds=len(levels), fps=5, size=(32, 48), picture=draw)


def test_clips_become_a_table_that_can_be_learned_from(run: Callable[..., Result], tmp_path: Path):
    clips = [video(tmp_path / "00001.mp4", 100, 100, 200), video(tmp_path / "2.mp4", 60), video(tmp_path / "dark.mp4", 5)]
    out = tmp_path / "deep" / "texts.csv"
    result = run(*clips, "--out", out, "--describer", "say/describer", "--length", "2")
    assert result.exit_code == 0, result.output
    assert f"{out}: 3 descriptions of 2 clips" in result.output
    assert "say/describer said nothing of 1 clips:" in result.output
    assert "dark.mp4: too dark" in result.output
    lines = out.read_text().splitlines()
    assert lines[0] == "media,start,end,text"
    assert [line.split(",")[:3] for line in lines[1:]] == [["00001.mp4", "0", "2"], ["00001.mp4", "2", "3"], ["2.mp4", "0", "1"]]
    question = describing.question().split()[-1]
    found = read(out, IDS)
    assert set(found) == {"00001", "00002"}
    assert re.fullmatch(rf'It is (9[5-9]|10[0-5]) bright, "{question}" It is (19|20)\d bright, "{question}"', found["00001"])
    assert len(read_table(out).rows["00001.mp4"]) == 2, "affectkit run --descriptions reads it as well"
    again = run(*clips, "--out", out, "--describer", "say/describer")
    assert again.exit_code == 2
    assert f"{out} is there already; give another file" in again.output
    assert out.read_text().splitlines() == lines


def test_a_data_set_is_described_by_the_ids_of_its_list(run: Callable[..., Result], tmp_path: Path):
    for name in ("one", "two", "three"):
        video(tmp_path / f"{name}.mp4", 120)
    (tmp_path / "clips.csv").write_text("clip,label,split\none.mp4,happiness,train\ntwo.mp4,sadness,train\nthree.mp4,sadness,test\n")
    out = tmp_path / "texts.csv"
    own = "components.say/describer.prompt=Tell me more!"
    result = run("--dataset", "csv", "--data", tmp_path / "clips.csv", "--out", out, "--describer", "say/describer", "--set", own)
    assert result.exit_code == 0, result.output
    rows = read_table(out).rows
    assert len(rows) == 2, "clips to be tested on are not described"
    assert all("more!" in row[0].text for row in rows.values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "x.csv"], "give clips, or --dataset NAME --data DIR"),
        (["a.mp4", "--out", "x.csv", "--data", "."], "give clips, or --dataset NAME --data DIR"),
        (["a.mp4", "--out", "x.csv", "--describer", "say/describe"], "Did you mean say/describer"),
        (["a.mp4", "--out", "x.csv", "--describer", "say/other"], "say/other makes 'mood' and no descriptions"),
        (["a.mp4", "--out", "x.csv", "--describer", "say/describer", "--set", "components.say/describer.promt=x y"], "Did you mean prompt"),
        (["a.mp4", "--out", "x.csv", "--describer", "say/describer"], "said nothing of 1 clips; a.mp4: "),
    ],
)
def test_what_is_wrong_is_said(
    run: Callable[..., Result], arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.output.split())
    assert not Path("x.csv").exists()


def test_a_clip_that_fails_is_told_and_the_others_are_written(run: Callable[..., Result], tmp_path: Path):
    clips = [video(tmp_path / "bright.mp4", 250), video(tmp_path / "good.mp4", 100), tmp_path / "absent.mp4"]
    result = run(*clips, "--out", tmp_path / "texts.csv", "--describer", "say/describer")
    assert result.exit_code == 1
    assert "say/describer failed on 2 clips:" in result.output
    assert "bright.mp4: say/describer: blinded" in result.output
    assert "absent.mp4" in result.output.split("failed on")[1]
    assert set(read_table(tmp_path / "texts.csv").rows) == {"good.mp4"}


def test_nothing_said_is_nothing_written(run: Callable[..., Result], tmp_path: Path):
    clip = video(tmp_path / "good.mp4", 100)
    result = run(clip, "--out", tmp_path / "texts.csv", "--describer", "say/silent")
    assert result.exit_code == 2
    assert "say/silent said nothing of 1 clips; good.mp4: nothing to say" in result.output
    assert not (tmp_path / "texts.csv").exists()


def test_stretches_of_longer_videos_are_refused():
    items = (Item("a", Path("a.mp4"), 0, "a", frames=(1, 20)),)
    with pytest.raises(Exception, match="cut them into files first"):
        describing.subjects([Fold("x", "1", DFEW7, items, ())])
