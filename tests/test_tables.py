"""Reading a run folder: timelines, the times of frames, who is seen where, and what is said where something is not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from affectkit.api import AU12, BASIC7, BASIC8, COMPOUND7, UsageError
from affectkit.session import Inputs
from affectkit.tables import read_frames, read_info, read_label_set, read_run, read_subjects, read_timelines
from affectkit.testing.media import make_frames, make_video, make_wav, tone
from tests.engine_helpers import analyse, plain, square


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a video with a face in its upper left, of a folder of frames with a gap, and of a sound."""
    folder = tmp_path_factory.mktemp("tables")
    make_video(folder / "face.mp4", seconds=6.4, fps=10, size=(64, 96), picture=square(200, size=(64, 96), box=(16, 8, 40, 24)))
    make_frames(folder / "numbered", [n for n in range(1, 31) if n not in (4, 5)], picture=plain(90))
    make_wav(folder / "tone.wav", tone(np.arange(5 * 16000) / 16000))
    paths = [folder / "face.mp4", folder / "tone.wav"]
    changes = {"windows": {"length": 2.0, "step": 2.0}}
    analyse(paths, folder / "run", "fake/face", "fake/loudness", changes=changes)
    analyse(folder / "numbered", folder / "frames", "fake/still", changes=changes, inputs=Inputs(fps=10))
    analyse(paths[0], folder / "sound", "fake/loudness", changes=changes)
    return folder


def test_frames_of_a_video_count_from_1_also_beyond_the_last_window(run):
    assert read_run(run / "run", "basic7").query("media == 'face'")["end"].max() == 6.0
    frames = read_frames(run / "run")
    assert list(frames) == ["face", "tone"]
    assert frames["face"].exact
    assert frames["face"].number.tolist() == list(range(1, 65))
    assert frames["face"].time == pytest.approx(np.arange(64) / 10)


def test_a_sound_has_no_frames(run):
    assert len(read_frames(run / "run")["tone"].number) == 0


def test_frames_of_a_folder_have_the_numbers_of_their_names(run):
    frames = read_frames(run / "frames")["numbered"]
    assert frames.exact
    assert frames.number.tolist() == [n for n in range(1, 31) if n not in (4, 5)]
    assert frames.time == pytest.approx((frames.number - 1) / 10)


def test_where_no_picture_was_decoded_frames_follow_from_the_rate(run):
    frames = read_frames(run / "sound")["face"]
    assert not frames.exact
    assert frames.number.tolist() == list(range(1, 65))
    assert frames.time == pytest.approx(np.arange(64) / 10)


def test_subjects_say_who_is_seen_where_in_shares_of_the_picture(run):
    table = read_subjects(run / "run")
    assert table[["media", "track", "start", "end"]].to_numpy().tolist() == [["face", 0, t, t + 2.0] for t in (0.0, 2.0, 4.0)]
    assert table["x"].to_numpy() == pytest.approx(28 / 96, abs=0.02)
    assert table["y"].to_numpy() == pytest.approx(16 / 64, abs=0.02)
    assert table["width"].to_numpy() == pytest.approx(24 / 96, abs=0.03)
    assert table["height"].to_numpy() == pytest.approx(16 / 64, abs=0.03)
    assert table["presence"].between(0.5, 1).all()


def test_nobody_is_an_empty_table(run):
    table = read_subjects(run / "frames")
    assert table.empty
    assert list(table.columns) == ["media", "track", "start", "end", "presence", "x", "y", "width", "height"]


def test_timelines_are_one_per_medium_subject_source_and_label_set(run):
    found = read_timelines(run / "run")
    assert {(t.media_id, t.source, t.labels) for t in found} >= {("face", "core/mean", BASIC8), ("tone", "fake/loudness", BASIC7)}
    table = read_run(run / "run")
    assert sum(map(len, found)) == len(table)
    (mean,) = [t for t in read_timelines(run / "run", "basic8", "core/mean") if t.media_id == "face"]
    wanted = table.query("media == 'face' and source == 'core/mean'")
    assert np.array_equal(mean.values, wanted[[f"p_{label}" for label in BASIC8.labels]].to_numpy(), equal_nan=True)
    assert {t.labels for t in read_timelines(run / "run", labels="basic7")} == {BASIC7}


def test_what_a_run_does_not_have_is_said(run):
    folder = run / "run"
    with pytest.raises(UsageError, match=r"has no label set 'basic9'. Did you mean basic8\?"):
        read_timelines(folder, "basic9")
    with pytest.raises(UsageError, match=r"has nothing of the source 'fake/facee'. Did you mean fake/face\?"):
        read_timelines(folder, source="fake/facee")
    with pytest.raises(UsageError, match=r"the run has no label set 'au12'. Known: basic7, basic8"):
        read_label_set(read_info(folder), "au12")
    for read in (read_run, read_timelines, read_frames, read_subjects, read_info):
        with pytest.raises(UsageError, match=r"holds no run: there is no .*; give the folder that affectkit run --out wrote"):
            read(run / "nothing")
        with pytest.raises(UsageError, match="holds no run"):
            read(run / "face.mp4")


def test_label_sets_come_back_as_they_were(run):
    info = read_info(run / "run")
    assert read_label_set(info, "basic8") == BASIC8
    written = {
        s.name: {"labels": list(s.labels), "kind": s.kind, "low": s.low, "high": s.high, "pairs": s.pairs} for s in (COMPOUND7, AU12)
    }
    assert [read_label_set({"label_sets": written}, name) for name in written] == [COMPOUND7, AU12]


def test_a_run_without_these_tables_can_be_read(run, tmp_path):
    shutil.copytree(run / "run", tmp_path / "old")
    for name in ("frames", "subjects"):
        shutil.rmtree(tmp_path / "old" / f"{name}.parquet")
    assert not read_frames(tmp_path / "old")["face"].exact
    assert read_subjects(tmp_path / "old").empty
