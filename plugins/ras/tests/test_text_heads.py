"""Heads of ras/text whose header is damaged."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affectkit_ras import tiny_text
from affectkit_ras.text_models import TextOptions
from click.testing import CliRunner

from affectkit.cli import cli
from affectkit.testing.media import make_wav
from affectkit.weight_files import load_tensors, metadata, save_tensors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{", "'settings' in its header is no JSON object"),
        ("[]", "'settings' in its header is no JSON object"),
        ({"labels": None}, "labels: expected a list, each text, found null"),
        ({"labels": [1]}, r"labels\.0: expected text, found 1"),
        ({"temperature": "hot"}, "temperature: expected a number, found 'hot'"),
        ({"temperature": 0}, "temperature must be a number above 0, found 0"),
        ({"temperature": float("inf")}, "temperature must be a number above 0, found inf"),
        ({"width": None}, "width: expected a whole number, found null"),
        ({"hidden": -1}, "hidden must be at least 0, found -1"),
        ({"max_length": "long"}, "max_length: expected a whole number, found 'long'"),
    ],
)
def test_a_damaged_header_is_told_before_the_run(change: str | dict[str, Any], message: str, tmp_path: Path):
    """Its labels are asked for when the run is planned."""
    clip = tiny_text.write_clip(tmp_path / "clip")
    path = tiny_text.write_head(tmp_path / "head.safetensors", TextOptions(encoder="clip", clip=str(clip)), "ras/text")
    said = change if isinstance(change, str) else json.dumps({**json.loads(metadata(path)["settings"]), **change})
    save_tensors(path, load_tensors(path), {"settings": said})
    make_wav(tmp_path / "talk.wav", np.zeros(16000))
    given = [f"components.ras/text.{key}={value}" for key, value in {"encoder": "clip", "clip": clip, "head": path}.items()]
    command = ["run", str(tmp_path / "talk.wav"), "--plugins", "ras/text", "--dry-run", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(cli, [*command, *(word for text in given for word in ("--set", text))])
    assert done.exit_code == 2, done.output
    assert re.search(f"{path}.*{message}", done.output.replace("\n", " "))
