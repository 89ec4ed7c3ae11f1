"""Headers of files of weights: read as options are, or refused in a sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from affectkit import headers
from affectkit.api import BASIC7, CheckpointError, ConfigError
from affectkit.labels import VA
from affectkit.weight_files import save_tensors


@dataclass(frozen=True, kw_only=True)
class Own(headers.Header):
    """A header with a number of its own."""

    width: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 1:
            raise ConfigError(f"width must be at least 1, found {self.width}")


def write(path: Path, **header: str) -> Path:
    save_tensors(path, {"a": torch.zeros(1)}, header)
    return path


def test_a_key_of_a_header_is_a_mapping(tmp_path: Path) -> None:
    assert headers.mapping(write(tmp_path / "a.safetensors")) == {}
    assert headers.mapping(write(tmp_path / "a.safetensors", settings='{"size": 3}')) == {"size": 3}
    assert headers.mapping(write(tmp_path / "a.safetensors", record='{"by": "us"}'), "record") == {"by": "us"}
    for text in ("{", "[1]", '"text"'):
        with pytest.raises(CheckpointError, match=r"a\.safetensors: 'record' in its header is no JSON object"):
            headers.mapping(write(tmp_path / "a.safetensors", record=text), "record")
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pt")
    assert headers.mapping(tmp_path / "a.pt") == {}
    with pytest.raises(CheckpointError, match=r"b\.safetensors"):
        headers.mapping(tmp_path / "b.safetensors")


def test_what_is_known_is_checked_and_what_is_not_is_kept(tmp_path: Path) -> None:
    said = {"labels": list(BASIC7.labels), "label_set": "basic7", "temperature": 2, "width": 3, "other": [None]}
    assert headers.settings(write(tmp_path / "a.safetensors", settings=json.dumps(said)), Own, "x/y") == said


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"temperature": 0}, "temperature must be a number above 0, found 0.0"),
        ({"temperature": float("nan")}, "temperature must be a number above 0, found nan"),
        ({"temperature": True}, "temperature: expected a number, found true"),
        ({"labels": "joy"}, "labels: expected a list, each text, found 'joy'"),
        ({"labels": ["joy", "joy"]}, "label set 'labels' names joy twice"),
        ({"width": 0}, "width must be at least 1, found 0"),
        ({"width": 1.5, "label_set": 3}, "width: expected a whole number, found 1.5.*; label_set: expected text, found 3"),
    ],
)
def test_what_cannot_be_is_refused(said: Mapping[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", settings=json.dumps(said))
    wanted = rf"^x/y: the header of .*a\.safetensors says what cannot be: {message}.*; give a file as 'affectkit train x/y' wrote it$"
    with pytest.raises(CheckpointError, match=wanted):
        headers.settings(path, Own, "x/y")


def test_label_sets_are_known_by_name_and_order() -> None:
    assert headers.label_set("basic7", list(BASIC7.labels)) is BASIC7
    other = headers.label_set("basic7", BASIC7.labels[::-1])
    assert (other.name, other.labels) == ("basic7", BASIC7.labels[::-1])
    assert headers.label_set("mine", ("calm", "tense"), "continuous", -1.0, 1.0).low == -1.0
    assert headers.label_set("va", VA.labels) is VA
