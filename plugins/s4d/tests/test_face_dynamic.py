"""s4d/face_dynamic on drawn faces and random weights in the real formats."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from affectkit_s4d.face_dynamic import FaceDynamic
from affectkit_s4d.model import S4D, Sizes, clips_of
from affectkit_s4d.views import views
from click.testing import CliRunner

import affectkit
from affectkit.api import BASIC8, CheckpointError, Clip, ConfigError, Evidence, Media, Output, Span
from affectkit.batching import collate
from affectkit.cli import cli
from affectkit.labels import DFEW7, FERV39K7, MAFW11, project
from affectkit.testing import examples
from affectkit.testing.contracts import examine
from affectkit.weight_files import load_tensors, random_network, save_tensors

ID = "s4d/face_dynamic"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights whose experts and router differ enough to matter."""
    path = FaceDynamic().write_random("default", tmp_path_factory.mktemp("s4d"))
    return _sharper(path, {})


def _sharper(path: Path, settings: dict[str, Any]) -> Path:
    from affectkit.weight_files import metadata

    header = metadata(path)
    header["settings"] = json.dumps({**json.loads(header["settings"]), **settings})
    tensors = {name: value * (20 if "moe_layer" in name or "head" in name else 1) for name, value in load_tensors(path).items()}
    save_tensors(path, tensors, header)
    return path


def made(path: Path, **options: Any) -> FaceDynamic:
    component = FaceDynamic(FaceDynamic.Options(checkpoint=str(path), **options))
    component.id = ID
    component.load(torch.device("cpu"), torch.float32)
    return component


def clip(count: int, side: int = 160) -> Clip:
    """A window in which a face is seen this often."""
    crops = np.stack([examples.face(side, 1, moment / 6.25) for moment in range(count)])
    boxes = np.tile(np.array([[10.0, 20.0, 90.0, 120.0]]), (count, 1))
    faces = Evidence("faces", {"crops": crops, "boxes": boxes, "scores": np.ones(count, np.float32)}, times=np.arange(count) / 6.25)
    return Clip(Media("made", Path("made.mp4"), "video", 10.0, 25.0, (240, 320)), Span(0.0, 4.0), track=0, inputs={"faces": faces})


def said(component: FaceDynamic, *given: Clip) -> Output:
    with torch.inference_mode():
        return component.predict(collate([component.preprocess(one) for one in given]))


def test_it_keeps_what_every_modality_promises(weights: Path) -> None:
    outcomes = list(examine("modality", FaceDynamic, {"checkpoint": str(weights)}, id=ID))
    assert {outcome.check: outcome.reason for outcome in outcomes if outcome.state != "ok"} == {}


def test_neighbours_change_nothing_and_every_call_says_the_same(weights: Path) -> None:
    component, given = made(weights), [clip(25), clip(9), clip(2), clip(17)]
    together = said(component, *given)
    assert torch.equal(together.values[DFEW7], said(component, *given).values[DFEW7])
    for row, one in enumerate(given):
        alone = said(component, one)
        torch.testing.assert_close(together.values[DFEW7][row], alone.values[DFEW7][0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.embeddings["motion"][row], alone.embeddings["motion"][0], atol=1e-5, rtol=0)
    assert together.quality["faces"].tolist() == [25, 9, 2, 17]
    assert together.quality["side"].tolist() == [100.0] * 4


def test_probabilities_of_two_views_are_averaged(weights: Path) -> None:
    """Not their logits: the first and the last 16 crops, each by the network itself."""
    component, window = made(weights), clip(25)
    crops = torch.from_numpy(window.inputs["faces"].data["crops"])
    assert views(25).tolist() == [list(range(16)), list(range(9, 25))]
    with torch.inference_mode():
        seen = component._net(clips_of(torch.stack([crops[:16], crops[9:]]), 32))
        found = said(component, window)
    torch.testing.assert_close(found.values[DFEW7][0], seen.logits.softmax(1).mean(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.embeddings["motion"][0], seen.feature.mean(0), atol=1e-5, rtol=0)
    assert (seen.logits.softmax(1).mean(0) - seen.logits.mean(0).softmax(0)).abs().max() > 1e-5
    assert component.preprocess(clip(16))["views"].shape == (1, 16, 160, 160, 3)


def test_released_behaviour_says_something_else_each_time(weights: Path) -> None:
    component = made(weights, released_behaviour=True)
    one, other = (said(component, clip(20)).values[DFEW7] for _ in range(2))
    assert not torch.equal(one, other)


def test_views_are_looked_at_a_few_at_a_time(weights: Path) -> None:
    """As released all of a batch at once, because an expert has room for a share of it."""
    given = [clip(20, 32) for _ in range(7)]
    for released, passes in ((False, [8, 6]), (True, [14])):
        component, counts = made(weights, released_behaviour=released), []
        component._net.register_forward_pre_hook(lambda _, inputs, counts=counts: counts.append(len(inputs[0])))
        said(component, *given)
        assert counts == passes


def test_crops_are_as_large_as_in_training(weights: Path, tmp_path: Path) -> None:
    """Of files of the authors as published, and where there is no file yet."""
    assert made(weights).needs.inputs[0].size == 32
    assert made(authors(tmp_path / "dfew.pth", "DFEW", 7)).needs.inputs[0].size == 160
    assert made(authors(tmp_path / "small.pth", "DFEW", 7, input_size=32, num_frames=8)).needs.inputs[0].size == 32
    assert FaceDynamic().needs.inputs[0].size == 160


def test_the_temperature_of_a_training_holds(weights: Path, tmp_path: Path) -> None:
    softer = tmp_path / "softer.safetensors"
    softer.write_bytes(weights.read_bytes())
    plain = said(made(weights), clip(20)).values[DFEW7]
    from affectkit.weight_files import metadata

    header = metadata(softer)
    header["settings"] = json.dumps({**json.loads(header["settings"]), "temperature": 2.0})
    save_tensors(softer, load_tensors(softer), header)
    torch.testing.assert_close(said(made(softer), clip(20)).values[DFEW7], (plain.log() / 2).softmax(1))


@pytest.mark.parametrize("labels", [DFEW7, FERV39K7])
def test_labels_move_to_other_sets_by_name(labels: Any) -> None:
    """Happiness is the first class of DFEW and the fourth of FERV39k."""
    values = np.eye(7)[[labels.index("happiness")]]
    assert project(values, labels, BASIC8)[0][0, BASIC8.index("happiness")] == 1


def authors(path: Path, data_set: str | None, classes: int, **arguments: Any) -> Path:
    sizes = Sizes(width=32, heads=1, depth=2, hidden=64, first=1, experts=4, adapter=8, video=classes)
    network = random_network(lambda: S4D(sizes))
    given = argparse.Namespace(**({} if data_set is None else {"data_set": data_set}), **arguments)
    torch.save({"model": network.state_dict(), "args": given, "epoch": 1}, path)
    return path


def test_a_file_of_the_authors_says_its_labels_and_its_rate(tmp_path: Path) -> None:
    component = made(authors(tmp_path / "mafw.pth", "MAFW", 11, sampling_rate=4))
    assert component.labels == MAFW11
    assert component.needs.inputs[0].fps == 6.25
    assert said(component, clip(6)).values[MAFW11].shape == (1, 11)
    component = made(authors(tmp_path / "ferv.pth", "FERV39k", 7, sampling_rate=1))
    assert (component.labels, component.needs.inputs[0].fps) == (FERV39K7, 25.0)
    component = made(authors(tmp_path / "other.pth", None, 7), labels="ferv39k7")
    assert (component.labels, component.needs.inputs[0].fps) == (FERV39K7, 25.0)
    component = made(authors(tmp_path / "other.pth", None, 7), labels="ferv39k7", rate=5.0)
    assert component.needs.inputs[0].fps == 5.0


@pytest.mark.parametrize(
    ("data_set", "classes", "options", "message"),
    [
        (None, 7, {}, r"has 7 classes and does not say which.*components\.s4d/face_dynamic\.labels=NAME \(dfew7, ferv39k7\)"),
        (None, 5, {}, r"has 5 classes and does not say which.*the name of a label set"),
        (None, 7, {"labels": "mafw11"}, "has 7 classes, and mafw11 has 11"),
        ("DFEW", 11, {}, "has 11 classes, and dfew7 has 7"),
        ("DFEW", 7, {"labels": "ferv39k7"}, r"gives the labels \['happiness'.*leave out labels"),
    ],
)
def test_classes_that_do_not_fit(tmp_path: Path, data_set: str | None, classes: int, options: dict[str, str], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        made(authors(tmp_path / "file.pth", data_set, classes), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "dfew"}, "there is no label set 'dfew'"),
        ({"rate": 0.0}, "rate greater than 0"),
        ({"least": 0}, "least must be at least 1"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FaceDynamic.Options(**options)


def test_a_pretrained_file_says_no_expressions(tmp_path: Path) -> None:
    path = FaceDynamic().write_random("pretrained", tmp_path)
    with pytest.raises(CheckpointError, match=r"s4d/face_dynamic: .* is a pre-trained file"):
        made(path)


def test_without_weights_the_command_that_makes_them_is_named() -> None:
    component = FaceDynamic()
    component.id = ID
    assert component.labels == DFEW7
    with pytest.raises(CheckpointError, match=r"affectkit train s4d/face_dynamic --dataset NAME --data DIR --out \."):
        component.load(torch.device("cpu"), torch.float32)
    with pytest.raises(CheckpointError, match="before its weights are loaded"):
        component.predict({})


def test_a_face_must_be_seen_twice(weights: Path) -> None:
    component = made(weights)
    assert component.preprocess(clip(1)) is None
    assert component.preprocess(clip(2)) is not None
    assert made(weights, least=6).preprocess(clip(5)) is None


def test_bf16_says_about_the_same(weights: Path) -> None:
    component = made(weights)
    single = said(component, clip(20))
    with torch.autocast("cpu", torch.bfloat16):
        half = said(component, clip(20))
    assert half.values[DFEW7].dtype == torch.float32
    assert 0 < (single.values[DFEW7] - half.values[DFEW7]).abs().max() < 0.05


def test_real_clips_in_one_run(shared_data: Path, tmp_path: Path) -> None:
    """By tiny weights, beside mini, without a network connection."""
    runner = CliRunner()
    told = runner.invoke(cli, ["weights", "tiny", "--recipe", "s4d/s4d", "s4d", "--out", str(tmp_path / "tiny")])
    assert told.exit_code == 0, told.output
    videos = [str(shared_data / "video" / name) for name in ("debate_5s.mp4", "single_face.mp4", "no_face.mp4")]
    arguments = [
        "run",
        *videos,
        "--recipe",
        str(tmp_path / "tiny" / "tiny.yaml"),
        "--plugins",
        f"mini/face_static,{ID}",
        "--offline",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "run"),
    ]
    told = runner.invoke(cli, arguments)
    assert told.exit_code == 0, told.output
    table = affectkit.read_run(tmp_path / "run", "dfew7")
    mine = table[table["source"] == ID]
    rows = mine[mine["valid"]]
    assert set(rows["media"]) == {"debate_5s", "single_face"}
    assert np.allclose(rows[[f"p_{label}" for label in DFEW7.labels]].sum(axis=1), 1)
    fused = affectkit.read_run(tmp_path / "run", "basic8")
    assert {"mini/face_static", "core/mean"} <= set(fused["source"]) | set(affectkit.read_run(tmp_path / "run", "basic7")["source"])


@pytest.mark.slow
def test_the_published_size_in_the_authors_layout(tmp_path: Path) -> None:
    """Half precision keeps the file small; a window of two views, once."""
    path = tmp_path / "checkpoint-best.pth"
    state = {name: value.half() for name, value in random_network(S4D).state_dict().items()}
    torch.save({"model": state, "args": argparse.Namespace(data_set="DFEW", sampling_rate=4, top_k=2)}, path)
    component = made(path)
    assert sum(value.numel() for value in component._net.parameters()) == 100_513_646
    found = said(component, clip(20))
    assert found.embeddings["motion"].shape == (1, 768)
    torch.testing.assert_close(found.values[DFEW7].sum(1), torch.ones(1))
    path.unlink()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_agrees(weights: Path) -> None:
    """Within 1e-4 in single precision, and 0.05 in bf16."""
    given = [clip(25), clip(9), clip(2)]
    component = made(weights)
    wanted = said(component, *given).values[DFEW7]
    batch = {name: value.cuda() for name, value in collate([component.preprocess(one) for one in given]).items()}
    component.load(torch.device("cuda"), torch.float32)
    with torch.inference_mode():
        found = component.predict(batch).values[DFEW7].cpu()
        with torch.autocast("cuda", torch.bfloat16):
            half = component.predict(batch).values[DFEW7].cpu()
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(half, wanted, atol=0.05, rtol=0)
