"""Media, spans and clips: what is read, which part of it, and what a modality sees of it. Times are seconds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from affectkit.errors import MediaError, UsageError
from affectkit.pictures import NUMBERED_SUFFIXES, PICTURE_SUFFIXES, NumberedPictures, numbered_pictures
from affectkit.probing import choose, describe, opened, picture_size, stream_times

if TYPE_CHECKING:
    from affectkit.evidence import Evidence

MediaKind = Literal["video", "audio", "image", "frames"]

VIDEO_SUFFIXES = frozenset(
    {
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".mpg",
        ".mpeg",
        ".ts",
        ".mts",
        ".m2ts",
        ".vob",
        ".wmv",
        ".asf",
        ".flv",
        ".3gp",
        ".3g2",
        ".ogv",
        ".mxf",
        ".gif",
    }
)
SOUND_SUFFIXES = frozenset(
    {".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".oga", ".opus", ".wma", ".aif", ".aiff", ".caf", ".amr", ".ac3", ".mka"}
)
MEDIA_SUFFIXES = VIDEO_SUFFIXES | SOUND_SUFFIXES | PICTURE_SUFFIXES
"""What is looked for in a folder; a file that is named itself may have any suffix."""


@dataclass(frozen=True)
class Span:
    """A stretch of time, half open: ``start <= t < end``. An image has ``start == end == 0``.

    Attributes:
        start: seconds.
        end: seconds, exclusive.
    """

    start: float
    end: float

    def __post_init__(self) -> None:
        if not self.start <= self.end:
            raise MediaError(f"a span must not end before it starts: start {self.start}, end {self.end}")

    @property
    def length(self) -> float:
        """Length in seconds."""
        return self.end - self.start


@dataclass(frozen=True)
class Media:
    """One file, or one folder of numbered frames, that can be analysed.

    Attributes:
        id: name of the medium in result tables, unique within a run.
        path: the file or folder.
        kind: ``"video"`` (with or without sound), ``"audio"``, ``"image"``, or ``"frames"`` (folder of numbered frames).
        start: time of the first frame or sample, in seconds of the container's own presentation time.
        duration: seconds from ``start`` to the end of the last frame or sample; 0 for an image.
        fps: average frames per second, ``None`` without video.
        size: (height, width) in pixels as displayed, that is after rotation, ``None`` without video.
        video: index of the video stream in the container, ``None`` without video.
        audio: index of the audio stream in its container, ``None`` without sound.
        sound: the file that holds the sound where it is not ``path`` (folders of frames).
    """

    id: str
    path: Path
    kind: MediaKind
    duration: float
    start: float = 0.0
    fps: float | None = None
    size: tuple[int, int] | None = None
    video: int | None = None
    audio: int | None = None
    sound: Path | None = None


@dataclass(frozen=True)
class Clip:
    """One window of one subject, with only what was asked for.

    Attributes:
        media: the medium that it is cut from.
        span: its window; for frame units a single time, ``start == end``.
        track: id of the subject; -1 where there is no subject.
        frames: (T, H, W, 3) uint8 RGB whole frames, or ``None``.
        frame_times: (T,) float64 seconds, or ``None``.
        audio: (N,) float32 mono samples in [-1, 1] at the rate asked for: what there is of sound inside the span, gaps
            filled with zeros; ``None`` where there is no sound or only digital silence.
        audio_start: time of the first sample, in seconds.
        inputs: the evidence of every input that was declared, by kind; it may be invalid.
    """

    media: Media
    span: Span
    track: int = -1
    frames: np.ndarray | None = None
    frame_times: np.ndarray | None = None
    audio: np.ndarray | None = None
    audio_start: float = 0.0
    inputs: Mapping[str, Evidence] = field(default_factory=dict)


def open_media(
    path: str | Path,
    *,
    id: str | None = None,
    fps: float | None = None,
    sound: str | Path | None = None,
    video_stream: int | None = None,
    audio_stream: int | None = None,
) -> Media:
    """Looks at one file, or one folder of numbered frames, without decoding more than its first picture.

    Args:
        path: the file or folder.
        id: name of the medium; the file name without its suffix where it is not given.
        fps: frames per second of a folder of frames; files say theirs themselves.
        sound: a file with the sound of a folder of frames.
        video_stream: index of the video stream in the container, counted over all its streams from 0 as ffprobe prints it;
            the first video stream that is no cover picture where it is not given.
        audio_stream: the same for sound; of ``sound`` where that is given.

    Raises:
        MediaError: where it cannot be read, has neither pictures nor sound, has no such stream, or is a folder without
            numbered pictures or without a declared frame rate.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path, id, fps, sound, video_stream, audio_stream)
    if sound is not None:
        raise MediaError(f"{path} is a file; a sound file belongs to a folder of frames")
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return _open_picture(path, id, video_stream, audio_stream)
    with opened(path) as container:
        if container.format.name == "image2" or container.format.name.endswith("_pipe"):
            return _open_picture(path, id, video_stream, audio_stream)
        video = choose(container, path, "video", video_stream)
        audio = choose(container, path, "audio", audio_stream)
        used = [stream for stream in (video, audio) if stream is not None]
        if not used:
            raise MediaError(f"{path} has neither pictures nor sound; its streams are {describe(container)}")
        times = stream_times(path, container, used)
        for stream, index in ((video, video_stream), (audio, audio_stream)):
            if stream is not None and stream.index not in times and index is not None:
                raise MediaError(f"{path}: its {stream.type} stream {index} is empty; its streams are {describe(container)}")
        video = video if video is not None and video.index in times else None  # phones write sound tracks without any sound
        audio = audio if audio is not None and audio.index in times else None
        start = min((t.start for t in times.values()), default=0.0)
        end = max((t.end for t in times.values()), default=0.0)
        if end <= start:
            raise MediaError(f"{path} has nothing in its streams ({describe(container)}); was it written to its end?")
        return Media(
            id=path.stem if id is None else id,
            path=path,
            kind="audio" if video is None else "video",
            start=start,
            duration=end - start,
            fps=None if video is None else times[video.index].fps,
            size=None if video is None else picture_size(container, video),
            video=None if video is None else video.index,
            audio=None if audio is None else audio.index,
        )


def _open_picture(path: Path, id: str | None, video_stream: int | None, audio_stream: int | None) -> Media:
    from affectkit.pictures import read_picture

    if video_stream or audio_stream is not None:
        raise MediaError(f"{path} is a picture; it has no streams to choose from")
    height, width = read_picture(path).shape[:2]
    return Media(path.stem if id is None else id, path, "image", duration=0.0, size=(height, width))


def _open_folder(
    folder: Path, id: str | None, fps: float | None, sound: str | Path | None, video_stream: int | None, audio_stream: int | None
) -> Media:
    from affectkit.pictures import read_picture

    numbered = _list(folder)
    if numbered is None:
        raise MediaError(
            f"{folder} is not a folder of frames: it has no pictures that are named alike but for a number, such as 00001.jpg "
            f"({', '.join(sorted(NUMBERED_SUFFIXES))})"
        )
    if fps is None:
        raise MediaError(
            f"{folder} is a folder of {len(numbered.pictures)} numbered frames, which do not say how fast they follow each other; "
            "pass --fps, for instance --fps 30"
        )
    if not 0 < fps < float("inf"):
        raise UsageError(f"frames per second must be a positive number, found {fps}")
    if video_stream:
        raise MediaError(f"{folder} is a folder of frames; it has no video streams to choose from")
    numbers = list(numbered.pictures)
    start, end = numbered.time(numbers[0], fps), numbered.time(numbers[-1] + 1, fps)
    height, width = read_picture(numbered.pictures[numbers[0]]).shape[:2]
    audio = None
    if sound is not None:
        sound = Path(sound)
        with opened(sound) as container:
            stream = choose(container, sound, "audio", audio_stream)
            if stream is None:
                raise MediaError(f"{sound} has no sound; its streams are {describe(container)}")
            times = stream_times(sound, container, [stream]).get(stream.index)
            if times is None:
                raise MediaError(f"{sound} has no sound in its streams ({describe(container)}); was it written to its end?")
            audio, start, end = stream.index, min(start, times.start), max(end, times.end)
    elif audio_stream is not None:
        raise MediaError(f"{folder} is a folder of frames without a sound file; it has no audio streams to choose from")
    name = os.path.basename(os.path.abspath(folder)) if id is None else id
    return Media(name, folder, "frames", end - start, start, float(fps), (height, width), audio=audio, sound=sound)


def _list(folder: Path) -> NumberedPictures | None:
    try:
        return numbered_pictures(folder)
    except OSError as error:
        raise MediaError(f"{folder} cannot be listed: {error.strerror or error}") from error


def discover(
    paths: Iterable[str | Path],
    *,
    fps: float | None = None,
    sound: str | Path | None = None,
    video_stream: int | None = None,
    audio_stream: int | None = None,
    known_ids: Mapping[Path, str] | None = None,
) -> tuple[list[Media], list[tuple[Path, MediaError]]]:
    """Opens files, folders of numbered frames, and whatever of both lies in other folders.

    A folder whose pictures are named alike but for a number is one medium. Other folders are searched with all that is in
    them, in alphabetical order, for files with a known suffix; hidden ones are left out. A path that comes twice is one medium.

    Args:
        paths: files and folders.
        fps: frames per second of folders of frames.
        sound: the sound file of the folder of frames, where there is exactly one.
        video_stream: as in :func:`open_media`, for every file.
        audio_stream: the same for sound.
        known_ids: ids of an earlier run by resolved path: they are kept, and given to nothing else.

    Returns:
        The media in order, and the paths that cannot be used, each with the reason.

    Raises:
        UsageError: where ``sound`` is given and there is not exactly one folder of frames.
    """
    found: dict[Path, Path] = {}  # resolved path to the path as it was given
    errors: list[tuple[Path, MediaError]] = []
    for path in map(Path, paths):
        before = len(errors)
        inside = list(_search(path, errors)) if path.is_dir() else [path]
        if not inside and len(errors) == before:
            kinds = f"videos, sound and pictures ({' '.join(sorted(MEDIA_SUFFIXES))}) and folders of numbered frames (00001.jpg)"
            errors.append((path, MediaError(f"{path} holds nothing to analyse; looked for {kinds}")))
        for item in inside:
            found.setdefault(item.resolve(), item)
    folders = [path for path in found if path.is_dir()]
    if sound is not None and len(folders) != 1:
        raise UsageError(f"a sound file belongs to exactly one folder of frames, found {len(folders)} of them")
    ids = unique_ids({resolved: Path(os.path.abspath(path)) for resolved, path in found.items()}, known_ids or {})
    media = []
    for resolved, path in found.items():
        own = {"fps": fps, "sound": sound} if resolved.is_dir() else {}
        streams = {"video_stream": video_stream, "audio_stream": audio_stream}
        if resolved.is_dir():
            streams = {"audio_stream": audio_stream if sound is not None else None}
        try:
            media.append(open_media(path, id=ids[resolved], **own, **streams))  # type: ignore[arg-type]
        except MediaError as error:
            errors.append((path, error))
    return media, errors


def _search(folder: Path, errors: list[tuple[Path, MediaError]]) -> Iterator[Path]:
    """Media and folders of frames in a folder, in alphabetical order; what cannot be listed goes to ``errors``."""
    try:
        frames = numbered_pictures(folder)
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        errors.append((folder, MediaError(f"{folder} cannot be listed: {error.strerror or error}")))
        return
    except MediaError as error:
        errors.append((folder, error))
        return
    if frames is not None:
        yield folder
    for entry in entries:
        if entry.is_dir():
            if not entry.is_symlink() or entry.resolve() not in folder.resolve().parents:
                yield from _search(entry, errors)
        elif entry.suffix.lower() in MEDIA_SUFFIXES and not (frames is not None and entry.suffix.lower() in PICTURE_SUFFIXES):
            yield entry


def unique_ids(paths: Mapping[Path, Path], known: Mapping[Path, str]) -> dict[Path, str]:
    """A short name for each resolved path, of the path as it was given: its stem, and where that is not unique its name, then with its folder, and so on.

    A link is called by its own name: stores that keep files by their digest give them names that mean nothing.

    >>> paths = [Path("/a/x.mp4"), Path("/b/x.mp4"), Path("/b/y.mp4"), Path("/b/y.wav")]
    >>> list(unique_ids(dict(zip(paths, paths)), {}).values())
    ['a/x.mp4', 'b/x.mp4', 'y.mp4', 'y.wav']
    """
    taken = set(known.values())
    ids = {path: known[path] for path in paths if path in known}
    names = {path: _names(given) for path, given in paths.items() if path not in known}
    level = dict.fromkeys(names, 0)
    while True:
        given: dict[str, list[Path]] = {}
        for path, options in names.items():
            given.setdefault(options[level[path]], []).append(path)
        clashing = [path for name, group in given.items() if len(group) > 1 or name in taken for path in group]
        longer = [path for path in clashing if level[path] + 1 < len(names[path])]
        if not longer:
            break
        for path in longer:
            level[path] += 1
    ids |= {path: options[level[path]] for path, options in names.items()}
    return {path: ids[path] for path in paths}


def _names(path: Path) -> list[str]:
    """Names of a path, each longer than the one before: stem, name, folder/name, ..., the whole path."""
    names = [path.name] if path.is_dir() else list(dict.fromkeys((path.stem, path.name)))
    parts = path.parts
    return names + ["/".join(parts[-n:]) for n in range(2, len(parts))] + [path.as_posix()]
