"""Folders of transformers: what is read, and what is said of every kind of wrong one. Each folder is written by the library itself."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from affectkit import pretrained, weight_files
from affectkit.errors import CheckpointError

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b")
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT with its tokenizer."""
    folder = tmp_path_factory.mktemp("bert")
    given = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, max_position_embeddings=16
    )
    with pretrained.quiet():
        weight_files.random_network(lambda: transformers.BertModel(given)).save_pretrained(folder)
        transformers.BertTokenizer(vocab={word: place for place, word in enumerate(WORDS)}).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(written, tmp_path / "bert"))


def load(folder: Path, **given: Any) -> Any:
    return pretrained.load(transformers.BertModel, folder, "x/y", **given)


def test_a_model_is_read_for_use_alone(written: Path):
    model = load(written)
    assert not model.training
    assert not any(value.requires_grad for value in model.parameters())
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    for name, value in load_file(written / WEIGHTS).items():
        assert torch.equal(model.state_dict()[name], value), name
    assert load(written, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_nothing_is_asked_of_the_network(written: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("somebody asked the network")

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(socket.socket, "connect", refused)
    load(written)
    assert pretrained.tokenizer(written, "x/y")("a b")["input_ids"] == [2, 5, 6, 3]
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="is damaged or of another kind than BertModel reads"):
        load(folder)


def test_what_transformers_prints_is_as_before(written: Path, capfd: pytest.CaptureFixture[str]):
    logging = transformers.utils.logging
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load(written)
    with pytest.raises(CheckpointError):
        load(written / "nowhere")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")


def changed(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    return folder


MIDDLE, OUT = "encoder.layer.0.output.dense.bias", "encoder.layer.0.intermediate.dense.weight"
UNFIT = {
    "missing": (lambda tensors: tensors.pop(MIDDLE), f"1 tensors missing: {MIDDLE}"),
    "left over": (
        lambda tensors: tensors.update({f"more.{n}": torch.zeros(1) for n in range(7)}),
        "7 tensors left over: more.0, .* and 2 more",
    ),
}


@pytest.mark.parametrize(("change", "message"), UNFIT.values(), ids=list(UNFIT))
def test_tensors_that_do_not_fit_are_named(change: Callable[[Any], object], message: str, folder: Path):
    with pytest.raises(CheckpointError, match=rf"x/y: .*bert does not fit BertModel; {message}\. Is it the checkpoint of this model\?"):
        load(changed(folder, change))


def test_tensors_of_another_shape(folder: Path):
    changed(folder, lambda tensors: tensors.update({OUT: torch.zeros(9, 8)}))
    with pytest.raises(CheckpointError, match=rf"does not fit BertModel; 1 tensors of another shape: {OUT}\."):
        load(folder, ignore_mismatched_sizes=True)
    with pytest.raises(CheckpointError, match="is damaged or of another kind than BertModel reads"):
        load(folder)


def test_tensors_that_may_be_there_beside_the_model(folder: Path):
    changed(folder, lambda tensors: tensors.update({"head.weight": torch.zeros(1), "embeddings.position_ids": torch.arange(16)[None]}))
    with pytest.raises(CheckpointError, match=r"1 tensors left over: head\.weight\."):
        load(folder)
    load(folder, unused=(r"^head\.",))


def test_weights_of_another_architecture(folder: Path, tmp_path: Path):
    given = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=16, patch_size=8
    )
    other = tmp_path / "vit"
    with pretrained.quiet():
        weight_files.random_network(lambda: transformers.ViTModel(given)).save_pretrained(other)
    shutil.copy(other / WEIGHTS, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"does not fit BertModel; \d+ tensors missing: .*; \d+ tensors left over: "):
        load(folder)


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda at: (at / WEIGHTS).write_bytes((at / WEIGHTS).read_bytes()[:3000]), "is damaged or of another kind than BertModel reads"),
    "empty": (lambda at: (at / WEIGHTS).write_bytes(b""), "is damaged or of another kind than BertModel reads"),
    "no weights": (lambda at: (at / WEIGHTS).unlink(), "is damaged or of another kind than BertModel reads"),
    "no config": (lambda at: (at / "config.json").unlink(), "is not the folder of a model: it has no config.json"),
    "half a config": (lambda at: (at / "config.json").write_text('{"hidden'), r"config\.json is damaged \(.*\); fetch it again"),
    "a config of bytes": (lambda at: (at / "config.json").write_bytes(b"\xff\xfe\x00"), r"config\.json is damaged \(.*\); fetch it again"),
    "a list": (lambda at: (at / "config.json").write_text("[1]"), r"config\.json is damaged \(no mapping\); fetch it again"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), SPOILT.values(), ids=list(SPOILT))
def test_a_damaged_folder_is_told(spoil: Callable[[Path], object], message: str, folder: Path):
    spoil(folder)
    with pytest.raises(CheckpointError, match=rf"^x/y: .*bert.*{message}") as raised:
        load(folder)
    assert "\n" not in str(raised.value)


def test_a_file_is_not_a_folder(written: Path):
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not the folder of a model: it has no config\.json"):
        load(written / WEIGHTS)


def test_objects_in_a_file_of_weights_are_never_built(folder: Path):
    import argparse

    torch.save({**load_file(folder / WEIGHTS), "args": argparse.Namespace(rate=1)}, folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="is damaged or of another kind than BertModel reads"):
        load(folder)


def test_other_files_of_a_folder(written: Path):
    assert pretrained.config(written, "x/y")["model_type"] == "bert"
    with pytest.raises(CheckpointError, match=r"x/y: .* is not the folder of a model: it has no preprocessor_config\.json"):
        pretrained.config(written, "x/y", "preprocessor_config.json")


def test_a_folder_without_words(folder: Path):
    for name in pretrained.VOCABULARIES:
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match=r"has no tokenizer \(tokenizer\.json, vocab\.json, vocab\.txt\); fetch it again"):
        pretrained.tokenizer(folder, "x/y")


def test_words_that_are_damaged(folder: Path):
    (folder / "tokenizer.json").write_text(json.dumps({"model": {}})[:9])
    with pytest.raises(
        CheckpointError, match=r"is damaged or of another kind than a tokenizer reads \(.*\); fetch it again, or give another folder"
    ):
        pretrained.tokenizer(folder, "x/y")
