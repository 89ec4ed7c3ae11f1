"""CLIP by open_clip, from a local folder or file: what its pictures are shown as, and its texts and pictures as points of one space."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from open_clip import CLIP, SimpleTokenizer, get_model_config
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn

from affectkit import checkpoints
from affectkit.api import CheckpointError, ConfigError

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
OPENAI = "ViT-B-32-quickgelu"  # the architecture of a file that comes without a config
SIZES = ("input_resolution", "context_length", "vocab_size")  # numbers that OpenAI's TorchScript holds beside its weights
TOGETHER = 64  # pictures of one forward pass


class Clip:
    """A CLIP in evaluation mode.

    Args:
        path: a folder with ``open_clip_config.json`` and weights, or a file of the weights of ViT-B/32.
        owner: id of the component, for messages.
        device: where it runs.
        openai: the weights are OpenAI's, so that every activation is QuickGELU, whatever the config says; they were trained with it, and GELU instead
            lets them run and say something else.

    Attributes:
        side: of the pictures that it sees, in pixels.
        scale: what it multiplies cosines with; learned, about 100.
    """

    def __init__(self, path: Path, owner: str, device: torch.device, openai: bool) -> None:
        config, weights = _parts(path, owner)
        model = dict(config["model_cfg"])
        if openai or path.is_file():
            model["quick_gelu"] = True
        try:
            network = CLIP(**model)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{owner}: {path / CONFIG} describes no CLIP that open_clip makes ({error})") from None
        tensors = checkpoints.load_tensors(weights)
        checkpoints.load_strict(network, {name: tensor for name, tensor in tensors.items() if name not in SIZES}, weights)
        self._owner = owner
        self._network = network.to(device).eval().requires_grad_(False)
        self._tokenizer = SimpleTokenizer(context_length=network.context_length)
        size = network.visual.image_size
        self.side = int(size[0] if isinstance(size, tuple | list) else size)
        self.scale = float(network.logit_scale.exp())
        shown = config.get("preprocess_cfg", {})
        self._mean = torch.tensor(shown.get("mean", OPENAI_DATASET_MEAN), device=device).view(3, 1, 1)
        self._std = torch.tensor(shown.get("std", OPENAI_DATASET_STD), device=device).view(3, 1, 1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """(N, D) float32 of unit length.

        Raises:
            ConfigError: for a text that is longer than CLIP reads.
        """
        for text in texts:
            count, most = len(self._tokenizer.encode(text)) + 2, self._network.context_length
            if count > most:
                raise ConfigError(f"{self._owner}: CLIP reads texts of at most {most} tokens, and {text[:60]!r}... has {count}; shorten it")
        with torch.inference_mode():
            points: Tensor = self._network.encode_text(self._tokenizer(list(texts)).to(self._mean.device))
            return unit(points)

    def pictures(self, pictures: Tensor) -> Tensor:
        """(N, D) float32 of unit length, of square pictures (N, H, H, 3) uint8 RGB."""
        points = [self._network.encode_image(self.shown(pictures[first : first + TOGETHER])) for first in range(0, len(pictures), TOGETHER)]
        return unit(torch.cat(points))

    def shown(self, pictures: Tensor) -> Tensor:
        """Pictures as CLIP sees them: bicubic to its size where they have another, its mean and deviation; (N, 3, side, side) float32."""
        x = pictures.permute(0, 3, 1, 2)
        if x.shape[-1] != self.side:
            x = nn.functional.interpolate(x.float(), (self.side, self.side), mode="bicubic", antialias=True).round().clamp(0, 255)
        return (x.float() / 255 - self._mean) / self._std


def unit(points: Tensor) -> Tensor:
    """Points (..., D) at a distance of 1 from the origin, float32."""
    return nn.functional.normalize(points.float(), dim=-1)


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


def write_tiny(folder: Path) -> Path:
    """A small CLIP of random numbers, as open_clip stores them."""
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
    model = {"embed_dim": 16, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    network = checkpoints.random_network(lambda: CLIP(**model))
    folder = folder / "clip"
    folder.mkdir(parents=True, exist_ok=True)
    with checkpoints.writing(folder / CONFIG) as file:
        file.write(json.dumps({"model_cfg": model, "preprocess_cfg": {"mean": OPENAI_DATASET_MEAN, "std": OPENAI_DATASET_STD}}).encode())
    checkpoints.save_tensors(folder / WEIGHTS[0], network.state_dict(), {"licence": checkpoints.RANDOM})
    return folder
