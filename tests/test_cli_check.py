"""The command line: ``affectkit plugins check``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from affectkit.cli import cli

PLUGIN = '''
"""A plugin of three modalities, of which one breaks a promise and one needs weights."""
from dataclasses import dataclass
from affectkit.api import BASIC7, Audio, Checkpoint, Modality, Needs, Output, hookimpl

class Even(Modality):
    """Says the same of everything."""
    name = "even"
    labels = BASIC7
    needs = Needs(audio=Audio(1000))

    def preprocess(self, clip):
        import torch
        return None if clip.audio is None else {"x": torch.from_numpy(clip.audio.copy())}

    def predict(self, batch):
        import torch
        print("predicting")
        return Output({BASIC7: torch.full((len(batch["x"]), 7), 1 / 7)})

class Gain(Even):
    """Says it louder."""
    name = "gain"

    @dataclass(frozen=True)
    class Options:
        gain: float = 2.0

    def predict(self, batch):
        return Output({BASIC7: super().predict(batch).values[BASIC7] * self.options.gain})

class Away(Even):
    """Needs weights."""
    name = "away"
    checkpoints = {"main": Checkpoint("https://example.invalid/x.safetensors", sha256="0" * 64, licence="MIT", source="x.py")}

@hookimpl
def affectkit_modalities():
    return [Even, Gain, Away]
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of plugins: one that works, one that cannot be imported."""
    (tmp_path / "acme.py").write_text(PLUGIN)
    (tmp_path / "bad.py").write_text("import package_that_is_not_there\n")
    return tmp_path


def check(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["--plugins-dir", str(folder), "plugins", "check", *arguments], terminal_width=200)


def test_one_line_per_check_and_a_summary(folder: Path) -> None:
    result = check(folder, "acme")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert [line for line in lines if line and not line.startswith(" ")] == [
        "acme",
        "acme/away",
        "acme/even",
        "acme/gain",
        "acme: 3 components, 40 ok, 1 broken, 17 cannot be checked here",
    ]
    assert lines[:2] == ["acme", "  ok                 light listing"]
    broken = [line for line in lines if line.startswith("  broken")]
    assert len(broken) == 1
    assert broken[0].startswith("  broken             rows sum to one: rows of 'basic7' must sum to 1, found one that sums to 2;")
    unchecked = [line for line in lines if line.startswith("  cannot be checked")]
    assert "loads: acme/away: the weights x.safetensors are not here" in unchecked[0]
    assert "affectkit weights fetch acme/away" in unchecked[0]
    assert {line.partition(": ")[2] for line in unchecked[1:]} == {"as above"}
    assert "predicting" not in result.stdout  # what components print goes to standard error


def test_single_components_and_options(folder: Path) -> None:
    assert check(folder, "acme/even").exit_code == 0
    assert check(folder, "acme/gain").exit_code == 1
    fixed = check(folder, "acme/gain", "acme/even", "acme/gain", "--set", "components.acme/gain.gain=1.0")
    assert fixed.exit_code == 0
    assert fixed.stdout.splitlines()[-1] == "acme: 2 components, 38 ok, 0 broken, 0 cannot be checked here"


def test_options_of_a_recipe(folder: Path) -> None:
    recipe = folder / "mine.yaml"
    recipe.write_text("modalities: [acme]\ncomponents:\n  acme/gain: {gain: 1.0, batch_size: 4}\n  far/away: {x: 1}\n")  # not checked here
    assert check(folder, "acme/gain", "--recipe", str(recipe)).exit_code == 0
    assert check(folder, "acme/gain", "--recipe", str(recipe), "--set", "components.acme/gain.gain=3.0").exit_code == 1


def test_json(folder: Path) -> None:
    result = check(folder, "acme", "bad", "--json")
    assert result.exit_code == 1
    acme, bad = json.loads(result.stdout)
    assert acme["counts"] == {"ok": 40, "broken": 1, "unchecked": 17}
    assert acme["failure"] is None
    assert [c["component"] for c in acme["checks"] if c["state"] == "broken"] == ["acme/gain"]
    assert acme["checks"][0] == {"component": "acme", "check": "light listing", "state": "ok", "reason": ""}
    assert bad["failure"]["stage"] == "import"
    assert bad["failure"]["remedy"] == "Install the package that provides package_that_is_not_there, or leave it out with -p no:bad."
    assert bad["checks"] == []


def test_a_plugin_that_cannot_be_loaded_is_told_with_its_remedy(folder: Path) -> None:
    result = check(folder, "bad")
    assert result.exit_code == 1
    assert result.stdout == (
        "bad: cannot be loaded, failed at import: importing bad.py raised ModuleNotFoundError: No module named 'package_that_is_not_there'. "
        "Install the package that provides package_that_is_not_there, or leave it out with -p no:bad. "
        "The full story: affectkit plugins show bad\n"
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["acmee"], "no plugin is called 'acmee'. Did you mean acme?"),
        (["acme/evem"], "there is no component 'acme/evem'. Did you mean acme/even?"),
        (["acmee", "acme/evem"], "2 problems"),
        (["acme", "-p", "no:acme"], "plugin acme is blocked and cannot be checked; leave out -p no:acme"),
        (["acme", "--set", "components.acme/gain.gian=1"], "unknown key. Did you mean gain?"),
        (["acme", "--set", "components.acme/gian.gain=1"], "there is no component 'acme/gian'. Did you mean acme/gain?"),
        (["acme", "--set", "components.acme/gain=1"], "components.acme/gain: write --set components.acme/gain.OPTION=VALUE"),
        (["acme", "--set", "fusion=core/mean"], "--set fusion: only options of components can be set"),
        (["acme", "--set", "gain"], "write --set key.path=value"),
        (["acme", "--recipe", "no/such"], "there is no recipe 'no/such'"),
        ([], "Missing argument 'NAME...'"),
    ],
)
def test_mistakes_are_told_before_anything_is_checked(folder: Path, arguments: list[str], told: str) -> None:
    result = check(folder, *arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stdout == ""


def test_the_program_needs_no_pytest(folder: Path) -> None:
    """As a user runs it, with a pytest that cannot be imported."""
    (folder / "blocked").mkdir()
    (folder / "blocked" / "pytest.py").write_text("raise ImportError('there is none')\n")
    (folder / "work").mkdir()
    words = [sys.executable, "-m", "affectkit", "--plugins-dir", str(folder), "plugins", "check", "acme/even"]
    environment = {**os.environ, "PYTHONPATH": str(folder / "blocked")}
    done = subprocess.run(words, cwd=folder / "work", env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "acme: 1 component, 19 ok, 0 broken, 0 cannot be checked here"
    assert list((folder / "work").iterdir()) == []
