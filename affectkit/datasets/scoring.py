"""What a modality that looks at faces says of the items of a data set. N is items, C classes, T pictures, S their size in pixels; times are seconds."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch

from affectkit.batching import Batcher, Row, as_tensors
from affectkit.batching import Item as Waiting
from affectkit.components import Modality
from affectkit.datasets.cutting import Cutter
from affectkit.datasets.items import Item
from affectkit.errors import AffectKitError, MediaError, PluginError
from affectkit.labels import LabelSet
from affectkit.planner import Plan

Report = Callable[[str], None]

READERS = 8  # threads that read clips at most
AHEAD = 4  # batches that are read before their forward passes


@dataclass(frozen=True, eq=False)
class Said:
    """What a modality says of N items.

    Attributes:
        values: (N, C) float64 by label set; NaN where it says nothing.
        seconds: (N,) float64, how long the items are; NaN where they cannot be read.
        reasons: why an item cannot be read, by its number.
    """

    values: Mapping[LabelSet, np.ndarray]
    seconds: np.ndarray
    reasons: Mapping[int, str] = field(default_factory=dict)


def say(
    modality: Modality,
    items: Sequence[Item],
    *,
    device: torch.device,
    dtype: torch.dtype,
    batch_size: int,
    plan: Plan | None = None,
    report: Report = lambda line: None,
) -> Said:
    """Reads items and asks a loaded modality about them, in batches.

    Every frame of an item is taken for the square of a face; of these, over the whole item, the modality sees those that its ``Input("faces", ...)`` asks
    for. A modality of single pictures is asked about each, and the mean is what it says.

    Args:
        modality: loaded on ``device``.
        items: N.
        device: where forward passes run.
        dtype: their precision.
        batch_size: clips per forward pass at most.
        plan: has the providers, loaded, of what is made from faces; ``None`` for none.
        report: gets lines of progress.

    Raises:
        AffectKitError: what the modality raised, with the item that it was about. Items that cannot be read are in :attr:`Said.reasons`.
    """
    preprocessing = _Preprocessing(modality, plan)
    said = {labels: np.full((len(items), len(labels)), np.nan) for labels in modality.label_sets}
    seconds = np.full(len(items), np.nan)
    reasons: dict[int, str] = {}
    batcher = Batcher(modality.id, modality, device, dtype, batch_size)
    done, step = 0, max(1, len(items) // 10)
    with ThreadPoolExecutor(min(READERS, os.cpu_count() or 1)) as pool:
        for first in range(0, len(items), AHEAD * batch_size):
            some = items[first : first + AHEAD * batch_size]
            answers: dict[int, list[Row]] = {}
            for number, found in zip(range(first, first + len(some)), pool.map(preprocessing, some), strict=True):
                seconds[number] = found.seconds
                if found.reason:
                    reasons[number] = found.reason
                for tensors in found.tensors:
                    batcher.add(Waiting(modality.id, tensors, number, _Answer(items[number], answers.setdefault(number, []))))
            while batcher.pending:
                batcher.run()
            for number, rows in answers.items():
                for labels in said:
                    said[labels][number] = np.mean([row.values[labels].double().numpy() for row in rows], axis=0)
            if (done + len(some)) // step > done // step:
                report(f"{done + len(some)} of {len(items)}")
            done += len(some)
    return Said(said, seconds, reasons)


@dataclass(frozen=True)
class _Read:
    """What a modality made of an item, clip by clip, or why it cannot be read."""

    tensors: Sequence[Mapping[str, torch.Tensor]] = ()
    seconds: float = float("nan")
    reason: str = ""


@dataclass(frozen=True)
class _Answer:
    """Takes what is said of one clip of an item."""

    item: Item
    rows: list[Row]

    def __call__(self, found: Row | Exception) -> None:
        if isinstance(found, AffectKitError):
            raise found
        if isinstance(found, Exception):
            raise PluginError(f"{self.item.id}: the forward pass raised {type(found).__name__}: {found}") from found
        self.rows.append(found)


class _Preprocessing:
    """Reads items and has them preprocessed. Called from several threads."""

    def __init__(self, modality: Modality, plan: Plan | None) -> None:
        self.modality = modality
        self.cutter = Cutter(modality, plan)

    def __call__(self, item: Item) -> _Read:
        try:
            clips = self.cutter(item)
        except (MediaError, OSError) as error:
            return _Read(reason=str(error))
        try:
            made = [self.modality.preprocess(clip) for clip in clips]
            found = [as_tensors(tensors) for tensors in made if tensors is not None]
        except AffectKitError:
            raise
        except Exception as error:  # a plugin may raise anything
            raise PluginError(f"{self.modality.id}: preprocess raised {type(error).__name__} for {item.id}: {error}") from error
        return _Read(found, clips[0].media.duration if clips else float("nan"))
