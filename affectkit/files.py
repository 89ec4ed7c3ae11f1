"""Writing files so that they are whole or not there."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def within(path: Path) -> list[Path]:
    """A file itself, or the files in a folder and its folders, sorted."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, beginning with a dot, that is renamed to it, or removed where writing fails."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with suppress(OSError):  # already renamed, or in a folder that cannot be written
            temporary.unlink()
