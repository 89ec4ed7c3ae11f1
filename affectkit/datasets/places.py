"""Where the clips of a data set lie: as folders of frames, as videos or as pictures, named as in the lists."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from affectkit.cells import shown
from affectkit.errors import UsageError
from affectkit.media import PICTURE_SUFFIXES, VIDEO_SUFFIXES

SUFFIXES = VIDEO_SUFFIXES | PICTURE_SUFFIXES


def clips_folder(data: Path, names: Sequence[str], given: Path | None = None) -> Path:
    """The folder with the clips of a data set.

    Args:
        data: the folder of the data set.
        names: where they may lie in it, or one folder further down.
        given: the folder that the user names.

    Returns:
        That folder; ``data`` itself where none of the names is there.

    Raises:
        UsageError: where the user's folder is none, or several of the names are there.
    """
    if given is not None:
        if not given.is_dir():
            raise UsageError(f"{given} is no folder; --clips takes the folder with the clips")
        return given
    found = sorted({path for name in names for path in (data / name, *data.glob(f"*/{name}")) if path.is_dir()})
    innermost = [path for path in found if not any(path in other.parents for other in found)]
    if len(innermost) > 1:
        raise UsageError(f"{data} has several folders of clips: {shown([str(path) for path in innermost])}; choose one with --clips")
    return innermost[0] if innermost else data


class Places:
    """Finds clips by their names in the lists; every folder is listed once.

    Args:
        root: the folder with the clips.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listed: dict[Path, dict[str, Path]] = {}

    def __call__(self, id: str) -> Path:
        """Where a clip lies: a folder, or a file with or without the suffix in its name; also under its number without leading zeros.

        What is not there gets the place where its folder would be.
        """
        name = PurePosixPath(id)
        listed = self._list(self.root / name.parent)
        number = name.stem.lstrip("0")
        for known in (name.name, name.stem, number if name.stem.isdigit() else ""):
            if known in listed:
                return listed[known]
        return self.root / name

    def _list(self, folder: Path) -> dict[str, Path]:
        if folder not in self._listed:
            found: dict[str, Path] = {}
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError:
                entries = []
            for entry in entries:
                path = folder / entry.name
                if entry.is_dir():
                    found[entry.name] = path
                elif path.suffix.lower() in SUFFIXES:
                    found[entry.name] = path
                    found.setdefault(path.stem, path)
            self._listed[folder] = found
        return self._listed[folder]


def rate(path: Path, fps: float) -> float | None:
    """The frames per second that must be declared of a clip: those of a folder, ``None`` for a file."""
    return None if path.suffix.lower() in SUFFIXES else fps
