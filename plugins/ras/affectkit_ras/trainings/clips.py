"""What a frozen backbone says of the windows of labelled runs: read once from their media, as a run reads them, and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.api import Modality, Part, Turn, UsageError
from affectkit.builtin.labelled import Window
from affectkit.weight_files import writing

if TYPE_CHECKING:
    import torch

    from affectkit.config import Recipe
    from affectkit.media import Media
    from affectkit.planner import Plan
    from affectkit.plugins import Registry

OTHERWISE = {"speech": ". With --set options.speech=false it learns from all windows with sound"}  # what else one can do, by kind of input
TOGETHER = 16  # windows of a medium that a backbone reads at once
Read = Callable[[Mapping[str, "torch.Tensor"]], tuple["torch.Tensor", "torch.Tensor"]]
"""Frames (B, T, D) of a batch of clips, and which of them are real, (B, T) bool."""

Place = tuple[int, float, float]
"""Subject, start and end in seconds of a window."""


@dataclass
class Frames:
    """Frames of windows, on disk until they are asked for.

    Attributes:
        windows: N windows.
        counts: (N,) int64 frames of each.
    """

    windows: list[Window] = field(default_factory=list)
    counts: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    _places: list[tuple[np.ndarray, int]] = field(default_factory=list)

    def add(self, windows: Sequence[Window], counts: np.ndarray, frames: np.ndarray) -> None:
        """Takes the windows of a medium, with their frames (sum of counts, D) one after the other."""
        self._places += [(frames, int(end - count)) for end, count in zip(np.cumsum(counts), counts, strict=True)]
        self.windows += windows
        self.counts = np.concatenate([self.counts, counts])

    def __getitem__(self, row: int) -> np.ndarray:
        """(T, D) float32 of a window."""
        frames, start = self._places[row]
        return np.asarray(frames[start : start + int(self.counts[row])], dtype=np.float32)

    def batch(self, part: Part) -> Part:
        """A part whose batches hold ``"row"``, with the frames of those rows: ``"frames"`` (B, T, D) float32 and ``"mask"`` (B, T) bool."""
        rows = np.asarray(part.batch(np.arange(len(part)), None)["row"])

        def batch(some: np.ndarray, turn: Turn | None) -> Mapping[str, Any]:
            found = [self[row] for row in rows[some].tolist()]
            mask = np.arange(max(map(len, found)))[None] < np.array([len(one) for one in found])[:, None]
            frames = np.zeros((*mask.shape, found[0].shape[1]), np.float32)
            frames[mask] = np.concatenate(found)
            return {**part.batch(some, turn), "frames": frames, "mask": mask}

        return replace(part, batch=batch, lengths=self.counts[rows])


def read_frames(runs: Sequence[Path], component: Modality, read: Read, about: str, cache: Path, device: torch.device) -> Frames:
    """Frames of every window of runs in which a modality has evidence.

    Args:
        runs: run folders; windows, faces and the other inputs are as their recipes say.
        component: whose preprocessing is used; its backbone is loaded, and nothing else of it needs to be.
        read: makes frames of a batch.
        about: what the frames depend on beside the media and recipes: the backbone and the component's options.
        cache: folder in which they are kept, half as precise as they are made.
        device: where providers of faces, speech and other inputs run.

    Raises:
        UsageError: where a run says nothing of its media, or an input cannot be made.
        AffectKitError: for recipes, weights or media that are not as they must be.
    """
    import torch

    from affectkit import plugins
    from affectkit.config import Recipe
    from affectkit.tables import part_name, read_info, read_records

    registry = plugins.load()
    found = Frames()
    for run in runs:
        info = read_info(run)
        recipe = Recipe.from_mapping(info["recipe"]).with_(fusion=None, head=None)
        plan: Plan | None = None
        records = read_records(run)
        if not records:
            raise UsageError(f"{run} holds no medium; give a run that is finished")
        for record in records:
            key = json.dumps(
                [recipe.with_(modalities=[component.id]).to_mapping(), record["stamp"], info.get("inputs"), about], sort_keys=True
            )
            stem = cache / f"{part_name(record['id'])}.{hashlib.sha256(key.encode()).hexdigest()[:12]}"
            if not _file(stem, "json").is_file():
                plan = plan or _plan(recipe, registry, component, device)
                with torch.inference_mode():
                    _keep(stem, _medium(_open(record, info.get("inputs", {})), plan, component, read))
            index = json.loads(_file(stem, "json").read_text(encoding="utf-8"))
            windows = [(str(run), record["id"], track, start, end) for track, start, end in index["windows"]]
            if windows:
                found.add(windows, np.array(index["counts"]), np.load(_file(stem, "npy"), mmap_mode="r"))
    return found


def _plan(recipe: Recipe, registry: Registry, component: Modality, device: torch.device) -> Plan:
    """What a component needs by a recipe, with its providers loaded.

    Raises:
        UsageError: where nothing makes one of its inputs; without it every window would be without evidence.
    """
    import torch

    from affectkit.assembly import plan_for

    plan = plan_for(recipe, registry, {component.id: component})
    for kind in (item.kind for item in component.needs.inputs):
        if not plan.providers.get(kind):
            reasons = "; ".join(plan.unavailable.get(kind, ())) or "no provider of it is chosen"
            raise UsageError(f"{component.id} learns from windows with {kind!r}, which nothing makes: {reasons}{OTHERWISE.get(kind, '')}")
    for provider in (provider for found in plan.providers.values() for provider in found):
        provider.load(device, torch.float32)
    return plan


def _open(record: Mapping[str, Any], inputs: Mapping[str, str]) -> Media:
    """A medium as its run read it."""
    from affectkit.media import open_media

    path, streams = Path(record["path"]), {name: int(inputs[name]) for name in ("video_stream", "audio_stream") if name in inputs}
    folder = {"fps": float(inputs["fps"]), "sound": inputs.get("sound")} if path.is_dir() and "fps" in inputs else {}
    return open_media(path, id=record["id"], **streams, **folder)  # type: ignore[arg-type]


def _medium(media: Media, plan: Plan, component: Modality, read: Read) -> list[tuple[Place, np.ndarray]]:
    """The windows of a medium that hold evidence, with their frames."""
    from affectkit.batching import collate
    from affectkit.clips import Clock
    from affectkit.reader import Reader

    problems: list[str] = []

    def report(stage: str, whose: str, error: Exception) -> None:
        if stage == "provide":
            problems.append(f"{whose}: {error}")

    out: list[tuple[Place, np.ndarray]] = []
    rows = (
        ((request.clip.track, request.clip.span.start, request.clip.span.end), tensors)
        for window in Reader(media, plan, Clock(), report).windows()
        for request in window.requests
        if (tensors := component.preprocess(request.clip)) is not None
    )
    while some := list(islice(rows, TOGETHER)):
        frames, mask = read(collate([tensors for _, tensors in some]))
        out += [(place, row[real].numpy().astype(np.float16)) for (place, _), row, real in zip(some, frames, mask, strict=True)]
    if problems:
        raise UsageError(f"{media.path}: {problems[0]}; nothing is learned from a medium whose inputs are not as the run had them")
    return out


def _file(stem: Path, kind: str) -> Path:
    return stem.with_name(f"{stem.name}.{kind}")


def _keep(stem: Path, made: Sequence[tuple[Place, np.ndarray]]) -> None:
    """Writes frames, and when they are there what they are of."""
    index = {"windows": [place for place, _ in made], "counts": [len(frames) for _, frames in made]}
    if made:
        with writing(_file(stem, "npy")) as file:
            np.save(file, np.concatenate([frames for _, frames in made]))
    with writing(_file(stem, "json")) as file:
        file.write(json.dumps(index).encode())
