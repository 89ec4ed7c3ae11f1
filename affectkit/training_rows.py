"""How the rows of a training come to its network: in which order, in which step, and all of them where it is measured."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
from affectkit.trainings import Pace, Part, Training, Turn

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
    """Which rows come in which step: the same in every process and after every interruption, because it depends on seed and epoch alone.

    All processes have rows of the same kind in a step, so that they use the same parameters.
    """

    def __init__(self, part: Part, plan: Plan, training: Training) -> None:
        self.part, self.plan = part, plan
        self.epoch, self.first = 0, 0
        names = [None] if part.kinds is None else [name for name in part.paces if name in part.kinds]
        self.kinds = [_Kind.of(name, part, plan, training) for name in names]

    def __len__(self) -> int:
        """Steps per epoch: the last rows that fill no batch wait for another epoch."""
        return sum(kind.steps() for kind in self.kinds)

    def __iter__(self) -> Iterator[tuple[np.ndarray, Turn]]:
        steps, world = len(self), dist.get_world_size()
        random = np.random.default_rng([self.plan.seed, self.epoch])
        batches = [self._batches(kind, random) for kind in self.kinds]
        order = np.repeat(np.arange(len(batches)), [kind.steps() for kind in self.kinds])
        if len(batches) > 1:
            order = random.permutation(order)
        for step, which in enumerate(order):
            taken = [next(batches[which]) for _ in range(world)]
            if step >= self.first:
                done = self.epoch * steps + step
                yield taken[dist.get_rank()], Turn(self.plan.seed, done * world + dist.get_rank(), done / (steps * self.plan.epochs))

    def _batches(self, kind: _Kind, random: np.random.Generator) -> Iterator[np.ndarray]:
        """Rows of one kind, a batch per step and process; all that is random is drawn at once."""
        needed, size = kind.steps() * dist.get_world_size(), kind.size
        if kind.chances is None:
            passes = max(math.ceil(needed * size / len(kind.rows)), 1) if kind.share > 1 else 1
            rows = np.concatenate([kind.rows[random.permutation(len(kind.rows))] for _ in range(passes)])
        else:
            rows = random.choice(kind.rows, needed * size, p=kind.chances / kind.chances.sum())
        if self.part.lengths is None:
            places = np.arange(needed)
        else:
            pools = np.array_split(rows, math.ceil(len(rows) / (size * POOL)))
            rows = np.concatenate([pool[np.argsort(self.part.lengths[pool], kind="stable")] for pool in pools])
            places = random.permutation(needed)
        return (rows[place * size : (place + 1) * size] for place in places.tolist())


@dataclass(frozen=True)
class _Kind:
    """Rows that may come in one batch.

    Attributes:
        rows: (K,) int64.
        chances: (K,) how often each is drawn; ``None`` for once.
        size: rows of a step and process.
        share: of the steps in which each row comes once.
    """

    rows: np.ndarray
    chances: np.ndarray | None
    size: int
    share: float

    def steps(self) -> int:
        """Steps per epoch, among the processes that there are by now: an order is made before they are joined."""
        return max(int(len(self.rows) // (self.size * dist.get_world_size()) * self.share), 1)

    @classmethod
    def of(cls, name: str | None, part: Part, plan: Plan, training: Training) -> _Kind:
        pace = Pace() if name is None else part.paces[name]
        rows = np.arange(len(part)) if part.kinds is None else np.flatnonzero(part.kinds == name)
        even = even_chances(part.truth[rows], training.labels) if (pace.draw or plan.balance.draw) == "even" else None
        given = None if part.chances is None else part.chances[rows]
        chances = given if even is None else even if given is None else given * even
        size = max(round(pace.batch * plan.batch_size), 1)
        return cls(rows, chances, size, pace.share)


def loader(part: Part, order: Order, workers: int) -> DataLoader[Any]:
    """Batches of a part in that order, each as ``{"batch": tensors by name}``; workers live for the whole training, with what they keep in memory.

    There are no more workers than processors: recipes are written for large machines.
    """
    workers = min(workers, os.cpu_count() or 1)
    return DataLoader(_Rows(part), batch_size=None, sampler=order, num_workers=workers, collate_fn=_same, persistent_workers=workers > 0)


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
