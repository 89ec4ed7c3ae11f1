"""Frames of the clips that a network learns from, with a bounded store of what was decoded, so that later epochs need not decode again. S is size in pixels."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from affectkit.datasets.items import Item
from affectkit.errors import ConfigError, MediaError
from affectkit.files import replacing
from affectkit.pictures import PICTURE_SUFFIXES

LONGEST = 20_000  # frames of one clip that are decoded at most, 3 GB at 224 pixels; a longer one is better cut
FOLDERS = 256  # whose lists of files are kept; long recordings are read in many stretches
RECOUNT = 64  # files after which the folder of the cache is counted again, as other processes write there too


@dataclass(frozen=True)
class Cache:
    """How much of what was decoded is kept, resized and uncompressed, for later epochs; what finds no room is decoded again.

    Attributes:
        memory: gigabytes of memory, of each process that reads; 0 for none.
        folder: where decoded videos are kept as well; ``None`` for nowhere. Pictures are not: they lie there already.
        disk: gigabytes of that folder.
    """

    memory: float = 1.0
    folder: Path | None = None
    disk: float = 20.0

    def __post_init__(self) -> None:
        if self.memory < 0 or self.disk < 0:
            raise ConfigError(f"memory and disk must not be negative, found {self.memory} and {self.disk}")


class Frames(Protocol):
    """The frames of one clip, of which some are taken."""

    def __len__(self) -> int:
        """How many there are."""

    def take(self, positions: np.ndarray) -> np.ndarray:
        """Frames at positions of any shape, int64 from 0: (*positions.shape, S, S, 3) uint8 RGB."""


class ClipReader:
    """Reads clips: videos, pictures (one frame), folders of frames in the order of their numbers.

    Args:
        cache: what is kept of them.
    """

    def __init__(self, cache: Cache | None = None) -> None:
        self.cache = cache or Cache()
        self._kept: dict[str, np.ndarray] = {}
        self._room = int(self.cache.memory * 1e9)
        self._written, self._on_disk = 0, 0
        self._listed = lru_cache(FOLDERS)(_Folder.list)

    def open(self, item: Item, size: int) -> Frames:
        """The frames of a clip as squares of ``size`` pixels; each side is scaled by itself, as data sets are nearly square already.

        Args:
            item: the clip, or the stretch of one.
            size: S.

        Raises:
            MediaError: where there is nothing to read or it is damaged; a picture of a folder says so when it is taken.
        """
        if item.path.is_dir():
            return _Pictures(self, self._listed(item.path).stretch(item), size)
        if item.path.suffix.lower() in PICTURE_SUFFIXES:
            return _Pictures(self, [item.path], size)
        return _Decoded(self._video(item, size))

    @staticmethod
    def decoded(frames: np.ndarray, size: int) -> Frames:
        """Frames in memory, (N, height, width, 3) uint8 RGB, as those of a clip; for readers of other things than files."""
        if frames.shape[1:3] == (size, size):
            return _Decoded(frames)
        return _Decoded(np.stack([_square(frame, size) for frame in frames]))

    def picture(self, path: Path, size: int) -> np.ndarray:
        """One picture as a square, (S, S, 3) uint8 RGB."""
        from affectkit.pictures import read_picture

        key = f"{path}|{size}"
        found = self._kept.get(key)
        if found is None:
            found = _square(read_picture(path), size)
            self._keep(key, found)
        return found

    def _video(self, item: Item, size: int) -> np.ndarray:
        """All frames of a video, (N, S, S, 3) uint8."""
        key = f"{item.path}|{item.frames}|{size}"
        if key in self._kept:
            return self._kept[key]
        file = self._file(item, key)
        if file is not None and file.exists():
            found: np.ndarray = np.load(file)
        else:
            found = _decode(item, size)
            if file is not None:
                self._write(file, found)
        self._keep(key, found)
        return found

    def _keep(self, key: str, frames: np.ndarray) -> None:
        """Keeps what there is room for. What is kept stays: each epoch reads every clip once, so what is oldest is needed next."""
        if frames.nbytes <= self._room:
            self._kept[key] = frames
            self._room -= frames.nbytes

    def _file(self, item: Item, key: str) -> Path | None:
        if self.cache.folder is None:
            return None
        try:
            seen = item.path.stat()
        except OSError as error:
            raise MediaError(f"{item.path} cannot be read: {error.strerror or error}") from error
        name = hashlib.sha256(f"{key}|{seen.st_size}|{seen.st_mtime_ns}".encode()).hexdigest()[:32]
        return self.cache.folder / f"{name}.npy"

    def _write(self, file: Path, frames: np.ndarray) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        if self._written % RECOUNT == 0:
            self._on_disk = sum(entry.stat().st_size for entry in os.scandir(file.parent))
        if self._on_disk + frames.nbytes > self.cache.disk * 1e9:
            return
        with replacing(file) as temporary, temporary.open("wb") as out:
            np.save(out, frames)
        self._written += 1
        self._on_disk += frames.nbytes


def frame_files(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of the numbers in their names: ``2.jpg`` comes before ``10.jpg``.

    Raises:
        MediaError: where there are none.
    """
    found = [path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")]
    if not found:
        raise MediaError(
            f"{folder} has no pictures; a clip is a video, a picture, or a folder of frames ({', '.join(sorted(PICTURE_SUFFIXES))})"
        )
    return sorted(found, key=lambda path: _natural(path.stem))


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """A key by which numbers in names count as numbers.

    >>> sorted(["f10", "f2", "f1"], key=_natural)
    ['f1', 'f2', 'f10']
    """
    pieces = re.findall(r"\d+|\D+", name)
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in pieces], name


@dataclass(frozen=True)
class _Folder:
    """The pictures of a folder in order, and the number of each; -1 where its name has none."""

    files: tuple[Path, ...]
    numbers: np.ndarray

    @classmethod
    def list(cls, folder: Path) -> _Folder:
        files = frame_files(folder)
        found = [re.findall(r"\d+", path.stem) for path in files]
        return cls(tuple(files), np.array([int(numbers[-1]) if numbers else -1 for numbers in found]))

    def stretch(self, item: Item) -> Sequence[Path]:
        """Those that an item is made of."""
        if item.frames is None:
            return self.files
        first, last = item.frames
        rows = np.flatnonzero((self.numbers >= first) & (self.numbers <= last))
        if not len(rows):
            raise MediaError(f"{item.path} has no frames with the numbers {first} to {last}, of which {item.id} is made")
        return [self.files[row] for row in rows.tolist()]


def _decode(item: Item, size: int) -> np.ndarray:
    from affectkit.decoding import read_frames
    from affectkit.media import open_media

    first, last = item.frames or (1, None)
    found: list[np.ndarray] = []
    for position, frame in enumerate(read_frames(open_media(item.path)), start=1):
        if position < first:
            continue
        if last is not None and position > last:
            break
        if len(found) == LONGEST:
            raise MediaError(f"{item.path} has more than {LONGEST} frames, which is no clip; cut it, or name a stretch of it in the list")
        found.append(_square(frame.rgb(), size))
    if not found:
        raise MediaError(f"{item.path} has no frames {'to read' if item.frames is None else f'{first} to {last}'}; is it a video?")
    return np.stack(found)


def _square(picture: np.ndarray, size: int) -> np.ndarray:
    import cv2

    if picture.shape[:2] == (size, size):
        return picture
    method = cv2.INTER_AREA if size < min(picture.shape[:2]) else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (size, size), interpolation=method), dtype=np.uint8)


@dataclass(frozen=True)
class _Pictures:
    """Frames that are files; only those that are taken are read."""

    reader: ClipReader
    files: Sequence[Path]
    size: int

    def __len__(self) -> int:
        return len(self.files)

    def take(self, positions: np.ndarray) -> np.ndarray:
        """As :meth:`Frames.take`; a frame that is taken twice is read once."""
        wanted, back = np.unique(positions, return_inverse=True)
        frames = np.stack([self.reader.picture(self.files[position], self.size) for position in wanted])
        return frames[back.reshape(positions.shape)]


@dataclass(frozen=True)
class _Decoded:
    """Frames in memory."""

    frames: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    def take(self, positions: np.ndarray) -> np.ndarray:
        """As :meth:`Frames.take`."""
        taken: np.ndarray = self.frames[positions]
        return taken
