"""How the rows of a training come to its network: in which order, in which step, and all of them where it is measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from mmengine import dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from affectkit.errors import PluginError
from affectkit.fitting import even_chances
from affectkit.training_recipes import Plan
from affectkit.trainings import Part, Training, Turn

POOL = 20  # batches among which rows of like length are put together


@torch.inference_mode()
def logits_of(training: Training, network: nn.Module, part: Part, batch_size: int) -> Tensor:
    """What a network says of a part, (N, C) float32 on the processor; measured in single precision and without anything random.

    Args:
        training: what the network is of.
        network: it is put into evaluation mode for this and back afterwards.
        part: the rows.
        batch_size: rows at a time.
    """
    device = next(chain(network.parameters(), network.buffers())).device
    was_training = network.training
    network.eval()
    rows = np.arange(len(part)) if part.lengths is None else np.argsort(part.lengths, kind="stable")
    out = torch.empty(len(part), len(training.labels))
    for some in np.array_split(rows, math.ceil(len(rows) / batch_size)):
        batch = _to(_batch(part, some, None), device)
        out[torch.from_numpy(some)] = training.predict(network, batch).float().cpu()
    network.train(was_training)
    return out


class Order(Sampler[Any]):
    """Which rows come in which step: the same in every process and after every interruption, because it depends on seed and epoch alone."""

    def __init__(self, part: Part, plan: Plan, training: Training) -> None:
        self.part, self.plan = part, plan
        self.epoch, self.first = 0, 0
        even = even_chances(part.truth, training.labels) if plan.balance.draw == "even" else None
        chances = part.chances if even is None or part.chances is None else part.chances * even
        self.chances = even if chances is None else chances

    def __len__(self) -> int:
        """Steps per epoch: the last rows that fill no batch wait for another epoch."""
        return max(len(self.part) // (self.plan.batch_size * dist.get_world_size()), 1)

    def __iter__(self) -> Iterator[tuple[np.ndarray, Turn]]:
        steps, world, size = len(self), dist.get_world_size(), self.plan.batch_size
        random = np.random.default_rng([self.plan.seed, self.epoch])
        if self.chances is None:
            rows = random.permutation(len(self.part))
        else:
            rows = random.choice(len(self.part), steps * size * world, p=self.chances / self.chances.sum())
        if self.part.lengths is not None:
            pools = np.array_split(rows, math.ceil(len(rows) / (size * POOL)))
            rows = np.concatenate([pool[np.argsort(self.part.lengths[pool], kind="stable")] for pool in pools])
        places = random.permutation(steps * world) if self.part.lengths is not None else np.arange(steps * world)
        for step in range(self.first, steps):
            done = self.epoch * steps + step
            turn = Turn(self.plan.seed, done * world + dist.get_rank(), done / (steps * self.plan.epochs))
            place = int(places[step * world + dist.get_rank()])
            yield rows[place * size : (place + 1) * size], turn


def loader(part: Part, order: Order, workers: int) -> DataLoader[Any]:
    """Batches of a part in that order, each as ``{"batch": tensors by name}``."""
    return DataLoader(_Rows(part), batch_size=None, sampler=order, num_workers=workers, collate_fn=_same)


def not_finite(part: Part, rows: np.ndarray, turn: Turn) -> list[str]:
    """Names of what is not a number somewhere in a batch, for a message about a loss that is none."""
    return [name for name, value in _batch(part, rows, turn).items() if value.is_floating_point() and not value.isfinite().all()]


class _Rows(Dataset[Any]):
    """Batches of a part; the sampler says which rows, and for which step."""

    def __init__(self, part: Part) -> None:
        self.part = part

    def __getitem__(self, wanted: tuple[np.ndarray, Turn]) -> dict[str, Any]:
        return {"batch": _batch(self.part, *wanted)}

    def __len__(self) -> int:
        return len(self.part)


def _batch(part: Part, rows: np.ndarray, turn: Turn | None) -> dict[str, Tensor]:
    found = {"truth": part.truth[rows], **part.batch(rows, turn)}
    for name, value in found.items():
        if not isinstance(value, Tensor | np.ndarray) or len(value) != len(rows):
            raise PluginError(f"the batch of a Part has {name!r}, which is not a tensor or an array of {len(rows)} rows")
    return {name: torch.as_tensor(value) for name, value in found.items()}


def _to(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in batch.items()}


def _same(batch: Any) -> Any:
    return batch
