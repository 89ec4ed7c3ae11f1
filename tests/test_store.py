"""The run folder: tables of several label sets, parts that count only when finished, folders that are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectkit.api import BASIC8, COMPOUND7, VA, Media, UsageError
from affectkit.errors import StoreError
from affectkit.store import Failure, Part, Run
from affectkit.tables import part_name, read_info, read_run
from affectkit.timeline import Timeline

SETTINGS = {"recipe": {"modalities": ["a/b"], "windows": {"step": 2.0}}, "inputs": {}}
LABEL_SETS = {s.name: {"labels": list(s.labels)} for s in (BASIC8, COMPOUND7, VA)}


def medium(folder: Path, name: str = "clip") -> Media:
    path = folder / f"{name}.mp4"
    path.write_bytes(name.encode())
    return Media(name, path, "video", duration=6.0)


def line(media: str, labels, source: str, rows: list, track: int = 0, **quality) -> Timeline:
    values = np.array(rows, dtype=np.float32).reshape(-1, len(labels))
    start = 2.0 * np.arange(len(values))
    return Timeline(media, track, source, labels, start, start + 4, values, np.isfinite(values).any(axis=1), quality)


def even(labels, count: int = 2) -> list:
    return [[1 / len(labels)] * len(labels)] * count


def begun(folder: Path, **changes) -> Run:
    run = Run(folder, {**SETTINGS, **changes}, digest="x" * 64)
    run.begin()
    run.save(label_sets=LABEL_SETS)
    return run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of one medium with three label sets; its second window has no valence."""
    run = begun(tmp_path / "run")
    media = medium(tmp_path)
    timelines = [
        line("clip", BASIC8, "core/mean", even(BASIC8), faces=np.array([30.0, np.nan])),
        line("clip", COMPOUND7, "core/ppa", even(COMPOUND7)),
        line("clip", VA, "a/b", [[0.5, -0.5], [np.nan, np.nan]], track=-1),
    ]
    failure = Failure("clip", str(media.path), "predict", "a/b", 2.0, "ValueError", "too bright")
    run.write(
        Part(media, timelines, [(0, 0.0, 4.0, "a/b", "e", [1.0, 2.0])], [(0, 0.0, 4.0, "a/b", {"said": "yes"})], {"windows": 2}, [failure])
    )
    run.save()
    return run


def test_one_table_of_all_label_sets(run):
    table = read_run(run.path)
    assert list(table.columns[:7]) == ["media", "track", "start", "end", "source", "labels", "valid"]
    assert table.groupby("labels").size().to_dict() == {"basic8": 2, "compound7": 2, "va": 2}
    va = table[table.labels == "va"]
    assert va.valid.tolist() == [True, False]
    assert va.p_valence.tolist() == [0.5, pytest.approx(np.nan, nan_ok=True)]
    assert va.p_happiness.isna().all(), "what a set does not have is NaN"
    assert table[table.labels == "basic8"].p_valence.isna().all()
    assert table[table.labels == "basic8"].p_happiness.tolist() == [0.125, 0.125]
    assert table.track.tolist() == [0, 0, 0, 0, -1, -1]


def test_the_table_of_one_label_set(run):
    table = read_run(run.path, "compound7")
    assert list(table.columns) == ["media", "track", "start", "end", "source", "valid", *(f"p_{label}" for label in COMPOUND7.labels)]
    pd.testing.assert_frame_equal(table, pd.read_parquet(run.path / "compound7.parquet"))
    with pytest.raises(UsageError, match=r"has no label set 'compound'. Did you mean compound7\?"):
        read_run(run.path, "compound")


def test_the_other_tables(run):
    quality = pd.read_parquet(run.path / "quality.parquet")
    assert quality.to_dict("records") == [
        {"media": "clip", "track": 0, "start": 0.0, "end": 4.0, "source": "core/mean", "name": "faces", "value": 30.0},
        {
            "media": "clip",
            "track": 0,
            "start": 2.0,
            "end": 6.0,
            "source": "core/mean",
            "name": "faces",
            "value": pytest.approx(np.nan, nan_ok=True),
        },
    ]
    assert json.loads(pd.read_parquet(run.path / "notes.parquet").value[0]) == {"said": "yes"}
    assert pd.read_parquet(run.path / "embeddings.parquet").vector[0].tolist() == [1.0, 2.0]
    failures = pd.read_parquet(run.path / "failures.parquet")
    assert failures.to_dict("records") == [vars(run.all_failures()[0])]
    info = read_info(run.path)
    assert info["failures"] == 1
    assert info["media"]["clip"]["failures"] == 1
    assert info["media"]["clip"]["windows"] == 2


def test_a_part_that_is_not_finished_does_not_count(run, tmp_path):
    (run.path / "media" / f"{part_name('clip')}.json").unlink()
    assert read_run(run.path).empty
    again = begun(run.path)
    assert not again.finished(medium(tmp_path))


def test_an_empty_run_is_an_empty_table(tmp_path):
    begun(tmp_path / "run")
    table = read_run(tmp_path / "run")
    assert table.empty
    assert {"media", "labels", "p_happiness", "p_valence"} <= set(table.columns)
    assert list(read_run(tmp_path / "run", "va").columns) == ["media", "track", "start", "end", "source", "valid", "p_valence", "p_arousal"]


def test_a_medium_is_finished_while_its_file_is_the_same(run, tmp_path):
    again = begun(run.path)
    media = Media("clip", tmp_path / "clip.mp4", "video", duration=6.0)
    assert again.finished(media)
    assert again.known_ids == {media.path.resolve(): "clip"}
    assert not again.finished(Media("other", media.path, "video", duration=6.0))
    assert not again.finished(Media("clip", media.path, "video", duration=6.0, sound=tmp_path / "other.wav"))
    wanting = Run(run.path, SETTINGS, digest="x" * 64, embeddings=True)
    wanting.begin()
    assert not wanting.finished(media), "its embeddings were not wanted before"
    media.path.write_bytes(b"something longer")
    assert not again.finished(media)
    media.path.unlink()
    assert not again.finished(media)


def test_a_part_that_has_less_than_before_leaves_no_old_table(run, tmp_path):
    run.write(Part(medium(tmp_path), [line("clip", BASIC8, "core/mean", even(BASIC8))]))
    run.save()
    assert len(read_run(run.path)) == 2
    assert len(read_run(run.path, "basic8")) == 2
    assert read_run(run.path, "va").empty
    assert run.all_failures() == []


@pytest.mark.parametrize("name", ["a", "ü/b.mp4", "../up", ".hidden", "", "x" * 300, "a b:c*?", "a\nb"])
def test_names_of_parts_are_safe(name):
    made = part_name(name)
    assert made == part_name(name)
    assert Path(made).name == made
    assert not made.startswith(".")
    assert len(made.encode()) < 120


@given(st.lists(st.text(max_size=12), unique=True, min_size=2, max_size=6))
def test_different_media_have_different_parts(names):
    assert len({part_name(name) for name in names}) == len(names)


def test_folders_that_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file; give a folder with --out"):
        Run(tmp_path / "file", SETTINGS, "x").check()
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("")
    with pytest.raises(UsageError, match="is not empty and holds no run of affectkit"):
        Run(tmp_path / "letters", SETTINGS, "x").check()
    begun(tmp_path / "run")
    other = {"recipe": {"modalities": ["a/b"], "windows": {"step": 1.0}}, "inputs": {"fps": "5"}}
    with pytest.raises(
        UsageError, match=r"holds a run of another recipe \(different: inputs.fps, recipe.windows.step\); give another folder"
    ):
        Run(tmp_path / "run", other, "y" * 64).check()
    Run(tmp_path / "run", other, "y" * 64, resume=False).check()
    with pytest.raises(UsageError, match=r"holds no run: there is no .*run\.json; give the folder that affectkit run --out wrote"):
        read_run(tmp_path / "letters")
    (tmp_path / "run" / "run.json").write_text('{"format": "affectkit-run/9"}')
    with pytest.raises(UsageError, match="has the format 'affectkit-run/9', this version reads 'affectkit-run/1'"):
        read_run(tmp_path / "run")


def test_a_run_that_was_killed_before_its_first_medium_can_be_gone_on_with(tmp_path):
    Run(tmp_path / "run", SETTINGS, "x" * 64).begin()
    Run(tmp_path / "run", SETTINGS, "x" * 64).begin()
    assert read_run(tmp_path / "run").empty
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / ".run.json.17.tmp").write_text("{")
    Run(tmp_path / "early", SETTINGS, "x" * 64).begin()


def test_starting_anew_removes_the_results_and_nothing_else(run):
    (run.path / "mine.txt").write_text("keep")
    anew = Run(run.path, SETTINGS, "y" * 64, resume=False)
    anew.check()
    assert len(read_run(run.path)) == 6, "checking changes nothing"
    anew.begin()
    assert sorted(p.name for p in run.path.iterdir()) == ["media", "mine.txt", "run.json"]
    assert read_run(run.path).empty


def test_a_folder_that_cannot_be_written(run, tmp_path):
    table = run.path / "va.parquet"
    for file in table.iterdir():
        file.unlink()
    table.rmdir()
    table.write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write .*; what was finished before is kept: make room or choose another disk"):
        run.write(Part(medium(tmp_path, "next"), [line("next", VA, "a/b", [[0.1, 0.2]])]))
    assert "next" not in run.records
    assert not list((run.path / "media").glob("next*"))


def test_files_are_never_seen_half_written(run, monkeypatch):
    import pyarrow.parquet as pq

    before = pd.read_parquet(run.path / "failures.parquet")

    def half(table, path):
        Path(path).write_bytes(b"PAR1")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", half)
    with pytest.raises(StoreError, match="No space left on device"):
        run.save()
    pd.testing.assert_frame_equal(pd.read_parquet(run.path / "failures.parquet"), before)
    assert not list(run.path.rglob("*.tmp"))
