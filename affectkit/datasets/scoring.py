"""What a modality that looks at faces says of the items of a data set. N is items, C classes, T pictures, S their size in pixels; times are seconds."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
        values: (N, C) float32 by label set; NaN where it says nothing.
        seconds: (N,) float64, how long the items are; NaN where they cannot be read.
        reasons: why an item cannot be read, by its number.
        done: (N,) bool, the items that it was asked about.
    """

    values: Mapping[LabelSet, np.ndarray]
    seconds: np.ndarray
    done: np.ndarray
    reasons: dict[int, str] = field(default_factory=dict)

    @classmethod
    def nothing(cls, label_sets: Sequence[LabelSet], items: int) -> Said:
        """Before it is asked."""
        values = {labels: np.full((items, len(labels)), np.nan, np.float32) for labels in label_sets}
        return cls(values, np.full(items, np.nan), np.zeros(items, dtype=bool))


Keep = Callable[[int, Said], None]


def say(
    modality: Modality,
    items: Sequence[Item],
    *,
    device: torch.device,
    dtype: torch.dtype,
    batch_size: int,
    plan: Plan | None = None,
    said: Said | None = None,
    keep: Keep = lambda number, said: None,
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
        said: of the same items, what it said before: of those it is not asked again; filled further and returned.
        keep: gets the number of each item that is done, and what is said by then.
        report: gets lines of progress.

    Raises:
        AffectKitError: what the modality raised, with the item that it was about. Items that cannot be read are in :attr:`Said.reasons`.
    """
    said = Said.nothing(modality.label_sets, len(items)) if said is None else said
    preprocessing = _Preprocessing(modality, plan)
    batcher = Batcher(modality.id, modality, device, dtype, batch_size)
    todo = deque(np.flatnonzero(~said.done).tolist())
    done, step = len(items) - len(todo), max(1, len(items) // 10)

    def finish(number: int, rows: Sequence[Row]) -> None:
        nonlocal done
        for labels, values in said.values.items():
            if rows:
                values[number] = np.mean([row.values[labels].double().numpy() for row in rows], axis=0)
        said.done[number] = True
        keep(number, said)
        done += 1
        if done % step == 0 or done == len(items):
            report(f"{done} of {len(items)}")

    pool = ThreadPoolExecutor(min(READERS, os.cpu_count() or 1))
    ahead: deque[tuple[int, Future[_Read]]] = deque()
    try:
        while todo or ahead:
            while todo and len(ahead) < AHEAD * batch_size:
                number = todo.popleft()
                ahead.append((number, pool.submit(preprocessing, items[number])))
            number, reading = ahead.popleft()
            found = reading.result()
            said.seconds[number] = found.seconds
            if found.reason:
                said.reasons[number] = found.reason
            if not found.tensors:
                finish(number, ())
            answer = _Answer(items[number], number, len(found.tensors), finish)
            for tensors in found.tensors:
                batcher.add(Waiting(modality.id, tensors, number, answer))
        while batcher.pending:
            batcher.run()
    finally:
        pool.shutdown(cancel_futures=True)
    return said


@dataclass(frozen=True)
class _Read:
    """What a modality made of an item, clip by clip, or why it cannot be read."""

    tensors: Sequence[Mapping[str, torch.Tensor]] = ()
    seconds: float = float("nan")
    reason: str = ""


@dataclass
class _Answer:
    """Takes what is said of the clips of an item, and is done when it has all of them."""

    item: Item
    number: int
    clips: int
    finish: Callable[[int, Sequence[Row]], None]
    rows: list[Row] = field(default_factory=list)

    def __call__(self, found: Row | Exception) -> None:
        if isinstance(found, AffectKitError):
            raise found
        if isinstance(found, Exception):
            raise PluginError(f"{self.item.id}: the forward pass raised {type(found).__name__}: {found}") from found
        self.rows.append(found)
        if len(self.rows) == self.clips:
            self.finish(self.number, self.rows)


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
