"""The training of mini/face_static: FER2013."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.api import BASIC7, About, Part, Training, Turn, UsageError
from affectkit_mini.trainings.corpora import FER2013, read_fer2013

if TYPE_CHECKING:
    import torch

MIXED = 0.8  # share of the training in which pictures are mixed
HOLES, FEWER = 0.4, 0.1  # share of crops that lose a rectangle
CLEARER = 0.85  # share of the training after which fewer do
SEEN = 512  # pictures that the normalisations get their first statistics from
DLIB, RANDOM = "dlib", "random"
PEOPLE = "; before, as dlib's network, about three million pictures of people from the web (King 2017, https://github.com/davisking/dlib-models, CC0)"


@dataclass(frozen=True)
class FaceOptions:
    """Options of mini/face_static_training.

    Attributes:
        start: what the convolutions begin with: ``"dlib"``, the face recognition network in the package ``face_recognition_models``; a path of the
            same file; or ``"random"`` numbers, with which a training of this length comes less far.
    """

    start: str = DLIB


class FaceTraining(Training):
    """mini/face_static: one face in one picture, from the split ``train`` of FER2013."""

    name = "face_static_training"
    labels = BASIC7
    Options = FaceOptions
    _seen: np.ndarray | None = None

    def parts(self, data: Path) -> Mapping[str, Part]:
        """FER2013's ``train`` without the pictures that are in ``public_test`` as well, and ``public_test``; people are not named, so a picture is its own group."""
        parts, held = {}, np.array([], dtype=str)
        for name, split in (("validation", "public_test"), ("train", "train")):
            pictures, truth, names = read_fer2013(data, split)
            keep = np.flatnonzero(~np.isin(names, held))
            held = names
            self._seen = pictures[keep][:SEEN]
            batch = _Batches(pictures[keep], truth[keep])
            parts[name] = Part(truth[keep], names[keep], batch, about=f"FER2013 {split}; groups are equal pictures")
        return {name: parts[name] for name in ("train", "validation")}

    def network(self) -> torch.nn.Module:
        import torch

        from affectkit_mini.networks import FaceNet, standardise
        from affectkit_mini.trainings.recognition import NETWORK, begin, settle

        network = FaceNet().to(memory_format=torch.channels_last)
        if self.options.start != RANDOM:
            path = NETWORK.path(None if self.options.start == DLIB else Path(self.options.start))
            if self._seen is None:
                raise UsageError(f"{self.id} begins with pictures of its data; it has read none yet")
            begin(network, path)
            settle(network, standardise(torch.from_numpy(self._seen).float().div(255)[:, None]))
        return network

    def predict(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The mean of a crop and its mirror image, as the component does; in training, of the crop alone."""
        found: torch.Tensor = network(batch["crops"])[0]
        return found if network.training else (found + network(batch["crops"].flip(3))[0]) / 2

    def loss(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        of_rows = cross_entropy(self.predict(network, batch).float(), batch["truth"], label_smoothing=0.08, reduction="none")
        by_class = (batch["truth"] * weights).sum(1)
        return (of_rows * by_class).mean() / by_class.mean()

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


class _Batches:
    """Standardised crops; in training augmented, and mixed with others (mixup, Zhang et al. 2018, https://arxiv.org/abs/1710.09412)."""

    def __init__(self, pictures: np.ndarray, truth: np.ndarray) -> None:
        self.pictures, self.truth = pictures, truth

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
        if turn.done < MIXED:
            share = float(turn.numpy().beta(0.2, 0.2))
            other = torch.randperm(len(rows), generator=generator)
            crops, target = share * crops + (1 - share) * crops[other], share * target + (1 - share) * target[other]
        return {"crops": crops, "truth": target}
