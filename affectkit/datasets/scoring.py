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
from affectkit.clip_reading import Cache, ClipReader
from affectkit.components import Evidence, Input, Modality
from affectkit.datasets.items import Item
from affectkit.errors import AffectKitError, MediaError, PluginError, UsageError
from affectkit.faces import pick
from affectkit.labels import LabelSet
from affectkit.media import Clip, Media, Span, open_media
from affectkit.probing import PICTURE_SUFFIXES

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


def check_modality(modality: Modality) -> tuple[str, ...]:
    """What a modality will be without on faces alone, as notes.

    Raises:
        UsageError: where it does not look at faces.
    """
    needs = modality.needs
    if not any(item.kind == "faces" for item in needs.inputs):
        raise UsageError(f"{modality.id} does not look at faces, and the clips of a data set are faces; score a run with --labels instead")
    absent = ["whole frames"] * (needs.frames is not None) + ["sound"] * (needs.audio is not None)
    absent += [item.kind for item in needs.inputs if item.kind != "faces"]
    return (f"{modality.id} also reads {', '.join(absent)}, which it goes without here",) if absent else ()


def say(
    modality: Modality,
    items: Sequence[Item],
    *,
    device: torch.device,
    dtype: torch.dtype,
    batch_size: int,
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
        report: gets lines of progress.

    Raises:
        AffectKitError: what the modality raised, with the item that it was about. Items that cannot be read are in :attr:`Said.reasons`.
    """
    cutter = _Cutter(modality)
    said = {labels: np.full((len(items), len(labels)), np.nan) for labels in modality.label_sets}
    seconds = np.full(len(items), np.nan)
    reasons: dict[int, str] = {}
    batcher = Batcher(modality.id, modality, device, dtype, batch_size)
    done, step = 0, max(1, len(items) // 10)
    with ThreadPoolExecutor(min(READERS, os.cpu_count() or 1)) as pool:
        for first in range(0, len(items), AHEAD * batch_size):
            some = items[first : first + AHEAD * batch_size]
            answers: dict[int, list[Row]] = {}
            for number, found in zip(range(first, first + len(some)), pool.map(cutter, some), strict=True):
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


class _Cutter:
    """Reads items and has them preprocessed. Called from several threads."""

    def __init__(self, modality: Modality) -> None:
        self.modality = modality
        self.wanted = next(item for item in modality.needs.inputs if item.kind == "faces")
        self.reader = ClipReader(Cache(memory=0.0))

    def __call__(self, item: Item) -> _Read:
        try:
            clips = cut(item, self.modality, self.wanted, self.reader)
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


def cut(item: Item, modality: Modality, wanted: Input, reader: ClipReader) -> list[Clip]:
    """The clips of an item that a modality sees: one, or one per picture.

    Args:
        item: what is read.
        modality: whose unit says how many there are, and whose further inputs are without evidence.
        wanted: which faces it asks for.
        reader: reads the frames.

    Raises:
        MediaError: where it cannot be read.
    """
    size = wanted.size or 0
    frames = reader.open(item, size)
    media = _media(item, len(frames))
    fps = media.fps or 1.0
    begin = 0.0 if item.frames is None else (item.frames[0] - 1) / fps
    times = begin + np.arange(len(frames)) / fps
    span = Span(begin, begin + media.duration)
    chosen = pick(times, span, wanted, media.fps)
    crops = frames.take(chosen)
    parts = [np.arange(len(chosen))] if modality.unit != "frame" else [np.array([i]) for i in range(len(chosen))]
    others = {kind.kind: Evidence.none(kind.kind, "only faces are read") for kind in modality.needs.inputs if kind.kind != "faces"}
    return [
        Clip(
            media,
            span if modality.unit != "frame" else Span(float(times[chosen[part[0]]]), float(times[chosen[part[0]]])),
            track=0,
            inputs={**others, "faces": _faces(crops[part], times[chosen[part]], size)},
        )
        for part in parts
    ]


def _faces(crops: np.ndarray, times: np.ndarray, size: int) -> Evidence:
    """Crops (T, S, S, 3) as the evidence that a detector gives, which found the whole picture."""
    boxes = np.tile(np.array([0, 0, size, size], np.float32), (len(crops), 1))
    data = {"crops": crops, "boxes": boxes, "scores": np.ones(len(crops), np.float32)}
    return Evidence("faces", data, times=times, quality={"face_size": float(size), "face_score": 1.0, "face_share": 1.0})


def _media(item: Item, frames: int) -> Media:
    """The medium of an item, as long as its frames."""
    if item.path.is_dir():
        fps = item.fps
        if fps is None:
            raise MediaError(f"{item.path} is a folder of frames, and nothing says how fast they follow each other")
        return Media(item.id, item.path, "frames", frames / fps, fps=fps)
    if item.path.suffix.lower() in PICTURE_SUFFIXES:
        return Media(item.id, item.path, "image", 0.0)
    media = open_media(item.path, id=item.id)
    fps = media.fps or frames / media.duration
    return Media(item.id, item.path, "video", frames / fps, fps=fps)
