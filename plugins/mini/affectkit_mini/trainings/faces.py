"""The training of mini/face_static: FER2013."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.api import BASIC7, About, ConfigError, Part, Training, Turn
from affectkit_mini.records import FOLDER, load_network
from affectkit_mini.trainings.corpora import FER2013, read_fer2013

if TYPE_CHECKING:
    import torch

    from affectkit_mini.backbone import Backbone

HOLES, FEWER = 0.4, 0.1  # share of crops that lose a rectangle
CLEARER = 0.85  # share of the training after which fewer do
SMOOTHED = 0.08  # share of a label that is given to all classes alike
SEEN = 512  # pictures that the normalisations get their first statistics from
DLIB, RANDOM, SHIPPED, NONE = "dlib", "random", "shipped", "none"
PEOPLE = "; before, as dlib's network, about three million pictures of people from the web (King 2017, https://github.com/davisking/dlib-models, CC0)"


@dataclass(frozen=True)
class FaceOptions:
    """Options of mini/face_static_training.

    Attributes:
        start: what the convolutions begin with: ``"dlib"``, the face recognition network in the package ``face_recognition_models``; a path of the
            same file; or ``"random"`` numbers, with which a training of this length comes less far. ``"shipped"`` goes on with the whole network
            of this package, and the path of a file of mini/face_static with that one.
        teacher: a network whose answers to the same crops are learned beside the labels (Hinton et al. 2015, https://arxiv.org/abs/1503.02531), which are
            noisy: ``"none"``, ``"shipped"`` or the path of a file of mini/face_static.
        taught: the teacher's share of what is learned, in [0, 1].
        mixed: share of the training, from its beginning, in which pictures are mixed.
    """

    start: str = DLIB
    teacher: str = NONE
    taught: float = 0.5
    mixed: float = 0.8

    def __post_init__(self) -> None:
        for name in ("taught", "mixed"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"options.{name} must be in [0, 1], found {getattr(self, name)}")

    @property
    def goes_on(self) -> Path | None:
        """The file of mini/face_static whose network is the first one, if any."""
        return None if self.start in (DLIB, RANDOM) or not self.start.endswith((SHIPPED, ".safetensors")) else _file(self.start)


class FaceTraining(Training):
    """mini/face_static: one face in one picture, from the split ``train`` of FER2013."""

    name = "face_static_training"
    labels = BASIC7
    Options = FaceOptions
    _seen: np.ndarray
    _teacher: Backbone | None = None

    def parts(self, data: Path) -> Mapping[str, Part]:
        """FER2013's ``train`` without the pictures that are in ``public_test`` as well, and ``public_test``; people are not named, so a picture is its own group."""
        parts, held = {}, np.array([], dtype=str)
        for name, split in (("validation", "public_test"), ("train", "train")):
            pictures, truth, names = read_fer2013(data, split)
            keep = np.flatnonzero(~np.isin(names, held))
            held = names
            self._seen = pictures[keep][:SEEN]
            batch = _Batches(pictures[keep], truth[keep], self.options.mixed)
            parts[name] = Part(truth[keep], names[keep], batch, about=f"FER2013 {split}; groups are equal pictures")
        return {name: parts[name] for name in ("train", "validation")}

    def network(self) -> torch.nn.Module:
        import torch

        from affectkit_mini.networks import FaceNet, standardise
        from affectkit_mini.trainings.recognition import NETWORK, begin, settle

        network = FaceNet().to(memory_format=torch.channels_last)
        if self.options.goes_on is not None:
            load_network(network, self.options.goes_on)
            network.train().requires_grad_(True)
        elif self.options.start != RANDOM:
            begin(network, NETWORK.path(None if self.options.start == DLIB else Path(self.options.start)))
            settle(network, standardise(torch.from_numpy(self._seen).float().div(255)[:, None]))
        return network

    def predict(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The mean of a crop and its mirror image, as the component does; in training, of the crop alone."""
        found: torch.Tensor = network(batch["crops"])[0]
        return found if network.training else (found + network(batch["crops"].flip(3))[0]) / 2

    def loss(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        truth = (1 - SMOOTHED) * batch["truth"] + SMOOTHED / len(BASIC7)
        if self.options.teacher != NONE:
            truth += self.options.taught * (self._teach(batch["crops"]) - truth)
        of_rows = cross_entropy(self.predict(network, batch).float(), truth, reduction="none")
        by_class = (batch["truth"] * weights).sum(1)
        return (of_rows * by_class).mean() / by_class.mean()

    def _teach(self, crops: torch.Tensor) -> torch.Tensor:
        """What the teacher says of crops (B, 1, 48, 48): probabilities (B, C)."""
        import torch

        from affectkit_mini.backbone import load_backbone

        if self._teacher is None:
            self._teacher = load_backbone(_file(self.options.teacher), crops.device)
        with torch.no_grad():
            return (self._teacher.net(crops)[0].float() / float(self._teacher.settings["temperature"])).softmax(1)

    def about(self) -> About:
        first = "random numbers" if self.options.start == RANDOM else "the convolutions of dlib's face recognition network"
        return About(
            title="mini/face_static: the expression of one face in one picture",
            what=f"A residual network over grey 48 x 48 crops, which began with {first}. A crop is the square box of a face detector without margin, "
            "which is about how closely FER2013's pictures are cut. The crop and its mirror image are averaged.",
            data=FER2013 if self.options.start == RANDOM else FER2013 + PEOPLE,
            licence="Apache-2.0 (weights); FER2013 is for research use",
            limits="FER2013 holds pictures found on the web by emotion words, many of them posed; its labels are noisy (people agree with about two "
            "thirds of them). Fear is confused with sadness and surprise, and disgust is rare. Not for faces seen from the side, hidden faces, faces "
            "below about 24 pixels, or drawings. An expression is not a feeling.",
            commercial=False,
        )


def _file(given: str) -> Path:
    """The file of mini/face_static of this package, or the one that is given."""
    return FOLDER / "face_static.safetensors" if given == SHIPPED else Path(given)


class _Batches:
    """Standardised crops; in training augmented, and mixed with others (mixup, Zhang et al. 2018, https://arxiv.org/abs/1710.09412)."""

    def __init__(self, pictures: np.ndarray, truth: np.ndarray, mixed: float) -> None:
        self.pictures, self.truth, self.mixed = pictures, truth, mixed

    def __call__(self, rows: np.ndarray, turn: Turn | None) -> Mapping[str, Any]:
        import torch
        from torch.nn.functional import one_hot

        from affectkit_mini.networks import standardise
        from affectkit_mini.trainings.pictures import augment

        grey = torch.from_numpy(self.pictures[rows]).float().div(255)[:, None]
        if turn is None:
            return {"crops": standardise(grey)}
        generator = turn.torch()
        crops = standardise(augment(grey, generator, HOLES if turn.done < CLEARER else FEWER))
        target = one_hot(torch.from_numpy(self.truth[rows]), len(BASIC7)).float()
        if turn.done < self.mixed:
            share = float(turn.numpy().beta(0.2, 0.2))
            other = torch.randperm(len(rows), generator=generator)
            crops, target = share * crops + (1 - share) * crops[other], share * target + (1 - share) * target[other]
        return {"crops": crops, "truth": target}
