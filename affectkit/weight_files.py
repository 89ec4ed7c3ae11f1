"""Files of weights: the tensors in them, the text beside them, and networks that take them.

Files are safetensors, or ``.pt`` files that hold nothing but tensors. Python objects in a file are never built.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from affectkit.errors import CheckpointError
from affectkit.files import replacing, within

if TYPE_CHECKING:
    import torch

Network = TypeVar("Network", bound="torch.nn.Module")

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
NESTED = ("state_dict", "model_state_dict", "model", "module")  # where training scripts keep the tensors of a .pt file
BEGINNING = 1 << 20  # bytes of a file in which the mark of random numbers is looked for
SHOWN = 5  # keys of one kind named in a message
RANDOM = "random numbers, for trying only (affectkit weights tiny)"
"""Stands in files of weights that mean nothing; :func:`is_random` looks for it, and it is their licence in ``run.json``."""


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
    problems = [f"{len(names)} {what}: {some(names)}" for what, names in lists.items() if names]
    if problems:
        raise CheckpointError(
            f"{path} does not fit {type(module).__name__} ({len(wanted)} tensors); {'; '.join(problems)}. "
            "Is it the checkpoint of this model?"
        )
    module.load_state_dict(dict(tensors), strict=True)


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


def is_random(path: Path) -> bool:
    """Whether weights are random numbers that ``affectkit weights tiny`` wrote: :data:`RANDOM` stands near the beginning of a file."""
    for file in within(path):
        with suppress(OSError), file.open("rb") as opened:
            if RANDOM.encode() in opened.read(BEGINNING):
                return True
    return False


def is_torchscript(path: Path) -> bool:
    """Whether a file is TorchScript, by the names in its archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return holds_program(archive)
    except (zipfile.BadZipFile, OSError):
        return False


def holds_program(archive: zipfile.ZipFile) -> bool:
    """Whether an archive is TorchScript, which is a program: it has code beside its numbers."""
    inside = [name.partition("/")[2] for name in archive.namelist()]
    return "constants.pkl" in inside and any(name.startswith("code/") for name in inside)


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

    import torch

    if is_torchscript(path):
        raise CheckpointError(
            f"{path} is TorchScript, a program, which is not opened here. Write its weights as safetensors with "
            f"'affectkit weights convert {path} --to {path.with_suffix('.safetensors').name}'"
        )
    try:
        with torch.serialization.safe_globals(list(allowed)):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError:
        objects = _objects(path, allowed)
        raise CheckpointError(
            f"{path} holds Python objects beside its tensors{f' ({some(objects)})' if objects else ', or is damaged'}; objects are never loaded. "
            "Save its state_dict as safetensors where it was made, or fetch it again"
        ) from None
    except (EOFError, OSError, RuntimeError, ValueError, KeyError) as error:
        raise _damaged(path, error) from None
    whole = content if isinstance(content, dict) else {}
    for key in (None, *NESTED):
        inner = whole if key is None else whole.get(key)
        if isinstance(inner, dict) and inner and all(isinstance(value, torch.Tensor) for value in inner.values()):
            return dict(inner), {} if key is None else {name: value for name, value in whole.items() if name != key}
    holds = f"keys {some([str(key) for key in whole])}" if isinstance(content, dict) else type(content).__name__
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


def some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
