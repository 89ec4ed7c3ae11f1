"""``affectkit train`` as people call it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from affectkit.cli import cli
from affectkit.weight_files import metadata

PLUGINS = str(Path(__file__).parent / "plugin_files")
RECIPE = """\
training: learner/points
epochs: 2
batch_size: 16
optimiser: {rate: 0.02}
options: {rows: 200}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "points.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["--plugins-dir", PLUGINS, "train", *map(str, arguments)], catch_exceptions=False)


def test_weights_record_and_card(recipe: Path, tmp_path: Path) -> None:
    result = call(recipe, "--data", tmp_path, "--out", tmp_path / "out", "--set", "average=0.9", "--set", "store=fp32", "--device", "cpu")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].startswith("train 120 rows of 12  validation 40 rows of 4  calibration 40 rows of 4")
    assert [line.split("  ")[0] for line in lines[1:3]] == ["epoch 1/2", "epoch 2/2"]
    assert " left" in lines[1]
    weights, record, card = (tmp_path / "out" / f"points.{suffix}" for suffix in ("safetensors", "json", "md"))
    assert lines[-1] == f"wrote {weights}, {record}, {card}"
    header = metadata(weights)
    assert (header["licence"], header["commercial"], json.loads(header["settings"])["labels"]) == (
        "Apache-2.0",
        "yes",
        ["left", "middle", "right"],
    )
    told = json.loads(record.read_text())
    assert told["command"] == "affectkit train points.yaml --data DATA --out OUT --set average=0.9 --set store=fp32"
    assert json.loads(header["settings"])["temperature"] == told["temperature"]
    assert str(tmp_path) not in record.read_text() + card.read_text()
    text = card.read_text()
    for part in ("# Points", "- Data: points made by a seed", "## Limits\n\nIt knows points alone.", told["sha256"], told["command"]):
        assert part in text


def test_a_quick_try_says_so(recipe: Path, tmp_path: Path) -> None:
    result = call(recipe, "--data", tmp_path, "--out", tmp_path / "out", "--limit", 20, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["limited_to"] == 20
    assert {part["rows"] for part in told["rows"].values()} == {20}
    assert "quick try with at most 20 rows" in (tmp_path / "out" / "points.md").read_text()
    assert "epoch 1/2" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["points"], "there is no training recipe 'points'. Known: core/fusion"),
        (["points.yaml"], "there is no recipe at points.yaml"),
        (["RECIPE", "--set", "optimizer.rate=1"], "--set optimizer.rate=1: optimizer: unknown key. Did you mean optimiser?"),
        (["RECIPE", "--set", "options.row=1"], "options.row: unknown key. Did you mean rows?"),
        (["RECIPE", "--set", "epochs=0"], "epochs must be at least 1, found 0"),
        (["RECIPE", "--set", "training=core/mean"], "core/mean is a fusion, not a training"),
        (["RECIPE", "--set", "training=learner/point"], "there is no training 'learner/point'. Did you mean learner/points?"),
    ],
)
def test_mistakes(recipe: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    from affectkit.errors import AffectKitError

    given = [recipe if word == "RECIPE" else word for word in arguments]
    result = CliRunner().invoke(
        cli, ["-p", "no:mini", "--plugins-dir", PLUGINS, "train", *map(str, given), "--data", str(tmp_path), "--out", str(tmp_path)]
    )
    assert result.exit_code == 2 or isinstance(result.exception, AffectKitError), result.output
    assert message in result.output + str(result.exception)


def test_a_plugin_shows_its_trainings() -> None:
    result = CliRunner().invoke(cli, ["plugins", "show", "learner", "--plugins-dir", PLUGINS], catch_exceptions=False)
    assert "training learner/points" in result.output
    assert "sides: left, middle, right" in result.output
