"""The masked pre-training of S4D on clips and pictures without labels."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from affectkit.api import About, ConfigError, LabelSet, Part, Turn, UsageError
from affectkit.clip_augmentation import Augmentation
from affectkit.clip_sampling import window
from affectkit.clip_training import FRAMES, PICTURE, ClipOptions, ClipTraining, Stills
from affectkit.datasets.items import Fold, Item
from affectkit.media import PICTURE_SUFFIXES, VIDEO_SUFFIXES
from affectkit.trainings import Pace
from affectkit_s4d.trainings.fine_tuning import Network

if TYPE_CHECKING:
    import torch

    from affectkit_s4d.model import Sizes

SAID = LabelSet("reconstruction", ("hidden_pixels",), kind="multilabel")
"""Whether the hidden pixels of a clip are said better than by the mean of each patch; of the training, not of anything that a network says."""

ANY = LabelSet("any", ("clip",))
FOLDER = "folder"


@dataclass(frozen=True, kw_only=True)
class MorePictures(Stills):
    """Pictures beside the clips, each once per epoch; a folder of pictures unless a data set is named."""

    dataset: str = FOLDER
    draw: Literal["shuffled", "even"] = "shuffled"


@dataclass(frozen=True)
class PretrainingOptions(ClipOptions):
    """Options of the pre-training, beside those of every training on clips.

    Attributes:
        dataset: ``folder`` takes every clip below the data: videos, and folders of pictures; others as in every training.
        stills: pictures that it learns from beside the clips, for instance ``{data: PICTURES}``; ``None`` for none.
        stride: native frames from one frame of a view to the next.
        repeats: how often a clip that is read is learned from, each time with another crop and other hidden tokens.
        hidden: share of the tokens of a clip that are hidden.
        still_hidden: share of those of a picture.
        network: sizes of the encoder; experts belong to the fine-tuning.
        decoder_width: of a token of the decoder.
        decoder_depth: its blocks.
        decoder_heads: of its attention.
    """

    dataset: str = FOLDER
    size: int = 160
    augment: Augmentation = field(default_factory=lambda: Augmentation(crop=0.5, flip=0.5))
    stills: MorePictures | None = None
    stride: int = 4
    repeats: int = 4
    hidden: float = 0.95
    still_hidden: float = 0.9
    network: Network = field(default_factory=Network)
    decoder_width: int = 384
    decoder_depth: int = 4
    decoder_heads: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 < self.hidden < 1 and 0 < self.still_hidden < 1) or self.repeats < 1 or self.stride < 1:
            raise ConfigError(
                "hidden and still_hidden must be between 0 and 1, repeats and stride at least 1; "
                f"found {self.hidden}, {self.still_hidden}, {self.repeats} and {self.stride}"
            )


class Pretraining(ClipTraining):
    """Where a fine-tuning of S4D begins: an encoder that says the hidden patches of clips and pictures (S4D, section "Dual-modal pre-training").

    A batch is of clips or of pictures. The measure of the validation part is the share of clips whose hidden pixels are said better than by the mean of each patch; the
    error itself is among the further figures. What is not as published: rates rise from 0; crops show at least half of a picture, as the published ones are not known.
    """

    name = "pretraining_training"
    labels: LabelSet = SAID
    calibrates: ClassVar[bool] = False
    Options = PretrainingOptions

    def read(self, data: Path) -> Fold:
        """Every clip of a folder, or the training list of a data set."""
        return folder_of(data, "clips") if self.options.dataset == FOLDER else super().read(data)

    def read_stills(self) -> Fold | None:
        """Every picture of a folder, or the training list of a data set."""
        wanted = self.options.stills
        return folder_of(wanted.data, "pictures") if wanted is not None and wanted.dataset == FOLDER else super().read_stills()

    def parts(self, data: Path) -> Mapping[str, Part]:
        """All clips, some of which are kept for validation; a step has as many rows as the recipe says, of fewer clips where each is repeated."""
        parts, mine = super().parts(data), self.options
        self.labels = SAID
        train = parts["train"]
        kinds = np.full(len(train), FRAMES) if train.kinds is None else train.kinds
        paces = {**train.paces, FRAMES: Pace(batch=1 / mine.repeats, share=1 / mine.repeats)}
        parts = {**parts, "train": replace(train, kinds=kinds, paces=paces)}
        return {name: replace(part, truth=np.ones((len(part), 1), np.float32)) for name, part in parts.items()}

    def sample(self, count: int, random: np.random.Generator | None) -> np.ndarray:
        """Frames at the stride: in training (repeats, T) of one drawn place, else (T,) of the middle."""
        mine = self.options
        if random is None:
            return window(count, mine.frames, mine.stride, 0.5, "hold")
        return np.repeat(window(count, mine.frames, mine.stride, float(random.random()), "hold")[None], mine.repeats, axis=0)

    def extra(self, items: Sequence[Item], turn: Turn | None) -> Mapping[str, Any]:
        """Where it is measured, what is hidden: always the same of a clip."""
        import torch

        from affectkit_s4d.pretraining import masks

        if turn is not None:
            return {}
        seeds = [zlib.crc32(item.id.encode()) for item in items]
        tokens, share = self.sizes.tokens, self.options.hidden
        return {"hidden": torch.cat([masks(1, tokens, share, torch.Generator().manual_seed(seed)) for seed in seeds])}

    @property
    def sizes(self) -> Sizes:
        """What the encoder is built of."""
        from affectkit_s4d.model import Sizes

        return Sizes(side=self.options.size, frames=self.options.frames, **{**vars(self.options.network), "experts": 0})

    def network(self) -> torch.nn.Module:
        from affectkit_s4d.pretraining import MaskedAutoencoder

        mine = self.options
        return MaskedAutoencoder(self.sizes, width=mine.decoder_width, depth=mine.decoder_depth, heads=mine.decoder_heads)

    def parameters(self, network: torch.nn.Module, decay: float) -> list[dict[str, Any]]:
        """As published, with betas of 0.9 and 0.95."""
        return [{**group, "betas": (0.9, 0.95)} for group in super().parameters(network, decay)]

    def errors(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean squared error of each clip or picture over its hidden tokens, (B,), and that of who says the mean of each patch."""
        import torch

        from affectkit_s4d.model import standardised
        from affectkit_s4d.pretraining import errors, masks

        picture, patch = PICTURE in batch, self.options.network.patch
        pixels = batch[PICTURE] if picture else batch[FRAMES].flatten(0, -5)
        hidden = batch.get("hidden")
        if hidden is None:  # in training; the random numbers of a step are those of torch
            tokens = self.sizes.places if picture else self.sizes.tokens
            share = self.options.still_hidden if picture else self.options.hidden
            hidden = masks(len(pixels), tokens, share, torch.default_generator).to(pixels.device)
        x = standardised(pixels)
        if not picture:
            pixels, x = pixels.transpose(1, 2), x.transpose(1, 2)
        said = network(x, hidden)
        return errors(said, pixels, hidden, patch), errors(torch.zeros_like(said), pixels, hidden, patch)

    def predict(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The logarithm of how much smaller the error is than that of who says the mean of each patch, (B, 1)."""
        mine, plain = self.errors(network, batch)
        return (plain.clamp_min(1e-9) / mine.clamp_min(1e-9)).log()[:, None]

    def loss(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        """Mean squared error of the hidden patches, each normalised by itself."""
        return self.errors(network, batch)[0].mean()

    def figures(self, network: torch.nn.Module, part: Part, logits: torch.Tensor, settings: Mapping[str, Any]) -> Mapping[str, float]:
        """The error of the validation part, and that of who says the mean of each patch."""
        import torch

        found = []
        for rows in np.array_split(np.arange(len(part)), -(-len(part) // 8)):
            batch = {name: torch.as_tensor(value) for name, value in part.batch(rows, None).items()}
            found.append(torch.stack(self.errors(network, batch), 1))
        mine, plain = torch.cat(found).mean(0).tolist()
        return {"error of hidden pixels": mine, "error of the mean of each patch": plain}

    def write(self, path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, str]) -> None:
        """With the sizes in the header."""
        import json

        settings = {"sizes": self.sizes.to_mapping()}
        super().write(path, tensors, {**header, "settings": json.dumps(settings)})

    def about(self) -> About:
        """The card."""
        mine = self.options
        beside = "" if self.stills is None else f", and {len(self.stills.train)} pictures"
        return About(
            title="S4D before it knows expressions: an encoder of faces",
            what=f"A ViT that says hidden patches ({mine.hidden:.0%} of a clip, {mine.still_hidden:.0%} of a picture), with its decoder. A fine-tuning begins with it: "
            "`affectkit train s4d/face_dynamic --set options.start=FILE`. The metrics say for how many clips it does so better than by the mean of each patch.",
            data=f"{len(self.fold.train)} clips{beside}, without labels",
            licence="as the clips and pictures allow; VoxCeleb2 and AffectNet are for research",
            limits="It says nothing about expressions.",
        )


def folder_of(data: Path, what: Literal["clips", "pictures"]) -> Fold:
    """Every clip (video, or folder that holds pictures), or every picture, below a folder; those of one folder right below it are one group.

    Args:
        data: the folder.
        what: which.

    Raises:
        UsageError: where there are none.
    """
    files = sorted(path for path in data.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES | PICTURE_SUFFIXES and path.is_file())
    if what == "pictures":
        found = [path for path in files if path.suffix.lower() in PICTURE_SUFFIXES]
    else:
        videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
        folders = {path.parent for path in files if path.suffix.lower() in PICTURE_SUFFIXES} - {data}
        found = sorted([*videos, *folders])
    if len(found) < 2:
        raise UsageError(f"{data} holds {len(found)} {what}; give a folder with more of them, or name a data set with --dataset")
    items = []
    for path in found:
        inside = path.relative_to(data)
        items.append(Item(inside.as_posix(), path, 0, inside.parts[0]))
    return Fold(FOLDER, "1", ANY, tuple(items), ())
