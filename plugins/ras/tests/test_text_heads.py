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

from affectkit.checkpoints import load_tensors, metadata, save_tensors
from affectkit.cli import cli
from affectkit.testing.media import make_wav


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{", "settings in its header are no JSON object"),
        ("[]", "settings in its header are no JSON object"),
        ({"labels": None}, "says labels=None, expected a list of text"),
        ({"labels": [1]}, r"says labels=\[1\], expected a list of text"),
        ({"temperature": "hot"}, "says temperature='hot', expected a number above 0"),
        ({"temperature": 0}, "says temperature=0, expected a number above 0"),
        ({"temperature": float("inf")}, "says temperature=inf, expected a number above 0"),
        ({"width": None}, "says width=None, expected a whole number from 1"),
        ({"hidden": -1}, "says hidden=-1, expected a whole number from 0"),
        ({"max_length": "long"}, "says max_length='long', expected a whole number from 4"),
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
