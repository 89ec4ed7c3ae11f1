"""CLIP by open_clip, from a local folder or file: what its pictures are shown as, and its texts and pictures as points of one space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from open_clip import SimpleTokenizer
from torch import Tensor, nn

from affectkit import open_clip_files

OPENAI = "ViT-B-32-quickgelu"  # the architecture of a file that comes without a config
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
        stored = open_clip_files.read(path, owner, architecture=OPENAI, openai=openai)
        network = stored.clip
        self._owner = owner
        self._network = network.to(device)
        self._tokenizer = SimpleTokenizer(context_length=network.context_length)
        size = network.visual.image_size
        self.side = int(size[0] if isinstance(size, tuple | list) else size)
        self.scale = float(network.logit_scale.exp())
        self._mean = torch.tensor(stored.mean, device=device).view(3, 1, 1)
        self._std = torch.tensor(stored.std, device=device).view(3, 1, 1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """(N, D) float32 of unit length.

        Raises:
            ConfigError: for a text that is longer than CLIP reads.
        """
        open_clip_files.check_length(texts, self._network.context_length, self._owner)
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


def write_tiny(folder: Path) -> Path:
    """A small CLIP of random numbers, as open_clip stores them."""
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
    model = {"embed_dim": 16, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    return open_clip_files.write_random(folder / "clip", model)
