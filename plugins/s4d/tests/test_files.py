"""The authors' layouts and ours: loaded strictly, safely, and refused with a sentence where they are something else."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from affectkit_s4d import files
from affectkit_s4d.model import S4D, Sizes
from affectkit_s4d.pretraining import MaskedAutoencoder

from affectkit.api import CheckpointError
from affectkit.labels import DFEW7, MAFW11
from affectkit.weight_files import load_tensors, save_tensors

from .conftest import SMALL, small

ID = "s4d/face_dynamic"
LARGER = Sizes(**{**SMALL.to_mapping(), "side": 160, "frames": 16, "heads": 1})  # what a file without sizes is taken for
ARGUMENTS = argparse.Namespace(
    data_set="MAFW", sampling_rate=4, top_k=2, capacity_factor=1.5, model="vitmoe", betas=(0.9, 0.999), resume=None
)


def authors(path: Path, network: torch.nn.Module, args: object = ARGUMENTS, **more: Any) -> Path:
    """A file as the authors' trainer writes it."""
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3)
    network(torch.zeros(1, 3, 160, 160)).logits.sum().backward()
    optimiser.step()
    torch.save(
        {"model": network.state_dict(), "optimizer": optimiser.state_dict(), "epoch": 3, "scaler": {"scale": 2.0}, "args": args, **more},
        path,
    )
    return path


def pretrained(key: str | None, prefix: bool = True) -> dict[str, Any]:
    state = dict(MaskedAutoencoder(LARGER, width=16, depth=1, heads=2).state_dict())
    if not prefix:
        state = {name.removeprefix("encoder."): value for name, value in state.items() if name.startswith("encoder.")}
    return state if key is None else {key: state, "epoch": 99, "args": ARGUMENTS}


class Harmful:
    """Something that a pickle would run: it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.mark), "w"))


def test_a_file_of_the_authors_loads_strictly(tmp_path: Path) -> None:
    network = S4D(Sizes(**{**LARGER.to_mapping(), "video": 11}))
    stored = files.read(authors(tmp_path / "checkpoint-best.pth", network), ID)
    assert (stored.kind, stored.labels, stored.rate) == ("fine-tuned", MAFW11, 6.25)
    loaded = files.fine_tuned(stored, ID)
    assert not loaded.training
    wanted = network.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in loaded.state_dict().items())
    assert loaded.blocks[1].moe_layer.capacity is None
    released = files.fine_tuned(stored, ID, released_behaviour=True)
    assert released.blocks[1].moe_layer.capacity == 1.5
    assert released.blocks[1].moe_layer.noisy


@pytest.mark.parametrize(
    ("name", "labels"), [("DFEW", "dfew7"), ("FERV39K", "ferv39k7"), ("FERV39k_all", "ferv39k7"), ("MAFW", "mafw11"), ("CREMA", None)]
)
def test_label_sets_by_the_names_of_the_arguments(name: str, labels: str | None) -> None:
    found = files.labels_of({}, {"data_set": name})
    assert (None if found is None else found.name) == labels


@pytest.mark.parametrize("key", [None, "model", "module"])
@pytest.mark.parametrize("prefix", [True, False])
def test_a_pretrained_file_is_where_a_fine_tuning_begins(tmp_path: Path, key: str | None, prefix: bool) -> None:
    """In each of its layouts; experts, heads and last norm keep the numbers that they began with."""
    path = tmp_path / "vit_base.pt"
    content = pretrained(key, prefix)
    torch.save(content, path)
    stored = files.read(path, ID)
    assert stored.kind == "pre-trained"
    network = S4D(LARGER)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    files.begin(network, stored, ID)
    after, given = network.state_dict(), content if key is None else content[key]
    fresh = {name for name in after if torch.equal(after[name], before[name])}
    assert {name for name in fresh if not name.startswith(("head.", "fc_norm.")) and ".moe_layer." not in name} == {
        name for name in fresh if name.endswith((".bias", "q_bias", "v_bias", "norm1.weight", "norm2.weight")) and ".moe_layer." not in name
    } - {"fc_norm.bias", "fc_norm.weight", "head.video.bias", "head.image.bias"}
    inner = "encoder." if prefix else ""
    assert torch.equal(after["blocks.2.attn.qkv.weight"], given[f"{inner}blocks.2.attn.qkv.weight"])
    assert torch.equal(after["patch_embed.proj.weight"], given[f"{inner}patch_embed.proj.weight"])


def test_a_pretrained_file_is_refused_where_a_fine_tuned_one_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "vit_base_voxceleb2+affectnet_100.pt"
    torch.save(pretrained("model"), path)
    with pytest.raises(
        CheckpointError,
        match=r"is a pre-trained file, which says no expressions yet.*affectkit train s4d/face_dynamic --set options\.start=",
    ):
        files.fine_tuned(files.read(path, ID), ID)


def test_a_fine_tuned_file_begins_another_fine_tuning_without_its_heads(tmp_path: Path) -> None:
    path = tmp_path / "face_dynamic.safetensors"
    save_tensors(
        path, small().state_dict(), {"settings": json.dumps({"labels": DFEW7.labels, "label_set": "dfew7", "sizes": SMALL.to_mapping()})}
    )
    network = S4D(Sizes(**{**SMALL.to_mapping(), "video": 11}))
    stored = files.read(path, ID)
    files.begin(network, stored, ID)
    assert network.head["video"].weight.shape[0] == 11
    assert torch.equal(
        network.blocks[2].moe_layer.router.topkroute_linear.weight, stored.tensors["blocks.2.moe_layer.router.topkroute_linear.weight"]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {n: v for n, v in s.items() if n != "blocks.1.norm1.bias"}, r"1 missing: blocks\.1\.norm1\.bias"),
        (lambda s: {**s, "blocks.1.extra": torch.zeros(1)}, r"1 unexpected: blocks\.1\.extra"),
        (lambda s: {**s, "blocks.0.mlp.fc2.bias": torch.zeros(5)}, r"blocks\.0\.mlp\.fc2\.bias \(5,\) instead of \(32,\)"),
        (
            lambda s: {"conv1.weight": torch.zeros(3), "head.weight": torch.zeros(7, 3)},
            r"no weights of S4D.*none of its 2 tensors is patch_embed",
        ),
        (lambda s: {n: v for n, v in s.items() if "fc1" not in n}, "no weights of S4D"),
    ],
)
def test_files_of_other_networks_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    for path, write in (
        (tmp_path / "a.safetensors", lambda p, s: save_tensors(p, s, {"settings": json.dumps({"sizes": SMALL.to_mapping()})})),
        (tmp_path / "a.pth", lambda p, s: torch.save({"model": s}, p)),
    ):
        write(path, change(dict(small().state_dict())))
        with pytest.raises(CheckpointError, match=f"^{ID}: .*{message}"):
            files.fine_tuned(files.read(path, ID), ID)


def test_weights_of_the_embedded_network_are_refused(tmp_path: Path) -> None:
    from importlib.resources import files as resources

    path = Path(str(resources("affectkit_mini") / "weights" / "face_dynamic.safetensors"))
    assert load_tensors(path)
    with pytest.raises(CheckpointError, match="no weights of S4D"):
        files.read(path, ID)


def test_python_objects_other_than_arguments_are_never_made(tmp_path: Path) -> None:
    path, mark = tmp_path / "bad.pth", tmp_path / "was_here"
    network = S4D(LARGER)
    for args in (Harmful(mark), argparse.Namespace(hook=Harmful(mark))):
        with pytest.raises(CheckpointError, match=r"holds Python objects beside its tensors \(_?io\.open\); objects are never loaded"):
            files.read(authors(path, network, args=args), ID)
    assert not mark.exists()
    with pytest.raises(CheckpointError, match="objects are never loaded"):
        load_tensors(authors(path, network))  # elsewhere a Namespace is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"top_k": 5}, r"bad\.pth does not fit: top_k must be from 1 to the 4 experts, found 5"), ({}, None)],
)
def test_arguments_that_do_not_fit(tmp_path: Path, arguments: dict[str, int], message: str | None) -> None:
    """Where they say no capacity, or that there is none, it is the published one."""
    given = argparse.Namespace(capacity_factor=None, **arguments)
    stored = files.read(authors(tmp_path / "bad.pth", S4D(LARGER), args=given), ID)
    if message is None:
        assert files.fine_tuned(stored, ID, released_behaviour=True).blocks[1].moe_layer.capacity == 1.0
    else:
        with pytest.raises(CheckpointError, match=f"^{ID}: .*{message}"):
            files.fine_tuned(stored, ID)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (b"not a file of weights", "damaged"),
        ({"model": {}, "epoch": 3}, "holds no tensors by name"),
        ([1, 2], "holds no tensors by name"),
    ],
)
def test_files_that_are_none(tmp_path: Path, content: bytes | Mapping[str, Any], message: str) -> None:
    path = tmp_path / "bad.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(CheckpointError, match=f"^{ID}: .*{message}"):
        files.read(path, ID)
    with pytest.raises(CheckpointError, match=f"^{ID}: there is no file of weights"):
        files.read(tmp_path / "gone.pt", ID)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sizes": {**SMALL.to_mapping(), "side": "x"}}, r"sizes\.side: expected a whole number, found 'x'"),
        ({"sizes": {"side": 0}}, r"sizes must not be negative, and side not 0, found \{'side': 0"),
        ({"sizes": [32]}, r"sizes: expected .*, found \[32\]"),
        ({"temperature": 0}, "temperature must be a number above 0, found 0"),
        ({"temperature": "warm"}, "temperature: expected a number, found 'warm'"),
        ({"rate": -1.0}, r"rate must be a number above 0, found -1\.0"),
        ({"labels": "joy"}, "labels: expected a list, each text, found 'joy'"),
        ({"labels": ["joy", "joy"]}, "label set 'dfew7' names joy twice"),
    ],
)
def test_headers_that_cannot_be(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    path = tmp_path / "odd.safetensors"
    header = {"labels": DFEW7.labels, "label_set": "dfew7", "sizes": SMALL.to_mapping(), **settings}
    save_tensors(path, small().state_dict(), {"settings": json.dumps(header)})
    with pytest.raises(CheckpointError, match=rf"^{ID}: the header of .*odd\.safetensors says what cannot be: {message}"):
        files.read(path, ID)


def test_sizes_of_the_input_are_those_of_the_arguments(tmp_path: Path) -> None:
    """Where they are whole numbers; as published where the file does not say so."""
    network = S4D(LARGER)
    given = argparse.Namespace(input_size=224, num_frames=8)
    sizes = files.fine_tuned(files.read(authors(tmp_path / "larger.pth", network, args=given), ID), ID).sizes
    assert (sizes.side, sizes.frames) == (224, 8)
    odd = argparse.Namespace(input_size="large", num_frames=None)
    sizes = files.fine_tuned(files.read(authors(tmp_path / "odd.pth", network, args=odd), ID), ID).sizes
    assert (sizes.side, sizes.frames) == (160, 16)
