"""The engine: exact numbers from every kind of medium and unit, whatever the batches, workers and neighbours."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Thread
from time import sleep

import numpy as np
import pandas as pd
import pytest
import torch

from affectkit import engine
from affectkit.engine import Budget, Engine, Stopped
from affectkit.testing.media import make_frames, make_video, make_wav, tone
from tests.engine_helpers import analyse, plain, registry, said, square, steps

NEAR = 0.012  # three grey levels: what video compression of flat pictures costs at most
EVERYTHING = ("fake/brightness", "fake/still", "fake/whole", "fake/long", "fake/loudness", "fake/pieces", "fake/words", "fake/face")


def hum(times: np.ndarray) -> np.ndarray:
    """A tone of amplitude 0.5: its root mean square is 0.3536."""
    return tone(times, 200.0)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three videos of different length, two with sound and one with words."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "a.cues").write_text("0.5 1.5 aaa\n3 3.5 bbb\n5 6 aab\n")
    return [
        make_video(folder / "a.mp4", seconds=7.0, fps=10, size=(32, 48), picture=steps(40, 80, 120, 160), sound=hum),
        make_video(folder / "b.mp4", seconds=3.0, fps=12.5, size=(48, 32), picture=square(220, (48, 32))),
        make_video(folder / "c.mkv", seconds=9.4, fps=10, size=(32, 48), picture=square(200), sound=hum, sound_start=1.0),
    ]


def sorted_tables(result) -> pd.DataFrame:
    return result.read().sort_values(["media", "labels", "source", "track", "start"]).reset_index(drop=True)


def test_results_do_not_depend_on_batches_workers_order_or_neighbours(films, tmp_path):
    reference = sorted_tables(analyse(films, tmp_path / "reference", *EVERYTHING, batch_size=3, workers=1))
    assert set(reference.source) == {*EVERYTHING, "core/mean"}
    for name, paths, options in [
        ("one", films, {"batch_size": 1, "workers": 1}),
        ("many", films, {"batch_size": 64, "workers": 4}),
        ("back", films[::-1], {"batch_size": 3, "workers": 4}),
    ]:
        other = sorted_tables(analyse(paths, tmp_path / name, *EVERYTHING, **options))
        pd.testing.assert_frame_equal(other, reference, rtol=0, atol=1e-5)
    alone = sorted_tables(analyse(films[2], tmp_path / "alone", *EVERYTHING, batch_size=64))
    pd.testing.assert_frame_equal(alone, reference[reference.media == "c"].reset_index(drop=True), rtol=0, atol=1e-5)


def test_what_a_modality_says_does_not_depend_on_the_others(films, tmp_path):
    together = analyse(films, tmp_path / "together", *EVERYTHING).read("basic7")
    for name in EVERYTHING:
        alone = analyse(films, tmp_path / name.replace("/", "-"), name, changes={"fusion": None}).read("basic7")
        order = ["media", "track", "start"]
        expected = together[together.source == name].sort_values(order).reset_index(drop=True)
        pd.testing.assert_frame_equal(alone.sort_values(order).reset_index(drop=True), expected, rtol=0, atol=1e-5)


def test_batches_span_windows_and_files_and_each_stream_is_decoded_once(films, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "POLL", 60.0)  # a busy machine must not be taken for slow readers
    result = analyse(films, tmp_path / "run", *EVERYTHING, batch_size=64, workers=2)
    info = json.loads((result.path / "run.json").read_text())
    assert {name: len(made["decoded"]) for name, made in info["media"].items()} == {"a": 2, "b": 1, "c": 2}
    assert {name: sorted(made["decoded"]) for name, made in info["media"].items()}["a"] == ["audio", "video"]
    assert [info["media"][name]["windows"] for name in "abc"] == [3, 1, 4]
    assert info["timings"]["forward_passes"]["fake/brightness"] == 1, "eight windows of three files are one batch"
    assert info["timings"]["forward_passes"]["fake/still"] == 2, "98 pictures at 5 a second"


def test_clips_do_not_wait_for_a_full_batch_while_nothing_comes(films, tmp_path, monkeypatch):
    brightness = registry().get("fake/brightness").cls
    fast = brightness.preprocess

    def slow(self, clip):
        sleep(10 * engine.POLL)
        return fast(self, clip)

    monkeypatch.setattr(brightness, "preprocess", slow)
    result = analyse(films[0], tmp_path / "run", "fake/brightness", batch_size=64)
    info = json.loads((result.path / "run.json").read_text())
    assert info["timings"]["forward_passes"]["fake/brightness"] == 3, "each of the three windows, while the next is read"
    assert said(result, "fake/brightness") == pytest.approx([60 / 255, 100 / 255, (120 + 120 + 160) / 3 / 255], abs=NEAR)


def test_brightness_of_each_window_by_hand(films, tmp_path):
    result = analyse(films[0], tmp_path / "run", "fake/brightness", "fake/still", "fake/whole", "fake/long")
    level = {0: 40, 1: 80, 2: 120, 3: 160}  # the last is a second long
    # Four in four seconds is one a second; the last window has three seconds.
    assert said(result, "fake/brightness") == pytest.approx([60 / 255, 100 / 255, (120 + 120 + 160) / 3 / 255], abs=NEAR)
    # Five pictures a second, periods counted from 0: ten pictures per level, five of the last.
    assert said(result, "fake/still") == pytest.approx([60 / 255, 100 / 255, (10 * 120 + 5 * 160) / 15 / 255], abs=NEAR)
    # Eight seconds around the centre: [-2, 6), [0, 8), [1.5, 9.5)  (the centre of the last window [4, 7) is 5.5).
    expected = [np.mean([40, 80, 120]), (40 + 80 + 120 + 80) / 3.5, (0.5 * 40 + 80 * 2 + 120 * 2 + 160) / 5.5]
    assert said(result, "fake/long") == pytest.approx([e / 255 for e in expected], abs=0.02)
    table = result.read("basic7")
    grid = table[table.source == "fake/still"]
    assert list(zip(grid.start, grid.end, strict=True)) == [(0.0, 4.0), (2.0, 6.0), (4.0, 7.0)]
    assert set(table.track) == {-1}
    whole = said(result, "fake/whole")
    assert len(set(whole)) == 1, "a media unit says the same of every window"
    assert min(level.values()) / 255 < whole[0] < max(level.values()) / 255
    assert np.allclose(table[[c for c in table if c.startswith("p_")]].sum(axis=1), 1)


def test_exact_pictures_give_exact_numbers(tmp_path):
    # Levels 10, 20, ..., one per picture, 2 pictures a second; windows of four seconds hold eight pictures.
    folder = make_frames(tmp_path / "frames", range(1, 13), (16, 24), lambda n: np.full((16, 24, 3), 10 * n, np.uint8), name="{:05d}.png")
    result = analyse(folder, tmp_path / "run", "fake/still", "fake/brightness", "fake/whole", inputs=inputs(fps=2.0))
    assert said(result, "fake/still") == pytest.approx([np.mean(range(10, 90, 10)) / 255, np.mean(range(50, 130, 10)) / 255], abs=1e-6)
    # Four in four seconds is one a second: the 1st, 3rd, 5th and 7th picture.
    assert said(result, "fake/brightness") == pytest.approx([40 / 255, 80 / 255], abs=1e-6)
    # Six of twelve over the whole medium: the 1st, 3rd, ...
    assert said(result, "fake/whole") == pytest.approx([60 / 255] * 2, abs=1e-6)


def inputs(**given):
    from affectkit.session import Inputs

    return Inputs(**given)


def test_loudness_of_each_window_by_hand(tmp_path):
    rate, amplitudes = 8000, (0.1, 0.5, 0.9)
    samples = np.concatenate([a * np.sin(2 * np.pi * 100 * np.arange(2 * rate) / rate) for a in amplitudes])
    result = analyse(make_wav(tmp_path / "voice.wav", samples, rate), tmp_path / "run", "fake/loudness", "fake/pieces")
    expected = [np.sqrt((0.1**2 + 0.5**2) / 4), np.sqrt((0.5**2 + 0.9**2) / 4)]
    assert said(result, "fake/loudness") == pytest.approx(expected, abs=1e-3)
    assert said(result, "fake/loudness", "va", "p_valence") == pytest.approx(expected, abs=1e-3)
    assert said(result, "fake/loudness", "va", "p_arousal") == pytest.approx([-e for e in expected], abs=1e-3)
    assert said(result, "fake/pieces") == pytest.approx([np.sqrt((0.1**2 + 0.5**2 + 0.9**2) / 6)] * 2, abs=1e-3)
    table = result.read()
    assert set(table.track) == {-1}
    assert set(table.labels) == {"basic7", "va", "basic8"}
    assert table[table.labels == "va"].p_happiness.isna().all()


def test_words_count_in_the_windows_that_hold_them(films, tmp_path):
    result = analyse(films[0], tmp_path / "run", "fake/words")
    # [0, 4): aaa bbb; [2, 6): bbb aab; [4, 7): aab
    assert said(result, "fake/words") == pytest.approx([0.5, 2 / 6, 2 / 3], abs=1e-6)


def test_the_mean_of_the_sources_with_evidence(films, tmp_path):
    result = analyse(films[0], tmp_path / "run", "fake/still", "fake/words", "fake/face")
    words, still, face = (said(result, f"fake/{name}") for name in ("words", "still", "face"))
    assert face[0] is None, "the first four seconds are dark"
    assert said(result, "core/mean", "basic8")[0] == pytest.approx((words[0] + still[0]) / 2, abs=1e-6)
    assert said(result, "core/mean", "basic8", "p_other") == [None] * 3, "nobody can say other, which is not a probability of 0"


def test_a_face_is_cut_where_it_is(tmp_path):
    video = make_video(tmp_path / "face.mp4", seconds=3, fps=10, size=(32, 48), picture=square(200))
    result = analyse(video, tmp_path / "run", "fake/face", "fake/brightness")
    table = result.read("basic7")
    face = table[table.source == "fake/face"]
    assert list(face.track) == [0]
    assert face.p_happiness.iloc[0] == pytest.approx(200 / 255, abs=0.03)
    assert list(table[table.source == "fake/brightness"].track) == [-1]
    fused = result.read("basic8")
    assert list(fused.track) == [0], "sound, scene and words are broadcast to the subject"
    assert fused.p_happiness.iloc[0] == pytest.approx(table.p_happiness.mean(), abs=1e-6)


def test_all_subjects_have_rows_and_the_sound_of_both(tmp_path):
    def two(_: float) -> np.ndarray:
        picture = np.zeros((32, 64, 3), np.uint8)
        picture[8:24, 8:24], picture[8:24, 40:56] = 160, 240
        return picture

    video = make_video(tmp_path / "two.mp4", seconds=3, fps=10, size=(32, 64), picture=two, sound=hum)
    changes = {"subjects": "all", "providers": {"faces": "odd/halves", "smile": "odd/smiles"}}
    result = analyse(video, tmp_path / "run", "fake/face", "fake/loudness", "odd/smile", changes=changes)
    table = result.read("basic7")
    by = {(row.source, row.track): row.p_happiness for row in table.itertuples()}
    assert set(by) == {("fake/face", 0), ("fake/face", 1), ("odd/smile", 0), ("odd/smile", 1), ("fake/loudness", -1)}
    assert sorted(by["fake/face", t] for t in (0, 1)) == pytest.approx([160 / 255, 240 / 255], abs=0.03)
    fused = {row.track: row.p_happiness for row in result.read("basic8").itertuples()}
    for track in (0, 1):
        assert fused[track] == pytest.approx(np.mean([by["fake/face", track], by["odd/smile", track], by["fake/loudness", -1]]), abs=1e-6)
    main = analyse(video, tmp_path / "main", "fake/face", changes={"providers": {"faces": "odd/halves"}})
    assert len(main.read("basic7")) == 1


def test_window_scoped_inputs(films, tmp_path):
    result = analyse(films[0], tmp_path / "run", "odd/moody", changes={"providers": {"mood": "odd/mood"}})
    assert said(result, "odd/moody") == pytest.approx([60 / 255, 100 / 255, 140 / 255], abs=NEAR)


def test_sound_that_starts_late_and_ends_early(tmp_path):
    rate = 16000
    samples = hum(np.arange(2 * rate) / rate)
    video = make_video(tmp_path / "late.mkv", seconds=10, fps=5, size=(32, 48), picture=plain(100), sound=samples, sound_start=3.0)
    result = analyse(video, tmp_path / "run", "fake/loudness", "fake/still")
    loud = said(result, "fake/loudness")
    assert [None if v is None else round(v, 2) for v in loud] == [0.35, 0.35, 0.35, None], "only what there is of sound counts"
    had = result.media["late"]["evidence"]["fake/loudness"]
    assert (had["with_evidence"], had["share"], had["reasons"]) == (3, 0.75, {"no sound in this window": 1})
    assert result.media["late"]["evidence"]["fake/still"]["share"] == 1.0


@pytest.mark.parametrize(
    ("name", "sound", "reason"), [("silent", lambda t: np.zeros(len(t), np.float32), "digital silence"), ("mute", None, "no sound")]
)
def test_silence_is_no_evidence(tmp_path, name, sound, reason):
    video = make_video(tmp_path / f"{name}.mp4", seconds=3, fps=5, size=(32, 48), picture=plain(100), sound=sound)
    result = analyse(video, tmp_path / "run", "fake/loudness", "fake/pieces", "fake/still")
    assert said(result, "fake/loudness") == [None]
    assert said(result, "fake/pieces") == [None]
    assert result.read("basic7").query("source == 'fake/loudness'").valid.tolist() == [False]
    for source in ("fake/loudness", "fake/pieces"):
        assert result.media[name]["evidence"][source] == {"windows": 1, "with_evidence": 0, "share": 0.0, "reasons": {reason: 1}}
    assert said(result, "core/mean", "basic8") == pytest.approx(said(result, "fake/still")), "the mean of what has evidence"


def test_no_words_and_no_face_say_why(tmp_path):
    video = make_video(tmp_path / "dark.mp4", seconds=3, fps=5, size=(32, 48), picture=plain(0))
    result = analyse(
        video, tmp_path / "run", "fake/words", "fake/face", "odd/moody", changes={"providers": {**PROVIDED, "mood": "odd/mood"}}
    )
    reasons = {name: had["reasons"] for name, had in result.media["dark"]["evidence"].items()}
    assert reasons == {"fake/words": {"no cues beside the file": 1}, "fake/face": {"no face": 1}, "odd/moody": {"too dark to tell": 1}}
    assert result.read().valid.tolist() == [False] * 4, "neither the sources nor their mean"
    assert result.read().filter(like="p_").isna().all().all()
    assert result.failures == ()


PROVIDED = {"faces": "fake/squares", "transcript": "odd/cues"}


def test_a_variable_frame_rate_keeps_its_time(tmp_path):
    # Two seconds at 20 frames a second, then two at 2.5: frame numbers would put the change somewhere else.
    times = [*np.arange(40) / 20, *(2 + np.arange(5) / 2.5)]
    video = make_video(tmp_path / "vfr.mkv", times=times, fps=20, size=(32, 48), picture=steps(60, 180))
    grid = {"windows": {"length": 2.0, "step": 2.0, "min_tail": 1.0}}
    result = analyse(video, tmp_path / "run", "fake/still", changes=grid)
    assert said(result, "fake/still")[:2] == pytest.approx([60 / 255, 180 / 255], abs=NEAR)


def test_a_sound_file_is_a_fine_input(tmp_path):
    wav = make_wav(tmp_path / "voice.wav", hum(np.arange(5 * 8000) / 8000), 8000)
    result = analyse(wav, tmp_path / "run", "fake/loudness", "fake/brightness", "fake/face")
    assert set(result.read().track) == {-1}
    assert len(said(result, "fake/loudness")) == 2
    assert said(result, "fake/brightness") == [None, None]
    reasons = {name: had["reasons"] for name, had in result.media["voice"]["evidence"].items()}
    assert reasons == {"fake/loudness": {}, "fake/brightness": {"no picture": 2}, "fake/face": {"no picture": 2}}
    assert result.failures == ()


def test_an_image_is_one_window_without_length(tmp_path):
    image = make_frames(tmp_path / "pictures", [7], (16, 24), square(200, (16, 24), (4, 4, 12, 12)), name="portrait-of-a-{}-year-old.png")
    picture = image / "portrait-of-a-7-year-old.png"
    result = analyse(picture, tmp_path / "run", "fake/face", "fake/brightness", "fake/loudness", "fake/whole")
    table = result.read()
    assert set(zip(table.start, table.end, strict=True)) == {(0.0, 0.0)}
    assert said(result, "fake/face") == pytest.approx([200 / 255], abs=1e-3)
    assert said(result, "fake/brightness") == pytest.approx([200 / 255 * 64 / 384], abs=1e-3)
    assert said(result, "fake/whole") == said(result, "fake/brightness")
    assert said(result, "fake/loudness") == [None]
    assert result.failures == ()


def test_a_folder_of_frames_with_gaps_and_sound(tmp_path):
    # 10 pictures a second, 1 to 20 and 41 to 60: two seconds of 50, two seconds without pictures, two seconds of 150.
    draw = lambda n: np.full((16, 24, 3), 50 if n <= 20 else 150, np.uint8)  # noqa: E731
    folder = make_frames(tmp_path / "clip", [*range(1, 21), *range(41, 61)], (16, 24), draw, name="{:05d}.png")
    wav = make_wav(tmp_path / "clip.wav", hum(np.arange(6 * 8000) / 8000), 8000)
    result = analyse(folder, tmp_path / "run", "fake/still", "fake/loudness", inputs=inputs(fps=10.0, sound=wav))
    assert said(result, "fake/still") == pytest.approx([50 / 255, 150 / 255], abs=1e-6)
    assert said(result, "fake/loudness") == pytest.approx([0.3536] * 2, abs=1e-3)
    assert list(result.media) == ["clip"]
    assert result.media["clip"]["duration"] == 6.0


def test_files_of_the_same_name_stay_two_media(tmp_path):
    for folder, level in (("one", 50), ("two", 150)):
        make_video(tmp_path / folder / "clip.mp4", seconds=1, fps=5, size=(32, 48), picture=plain(level))
    result = analyse(tmp_path / "one", tmp_path / "run", "fake/still")
    assert list(result.media) == ["clip"]
    result = analyse([tmp_path / "one", tmp_path / "two"], tmp_path / "run", "fake/still")
    assert (result.analysed, result.skipped) == (("clip.mp4",), ("clip",)), "an id that was given is kept"
    table = result.read("basic7").set_index("media").p_happiness
    assert table["clip"] == pytest.approx(50 / 255, abs=NEAR)
    assert table["clip.mp4"] == pytest.approx(150 / 255, abs=NEAR)


def test_what_is_in_flight_is_bounded(films, tmp_path, monkeypatch):
    from affectkit import engine

    monkeypatch.setattr(engine, "IN_FLIGHT", 100)
    monkeypatch.setattr(engine, "WAITING_MEDIA", 1)
    few = sorted_tables(analyse(films, tmp_path / "few", *EVERYTHING, batch_size=64, workers=3))
    monkeypatch.undo()
    pd.testing.assert_frame_equal(few, sorted_tables(analyse(films, tmp_path / "many", *EVERYTHING)), rtol=0, atol=1e-5)


def test_a_budget_waits_until_there_is_room():
    budget = Budget(10)
    budget.take(50)  # larger than the limit: alone it gets through
    taken = []
    thread = Thread(target=lambda: taken.append(budget.take(4)))
    thread.start()
    while not budget.waiting:
        sleep(0.001)
    assert taken == []
    budget.give(50)
    thread.join(timeout=5)
    assert (len(taken), budget.used, budget.waiting) == (1, 4, 0)
    budget.stop()
    with pytest.raises(Stopped):
        budget.take(1)


def test_a_stream_with_a_later_start_keeps_its_own_time(tmp_path):
    video = make_video(
        tmp_path / "later.mkv", times=[10 + i / 5 for i in range(25)], fps=5, size=(32, 48), picture=steps(*[0] * 5, 60, 120, 180)
    )
    result = analyse(video, tmp_path / "run", "fake/still")
    table = result.read("basic7")
    assert list(zip(table.start.round(3), table.end.round(3), strict=True)) == [(10.0, 14.0), (12.0, 15.0)]
    assert said(result, "fake/still") == pytest.approx([(60 + 120) / 2 / 255, (120 * 2 + 180) / 3 / 255], abs=NEAR)


def test_half_precision_stays_near(films, tmp_path):
    full = sorted_tables(analyse(films[0], tmp_path / "full", "fake/brightness"))
    half = sorted_tables(analyse(films[0], tmp_path / "half", "fake/brightness", precision="bf16"))
    pd.testing.assert_frame_equal(full, half, rtol=0, atol=0.02)


def test_words_of_a_listening_provider_carry_the_time_of_the_medium(tmp_path):
    wav = make_wav(tmp_path / "long.wav", hum(np.arange(35 * 8000) / 8000), 8000)
    changes = {"providers": {"transcript": "fake/listener"}, "windows": {"length": 10.0, "step": 10.0, "min_tail": 1.0}}
    result = analyse(wav, tmp_path / "run", "fake/words", "fake/pieces", changes=changes)
    # A piece of about half a minute overlaps the first two windows in full and the third by most of it.
    assert said(result, "fake/words")[:2] == [1.0, 1.0]
    assert said(result, "fake/pieces") == pytest.approx([0.3536] * 4, abs=1e-3)
    assert json.loads((result.path / "run.json").read_text())["media"]["long"]["decoded"] == ["audio"]


def test_readers_and_forward_passes_share_the_threads_of_torch(tmp_path, monkeypatch):
    """Half of them for the readers; afterwards, and for threads that begin later, all is as it was."""
    video = make_video(tmp_path / "a.mp4", seconds=2, fps=5, size=(32, 48), picture=plain(60))
    before = torch.get_num_threads()
    monkeypatch.setattr(Engine, "_read_windows", lambda self, job, helpers: seen.append(torch.get_num_threads()))
    seen: list[int] = []
    try:
        torch.set_num_threads(4)
        analyse(video, tmp_path / "run", "fake/brightness")
        later = Thread(target=lambda: seen.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert seen == [2, 4]
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
