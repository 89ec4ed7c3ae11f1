"""``affectkit run`` as users meet it: what it prints, writes and returns, resuming, stopping, a full disk."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import affectkit
from affectkit.testing.media import make_video, make_wav, tone
from tests.engine_helpers import FAKES, command, plain, recipe_file, square


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five small videos of five windows each."""
    folder = tmp_path_factory.mktemp("films")
    for i in range(5):
        make_video(folder / f"film{i}.mp4", seconds=11.0, fps=4, size=(32, 48), picture=plain(40 + 40 * i))
    return folder


def table(out: Path) -> pd.DataFrame:
    return affectkit.read_run(out).sort_values(["media", "labels", "source", "track", "start"]).reset_index(drop=True)


def program(*arguments: str | Path, limit: int | None = None) -> list[str]:
    """The program in a process of its own, with the fake plugins; ``limit`` is the largest file in bytes that it can write."""
    start = "import sys; from affectkit.cli import main; sys.argv[0] = 'affectkit'; main()"
    if limit is not None:
        start = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); {start}"
    return [sys.executable, "-c", start, "--plugins-dir", str(FAKES), *map(str, arguments)]


def call(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)


def test_on_a_narrow_terminal_no_name_of_a_class_is_cut(tmp_path, monkeypatch):
    video = make_video(tmp_path / "clip.mp4", seconds=5, fps=5, size=(32, 48), picture=square(200), sound=tone)
    chosen = recipe_file(tmp_path / "own.yaml", "fake/face", "fake/loudness", "fake/words", extra="head: core/ppa")
    for width, ends in ((100, ["happiness", "0.57", "happily_surprised", "1.00"]), (70, ["happiness", "happily_surprised"])):
        monkeypatch.setenv("COLUMNS", str(width))
        ran = command("run", video, "--recipe", chosen, "--out", tmp_path / "out", "--device", "cpu", "--no-resume")
        assert ran.exit_code == 0, ran.output
        row = next(line.split() for line in ran.stdout.splitlines() if line.split()[:1] == ["clip"])
        assert row[5:] == ends


def test_a_run_prints_what_it_found_and_writes_tables(tmp_path):
    video = make_video(tmp_path / "clip.mp4", seconds=5, fps=5, size=(32, 48), picture=square(200), sound=tone)
    chosen = recipe_file(tmp_path / "own.yaml", "fake/face", "fake/loudness", "fake/words", extra="head: core/ppa")
    ran = command("run", video, "--recipe", chosen, "--out", tmp_path / "out", "--device", "cpu")
    assert ran.exit_code == 0, ran.output
    row = next(line.split() for line in ran.stdout.splitlines() if line.split()[:1] == ["clip"])
    assert row[1:6] == ["2", "100%", "100%", "0%", "happiness"]
    assert row[7:] == ["happily_surprised", "1.00"]
    assert "fake/words has no evidence in clip: no cues beside the file" in ran.stdout
    assert f"Results: {tmp_path / 'out'}   (in Python: affectkit.read_run({str(tmp_path / 'out')!r}))" in ran.stdout
    assert ran.stderr == ""
    compound = pd.read_parquet(tmp_path / "out" / "compound7.parquet")
    assert list(compound.columns)[:6] == ["media", "track", "start", "end", "source", "valid"]
    assert list(compound.source) == ["core/ppa"] * 2
    assert compound.filter(like="p_").sum(axis=1).tolist() == pytest.approx([1.0, 1.0], abs=1e-5)
    tables = {"basic7", "basic8", "va", "compound7", "quality", "frames", "subjects", "failures"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*(f"{name}.parquet" for name in tables), "media", "run.json"}
    everything = affectkit.read_run(tmp_path / "out")
    assert set(everything.labels) == {"basic7", "basic8", "compound7", "va"}
    assert everything[everything.labels == "compound7"].p_happiness.isna().all()
    assert affectkit.read_run(tmp_path / "out", labels="compound7").shape == compound.shape
    quality = pd.read_parquet(tmp_path / "out" / "quality.parquet")
    assert set(quality[quality.source == "fake/loudness"].name) == {"seconds"}


def test_json_is_all_that_is_printed(tmp_path):
    video = make_video(tmp_path / "clip.mp4", seconds=3, fps=5, size=(32, 48), picture=plain(51))
    chosen = recipe_file(tmp_path / "own.yaml", "fake/still", "fake/loudness")
    ran = command("run", video, "--recipe", chosen, "--out", tmp_path / "out", "--json")
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.stdout)
    assert (told["out"], told["analysed"], told["skipped"], told["failures"]) == (str(tmp_path / "out"), ["clip"], [], [])
    assert told["media"]["clip"]["evidence"] == {"fake/still": 1.0, "fake/loudness": 0.0}
    assert told["media"]["clip"]["mean"]["fake/still"]["happiness"] == pytest.approx(0.2, abs=0.02)


def test_run_json_says_what_ran(tmp_path):
    video = make_video(tmp_path / "clip.mp4", seconds=6, fps=5, size=(32, 48), picture=plain(51))
    chosen = recipe_file(tmp_path / "own.yaml", "fake/still", "fake/words", extra="head: core/ppa")
    assert command("run", video, "--recipe", chosen, "--out", tmp_path / "out", "--device", "cpu").exit_code == 0
    info = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (info["format"], info["affectkit"], info["device"]) == ("affectkit-run/1", affectkit.__version__, "cpu")
    assert {"torch", "av", "numpy", "pandas", "pyarrow"} <= set(info["packages"])
    assert info["recipe"]["modalities"] == ["fake/still", "fake/words"]
    assert info["recipe"]["windows"] == {"length": 4.0, "step": 2.0, "min_tail": 1.0}
    assert info["label_sets"]["basic7"]["labels"][0] == "neutral"
    assert info["components"]["core/ppa"] == {
        "kind": "head",
        "plugin": "core",
        "distribution": "affectkit",
        "version": affectkit.__version__,
        "weights": [],
    }
    assert set(info["components"]) == {"fake/still", "fake/words", "odd/cues", "core/mean", "core/ppa"}
    assert info["fusion_sources"] == {"used": ["fake/still", "fake/words"], "absent": []}
    medium = info["media"]["clip"]
    assert (medium["kind"], medium["duration"], medium["windows"], medium["decoded"]) == ("video", 6.0, 2, ["video"])
    assert medium["evidence"]["fake/words"] == {
        "windows": 2,
        "with_evidence": 0,
        "share": 0.0,
        "reasons": {"no cues beside the file": 2},
    }
    assert {"decode", "preprocess", "fuse", "total"} <= set(medium["seconds"])
    assert {"load", "forward fake/still", "write"} <= set(info["timings"]["seconds"])
    again = affectkit.config.Recipe.from_mapping(info["recipe"])
    assert again.digest() == affectkit.config.Recipe.load(chosen).digest()


def test_weights_are_in_run_json_with_digest_and_licence(tmp_path):
    pytest.importorskip("affectkit_mini")
    wav = make_wav(tmp_path / "voice.wav", tone(np.arange(16000 * 2) / 16000))
    ran = command("run", wav, "--plugins", "mini/audio", "--fusion", "core/mean", "--head", "none", "--out", tmp_path / "out")
    assert ran.exit_code == 0, ran.output
    weights = json.loads((tmp_path / "out" / "run.json").read_text())["components"]["mini/audio"]["weights"]
    assert len(weights) == 1
    assert len(weights[0]["sha256"]) == 64
    assert weights[0]["licence"]


def test_embeddings_are_written_on_request(tmp_path):
    video = make_video(tmp_path / "clip.mp4", seconds=3, fps=5, size=(32, 48), picture=plain(51))
    chosen = recipe_file(tmp_path / "own.yaml", "fake/brightness")
    assert command("run", video, "--recipe", chosen, "--out", tmp_path / "out", "--embeddings").exit_code == 0
    embeddings = pd.read_parquet(tmp_path / "out" / "embeddings.parquet")
    assert embeddings[["media", "source", "name"]].values.tolist() == [["clip", "fake/brightness", "mean"]]
    assert embeddings.vector[0].tolist() == pytest.approx([0.2], abs=0.02)
    notes = pd.read_parquet(tmp_path / "out" / "notes.parquet")
    assert json.loads(notes.value[0]) == {"mean": pytest.approx(0.2, abs=0.02)}


def test_finished_media_are_skipped_and_new_and_changed_ones_analysed(films, tmp_path):
    chosen = recipe_file(tmp_path / "own.yaml", "fake/still")
    mine = tmp_path / "films"
    mine.mkdir()
    for name in ("film0.mp4", "film1.mp4"):
        (mine / name).write_bytes((films / name).read_bytes())

    def run(*more: str) -> dict:
        ran = command("run", mine, "--recipe", chosen, "--out", tmp_path / "out", "--json", *more)
        assert ran.exit_code == 0, ran.output
        return json.loads(ran.stdout)

    assert run()["analysed"] == ["film0", "film1"]
    part = next((tmp_path / "out" / "basic7.parquet").glob("film0*"))
    written = part.stat().st_mtime_ns
    assert (run()["analysed"], run()["skipped"]) == ([], ["film0", "film1"])
    (mine / "film2.mp4").write_bytes((films / "film2.mp4").read_bytes())
    assert run()["analysed"] == ["film2"]
    assert part.stat().st_mtime_ns == written, "parts that are written are never rewritten"
    (mine / "film1.mp4").write_bytes((films / "film4.mp4").read_bytes())
    told = run()
    assert (told["analysed"], told["skipped"]) == (["film1"], ["film0", "film2"])
    assert told["media"]["film1"]["mean"]["fake/still"]["happiness"] == pytest.approx(200 / 255, abs=0.012)
    assert len(table(tmp_path / "out")) == 3 * 5 * 2
    shown = command("run", mine, "--recipe", chosen, "--out", tmp_path / "out")
    assert "Finished before, not analysed again: film0, film1, film2 (--no-resume starts anew)" in shown.stdout
    assert run("--no-resume")["analysed"] == ["film0", "film1", "film2"]
    assert run("--batch-size", "2")["analysed"] == [], "the results are the same for any batch size"


def test_another_recipe_is_refused_and_what_differs_named(films, tmp_path):
    chosen = recipe_file(tmp_path / "own.yaml", "fake/still")
    start = ["run", films / "film0.mp4", "--recipe", chosen, "--out", tmp_path / "out"]
    assert command(*start).exit_code == 0
    for changed, named in [
        (["--set", "windows.step=1"], "recipe.windows.step"),
        (["--subjects", "all"], "recipe.subjects"),
        (["--precision", "bf16"], "precision"),
        (["--fps", "5"], "inputs.fps"),
        (["--fusion", "none"], "recipe.fusion"),
    ]:
        ran = command(*start, *changed)
        assert ran.exit_code == 2
        assert (
            f"{tmp_path / 'out'} holds a run of another recipe (different: {named}); give another folder with --out, or --no-resume"
            in ran.stderr
        )
    assert len(table(tmp_path / "out")) == 10, "and the run that is there is as it was"
    assert command(*start, "--set", "windows.step=1", "--no-resume").exit_code == 0
    assert len(table(tmp_path / "out")) == 2 * 8, "windows of four seconds every second"


def wait_for_parts(out: Path, count: int, process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + 120
    while len(list((out / "media").glob("*.json"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_what_was_finished_is_kept_when_a_run_is_stopped_and_the_same_command_goes_on(films, tmp_path):
    chosen = recipe_file(tmp_path / "own.yaml", "odd/slow", "fake/still", extra="components: {odd/slow: {seconds: 0.15}}")
    arguments = ["run", films, "--recipe", chosen, "--workers", "1", "--batch-size", "4", "--device", "cpu"]
    out = tmp_path / "stopped"
    process = subprocess.Popen(program(*arguments, "--out", out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_parts(out, 1, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    done = len(list((out / "media").glob("*.json")))
    assert 1 <= done < 5
    assert process.returncode == 130
    assert errors.strip() == f"Stopped by Ctrl-C: {done} of 5 media are finished and kept in {out}; the same command goes on from there."
    assert set(table(out).media) == {f"film{i}" for i in range(done)}

    process = subprocess.Popen(program(*arguments, "--out", out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_parts(out, done + 1, process)
    process.kill()
    process.communicate(timeout=120)
    before = table(out)

    ran = call(program(*arguments, "--out", out, "--json"))
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert len(told["skipped"]) >= done + 1
    assert sorted(told["skipped"] + told["analysed"]) == [f"film{i}" for i in range(5)]
    whole = command(*arguments, "--out", tmp_path / "whole")
    assert whole.exit_code == 0, whole.output
    pd.testing.assert_frame_equal(table(out), table(tmp_path / "whole"), rtol=0, atol=1e-5)
    kept = table(out)
    pd.testing.assert_frame_equal(kept[kept.media.isin(before.media)].reset_index(drop=True), before, rtol=0, atol=0)
    assert len(pd.read_parquet(out / "basic7.parquet")) == 5 * 5 * 2


def test_a_full_disk_loses_nothing_that_was_finished(films, tmp_path):
    # A medium of many windows has a larger part than the limit allows for; run.json and a small part fit.
    mine = tmp_path / "films"
    mine.mkdir()
    (mine / "a.mp4").write_bytes((films / "film0.mp4").read_bytes())
    make_wav(mine / "b.wav", np.random.default_rng(0).uniform(-1, 1, 8000 * 60), 8000)
    chosen = recipe_file(tmp_path / "own.yaml", "fake/loudness", "fake/still", extra="windows: {length: 1.0, step: 0.05}")
    arguments = ["run", mine, "--recipe", chosen, "--out", tmp_path / "out", "--workers", "1", "--device", "cpu"]
    ran = call(program(*arguments, limit=24_000))
    assert ran.returncode == 1, ran.stderr
    assert "Traceback" not in ran.stderr
    assert "cannot write" in ran.stderr
    assert (
        "File too large; what was finished before is kept: make room or choose another disk, and give the same command again" in ran.stderr
    )
    assert set(table(tmp_path / "out").media) == {"a"}
    assert not [p for p in (tmp_path / "out").rglob("*") if p.name.endswith(".tmp")], "nothing half-written stays"
    ran = call(program(*arguments, "--json"))
    assert ran.returncode == 0, ran.stderr
    assert (json.loads(ran.stdout)["analysed"], json.loads(ran.stdout)["skipped"]) == (["b"], ["a"])


def test_a_dry_run_prints_the_plan_and_writes_nothing(films, tmp_path):
    chosen = recipe_file(tmp_path / "own.yaml", "fake/still", "fake/words", "fake/face")
    ran = command("run", films / "film0.mp4", tmp_path / "no.mp4", "--recipe", chosen, "--out", tmp_path / "out", "--dry-run", "--json")
    assert ran.exit_code == 0, ran.output
    plan = json.loads(ran.stdout)
    assert plan["recipe"]["modalities"] == ["fake/still", "fake/words", "fake/face"]
    assert plan["providers"] == {"transcript": ["odd/cues"], "faces": ["fake/squares"]}
    assert plan["media"]["film0"]["windows"] == 5
    assert plan["media"]["film0"]["pictures_per_second"] == {"frames fps=5, size=16": 5, "detect": 5.0}
    assert plan["media"]["film0"]["decoded"] == ["video"]
    assert plan["unreadable"] == {str(tmp_path / "no.mp4"): f"{tmp_path / 'no.mp4'} does not exist"}
    assert not (tmp_path / "out").exists()
    assert "frames fps=5, size=16: 5" in command("run", films / "film0.mp4", "--recipe", chosen, "--dry-run").stdout


def test_a_dry_run_finds_what_is_wrong(films, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    chosen = recipe_file(tmp_path / "own.yaml", "fake/still", extra="fusion: odd/elsewhere")
    ran = command("run", films, "--recipe", chosen, "--out", tmp_path / "full", "--dry-run")
    assert ran.exit_code == 2
    assert "2 problems" in ran.stderr
    assert "is not empty and holds no run of affectkit" in ran.stderr
    assert "odd/elsewhere was not fitted for fake/still: its weights are for [far/voice, far/face], the run has [fake/still]" in ran.stderr


@pytest.mark.parametrize("hook", ["", "run_started", "media_finished", "media_failed", "run_finished"])
def test_observers_see_the_run_and_one_that_raises_is_recorded(films, tmp_path, monkeypatch, hook):
    log = tmp_path / "log"
    monkeypatch.setenv("WATCHER_LOG", str(log))
    monkeypatch.setenv("WATCHER_RAISES", hook)
    folder = tmp_path / "plugins"
    folder.mkdir()
    for file in (FAKES / "fake.py", FAKES / "odd.py", FAKES / "observers" / "watcher.py"):
        (folder / file.name).write_bytes(file.read_bytes())
    broken = tmp_path / "broken.mp4"
    content = (films / "film0.mp4").read_bytes()
    broken.write_bytes(content)
    chosen = recipe_file(tmp_path / "own.yaml", "fake/still")
    ran = command("run", broken, "--recipe", chosen, "--plugins-dir", folder, "--out", tmp_path / "out")
    assert log.read_text().splitlines()[:2] == ["run_started out", "media_finished broken 2 timelines, written"]
    assert log.read_text().splitlines()[-1] == "run_finished out"
    raised = hook in ("run_started", "media_finished", "run_finished")
    assert ran.exit_code == (1 if raised else 0), ran.output
    failures = pd.read_parquet(tmp_path / "out" / "failures.parquet")
    assert list(zip(failures.stage, failures.component, strict=True)) == ([("observer", "watcher")] if raised else [])
    if raised:
        assert "watcher: " in ran.stderr
        assert "cannot watch" in ran.stderr
    assert len(table(tmp_path / "out")) == 10
