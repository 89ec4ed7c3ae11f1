"""``finecliper/parsing_network``: the regions of a face by a network that was trained on CelebAMask-HQ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from affectkit import pretrained
from affectkit.api import Checkpoint, CheckpointError, ConfigError, Evidence
from affectkit.errors import did_you_mean
from affectkit_finecliper import drawing
from affectkit_finecliper.mesh import REGIONS
from affectkit_finecliper.on_crops import OnCrops
from affectkit_finecliper.parsing import KIND
from affectkit_finecliper.views import nearest

if TYPE_CHECKING:
    from pathlib import Path

    import torch

CLASSES: Mapping[str, str] = {
    **{name: name for name in ("background", "skin", "nose", "hair", "hat", "neck")},
    "eye_g": "glasses",
    "l_eye": "eyes",
    "r_eye": "eyes",
    "l_brow": "brows",
    "r_brow": "brows",
    "l_ear": "ears",
    "r_ear": "ears",
    "mouth": "inner_mouth",
    "u_lip": "lips",
    "l_lip": "lips",
    "ear_r": "earrings",
    "neck_l": "necklace",
    "cloth": "clothes",
}
"""The nineteen classes of CelebAMask-HQ (Lee et al., CVPR 2020), by the names that the network's ``config.json`` gives them, and the regions they are."""

FACE = tuple(REGIONS.index(name) for name in ("skin", "nose", "eyes", "brows", "lips", "inner_mouth"))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, where preprocessor_config.json says nothing else
KIND_OF_MODEL = "segformer"
PROCESSOR = "preprocessor_config.json"
BATCH = 16  # crops of one forward pass
PUBLISHED = Checkpoint(
    uri="hf:jonathandinu/face-parsing@1f7e152e1efbfe03ce6c2637944a1f6a41bfcd0a",
    licence="CC0-1.0 by its card; SegFormer's mit-b5, which it was made from, and CelebAMask-HQ are for research only",
    source="https://huggingface.co/jonathandinu/face-parsing: SegFormer (Xie et al., NeurIPS 2021) tuned on CelebAMask-HQ (Lee et al., CVPR 2020)",
    size=339_000_000,
    commercial=False,
    files=("config.json", "preprocessor_config.json", "model.safetensors"),
)


@dataclass(frozen=True)
class ParsingNetworkOptions:
    """Options of finecliper/parsing_network.

    Attributes:
        checkpoint: ``default``, or the folder of another SegFormer with the classes of CelebAMask-HQ.
        side: pixels of the square that crops are enlarged to; the published network was trained at 512.
        least: share of a crop, in [0, 1], that has to be face for the crop to show one.
    """

    checkpoint: str = "default"
    side: int = 512
    least: float = 0.05

    def __post_init__(self) -> None:
        if self.side < 32 or self.side % 32:
            raise ConfigError(f"side must be a multiple of 32 pixels, found {self.side}")
        if not 0 <= self.least <= 1:
            raise ConfigError(f"least must be in [0, 1], found {self.least}")


class ParsingNetwork(OnCrops):
    """The regions of a face by a network that also sees glasses, ears, hair, hats, necks and clothes, and what covers a face.

    It gives what :class:`affectkit_finecliper.parsing.Parsing` gives, in the same colours. The licence of its data excludes commercial use. A crop in which less than the option ``least`` is face has the map of the nearest one in which there is more.
    """

    name = "parsing_network"
    kind: ClassVar[str] = KIND
    Options = ParsingNetworkOptions
    checkpoints: ClassVar = {"default": PUBLISHED}
    requires = ("transformers",)

    _network: Any = None

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Reads the network.

        Raises:
            CheckpointError: where the folder holds something else, or is damaged.
        """
        import torch
        from transformers import SegformerForSemanticSegmentation

        folder = self.weights()
        config = pretrained.config(folder, self.id)
        if config.get("model_type") != KIND_OF_MODEL:
            raise CheckpointError(f"{self.id}: {folder} is a model of kind {config.get('model_type')!r}; expected {KIND_OF_MODEL!r}")
        self._regions = torch.tensor(_regions(config, folder, self.id), dtype=torch.uint8, device=device)
        said = pretrained.config(folder, self.id, PROCESSOR) if (folder / PROCESSOR).is_file() else {}
        mean, std = (said.get(name, usual) for name, usual in (("image_mean", MEAN), ("image_std", STD)))
        self._mean, self._std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (mean, std))
        kind: Any = SegformerForSemanticSegmentation
        network = pretrained.load(kind, folder, self.id, ignore_mismatched_sizes=True)  # which load refuses in its own words
        self._network = network.to(device=device, dtype=dtype)
        self._device, self._dtype = device, dtype

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """A SegFormer of few, narrow layers, written by its own library."""
        return write(folder / tag)

    def look(self, crops: np.ndarray, times: np.ndarray | None) -> Evidence:
        labels = np.concatenate([self._look(crops[first : first + BATCH]) for first in range(0, len(crops), BATCH)])
        share = np.isin(labels, FACE).mean(axis=(1, 2))
        valid = share >= self.options.least
        places = nearest(valid)
        if places is None:
            return Evidence.none(KIND, "no crop shows enough of a face")
        data = {"maps": drawing.coloured(labels[places]), "labels": labels[places], "valid": valid}
        return Evidence(KIND, data, times=times, quality={"found": float(valid.mean()), "face": float(share.mean())})

    def _look(self, crops: np.ndarray) -> np.ndarray:
        """Regions (N, S, S) uint8 of crops (N, S, S, 3) uint8."""
        import torch
        from torch.nn import functional

        with torch.inference_mode():
            pixels = torch.from_numpy(np.ascontiguousarray(crops)).to(self._device).permute(0, 3, 1, 2).float() / 255
            shown = functional.interpolate(pixels, size=(self.options.side,) * 2, mode="bilinear", align_corners=False, antialias=True)
            logits = self._network(pixel_values=((shown - self._mean) / self._std).to(self._dtype)).logits.float()
            logits = functional.interpolate(logits, size=crops.shape[1:3], mode="bilinear", align_corners=False)
            found: np.ndarray = self._regions[logits.argmax(dim=1)].cpu().numpy()
        return found


def _regions(config: Mapping[str, Any], folder: Path, owner: str) -> list[int]:
    """The region of each class of a network, by the names in its config.

    Raises:
        CheckpointError: where a name is not one of CelebAMask-HQ's.
    """
    named = config.get("id2label") or {}
    names = [str(named.get(str(place), "")) for place in range(len(named))]
    unknown = [name for name in names if name not in CLASSES]
    if unknown or not names:
        first = unknown[0] if unknown else ""
        raise CheckpointError(
            f"{owner}: the classes of {folder} are not those of CelebAMask-HQ: it has {', '.join(map(repr, unknown[:5])) or 'no names'}. "
            f"{did_you_mean(first, CLASSES)}"
        )
    return [REGIONS.index(CLASSES[name]) for name in names]


def write(folder: Path) -> Path:
    """Config, weights and processor of a small SegFormer with random numbers and the nineteen classes, by their own library."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    from affectkit.weight_files import RANDOM, random_network

    given = SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[4, 2],
        hidden_sizes=[8, 16],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=16,
        id2label=dict(enumerate(CLASSES)),
        label2id={name: place for place, name in enumerate(CLASSES)},
    )
    with pretrained.quiet():
        random_network(lambda: SegformerForSemanticSegmentation(given)).save_pretrained(folder)
    SegformerImageProcessor().save_pretrained(folder)
    (folder / "README.md").write_text(f"{RANDOM}\n", encoding="utf-8")
    return folder
