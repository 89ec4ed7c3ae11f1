"""The training: its losses, what a batch holds, what changes and what does not, the file, and going on after a kill."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from affectkit_finecliper import clip_files
from affectkit_finecliper.landmarks import Landmarks
from affectkit_finecliper.shape import STREAMS
from affectkit_finecliper.texts import TEXTS
from affectkit_finecliper.trainings.clips import FaceDynamicTraining, TuningOptions
from affectkit_finecliper.trainings.losses import contrast, two_sided
from affectkit_finecliper.trainings.streams import Drawer
from affectkit_finecliper.tuned import read_tuned
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from affectkit import fitting, plugins
from affectkit.api import CheckpointError, ConfigError, Turn, UsageError
from affectkit.cli import cli
from affectkit.labels import KNOWN
from affectkit.making import make
from affectkit.options import build
from affectkit.testing import TrainingContract
from affectkit.training import train
from affectkit.training_recipes import Plan

from .conftest import face_clip, loaded, predict, values

TURN = Turn(seed=1, step=3, done=0.1)


class TestFaceDynamicTraining(TrainingContract):
    """What every training promises."""

    component = FaceDynamicTraining


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that brighten or darken, of ten people, half of them with a description."""
    folder = tmp_path_factory.mktemp("clips")
    lines = ["file,label,split,group,fps,text"]
    for number in range(40):
        own = folder / f"{number:02}"
        own.mkdir()
        rising = number % 2 == 0
        for step in range(6):
            shade = 40 + 20 * (step if rising else 5 - step) + number
            cv2.imwrite(str(own / f"{step + 1}.png"), np.full((24, 24, 3), shade, np.uint8))
        label, text = ("happiness", "it becomes brighter") if rising else ("sadness", "it becomes darker")
        lines.append(f"{number:02},{label},train,person {number // 2 % 10},25,{text if number % 4 < 2 else ''}")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP that sees four tokens."""
    return clip_files.write_tiny(tmp_path_factory.mktemp("small"), clip_files.tiny_config(16, 8, 32, 2))


@pytest.fixture
def options(small: Path) -> dict[str, Any]:
    return {"dataset": "csv", "backbone": str(small), "size": 16, "frames": 4, "held": 0.4}


def plan_of(data: Path, options: Mapping[str, Any], **changes: Any) -> Plan:
    given = {"training": "finecliper/face_dynamic_training", "data": str(data), "epochs": 2, "batch_size": 6, "seed": 5}
    return build(Plan, {**given, "optimiser": {"rate": 0.003}, **changes, "options": options})


def training_of(data: Path, options: Mapping[str, Any]) -> FaceDynamicTraining:
    found = FaceDynamicTraining(build(TuningOptions, options))
    found.parts(data)
    return found


def batch_of(training: FaceDynamicTraining, data: Path, turn: Turn | None) -> dict[str, torch.Tensor]:
    part = training.parts(data)["train"]
    rows = np.arange(6)
    found = part.batch(rows, turn)
    return {"truth": torch.as_tensor(part.truth[rows]), **{name: torch.as_tensor(value) for name, value in found.items()}}


# losses


def points(count: int, seed: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_descriptions_of_the_same_class_are_no_negatives():
    """The symmetric InfoNCE, row by row, with the others of a class left out."""
    clips, texts, labels, scale = points(6, 1), points(6, 2), [0, 1, 0, 2, 1, 0], 5.0
    total = 0.0
    for one, other in ((clips, texts), (texts, clips)):
        for i in range(6):
            allowed = [j for j in range(6) if j == i or labels[j] != labels[i]]
            matched = [scale * float(one[i] @ other[j]) for j in allowed]
            total += math.log(sum(map(math.exp, matched))) - scale * float(one[i] @ other[i])
    found = contrast(clips, texts, torch.tensor(labels), torch.tensor(scale))
    assert float(found) == pytest.approx(total / 12, abs=1e-5)


def test_a_description_without_a_negative_says_nothing():
    for labels in ([3], [1, 1, 1]):
        clips = points(len(labels), 1).requires_grad_()
        found = contrast(clips, points(len(labels), 2), torch.tensor(labels), torch.tensor(5.0))
        found.backward()
        assert found.item() == 0
        assert not clips.grad.any()  # type: ignore[union-attr]


def test_each_class_stands_against_its_negative_text():
    """The binary cross-entropy, class by class; a distribution of labels is a target as well."""
    fits, misses = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(3))
    weights = torch.tensor([1.0, 2.0, 0.5, 1.0])
    truth = torch.tensor([1, 3, 1])
    each = []
    for row in range(3):
        chances = [1 / (1 + math.exp(float(misses[row, c] - fits[row, c]))) for c in range(4)]
        each.append(sum(-math.log(p if c == truth[row] else 1 - p) for c, p in enumerate(chances)) / 4)
    expected = (2 * each[0] + each[1] + 2 * each[2]) / 5
    assert float(two_sided(fits, misses, truth, weights)) == pytest.approx(expected, rel=1e-5)
    soft = torch.nn.functional.one_hot(truth, 4).float()
    torch.testing.assert_close(two_sided(fits, misses, soft, weights), two_sided(fits, misses, truth, weights))


def test_the_loss_is_its_three_parts(data: Path, options: dict[str, Any]):
    weights, found = torch.tensor([1.0, 2.0] + [1.0] * 5), {}
    for name, pairs, descriptions in (("class", 0.0, 0.0), ("pairs", 1.0, 0.0), ("descriptions", 0.0, 1.0), ("all", 0.3, 0.2)):
        training = training_of(data, {**options, "pairs": pairs, "descriptions": descriptions})
        torch.manual_seed(0)
        network = training.network()
        found[name] = training.loss(network, batch_of(training, data, TURN), weights[: len(training.labels)]).item()
    assert found["pairs"] > found["class"]
    assert found["descriptions"] > found["class"]
    expected = found["class"] + 0.3 * (found["pairs"] - found["class"]) + 0.2 * (found["descriptions"] - found["class"])
    assert found["all"] == pytest.approx(expected, rel=1e-5)


# batches


def test_descriptions_are_there_in_training_alone(data: Path, options: dict[str, Any]):
    training = training_of(data, options)
    learned, measured = batch_of(training, data, TURN), batch_of(training, data, None)
    assert learned["frames"].shape == measured["frames"].shape == (6, 4, 3, 16, 16)
    assert 0 < int(learned["told"].sum()) < 6
    assert learned["text"].shape == (6, 77)
    assert not {"text", "told"} & set(measured)
    assert not {"text", "told"} & set(batch_of(training_of(data, {**options, "descriptions": 0.0}), data, TURN))


def test_the_other_streams_are_drawn_beside_the_frames(data: Path, options: dict[str, Any], tmp_path: Path):
    landmarker = Landmarks().write_random("default", tmp_path)
    training = training_of(data, {**options, "streams": list(STREAMS), "landmarker": str(landmarker)})
    batch = batch_of(training, data, TURN)
    for name in STREAMS[1:]:
        assert batch[name].shape == batch["frames"].shape
        assert batch[f"{name}_mask"].all()
        assert 0 < float(batch[name].mean()) < 1
    network = training.network()
    with torch.no_grad():
        one = training.predict(network, batch)
        other = training.predict(network, {**batch, "parsing_mask": torch.zeros(6, dtype=torch.bool)})
    assert (one - other).abs().max() > 1e-5


def test_processes_that_read_clips_draw_the_same(tmp_path: Path):
    drawer = Drawer(("landmarks", "parsing"), str(Landmarks().write_random("default", tmp_path)), "x")
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    one, other = drawer.maps(frames), pickle.loads(pickle.dumps(drawer)).maps(frames)
    for name in ("landmarks", "parsing"):
        assert one[name] is not None
        assert np.array_equal(one[name], other[name])  # type: ignore[arg-type]


def test_a_landmarker_that_is_not_here_is_told_before_the_first_step(data: Path, options: dict[str, Any], tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"none\.task"):
        training_of(data, {**options, "streams": ["frames", "landmarks"], "landmarker": str(tmp_path / "none.task")})


# what is made


def test_the_clip_is_the_same_to_the_bit_after_a_training(data: Path, options: dict[str, Any], small: Path, tmp_path: Path):
    training = FaceDynamicTraining(build(TuningOptions, options))
    plan = plan_of(data, options)
    parts = dict(training.parts(data))
    held = parts.pop("validation")
    side = fitting.halves(held.groups, 5)
    parts |= {"validation": held.take(np.flatnonzero(side)), "calibration": held.take(np.flatnonzero(~side))}
    begun = {name: value.clone() for name, value in training.network().state_dict().items()}
    trained = train(training, plan, parts, tmp_path, device="cpu").network
    before = clip_files.load(small, "", openai=False).clip
    after: dict[str, torch.Tensor] = dict(trained.clip.named_parameters())  # type: ignore[union-attr, arg-type, operator]
    for name, value in before.named_parameters():
        assert torch.equal(after[name], value), name
    changed = [name for name, value in trained.state_dict().items() if not torch.equal(value, begun[name])]
    assert {name.split(".")[-2] for name in changed if "Adapter" in name} == {"D_fc1", "D_fc2"}
    assert {"temporal_embedding", "scale"} <= set(changed)


def call(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


@pytest.fixture(scope="module")
def written(data: Path, small: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What ``affectkit train`` wrote and printed."""
    out = tmp_path_factory.mktemp("weights")
    sets = {
        "epochs": 2,
        "batch_size": 6,
        "precision": "fp32",
        "options.size": 16,
        "options.read_size": 16,
        "options.frames": 4,
        "options.held": 0.4,
        "options.backbone": small,
        "options.texts": "{sadness: [a face that grows dark, a face that does not]}",
    }
    words = [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
    found = call("train", "finecliper/face_dynamic", "--dataset", "csv", "--data", str(data), "--out", str(out), "--device", "cpu", *words)
    assert found.exit_code == 0, found.output
    return out, found.output


def test_the_file_holds_what_was_tuned_and_what_is_needed_to_use_it(written: tuple[Path, str], small: Path):
    out, _ = written
    tensors = load_file(out / "finecliper_face_dynamic.safetensors")
    assert all("_Adapter" in name for name in tensors if name.startswith("clip."))
    assert sum(value.numel() for value in tensors.values()) == json.loads((out / "finecliper_face_dynamic.json").read_text())["parameters"]
    header = read_tuned(out / "finecliper_face_dynamic.safetensors", "")
    assert {"happiness", "sadness"} <= set(header.labels.labels)
    assert header.backbone == clip_files.load(small, "", openai=False).fingerprint
    assert header.shape.frames == 4
    assert header.texts["sadness"].positive == "a face that grows dark"
    assert header.texts["happiness"] == TEXTS["happiness"]


def test_parameters_are_counted_beside_those_of_the_paper_which_this_is_a_reconstruction_of(written: tuple[Path, str]):
    out, told = written
    tuned = sum(value.numel() for value in load_file(out / "finecliper_face_dynamic.safetensors").values())
    assert f"millions_tuned {tuned / 1e6:.4f}  millions_tuned_in_the_paper 20.0000" in told
    card = (out / "finecliper_face_dynamic.md").read_text()
    assert "reconstructed" in card
    assert f"{tuned:,}" in card
    assert "The paper's network tunes about 20 million" in card


def test_what_a_training_writes_is_found_in_the_folder_in_which_one_works(
    written: tuple[Path, str], small: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(written[0])
    assert loaded(backbone=str(small)).labels == read_tuned(written[0] / "finecliper_face_dynamic.safetensors", "").labels


def test_the_component_uses_what_was_tuned(written: tuple[Path, str], small: Path):
    component = loaded(tuned=str(written[0] / "finecliper_face_dynamic.safetensors"), backbone=str(small))
    found = values(predict(component, face_clip()))
    assert found.shape == (1, len(component.labels))
    assert component._frames == 4
    zero_shot = loaded(tuned=str(written[0] / "finecliper_face_dynamic.safetensors"), backbone=str(small), labels="mafw11")
    assert values(predict(zero_shot, face_clip())).shape == (1, len(KNOWN["mafw11"]))


class Killed(Exception):
    """What ends a training in its middle."""


def test_a_training_that_was_killed_goes_on_to_the_same_bytes(data: Path, options: dict[str, Any], tmp_path: Path):
    registry, plan = plugins.load(only=["finecliper"]), plan_of(data, options, precision="fp32")

    def kill(line: str) -> None:
        if line.startswith("epoch 1/"):
            raise Killed

    make(plan, registry, tmp_path / "whole", device="cpu")
    with pytest.raises(Killed):
        make(plan, registry, tmp_path / "killed", device="cpu", report=kill)
    state = torch.load(tmp_path / "killed" / "face_dynamic_training.training" / "state.pt", weights_only=True)
    assert not [name for name in state["network"] if name.startswith("clip.") and "_Adapter" not in name]
    make(plan, registry, tmp_path / "killed", device="cpu")
    one, other = ((tmp_path / name / "face_dynamic_training.safetensors").read_bytes() for name in ("whole", "killed"))
    assert one == other


def test_a_training_in_lower_precision(data: Path, options: dict[str, Any], tmp_path: Path):
    made = make(plan_of(data, options, precision="bf16", epochs=1), plugins.load(only=["finecliper"]), tmp_path, device="cpu")
    assert all(value.isfinite().all() for value in load_file(made.files[0]).values())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mix": {"mixup": 0.8}}, "a mixed clip has no description: set descriptions to 0, or mixup and cutmix"),
        ({"stills": {"dataset": "csv", "data": "x"}}, "FineCLIPER learns from clips alone; leave stills out"),
        ({"pairs": -1.0}, "pairs and descriptions must not be negative"),
        ({"streams": ["landmarks"]}, "streams must begin with frames"),
        ({"ratio": 0.0}, "ratio in"),
    ],
)
def test_options_that_cannot_be(wrong: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        build(TuningOptions, wrong)


def test_labels_without_texts_are_told_before_the_clip_is_read(data: Path, options: dict[str, Any], tmp_path: Path):
    lines = (data / "clips.csv").read_text().replace("happiness", "glow").splitlines()
    table = tmp_path / "clips.csv"
    table.write_text("\n".join([lines[0], *(f"{data}/{line}" for line in lines[1:])]) + "\n")
    with pytest.raises(ConfigError, match=r"there are no texts for glow of .*; write both sides of each, as options.texts.LABEL"):
        training_of(table, options)
    both = {"glow": ("a face that glows", "a face that does not")}
    training = training_of(table, {**options, "texts": both})
    assert [one.positive for one in training._sides][training.labels.index("glow")] == "a face that glows"


def test_the_network_is_known_when_the_data_are(small: Path):
    with pytest.raises(UsageError, match="knows its classes and its CLIP when it has read data"):
        FaceDynamicTraining(replace(TuningOptions(), backbone=str(small))).network()
