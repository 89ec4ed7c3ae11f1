"""Quality of the evidence: in the table of a run, in run.json, as a DataFrame, and in the hands of a fusion."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import affectkit
from affectkit import plugins, results
from affectkit.cli import cli
from affectkit.config import Recipe
from affectkit.errors import UsageError
from affectkit.labels import BASIC7, VA
from affectkit.testing.media import make_video, make_wav, tone
from affectkit.timeline import Timeline
from tests.engine_helpers import FAKES, command, plain, recipe_file

CAREFUL = """
from affectkit.api import BASIC8, Fusion, Output, hookimpl

class Careful(Fusion):
    \"\"\"Believes loudness only where it heard at least three seconds.\"\"\"

    name = "careful"

    def fuse(self, sources):
        import torch

        heard = sources.quality["fake/loudness:seconds"]
        assert heard.shape == (len(sources.values),) and heard.dtype == torch.float32
        values = sources.values[:, sources.names.index("fake/loudness")].clone()
        values[~(heard >= 3)] = torch.nan
        return Output({BASIC8: values})

@hookimpl
def affectkit_fusions():
    return [Careful]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of 5 s of pictures with sound: windows of 4 and 3 s."""
    folder = tmp_path_factory.mktemp("quality")
    video = make_video(folder / "clip.mp4", seconds=5, fps=5, size=(32, 48), picture=plain(51), sound=tone)
    chosen = recipe_file(folder / "own.yaml", "fake/brightness", "fake/loudness")
    ran = command("run", video, "--recipe", chosen, "--out", folder / "out", "--device", "cpu")
    assert ran.exit_code == 0, ran.output
    (folder / "printed.txt").write_text(ran.stdout)
    return folder / "out"


def test_the_table_of_a_run_shows_it(run):
    printed = (run.parent / "printed.txt").read_text()
    row = [line.split() for line in printed.splitlines() if line.split()[:1] == ["clip"]][1]
    assert row[1] == "3.5"
    assert float(row[2]) == pytest.approx(3.5, abs=0.05)
    assert "Quality of the evidence, mean over windows" in printed
    assert printed.index("class with the highest mean") < printed.index("Quality of the evidence")


def test_run_json_and_json_have_the_means(run, tmp_path):
    told = json.loads((run / "run.json").read_text())["media"]["clip"]["quality"]
    assert told["fake/brightness"] == {"frames": 3.5}
    assert told["fake/loudness"]["seconds"] == pytest.approx(3.5, abs=0.05)
    wav = make_wav(tmp_path / "voice.wav", tone(np.arange(16000 * 2) / 16000))
    chosen = recipe_file(tmp_path / "own.yaml", "fake/loudness")
    ran = command("run", wav, "--recipe", chosen, "--out", tmp_path / "out", "--json")
    assert json.loads(ran.stdout)["media"]["voice"]["quality"] == {"fake/loudness": {"seconds": 2.0}}


def test_nothing_is_shown_where_no_component_gives_any(tmp_path):
    video = make_video(tmp_path / "clip.mp4", seconds=3, fps=5, size=(32, 48), picture=plain(51))
    chosen = recipe_file(tmp_path / "own.yaml", "fake/loudness")
    ran = command("run", video, "--recipe", chosen, "--out", tmp_path / "out")
    assert ran.exit_code == 0, ran.output
    assert "Quality" not in ran.stdout
    assert affectkit.read_quality(tmp_path / "out").empty


def test_media_of_a_run_that_knew_no_quality_are_shown_without(run):
    record = next((run / "media").glob("*.json"))
    kept = record.read_text()
    old = json.loads(kept)
    del old["quality"]
    record.write_text(json.dumps(old))
    chosen = run.parent / "own.yaml"
    ran = command("run", run.parent / "clip.mp4", "--recipe", chosen, "--out", run, "--device", "cpu")
    record.write_text(kept)
    assert ran.exit_code == 0, ran.output
    assert "Finished before" in ran.stdout
    assert "Quality" not in ran.stdout


def test_a_column_per_figure_as_a_table(run):
    found = affectkit.read_quality(run).sort_values(["source", "start"])
    assert list(found.columns) == ["media", "track", "start", "end", "source", "frames", "seconds"]
    assert found[found.source == "fake/brightness"][["start", "frames"]].values.tolist() == [[0, 4], [2, 3]]
    assert found[found.source == "fake/loudness"]["seconds"].tolist() == pytest.approx([4, 3], abs=0.1)
    assert found[found.source == "fake/loudness"]["frames"].isna().all()
    long = pd.read_parquet(run / "quality.parquet")
    assert len(long) == found[["frames", "seconds"]].notna().to_numpy().sum()
    with pytest.raises(UsageError, match="holds no run"):
        affectkit.read_quality(run / "nowhere")


def test_a_fusion_may_use_it(tmp_path):
    (tmp_path / "plugins").mkdir()
    for file in FAKES.glob("*.py"):
        (tmp_path / "plugins" / file.name).write_text(file.read_text())
    (tmp_path / "plugins" / "care.py").write_text(CAREFUL)
    wav = make_wav(tmp_path / "voice.wav", tone(np.arange(16000 * 4 + 8000) / 16000))
    chosen = Recipe(modalities=("fake/loudness",), fusion="care/careful")
    registry = plugins.load(plugins_dir=tmp_path / "plugins")
    result = affectkit.run(wav, tmp_path / "out", recipe=chosen, registry=registry, device="cpu")
    assert not result.failures
    assert result.read("basic8").sort_values("start")["valid"].tolist() == [True, False], "4 s are heard in one window, 2.5 s in the other"


def test_the_mean_is_over_windows_with_evidence_and_counted_once():
    def line(source, labels, figures, valid):
        n = len(valid)
        values = np.where(np.array(valid)[:, None], np.full((n, len(labels)), 1 / len(labels)), np.nan).astype(np.float32)
        figures = {name: np.array(row, np.float32) for name, row in figures.items()}
        return Timeline("clip", -1, source, labels, np.arange(n) * 2.0, np.arange(n) * 2.0 + 4, values, np.array(valid), figures)

    one = line("a/b", BASIC7, {"size": [10, 30, 80], "words": [np.nan] * 3}, [True, True, False])
    other = line("a/b", VA, {"size": [1000, 1000, 1000]}, [True, True, True])
    assert results.quality_by_source([one, other, line("c/d", BASIC7, {}, [True])]) == {"a/b": {"size": 20.0}}
    assert results.quality_by_source([]) == {}


def test_mini_gives_face_size_sharpness_sound_and_words(tmp_path):
    pytest.importorskip("affectkit_mini")
    ran = CliRunner().invoke(cli, ["demo", "--out", str(tmp_path / "demo"), "--json"])
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)["media"]["demo"]["quality"]
    assert set(found["mini/face_static"]) == {"side", "sharpness"}
    assert set(found["mini/text"]) == set(found["mini/scene"]) == {"words"}
    voice = make_wav(tmp_path / "voice.wav", tone(np.arange(16000 * 2) / 16000))
    call = ["run", voice, "--plugins", "mini/audio", "--fusion", "none", "--head", "none", "--out", tmp_path / "voice", "--json"]
    ran = CliRunner().invoke(cli, [str(word) for word in call])
    assert json.loads(ran.stdout)["media"]["voice"]["quality"]["mini/audio"]["sound"] == pytest.approx(1.0, abs=0.05)
