"""CLIP ViT-B/16 from a folder of open_clip or a file with OpenAI's keys, its tokens, and how one CLIP is told from another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_clip import CLIP, SimpleTokenizer, get_model_config
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn

from affectkit import checkpoints
from affectkit.api import CheckpointError, ConfigError
from affectkit.fingerprints import fingerprint

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
OPENAI = "ViT-B-16-quickgelu"  # the architecture of a file that comes without a config
SIZES = ("input_resolution", "context_length", "vocab_size")  # numbers that OpenAI's TorchScript holds beside its weights


@dataclass(frozen=True)
class Backbone:
    """A CLIP in single precision, and what must be known of it.

    Attributes:
        clip: the network.
        mean: of the channels of the pictures that it sees, in [0, 1].
        std: of the channels, in [0, 1].
        fingerprint: what tells it from another CLIP.
    """

    clip: CLIP
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Texts as (N, K) int64; what is longer than CLIP reads is cut."""
        found: Tensor = SimpleTokenizer(context_length=self.clip.context_length)(list(texts))
        return found

    def check_length(self, texts: Sequence[str], owner: str) -> None:
        """Nothing, where CLIP reads these texts to their end.

        Raises:
            ConfigError: naming the first that is too long.
        """
        tokenizer, most = SimpleTokenizer(), self.clip.context_length
        for text in texts:
            if (count := len(tokenizer.encode(text)) + 2) > most:
                raise ConfigError(f"{owner}: CLIP reads texts of at most {most} tokens, and {text[:60]!r}... has {count}; shorten it")


def load(path: Path, owner: str, *, openai: bool) -> Backbone:
    """Reads a CLIP.

    Args:
        path: a folder with ``open_clip_config.json`` and weights, or a file of the weights of ViT-B/16, as open_clip or OpenAI name them.
        owner: id of the component, for messages.
        openai: whether the weights are known to be OpenAI's. Their activations are QuickGELU, and so are those of a file without a config; a config
            that does not say so would let them run and say something else.

    Raises:
        CheckpointError: where it is not one that fits, or is damaged.
    """
    config, weights = _parts(path, owner)
    tensors = {name: tensor.float() for name, tensor in checkpoints.load_tensors(weights).items() if name not in SIZES}
    model = dict(config["model_cfg"])
    if openai or path.is_file():
        model["quick_gelu"] = True
    try:
        clip = CLIP(**model)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{owner}: {path / CONFIG} describes no CLIP that open_clip makes ({error})") from None
    if unfit := _unfit(clip):
        raise CheckpointError(f"{owner}: the CLIP of {path} {unfit}; give a CLIP with two transformers, such as ViT-B/16")
    checkpoints.load_strict(clip, tensors, weights)
    shown = config.get("preprocess_cfg", {})
    mean, std = tuple(shown.get("mean", OPENAI_DATASET_MEAN)), tuple(shown.get("std", OPENAI_DATASET_STD))
    return Backbone(clip.eval().requires_grad_(False), mean, std, fingerprint(clip))


def _unfit(clip: CLIP) -> str:
    """What keeps adapters from fitting into a CLIP, in words; nothing where they do."""
    if not hasattr(clip.visual, "class_embedding") or getattr(clip.visual, "pool_type", "") != "tok":
        return "has no visual transformer with a class token"
    if not isinstance(clip.text_projection, Tensor) or clip.text_pool_type != "argmax":
        return "reads its texts in another way than OpenAI's"
    blocks = (*clip.visual.transformer.resblocks, *clip.transformer.resblocks)
    if any(not isinstance(block.ls_1, nn.Identity) for block in blocks):
        return "scales its layers"
    return ""


def _parts(path: Path, owner: str) -> tuple[dict[str, Any], Path]:
    """The config and the file of weights."""
    if path.is_file():
        return {"model_cfg": get_model_config(OPENAI)}, path
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


def tiny_config(side: int = 32, patch: int = 16, width: int = 32, layers: int = 2) -> dict[str, Any]:
    """The config of a small CLIP in which everything of a large one has its place.

    Args:
        side: of its pictures, in pixels.
        patch: side of what becomes a token.
        width: of both towers, and size of its points; heads are 16 wide.
        layers: of both towers.
    """
    vision = {"image_size": side, "layers": layers, "width": width, "head_width": 16, "patch_size": patch}
    text = {"context_length": 77, "vocab_size": 49408, "width": width, "heads": width // 16, "layers": layers}
    return {"embed_dim": width, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}


def write_tiny(folder: Path, model: dict[str, Any] | None = None) -> Path:
    """A small CLIP of random numbers, as open_clip stores it."""
    model = model or tiny_config()
    network = checkpoints.random_network(lambda: CLIP(**model))
    folder.mkdir(parents=True, exist_ok=True)
    with checkpoints.writing(folder / CONFIG) as file:
        file.write(json.dumps({"model_cfg": model, "preprocess_cfg": {"mean": OPENAI_DATASET_MEAN, "std": OPENAI_DATASET_STD}}).encode())
    checkpoints.save_tensors(folder / WEIGHTS[0], network.state_dict(), {"licence": checkpoints.RANDOM})
    return folder
