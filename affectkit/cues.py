"""Words with times: from files beside a medium (SubRip, WebVTT, and what FFmpeg reads) or text streams inside it, and those of a span."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from affectkit.errors import MediaError
from affectkit.evidence import Evidence, Word
from affectkit.media import Span
from affectkit.probing import check_file, describe, opened, reason

SUBTITLE_SUFFIXES = (".srt", ".vtt")
PICTURE_CODECS = frozenset({"hdmv_pgs_subtitle", "pgssub", "dvd_subtitle", "dvdsub", "dvb_subtitle", "dvbsub", "xsub"})
LAST_CUE_SECONDS = 5.0  # length of a last cue that does not say when it ends

_CLOCK = r"(?:(\d+):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
_TIMES = re.compile(rf"\s*{_CLOCK}\s*-->\s*{_CLOCK}(?:\s.*)?")
_TAG = re.compile(r"</?[a-zA-Z0-9][^<>]*>|\{\\[^{}]*\}")  # <i>, <v Ann>, <00:00:01.000>, {\an8}


def read_cues(path: Path, stream: int | None = None) -> list[Word]:
    """The cues of a subtitle file or of a subtitle stream, in order of time, without mark-up and without empty ones.

    Args:
        path: a ``.srt`` or ``.vtt`` file in UTF-8, UTF-16 or Windows-1252, or anything else that FFmpeg finds subtitles in.
        stream: index of the stream in the container as ffprobe prints it; the first stream of text where it is not given.

    Raises:
        MediaError: where the file is damaged (with the line, where it has lines), has no such stream, or where its subtitles
            are pictures.
    """
    if path.suffix.lower() in SUBTITLE_SUFFIXES:
        check_file(path)
        try:
            text = _decode(path.read_bytes())
        except OSError as error:
            raise MediaError(f"{path} may not be read: {error.strerror or error}") from error
        cues = list(_parse(text, path))
    else:
        cues = _read_stream(path, stream)
    return sorted((cue for cue in cues if cue.text), key=lambda cue: (cue.start, cue.end))


def text_streams(path: Path) -> tuple[Mapping[int, str], tuple[str, ...]]:
    """The subtitle streams of a container that are text, as language (empty where it is not told) by index; codecs of those that are pictures."""
    with opened(path) as container:
        streams = [(s.index, s.codec_context.name, s.language or "") for s in container.streams if s.type == "subtitle" and s.codec_context]
    texts = {index: "" if language == "und" else language for index, codec, language in streams if codec not in PICTURE_CODECS}
    return texts, tuple(codec for _, codec, _ in streams if codec in PICTURE_CODECS)


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _parse(text: str, path: Path) -> Iterator[Word]:
    """Cues of SubRip or WebVTT text: lines after a line of times, up to a blank line, or in SubRip up to the next number and times."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    found = []
    for number, line in enumerate(lines):
        if "-->" in line:
            times = _TIMES.fullmatch(line)
            if times is None:
                raise MediaError(
                    f"{path}, line {number + 1}: {line.strip()[:60]!r} is not a pair of times such as 00:00:01,000 --> 00:00:02,500"
                )
            start, end = _seconds(*times.groups()[:4]), _seconds(*times.groups()[4:])
            if end < start:
                raise MediaError(f"{path}, line {number + 1}: the cue ends before it starts ({start:.3f} s to {end:.3f} s)")
            found.append((number, start, end))
    vtt = lines[0].startswith("WEBVTT")
    if not found and not vtt:
        raise MediaError(f"{path} holds no cues: no line such as 00:00:01,000 --> 00:00:02,500; is it a subtitle file?")
    for (number, start, end), following in zip(found, [*(number for number, _, _ in found), len(lines)][1:], strict=True):
        body = lines[number + 1 : following]
        if vtt:
            body = body[: body.index("")] if "" in body else body
        elif following < len(lines) and body and body[-1].strip().isdigit():
            body.pop()  # the number of the next cue
        yield Word(plain_text("\n".join(body)), start, end)


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str) -> float:
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + int(fraction.ljust(3, "0")) / 1000


def plain_text(text: str) -> str:
    """Text of a cue without mark-up, entities decoded, on one line.

    >>> plain_text("{\\\\an8}<i>Fish &amp; chips</i>,\\n1 < 2")
    'Fish & chips, 1 < 2'
    """
    return " ".join(html.unescape(_TAG.sub("", text)).split())


def _read_stream(path: Path, index: int | None) -> list[Word]:
    import av

    with opened(path) as container:
        streams = [s for s in container.streams if s.type == "subtitle" and s.codec_context is not None]
        if index is not None:
            streams = [s for s in streams if s.index == index]
        texts = [s for s in streams if s.codec_context.name not in PICTURE_CODECS]
        if streams and not texts:
            raise MediaError(f"{path}: its subtitles are pictures ({streams[0].codec_context.name}), not text; give a .srt file instead")
        if not texts:
            which = "no subtitles" if index is None else f"no subtitle stream with index {index}"
            raise MediaError(f"{path} has {which}; its streams are {describe(container)}")
        found: list[tuple[str, float, float]] = []
        try:
            for packet in container.demux(texts[0]):
                if packet.pts is not None and packet.size:
                    text = plain_text(" ".join(_dialogue(item) for item in packet.decode()))
                    found.append((text, float(packet.pts * packet.time_base), float((packet.duration or 0) * packet.time_base)))
        except (av.error.FFmpegError, UnicodeDecodeError) as error:
            at = found[-1][1] if found else None
            raise MediaError(f"{path}: subtitle stream {texts[0].index} cannot be read on: {reason(error)}", at=at) from error
    following = [start for _, start, _ in found[1:]] + [found[-1][1] + LAST_CUE_SECONDS] if found else []
    return [
        Word(text, start, start + length if length > 0 else after) for (text, start, length), after in zip(found, following, strict=True)
    ]


def _dialogue(item: Any) -> str:
    r"""The text of what FFmpeg makes of every text subtitle: a line of Advanced SubStation Alpha, whose last of nine fields it is."""
    fields = item.ass.decode("utf-8", errors="replace").split(",", 8)
    return re.sub(r"\\[Nnh]", " ", fields[-1]) if len(fields) == 9 else ""


def join(old: Evidence, new: Evidence) -> Evidence:
    """Words of consecutive pieces of sound, as one."""
    if not new.valid:
        return old
    words = (*old.data.get("words", ()), *new.data.get("words", ()))
    text = " ".join(filter(None, (old.data.get("text", ""), new.data.get("text", ""))))
    return replace(old, data={**old.data, **new.data, "words": words, "text": text})


def words_within(evidence: Evidence, span: Span) -> Evidence:
    """What is said in a span: a word or cue counts where at least half of the shorter of cue and span overlaps."""
    if not evidence.valid or "words" not in evidence.data:
        return evidence
    words = tuple(word for word in evidence.data["words"] if _overlaps(word.start, word.end, span))
    if not words:
        return Evidence.none(evidence.kind, "no words in this window")
    text = " ".join(word.text.strip() for word in words)
    quality = {**evidence.quality, "words": float(len(text.split()))}
    return replace(evidence, data={**evidence.data, "words": words, "text": text}, quality=quality)


def _overlaps(start: float, end: float, span: Span) -> bool:
    shorter = min(end - start, span.length)
    if shorter <= 0:
        return span.start <= start < span.end or start == span.start
    return min(end, span.end) - max(start, span.start) >= 0.5 * shorter
