"""Every real and every odd file through the command line, once: what becomes of each is what ``docs/media.md`` says."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import affectkit
from affectkit.tables import read_info
from affectkit.testing.media import make_video

pytest.importorskip("affectkit_mini", reason="the plugin mini is not installed: pip install -r requirements.txt")

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = ("mini/face_static", "mini/face_dynamic", "mini/audio", "mini/text", "mini/scene")
FACES = ("face_static", "face_dynamic")  # how many windows have a face may differ with the version of OpenCV, and is not compared


def outcomes() -> ModuleType:
    """The script that makes the table."""
    spec = importlib.util.spec_from_file_location("outcomes", ROOT / "benchmarks" / "outcomes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def documented() -> dict[str, dict[str, str]]:
    """The rows of the tables in docs/media.md: file name to the cells by column."""
    rows: dict[str, dict[str, str]] = {}
    header: list[str] = []
    for line in (ROOT / "docs" / "media.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if cells[:2] == ["file", "what it is"]:
            header = cells
        elif not cells:
            header = []
        elif header and not set(cells[0]) <= {"-"}:
            rows[cells[0]] = dict(zip(header, cells, strict=True))
    return rows


@pytest.fixture(scope="module")
def run(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The main job on all folders, as the command line does it."""
    folder = tmp_path_factory.mktemp("outcomes")
    paths = [str(shared_data / name) for name in outcomes().FOLDERS]
    call = [sys.executable, "-m", "affectkit", "run", *paths, "--out", "run", "--json", "--device", "cpu"]
    call += ["--set", outcomes().WITHOUT_WHISPER]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True, timeout=290, check=False)
    return done, folder / "run"


def test_a_file_that_breaks_is_recorded_and_the_others_go_on(run: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, folder = run
    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout)
    (failure,) = said["failures"]
    assert failure["media"] == "corrupted"
    assert failure["stage"] == "video"
    assert failure["at"] == pytest.approx(2.7, abs=0.01)
    assert "breaks after 2.70 s" in failure["message"]
    assert said["media"]["corrupted"]["broke_at"] == failure["at"]
    table = affectkit.read_run(folder)
    kept = table[table["media"] == "corrupted"]
    assert sorted(kept["start"].unique()) == [0.0, 2.0]  # the windows that hold something of the 2.7 s


def test_every_file_has_the_outcome_of_the_documentation(run: tuple[subprocess.CompletedProcess[str], Path], shared_data: Path) -> None:
    _, folder = run
    info, table = read_info(folder), documented()
    failures = json.loads(run[0].stdout)["failures"]
    records: Mapping[str, Any] = {Path(record["path"]).name: record for record in info["media"].values()}
    script = outcomes()
    files = sorted(path for name in script.FOLDERS for path in (shared_data / name).iterdir())
    assert {path.name for path in files} == set(table), "run benchmarks/outcomes.py and put what it prints into docs/media.md"
    for path in files:
        messages = [failure["message"] for failure in failures if failure["path"] == str(path)]
        windows, *evidence, message = script.outcome(path, NAMES, records.get(path.name), messages)
        row = table[path.name]
        assert (path.name, windows) == (path.name, row["windows"])
        for name, found in zip(NAMES, evidence, strict=True):
            column = name.partition("/")[2]
            if column in FACES:
                found, written = (("none", "some")[text != "none"] for text in (found, row[column]))
                assert (path.name, column, found) == (path.name, column, written)
            else:
                assert (path.name, column, found) == (path.name, column, row[column])
        assert (path.name, _without_faces(message)) == (path.name, _without_faces(row["message"]))


def test_the_script_prints_a_row_per_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    script = outcomes()
    for folder in script.FOLDERS:
        (tmp_path / folder).mkdir()
    make_video(tmp_path / "video" / "plain.mp4", seconds=1)
    (tmp_path / "video_edge" / "empty.mp4").write_bytes(b"")
    monkeypatch.setattr(sys, "argv", ["outcomes.py", "--data", str(tmp_path)])
    script.main()
    said = capsys.readouterr().out
    assert re.search(r"\| plain.mp4 \| video 128x96, 25 fps, 1.00 s, no sound \| [0-9.]+ \| 1 (\| none ){5}\| .*audio: no sound \|", said)
    assert re.search(
        r"\| empty.mp4 \| cannot be opened \| [0-9.]+ \| 0 (\| - ){5}\| is empty \(0 bytes\); was it copied to its end\? \|", said
    )


def _without_faces(message: str) -> list[str]:
    """The parts of a message that do not depend on where a detector finds a face."""
    return [part for part in message.split("; ") if part and not part.startswith(FACES)]


def test_what_has_evidence_is_a_distribution_and_what_has_none_is_empty(run: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    table = affectkit.read_run(run[1])
    table = table[table["labels"] != "mentioned7"]
    values, said = table.filter(like="p_").to_numpy(float), table["valid"].to_numpy(bool)
    np.testing.assert_allclose(np.nansum(values[said], axis=1), 1.0, atol=1e-4)
    assert np.isnan(values[~said]).all()
    heard = table[~table["source"].str.startswith("core/")].groupby(["media", "start"])["valid"].any()
    fused = table[table["source"] == "core/mhpf"].groupby(["media", "start"])["valid"].all()
    assert fused.equals(heard.rename("valid").reindex(fused.index))  # fused where any source has evidence, and only there


def test_each_stream_is_decoded_once(run: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    for name, record in read_info(run[1])["media"].items():
        assert len(record["decoded"]) == len(set(record["decoded"])) <= 2, name
