"""What a file says of itself before it is decoded: its streams and their times.

A container's header is believed where the format keeps exact times in it, and packets are counted, without decoding them,
where it does not (recordings of browsers, raw streams, MPEG transport streams, MP3 without a table of contents).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectkit.errors import MediaError

if TYPE_CHECKING:
    import av.container

EXACT_HEADERS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "wav", "flac", "ogg"})
NOT_MEDIA = frozenset({"tty", "hls", "concat", "dash", "sdp", "imf", "ffmetadata", "rtsp", "lavfi"})  # text, and lists of other files
LEAST_BITS_PER_SECOND = 100.0  # a header that claims a longer duration than the size of the file allows for is not believed
MOST_FPS = 1000.0  # Matroska files of browsers claim the tick of their clock, 1000 per second, as frame rate
MOST_PACKETS_TO_FIRST_FRAME = 200
PRIMING_SECONDS = 0.2  # sound codecs start this much before 0 at most, with samples that the decoder drops


@dataclass(frozen=True)
class StreamTimes:
    """Times of one stream in seconds of presentation time, and its frames per second (video only)."""

    start: float
    end: float
    fps: float | None = None


@contextmanager
def opened(path: Path) -> Iterator[av.container.InputContainer]:
    """The container in a file, closed at the end. The name is never read as a URL or pattern, nor are other files opened.

    Raises:
        MediaError: where there is no such file, it is empty, or FFmpeg does not know what it is.
    """
    import av

    check_file(path)
    try:
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{path} cannot be read as video, sound or picture: {reason(error)}. Is it damaged, or another kind of file?"
        ) from error
    with container:
        if container.format.name in NOT_MEDIA:
            raise MediaError(
                f"{path} is text or a list of other files ({container.format.name}), not a medium; give the media files themselves"
            )
        yield container


def check_file(path: Path) -> None:
    """Refuses what is no file, may not be read, or is empty.

    Raises:
        MediaError: with the reason.
    """
    try:
        if not path.is_file():
            raise MediaError(f"{path} does not exist" if not path.exists() else f"{path} is not a file")
        with path.open("rb") as file:
            if not file.read(1):
                raise MediaError(f"{path} is empty (0 bytes); was it copied to its end?")
    except OSError as error:
        raise MediaError(f"{path} may not be read: {error.strerror or error}") from error


def reason(error: Exception) -> str:
    """What FFmpeg or the system says, without error numbers and file names.

    >>> reason(ValueError("odd"))
    'odd'
    """
    return str(getattr(error, "strerror", None) or error)


def choose(container: av.container.InputContainer, path: Path, kind: str, index: int | None) -> Any:
    """The stream to read: the one with a container index, else the first of its kind; cover pictures do not count.

    Args:
        container: what is open.
        path: for messages.
        kind: ``"video"`` or ``"audio"``.
        index: index of the stream in the container, counted over all streams from 0 as ffprobe prints it.

    Returns:
        The stream, or ``None`` where no index is given and there is none.

    Raises:
        MediaError: where there is no such stream of that kind; the message lists what there is.
    """
    import av

    streams = [s for s in container.streams if s.type == kind and not s.disposition & av.stream.Disposition.attached_pic]
    if index is not None:
        streams = [stream for stream in streams if stream.index == index]
    known = next((stream for stream in streams if stream.codec_context is not None), None)
    if streams and known is None:
        raise MediaError(
            f"{path}: FFmpeg has no decoder for its {kind} stream {streams[0].index}; convert the file, for instance to H.264 and AAC"
        )
    if known is not None or index is None:
        return known
    raise MediaError(f"{path} has no {kind} stream with index {index}; its streams are {describe(container)}")


def describe(container: av.container.InputContainer) -> str:
    """The streams of a container in one line: index, kind, codec, size or rate."""
    return ", ".join(_describe_stream(stream) for stream in container.streams) or "none"


def _describe_stream(stream: Any) -> str:
    codec = stream.codec_context
    details = [] if codec is None else [codec.name]
    if codec is not None and stream.type == "video":
        details.append(f"{codec.width}x{codec.height}")
    if codec is not None and stream.type == "audio":
        details.append(f"{codec.sample_rate} Hz")
    return f"{stream.index}: {stream.type}" + (f" ({' '.join(details)})" if details else "")


def header_start(stream: Any) -> float | None:
    """First presentation time of a stream as its header says, in seconds; ``None`` where it does not."""
    if stream.start_time is None or stream.time_base is None:
        return None
    start = float(stream.start_time * stream.time_base)
    return 0.0 if -PRIMING_SECONDS < start < 0 and stream.type == "audio" else start


def header_end(container: av.container.InputContainer, stream: Any) -> float | None:
    """Time of the end of one stream as its header says, in seconds; ``None`` where it does not, or is not to be believed."""
    if container.format.name not in EXACT_HEADERS:
        return None
    start = header_start(stream) or 0.0
    if container.format.name == "matroska,webm":  # keeps no times of streams, but what wrote it may have put them into tags
        tag = next((value for key, value in stream.metadata.items() if key == "DURATION" or key.startswith("DURATION-")), None)
        told = clock_seconds(tag) if tag is not None else None
        if told:  # FFmpeg writes the time of the end, mkvmerge the length
            end = told + start if any(key.startswith("_STATISTICS") for key in stream.metadata) else told
        elif told is None and container.duration and len(container.streams) == 1:
            end = container.duration / 1e6
        else:
            return None
    elif stream.duration and stream.time_base:
        end = start + float(stream.duration * stream.time_base)
    else:
        return None
    if end <= start or container.size * 8 < LEAST_BITS_PER_SECOND * (end - start):
        return None
    return end


def clock_seconds(text: str) -> float | None:
    """Seconds of ``hours:minutes:seconds``, ``None`` where the text is something else.

    >>> clock_seconds("00:01:02.466000000")
    62.466
    """
    found = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", text.strip())
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) if found else None


def stream_times(path: Path, container: av.container.InputContainer, streams: Sequence[Any]) -> dict[int, StreamTimes]:
    """Times of the given streams by index: from the header where it is exact, else from the packets; streams without packets are left out."""
    known = {}
    for stream in streams:
        start, end, fps = header_start(stream), header_end(container, stream), _header_fps(stream)
        if start is None and container.format.name in ("wav", "flac"):  # these have no time stamps
            start = 0.0
        if start is not None and end is not None and (stream.type == "audio" or fps is not None):
            if stream.type == "video" and stream.average_rate != stream.base_rate and stream.frames:
                # The lengths in a QuickTime file follow the order of decoding; at a variable rate their sum may fall short.
                last = _last_packet(path, stream.index, end)
                if last.start >= end:
                    end, fps = last.end, stream.frames / (last.end - start)
            known[stream.index] = StreamTimes(start, end, fps)
    unknown = [stream for stream in streams if stream.index not in known]
    if unknown:
        counted = _count_packets(path, [stream.index for stream in unknown])
        for stream in unknown:
            times = counted.get(stream.index)
            if times is None:
                continue
            known[stream.index] = StreamTimes(times.start, times.end, _header_fps(stream) or times.fps) if stream.type == "video" else times
    return known


def _header_fps(stream: Any) -> float | None:
    if stream.type != "video":
        return None
    rate = float(stream.average_rate or 0)
    return rate if 0 < rate < MOST_FPS else None


def _count_packets(path: Path, indices: Sequence[int]) -> dict[int, StreamTimes]:
    """Start, end and packets per second of streams, from their packets, without decoding."""
    import av

    first: dict[int, float] = {}
    last: dict[int, float] = {}
    end: dict[int, float] = {}
    count = dict.fromkeys(indices, 0)
    with opened(path) as container:
        guess = {i: 1.0 / _rate(container.streams[i]) for i in indices}
        try:
            for packet in container.demux([container.streams[i] for i in indices]):
                i = packet.stream_index
                if packet.size == 0 or packet.is_discard:
                    continue
                at = packet.pts if packet.pts is not None else packet.dts
                length = float((packet.duration or 0) * packet.time_base) or guess[i]
                time = float(at * packet.time_base) if at is not None else end.get(i, 0.0)
                first[i] = min(first.get(i, time), time)
                last[i] = max(last.get(i, time), time)
                end[i] = max(end.get(i, time), time + length)
                count[i] += 1
        except av.error.FFmpegError:
            pass  # what follows cannot be read; reading the stream says so with the time
    found = {}
    for i in first:
        fps = (count[i] - 1) / (last[i] - first[i]) if count[i] > 1 and last[i] > first[i] else None
        start = 0.0 if -PRIMING_SECONDS < first[i] < 0 else first[i]
        found[i] = StreamTimes(start, end[i], fps)
    return found


def _last_packet(path: Path, index: int, end: float) -> StreamTimes:
    """Times of the last packet of a stream, found from its last key frame on; ``end`` is where the stream should end."""
    import av

    last = StreamTimes(0.0, 0.0)
    with opened(path) as container:
        stream = container.streams[index]
        try:
            container.seek(int(end / float(stream.time_base or 1)), stream=stream)
            for packet in container.demux(stream):
                if packet.pts is not None and packet.size and not packet.is_discard:
                    at, length = float(packet.pts * packet.time_base), float((packet.duration or 0) * packet.time_base)
                    last = max(last, StreamTimes(at, at + length), key=lambda times: times.start)
        except av.error.FFmpegError:
            pass  # reading the stream says what is wrong with it
    return last


def _rate(stream: Any) -> float:
    """Packets per second where packets carry no duration: frames, or 50 for sound."""
    return _header_fps(stream) or (25.0 if stream.type == "video" else 50.0)


def picture_size(container: av.container.InputContainer, stream: Any) -> tuple[int, int]:
    """(height, width) of a video stream as displayed, after rotation: of its first frame, else as its header says."""
    import av

    try:
        for packet in islice(container.demux(stream), MOST_PACKETS_TO_FIRST_FRAME):
            for frame in packet.decode():
                width, height = max(1, round(frame.width * pixel_ratio(stream))), frame.height
                return (width, height) if frame.rotation % 180 != 0 else (height, width)
    except av.error.FFmpegError:
        pass  # reading the stream says what is wrong with it, and when
    return stream.codec_context.height, stream.codec_context.width


def pixel_ratio(stream: Any) -> float:
    """Width of a pixel of a video stream by its height: 1 but for television formats; 1 where the header talks nonsense."""
    ratio = float(stream.sample_aspect_ratio or 1)
    return ratio if 0.25 <= ratio <= 4.0 else 1.0
