"""Opening media: what is said of files and folders before they are decoded, and what is refused with which words."""

from __future__ import annotations

import os
import struct
import wave
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectkit.decoding import read_frames, read_sound
from affectkit.errors import MediaError, UsageError
from affectkit.evidence import Word
from affectkit.media import Media, discover, open_media, unique_ids
from affectkit.testing.media import make_frames, make_video, make_wav, moving_pattern, tone


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="module")
def clip(folder: Path) -> Path:
    return make_video(folder / "clip.mp4", sound=tone)


def test_video_with_sound(clip: Path) -> None:
    media = open_media(clip)
    assert (media.id, media.kind, media.fps, media.size) == ("clip", "video", 25.0, (96, 128))
    assert (media.start, media.duration) == pytest.approx((0.0, 2.0), abs=0.07)
    assert (media.video, media.audio, media.sound) == (0, 1, None)


def test_the_same_call_makes_the_same_file(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mkv"):
        files = [make_video(tmp_path / f"{i}/{name}", seconds=1.0, sound=tone, subtitles=[Word("hello", 0.1, 0.9)]) for i in range(2)]
        assert files[0].read_bytes() == files[1].read_bytes()
        assert files[0].stat().st_size < 30_000


def test_sound_file(folder: Path) -> None:
    media = open_media(make_wav(folder / "speech.wav", tone(np.arange(8000) / 16000)), id="mine")
    assert media == Media("mine", folder / "speech.wav", "audio", duration=0.5, audio=0)


def test_picture(folder: Path) -> None:
    path = folder / "face.png"
    path.write_bytes(cv2.imencode(".png", moving_pattern(0.0, (30, 50)))[1].tobytes())
    assert open_media(path) == Media("face", path, "image", duration=0.0, size=(30, 50))


def test_picture_under_another_name(folder: Path) -> None:
    path = folder / "photo.dat"
    path.write_bytes(cv2.imencode(".jpg", moving_pattern(0.0, (30, 50)))[1].tobytes())
    assert open_media(path).kind == "image"


@pytest.mark.parametrize(
    ("name", "kind", "start", "duration", "size"),
    [
        ("video/sorry.mkv", "video", 0.033, 2.433, (480, 640)),
        ("video/face_noface.mov", "video", 0.0, 6.424, (540, 960)),
        ("video_edge/video_90.mov", "video", 0.0, 0.1, (568, 320)),
        ("video_edge/video_180.mov", "video", 0.0, 0.1, (320, 568)),
        ("video_edge/video_270.mov", "video", 0.0, 0.1, (568, 320)),
        ("video_edge/av1_video.mkv", "video", 0.0, 5.0, (360, 640)),
        ("video_edge/bitmap.mp4", "video", 0.0, 5.0, (1, 1)),
        ("video_edge/nasa_13013.mp4", "video", 0.0, 13.056, (180, 320)),  # its subtitles last for 16.57 s
        ("audio_edge/silence.wav", "audio", 0.0, 120.0, None),
        ("audio_edge/jfk.flac", "audio", 0.0, 11.0, None),
        ("audio_edge/homer.wav", "audio", 0.0, 3.399, None),
        ("images/multi_face.jpg", "image", 0.0, 0.0, (667, 1000)),
    ],
)
def test_real_files(shared_data: Path, name: str, kind: str, start: float, duration: float, size: tuple[int, int] | None) -> None:
    media = open_media(shared_data / name)
    assert (media.kind, media.size) == (kind, size)
    assert (media.start, media.duration) == pytest.approx((start, duration), abs=2e-3)


def test_streams_are_chosen_by_container_index(shared_data: Path) -> None:
    path = shared_data / "video_edge" / "nasa_13013.mp4"
    assert (open_media(path).video, open_media(path).audio) == (0, 1)
    second = open_media(path, video_stream=3, audio_stream=4)
    assert (second.video, second.audio, second.size) == (3, 4, (270, 480))
    assert second.fps == pytest.approx(30000 / 1001)
    with pytest.raises(
        MediaError, match=r"no video stream with index 1; its streams are 0: video \(h264 320x180\), 1: audio \(aac 8000 Hz\), 2: "
    ):
        open_media(path, video_stream=1)
    with pytest.raises(MediaError, match="no audio stream with index 9"):
        open_media(path, audio_stream=9)


def test_cover_pictures_are_no_video(folder: Path) -> None:
    import av

    path = folder / "song.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        sound = container.add_stream("aac", rate=16000)
        sound.layout = "mono"
        container.mux(cover.encode(av.VideoFrame.from_ndarray(moving_pattern(0.0, (64, 64)), format="rgb24").reformat(format="yuvj420p")))
        frame = av.AudioFrame.from_ndarray(tone(np.arange(16000) / 16000)[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        container.mux(sound.encode(frame))
        for stream in (cover, sound):
            container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    media = open_media(path)
    assert (media.kind, media.video) == ("audio", None)


@pytest.mark.parametrize(
    ("name", "options", "codec"),
    [
        ("live.webm", {"live": "1"}, "libvpx-vp9"),  # as browsers record: no duration in the header
        ("raw.h264", {}, "libx264"),
        ("cast.ts", {}, "libx264"),
        ("fragments.mp4", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}, "libx264"),
        ("clip.avi", {}, "mpeg4"),
    ],
)
def test_duration_where_the_header_does_not_say(folder: Path, name: str, options: dict[str, str], codec: str) -> None:
    media = open_media(make_video(folder / name, seconds=12.0, codec=codec, options=options))
    times = [frame.time for frame in read_frames(media)]
    assert media.duration == pytest.approx(12.0, abs=0.05)
    assert media.fps == pytest.approx(25.0, rel=0.01)
    assert len(times) == 300
    assert times[0] >= media.start - 1e-6
    assert times[-1] < media.start + media.duration


def test_subtitles_longer_than_the_video_do_not_count(folder: Path) -> None:
    path = make_video(folder / "captions.mkv", subtitles=[Word("hello", 1.0, 30.0)])
    assert open_media(path).duration == pytest.approx(2.0, abs=0.01)


def test_end_of_variable_rate(folder: Path) -> None:
    times = [0.0, 0.04, 0.1, 0.35, 0.4, 0.9, 1.5]
    media = open_media(make_video(folder / "variable.mp4", times=times))
    assert media.duration > 1.5
    assert media.fps == pytest.approx(len(times) / media.duration)


def test_declared_duration_beyond_belief(folder: Path) -> None:
    path = make_wav(folder / "stream.wav", tone(np.arange(16000) / 16000))
    data = bytearray(path.read_bytes())
    data[40:44] = struct.pack("<I", 0x7FFFFF00)  # what programs write that stream to a pipe: 18 hours
    path.write_bytes(data)
    media = open_media(path)
    assert media.duration == pytest.approx(1.0, abs=0.01)
    assert sum(len(piece.samples) for piece in read_sound(media, 16000)) == 16000


def test_names_that_look_like_something_else(folder: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http:x.mp4", "concat:a|b.mp4", "pipe:0.mp4", "ü ö 表情 %03d [1].mp4", "-i.mp4", "a 'quoted' \"name\".mp4"):
        path = folder / name
        path.write_bytes(clip.read_bytes())
        assert open_media(path).duration == pytest.approx(2.0, abs=0.07)
    monkeypatch.chdir(folder)
    assert open_media("http:x.mp4").id == "http:x"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.mp4", None, "gone.mp4 does not exist"),
        ("nothing.mp4", b"", r"nothing.mp4 is empty \(0 bytes\)"),
        ("text.mp4", b"This is no video.\n" * 40, "cannot be read as video, sound or picture: Invalid data"),
        ("text.jpg", b"This is no picture.\n" * 40, "cannot be read as a picture"),
        ("list.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nother.ts\n", "cannot be read|list of other files"),
        ("notes.txt", b"This is no video.\n" * 40, "cannot be read|is text"),
        ("cues.mp4", b"1\n00:00:01,000 --> 00:00:02,000\nhello\n", "neither pictures nor sound; its streams are 0: subtitle"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MediaError, match=message):
        open_media(tmp_path / name)


def test_a_sound_track_without_sound(tmp_path: Path) -> None:
    path = make_video(tmp_path / "phone.mkv", sound=np.zeros(0, np.float32))
    media = open_media(path)
    assert (media.kind, media.video, media.audio) == ("video", 0, None)
    with pytest.raises(MediaError, match="its audio stream 1 is empty; its streams are 0: video"):
        open_media(path, audio_stream=1)
    frames = make_frames(tmp_path / "f", [1, 2])
    with pytest.raises(MediaError, match=r"phone.mkv has no sound in its streams"):
        open_media(frames, fps=10, sound=path, audio_stream=1)


def test_codec_without_a_decoder(tmp_path: Path, clip: Path) -> None:
    path = tmp_path / "future.mp4"
    path.write_bytes(clip.read_bytes().replace(b"avc1", b"zzz9").replace(b"avcC", b"zzzC"))
    with pytest.raises(MediaError, match=r"FFmpeg has no decoder for its video stream 0; convert the file"):
        open_media(path)


def test_sound_without_samples(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "none.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", "not compressed"))
    with pytest.raises(MediaError, match=r"none.wav has nothing in its streams \(0: audio"):
        open_media(tmp_path / "none.wav")


@pytest.mark.skipif(os.name == "nt" or (hasattr(os, "geteuid") and os.geteuid() == 0), reason="the superuser may read everything")
def test_file_that_may_not_be_read(tmp_path: Path, clip: Path) -> None:
    path = tmp_path / "secret.mp4"
    path.write_bytes(clip.read_bytes())
    path.chmod(0)
    with pytest.raises(MediaError, match="may not be read: Permission denied"):
        open_media(path)


def test_files_and_pictures_take_no_options_of_folders(folder: Path, clip: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="a sound file belongs to a folder of frames"):
        open_media(clip, sound=clip)
    frames = make_frames(tmp_path / "f", [1, 2])
    with pytest.raises(MediaError, match="is a picture; it has no streams"):
        open_media(frames / "00001.jpg", video_stream=1)


def test_folder_of_frames(tmp_path: Path) -> None:
    frames = make_frames(tmp_path / "00_a.b", [3, 4, 7, 8], (40, 60))
    media = open_media(frames, fps=10)
    assert (media.id, media.kind, media.fps, media.size) == ("00_a.b", "frames", 10.0, (40, 60))
    assert (media.start, media.duration) == pytest.approx((0.2, 0.6))


def test_folder_of_frames_from_zero(tmp_path: Path) -> None:
    media = open_media(make_frames(tmp_path / "zero", range(5), name="frame_{:06d}.png"), fps=5)
    assert (media.start, media.duration) == pytest.approx((0.0, 1.0))


def test_folder_of_frames_with_sound(tmp_path: Path) -> None:
    frames = make_frames(tmp_path / "f", [1, 2, 3])
    sound = make_wav(tmp_path / "f.wav", tone(np.arange(32000) / 16000))
    media = open_media(frames, fps=10, sound=sound)
    assert (media.sound, media.audio, media.duration) == (sound, 0, 2.0)
    with pytest.raises(MediaError, match=r"00001.jpg has no sound"):
        open_media(frames, fps=10, sound=frames / "00001.jpg")
    with pytest.raises(MediaError, match=r"gone.wav does not exist"):
        open_media(frames, fps=10, sound=tmp_path / "gone.wav")
    with pytest.raises(MediaError, match="without a sound file; it has no audio streams"):
        open_media(frames, fps=10, audio_stream=0)
    with pytest.raises(MediaError, match="is a folder of frames; it has no video streams"):
        open_media(frames, fps=10, video_stream=1)


def test_folders_that_are_no_frames(tmp_path: Path) -> None:
    frames = make_frames(tmp_path / "f", [1, 2, 3])
    with pytest.raises(MediaError, match=r"folder of 3 numbered frames.*pass --fps, for instance --fps 30"):
        open_media(frames)
    with pytest.raises(UsageError, match="must be a positive number, found 0"):
        open_media(frames, fps=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="empty is not a folder of frames: it has no pictures that are named alike"):
        open_media(tmp_path / "empty", fps=10)
    (frames / "1.png").write_bytes((frames / "00001.jpg").read_bytes())
    with pytest.raises(MediaError, match=r"two pictures with the number 1: 00001.jpg and 1.png; remove one"):
        open_media(frames, fps=10)


def test_discover_searches_folders(tmp_path: Path, clip: Path) -> None:
    for name in ("b/talk.mp4", "a/talk.mp4", "a/.hidden.mp4", "a/._talk.mp4", "c/deep/er/x.MKV", "c/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(clip.read_bytes())
    make_wav(tmp_path / "b/talk.wav", np.zeros(1600))
    make_frames(tmp_path / "frames/0001", [1, 2])
    make_frames(tmp_path / "photos", [1], name="anna_{}.jpg")
    make_frames(tmp_path / "photos", [1], name="ben_{}.jpg")
    (tmp_path / "c/bad.mp4").write_bytes(b"no video at all, no video at all")
    media, errors = discover([tmp_path], fps=10)
    assert [(m.id, m.kind) for m in media] == [
        ("a/talk.mp4", "video"),
        ("b/talk.mp4", "video"),
        ("talk.wav", "audio"),
        ("x", "video"),
        ("0001", "frames"),
        ("anna_1", "image"),
        ("ben_1", "image"),
    ]
    assert [path for path, _ in errors] == [tmp_path / "c/bad.mp4"]
    again, _ = discover([tmp_path, tmp_path / "a", tmp_path / "b/../a/talk.mp4"], fps=10)
    assert [m.id for m in again] == [m.id for m in media]


def test_discover_goes_on_after_what_cannot_be_read(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "empty").mkdir()
    frames = make_frames(tmp_path / "frames", [1, 2])
    media, errors = discover([tmp_path / "gone.mp4", clip, tmp_path / "empty", frames])
    assert [m.id for m in media] == ["clip"]
    assert [path.name for path, _ in errors] == ["gone.mp4", "empty", "frames"] or {p.name for p, _ in errors} == {
        "gone.mp4",
        "empty",
        "frames",
    }
    messages = {path.name: str(error) for path, error in errors}
    assert "does not exist" in messages["gone.mp4"]
    assert "holds nothing to analyse; looked for videos, sound and pictures" in messages["empty"]
    assert "pass --fps" in messages["frames"]


def test_discover_gives_the_sound_to_the_one_folder(tmp_path: Path, clip: Path) -> None:
    sound = make_wav(tmp_path / "s.wav", np.zeros(1600))
    one, two = make_frames(tmp_path / "one", [1]), make_frames(tmp_path / "two", [1])
    media, errors = discover([one, clip], fps=10, sound=sound)
    assert not errors
    assert [m.sound for m in media] == [sound, None]
    for paths in ([one, two], [clip]):
        with pytest.raises(
            UsageError, match=f"a sound file belongs to exactly one folder of frames, found {len(paths) - (paths == [clip])}"
        ):
            discover(paths, fps=10, sound=sound)


def test_discover_follows_a_link_to_a_parent_once(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "loop").symlink_to(tmp_path)
    media, errors = discover([tmp_path])
    assert ([m.id for m in media], errors) == (["x"], [])


def test_a_link_is_called_by_its_own_name(tmp_path: Path, clip: Path) -> None:
    """As where git-annex or a cache keeps files by their digest; of the file itself and links to it, what comes first names it."""
    store, corpus = tmp_path / "store", tmp_path / "corpus"
    store.mkdir()
    corpus.mkdir()
    (store / "5f3a").write_bytes(clip.read_bytes())
    make_frames(store / "77c0", [1])
    (corpus / "01.mp4").symlink_to(store / "5f3a")
    (corpus / "02").symlink_to(store / "77c0")
    (corpus / "03.mp4").symlink_to(store / "5f3a")
    media, errors = discover([corpus], fps=10)
    assert ([m.id for m in media], errors) == (["01", "02"], [])
    kept, _ = discover([corpus], fps=10, known_ids={(store / "5f3a").resolve(): "older"})
    assert [m.id for m in kept] == ["older", "02"]
    assert open_media(corpus / "02", fps=10).id == "02"


def test_known_ids_are_kept_and_not_given_away(tmp_path: Path, clip: Path) -> None:
    paths = [tmp_path / "a/x.mp4", tmp_path / "b/x.mp4", tmp_path / "b/y.mp4"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(clip.read_bytes())
    media, _ = discover([paths[1]])
    assert [m.id for m in media] == ["x"]
    media, _ = discover(paths, known_ids={paths[1].resolve(): "x", Path("/elsewhere/y.mp4"): "y"})
    assert [m.id for m in media] == ["x.mp4", "x", "y.mp4"]


@given(st.lists(st.lists(st.sampled_from(["a", "b", "a.b", "a.mp4"]), min_size=1, max_size=4), unique_by=tuple), st.data())
def test_ids_are_unique(parts: list[list[str]], data: st.DataObject) -> None:
    paths = [Path("/", *names) for names in parts]
    earlier = data.draw(st.lists(st.sampled_from(paths), unique=True)) if paths else []
    known = unique_ids({path: path for path in earlier}, {})
    ids = unique_ids({path: path for path in paths}, known)
    assert list(ids) == paths
    assert len(set(ids.values())) == len(paths)
    assert {path: ids[path] for path in earlier} == known
    assert unique_ids({path: path for path in paths[::-1]}, ids) == ids
