"""Models of the Hugging Face libraries from local folders: by the library's own classes, never from the network, and refused where a tensor is missing or left over."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectkit.errors import CheckpointError

if TYPE_CHECKING:
    import torch

SHOWN = 5  # keys of one kind named in a message
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt")
POSITIONS = r"(^|\.)position_ids$"  # 0, 1, 2, ...: a buffer that older versions of transformers kept


def load(cls: Any, folder: Path, owner: str, *, unused: Sequence[str] = (), dtype: torch.dtype | None = None, **given: Any) -> Any:
    """A model of transformers in evaluation mode, without gradients.

    Args:
        cls: the class, or an ``Auto`` class.
        folder: config and weights, as ``save_pretrained`` writes them.
        owner: id of the component, for messages.
        unused: patterns of names of tensors that the file may have beyond those of the model.
        dtype: precision of the parameters, single where none is given.
        **given: further arguments of ``from_pretrained``.

    Raises:
        CheckpointError: where the folder is not one of such a model, a file is damaged, or tensors are missing, left over or of another shape.
    """
    import torch

    config(folder, owner)
    with quiet(), told(folder, owner, getattr(cls, "__name__", "the model")):
        model, found = cls.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, output_loading_info=True, dtype=dtype or torch.float32, **given
        )
    left = [key for key in found["unexpected_keys"] if not any(re.search(pattern, key) for pattern in (POSITIONS, *unused))]
    refuse(folder, owner, type(model).__name__, found["missing_keys"], left, [key for key, *_ in found["mismatched_keys"]])
    return model.eval().requires_grad_(False)


def refuse(folder: Path, owner: str, model: str, missing: Sequence[str], unexpected: Sequence[str], mismatched: Sequence[str] = ()) -> None:
    """Says which tensors do not fit, where any do not.

    Raises:
        CheckpointError: naming some of them.
    """
    problems = [
        f"{len(names)} tensors {what}: {', '.join(sorted(names)[:SHOWN])}{f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''}"
        for what, names in (("missing", missing), ("left over", unexpected), ("of another shape", mismatched))
        if names
    ]
    if problems:
        raise CheckpointError(f"{owner}: {folder} does not fit {model}; {'; '.join(problems)}. Is it the checkpoint of this model?")


def config(folder: Path, owner: str, name: str = "config.json") -> Mapping[str, Any]:
    """What a JSON file of a folder says.

    Args:
        folder: as ``save_pretrained`` writes it.
        owner: id of the component, for messages.
        name: of the file.

    Raises:
        CheckpointError: where it is not there, or is damaged.
    """
    path = folder / name
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{owner}: {folder} is not the folder of a model: it has no {name}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{owner}: {path} is damaged ({error}); fetch it again") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{owner}: {path} is damaged (no mapping); fetch it again")
    return found


def tokenizer(folder: Path, owner: str, **given: Any) -> Any:
    """The tokenizer of a folder.

    Raises:
        CheckpointError: where it has none, or it is damaged.
    """
    from transformers import AutoTokenizer

    check_vocabulary(folder, owner)
    with quiet(), told(folder, owner, "a tokenizer"):
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False, **given)


def check_vocabulary(folder: Path, owner: str) -> None:
    """Refuses a folder without a vocabulary, for which transformers makes a tokenizer that knows nothing.

    Raises:
        CheckpointError: where it has none.
    """
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise CheckpointError(f"{owner}: {folder} has no tokenizer ({', '.join(VOCABULARIES)}); fetch it again")


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and reports of transformers while a model is loaded; what it would report is checked."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def told(folder: Path, owner: str, what: str) -> Iterator[None]:
    """What a library raises about a folder, as a sentence."""
    import pickle

    from safetensors import SafetensorError

    try:
        yield
    except (
        OSError,
        EOFError,
        KeyError,
        RuntimeError,
        TypeError,
        ValueError,
        AttributeError,
        SafetensorError,
        pickle.UnpicklingError,
    ) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise CheckpointError(
            f"{owner}: {folder} is damaged or of another kind than {what} reads ({first.strip()[:200]}); fetch it again, or give another folder"
        ) from None
