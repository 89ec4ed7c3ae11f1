"""ras/scene: descriptions, and the trainings of heads over text encoders."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from affectkit_ras import tiny_text
from affectkit_ras.language import SceneEmotion, TextEmotion
from affectkit_ras.text_models import TextOptions
from affectkit_ras.text_network import Encoder
from affectkit_ras.trainings.language import HeadOptions, SceneTraining
from affectkit_ras.trainings.texts import read
from click.testing import CliRunner

from affectkit.api import BASIC7, BASIC8, CheckpointError, Turn, UsageError
from affectkit.cli import cli

from .conftest import predict, words_clip

NAMES = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other")
WORDS = ("calm", "shouts", "rotten", "screams", "smiles", "weeps", "gasps", "thinks")
HEADER = "video_name,text," + ",".join(NAMES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return {tag: write(root / tag) for tag, write in tiny_text.WRITERS.items()}


def table(path: Path, videos: range, classes: int = 7) -> Path:
    """Two windows per video; the word tells the class, the name of the video does not."""
    lines = [HEADER]
    for video in videos:
        label = video % classes
        for window in range(2):
            shares = ["1.0" if column == label else "0.0" for column in range(8)]
            lines.append(f'{video:03d}___{window:04d}.avi,"He {WORDS[label]}, {WORDS[label]} and {WORDS[label]}.",{",".join(shares)}')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def scene(options: TextOptions) -> SceneEmotion:
    component = SceneEmotion(options)
    component.id = "ras/scene"
    component.load(torch.device("cpu"), torch.float32)
    return component


def test_a_description_is_read_and_noted(folders):
    component = scene(TextOptions(distilroberta=str(folders["distilroberta"])))
    output = predict(component, words_clip("A woman smiles at the camera.", "description"))
    assert output.notes == [{"description": "A woman smiles at the camera."}]
    assert output.quality["words"].tolist() == [6.0]
    assert set(output.embeddings) == {"scene"}
    assert component.preprocess(words_clip("said, not seen", "transcript")) is None


def test_a_description_is_cut_at_192_tokens(folders):
    component = scene(TextOptions(distilroberta=str(folders["distilroberta"])))
    assert len(component.preprocess(words_clip("many words " * 100, "description"))["ids"]) == 192
    assert component.preprocess(words_clip("no no no no no no", "description"))["words"] == 6  # repetition is the writer's own


def train(*arguments: str) -> dict:
    done = CliRunner().invoke(cli, ["train", *arguments, "--device", "cpu", "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_head_is_trained_and_used(folders, tmp_path: Path):
    table(tmp_path / "data" / "train_1.csv", range(70))
    table(tmp_path / "data" / "dev_1.csv", range(63, 98))  # seven videos are in both
    given = ["--data", str(tmp_path / "data"), "--out", str(tmp_path), "--set", "options.encoder=sentence"]
    record = train(
        "ras/scene", *given, "--set", f"options.sentence={folders['sentence']}", "--set", "optimiser.rate=0.1", "--set", "epochs=25"
    )
    assert record["labels"] == list(BASIC7.labels)
    assert record["rows"]["train"]["groups"] == 63
    assert record["encoder"] == "sentence"
    assert record["validation"]["all"]["macro_f1"]["value"] > 0.9
    assert record["sha256"]
    component = scene(TextOptions(encoder="sentence", sentence=str(folders["sentence"]), head=str(tmp_path / "ras_scene.safetensors")))
    for label, word in zip(BASIC7.labels, WORDS, strict=False):
        row = predict(component, words_clip(f"He {word}, {word} and {word}.", "description")).values[BASIC7][0]
        assert BASIC7.labels[int(row.argmax())] == label


def test_a_head_over_another_encoder_is_found_where_the_advised_command_wrote_it(folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    options = TextOptions(encoder="sentence", sentence=str(folders["sentence"]))
    with pytest.raises(CheckpointError) as absent:
        scene(options)
    program, command, recipe, *words = re.search(r"Make them with '(.*?)'", str(absent.value))[1].split()
    assert (program, command) == ("affectkit", "train")
    table(tmp_path / "FILE", range(48), classes=8)
    train(recipe, *words, "--set", f"options.sentence={folders['sentence']}", "--set", "epochs=1")
    assert scene(options).labels == BASIC8


def test_the_last_layers_of_an_encoder_learn_along(folders, tmp_path: Path):
    from safetensors.torch import load_file

    table(tmp_path / "train.csv", range(48), classes=8)
    given = ["--data", str(tmp_path / "train.csv"), "--out", str(tmp_path), "--set", "options.fine_tune=1", "--set", "epochs=2"]
    record = train("ras/text_published", *given, "--set", f"options.clip={folders['clip']}")
    assert record["labels"] == list(BASIC8.labels)
    tensors = load_file(tmp_path / "ras_text_published.safetensors")
    assert {name.partition(".")[0] for name in tensors} == {"head", "encoder"}
    assert all("layers.1." in name for name in tensors if name.startswith("encoder."))
    component = TextEmotion(TextOptions(encoder="clip", clip=str(folders["clip"]), head=str(tmp_path / "ras_text_published.safetensors")))
    assert component.labels == BASIC8
    component.id = "ras/text"
    component.load(torch.device("cpu"), torch.float32)
    tuned = dict(component._encoder.named_parameters())
    for name, value in tensors.items():
        if name.startswith("encoder."):
            assert torch.equal(tuned[name.removeprefix("encoder.")], value)
    assert predict(component, words_clip("He shouts")).values[BASIC8].shape == (1, 8)


def test_the_name_of_a_video_is_never_read(tmp_path: Path):
    first = table(tmp_path / "first.csv", range(20))
    second = tmp_path / "second.csv"
    second.write_text(first.read_text().replace("___", "_Happy___"), encoding="utf-8")
    one, other = (read(path, "*", 0.2, 0) for path in (first, second))
    assert set(one["train"].texts) == set(other["train"].texts)
    assert not any("Happy" in text for part in other.values() for text in part.texts)


def test_no_video_is_in_two_parts(tmp_path: Path):
    parts = read(table(tmp_path / "one.csv", range(20)), "*", 0.25, 0)
    train, held = (set(parts[name].groups) for name in ("train", "validation"))
    assert not train & held
    assert len(held) == 5


def mixed(path: Path) -> Path:
    """Texts that are half anger, a quarter neutral and a quarter other, and one of which nothing is said."""
    rows = [f"{n}___0000.avi,He shouts {n},1,2,0,,0,0,0,1" for n in range(8)] + ["9___0000.avi,He waits,0,0,,0,0,0,0,0"]
    path.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return path


def test_shares_of_labels_are_kept(tmp_path: Path):
    parts = read(mixed(tmp_path / "mixed.csv"), "*", 0.25, 0)
    assert {name: part.shares.tolist() for name, part in parts.items()} == {
        "train": [[0.25, 0.5, 0, 0, 0, 0, 0, 0.25]] * 6,
        "validation": [[0.25, 0.5, 0, 0, 0, 0, 0, 0.25]] * 2,
    }
    assert set(parts["train"].truth.tolist()) == {BASIC8.index("anger")}


def test_shares_are_learned_where_they_are_asked_for(folders, tmp_path: Path):
    given = {"encoder": "sentence", "sentence": str(folders["sentence"])}
    data = mixed(tmp_path / "mixed.csv")
    hard, soft = (SceneTraining(HeadOptions(**given, soft=soft)) for soft in (False, True))
    parts, shared = hard.parts(data), soft.parts(data)
    assert (hard.labels, soft.labels) == (BASIC7, BASIC8)
    rows, turn = np.arange(2), Turn(0, 0, 0.0)
    assert "truth" not in parts["train"].batch(rows, turn)
    batch = shared["train"].batch(rows, turn)
    assert batch["truth"].tolist() == [[0.25, 0.5, 0, 0, 0, 0, 0, 0.25]] * 2
    assert "truth" not in shared["train"].batch(rows, None)  # what is measured is the largest
    network = soft.network().eval()
    tensors = {name: torch.as_tensor(value) for name, value in batch.items()}
    expected = -(network(tensors).log_softmax(1) * tensors["truth"]).sum(1).mean()
    torch.testing.assert_close(soft.loss(network, tensors, torch.ones(8)), expected)


@pytest.mark.parametrize(
    "device", ["cpu:0", pytest.param("cuda:0", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"))]
)
def test_a_frozen_encoder_reads_where_device_says(folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str):
    """And what it says comes back to the processor."""
    moved: list[str] = []
    to = Encoder.to
    monkeypatch.setattr(Encoder, "to", lambda self, *given: (moved.extend(map(str, given)), to(self, *given))[1])
    options = HeadOptions(encoder="sentence", sentence=str(folders["sentence"]))
    features = []
    for place in ("cpu", device):
        training = SceneTraining(options)
        training.device = place
        features.append(training.parts(mixed(tmp_path / "mixed.csv"))["train"].batch(np.arange(3), None)["feature"])
    assert moved == ["cpu", "cpu", device, device]  # both parts of the texts
    assert features[1].device.type == "cpu"
    torch.testing.assert_close(*features, atol=1e-4, rtol=1e-4)


def test_an_encoder_that_is_not_here_is_told_with_the_option_of_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("AFFECTKIT_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    expected = r"affectkit weights fetch ras/scene:sentence'.* or give a local folder: --set options\.sentence=/path/to/all-MiniLM-L6-v2$"
    with pytest.raises(CheckpointError, match=expected):
        SceneTraining(HeadOptions(encoder="sentence")).parts(mixed(tmp_path / "mixed.csv"))


def test_names_of_labels_are_read_as_well(tmp_path: Path):
    (tmp_path / "named.csv").write_text(
        "video,text,label\n" + "".join(f"{n},He laughs {n},{'joy' if n % 2 else 'Angry'}\n" for n in range(8))
    )
    parts = read(tmp_path / "named.csv", "*", 0.25, 0)
    found = {BASIC8.labels[column] for part in parts.values() for column in part.truth}
    assert found == {"happiness", "anger"}


def test_rows_without_words_or_labels_are_left_out(tmp_path: Path):
    rows = [f"{n},text number {n},happy" for n in range(6)] + ["7,,happy", "8,...,sad", "9,words,"]
    (tmp_path / "named.csv").write_text("video,text,label\n" + "\n".join(rows))
    parts = read(tmp_path / "named.csv", "*", 0.25, 0)
    assert sum(len(part.texts) for part in parts.values()) == 6


WRONG = {
    "name,words\n1,hello\n": "has no column 'text'",
    "video,text\n1,hello\n": "has no labels: it needs a column per emotion",
    "video,text,label\n1,hello,bored\n": "labels that are no basic emotions: bored",
    "video,text,label\n1,hello,joy\n": "texts of 1 videos; at least 4",
    "": "is not a table",
}


@pytest.mark.parametrize(("content", "message"), WRONG.items(), ids=list(WRONG.values()))
def test_a_wrong_table_is_told(content: str, message: str, tmp_path: Path):
    (tmp_path / "wrong.csv").write_text(content)
    with pytest.raises(UsageError, match=message):
        read(tmp_path / "wrong.csv", "*", 0.2, 0)


def test_a_folder_without_tables_is_told(tmp_path: Path):
    table(tmp_path / "dev_1.csv", range(4))
    with pytest.raises(UsageError, match=r"has no table train\*.csv that fits '\*'; tables that fit: dev_1.csv"):
        read(tmp_path, "*", 0.2, 0)
    with pytest.raises(UsageError, match=r"there is no .*nowhere"):
        read(tmp_path / "nowhere", "*", 0.2, 0)


def test_the_published_descriptions_are_read(shared_data: Path):
    folder = shared_data / "scene" / "ras_descriptions" / "AFEW"
    parts = read(folder, "*32B*_1.csv", 0.2, 0)
    assert len(parts["validation"].texts) == 411
    assert np.bincount(parts["validation"].truth, minlength=8).tolist() == [71, 67, 44, 48, 70, 64, 47, 0]
    assert not set(parts["train"].groups) & set(parts["validation"].groups)
    assert len(parts["train"].texts) <= 855
    assert len(read(folder, "*", 0.2, 0)["validation"].texts) == 6 * 411
