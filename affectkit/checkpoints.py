"""Weights: where they are, whether they are the right ones, and how they get here; what is inside is in ``affectkit.weight_files``.

A checkpoint is named by a URI: ``package:affectkit_mini/weights/face.safetensors`` (inside an installed package), a path,
``https://...``, or ``hf:org/name@revision/file`` (Hugging Face; without a file, the folder of all that is wanted). Nothing is downloaded unless :func:`resolve` is told to
fetch, and never where ``AFFECTKIT_OFFLINE=1``.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectkit import folders
from affectkit.addresses import Address, address, origin
from affectkit.caches import offline
from affectkit.downloads import Progress, download
from affectkit.errors import CheckpointError
from affectkit.files import within
from affectkit.missing import Wanted
from affectkit.weight_files import RANDOM, is_random, some, writing

if TYPE_CHECKING:
    from affectkit.needs import Checkpoint

MIB = 1 << 20
UNITS = ("B", "kB", "MB", "GB")
MADE = "affectkit train "  # how the source of weights begins that nobody publishes and everybody can make
GIVEN = "given"  # tag of a file that a recipe or the user names


def local(checkpoint: Checkpoint) -> Path | None:
    """The file (or complete folder) on this machine, its digest unchecked; ``None`` where it is not here."""
    found = address(checkpoint)
    return next((place for place in found.places if place.exists() and not _lacking(place, found)), None)


def resolve(
    checkpoint: Checkpoint,
    *,
    fetch: bool = False,
    owner: str = "",
    tag: str = "",
    option: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """The local file (or complete folder) of a checkpoint, with its digest checked.

    Args:
        checkpoint: what is wanted.
        fetch: whether it may be downloaded where it is not here.
        owner: id of the component that wants it, for messages.
        tag: which of its checkpoints it is, where it has several, for messages.
        option: the component's option that takes a local file, for messages; with a dot, a key of the training recipe that wants it.
        progress: is told how far a download has come.

    Raises:
        CheckpointError: where it is absent, damaged, or cannot be downloaded; the message says what to do.
    """
    found = address(checkpoint)
    damaged, incomplete = None, ""
    for place in found.places:
        if not place.exists():
            continue
        if absent := _lacking(place, found):
            incomplete = incomplete or f"; {place} is not complete, it lacks {some(absent)}"
            continue
        digest = sha256(place)
        if checkpoint.sha256 is None or digest == checkpoint.sha256:
            return place
        damaged = damaged or (place, digest)
    if fetch and found.url:
        return _fetch(checkpoint, found, owner, progress)
    if damaged:
        raise CheckpointError(
            f"{_for(owner)}{damaged[0]} is damaged or another version: its sha256 is {damaged[1]}, "
            f"expected {checkpoint.sha256}. {_remedy(checkpoint, found, owner, tag, option)}"
        )
    looked = " and ".join(str(place) for place in found.places)
    raise CheckpointError(
        f"{_for(owner)}the weights {found.name} are not here (looked for {looked}{incomplete}). {_remedy(checkpoint, found, owner, tag, option)}",
        wanted=_wanted(checkpoint, found, owner, tag, option),
    )


def record(checkpoint: Checkpoint, path: Path) -> dict[str, Any]:
    """What ``run.json`` says about weights that were used."""
    return {
        "uri": checkpoint.uri,
        "file": file_name(checkpoint, path),
        "sha256": sha256(path),
        "licence": RANDOM if is_random(path) else checkpoint.licence,
        "source": checkpoint.source,
        "bytes": size(path),
    }


def file_name(checkpoint: Checkpoint, path: Path | None) -> str:
    """What to call weights: by their file where it is here; by their repository where they are the folder of one, whose name is a commit."""
    return address(checkpoint).name if path is None or path.is_dir() else path.name


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in within(path))


def readable(count: int) -> str:
    """A number of bytes as one reads it, in powers of 1000.

    >>> readable(145_262_807)
    '145 MB'
    """
    number = float(count)
    for unit in UNITS:
        if number < 1000 or unit == UNITS[-1]:
            break
        number /= 1000
    return f"{number:.0f} {unit}" if number >= 10 or unit == "B" else f"{number:.1f} {unit}"


def sha256(path: Path) -> str:
    """Digest of a file, computed once per process as long as its size and time of change stay the same.

    Of a folder, it is the digest of the names and digests of the files in it.

    Raises:
        CheckpointError: where it cannot be read.
    """
    if path.is_dir():
        names = [f"{sha256(file)} {file.relative_to(path).as_posix()}\n" for file in within(path)]
        return hashlib.sha256("".join(names).encode()).hexdigest()
    try:
        stat = path.stat()
        return _digest(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None


def _fetch(checkpoint: Checkpoint, found: Address, owner: str, progress: Progress | None) -> Path:
    target, by_hand = found.target, found.by_hand
    if target is None:
        raise CheckpointError(f"{_for(owner)}there is nothing to download for {checkpoint.uri}")
    if offline():
        raise CheckpointError(
            f"{_for(owner)}--offline or AFFECTKIT_OFFLINE forbids downloads, so {found.name} is not downloaded. {by_hand}"
        )
    if found.kind == "hf" and offline("HF_HUB_OFFLINE"):
        raise CheckpointError(f"{_for(owner)}HF_HUB_OFFLINE is set, so {found.name} is not downloaded. {by_hand}")
    failed = f"{_for(owner)}{found.name} could not be downloaded"

    def compare(digest: str) -> None:
        if checkpoint.sha256 is not None and digest != checkpoint.sha256:
            raise CheckpointError(
                f"{_for(owner)}what came from {found.url} is not {found.name}: its sha256 is {digest}, expected {checkpoint.sha256}. "
                f"Nothing was kept; a proxy or a login page may have answered. {by_hand}"
            )

    if found.files_url:
        with folders.fetching(found, progress, failed, checkpoint.size, fresh=checkpoint.sha256 is not None) as folder:
            compare(sha256(folder))
        return target
    with writing(target) as file:
        compare(download(found.url, file, progress, failed, by_hand))
    return target


def _lacking(place: Path, found: Address) -> list[str]:
    """What a folder lacks to be the checkpoint; a file lacks everything of a repository, and nothing where a path may be either."""
    return folders.lacking(place, found.files) if place.is_dir() or found.files_url else []


@lru_cache(maxsize=256)
def _digest(path: Path, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(MIB):
            digest.update(chunk)
    return digest.hexdigest()


def _for(owner: str) -> str:
    return f"{owner}: " if owner else ""


def _ways(checkpoint: Checkpoint, found: Address, owner: str, tag: str) -> tuple[str, str]:
    """What ``affectkit weights fetch`` takes to get weights, and the command that makes those that nobody publishes; each empty where there is none."""
    if found.url:
        known = owner and tag != GIVEN  # a file that a recipe names itself has no tag to fetch it by
        return (f"{owner}:{tag}" if tag else owner) if known else "", ""
    return "", checkpoint.source if found.kind != "package" and checkpoint.source.startswith(MADE) else ""


def _remedy(checkpoint: Checkpoint, found: Address, owner: str, tag: str, option: str | None) -> str:
    """What to do about weights that are absent or damaged."""
    if found.kind == "package":
        return "They are part of an installed package; install the plugin again"
    fetch, make = _ways(checkpoint, found, owner, tag)
    give = f"--set {_key(owner, option)}=/path/to/{found.name}" if owner and option else ""
    if make:
        return f"Nobody publishes them. Make them with '{make}'" + (f", and give the file with {give}" if give else "")
    if not found.url:
        return f"Give the right file with {give}" if give else "Give the right file"
    get = f"Get them with 'affectkit weights fetch {fetch}'" if fetch else f"Download {found.what} and put it {found.where}"
    if fetch and offline():
        get += f" where there is a network and downloads are allowed, or put {found.what} {found.where}"
    return f"{get}, or give a local {'folder' if found.files else 'file'}: {give}" if give else get


def _wanted(checkpoint: Checkpoint, found: Address, owner: str, tag: str, option: str | None) -> Wanted | None:
    """Absent weights as a line of a report on several; ``None`` where a command neither gets nor makes them."""
    fetch, make = _ways(checkpoint, found, owner, tag)
    if not owner or not (fetch or make):
        return None
    name = origin(checkpoint.uri) if found.files_url else found.name
    size = f" ({readable(checkpoint.size)})" if checkpoint.size else ""
    source = f" from {origin(checkpoint.uri)}" if fetch and not found.files_url else ""
    give = f"--set {_key(owner, option)}={'FOLDER' if found.files else 'FILE'}" if option else ""
    return Wanted(owner, f"{name}{size}{source}", fetch, make, give)


def _key(owner: str, option: str) -> str:
    return option if "." in option else f"components.{owner}.{option}"
