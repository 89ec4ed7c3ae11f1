"""Pictures in files: one, and the numbered ones of a folder that are the frames of one sequence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affectkit.errors import MediaError
from affectkit.probing import check_file

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
NUMBERED_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


def read_picture(path: Path) -> np.ndarray:
    """A picture file, turned upright as its EXIF orientation says: (H, W, 3) uint8 RGB.

    Raises:
        MediaError: where the file is missing, empty, or not a picture.
    """
    import cv2

    check_file(path)
    try:
        image = cv2.imdecode(np.frombuffer(path.read_bytes(), dtype=np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error) as error:
        raise MediaError(f"{path} cannot be read as a picture: {error}") from error
    if image is None:
        raise MediaError(f"{path} cannot be read as a picture. Is it damaged, or another kind of file?")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


@dataclass(frozen=True)
class NumberedPictures:
    """The pictures of a folder of frames, by number, in rising order; ``origin`` is the number that stands for time 0."""

    pictures: Mapping[int, Path]
    origin: int

    def time(self, number: int, fps: float) -> float:
        """Time of a frame in seconds: (number - origin) / fps."""
        return (number - self.origin) / fps


def numbered_pictures(folder: Path) -> NumberedPictures | None:
    """The numbered pictures of a folder, ``None`` where its pictures are not frames of one sequence.

    They are when all pictures are named alike but for the number at the end: ``00001.jpg`` or ``frame_000123.png``. Frames
    count from 1, and from 0 where there is a picture with the number 0.

    Raises:
        MediaError: where two pictures have the same number.
    """
    found: dict[int, Path] = {}
    prefixes = set()
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in PICTURE_SUFFIXES:
            continue
        name = re.fullmatch(r"(.*?)(\d+)", path.stem)
        if name is None or path.suffix.lower() not in NUMBERED_SUFFIXES:
            return None
        prefixes.add(name[1])
        number = int(name[2])
        if len(prefixes) > 1:
            return None
        if number in found:
            raise MediaError(f"{folder} has two pictures with the number {number}: {found[number].name} and {path.name}; remove one")
        found[number] = path
    if not found:
        return None
    return NumberedPictures(dict(sorted(found.items())), 0 if 0 in found else 1)
