"""CLIP ViT-B/16 from a folder of open_clip or a file with OpenAI's keys, its tokens, and how one CLIP is told from another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_clip import CLIP, SimpleTokenizer
from torch import Tensor, nn

from affectkit import open_clip_files
from affectkit.api import CheckpointError
from affectkit.fingerprints import fingerprint

OPENAI = "ViT-B-16-quickgelu"  # the architecture of a file that comes without a config


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
        open_clip_files.check_length(texts, self.clip.context_length, owner)


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
    stored = open_clip_files.read(path, owner, architecture=OPENAI, openai=openai)
    if unfit := _unfit(stored.clip):
        raise CheckpointError(f"{owner}: the CLIP of {path} {unfit}; give a CLIP with two transformers, such as ViT-B/16")
    return Backbone(stored.clip, stored.mean, stored.std, fingerprint(stored.clip))


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
    return open_clip_files.write_random(folder, model or tiny_config())
