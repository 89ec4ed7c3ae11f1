"""``s4d/face_dynamic``: emotions of a face over a window, by S4D."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from affectkit.api import Checkpoint, CheckpointError, Clip, ConfigError, Input, LabelSet, Modality, Needs, Output
from affectkit.errors import did_you_mean
from affectkit.labels import DFEW7, KNOWN
from affectkit_s4d.views import FRAMES, RATE, STRIDES, stride_of, views

if TYPE_CHECKING:
    import torch

    from affectkit_s4d.files import Stored
    from affectkit_s4d.model import S4D

SIDE = 160  # pixels of a crop, where the file does not say others
TOGETHER = 8  # views of one forward pass
MARGIN = 0.2  # of the longer side of the box, on each side: the data sets' crops show the whole head
TINY = {"side": 32, "frames": 16, "patch": 16, "width": 32, "depth": 3, "heads": 2, "hidden": 64, "first": 1, "experts": 4, "adapter": 8}
"""Sizes of random weights."""

MADE = Checkpoint(
    "s4d_face_dynamic.safetensors",
    licence="that of the data it was made of",
    source="affectkit train s4d/face_dynamic --dataset NAME --data DIR --out .",
)
PRETRAINED = Checkpoint(
    uri="hf:cyinen/S4D/vit_base_voxceleb2+affectnet_100.pt",
    licence="not stated (the authors' code is Apache-2.0)",
    source="Chen et al. (2025), S4D (UniLearn), arXiv 2409.06154; pre-trained on VoxCeleb2 and AffectNet, which are for research",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    commercial=False,
)


@dataclass(frozen=True)
class FaceDynamicOptions:
    """Options of s4d/face_dynamic.

    Attributes:
        checkpoint: file of a fine-tuned network: what ``affectkit train s4d/face_dynamic`` writes, or the authors' ``.pth`` or ``.pt``.
        labels: label set of its classes, for instance ``dfew7``, ``ferv39k7`` or ``mafw11``; ``None`` where the file says so.
        rate: pictures per second; ``None`` takes those of the training.
        least: crops that a window must hold; a still says nothing about a motion.
        released_behaviour: does as the authors' code: the router is noisy, so no two calls say the same, and an expert drops tokens when it is
            sent many, so what is said of a clip depends on the others of its batch.
    """

    checkpoint: str = "default"
    labels: str | None = None
    rate: float | None = None
    least: int = 2
    released_behaviour: bool = False

    def __post_init__(self) -> None:
        if self.labels is not None and self.labels not in KNOWN:
            raise ConfigError(f"labels: there is no label set {self.labels!r}. {did_you_mean(self.labels, KNOWN)}")
        if self.least < 1 or (self.rate is not None and not self.rate > 0):
            raise ConfigError(f"least must be at least 1 and rate greater than 0, found {self.least} and {self.rate}")


class FaceDynamic(Modality):
    """Emotions of a face over a window: S4D (UniLearn, arXiv 2409.06154), a ViT-B with mixture of adapter experts on 16 crops of 160 pixels.

    A window is looked at in two views, its first and its last 16 pictures, every fourth of 25 per second (each of them, with weights for FERV39k); their probabilities
    are averaged. Shorter windows are one view, with the last picture repeated. Label sets are those of the weights: ``dfew7``, ``ferv39k7``, ``mafw11`` or others.

    Embedding ``motion``: 768 numbers, the mean over the views of what the head sees. Quality: ``faces``, the number of crops, and ``side`` of the face in
    pixels of the frame.
    """

    name = "face_dynamic"
    unit = "window"
    Options = FaceDynamicOptions
    checkpoints: ClassVar[Mapping[str, Checkpoint]] = {"default": MADE, "pretrained": PRETRAINED}

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._net: S4D | None = None
        self._temperature = 1.0

    @cached_property
    def _header(self) -> tuple[LabelSet | None, float | None, int]:
        """Label set, rate and side of a picture by the file, where it is here and says so."""
        from affectkit import checkpoints, headers
        from affectkit_s4d.files import Header, labels_of, read

        try:
            path = checkpoints.local(next(iter(self.used_checkpoints().values())))
            if path is None:
                return None, None, SIDE
            if path.suffix != ".safetensors":
                stored = read(path, self.id)
                return stored.labels, stored.rate, stored.known.get("side", SIDE)
            settings = headers.settings(path, Header, self.id)
        except CheckpointError:  # load says what is wrong with it
            return None, None, SIDE
        return labels_of(settings, {}), settings.get("rate"), settings.get("sizes", {}).get("side", SIDE)

    @property
    def labels(self) -> LabelSet:  # type: ignore[override]
        """Those of the options, else those that the file names, else ``dfew7``; :meth:`load` refuses a file that names none."""
        return KNOWN[self.options.labels] if self.options.labels else self._header[0] or DFEW7

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Crops as often and as large as in training."""
        _, rate, side = self._header
        rate = self.options.rate or rate or RATE / stride_of(self.labels.name)
        return Needs(inputs=(Input("faces", fps=rate, size=side, margin=MARGIN),))

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Loads a fine-tuned file.

        Raises:
            CheckpointError: where it is absent, damaged, pre-trained only, of another network, or of other classes.
        """
        from affectkit_s4d import files

        path = self.weights()
        stored = files.read(path, self.id)
        net = files.fine_tuned(stored, self.id, released_behaviour=self.options.released_behaviour)
        self._check_labels(stored, net.sizes.video)
        self._temperature = float(stored.settings.get("temperature", 1.0))
        self._net = net.to(device)

    def _check_labels(self, stored: Stored, classes: int) -> None:
        said = stored.labels
        if self.options.labels is None and said is None:
            fitting = ", ".join(name for name in STRIDES if len(KNOWN[name]) == classes) or "the name of a label set"
            raise CheckpointError(
                f"{self.id}: {stored.path} has {classes} classes and does not say which; "
                f"give them with --set components.{self.id}.labels=NAME ({fitting})"
            )
        if len(self.labels) != classes:
            raise CheckpointError(
                f"{self.id}: {stored.path} has {classes} classes, and {self.labels.name} has {len(self.labels)}; give the label set of its training"
            )
        if said is not None and said.labels != self.labels.labels:
            raise CheckpointError(
                f"{self.id}: {stored.path} gives the labels {list(said.labels)}, and {self.labels.name} is {list(self.labels.labels)}; leave out labels"
            )

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """A small fine-tuned network, or a small pre-trained one."""
        from affectkit import weight_files
        from affectkit_s4d.model import S4D, Sizes
        from affectkit_s4d.pretraining import MaskedAutoencoder

        sizes = Sizes(**TINY)
        if tag == "pretrained":
            path = folder / "pretrained.safetensors"
            network: torch.nn.Module = weight_files.random_network(lambda: MaskedAutoencoder(sizes, width=16, depth=1, heads=2))
            settings: dict[str, Any] = {"sizes": sizes.to_mapping()}
        else:
            path = folder / "face_dynamic.safetensors"
            network = weight_files.random_network(lambda: S4D(sizes))
            settings = {"sizes": sizes.to_mapping(), "labels": DFEW7.labels, "label_set": DFEW7.name, "rate": RATE / 4, "temperature": 1.0}
        weight_files.save_tensors(path, network.state_dict(), {"settings": json.dumps(settings), "licence": weight_files.RANDOM})
        return path

    def preprocess(self, clip: Clip) -> Mapping[str, torch.Tensor] | None:
        """Its views (V, T, S, S, 3) uint8, V of 1 or 2."""
        import torch

        faces = clip.inputs.get("faces")
        if faces is None or not faces.valid or len(faces.data["crops"]) < self.options.least:
            return None
        crops = np.asarray(faces.data["crops"])
        boxes = faces.data.get("boxes")
        side = crops.shape[1] if boxes is None else np.mean((np.asarray(boxes)[:, 2:] - np.asarray(boxes)[:, :2]).max(1))
        frames = FRAMES if self._net is None else self._net.sizes.frames
        return {
            "views": torch.from_numpy(crops[views(len(crops), frames)]),
            "faces": torch.tensor(float(len(crops))),
            "side": torch.tensor(float(side)),
        }

    def predict(self, batch: Mapping[str, torch.Tensor]) -> Output:
        """Averages the probabilities of the views.

        Args:
            batch: ``views`` (B, V, T, S, S, 3) uint8 RGB and ``views_mask`` (B, V) bool, ``faces`` (B,) float32 and ``side`` (B,) float32 in pixels.

        Raises:
            CheckpointError: before :meth:`load`.
        """
        import torch

        from affectkit.batching import mean_of_views
        from affectkit_s4d.model import clips_of

        if self._net is None:
            raise CheckpointError(f"{self.id} is asked before its weights are loaded")
        shown, mask = batch["views"], batch["views_mask"]
        # As released an expert's room is a share of the whole batch.
        together = mask.numel() if self.options.released_behaviour else TOGETHER
        seen = [self._net(clips_of(views, self._net.sizes.side)) for views in shown[mask].split(together)]
        said = mean_of_views(torch.cat([one.logits.float().softmax(1) for one in seen]), mask)
        return Output(
            values={self.labels: tempered(said, self._temperature)},
            embeddings={"motion": mean_of_views(torch.cat([one.feature.float() for one in seen]), mask)},
            quality={"faces": batch["faces"].float(), "side": batch["side"].float()},
        )


def tempered(probabilities: torch.Tensor, temperature: float) -> torch.Tensor:
    """Probabilities (B, C) as they were, or to the power ``1 / temperature`` and summed to 1 again."""
    if temperature == 1.0:
        return probabilities
    return (probabilities.clamp_min(1e-12).log() / temperature).softmax(1)
