"""What is random about the clips of a training: one draw for all frames and maps of a clip, and the mixing of the clips of a batch.

Transforms are those of torchvision, which is imported when the first clip is read. B is batch, T frames, S size in pixels, C classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.errors import ConfigError, UsageError

if TYPE_CHECKING:
    import torch

    Transform = torch.nn.Module

MASK = "_mask"
"""Ends the name of the tensor that says which rows have a map."""


@dataclass(frozen=True)
class Augmentation:
    """How clips of a training are changed; each draw holds for all frames of a clip and, where it moves pixels, for its maps too.

    Attributes:
        crop: least share of the picture that a crop shows; 1 for the whole picture.
        ratio: greatest ratio of the sides of a crop before it is made square.
        flip: chance of the mirror image.
        turn: degrees by which it is turned at most.
        colour: strength of changes of brightness, contrast and saturation, in [0, 1].
        hue: strength of changes of hue, in [0, 0.5].
        operations: of RandAugment (Cubuk et al. 2020, https://arxiv.org/abs/1909.13719); 0 for none. Not with maps.
        magnitude: of RandAugment, in [0, 30].
        erase: chance that a rectangle is made grey (Zhong et al. 2020, https://arxiv.org/abs/1708.04896).
    """

    crop: float = 0.6
    ratio: float = 4 / 3
    flip: float = 0.5
    turn: float = 0.0
    colour: float = 0.0
    hue: float = 0.0
    operations: int = 0
    magnitude: int = 9
    erase: float = 0.0

    def __post_init__(self) -> None:
        shares = {"crop": self.crop, "flip": self.flip, "colour": self.colour, "erase": self.erase}
        wrong = [f"{name} {value}" for name, value in shares.items() if not 0 <= value <= 1]
        if (
            wrong
            or self.crop == 0
            or self.ratio < 1
            or not 0 <= self.hue <= 0.5
            or self.turn < 0
            or self.operations < 0
            or not 0 <= self.magnitude <= 30
        ):
            raise ConfigError(
                "crop must be in (0, 1], flip, colour and erase in [0, 1], hue in [0, 0.5], magnitude in [0, 30], ratio at least 1, "
                f"turn and operations not negative; found {self}"
            )

    def transform(self, size: int) -> Transform:
        """The transforms of torchvision that this stands for; what comes out has sides of ``size`` pixels."""
        v2 = transforms()
        steps: list[Any] = []
        if self.operations:
            steps.append(v2.RandAugment(self.operations, self.magnitude, interpolation=v2.InterpolationMode.BILINEAR))
        if self.turn:
            steps.append(v2.RandomRotation(self.turn, interpolation=v2.InterpolationMode.BILINEAR))
        if self.crop < 1:
            steps.append(v2.RandomResizedCrop(size, (self.crop, 1.0), (1 / self.ratio, self.ratio), antialias=True))
        else:
            steps.append(v2.Resize((size, size), antialias=True))
        if self.flip:
            steps.append(v2.RandomHorizontalFlip(self.flip))
        if self.colour or self.hue:
            steps.append(v2.ColorJitter(self.colour, self.colour, self.colour, self.hue))
        if self.erase:
            steps.append(v2.RandomErasing(self.erase, value=127))
        made: Transform = v2.Compose(steps)
        return made


def transforms() -> Any:
    """``torchvision.transforms.v2``.

    Raises:
        UsageError: where torchvision is not installed.
    """
    try:
        from torchvision.transforms import v2
    except ImportError as error:
        raise UsageError(
            f"trainings of clips change pictures with torchvision, which cannot be imported ({error}); pip install torchvision"
        ) from error
    return v2


def augment(
    transform: Transform, frames: np.ndarray, maps: Mapping[str, np.ndarray], seed: int
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """One draw of a transform for a clip and its maps.

    Args:
        transform: of ``torchvision.transforms.v2``; it takes its random numbers from torch's own generator, whose state is put back.
        frames: (T, S, S, 3) uint8 RGB.
        maps: (T, S, S, K) uint8 by name; they are moved with the frames, by the nearest pixel, and keep their colours.
        seed: of the draw, in [0, 2^63).

    Returns:
        Frames and maps as (T, channels, size, size) uint8.
    """
    import torch
    from torchvision import tv_tensors

    given = {"": tv_tensors.Video(_channels_first(frames))}
    given |= {name: tv_tensors.Mask(_channels_first(values)) for name, values in maps.items()}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", ".*currently passing through inputs of type", UserWarning
        )  # masks are not erased, as it should be
        torch.manual_seed(seed)
        done = transform(given)
    return done.pop("").as_subclass(torch.Tensor), {name: value.as_subclass(torch.Tensor) for name, value in done.items()}


def plain(frames: np.ndarray, size: int) -> torch.Tensor:
    """Frames, or maps, (..., S, S, K) uint8, with nothing random: (..., K, size, size) uint8."""
    import torch

    found = _channels_first(frames)
    if found.shape[-1] == size:
        return found
    small = torch.nn.functional.interpolate(
        found.flatten(0, -4).float(), (size, size), mode="bilinear", antialias=True, align_corners=False
    )
    return small.round().clamp(0, 255).to(torch.uint8).unflatten(0, found.shape[:-3])


def _channels_first(frames: np.ndarray) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, -1, -3)))


@dataclass(frozen=True)
class Mixing:
    """How the clips of a batch are mixed, and their labels with them.

    Attributes:
        mixup: alpha of mixup (Zhang et al. 2018, https://arxiv.org/abs/1710.09412): frames are added up; 0 for none.
        cutmix: alpha of CutMix (Yun et al. 2019, https://arxiv.org/abs/1905.04899): a box of all frames comes from another clip; 0 for none.
        chance: that a batch is mixed at all.
        switch: chance of CutMix where there are both.
        smoothing: share of the label that is spread evenly over all classes, in training alone.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    chance: float = 1.0
    switch: float = 0.5
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.mixup < 0 or self.cutmix < 0 or not all(0 <= value <= 1 for value in (self.chance, self.switch, self.smoothing)):
            raise ConfigError(f"mixup and cutmix must not be negative, chance, switch and smoothing in [0, 1]; found {self}")

    @property
    def soft(self) -> bool:
        """Whether labels become distributions."""
        return bool(self.mixup or self.cutmix or self.smoothing)

    def apply(
        self, pictures: Mapping[str, torch.Tensor], truth: np.ndarray, classes: int, random: np.random.Generator
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Mixes each row with the one that lies opposite in the batch.

        Args:
            pictures: (B, ..., height, width) floats by name, which are mixed alike.
            truth: (B,) int64 columns.
            classes: C.
            random: where the numbers come from.

        Returns:
            What was mixed, and distributions (B, C) float32.
        """
        import torch

        target = torch.full((len(truth), classes), self.smoothing / classes)
        target[torch.arange(len(truth)), torch.from_numpy(truth)] += 1 - self.smoothing
        mixed = dict(pictures)
        if not (self.mixup or self.cutmix) or random.random() >= self.chance:
            return mixed, target
        cut = random.random() < self.switch if self.mixup and self.cutmix else bool(self.cutmix)
        alpha = self.cutmix if cut else self.mixup
        share = float(random.beta(alpha, alpha))
        if cut:
            share = _cut(mixed, share, random)
        else:
            mixed = {name: share * value + (1 - share) * value.flip(0) for name, value in mixed.items()}
        return mixed, share * target + (1 - share) * target.flip(0)


def _cut(pictures: dict[str, torch.Tensor], share: float, random: np.random.Generator) -> float:
    """Puts a box of the opposite row into each, in place of the pictures by name; the share of the picture that is left."""
    height, width = next(iter(pictures.values())).shape[-2:]
    side = (1 - share) ** 0.5
    middle = random.random(2) * (height, width)
    half = np.array([height, width]) * side / 2
    top, left = (int(max(value, 0)) for value in np.round(middle - half))
    bottom, right = (int(min(value, limit)) for value, limit in zip(np.round(middle + half), (height, width), strict=True))
    for name, value in pictures.items():
        mixed = value.clone()
        mixed[..., top:bottom, left:right] = value.flip(0)[..., top:bottom, left:right]
        pictures[name] = mixed
    return 1 - (bottom - top) * (right - left) / (height * width)


def check_maps(augmentation: Augmentation, maps: Mapping[str, Any]) -> None:
    """Refuses RandAugment where there are maps, as torchvision moves pictures by it and not what lies beside them.

    Raises:
        UsageError: naming the maps.
    """
    if augmentation.operations and maps:
        raise UsageError(f"augment.operations must be 0 with {', '.join(sorted(maps))}: RandAugment moves the frames alone")
