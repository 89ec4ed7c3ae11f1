"""CLIP's embeddings of single crops of a face, each read once however many windows hold it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from affectkit import pretrained
from affectkit.api import Checkpoint
from affectkit.fingerprints import fingerprint
from affectkit.remembering import Remembered

KEPT = 4096  # crops whose embedding is kept; eight megabytes
TOGETHER = 64  # crops of one forward pass
TEXT_TOWER = (r"^text_model\.", r"^text_projection\.", r"^logit_scale$")  # of the file of a whole CLIP


class FrameReader:
    """CLIP's image tower with its projection, not normalised to unit length, behind the preprocessing of its own processor.

    Windows overlap, so most crops are in two of them. What was said of a crop is found again by a digest of its pixels; no answer depends on it.

    Args:
        folder: config and weights of CLIP, or of its image tower alone, as transformers writes them.
        owner: id of the component, for messages.
        device: where it runs.
        record: its mean and deviation hold where the folder has no ``preprocessor_config.json``.

    Attributes:
        size: numbers of an embedding.
        fingerprint: which parameters it has.
    """

    def __init__(self, folder: Path, owner: str, device: torch.device, record: Checkpoint) -> None:
        from transformers import CLIPVisionModelWithProjection

        model = pretrained.load(CLIPVisionModelWithProjection, folder, owner, unused=TEXT_TOWER)
        self.size = int(model.config.projection_dim)
        self.fingerprint = fingerprint(model)
        self._side = int(model.config.image_size)
        self._model = model.to(device)
        path = folder / "preprocessor_config.json"
        given = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        mean, std = (
            torch.tensor(given.get(name, known), device=device) for name, known in (("image_mean", record.mean), ("image_std", record.std))
        )
        self._mean, self._std = mean.view(3, 1, 1), std.view(3, 1, 1)
        self._said: Remembered[tuple[bytes, bool], Tensor] = Remembered(KEPT)

    def __call__(self, crops: Tensor, digests: Tensor, mask: Tensor) -> Tensor:
        """Embeddings of the crops of windows.

        Args:
            crops: (B, T, side, side, 3) uint8 RGB.
            digests: (B, T, 16) uint8, the same for the same pixels.
            mask: (B, T) bool, true where there is a crop.

        Returns:
            (B, T, D) float32, zeros where padded.
        """
        rows = crops[mask]
        half = torch.is_autocast_enabled(crops.device.type)  # what half precision says is not kept for single precision
        keys = [(row.tobytes(), half) for row in digests[mask].cpu().numpy()]

        def read(places: list[int]) -> list[Tensor]:
            return [row for first in range(0, len(places), TOGETHER) for row in self.read(rows[places[first : first + TOGETHER]])]

        spread = torch.zeros(*mask.shape, self.size, device=crops.device)
        spread[mask] = torch.stack(self._said(keys, read))
        return spread

    def read(self, crops: Tensor) -> Tensor:
        """(N, D) float32 of crops (N, side, side, 3) uint8 RGB, without looking at what was said before."""
        found: Tensor = self._model(pixel_values=self.pixels(crops)).image_embeds
        return found.float()

    def pixels(self, crops: Tensor) -> Tensor:
        """Crops as CLIP's processor gives them: bicubic to the size of the model where they have another, mean and deviation of CLIP; (N, 3, H, W) float32."""
        x = crops.movedim(-1, 1)
        if x.shape[-1] != self._side:
            from torchvision.transforms.v2 import InterpolationMode
            from torchvision.transforms.v2.functional import resize

            x = resize(x, [self._side, self._side], InterpolationMode.BICUBIC, antialias=True)
        return (x.float() / 255 - self._mean) / self._std


def write_processor(folder: Path) -> Path:
    """Puts the settings of a processor beside a small CLIP, as the public one has them."""
    from transformers import CLIPImageProcessor

    side = pretrained.config(folder, "ras/face_dynamic")["vision_config"]["image_size"]
    CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side}).save_pretrained(folder)
    return folder
