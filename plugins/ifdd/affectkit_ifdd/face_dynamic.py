"""``ifdd/face_dynamic``: the expression of a face over a window, from what stays in it and what moves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from affectkit.api import Checkpoint, CheckpointError, Clip, ConfigError, Input, Modality, Needs, Output
from affectkit.labels import DFEW7
from affectkit_ifdd.sizes import LENGTHS, Sizes
from affectkit_ifdd.views import views
from affectkit_ifdd.weights import Weights, load_network, read_weights

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from affectkit_ifdd.model import IFDD, Seen

OWNER = "ifdd/face_dynamic"
CHECKPOINT = "checkpoint"
MADE = Checkpoint(
    "ifdd_face_dynamic.safetensors",
    licence="that of the data it was made of",
    source="affectkit train ifdd/face_dynamic --dataset NAME --data DIR --out .",
)
TOGETHER = 8  # views of one forward pass
RANDOM = Sizes(classes=len(DFEW7), side=64, width=16, blocks=(1, 1, 1, 1))  # of random weights
MARGIN = 0.2  # of the longer side of the box, on each side: the data sets' crops show the whole head
LEAST = 2  # pictures in which something can move


@dataclass(frozen=True)
class FaceDynamicOptions:
    """Options of ifdd/face_dynamic.

    Attributes:
        checkpoint: file of weights, as ``affectkit train ifdd/face_dynamic`` or the authors' trainer (``*_best_val_acc.pth``) writes it.
        labels: label set of its classes, for instance ``dfew7``, ``ferv39k7`` or ``mafw11_official``; ``None`` for what the file says. Files of the authors do
            not say it; with eleven classes they are those of MAFW in their official order.
        frames: 16 or 32, of a view; ``None`` for what the file says, and for files of the authors 32 with eleven classes and 16 otherwise.
        stride: native frames from one picture to the next; 0 spreads the pictures of one view over the window. ``None`` for what the weights were
            trained with: 0 on DFEW, 1 on FERV39k, 2 on MAFW.
        views: at most so many consecutive views of a window are looked at, where there is a stride; their logits are averaged.
        released_behaviour: whether pixels are not standardised, the splitting reads beside its indices, and short clips are repeated at one end, as in the
            authors' code. ``None`` does so for files of the authors, which need it, and not for those of ``affectkit train``, unless they were trained so.
    """

    checkpoint: str | None = None
    labels: str | None = None
    frames: int | None = None
    stride: int | None = None
    views: int = 8
    released_behaviour: bool | None = None

    def __post_init__(self) -> None:
        if self.frames is not None and self.frames not in LENGTHS:
            raise ConfigError(f"frames must be 16 or 32, found {self.frames}")
        if self.views < 1 or (self.stride is not None and self.stride < 0):
            raise ConfigError(f"views must be at least 1 and stride not negative, found {self.views} and {self.stride}")


class Told(NamedTuple):
    """What is kept of what the network makes of N views, which is much more; float32.

    Attributes:
        logits: (N, C).
        feature: (N, D) under the classifier.
        static_index: (N, 4) slots, fractional.
        dynamic_index: (N, 4) slots, fractional.
        gate: (N, 8, 8) how alike two slots are.
    """

    logits: torch.Tensor
    feature: torch.Tensor
    static_index: torch.Tensor
    dynamic_index: torch.Tensor
    gate: torch.Tensor

    @classmethod
    def of(cls, seen: Seen) -> Told:
        """What is kept of it."""
        split = seen.lifted.split
        return cls(*(value.float() for value in (seen.logits, seen.lifted.feature, split.static_index, split.dynamic_index, split.gate)))


class FaceDynamic(Modality):
    """Expression of a face over a window by IFDD (AAAI 2025): a multiscale video transformer whose features are split into a static and a dynamic part.

    Its label set is that of its weights. Embedding ``motion``: the feature under the classifier, the mean over the views. Quality: ``faces``, the number of crops.
    Note of a window: ``static`` and ``dynamic``, the seconds at which each view was split, as slots (``static_index``, ``dynamic_index``), and ``alike``, how
    alike the slots are.
    """

    name = "face_dynamic"
    labels = DFEW7
    unit = "window"
    needs = Needs(inputs=(Input("faces", count=16, size=224, margin=MARGIN),))
    Options = FaceDynamicOptions

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        from affectkit import checkpoints

        self._network: IFDD | None = None
        self._weights: Weights | None = None
        path = checkpoints.local(self.used_checkpoints()[CHECKPOINT])
        if path is not None:
            self._read(path)

    def used_checkpoints(self) -> Mapping[str, Checkpoint]:
        """The file that the options name; nobody publishes one."""
        given = self.options.checkpoint
        return {CHECKPOINT: Checkpoint(given, licence="as given by the user") if given else MADE}

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Loads the network; forward passes in lower precision run under autocast.

        Raises:
            CheckpointError: where its file is absent, damaged or of another network.
        """
        path = self.weights()
        self._network = load_network(path, self._read(path).sizes, OWNER).to(device)

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """A narrow network of four blocks for pictures of 64 pixels, in the format of ``affectkit train``."""
        from affectkit import weight_files
        from affectkit_ifdd.model import IFDD

        sizes = replace(RANDOM, frames=self.options.frames or RANDOM.frames)
        settings = {"labels": DFEW7.labels, "label_set": DFEW7.name, **settings_of(sizes, 0), "temperature": 1.0}
        path = folder / "face_dynamic.safetensors"
        state = weight_files.random_network(lambda: IFDD(sizes)).state_dict()
        weight_files.save_tensors(path, state, {"settings": json.dumps(settings), "licence": weight_files.RANDOM})
        return path

    def preprocess(self, clip: Clip) -> Mapping[str, torch.Tensor] | None:
        """As in :class:`Modality`: ``views`` (V, T, S, S, 3) uint8 RGB, ``times`` of their pictures (V, T) float64 in seconds, ``faces`` () float32, the crops."""
        import torch

        faces = clip.inputs.get("faces")
        if faces is None or not faces.valid or len(faces.data["crops"]) < LEAST:
            return None
        crops, sizes = faces.data["crops"], self.known.sizes
        chosen = views(len(crops), sizes.frames, self.known.stride, self._repeat)[: self.options.views]
        times = np.linspace(clip.span.start, clip.span.end, len(crops)) if faces.times is None else np.asarray(faces.times, np.float64)
        return {
            "views": torch.from_numpy(np.ascontiguousarray(crops[chosen])),
            "times": torch.from_numpy(times[chosen]),
            "faces": torch.tensor(float(len(crops))),
        }

    def predict(self, batch: Mapping[str, torch.Tensor]) -> Output:
        """As in :class:`Modality`. ``views`` (B, V, T, S, S, 3) uint8 RGB and ``views_mask`` (B, V) bool, ``times`` (B, V, T) float64 in seconds, ``faces`` (B,) float32."""
        import torch

        from affectkit.batching import mean_of_views

        mask = batch["views_mask"]
        found = [Told.of(self.see(pictures)) for pictures in batch["views"][mask].split(TOGETHER)]
        told = Told(*(torch.cat(values) for values in zip(*found, strict=True)))
        logits = mean_of_views(told.logits, mask)
        return Output(
            values={self.known.labels: (logits / self.known.temperature).softmax(1)},
            embeddings={"motion": mean_of_views(told.feature, mask)},
            quality={"faces": batch["faces"]},
            notes=self._notes(told, batch["times"][mask], mask),
        )

    def see(self, pictures: torch.Tensor) -> Seen:
        """All that the network makes of views (N, T, S, S, 3) uint8 RGB.

        Raises:
            CheckpointError: before its weights are loaded.
        """
        if self._network is None:
            raise CheckpointError(f"{self.id} is asked before its weights are loaded")
        return self._network.see(pictures.permute(0, 4, 1, 2, 3).float() / 255)

    def places(self, index: torch.Tensor) -> torch.Tensor:
        """Frames of a view, from 0 and fractional, that indices (N, K) of the splitting read."""
        if self._network is None:
            raise CheckpointError(f"{self.id} is asked before its weights are loaded")
        return self.known.sizes.frame(0) + self.known.sizes.slot * self._network.places(index)

    @property
    def known(self) -> Weights:
        """What the file of weights says.

        Raises:
            CheckpointError: where it was not there when this was made, and is not loaded.
        """
        if self._weights is None:
            raise CheckpointError(f"{self.id} is asked before its weights are loaded")
        return self._weights

    @property
    def _repeat(self) -> str | None:
        if not self.known.sizes.released:
            return None
        return "first" if self.known.sizes.frames == LENGTHS[0] else "last"

    def _read(self, path: Path) -> Weights:
        """Takes labels and needs from a file."""
        self._weights = found = read_weights(path, self.options, OWNER)
        self.labels = found.labels
        sizes, strided = found.sizes, found.stride > 0
        count = sizes.frames * (self.options.views if strided else 1)
        stride = found.stride if strided else None
        self.needs = Needs(inputs=(Input("faces", count=count, stride=stride, size=sizes.side, margin=MARGIN),))
        return found

    def _notes(self, told: Told, times: torch.Tensor, mask: torch.Tensor) -> list[Mapping[str, Any]]:
        """What was seen of each clip, by view."""
        index = {"static": told.static_index, "dynamic": told.dynamic_index}
        said: dict[str, list[Any]] = {f"{name}_index": _rounded(values) for name, values in index.items()}
        said |= {name: [_at(*pair) for pair in zip(times.cpu(), self.places(values).cpu(), strict=True)] for name, values in index.items()}
        said["alike"] = _rounded(told.gate)
        ends = mask.sum(1).cumsum(0).tolist()
        return [{name: values[first:last] for name, values in said.items()} for first, last in zip([0, *ends[:-1]], ends, strict=True)]


def settings_of(sizes: Sizes, stride: int) -> dict[str, Any]:
    """What a file says in its header that its shapes do not tell."""
    return {"frames": sizes.frames, "stride": stride, "released": sizes.released}


def _rounded(values: torch.Tensor) -> list[Any]:
    return list(np.round(values.double().cpu().numpy(), 4).tolist())


def _at(times: torch.Tensor, places: torch.Tensor) -> list[float]:
    """Seconds at fractional frames of a view."""
    return [round(float(value), 3) for value in np.interp(places.numpy(), np.arange(len(times)), times.numpy())]
