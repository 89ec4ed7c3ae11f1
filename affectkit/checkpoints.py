"""Weights: where they are, whether they are the right ones, how they get here, and what is inside.

A checkpoint is named by a URI: ``package:affectkit_mini/weights/face.safetensors`` (inside an installed package), a path,
``https://...``, or ``hf:org/name@revision/file`` (Hugging Face; without a file, the folder of all that is wanted). Nothing is downloaded unless :func:`resolve` is told to
fetch, and never where ``AFFECTKIT_OFFLINE=1``. Files are safetensors, or ``.pt`` files that hold nothing but tensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from affectkit import folders
from affectkit.addresses import Address, address, offline, origin
from affectkit.downloads import Progress, download
from affectkit.errors import CheckpointError
from affectkit.files import replacing, within
from affectkit.missing import Wanted

if TYPE_CHECKING:
    import torch

    from affectkit.components import Checkpoint

Network = TypeVar("Network", bound="torch.nn.Module")

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
NESTED = ("state_dict", "model_state_dict", "model", "module")  # where training scripts keep the tensors of a .pt file
MIB = 1 << 20
UNITS = ("B", "kB", "MB", "GB")
SHOWN = 5  # keys of one kind named in a message
MADE = "affectkit train "  # how the source of weights begins that nobody publishes and everybody can make
GIVEN = "given"  # tag of a file that a recipe or the user names
RANDOM = "random numbers, for trying only (affectkit weights tiny)"
"""Stands in files of weights that mean nothing; :func:`is_random` looks for it, and it is their licence in ``run.json``."""


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
            incomplete = incomplete or f"; {place} is not complete, it lacks {_some(absent)}"
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


def is_random(path: Path) -> bool:
    """Whether weights are random numbers that ``affectkit weights tiny`` wrote: :data:`RANDOM` stands near the beginning of a file."""
    for file in within(path):
        with suppress(OSError), file.open("rb") as opened:
            if RANDOM.encode() in opened.read(MIB):
                return True
    return False


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


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a file, on the CPU.

    Args:
        path: safetensors, or a ``.pt``, ``.pth``, ``.bin`` or ``.ckpt`` file that holds tensors, alone or under ``state_dict``,
            ``model_state_dict``, ``model`` or ``module``. Python objects in such a file are never built.

    Raises:
        CheckpointError: where the file is absent, damaged, of another kind, or holds objects.
    """
    return load_saved(path)[0]


def load_saved(path: Path, allowed: Sequence[type] = ()) -> tuple[dict[str, torch.Tensor], Mapping[str, Any]]:
    """All tensors of a file, and what a training script wrote beside them: its arguments, the epoch, the state of the optimiser; nothing of safetensors.

    Args:
        path: as of :func:`load_tensors`. A ``.pt`` file is mapped, so that what is not looked at stays on disk.
        allowed: Python classes that may be built, which must do nothing when they are; for instance ``argparse.Namespace``.

    Raises:
        CheckpointError: as of :func:`load_tensors`.
    """
    if path.suffix not in SUFFIXES:
        raise CheckpointError(f"{path} is not a file of weights that can be read; expected {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise CheckpointError(f"there is no file of weights at {path}")
    return _torch_saved(path, allowed) if path.suffix in TORCH_SUFFIXES else (_safe_tensors(path), {})


def metadata(path: Path) -> dict[str, str]:
    """The text that a safetensors file carries beside its tensors.

    Raises:
        CheckpointError: where the file is absent, damaged or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    if path.suffix in TORCH_SUFFIXES:
        raise CheckpointError(f"{path} is a file of torch, expected safetensors with a header; give the file that 'affectkit train' wrote")
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from None


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file in one step: it is there in full, or as it was before.

    Raises:
        CheckpointError: where it cannot be written.
    """
    from safetensors.torch import save

    # Clones, because safetensors refuses tensors that share memory (tied weights).
    content = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, dict(metadata or {}))
    with writing(path) as file:
        file.write(_in_order(content) if metadata else content)


def save_torch(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a ``.pt`` file in one step, for formats that are not safetensors.

    Args:
        path: the file.
        content: tensors, numbers and text, nothing else.

    Raises:
        CheckpointError: where it cannot be written.
    """
    import torch

    with writing(path) as file:
        torch.save(dict(content), file)


def random_network(make: Callable[[], Network], seed: int = 0) -> Network:
    """A network with the random numbers that it begins with; no other random numbers change.

    Args:
        make: makes the network.
        seed: the same seed gives the same numbers.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would change those of the GPU as well
        return make()


def load_strict(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Loads tensors into a module that must have exactly these parameters and buffers.

    Args:
        module: the network.
        tensors: its state.
        path: where the tensors come from, for messages.

    Raises:
        CheckpointError: listing what is missing, unexpected, or of another shape.
    """
    wanted = module.state_dict()
    shapes = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    lists = {
        "missing": [name for name in wanted if name not in tensors],
        "unexpected": [name for name in tensors if name not in wanted],
        "of another shape": shapes,
    }
    problems = [f"{len(names)} {what}: {_some(names)}" for what, names in lists.items() if names]
    if problems:
        raise CheckpointError(
            f"{path} does not fit {type(module).__name__} ({len(wanted)} tensors); {'; '.join(problems)}. "
            "Is it the checkpoint of this model?"
        )
    module.load_state_dict(dict(tensors), strict=True)


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


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """A file that becomes ``path`` where all went well, and nothing where it did not.

    Raises:
        CheckpointError: where it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("xb") as file:
            yield file
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {error.strerror}; nothing was kept") from None


def _in_order(content: bytes) -> bytes:
    """A safetensors file with the text of its header in order; safetensors writes it in any, and the same weights should be the same file.

    The format: the length of the header in 8 bytes, the header as JSON, filled up with spaces to a multiple of 8 bytes, the tensors.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]


def _safe_tensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from None


def _torch_saved(path: Path, allowed: Sequence[type]) -> tuple[dict[str, torch.Tensor], Mapping[str, Any]]:
    import pickle
    from zipfile import is_zipfile

    import torch

    from affectkit.torchscript import is_torchscript

    if is_torchscript(path):
        raise CheckpointError(
            f"{path} is TorchScript, a program, which is not opened here. Write its weights as safetensors with "
            f"'affectkit weights convert {path} --to {path.with_suffix('.safetensors').name}'"
        )
    try:
        with torch.serialization.safe_globals(list(allowed)):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except pickle.UnpicklingError:
        objects = _objects(path, allowed)
        raise CheckpointError(
            f"{path} holds Python objects beside its tensors{f' ({_some(objects)})' if objects else ', or is damaged'}; objects are never loaded. "
            "Save its state_dict as safetensors where it was made, or fetch it again"
        ) from None
    except (EOFError, OSError, RuntimeError, ValueError, KeyError) as error:
        raise _damaged(path, error) from None
    whole = content if isinstance(content, dict) else {}
    for key in (None, *NESTED):
        inner = whole if key is None else whole.get(key)
        if isinstance(inner, dict) and inner and all(isinstance(value, torch.Tensor) for value in inner.values()):
            return dict(inner), {} if key is None else {name: value for name, value in whole.items() if name != key}
    holds = f"keys {_some([str(key) for key in whole])}" if isinstance(content, dict) else type(content).__name__
    raise CheckpointError(f"{path} holds no tensors by name, alone or under {', '.join(NESTED)}; it holds {holds}")


def _objects(path: Path, allowed: Sequence[type]) -> list[str]:
    """Names of the classes in a ``.pt`` file that may not be built, where they can be told; its program is read, not run."""
    import pickle

    import torch

    known = {f"{kind.__module__}.{kind.__name__}" for kind in allowed}
    try:
        return sorted(set(torch.serialization.get_unsafe_globals_in_checkpoint(path)) - known)
    except (pickle.UnpicklingError, OSError, RuntimeError, ValueError):  # of an old format, or damaged
        return []


def _damaged(path: Path, error: Exception) -> CheckpointError:
    if isinstance(error, FileNotFoundError):
        return CheckpointError(f"there is no file of weights at {path}")
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return CheckpointError(f"{path} is damaged or not a file of weights ({first[:160]}); fetch it again")


@lru_cache(maxsize=256)
def _digest(path: Path, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(MIB):
            digest.update(chunk)
    return digest.hexdigest()


def _for(owner: str) -> str:
    return f"{owner}: " if owner else ""


def _remedy(checkpoint: Checkpoint, found: Address, owner: str, tag: str, option: str | None) -> str:
    """What to do about weights that are absent or damaged."""
    if found.kind == "package":
        return "They are part of an installed package; install the plugin again"
    give = f"--set {_key(owner, option)}=/path/to/{found.name}" if owner and option else ""
    if not found.url and checkpoint.source.startswith(MADE):
        return f"Nobody publishes them. Make them with '{checkpoint.source}'" + (f", and give the file with {give}" if give else "")
    if not found.url:
        return f"Give the right file with {give}" if give else "Give the right file"
    wanted = f"{owner}:{tag}" if tag else owner
    known = owner and tag != GIVEN  # a file that a recipe names itself has no tag to fetch it by
    get = f"Get them with 'affectkit weights fetch {wanted}'" if known else f"Download {found.what} and put it {found.where}"
    if known and offline():
        get += f" where there is a network and downloads are allowed, or put {found.what} {found.where}"
    return f"{get}, or give a local {'folder' if found.files else 'file'}: {give}" if give else get


def _key(owner: str, option: str) -> str:
    return option if "." in option else f"components.{owner}.{option}"


def _wanted(checkpoint: Checkpoint, found: Address, owner: str, tag: str, option: str | None) -> Wanted | None:
    """Absent weights as a line of a report on several; ``None`` where a command neither gets nor makes them."""
    fetch = (f"{owner}:{tag}" if tag else owner) if found.url and tag != GIVEN else ""
    make = checkpoint.source if not found.url and checkpoint.source.startswith(MADE) else ""
    if not owner or not (fetch or make):
        return None
    name = origin(checkpoint.uri) if found.files_url else found.name
    size = f" ({readable(checkpoint.size)})" if checkpoint.size else ""
    source = f" from {origin(checkpoint.uri)}" if fetch and not found.files_url else ""
    give = f"--set {_key(owner, option)}={'FOLDER' if found.files else 'FILE'}" if option else ""
    return Wanted(owner, f"{name}{size}{source}", fetch, make, give)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
