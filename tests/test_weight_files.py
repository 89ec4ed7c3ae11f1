"""Files of weights: the tensors in them, what lies beside them, and networks that take them."""

from __future__ import annotations

import os
import pickle
from argparse import Namespace
from typing import Any

import pytest
import torch

from affectkit import checkpoints, weight_files
from affectkit.errors import CheckpointError
from affectkit.needs import Checkpoint


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.randn(3, 2), "a.bias": torch.zeros(3), "n": torch.tensor(5)}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_save_and_load(tmp_path, tensors):
    path = tmp_path / "new" / "a.safetensors"
    tied = tensors | {"tied": tensors["a.weight"], "view": tensors["a.weight"].T}
    weight_files.save_tensors(path, tied, {"seed": "1"})
    assert same(weight_files.load_tensors(path), tied)
    assert weight_files.metadata(path) == {"seed": "1"}
    weight_files.save_tensors(path, tensors)
    assert same(weight_files.load_tensors(path), tensors)
    assert weight_files.metadata(path) == {}
    assert os.listdir(path.parent) == ["a.safetensors"]


def test_the_same_tensors_are_the_same_file(tmp_path, tensors):
    header = {name: "\u00e4 " * count for count, name in enumerate("gfedcba")}
    for _ in range(5):
        weight_files.save_tensors(tmp_path / "a.safetensors", tensors, header)
        weight_files.save_tensors(tmp_path / "b.safetensors", tensors, dict(reversed(header.items())))
        assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert weight_files.metadata(tmp_path / "a.safetensors") == header
    assert same(weight_files.load_tensors(tmp_path / "a.safetensors"), tensors)


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, tensors):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written: "):
        weight_files.save_tensors(tmp_path / "file" / "a.safetensors", tensors)


@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("suffix", weight_files.TORCH_SUFFIXES)
def test_torch_files(tmp_path, tensors, key, suffix):
    path = tmp_path / f"a{suffix}"
    torch.save({key: tensors, "epoch": 3} if key else tensors, path)
    assert same(weight_files.load_tensors(path), tensors)


class Evil:
    """Makes a file where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("owned", "w"))


def test_objects_are_never_built(tmp_path, monkeypatch, tensors):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": tensors, "x": Evil()}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Evil()))
    for name, what in (("a.pt", r" \(_?io\.open\)"), ("b.pt", ", or is damaged")):
        with pytest.raises(CheckpointError, match=f"{name} holds Python objects beside its tensors{what}; objects are never loaded"):
            weight_files.load_tensors(tmp_path / name)
    assert not (tmp_path / "owned").exists()


def test_what_lies_beside_the_tensors(tmp_path, tensors):
    """Classes that are allowed are built, and no others, also inside them."""
    path = tmp_path / "a.pt"
    torch.save({"module": tensors, "epoch": 3, "args": Namespace(rate=0.1)}, path)
    with pytest.raises(CheckpointError, match=r"holds Python objects beside its tensors \(argparse\.Namespace\); objects are never loaded"):
        weight_files.load_tensors(path)
    found, beside = weight_files.load_saved(path, [Namespace])
    assert same(found, tensors)
    assert beside == {"epoch": 3, "args": Namespace(rate=0.1)}
    with pytest.raises(CheckpointError, match="objects are never loaded"):
        weight_files.load_saved(path)
    torch.save({"module": tensors, "args": Namespace(hook=Evil())}, path)
    with pytest.raises(CheckpointError, match=r"\(_?io\.open\); objects are never loaded"):
        weight_files.load_saved(path, [Namespace])
    torch.save(tensors, path)
    weight_files.save_tensors(tmp_path / "a.safetensors", tensors)
    for plain in (path, tmp_path / "a.safetensors"):
        found, beside = weight_files.load_saved(plain)
        assert same(found, tensors)
        assert beside == {}


def test_damaged_files(tmp_path, tensors):
    whole = tmp_path / "whole.pt"
    torch.save(tensors, whole)
    safe = tmp_path / "whole.safetensors"
    weight_files.save_tensors(safe, tensors)
    for name, content in (
        ("empty.pt", b""),
        ("half.pt", whole.read_bytes()[:500]),
        ("empty.safetensors", b""),
        ("half.safetensors", safe.read_bytes()[:-4]),
        ("page.safetensors", b"<html>404</html>"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{name} (is damaged or not a file of weights|holds Python objects)"):
            weight_files.load_tensors(tmp_path / name)
    with pytest.raises(CheckpointError, match="is damaged or not a file of weights"):
        weight_files.metadata(tmp_path / "empty.safetensors")
    with pytest.raises(CheckpointError, match="there is no file of weights at"):
        weight_files.metadata(tmp_path / "gone.safetensors")


def test_other_files(tmp_path, tensors):
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"holds no tensors by name, alone or under state_dict.*; it holds keys epoch, lr"):
        weight_files.load_tensors(tmp_path / "a.pt")
    torch.save(torch.zeros(3), tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match="it holds Tensor"):
        weight_files.load_tensors(tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match="there is no file of weights at"):
        weight_files.load_tensors(tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=r"c\.onnx is not a file of weights that can be read; expected \.safetensors, \.pt"):
        weight_files.load_tensors(tmp_path / "c.onnx")


def test_load_strict(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    state = {name: torch.full_like(tensor, 2) for name, tensor in module.state_dict().items()}
    weight_files.load_strict(module, state, tmp_path / "a.safetensors")
    assert same(module.state_dict(), state)


def test_load_strict_lists_what_does_not_fit(tmp_path):
    module = torch.nn.Linear(2, 3)
    wrong = {"weight": torch.zeros(3, 4)} | {f"layer.{i}": torch.zeros(1) for i in range(7)}
    with pytest.raises(CheckpointError) as error:
        weight_files.load_strict(module, wrong, tmp_path / "a.safetensors")
    assert str(error.value) == (
        f"{tmp_path / 'a.safetensors'} does not fit Linear (2 tensors); 1 missing: bias; "
        "7 unexpected: layer.0, layer.1, layer.2, layer.3, layer.4 and 2 more; "
        "1 of another shape: weight (3, 4) instead of (3, 2). Is it the checkpoint of this model?"
    )


def test_random_weights_say_so_in_every_format(tmp_path, tensors):
    random, real = {"licence": weight_files.RANDOM}, {"licence": "MIT"}
    for header, expected in ((random, True), (real, False)):
        folder = tmp_path / str(expected)
        weight_files.save_tensors(folder / "a.safetensors", tensors, header)
        weight_files.save_torch(folder / "a.pt", header | {"model_state_dict": tensors})
        for path in (folder / "a.safetensors", folder / "a.pt", folder):
            assert weight_files.is_random(path) is expected
            record = checkpoints.record(Checkpoint(str(path), licence="as given"), path)
            assert record["licence"] == (weight_files.RANDOM if expected else "as given")
        assert same(weight_files.load_tensors(folder / "a.pt"), tensors)
    assert not weight_files.is_random(tmp_path / "gone")


def test_random_networks_are_the_same_each_time_and_move_nothing_else():
    before = torch.get_rng_state()
    first, second = (weight_files.random_network(lambda: torch.nn.Linear(4, 3)).state_dict() for _ in range(2))
    other = weight_files.random_network(lambda: torch.nn.Linear(4, 3), seed=1).state_dict()
    assert same(first, second)
    assert not same(first, other)
    assert torch.equal(torch.get_rng_state(), before)
