"""CLIP networks of open_clip from local folders and files: never from the network, and refused where a tensor is missing or left over.

open_clip, of which the core does not depend, is imported when something is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectkit import weight_files
from affectkit.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from open_clip import CLIP

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
SIZES = ("input_resolution", "context_length", "vocab_size")  # numbers that OpenAI's TorchScript holds beside its weights


@dataclass(frozen=True)
class Stored:
    """A CLIP in single precision and evaluation mode, and how pictures are shown to it.

    Attributes:
        clip: the network; it learns nothing.
        mean: of the channels of its pictures, in [0, 1].
        std: of the channels, in [0, 1].
    """

    clip: CLIP
    mean: tuple[float, ...]
    std: tuple[float, ...]


def read(path: Path, owner: str, *, architecture: str, openai: bool) -> Stored:
    """Reads a CLIP.

    Args:
        path: a folder with ``open_clip_config.json`` and weights, or a file of weights as open_clip or OpenAI name them.
        owner: id of the component, for messages.
        architecture: open_clip's name of the network in a file, which comes without a config.
        openai: whether the weights are known to be OpenAI's. Their activations are QuickGELU, and so are those of a file without a config; a config
            that does not say so would let them run and say something else.

    Raises:
        CheckpointError: where it is not one that fits, or is damaged.
    """
    from open_clip import CLIP, get_model_config
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    config, weights = ({"model_cfg": get_model_config(architecture)}, path) if path.is_file() else _parts(path, owner)
    model = dict(config["model_cfg"])
    if openai or path.is_file():
        model["quick_gelu"] = True
    try:
        clip = CLIP(**model)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{owner}: {path / CONFIG} describes no CLIP that open_clip makes ({error})") from None
    tensors = weight_files.load_tensors(weights)
    weight_files.load_strict(clip, {name: tensor.float() for name, tensor in tensors.items() if name not in SIZES}, weights)
    shown = config.get("preprocess_cfg", {})
    mean, std = tuple(shown.get("mean", OPENAI_DATASET_MEAN)), tuple(shown.get("std", OPENAI_DATASET_STD))
    return Stored(clip.eval().requires_grad_(False), mean, std)


def check_length(texts: Sequence[str], most: int, owner: str) -> None:
    """Nothing, where a CLIP reads these texts to their end.

    Args:
        texts: what it is to read.
        most: tokens that it reads, with those of the beginning and the end.
        owner: id of the component, for messages.

    Raises:
        ConfigError: naming the first that is too long.
    """
    from open_clip import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    for text in texts:
        if (count := len(tokenizer.encode(text)) + 2) > most:
            raise ConfigError(f"{owner}: CLIP reads texts of at most {most} tokens, and {text[:60]!r}... has {count}; shorten it")


def write_random(folder: Path, model: Mapping[str, Any]) -> Path:
    """A CLIP of random numbers, as open_clip stores it.

    Args:
        folder: is made.
        model: open_clip's ``model_cfg``.
    """
    from open_clip import CLIP
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    network = weight_files.random_network(lambda: CLIP(**model))
    folder.mkdir(parents=True, exist_ok=True)
    with weight_files.writing(folder / CONFIG) as file:
        file.write(json.dumps({"model_cfg": model, "preprocess_cfg": {"mean": OPENAI_DATASET_MEAN, "std": OPENAI_DATASET_STD}}).encode())
    weight_files.save_tensors(folder / WEIGHTS[0], network.state_dict(), {"licence": weight_files.RANDOM})
    return folder


def _parts(path: Path, owner: str) -> tuple[dict[str, Any], Path]:
    """The config and the file of weights of a folder."""
    weights = next((path / name for name in WEIGHTS if (path / name).is_file()), None)
    if weights is None or not (path / CONFIG).is_file():
        lacks = CONFIG if weights is not None else WEIGHTS[0]
        raise CheckpointError(f"{owner}: {path} is not a folder of open_clip: it has no {lacks}; give one with {CONFIG} and {WEIGHTS[0]}")
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config["model_cfg"], dict):
            raise TypeError("model_cfg is no mapping")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{owner}: {path / CONFIG} is damaged ({error}); fetch it again") from None
    return config, weights
