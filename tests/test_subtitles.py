"""Subtitles: files and streams as cues with times, and the provider core/subtitles."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectkit.api import Clip, ConfigError, Evidence, Media, MediaError, Span, Word
from affectkit.builtin.subtitles import Subtitles
from affectkit.cues import plain_text, read_cues
from affectkit.media import open_media
from affectkit.testing.media import make_frames, make_video, make_wav

SRT = """1
00:00:01,000 --> 00:00:02,500
<i>Hello</i>, {\\an8}there

2
00:00:02,600 --> 00:01:03,040 X1:10 X2:20
Fish &amp; chips,
1 < 2

3
01:00:00.5 --> 01:00:01.25
42
"""

CUES = [Word("Hello, there", 1.0, 2.5), Word("Fish & chips, 1 < 2", 2.6, 63.04), Word("42", 3600.5, 3601.25)]

VTT = """WEBVTT - a title
Kind: captions

NOTE this is no cue
and neither is this

STYLE
::cue { color: white }

first
00:01.000 --> 00:02.500 align:start position:0%
<v Ann>Hello<00:00:01.500><c.loud>, there</c>

00:00:02.600 --> 00:01:03.040
Fish &amp; chips,
1 &lt; 2

last one
1:00:00.500 --> 1:00:01.250
42
"""


def transcript(media: Media, **options: str) -> Evidence:
    provider = Subtitles(Subtitles.Options(**options))
    return provider.provide([Clip(media, Span(media.start, media.start + media.duration))])[0]


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    return make_wav(tmp_path / "talk.wav", [0.0] * 16000)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_subrip(tmp_path: Path, encoding: str, newline: str) -> None:
    path = tmp_path / "talk.srt"
    path.write_bytes(SRT.replace("there", "où").replace("\n", newline).encode(encoding))
    assert read_cues(path) == [Word("Hello, où", 1.0, 2.5), *CUES[1:]]


def test_webvtt(tmp_path: Path) -> None:
    path = tmp_path / "talk.vtt"
    path.write_text(VTT, encoding="utf-8")
    assert read_cues(path) == CUES


def test_blank_lines_inside_a_subrip_cue(tmp_path: Path) -> None:
    path = tmp_path / "talk.srt"
    path.write_text(
        "1\n00:00:01,000 --> 00:00:02,000\none\n\ntwo\n\n2\n00:00:02,000 --> 00:00:03,000\n\n3\n00:00:03,000 --> 00:00:04,000\nthree"
    )
    assert read_cues(path) == [Word("one two", 1.0, 2.0), Word("three", 3.0, 4.0)]


def test_cues_come_in_order_of_time(tmp_path: Path) -> None:
    path = tmp_path / "talk.srt"
    path.write_text("1\n00:00:05,000 --> 00:00:06,000\nlater\n\n2\n00:00:01,000 --> 00:00:02,000\nsooner\n")
    assert [cue.text for cue in read_cues(path)] == ["sooner", "later"]


def test_subrip_as_ffmpeg_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "talk.srt"
    path.write_text(SRT, encoding="utf-8")
    copy = tmp_path / "talk.sub.txt"  # a name that is not ours to parse, so FFmpeg reads it
    copy.write_text(SRT.replace("\n1 < 2", "").replace("01:00:00.5 --> 01:00:01.25", "01:00:00,500 --> 01:00:01,250"), encoding="utf-8")
    with av.open(str(copy), format="srt") as container:
        packets = [packet for packet in container.demux(subtitles=0) if packet.size]
        times = [(float(p.pts * p.time_base), float((p.pts + (p.duration or 0)) * p.time_base)) for p in packets]
    assert times == [(cue.start, cue.end) for cue in read_cues(path)]


CUE_TEXT = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"], exclude_characters="<>{}&-"), min_size=1).filter(str.strip)


@given(st.lists(st.tuples(CUE_TEXT, st.integers(0, 10**7), st.integers(0, 10**4)), max_size=8, unique_by=lambda cue: cue[1]))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, cues: list[tuple[str, int, int]]) -> None:
    path = tmp_path_factory.mktemp("s") / "talk.vtt"

    def clock(ms: int) -> str:
        return f"{ms // 3600000:02d}:{ms // 60000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"

    text = "".join(f"{clock(start)} --> {clock(start + length)}\n{words}\n\n" for words, start, length in cues)
    path.write_text("WEBVTT\n\n" + text, encoding="utf-8")
    expected = sorted((start, start + length, words) for words, start, length in cues)
    assert [(round(c.start * 1000), round(c.end * 1000), c.text) for c in read_cues(path)] == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.srt",
            SRT.replace("00:00:02,600", "00:00:0x,600"),
            r"a.srt, line 6: '00:00:0x,600 --> 00:01:03,040 X1:10 X2:20' is not a pair of times",
        ),
        ("a.srt", SRT.replace("00:01:03,040", "00:00:01,000"), r"a.srt, line 6: the cue ends before it starts \(2.600 s to 1.000 s\)"),
        ("a.srt", "No cues here.\n", r"a.srt holds no cues: no line such as 00:00:01,000 --> 00:00:02,500; is it a subtitle file\?"),
        ("a.vtt", VTT.replace("00:01.000 -->", "soon -->"), r"a.vtt, line 11: 'soon --> 00:02.500"),
        ("a.srt", "", r"a.srt is empty \(0 bytes\)"),
        ("a.srt", None, "a.srt does not exist"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(MediaError, match=message):
        read_cues(tmp_path / name)


@pytest.mark.parametrize(("name", "codec"), [("t.mp4", "libx264"), ("t.mkv", "libx264"), ("t.webm", "libvpx-vp9")])
def test_streams_inside_a_file(tmp_path: Path, name: str, codec: str) -> None:
    words = [Word("Hello, there", 0.5, 1.2), Word("Bye", 1.4, 1.9)]
    path = make_video(tmp_path / name, codec=codec, subtitles=words)
    assert read_cues(path) == words
    media = open_media(path)
    assert transcript(media).data == {"text": "Hello, there Bye", "words": tuple(words)}


def test_advanced_substation_alpha(tmp_path: Path) -> None:
    path = tmp_path / "talk.ass"
    path.write_text(
        "[Script Info]\nScriptType: v4.00+\n\n[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
        "Dialogue: 0,0:00:01.00,0:00:02.50,Default,Ann,0,0,0,,{\\an8\\i1}Hello,\\Nthere\n"
    )
    assert read_cues(path) == [Word("Hello, there", 1.0, 2.5)]


def test_a_real_stream(shared_data: Path) -> None:
    path = shared_data / "video_edge" / "nasa_13013.mp4"
    cues = read_cues(path)
    assert [round(cue.start, 2) for cue in cues] == [0.21, 4.26, 8.35, 12.47]
    assert cues[0].text == "NAR: This is the optical and science segment of the Webb"
    assert read_cues(path, 5) == cues
    with pytest.raises(MediaError, match="no subtitle stream with index 3; its streams are 0: video"):
        read_cues(path, 3)


def test_file_without_subtitles(talk: Path) -> None:
    with pytest.raises(MediaError, match=r"talk\.wav has no subtitles; its streams are 0: audio"):
        read_cues(talk)


def test_pictures_of_text_are_refused(tmp_path: Path) -> None:
    path = make_picture_subtitles(tmp_path / "disc.mkv")
    with pytest.raises(MediaError, match=r"its subtitles are pictures \(dvd.*\), not text; give a .srt file instead"):
        read_cues(path)
    found = transcript(open_media(path))
    assert not found.valid
    assert found.reason.startswith("no subtitles beside the file and those inside are pictures (dvd")


def make_picture_subtitles(path: Path) -> Path:
    with av.open(str(path), "w", format="matroska") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        text = container.add_stream("dvdsub")
        text.codec_context.extradata = b"size: 64x64\npalette: " + b", ".join([b"000000"] * 16) + b"\n"
        container.start_encoding()
        for i in range(10):
            frame = av.VideoFrame(64, 64, "yuv420p")
            frame.pts = i
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def test_file_beside_comes_before_the_stream_inside(tmp_path: Path) -> None:
    media = open_media(make_video(tmp_path / "talk.mkv", subtitles=[Word("inside", 0.5, 1.0)]))
    assert transcript(media).data["text"] == "inside"
    (tmp_path / "talk.de.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nneben\n")
    assert transcript(media).data["text"] == "neben"
    (tmp_path / "talk.en.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nbeside\n")
    assert transcript(media, language="eng").data["text"] == "beside"
    (tmp_path / "talk.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nplain\n")
    assert transcript(media).data["text"] == "plain"
    assert transcript(media, language="de-AT").data["text"] == "neben"
    assert transcript(media, language="fr").data["text"] == "plain"


def test_the_language_of_a_stream_counts(shared_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "nasa.mp4"
    path.symlink_to(shared_data / "video_edge" / "nasa_13013.mp4")
    media = open_media(path)
    assert transcript(media, language="en").data["text"].startswith("NAR: This is")


def test_only_its_own_files_are_beside(tmp_path: Path, talk: Path) -> None:
    for name in ("talker.srt", "talk.part 2.srt", "talk.txt", "other.srt", "Talk.2.srt"):
        (tmp_path / name).write_text(SRT)
    found = transcript(open_media(talk))
    assert not found.valid
    assert found.reason == "no subtitles beside the file and none embedded"


def test_words_of_a_sound_file_and_a_folder_of_frames(tmp_path: Path, talk: Path) -> None:
    (tmp_path / "talk.srt").write_text(SRT)
    assert transcript(open_media(talk)).data["words"] == tuple(CUES)
    folder = make_frames(tmp_path / "take.01", [1, 2])
    assert not transcript(open_media(folder, fps=5)).valid
    (tmp_path / "take.01.srt").write_text(SRT)
    assert transcript(open_media(folder, fps=5)).data["words"] == tuple(CUES)


def test_the_file_of_the_option(tmp_path: Path, talk: Path) -> None:
    path = tmp_path / "elsewhere.srt"
    path.write_text(SRT)
    assert transcript(open_media(talk), path=str(path)).data["text"] == "Hello, there Fish & chips, 1 < 2 42"
    provider = Subtitles(Subtitles.Options(path=str(tmp_path / "gone.srt")))
    with pytest.raises(ConfigError, match=r"subtitles: there is no subtitle file .*gone.srt; correct the option path"):
        provider.load(None, None)  # type: ignore[arg-type]


def test_recordings_that_start_anywhere(tmp_path: Path) -> None:
    path = make_video(tmp_path / "cast.ts", times=[100.0 + i / 25 for i in range(50)])
    (tmp_path / "cast.srt").write_text("1\n00:00:01,000 --> 00:00:01,500\nhello\n")
    media = open_media(path)
    assert media.start > 99
    word = transcript(media).data["words"][0]
    assert (word.start, word.end) == pytest.approx((media.start + 1.0, media.start + 1.5))


def test_no_words_in_the_file(tmp_path: Path, talk: Path) -> None:
    (tmp_path / "talk.vtt").write_text("WEBVTT\n")
    found = transcript(open_media(talk))
    assert (found.valid, found.reason) == (False, "the subtitles of talk.vtt are empty")


def test_damage_is_told(tmp_path: Path, talk: Path) -> None:
    (tmp_path / "talk.srt").write_text("nothing")
    with pytest.raises(MediaError, match="holds no cues"):
        transcript(open_media(talk))


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("<font color='red'>a</font>", "a"),
        ("a <3 b", "a <3 b"),
        ("x{\\pos(1,2)}y {laughs}", "xy {laughs}"),
        ("caf&eacute;&nbsp;&#39;s", "café 's"),
        ("&lt;i&gt;", "<i>"),
        ("  \n ", ""),
    ],
)
def test_mark_up(text: str, plain: str) -> None:
    assert plain_text(text) == plain
