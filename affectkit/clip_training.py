"""Trainings on the clips of a data set: what the face, body or scene networks of plugins derive theirs from. B is batch, T frames, S size in pixels, C classes.

:class:`ClipTraining` owns the lists and their division, the reading of frames, what is random about them, and the batches. A plugin says::

    class MyOptions(ClipOptions):                 # a frozen dataclass, with further options and other defaults
        size: int = 160
        depth: int = 12

    class MyTraining(ClipTraining):
        name = "face_dynamic"
        Options = MyOptions

        def network(self): return MyNetwork(classes=len(self.labels), depth=self.options.depth)
        def predict(self, network, batch): return network(batch["frames"])      # (B, T, 3, S, S) float32 in [0, 1] -> logits (B, C)
        def about(self): return About(...)

and overrides, where the usual does not do: :meth:`~ClipTraining.sample` (which frames), :meth:`~ClipTraining.augmentation`,
:meth:`~ClipTraining.maps` (pictures beside the frames), :meth:`~ClipTraining.extra` (tensors of a batch that are no pictures),
:meth:`~ClipTraining.scales` (learning rates by parameter), ``loss``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from affectkit.clip_augmentation import Augmentation, Mixing, transforms
from affectkit.clip_batches import FRAMES, PICTURE, ClipBatches
from affectkit.clip_reading import Cache, ClipReader
from affectkit.clip_sampling import segments, spread
from affectkit.datasets.items import Fold, Item
from affectkit.errors import ConfigError, UsageError
from affectkit.labels import LabelSet
from affectkit.trainings import Pace, Part, Training, Turn

if TYPE_CHECKING:
    import torch

LEAST = 4  # groups of clips that a training needs


@dataclass(frozen=True)
class Stills:
    """Pictures that a network learns from beside clips: a batch has either, in random order.

    Attributes:
        dataset: name of their data set; its test list is not read.
        fold: of it.
        data: its folder.
        batch: pictures of a step, as a multiple of the recipe's ``batch_size``.
        share: steps of an epoch, as a multiple of those in which each picture comes once.
        draw: ``"even"`` draws classes equally often, ``"shuffled"`` takes each picture once.
        read_size: size at which they are read, before they are cropped; ``None`` for that of the clips.
        clips: their folder where it is not found below the data.
    """

    dataset: str
    data: Path
    fold: str | int | None = None
    batch: float = 1.0
    share: float = 1.0
    draw: Literal["shuffled", "even"] = "even"
    read_size: int | None = None
    clips: Path | None = None


@dataclass(frozen=True)
class ClipOptions:
    """Options of every training on clips; a plugin's own derive from them and may have other defaults.

    Attributes:
        dataset: name of the data set, as ``--dataset`` takes it.
        fold: of it, as ``--fold`` takes it; ``None`` for the only one.
        clips: folder of the clips where it is not found below the data.
        held: share of the training list, by groups, that is kept for validation; the test list is never read.
        split: seed of that division; the same for all trainings that are compared.
        frames: T.
        size: S, of what the network sees.
        read_size: size at which frames are read and kept, before they are cropped; ``None`` for ``size``.
        augment: how clips are changed in training.
        mix: how clips of a batch are mixed in training.
        cache: how much of what was decoded is kept.
        stills: pictures to learn from beside the clips; ``None`` for none.
    """

    dataset: str = "csv"
    fold: str | int | None = None
    clips: Path | None = None
    held: float = 0.1
    split: int = 0
    frames: int = 16
    size: int = 112
    read_size: int | None = None
    augment: Augmentation = field(default_factory=Augmentation)
    mix: Mixing = field(default_factory=Mixing)
    cache: Cache = field(default_factory=Cache)
    stills: Stills | None = None

    def __post_init__(self) -> None:
        if not 0 < self.held < 1 or min(self.frames, self.size, self.read_size or self.size) < 1:
            raise ConfigError(
                f"held must be between 0 and 1, frames, size and read_size at least 1; found {self.held}, {self.frames}, {self.size} and {self.read_size}"
            )


class ClipTraining(Training):
    """A training on the clips of a data set. The label set is the data set's, and known after :meth:`parts`.

    A batch has ``"frames"`` (B, T, 3, S, S) float32 RGB in [0, 1], not standardised; ``"truth"``, (B,) int64 columns, or (B, C) float32
    distributions in a training that mixes or smooths; each of :meth:`maps`; and each of :meth:`extra`. Where :meth:`sample` gives several views,
    (V, T), frames and maps are (B, V, T, 3, S, S).

    With ``options.stills`` some batches of the training are of pictures: they have ``"picture"`` (B, 3, S, S) float32 instead of frames and maps, and their
    ``"truth"`` counts in ``stills.labels``, so that ``predict`` gives logits (B, classes of pictures) for them. They are never measured.

    Attributes:
        fold: what :meth:`read` gave, once :meth:`parts` was called.
        stills: what :meth:`read_stills` gave, ``None`` where there are no pictures.
    """

    Options: ClassVar[type] = ClipOptions
    fold: Fold
    stills: Fold | None = None
    _labels: LabelSet | None = None

    @property
    def labels(self) -> LabelSet:
        """Of the data set; known when it was read, unless a training on one kind of data alone says ``labels = ...`` in its class.

        Raises:
            UsageError: before that.
        """
        if self._labels is None:
            raise UsageError(f"{self.id} knows its labels when it has read its data")
        return self._labels

    @labels.setter
    def labels(self, labels: LabelSet) -> None:
        self._labels = labels

    @abstractmethod
    def network(self) -> torch.nn.Module:
        """As in :class:`~affectkit.trainings.Training`; ``self.labels`` is there when this is called by ``affectkit train``."""

    def read(self, data: Path) -> Fold:
        """The clips. Override it where they do not come from a data set that affectkit knows.

        Args:
            data: the folder that the recipe or ``--data`` names.
        """
        from affectkit import datasets

        return _there(datasets.read(self.options.dataset, data, self.options.fold, clips=self.options.clips))

    def read_stills(self) -> Fold | None:
        """The pictures that are learned from beside the clips, of ``options.stills``."""
        from affectkit import datasets

        wanted = self.options.stills
        return None if wanted is None else _there(datasets.read(wanted.dataset, wanted.data, wanted.fold, clips=wanted.clips))

    def sample(self, count: int, random: np.random.Generator | None) -> np.ndarray:
        """Which frames of a clip are seen: (T,) int64, or (V, T) for several views; the same shape for all clips.

        Unless overridden: in training a random frame of each of T equal pieces, else the middle one.

        Args:
            count: frames of the clip.
            random: where random numbers come from in training; ``None`` where the network is measured and nothing may be random.
        """
        if random is None:
            return spread(count, self.options.frames)
        return segments(count, self.options.frames, random)

    def augmentation(self) -> torch.nn.Module:
        """The transform of ``torchvision.transforms.v2`` for the clips of a training: frames come to it as ``tv_tensors.Video`` (T, 3, S, S) uint8,
        maps as ``tv_tensors.Mask``; one call is one clip (or one view of it). What comes out has sides of ``options.size`` pixels, uint8 or float in [0, 1]."""
        transform: torch.nn.Module = self.options.augment.transform(self.options.size)
        return transform

    def still_augmentation(self) -> torch.nn.Module:
        """The transform of pictures, which come to it as :class:`~torchvision.tv_tensors.Video` of one frame; that of the clips unless overridden."""
        return self.augmentation()

    def maps(self, item: Item, positions: np.ndarray) -> Mapping[str, np.ndarray | None]:
        """Pictures that go beside the frames, by name: (\\*positions.shape, R, R, 3) uint8 where R is the size at which frames are read, or ``None`` where this clip has none.

        They are cropped and mirrored as the frames are. A batch has each as floats in [0, 1] of the shape of ``"frames"``, zero where a clip has
        none, and ``NAME_mask`` (B,) bool. All clips must name the same maps.

        Args:
            item: the clip.
            positions: what :meth:`sample` gave, int64.
        """
        return {}

    def extra(self, items: Sequence[Item], turn: Turn | None) -> Mapping[str, Any]:
        """Further tensors or arrays of a batch, each with B rows; for instance of the descriptions ``item.text``. They are not mixed.

        Args:
            items: the clips of the batch, in order.
            turn: of the step, ``None`` where the network is measured.
        """
        return {}

    def scales(self, network: torch.nn.Module) -> Mapping[str, float]:
        """The learning rate of parameters as a multiple of the schedule's, by their names; 1 for those that are not named."""
        return {}

    def parts(self, data: Path) -> Mapping[str, Part]:
        """The training list of the fold, of which a share of the groups, chosen by ``split`` and class by class, is for validation."""
        transforms()  # missed before the lists are read, where it is not there
        self.fold, self.stills = self.read(data), self.read_stills()
        self.labels = self.fold.labels
        if self.stills is not None and not self.stills.train:
            raise UsageError(f"options.stills: {self.stills.dataset} has no list of pictures to learn from; its test list is not read")
        held = held_out(self.fold.train, self.options.held, self.options.split)
        kept, learned = ([item for item, side in zip(self.fold.train, held, strict=True) if side == wanted] for wanted in (True, False))
        about = f"{self.fold.dataset} fold {self.fold.name}, training list"
        pictures = () if self.stills is None else self.stills.train
        beside = "" if self.stills is None else f", and pictures of {self.stills.dataset}"
        train = ClipBatches(self, learned, pictures).part(about + beside)
        if self.stills is not None:
            wanted = self.options.stills or Stills("", Path())
            kinds = np.repeat([FRAMES, PICTURE], [len(learned), len(pictures)])
            paces = {FRAMES: Pace(), PICTURE: Pace(wanted.batch, wanted.share, wanted.draw, foreign=True)}
            train = replace(train, kinds=kinds, paces=paces)
        return {"train": train, "validation": self.part(kept, about + ", kept for validation")}

    def notes(self) -> tuple[str, ...]:
        """How the list was read, and how it differs from that of its authors."""
        from affectkit.datasets.checks import counts

        return (*self.fold.notes, *(flaw.text for flaw in counts(self.fold, ("train",))))

    def loss(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        """Cross-entropy with the label or, in a training that mixes or smooths, with the distribution of labels; the weights of classes are of clips alone."""
        from torch.nn import functional

        if PICTURE in batch:
            return functional.cross_entropy(self.predict(network, batch).float(), batch["truth"])
        return super().loss(network, batch, weights)

    def parameters(self, network: torch.nn.Module, decay: float) -> list[dict[str, Any]]:
        """Groups of parameters by :meth:`scales`; biases, norms and other vectors are not pulled to zero."""
        scales = self.scales(network)
        groups: dict[tuple[float, bool], list[Any]] = {}
        for name, value in network.named_parameters():
            if value.requires_grad:
                groups.setdefault((float(scales.get(name, 1.0)), value.ndim > 1), []).append(value)
        return [{"params": found, "scale": scale, "weight_decay": decay if pulled else 0.0} for (scale, pulled), found in groups.items()]

    def part(self, items: Sequence[Item], about: str = "") -> Part:
        """Clips as a part, to be learned from or measured; for instance a test list, once the network is trained."""
        return ClipBatches(self, items).part(about)

    @cached_property
    def reader(self) -> ClipReader:
        """Reads the frames."""
        return ClipReader(self.options.cache)

    @cached_property
    def transform(self) -> torch.nn.Module:
        """What :meth:`augmentation` gave, made once."""
        return self.augmentation()

    @cached_property
    def still_transform(self) -> torch.nn.Module:
        """What :meth:`still_augmentation` gave, made once."""
        return self.still_augmentation()


def _there(fold: Fold) -> Fold:
    """The fold itself, whose clips to learn from are all there; those of the test list are not looked for."""
    from affectkit.datasets.checks import missing

    if gone := missing(fold.dataset, fold.train, "clips to learn from"):
        raise UsageError(f"{gone}; --clips or options.clips names their folder")
    return fold


def held_out(items: Sequence[Item], share: float, seed: int) -> np.ndarray:
    """Which clips are kept for validation, (N,) bool: a share of the groups, of each class alike, the same for the same seed.

    A group counts as of the class that most of its clips have. Each class that two groups have is on both sides, where that can be.

    Args:
        items: N clips.
        share: of the groups, between 0 and 1.
        seed: of the choice.

    Raises:
        UsageError: where there are too few groups.
    """
    names, of_item = np.unique(np.array([item.group for item in items]), return_inverse=True)
    if len(names) < LEAST:
        raise UsageError(
            f"{len(names)} groups of clips are too few to learn from some, choose by others and calibrate on yet others; {LEAST} are needed"
        )
    labels = np.array([item.label for item in items], dtype=np.int64)
    counts = np.zeros((len(names), labels.max() + 1), dtype=np.int64)
    np.add.at(counts, (of_item, labels), 1)
    random = np.random.default_rng(seed)
    held = np.zeros(len(names), dtype=bool)
    kind = counts.argmax(1)
    for label in np.unique(kind):
        those = random.permutation(np.flatnonzero(kind == label))
        held[those[: int(share * len(those))]] = True
    missing = min(max(round(share * len(names)), 2), len(names) - 1) - int(held.sum())
    held[random.permutation(np.flatnonzero(~held))[: max(missing, 0)]] = True
    for label in np.flatnonzero((counts > 0).sum(0) > 1):
        for side in (True, False):
            if not counts[held == side, label].any():
                others = counts[held != side].sum(0)
                movable = [
                    row
                    for row in np.flatnonzero((held != side) & (counts[:, label] > 0))
                    if ((others > counts[row]) | (counts[row] == 0)).all()
                ]
                held[random.permutation(movable)[:1].astype(np.int64)] = side
    found: np.ndarray = held[of_item]
    return found
