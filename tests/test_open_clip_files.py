"""Folders and files of open_clip: what is read, and what is said of every kind of wrong one. They are written as open_clip and OpenAI write theirs."""

from __future__ import annotations

import argparse
import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from affectkit import open_clip_files, weight_files
from affectkit.errors import CheckpointError, ConfigError
from affectkit.open_clip_files import CONFIG, SIZES, WEIGHTS

open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed")

ARCHITECTURE = "tiny-of-a-test"
VISION = {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8}
TEXT = {"context_length": 12, "vocab_size": 32, "width": 16, "heads": 2, "layers": 1}
MODEL: dict[str, Any] = {"embed_dim": 8, "vision_cfg": VISION, "text_cfg": TEXT}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_clip_files.write_random(tmp_path_factory.mktemp("clip") / "clip", MODEL)


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(written, tmp_path / "clip"))


@pytest.fixture(autouse=True)
def architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small network under a name, as open_clip knows its own."""
    known = open_clip.get_model_config
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: dict(MODEL) if name == ARCHITECTURE else known(name))


def read(path: Path, openai: bool = False) -> open_clip_files.Stored:
    return open_clip_files.read(path, "x/y", architecture=ARCHITECTURE, openai=openai)


def activations(stored: open_clip_files.Stored) -> set[str]:
    towers = (stored.clip.visual.transformer, stored.clip.transformer)
    return {type(block.mlp.gelu).__name__ for tower in towers for block in tower.resblocks}


def test_a_folder_is_read_for_use_alone(written: Path):
    stored = read(written)
    assert not stored.clip.training
    assert not any(value.requires_grad for value in stored.clip.parameters())
    tensors = load_file(written / WEIGHTS[0])
    assert all(torch.equal(stored.clip.state_dict()[name], value) for name, value in tensors.items())
    assert stored.mean == open_clip.constants.OPENAI_DATASET_MEAN
    assert weight_files.is_random(written)


def test_how_pictures_are_shown_is_what_the_config_says(folder: Path):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3]}}))
    assert (read(folder).mean, read(folder).std) == ((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    (folder / CONFIG).write_text(json.dumps({"model_cfg": MODEL}))
    assert read(folder).std == open_clip.constants.OPENAI_DATASET_STD


def test_weights_of_openai_run_with_their_activations(written: Path, tmp_path: Path):
    assert activations(read(written)) == {"GELU"}
    assert activations(read(written, openai=True)) == {"QuickGELU"}
    alone = shutil.copy(written / WEIGHTS[0], tmp_path / "clip.safetensors")
    assert activations(read(Path(alone))) == {"QuickGELU"}


def test_the_state_of_openai_in_half_precision(written: Path, tmp_path: Path):
    half = {name: value.half() if value.is_floating_point() else value for name, value in load_file(written / WEIGHTS[0]).items()}
    torch.save({"state_dict": {**half, **{name: torch.tensor(8) for name in SIZES}}}, tmp_path / "clip.pt")
    stored = read(tmp_path / "clip.pt")
    assert {value.dtype for value in stored.clip.parameters()} == {torch.float32}
    torch.testing.assert_close(stored.clip.visual.proj, half["visual.proj"].float(), rtol=0, atol=0)


@pytest.mark.parametrize("name", WEIGHTS[1:])
def test_other_names_of_weights(name: str, folder: Path):
    tensors = load_file(folder / WEIGHTS[0])
    (folder / WEIGHTS[0]).unlink()
    torch.save(tensors, folder / name) if name.endswith(".bin") else save_file(tensors, folder / name)
    assert torch.equal(read(folder).clip.visual.proj, tensors["visual.proj"])


def test_nothing_is_asked_of_the_network(written: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("somebody asked the network")

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(socket.socket, "connect", refused)
    read(written)
    open_clip_files.check_length(["a face"], 12, "x/y")
    with pytest.raises(CheckpointError, match="is not a folder of open_clip"):
        read(written / "nowhere")


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (
        lambda at: (at / WEIGHTS[0]).unlink(),
        rf"is not a folder of open_clip: it has no {WEIGHTS[0]}; give one with {CONFIG} and {WEIGHTS[0]}",
    ),
    "no config": (lambda at: (at / CONFIG).unlink(), rf"is not a folder of open_clip: it has no {CONFIG}"),
    "half a config": (lambda at: (at / CONFIG).write_text("{"), rf"{CONFIG} is damaged \(.*\); fetch it again"),
    "a config of bytes": (lambda at: (at / CONFIG).write_bytes(b"\xff\xfe"), rf"{CONFIG} is damaged \(.*\); fetch it again"),
    "no model": (lambda at: (at / CONFIG).write_text("{}"), rf"{CONFIG} is damaged \('model_cfg'\); fetch it again"),
    "a list": (lambda at: (at / CONFIG).write_text("[]"), rf"{CONFIG} is damaged \(.*\); fetch it again"),
    "a model of text": (lambda at: (at / CONFIG).write_text('{"model_cfg": "ViT"}'), r"is damaged \(model_cfg is no mapping\)"),
    "an unknown key": (lambda at: (at / CONFIG).write_text(json.dumps({"model_cfg": {**MODEL, "depth": 3}})), r"describes no CLIP that open_clip makes \(.*depth"),
    "no towers": (lambda at: (at / CONFIG).write_text('{"model_cfg": {"embed_dim": 8}}'), r"describes no CLIP that open_clip makes \(.*vision_cfg"),
    "truncated": (lambda at: (at / WEIGHTS[0]).write_bytes((at / WEIGHTS[0]).read_bytes()[:900]), "is damaged or not a file of weights"),
    "empty": (lambda at: (at / WEIGHTS[0]).write_bytes(b""), "is damaged or not a file of weights"),
    "another width": (
        lambda at: (at / CONFIG).write_text(json.dumps({"model_cfg": {**MODEL, "embed_dim": 4}})),
        r"does not fit CLIP \(\d+ tensors\); 2 of another shape: text_projection \(16, 8\) instead of \(16, 4\), visual\.proj",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), SPOILT.values(), ids=list(SPOILT))
def test_a_wrong_folder_is_told(spoil: Callable[[Path], object], message: str, folder: Path):
    spoil(folder)
    with pytest.raises(CheckpointError, match=message) as raised:
        read(folder)
    assert str(folder) in str(raised.value)


def test_tensors_that_do_not_fit_are_named(written: Path, tmp_path: Path):
    tensors = load_file(written / WEIGHTS[0])
    tensors.pop("visual.proj")
    save_file({**tensors, "bias": torch.zeros(1)}, tmp_path / "clip.safetensors")
    with pytest.raises(CheckpointError, match=r"1 missing: visual\.proj; 1 unexpected: bias\. Is it the checkpoint of this model\?"):
        read(tmp_path / "clip.safetensors")


def test_files_of_other_kinds(tmp_path: Path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"does not fit CLIP \(\d+ tensors\); \d+ missing: .*; 1 unexpected: weight"):
        read(tmp_path / "other.safetensors")
    (tmp_path / "clip.txt").write_text("no weights")
    with pytest.raises(CheckpointError, match=r"is not a file of weights that can be read; expected .safetensors"):
        read(tmp_path / "clip.txt")
    torch.save({"state_dict": {"weight": torch.zeros(2)}, "args": argparse.Namespace(rate=1)}, tmp_path / "clip.pt")
    with pytest.raises(CheckpointError, match=r"holds Python objects beside its tensors.*objects are never loaded"):
        read(tmp_path / "clip.pt")


def test_texts_that_are_too_long(written: Path):
    open_clip_files.check_length(["a face", "a face that is sad"], 7, "x/y")
    with pytest.raises(ConfigError, match=r"x/y: CLIP reads texts of at most 6 tokens, and 'a face that is sad'... has 7; shorten it"):
        open_clip_files.check_length(["a face", "a face that is sad"], 6, "x/y")
