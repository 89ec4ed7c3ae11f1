"""Items of a data set as the clips that a modality sees: every frame is taken for the square of a face. T is pictures, S their size; times are seconds."""

from __future__ import annotations

import numpy as np

from affectkit.clip_reading import Cache, ClipReader, Frames
from affectkit.components import Modality
from affectkit.datasets.items import Item
from affectkit.errors import AffectKitError, MediaError, PluginError, UsageError
from affectkit.evidence import Evidence
from affectkit.faces import pick
from affectkit.media import Clip, Media, Span, open_media
from affectkit.needs import Input
from affectkit.pictures import PICTURE_SUFFIXES
from affectkit.planner import Plan


def check_modality(modality: Modality, plan: Plan | None = None) -> tuple[str, ...]:
    """What a modality will be without on faces alone, as notes.

    Args:
        modality: what is to be scored.
        plan: has the providers of what is made from faces.

    Raises:
        UsageError: where it does not look at faces.
    """
    needs = modality.needs
    if not any(item.kind == "faces" for item in needs.inputs):
        raise UsageError(f"{modality.id} does not look at faces, and the clips of a data set are faces; score a run with --labels instead")
    absent = ["whole frames"] * (needs.frames is not None) + ["sound"] * (needs.audio is not None)
    absent += [item.kind for item in needs.inputs if item.kind != "faces" and not _makes(plan, item.kind, modality)]
    more = "" if plan is not None else "; a recipe with providers of what is made from faces, --recipe, gives that"
    return (f"{modality.id} also reads {', '.join(absent)}, which it goes without here{more}",) if absent else ()


class Cutter:
    """Cuts the clips of items: one each or, for a modality of single pictures, one per picture. Called from several threads.

    Args:
        modality: says which of the faces it wants.
        plan: has the providers, loaded, of what is made from faces; other inputs are without evidence.
    """

    def __init__(self, modality: Modality, plan: Plan | None = None) -> None:
        self.modality, self.plan = modality, plan
        self.wanted = next(item for item in modality.needs.inputs if item.kind == "faces")
        self.reader = ClipReader(Cache(memory=0.0))

    def __call__(self, item: Item) -> list[Clip]:
        """The clips of an item.

        Raises:
            MediaError: where it cannot be read.
            PluginError: where a provider raises.
        """
        film = _Film(item, self.reader, self.wanted)
        if self.modality.unit != "frame":
            return [
                Clip(film.media, film.span, track=0, inputs={need.kind: self._input(film, need) for need in self.modality.needs.inputs})
            ]
        faces = film.faces(self.wanted)
        clips = []
        for number, time in enumerate(faces.times if faces.times is not None else ()):
            crops = faces.data["crops"][number : number + 1]
            inputs = {need.kind: Evidence.none(need.kind, "of a single picture only faces are read") for need in self.modality.needs.inputs}
            inputs["faces"] = _faces(crops, np.array([time]))
            clips.append(Clip(film.media, Span(float(time), float(time)), track=0, inputs=inputs))
        return clips

    def _input(self, film: _Film, wanted: Input) -> Evidence:
        """One input of the modality, or of a provider."""
        if wanted.kind == "faces":
            return film.faces(wanted)
        reason = "only faces are read"
        if self.plan is not None and _makes(self.plan, wanted.kind, self.modality):
            for provider in self.plan.providers[wanted.kind]:
                inputs = {need.kind: self._input(film, need) for need in self.plan.needs_of(provider, wanted).inputs}
                try:
                    with self.plan.locks[provider.id]:
                        (found,) = provider.provide([Clip(film.media, film.span, track=0, inputs=inputs)])
                except AffectKitError:
                    raise
                except Exception as error:  # a plugin may raise anything
                    raise PluginError(f"{provider.id} raised {type(error).__name__} for {film.media.id}: {error}") from error
                if found.valid:
                    return found
                reason = found.reason
        return Evidence.none(wanted.kind, reason)


def _makes(plan: Plan | None, kind: str, modality: Modality) -> bool:
    """Whether a plan makes a kind of input from faces."""
    return plan is not None and modality.unit != "frame" and kind in plan.bound and kind in plan.window_kinds


class _Film:
    """The frames of an item, with their times."""

    def __init__(self, item: Item, reader: ClipReader, wanted: Input) -> None:
        self.item, self.reader = item, reader
        self._opened: dict[int, Frames] = {}
        frames = len(self._frames(wanted))
        self.media = _media(item, frames)
        fps = self.media.fps or 1.0
        begin = 0.0 if item.frames is None else (item.frames[0] - 1) / fps
        self.times = begin + np.arange(frames) / fps
        self.span = Span(begin, begin + self.media.duration)

    def faces(self, wanted: Input) -> Evidence:
        """The faces that are asked for, (T, S, S, 3)."""
        chosen = pick(self.times, self.span, wanted, self.media.fps)
        return _faces(self._frames(wanted).take(chosen), self.times[chosen])

    def _frames(self, wanted: Input) -> Frames:
        """The frames at one size; a video is decoded once."""
        size = wanted.size or 1
        if size not in self._opened:
            self._opened[size] = self.reader.open(self.item, size)
        return self._opened[size]


def _faces(crops: np.ndarray, times: np.ndarray) -> Evidence:
    """Crops (T, S, S, 3) as the evidence that a detector gives, which found the whole picture."""
    size = crops.shape[1]
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
