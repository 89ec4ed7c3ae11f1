"""The reader: what is cut for each window, buffers that stay small, sound at other rates, pieces of long sound."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectkit.api import Frames, Span
from affectkit.assembly import assemble
from affectkit.buffers import FrameBuffer, Resampler, SoundBuffer, Ticker, is_silent, quietest, resample
from affectkit.decoding import Sound
from affectkit.faces import periods
from affectkit.media import open_media
from affectkit.reader import FACE_CHUNK, PIECE_SECONDS, Clock, Reader
from affectkit.testing.media import make_video, make_wav, tone
from tests.engine_helpers import plain, recipe, registry, square


def reader(path: Path, *modalities: str, **changes) -> Reader:
    """A reader whose errors end the test."""

    def fail(stage: str, component: str, error: Exception) -> None:
        raise error

    return Reader(open_media(path), assemble(recipe(*modalities, **changes), registry()).plan, Clock(), fail)


def test_buffers_do_not_grow_with_the_length_of_the_medium(tmp_path):
    def largest(seconds: float) -> dict[str, int]:
        path = make_video(tmp_path / f"{seconds}.mp4", seconds=seconds, fps=5, size=(32, 48), picture=square(200), sound=tone, rate=8000)
        subject = reader(path, "fake/still", "fake/whole", "fake/long", "fake/loudness", "fake/pieces", "fake/face", "fake/brightness")
        most: dict[str, int] = {}
        count = 0
        for window in subject.windows():
            count += window.index >= 0
            sizes = {
                "frames": sum(len(buffer.images) for buffer in subject._gathered.frames.values()),
                "counted": sum(len(buffer.images) for buffer in subject._gathered.counted.values()),
                "crops": len(subject._gathered.faces),
                "samples": sum(len(piece.samples) for buffer in subject._gathered.sound.values() for piece in buffer.pieces),
                "piece": sum(len(piece.samples) for piece in subject._piece),
                "sent": len(subject._gathered._sent),
                "outbox": len(subject._outbox),
                "waiting": len(subject._waiting),
            }
            most = {name: max(size, most.get(name, 0)) for name, size in sizes.items()}
        assert count == len(subject.plan.spans(subject.media))
        return most

    assert largest(30.0)["counted"] == 6
    most = largest(120.0)
    seconds = 8.0 + 2.0 + 1.0  # what the longest context looks at, the step to the next window, and a piece of sound
    assert most["counted"] <= 7, "six frames of the whole medium, however long it is"
    assert 0 < most["frames"] <= (5 + 5 + 1) * seconds  # still and long, five a second each, and brightness
    assert 0 < most["crops"] <= 5 * seconds
    assert 0 < most["sent"] <= 2 * 5 * seconds
    assert 0 < most["piece"] <= 8000 * PIECE_SECONDS
    assert 0 < most["samples"] <= 8000 * (seconds + PIECE_SECONDS), "sound runs ahead until a piece of it is whole"
    assert most["outbox"] <= 1
    assert most["waiting"] <= FACE_CHUNK


def test_windows_come_in_order_and_pictures_once(tmp_path):
    subject = reader(make_video(tmp_path / "a.mp4", seconds=7, fps=10, size=(32, 48), picture=plain(60)), "fake/still", "fake/brightness")
    windows = list(subject.windows())
    assert [(w.index, w.span.start, w.span.end) for w in windows] == [(0, 0, 4), (1, 2, 6), (2, 4, 7), (-1, 0, 7)]
    times = [r.at for w in windows for r in w.requests if r.modality == "fake/still"]
    assert times == pytest.approx(np.arange(35) / 5), "each picture is analysed once, although windows overlap"
    clips = [r.clip for w in windows for r in w.requests if r.modality == "fake/brightness"]
    assert [c.frame_times.round(3).tolist() for c in clips] == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6]]
    assert {c.frames.shape[1:] for c in clips} == {(16, 24, 3)}, "the shorter side is 16 pixels"
    assert subject.decodes == ["video"]


def test_sound_is_not_decoded_where_nobody_listens(tmp_path):
    path = make_video(tmp_path / "a.mp4", seconds=3, fps=5, size=(32, 48), picture=plain(60), sound=tone)
    for modalities, expected in [
        (["fake/still"], ["video"]),
        (["fake/loudness"], ["audio"]),
        (["fake/still", "fake/loudness"], ["video", "audio"]),
    ]:
        subject = reader(path, *modalities)
        list(subject.windows())
        assert subject.decodes == expected


def test_sound_of_each_window(tmp_path):
    samples = np.repeat(np.arange(1, 8) / 10, 8000)
    subject = reader(make_wav(tmp_path / "a.wav", samples, 8000), "fake/loudness")
    clips = [r.clip for w in subject.windows() for r in w.requests if r.modality == "fake/loudness"]
    assert [len(c.audio) for c in clips] == [32000, 32000, 24000]
    assert [c.audio_start for c in clips] == [0.0, 2.0, 4.0]
    assert np.allclose(clips[1].audio, samples[16000:48000], atol=1e-4)


def test_pieces_of_long_sound_are_cut_at_pauses_and_cover_it(tmp_path):
    rate = 8000
    samples = tone(np.arange(70 * rate) / rate)
    for pause in (25, 52):
        samples[pause * rate : (pause + 1) * rate] = 0.001
    subject = reader(make_wav(tmp_path / "a.wav", samples, rate), "fake/pieces")
    pieces = [r.clip for w in subject.windows() for r in w.requests]
    assert sum(len(p.audio) for p in pieces) == len(samples)
    assert pieces[0].audio_start == 0.0
    ends = [p.audio_start + len(p.audio) / rate for p in pieces]
    assert ends[:-1] == pytest.approx([p.audio_start for p in pieces[1:]], abs=1e-3)
    assert 25 <= ends[0] <= 26
    assert 52 <= ends[1] <= 53
    assert all(len(p.audio) <= 31 * rate for p in pieces)


@given(
    st.integers(1, 8),
    st.sampled_from([(16000, 8000), (8000, 16000), (16000, 22050), (44100, 16000), (8000, 8000)]),
    st.integers(100, 3000),
)
def test_resampling_has_no_seams(pieces, rates, length):
    rate, wanted = rates
    samples = np.sin(2 * np.pi * 300 * np.arange(pieces * length) / rate).astype(np.float32)
    resampler = Resampler(rate, wanted)
    out: list[Sound] = []
    for i in range(pieces):
        out += resampler.push(Sound(2.0 + i * length / rate, samples[i * length : (i + 1) * length]))
    out += resampler.flush()
    joined = np.concatenate([piece.samples for piece in out])
    assert np.array_equal(joined, resample(samples, rate, wanted))
    assert abs(len(joined) - len(samples) * wanted / rate) <= 1
    assert out[0].start == 2.0
    for before, after in pairwise(out):
        assert after.start == pytest.approx(before.start + len(before.samples) / wanted)
    inner = slice(100, -100)
    assert np.allclose(joined[inner], np.sin(2 * np.pi * 300 * np.arange(len(joined)) / wanted)[inner], atol=2e-3)


def test_resampling_keeps_gaps():
    resampler = Resampler(1000, 500)
    ones = np.ones(1000, np.float32)
    out = [*resampler.push(Sound(0.0, ones)), *resampler.push(Sound(5.0, ones)), *resampler.flush()]
    assert sum(len(p.samples) for p in out) == 1000
    assert {p.start for p in out if p.start >= 4} >= {5.0}
    assert max(p.start + len(p.samples) / 500 for p in out if p.start < 4) == pytest.approx(1.0)


def test_a_sound_buffer_fills_gaps_with_zeros_and_forgets():
    buffer = SoundBuffer(10, deque([Sound(0.0, np.full(10, 1.0, np.float32)), Sound(2.0, np.full(10, 2.0, np.float32))]))
    samples, start = buffer.cut(0.5, 2.5)
    assert start == 0.5
    assert samples.tolist() == [1.0] * 5 + [0.0] * 10 + [2.0] * 5
    assert buffer.cut(1.0, 2.0) is None
    assert buffer.cut(-5.0, 0.0) is None
    assert buffer.end == 3.0
    buffer.forget(1.0)
    assert [piece.start for piece in buffer.pieces] == [2.0]
    assert SoundBuffer(10).end == -np.inf


def test_a_frame_buffer_forgets():
    buffer = FrameBuffer(None)
    for i in range(10):
        buffer.add(i / 2, np.full((2, 2, 3), i, np.uint8))
    frames, times = buffer.cut(Span(1.0, 3.0), Frames(count=2), 2.0)
    assert times.tolist() == [1.5, 2.5]
    assert frames[:, 0, 0, 0].tolist() == [3, 5]
    buffer.forget(2.0)
    assert buffer.times[0] == 2.0
    assert buffer.cut(Span(0.0, 1.0), Frames(count=2), 2.0) is None


@given(st.lists(st.floats(0.001, 0.5), min_size=1, max_size=100), st.sampled_from([0.5, 1.0, 5.0, 30.0]))
def test_a_ticker_takes_one_picture_per_period_at_most(gaps, fps):
    times = np.cumsum(gaps)
    ticker = Ticker(fps)
    taken = [t for t in times if ticker.due(t)]
    assert taken[0] == times[0]
    kept = periods(np.array(taken), fps)
    assert len(set(kept)) == len(kept)
    assert set(kept) == set(periods(times, fps)), "and one in each period that has pictures"


def test_silence_is_below_two_steps_of_16_bit_sound():
    assert is_silent(np.zeros(10, np.float32))
    assert is_silent(np.empty(0, np.float32))
    assert is_silent(np.full(10, 1 / 32768, np.float32))
    assert not is_silent(np.full(10, 3 / 32768, np.float32))


def test_the_quietest_place_is_in_the_last_third():
    samples = np.ones(3000, np.float32)
    samples[500:700] = 0
    samples[2400:2700] = 0
    assert 2400 <= quietest(samples, 1000) <= 2700
