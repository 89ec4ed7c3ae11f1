"""Batches of clips, and of pictures, as networks get them. B is batch, T frames, S size in pixels, C classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.clip_augmentation import MASK, augment, check_maps, plain
from affectkit.datasets.items import Item
from affectkit.errors import PluginError
from affectkit.trainings import Part, Turn

if TYPE_CHECKING:
    import torch

    from affectkit.clip_training import ClipTraining

FRAMES, PICTURE = "frames", "picture"
"""Names of what is seen in a batch: frames of clips, or single pictures."""


@dataclass(frozen=True)
class ClipBatches:
    """Batches of clips, or of pictures.

    Attributes:
        training: says how.
        clips: the first rows.
        pictures: the rows after them; a batch has no rows of both.
    """

    training: ClipTraining
    clips: Sequence[Item]
    pictures: Sequence[Item] = ()

    def part(self, about: str) -> Part:
        """All rows as a part; the groups of pictures are none of the clips'."""
        truth = np.array([item.label for item in (*self.clips, *self.pictures)], dtype=np.int64)
        groups = [item.group for item in self.clips] + [f"picture {item.group}" for item in self.pictures]
        return Part(truth, np.array(groups), self, about=about)

    def __call__(self, rows: np.ndarray, turn: Turn | None) -> Mapping[str, Any]:
        """A batch, as :class:`ClipTraining` describes it."""
        random = None if turn is None else turn.numpy()
        if rows.min() >= len(self.clips):
            stills = [self.pictures[row - len(self.clips)] for row in rows]
            classes = len((self.training.stills or self.training.fold).labels)
            return self._mixed({PICTURE: [self._picture(item, random) for item in stills]}, stills, classes, random)
        chosen = [self.clips[row] for row in rows]
        pictures: dict[str, list[torch.Tensor | None]] = {}
        for item in chosen:
            for name, values in self._clip(item, random).items():
                pictures.setdefault(name, []).append(values)
        return {**self._mixed(pictures, chosen, len(self.training.labels), random), **self.training.extra(chosen, turn)}

    def _mixed(
        self, pictures: Mapping[str, Sequence[torch.Tensor | None]], items: Sequence[Item], classes: int, random: np.random.Generator | None
    ) -> dict[str, Any]:
        """Pictures stacked, with zeros and a mask where there are none, and mixed in training."""
        import torch

        found: dict[str, Any] = {
            name + MASK: torch.tensor([clip is not None for clip in clips])
            for name, clips in pictures.items()
            if name not in (FRAMES, PICTURE)
        }
        empty = torch.zeros_like(next(clip for clips in pictures.values() for clip in clips if clip is not None))
        stacked = {name: torch.stack([empty if clip is None else clip for clip in clips]) for name, clips in pictures.items()}
        mix = self.training.options.mix
        if random is None or not mix.soft:
            return {**found, **stacked}
        truth = np.array([item.label for item in items], dtype=np.int64)
        mixed, soft = mix.apply(stacked, truth, classes, random)
        return {**found, **mixed, "truth": soft}

    def _clip(self, item: Item, random: np.random.Generator | None) -> dict[str, torch.Tensor | None]:
        """Frames and maps of one clip, (..., T, 3, S, S) float32 in [0, 1]."""
        import torch

        training, options = self.training, self.training.options
        frames = training.reader.open(item, options.read_size or options.size)
        positions = np.asarray(training.sample(len(frames), random))
        taken = frames.take(positions)
        maps = dict(training.maps(item, positions))
        there = {name: values for name, values in maps.items() if values is not None}
        for name, values in there.items():
            if values.shape[:-1] != taken.shape[:-1]:
                raise PluginError(
                    f"{training.id}: the map {name} of {item.id} is {values.shape}, the frames are {taken.shape}; they must lie on each other"
                )
        done: dict[str, torch.Tensor | None] = dict.fromkeys(maps)
        if random is None:
            done |= {name: plain(values, options.size) for name, values in {FRAMES: taken, **there}.items()}
        else:
            check_maps(options.augment, there)
            views = []
            for view in np.ndindex(taken.shape[:-4]):
                views.append(_changed(training.transform, taken[view], {name: values[view] for name, values in there.items()}, random))
            done |= {
                name: torch.stack([view[name] for view in views]).reshape(*taken.shape[:-4], *views[0][name].shape) for name in views[0]
            }
        return {name: None if values is None else _unit(values) for name, values in done.items()}

    def _picture(self, item: Item, random: np.random.Generator | None) -> torch.Tensor:
        """One picture, (3, S, S) float32 in [0, 1]."""
        training, options = self.training, self.training.options
        size = (options.stills and options.stills.read_size) or options.read_size or options.size
        taken = training.reader.open(item, size).take(np.zeros(1, dtype=np.int64))
        if random is None:
            return _unit(plain(taken, options.size))[0]
        return _unit(_changed(training.still_transform, taken, {}, random)[FRAMES])[0]


def _changed(
    transform: torch.nn.Module, frames: np.ndarray, maps: Mapping[str, np.ndarray], random: np.random.Generator
) -> dict[str, torch.Tensor]:
    changed, moved = augment(transform, frames, maps, int(random.integers(2**63)))
    return {FRAMES: changed, **moved}


def _unit(values: torch.Tensor) -> torch.Tensor:
    return values if values.is_floating_point() else values.float() / 255
