"""The fine-tuning of S4D on the clips of a data set and, beside them, pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from affectkit import checkpoints
from affectkit.api import About, CheckpointError, ConfigError, LabelSet, UsageError
from affectkit.clip_augmentation import Augmentation, Mixing, transforms
from affectkit.clip_training import PICTURE, ClipOptions, ClipTraining, Stills
from affectkit.labels import DFEW7
from affectkit_s4d.views import RATE, measured_frames, stride_of, training_frames

if TYPE_CHECKING:
    import torch

    from affectkit.datasets.items import Item
    from affectkit_s4d.model import Seen, Sizes

RANDOM, AUTHORS = "random", "pretrained"  # what a fine-tuning begins with, beside the path of a file
ASKED = 20  # videos
LICENCES = "as the data sets allow; DFEW, FERV39k, MAFW and AffectNet are for research"


@dataclass(frozen=True)
class Network:
    """Sizes of the network beside those of its input; the defaults are the published ones.

    Attributes:
        patch: side of a token in pixels.
        width: of a token.
        depth: blocks.
        heads: of attention.
        hidden: of the MLP of a block.
        first: first block with experts.
        experts: of such a block.
        top_k: experts that a token goes to.
        adapter: hidden numbers of an expert.
    """

    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    first: int = 6
    experts: int = 8
    top_k: int = 2
    adapter: int = 192


@dataclass(frozen=True, kw_only=True)
class Pictures(Stills):
    """Pictures beside the clips, as published: twice as many in a step, each in every second epoch, classes equally often.

    Attributes:
        read_size: side of which a piece of the size of the network is cut.
        operations: of RandAugment.
        magnitude: of RandAugment, in [0, 30].
        erase: chance that a rectangle is made grey.
    """

    dataset: str = "affectnet7"
    batch: float = 2.0
    share: float = 0.5
    draw: Literal["shuffled", "even"] = "even"
    read_size: int | None = 192
    operations: int = 2
    magnitude: int = 27
    erase: float = 0.25


@dataclass(frozen=True)
class FineTuningOptions(ClipOptions):
    """Options of the fine-tuning, beside those of every training on clips.

    Attributes:
        start: what the network begins with: ``"random"`` numbers; a path of a file, pre-trained (by ``affectkit train s4d/pretraining``) or fine-tuned on
            something else; or ``"pretrained"``, the authors' pre-trained one.
        stills: pictures that it learns from beside the clips, for instance ``{data: AFFECTNET}``; ``None`` for none.
        stride: native frames from one frame of a view to the next; ``None`` takes that of the data set.
        balance: how much the load-balance loss of the experts counts.
        falloff: what a block learns less than the one above it.
        network: its sizes.
        released_behaviour: does as the authors' code: frames of short clips, noise and dropped tokens as of
            :class:`affectkit_s4d.model.S4D`, and no load-balance loss, which there was lost in an exception.
    """

    size: int = 160
    augment: Augmentation = field(default_factory=lambda: Augmentation(crop=0.08, flip=0.5, operations=2, magnitude=21, erase=0.25))
    mix: Mixing = field(default_factory=lambda: Mixing(mixup=0.8, cutmix=1.0, smoothing=0.1))
    start: str = RANDOM
    stills: Pictures | None = None
    stride: int | None = None
    balance: float = 1e-3
    falloff: float = 0.75
    network: Network = field(default_factory=Network)
    released_behaviour: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.falloff <= 1 or self.balance < 0 or (self.stride is not None and self.stride < 1):
            raise ConfigError(
                f"falloff must be in (0, 1], balance not negative and stride at least 1; found {self.falloff}, {self.balance} and {self.stride}"
            )
        if self.stills is not None and self.stills.read_size is not None and self.stills.read_size < self.size:
            raise ConfigError(f"stills.read_size must be at least size, {self.size}; found {self.stills.read_size}")


class FineTuning(ClipTraining):
    """The weights of ``s4d/face_dynamic``: clips and pictures take turns, and share everything but the last layer (S4D, section "Joint fine-tuning").

    What is not as published: the list of the test is never read, and the epoch is chosen on a part of the training list; every process shuffles; the load-balance loss is
    applied; clips shorter than a view are learned from as they are measured. RandAugment is torchvision's with two operations that always happen, where the
    authors had four that happen half of the time. A rectangle is erased with one grey, where they had noise.
    """

    name = "face_dynamic_training"
    labels: LabelSet = DFEW7
    Options = FineTuningOptions

    @property
    def stride(self) -> int:
        """Native frames from one frame of a view to the next."""
        return self.options.stride or stride_of(self.labels.name)

    def sample(self, count: int, random: np.random.Generator | None) -> np.ndarray:
        """A drawn stretch in training; where it is measured the first and the last one, (2, T)."""
        mine = self.options
        if random is None:
            found = measured_frames(count, self.stride, mine.frames)
            return found if len(found) == 2 else np.repeat(found, 2, axis=0)
        return training_frames(count, self.stride, random, mine.frames, mine.released_behaviour)

    def still_augmentation(self) -> torch.nn.Module:
        """As published: RandAugment, a piece, its mirror image, a hole."""
        v2, mine = transforms(), self.options.stills
        steps = [v2.RandAugment(mine.operations, mine.magnitude, interpolation=v2.InterpolationMode.BILINEAR)] if mine.operations else []
        steps += [v2.RandomCrop(self.options.size), v2.RandomHorizontalFlip(), v2.RandomErasing(mine.erase, value=127)]
        made: torch.nn.Module = v2.Compose(steps)
        return made

    @property
    def sizes(self) -> Sizes:
        """What the network is built of."""
        from affectkit_s4d.model import Sizes

        mine, pictures = self.options, 7 if self.stills is None else len(self.stills.labels)
        return Sizes(side=mine.size, frames=mine.frames, **vars(mine.network), image=pictures, video=len(self.labels))

    def network(self) -> torch.nn.Module:
        """The network, with what a file of the pre-training holds of it.

        Raises:
            CheckpointError: where that file does not fit.
            UsageError: before the data were read.
        """
        from affectkit_s4d import files
        from affectkit_s4d.face_dynamic import PRETRAINED
        from affectkit_s4d.model import S4D

        if not hasattr(self, "fold"):
            raise UsageError(f"{self.id} knows its classes when it has read its data")
        made = S4D(self.sizes, released_behaviour=self.options.released_behaviour)
        start = self.options.start
        if start != RANDOM:
            path = checkpoints.resolve(PRETRAINED, owner="s4d/face_dynamic", tag="pretrained") if start == AUTHORS else Path(start)
            if not path.exists():
                raise CheckpointError(
                    f"{self.id}: there is no file {start}; options.start is {RANDOM}, {AUTHORS}, or the path of a file of weights"
                )
            files.begin(made, files.read(path, self.id), self.id)
        return made

    def scales(self, network: torch.nn.Module) -> Mapping[str, float]:
        """Rates that fall towards the input."""
        from affectkit_s4d.model import rates

        return rates(network, self.options.falloff)

    def look(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> Seen:
        """What the network makes of pictures, or of clips of one view."""
        from affectkit_s4d.model import standardised

        if PICTURE in batch:
            seen: Seen = network(standardised(batch[PICTURE]))
        else:
            seen = network(standardised(batch["frames"].flatten(0, -5)).transpose(1, 2))
        return seen

    def predict(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Logits (B, C); of several views the logarithm of their mean probabilities, as the component says them."""
        logits = self.look(network, batch).logits.float()
        frames = batch.get("frames")
        if frames is None or frames.dim() == 5:
            return logits
        views = logits.log_softmax(1).unflatten(0, frames.shape[:2])
        return views.logsumexp(1) - math.log(views.shape[1])

    def loss(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        """Cross-entropy with mixed labels, and the load-balance loss of the experts."""
        from torch.nn import functional

        seen = self.look(network, batch)
        picture = PICTURE in batch
        found = functional.cross_entropy(seen.logits.float(), batch["truth"], None if picture else weights)
        if not self.options.released_behaviour:
            found = found + self.options.balance * seen.balance
        other = network.get_submodule("head.video" if picture else "head.image")
        return found + 0 * sum(value.sum() for value in other.parameters())  # several processes wait for the gradients of all parameters

    def settings(self, logits: torch.Tensor, truth: np.ndarray) -> Mapping[str, Any]:
        """The temperature, and what the component must know."""
        mine = {"label_set": self.labels.name, "rate": rate_of(self.fold.train) / self.stride, "sizes": self.sizes.to_mapping()}
        pictures = {} if self.stills is None else {"pictures": self.stills.labels.labels}
        return {**super().settings(logits, truth), **mine, **pictures}

    def about(self) -> About:
        """The card."""
        mine = self.options
        beside = "" if self.stills is None else f", and pictures of {self.stills.dataset}"
        begin = "random numbers" if mine.start == RANDOM else Path(mine.start).name
        return About(
            title="S4D: the expression of a face over a clip",
            what=f"A ViT with mixture of adapter experts (S4D, arXiv 2409.06154) on {mine.frames} frames of {mine.size} pixels, for `s4d/face_dynamic`; "
            f"it began with {begin}.",
            data=f"the training list of {self.fold.dataset}, fold {self.fold.name}{beside}",
            licence=LICENCES,
            limits="It knows faces as the data set shows them: acted, cut from films, close to the camera. Its probabilities are those of the data set's "
            "annotators. An expression is not a feeling.",
            commercial=None,
        )


def rate_of(items: Sequence[Item]) -> float:
    """Frames per second of most clips; of videos the first ones are asked, and a clip that does not say has 25."""
    from affectkit.media import open_media

    some = items[:ASKED]
    found = [item.fps if item.fps or not item.path.is_file() else open_media(item.path).fps for item in some]
    return float(np.median([fps or RATE for fps in found]))
