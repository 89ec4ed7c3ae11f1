"""The training of ``ifdd/face_dynamic`` on the clips of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from affectkit.api import About, Checkpoint, CheckpointError, ClipOptions, ClipTraining, ConfigError, Part, UsageError
from affectkit.clip_augmentation import Augmentation, Mixing
from affectkit.clip_sampling import segments, spread, window
from affectkit.labels import DFEW7
from affectkit_ifdd.face_dynamic import settings_of
from affectkit_ifdd.sizes import PUBLISHED, Sizes
from affectkit_ifdd.weights import K400

if TYPE_CHECKING:
    import torch

    from affectkit_ifdd.model import IFDD

KINETICS, RANDOM = "k400", "random"  # what a training begins with, beside the path of a file
OWN_BATCH = 16  # clips of a step of the authors, by which their constraint term, a sum, is to be multiplied to be a mean


@dataclass(frozen=True)
class Watching:
    """How the clips of a data set are looked at and changed.

    Attributes:
        frames: of a clip.
        stride: native frames from one frame to the next; 0 for frames of the whole clip.
        augment: how clips are changed.
    """

    frames: int
    stride: int
    augment: Augmentation


STRONG = Augmentation(crop=0.5, flip=0.5, colour=0.4, hue=0.4)
PUBLISHED_WATCHING = {
    "dfew": Watching(16, 0, STRONG),
    "ferv39k": Watching(16, 1, Augmentation(crop=0.8, flip=0.5)),
    "mafw": Watching(32, 2, STRONG),
}
"""As the authors have it, by data set; any other is looked at as DFEW is."""


@dataclass(frozen=True)
class TrainingOptions(ClipOptions):
    """Options of ifdd/face_dynamic_training, beside those of every training on clips.

    Attributes:
        frames: 16 or 32; ``None`` is 32 on MAFW and 16 otherwise, as published.
        size: of a frame in pixels, a multiple of 32.
        augment: how clips are changed in training, all of it; ``None`` is as published: crops of at least 0.8 of the picture and no changes of colour on FERV39k,
            crops of at least 0.5 and changes of colour otherwise.
        stride: native frames from one frame to the next, from a random place; 0 draws them from the whole clip, one of each of as many equal pieces. ``None``
            is 1 on FERV39k, 2 on MAFW, and 0 otherwise, also on DFEW, whose clips of sixteen frames were drawn so.
        start: what the transformer begins with: ``"k400"``, the weights of Kinetics-400 from the net; a path of that file, torchvision's ``mvit_v2_s``; or
            ``"random"`` numbers, as the authors' code does because it never calls what loads them.
        constraint: weight of the constraint term, the mean over the clips of a batch. The authors add the clips of a batch of 16 up, with weight 0.1.
        released_behaviour: the authors' training: pixels as they are, indices that read elsewhere than they say, the whole feature left out for a fifth of the
            clips, and the constraint term added up, so that its weight (0.1) grows with the batch; ``constraint`` is then not looked at.
        width: channels of the first stage.
        blocks: of each stage.
        dropped: share of the numbers of a clip that the classifier does not see; the published 0.5 is for the published size and a hundred epochs.
        branches: share of the clips for which a residual branch is left out, likewise 0.2. A narrow network that learns for few epochs learns sooner with little or none.
    """

    frames: int | None = None  # type: ignore[assignment]
    size: int = 224
    augment: Augmentation | None = None  # type: ignore[assignment]
    mix: Mixing = field(default_factory=lambda: Mixing(mixup=0.8, cutmix=1.0, smoothing=0.1))
    stride: int | None = None
    start: str = KINETICS
    constraint: float = 0.1 * OWN_BATCH
    released_behaviour: bool = False
    width: int = 96
    blocks: tuple[int, ...] = PUBLISHED
    dropped: float = 0.5
    branches: float = 0.2

    def __post_init__(self) -> None:
        if self.frames is None or self.stride is None or self.augment is None:
            self.published()  # tells what is wrong
            return
        super().__post_init__()
        if not (0 <= self.dropped < 1 and 0 <= self.branches < 1):
            raise ConfigError(f"dropped and branches must be in [0, 1), found {self.dropped} and {self.branches}")
        own = Sizes(2, self.frames, self.size, self.width, self.blocks)
        if self.constraint < 0 or self.stride < 0:
            raise ConfigError(f"constraint and stride must not be negative, found {self.constraint} and {self.stride}")
        if self.stills is not None:
            raise ConfigError("IFDD learns from clips alone; leave stills out")
        if self.start != RANDOM and own != Sizes(2, self.frames):
            raise ConfigError(
                "the weights of Kinetics-400 fit 224 pixels, width 96 and blocks [1, 2, 5, 2] alone; set start to random for another network"
            )
        if self.start != RANDOM and self.released_behaviour:
            raise ConfigError(
                "the weights of Kinetics-400 expect standardised pixels, which released_behaviour does not give; set start to random, as the authors' code "
                "begins, or leave released_behaviour out"
            )

    def published(self) -> TrainingOptions:
        """These options, with what they leave to the data set as published."""
        how = PUBLISHED_WATCHING.get(self.dataset, PUBLISHED_WATCHING["dfew"])
        frames = how.frames if self.frames is None else self.frames
        stride = how.stride if self.stride is None else self.stride
        return replace(self, frames=frames, stride=stride, augment=self.augment or how.augment)


class FaceDynamicTraining(ClipTraining):
    """The whole network of ``ifdd/face_dynamic``, from weights of Kinetics-400: cross-entropy with mixed clips and the constraint term."""

    name = "face_dynamic_training"
    labels = DFEW7  # until its data are read
    Options = TrainingOptions
    checkpoints: ClassVar[Mapping[str, Checkpoint]] = {KINETICS: K400}

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.options = self.options.published()
        self._start: Path | None = None

    def used_checkpoints(self) -> Mapping[str, Checkpoint]:
        """What it begins with."""
        start = self.options.start
        if start in (KINETICS, RANDOM):
            return {} if start == RANDOM else super().used_checkpoints()
        return {KINETICS: Checkpoint(start, licence="as given by the user")}

    def parts(self, data: Path) -> Mapping[str, Part]:
        """The clips; that there is what the network begins with is looked for before they are read."""
        from affectkit import checkpoints

        for checkpoint in self.used_checkpoints().values():
            try:
                self._start = checkpoints.resolve(checkpoint, owner=self.id)
            except CheckpointError as problem:
                raise CheckpointError(
                    f"{problem}; or give their file, --set options.start=FILE, or begin with random numbers, --set options.start=random"
                ) from None
        return super().parts(data)

    def sample(self, count: int, random: np.random.Generator | None) -> np.ndarray:
        """A random window of the clip, or frames from all of it; in the middle, where nothing may be random."""
        options = self.options
        if options.stride:
            return window(count, options.frames, options.stride, 0.5 if random is None else float(random.random()))
        return spread(count, options.frames) if random is None else segments(count, options.frames, random)

    @property
    def sizes(self) -> Sizes:
        """What the network is made of.

        Raises:
            UsageError: before the data were read, which say how many classes there are.
        """
        if "fold" not in vars(self):
            raise UsageError(f"{self.id} knows its classes when it has read its data; call parts() first")
        options = self.options
        return Sizes(len(self.labels), options.frames, options.size, options.width, options.blocks, options.released_behaviour)

    def network(self) -> torch.nn.Module:
        from affectkit_ifdd.model import IFDD
        from affectkit_ifdd.pretrained import begin

        network = IFDD(self.sizes, dropped=self.options.dropped, branches=self.options.branches)
        if self._start is not None:
            begin(network, self._start, self.id)
        return network

    def predict(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        logits: torch.Tensor = network(batch["frames"].transpose(1, 2))
        return logits

    def loss(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        """Cross-entropy with the mixed labels, and the constraint term (IFDD, loss): the static part should be what neighbouring frames share."""
        from torch.nn.functional import cross_entropy

        from affectkit_ifdd.model import RELEASED_CONSTRAINT, constraint_loss

        seen = cast("IFDD", network).see(batch["frames"].transpose(1, 2))
        released = self.options.released_behaviour
        weight = RELEASED_CONSTRAINT if released else self.options.constraint
        told = cross_entropy(seen.logits.float(), batch["truth"], weights)
        return told + weight * constraint_loss(seen.constraint.float(), per_clip=not released)

    def settings(self, logits: torch.Tensor, truth: np.ndarray) -> Mapping[str, Any]:
        """The temperature, and what the shapes of the tensors do not tell."""
        return {**super().settings(logits, truth), "label_set": self.labels.name, **settings_of(self.sizes, self.options.stride)}

    def about(self) -> About:
        begun = "random numbers" if self.options.start == RANDOM else "weights of Kinetics-400 (torchvision mvit_v2_s)"
        return About(
            title="IFDD: the expression of a face over a clip",
            what=f"IFDD (AAAI 2025, arXiv 2412.13168) for {self.options.frames} frames of {self.options.size} pixels, begun with {begun}, for `ifdd/face_dynamic`.",
            data=f"{self.fold.dataset}, fold {self.fold.name}, its training list",
            licence="as the data set allows; most of these data sets are for research alone",
            limits="It was measured on a part of the training list, not on the test list: affectkit evaluate ifdd/face_dynamic --dataset does that.",
            more={"label_set": self.labels.name, "begun_with": self.options.start},
        )
