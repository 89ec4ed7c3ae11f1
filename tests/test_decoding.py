"""Decoding: the right pictures and samples at the right times, compared with plain PyAV, the wave module and closed forms."""

from __future__ import annotations

import struct
import wave
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from affectkit.decoding import Frame, Sound, read_frames, read_sound
from affectkit.errors import MediaError
from affectkit.media import Media, open_media
from affectkit.pictures import read_picture
from affectkit.testing.media import make_frames, make_video, make_wav, moving_pattern, tone

REAL = (
    "video/debate_5s.mp4",
    "video/face_noface.mov",
    "video/no_face.mp4",
    "video/sorry.mkv",
    "video_edge/unordered.mov",
    "video_edge/h264_10bits.mp4",
    "video_edge/h265_10bits.mp4",
    "video_edge/av1_video.mkv",
    "video_edge/park.mp4",
    "video_edge/bitmap.mp4",
    "video_edge/test_video_single_5_frames.mp4",
)


def until_broken(pieces: object) -> tuple[list, MediaError | None]:
    """What an iterator gives, and the error that ends it."""
    found = []
    try:
        for piece in pieces:  # type: ignore[attr-defined]
            found.append(piece)
    except MediaError as error:
        return found, error
    return found, None


def joined(pieces: Sequence[Sound]) -> np.ndarray:
    return np.concatenate([piece.samples for piece in pieces])


def assert_contiguous(pieces: Sequence[Sound], rate: int) -> None:
    for piece, after in pairwise(pieces):
        assert after.start == pytest.approx(piece.start + len(piece.samples) / rate, abs=1e-9)


# pictures


@pytest.mark.parametrize("name", REAL)
def test_pictures_are_those_of_pyav(shared_data: Path, name: str) -> None:
    media = open_media(shared_data / name)
    frames = list(read_frames(media))
    with av.open(str(shared_data / name)) as container:
        raw = [(frame.time, frame.to_ndarray(format="rgb24") if i % 40 == 0 else None) for i, frame in enumerate(container.decode(video=0))]
    assert [frame.time for frame in frames] == [time for time, _ in raw]
    assert [frame.index for frame in frames] == list(range(len(raw)))
    assert np.all(np.diff([frame.time for frame in frames]) > 0)
    for frame, (_, image) in zip(frames, raw, strict=True):
        if image is not None:
            np.testing.assert_array_equal(frame.rgb(), image)
            assert frame.rgb().shape == (*(media.size or ()), 3)


def test_the_second_video_stream(shared_data: Path) -> None:
    path = shared_data / "video_edge" / "nasa_13013.mp4"
    frames = list(read_frames(open_media(path, video_stream=3)))
    assert (len(frames), frames[0].rgb().shape) == (390, (270, 480, 3))
    assert len(list(read_frames(open_media(path)))) == 325


@pytest.mark.parametrize(("degrees", "turns"), [(90, 3), (180, 2), (270, 1)])
def test_real_rotation(shared_data: Path, degrees: int, turns: int) -> None:
    path = shared_data / "video_edge" / f"video_{degrees}.mov"
    frames = list(read_frames(open_media(path)))
    with av.open(str(path)) as container:
        for frame, raw in zip(frames, container.decode(video=0), strict=True):
            np.testing.assert_array_equal(frame.rgb(), np.rot90(raw.to_ndarray(format="rgb24"), turns))


@pytest.mark.parametrize(("rotation", "corner"), [(0, (0, 0)), (90, (-1, 0)), (180, (-1, -1)), (-90, (0, -1))])
def test_rotation_turns_against_the_clock(tmp_path: Path, rotation: int, corner: tuple[int, int]) -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    image[:32, :48] = 255  # the upper left quarter is white
    media = open_media(make_video(tmp_path / "turned.mp4", seconds=0.2, size=(64, 96), picture=lambda _: image, rotation=rotation))
    shown = next(read_frames(media)).rgb()
    assert shown.shape[:2] == media.size == ((64, 96) if rotation % 180 == 0 else (96, 64))
    bright = {(r, c): shown[r, c].mean() for r in (0, -1) for c in (0, -1)}
    assert max(bright, key=lambda place: bright[place]) == corner


@pytest.mark.parametrize(("name", "tick"), [("v.mp4", 1 / 90000), ("v.mkv", 1e-3), ("v.mov", 1 / 90000)])
def test_variable_rate(tmp_path: Path, name: str, tick: float) -> None:
    times = np.cumsum(np.random.default_rng(0).choice([0.02, 0.04, 0.1, 0.5], 40)) + 0.2
    level = {round(float(t), 6): 20 + 5 * i for i, t in enumerate(times)}
    path = make_video(
        tmp_path / name, times=list(times), picture=lambda t: np.full((64, 64, 3), level[round(t, 6)], np.uint8), size=(64, 64)
    )
    frames = list(read_frames(open_media(path)))
    np.testing.assert_allclose([frame.time for frame in frames], times, atol=tick)
    np.testing.assert_allclose([frame.rgb().mean() for frame in frames], list(level.values()), atol=3)


@pytest.mark.parametrize(
    ("codec", "pix_fmt"), [("libx264", "yuv420p10le"), ("libx264", "yuv444p"), ("mpeg4", "yuv420p"), ("libvpx-vp9", "yuv420p")]
)
def test_colours(tmp_path: Path, codec: str, pix_fmt: str) -> None:
    path = make_video(tmp_path / "c.mkv", seconds=0.4, codec=codec, pix_fmt=pix_fmt)
    for frame in read_frames(open_media(path)):
        assert np.abs(frame.rgb().astype(int) - moving_pattern(frame.time)).mean() < 8


def test_pixels_become_square(tmp_path: Path) -> None:
    path = tmp_path / "wide.mkv"
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(moving_pattern(0.0, (64, 96)), format="rgb24").reformat(format="yuv420p")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    media = open_media(path)
    image = next(read_frames(media)).rgb()
    assert media.size == image.shape[:2] == (64, 128)
    assert np.abs(image.astype(int) - moving_pattern(0.0, (64, 128))).mean() < 8


def test_pictures_are_made_when_asked_for(tmp_path: Path) -> None:
    path = make_video(tmp_path / "lazy.mp4", seconds=1.0)
    eager = [frame.rgb() for frame in read_frames(open_media(path))]
    late = [frame.rgb() for frame in list(read_frames(open_media(path)))]
    np.testing.assert_array_equal(eager, late)


def test_leaving_early_closes_the_file(tmp_path: Path) -> None:
    path = make_video(tmp_path / "left.mp4", seconds=1.0, sound=tone)
    frames, sound = read_frames(open_media(path)), read_sound(open_media(path), 16000)
    next(frames), next(sound)
    frames.close()  # type: ignore[attr-defined]
    sound.close()  # type: ignore[attr-defined]
    path.unlink()


def test_picture_file_is_one_frame(tmp_path: Path) -> None:
    image = moving_pattern(0.3, (40, 60))
    path = tmp_path / "p.png"
    path.write_bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())
    frames = list(read_frames(open_media(path)))
    assert [(frame.time, frame.index) for frame in frames] == [(0.0, 0)]
    np.testing.assert_array_equal(frames[0].rgb(), image)


def test_orientation_of_photos(tmp_path: Path) -> None:
    data = cv2.imencode(".jpg", moving_pattern(0.0, (40, 60)))[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6: turn with the clock
    path = tmp_path / "phone.jpg"
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    (tmp_path / "plain.jpg").write_bytes(data)
    np.testing.assert_array_equal(read_picture(path), np.rot90(read_picture(tmp_path / "plain.jpg"), 3))
    assert open_media(path).size == (60, 40)


def test_folder_of_frames_keeps_gaps(tmp_path: Path) -> None:
    frames = list(read_frames(open_media(make_frames(tmp_path / "f", [2, 3, 7, 10]), fps=5)))
    assert [frame.index for frame in frames] == [2, 3, 7, 10]
    np.testing.assert_allclose([frame.time for frame in frames], [0.2, 0.4, 1.2, 1.8])
    assert all(np.abs(frame.rgb().astype(int) - moving_pattern(frame.index / 10)).mean() < 4 for frame in frames)


def test_folder_of_frames_from_zero_and_unpadded(tmp_path: Path) -> None:
    frames = list(read_frames(open_media(make_frames(tmp_path / "f", range(12), name="img{}.png"), fps=10)))
    assert [frame.index for frame in frames] == list(range(12))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(12) / 10)


def test_broken_pictures_of_a_folder_are_told(tmp_path: Path) -> None:
    folder = make_frames(tmp_path / "f", range(1, 7))
    (folder / "00003.jpg").write_bytes(b"")
    (folder / "00005.jpg").write_bytes(b"no picture")
    frames, error = until_broken(read_frames(open_media(folder, fps=10)))
    assert [frame.index for frame in frames] == [1, 2, 4, 6]
    assert error is not None
    assert error.at == pytest.approx(0.2)
    assert "2 of 6 pictures cannot be read: 00003.jpg, 00005.jpg" in str(error)


def test_sound_alone_has_no_pictures(tmp_path: Path) -> None:
    assert list(read_frames(open_media(make_wav(tmp_path / "s.wav", np.zeros(160))))) == []


# damage


def test_a_real_file_that_breaks(shared_data: Path) -> None:
    media = open_media(shared_data / "video_edge" / "corrupted.mp4")
    frames, error = until_broken(read_frames(media))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(28) / 10)
    assert error is not None
    assert error.at == pytest.approx(2.7)
    assert "video stream 0 breaks after 2.70 s: Invalid data" in str(error)
    assert "nothing after that can be decoded, of 5.00 s" in str(error)


def test_a_file_that_was_cut_off(tmp_path: Path) -> None:
    for name, options in (("cut.mkv", {}), ("cut.mp4", {"movflags": "faststart"})):
        path = make_video(tmp_path / name, seconds=8.0, sound=tone, options=options)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 5 // 8])
        media = open_media(path)
        assert media.duration == pytest.approx(8.0, abs=0.1)
        frames, error = until_broken(read_frames(media))
        assert frames[-1].time == pytest.approx(5.0, abs=1.0)
        assert error is not None
        assert error.at == frames[-1].time
        assert f"{frames[-1].time:.2f} s" in str(error)
        assert "8.0" in str(error)
        sounds, error = until_broken(read_sound(media, 16000))
        assert error is not None
        assert error.at == pytest.approx(sounds[-1].start + len(sounds[-1].samples) / 16000, abs=0.01)
        assert "audio stream 1 ends at" in str(error) or "audio stream 1 breaks after" in str(error)


def spoil(path: Path, kind: str, packets: range) -> list[float]:
    """Overwrites packets of a stream, and gives the times of them all."""
    with av.open(str(path)) as container:
        found = [p for p in container.demux(next(s for s in container.streams if s.type == kind)) if p.size]
        places = [(p.pos, p.size, float(p.pts * p.time_base)) for p in found]
    data = bytearray(path.read_bytes())
    for pos, size, _ in places[packets.start : packets.stop]:
        data[pos : pos + size] = b"\xff" * size
    path.write_bytes(data)
    return [time for _, _, time in places]


@pytest.mark.parametrize("size", [(96, 128), (96, 64)])
def test_pictures_after_the_next_key_frame_are_kept(tmp_path: Path, size: tuple[int, int]) -> None:
    path = make_video(tmp_path / "spoilt.mp4", seconds=30.0, size=size)
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    keys = [round(float(p.pts * p.time_base) * 25) for p in packets if p.is_keyframe]
    resumed = min(number for number in keys if number > 303)
    spoil(path, "video", range(300, 303))
    frames, error = until_broken(read_frames(open_media(path)))
    times = np.array([frame.time for frame in frames])
    assert error is not None
    assert 11.5 < (error.at or 0) < 12.2
    assert "later parts can be decoded and are kept" in str(error)
    before = times[times <= (error.at or 0)]
    np.testing.assert_allclose(before, np.arange(len(before)) / 25, atol=1e-4)
    np.testing.assert_allclose(times[len(before) :], np.arange(resumed, 750) / 25, atol=1e-4)
    assert all(np.abs(f.rgb().astype(int) - moving_pattern(f.time, size)).mean() < 6 for f in frames[::25])


def test_damage_in_the_last_moments_is_none(tmp_path: Path) -> None:
    path = make_video(tmp_path / "end.mp4", seconds=4.0)
    spoil(path, "video", range(98, 100))
    frames, error = until_broken(read_frames(open_media(path)))
    assert error is None
    assert len(frames) >= 95


def test_nothing_can_be_decoded(tmp_path: Path) -> None:
    path = make_video(tmp_path / "all.mp4", seconds=4.0)
    spoil(path, "video", range(100))
    frames, error = until_broken(read_frames(open_media(path)))
    assert frames == []
    assert error is not None
    assert error.at == 0.0
    assert "video stream 0 cannot be decoded: Invalid data" in str(error)


def test_a_short_sound_that_cannot_be_decoded(tmp_path: Path) -> None:
    path = make_video(tmp_path / "all.mp4", seconds=0.3, sound=tone)
    spoil(path, "audio", range(100))
    pieces, error = until_broken(read_sound(open_media(path), 16000))
    assert pieces == []
    assert error is not None
    assert "audio stream 1 cannot be decoded: " in str(error)


def test_spoilt_sound_leaves_a_gap(tmp_path: Path) -> None:
    path = make_video(tmp_path / "s.mp4", seconds=4.0, sound=tone)
    times = spoil(path, "audio", range(20, 30))
    pieces, error = until_broken(read_sound(open_media(path), 16000))
    assert error is not None
    assert error.at == pytest.approx(times[20], abs=0.07)
    assert "audio stream 1 breaks after" in str(error)
    gaps = [(a.start + len(a.samples) / 16000, b.start) for a, b in pairwise(pieces)]
    gaps = [gap for gap in gaps if gap[1] - gap[0] > 0.01]
    assert len(gaps) == 1
    assert gaps[0] == pytest.approx((times[20], times[30]), abs=0.07)


def test_real_sound_that_fails_elsewhere(shared_data: Path) -> None:
    path = shared_data / "video_edge" / "video_with_failing_audio.mp4"
    pieces, error = until_broken(read_sound(open_media(path), 44100))
    with av.open(str(path)) as container:
        raw = [frame.to_ndarray() for frame in container.decode(audio=0)]
    assert error is None
    np.testing.assert_allclose(joined(pieces), np.concatenate(raw, axis=1).mean(axis=0), atol=1e-5)


def test_time_stamps_that_go_back(tmp_path: Path) -> None:
    first = make_video(tmp_path / "a.ts", seconds=5.0, sound=tone)
    second = make_video(tmp_path / "b.ts", seconds=3.0, sound=tone)
    path = tmp_path / "joined.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    frames, error = until_broken(read_frames(open_media(path)))
    assert np.all(np.diff([frame.time for frame in frames]) > 0)
    assert frames[-1].time == pytest.approx(5.0, abs=0.2)
    assert error is not None
    assert error.at == frames[-1].time
    assert "its time stamps go back to 0." in str(error)
    assert "what follows is left out" in str(error)
    pieces, error = until_broken(read_sound(open_media(path), 16000))
    assert_contiguous(pieces, 16000)
    assert error is not None
    assert "its time stamps go back to 0." in str(error)


# sound


def test_sixteen_bits_to_the_sample(tmp_path: Path) -> None:
    samples = tone(np.arange(40000) / 16000)
    path = make_wav(tmp_path / "s.wav", samples)
    pieces = list(read_sound(open_media(path), 16000))
    with wave.open(str(path)) as file:
        expected = np.frombuffer(file.readframes(10**6), "<i2") / 32768
    np.testing.assert_allclose(joined(pieces), expected, atol=1e-7)
    assert pieces[0].start == 0.0
    assert_contiguous(pieces, 16000)
    assert max(len(piece.samples) for piece in pieces) <= 16000
    assert all(piece.samples.dtype == np.float32 and piece.samples.ndim == 1 for piece in pieces)


@pytest.mark.parametrize(("source", "rate"), [(44100, 16000), (8000, 16000), (48000, 22050), (11025, 16000)])
def test_resampling_keeps_a_tone(tmp_path: Path, source: int, rate: int) -> None:
    path = make_wav(tmp_path / "t.wav", tone(np.arange(3 * source) / source), source)
    sound = joined(list(read_sound(open_media(path), rate)))
    assert abs(len(sound) - 3 * rate) <= 1
    expected = tone(np.arange(len(sound)) / rate)
    np.testing.assert_allclose(sound[rate // 10 : -rate // 10], expected[rate // 10 : -rate // 10], atol=2e-3)


def test_channels_are_mixed_with_equal_weight(tmp_path: Path) -> None:
    both = np.stack([np.full(16000, 0.8), np.full(16000, -0.2)], axis=1)
    sound = joined(list(read_sound(open_media(make_wav(tmp_path / "lr.wav", both)), 16000)))
    np.testing.assert_allclose(sound, 0.3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "seconds"), [("silence.wav", 120.0), ("homer.wav", 3.3993), ("jfk.flac", 11.0), ("test_eng_1_second.wav", 1.0)]
)
def test_real_sound(shared_data: Path, name: str, seconds: float) -> None:
    pieces = list(read_sound(open_media(shared_data / "audio_edge" / name), 16000))
    assert len(joined(pieces)) / 16000 == pytest.approx(seconds, abs=2e-4)
    assert_contiguous(pieces, 16000)
    assert np.abs(joined(pieces)).max() <= 1.0


def test_eight_bits_and_eleven_kilohertz(shared_data: Path) -> None:
    path = shared_data / "audio_edge" / "homer.wav"
    with wave.open(str(path)) as file:
        expected = (np.frombuffer(file.readframes(10**6), np.uint8).astype(float) - 128) / 128
    np.testing.assert_allclose(joined(list(read_sound(open_media(path), 11025))), expected, atol=1e-6)


def test_silence_stays_digital(shared_data: Path) -> None:
    for name in ("audio_edge/silence.wav", "video_edge/silent_audio_track.mp4"):
        pieces = list(read_sound(open_media(shared_data / name), 16000))
        assert pieces
        assert not joined(pieces).any()


def test_sound_that_starts_late(shared_data: Path) -> None:
    pieces = list(read_sound(open_media(shared_data / "video" / "face_noface.mov"), 16000))
    assert pieces[0].start == pytest.approx(2.43002, abs=1e-4)
    assert_contiguous(pieces, 16000)


def test_sound_that_ends_early(shared_data: Path) -> None:
    media = open_media(shared_data / "video" / "noface_face.mov")
    pieces = list(read_sound(media, 16000))
    assert pieces[-1].start + len(pieces[-1].samples) / 16000 == pytest.approx(3.95, abs=0.03)
    assert media.duration == pytest.approx(6.379, abs=1e-3)


def test_no_sound(tmp_path: Path) -> None:
    assert list(read_sound(open_media(make_video(tmp_path / "mute.mp4", seconds=0.5)), 16000)) == []


def test_sound_beside_a_folder_of_frames(tmp_path: Path) -> None:
    folder = make_frames(tmp_path / "f", [1, 2, 3])
    sound = make_wav(tmp_path / "f.wav", tone(np.arange(8000) / 16000))
    assert len(joined(list(read_sound(open_media(folder, fps=10, sound=sound), 16000)))) == 8000


def write_sound(path: Path, starts: Sequence[float], rate: int = 44100, count: int = 4410, codec: str = "pcm_s16le") -> Media:
    """Sound in frames of ``count`` samples at the given times; every frame holds the tone of its own time."""
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "mono"
        for start in starts:
            samples = np.round(tone(start + np.arange(count) / rate) * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), round(start * rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return open_media(path)


def test_rounded_time_stamps_are_no_gaps(tmp_path: Path) -> None:
    # 4096 samples at 44.1 kHz last 92.88 ms, which Matroska rounds to 92 or 93
    media = write_sound(tmp_path / "jitter.mka", [i * 4096 / 44100 for i in range(60)], count=4096)
    pieces = list(read_sound(media, 44100))
    assert len(joined(pieces)) == 60 * 4096
    assert_contiguous(pieces, 44100)
    np.testing.assert_allclose(joined(pieces), tone(np.arange(60 * 4096) / 44100), atol=1e-4)


def test_a_gap_starts_anew(tmp_path: Path) -> None:
    starts = [*(i * 0.1 for i in range(20)), *(3.0 + i * 0.1 for i in range(15))]
    pieces = list(read_sound(write_sound(tmp_path / "gap.mka", starts), 16000))
    ends = [piece.start + len(piece.samples) / 16000 for piece in pieces]
    gaps = [(end, after.start) for end, after in zip(ends, pieces[1:], strict=False) if after.start - end > 1e-6]
    assert gaps == [pytest.approx((2.0, 3.0), abs=1e-3)]
    assert ends[-1] == pytest.approx(4.5, abs=1e-3)
    for piece in pieces:
        inside = slice(200, -200)
        np.testing.assert_allclose(piece.samples[inside], tone(piece.start + np.arange(len(piece.samples)) / 16000)[inside], atol=5e-3)


def test_overlapping_sound_is_given_once(tmp_path: Path) -> None:
    starts = [*(i * 0.1 for i in range(20)), *(1.95 + i * 0.1 for i in range(10))]
    pieces = list(read_sound(write_sound(tmp_path / "overlap.mka", starts), 16000))
    ends = [piece.start + len(piece.samples) / 16000 for piece in pieces]
    assert all(after.start >= end - 1e-4 for end, after in zip(ends, pieces[1:], strict=False))
    assert len(joined(pieces)) / 16000 == pytest.approx(2.95, abs=2e-3)


def test_frames_and_sounds_say_what_they_are() -> None:
    assert repr(Frame(0.5, 3, lambda: np.zeros((1, 1, 3), np.uint8))) == "Frame(time=0.5, index=3)"
