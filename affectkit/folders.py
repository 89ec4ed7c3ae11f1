"""Checkpoints that are folders: whether one is complete, and getting one from Hugging Face."""

from __future__ import annotations

import io
import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from affectkit.downloads import Progress, download
from affectkit.errors import CheckpointError
from affectkit.files import within

if TYPE_CHECKING:
    from affectkit.addresses import Address

WILD = frozenset("*?[")


def lacking(folder: Path, files: tuple[str, ...]) -> list[str]:
    """What a folder lacks of the files that make it up.

    Args:
        folder: the folder.
        files: names, and patterns of which each must fit one file at least. Where a file ``*.index.json`` says which files hold the
            pieces of a model, those of them that ``files`` asks for must be there as well.
    """
    if not files:
        return []
    names = [file.relative_to(folder).as_posix() for file in within(folder)] if folder.is_dir() else []
    absent = [wanted for wanted in files if not any(fnmatchcase(name, wanted) for name in names)]
    pieces = {piece for name in names if name.endswith(".index.json") for piece in _pieces(folder / name)}
    return absent + sorted(piece for piece in pieces if piece not in names and any(fnmatchcase(piece, wanted) for wanted in files))


@contextmanager
def fetching(found: Address, progress: Progress | None, failed: str, size: int | None, fresh: bool) -> Iterator[Path]:
    """Downloads the files of a repository into a temporary folder, which takes its place where the caller finds no fault with it.

    Args:
        found: where they come from and where they go.
        progress: is told how many bytes of all files have come.
        failed: how a message begins.
        size: bytes of all files, where they are known.
        fresh: whether every file is downloaded and the folder replaced; else it keeps the files that it has.

    Raises:
        CheckpointError: where a file does not come, or cannot be written, or the repository has none that fits a pattern.
    """
    target = found.target
    if target is None:
        raise CheckpointError(f"{failed}: there is nowhere to put it")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    came = 0
    try:
        temporary.mkdir(parents=True)
        for name in _names(found, failed):
            if not fresh and (target / name).is_file():
                continue
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                download(found.files_url + quote(name), file, _beginning_at(came, size, progress), failed, found.by_hand)
            came += path.stat().st_size
        yield temporary
        if fresh and target.is_dir():
            shutil.rmtree(target)
        _put(temporary, target)
    except OSError as error:
        raise CheckpointError(f"{target} cannot be written: {error.strerror}; nothing was kept") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _names(found: Address, failed: str) -> list[str]:
    """The files of the repository that are wanted, sorted. It is asked what it has only where there are patterns."""
    if not any(WILD & set(wanted) for wanted in found.files):
        return sorted(found.files)
    answer = io.BytesIO()
    download(found.list_url, answer, None, failed, found.by_hand)
    names = _listed(answer.getvalue())
    if names is None:
        raise CheckpointError(f"{failed}: {found.list_url} does not say which files there are. {found.by_hand}")
    absent = [wanted for wanted in found.files if not any(fnmatchcase(name, wanted) for name in names)]
    if absent:
        raise CheckpointError(f"{failed}: the repository has no {', '.join(absent)} ({found.url}). {found.by_hand}")
    return sorted(name for name in names if any(fnmatchcase(name, wanted) for wanted in found.files))


def _listed(answer: bytes) -> list[str] | None:
    """File names of a repository, from what Hugging Face says of it; names that lead out of it are left out."""
    with suppress(ValueError, KeyError, TypeError):
        names = [str(one["rfilename"]) for one in json.loads(answer)["siblings"]]
        return [name for name in names if not PurePosixPath(name).is_absolute() and ".." not in name.split("/") and "\\" not in name]
    return None


def _pieces(index: Path) -> set[str]:
    """The files that hold the pieces of a model; none where the index cannot be read, which its library will tell."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        content: Any = json.loads(index.read_text(encoding="utf-8"))
        return {str(piece) for piece in content["weight_map"].values()}
    return set()


def _put(temporary: Path, target: Path) -> None:
    if not target.exists():
        temporary.rename(target)
        return
    for file in within(temporary):
        place = target / file.relative_to(temporary)
        place.parent.mkdir(parents=True, exist_ok=True)
        file.replace(place)


def _beginning_at(before: int, size: int | None, progress: Progress | None) -> Progress | None:
    """Tells of all files together what a download tells of one."""
    if progress is None:
        return None
    told = progress
    return lambda done, total: told(before + done, size)
