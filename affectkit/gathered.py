"""What was read of the open windows of one medium, and the clips that are cut from it.

Crops, downscaled frames and sound are kept, never full frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from affectkit.buffers import FrameBuffer, SoundBuffer, is_silent
from affectkit.clips import Request, Subject
from affectkit.components import Modality
from affectkit.cues import words_within
from affectkit.evidence import Evidence
from affectkit.faces import EPS, FaceStore
from affectkit.faces import within as inside
from affectkit.media import Clip, Media, Span
from affectkit.needs import Input, Needs
from affectkit.planner import Plan, Where

Made = Mapping[tuple[Input, Where, int], Evidence]  # (input, where, track) to what a window- or face-scoped provider found


class Gathered:
    """What a reader has gathered, and has not forgotten.

    Args:
        media: what is read.
        plan: what the components need.

    Attributes:
        faces: crops of the faces.
        frames: whole frames, by what asks for them.
        counted: whole frames of media units, by component id.
        found: evidence of single frames with its time, by kind; faces are in ``faces``.
        sound: by rate.
        spoken: evidence of kinds that are made once per medium, as far as it is known.
        audible: whether anything but digital silence was heard.
    """

    def __init__(self, media: Media, plan: Plan) -> None:
        self.media = media
        self.plan = plan
        self.faces = FaceStore(plan.face_inputs, native_fps=media.fps)
        self.frames = {frames: FrameBuffer(frames.size) for frames in plan.frame_needs}
        self.counted = {name: FrameBuffer(need.size) for name, need in plan.counted_frames.items()}
        self.found: dict[str, list[tuple[float, Evidence]]] = {kind: [] for kind in plan.frame_kinds if kind != "faces"}
        self.sound = {rate: SoundBuffer(rate) for rate in plan.rates}
        self.spoken: dict[str, Evidence] = {}
        self.audible = False
        self._sent: set[tuple[str, int, float]] = set()

    def forget(self, before: float) -> None:
        """Drops what lies before a time in seconds."""
        before -= EPS
        self.faces.forget(before)
        for frames in self.frames.values():
            frames.forget(before)
        for sound in self.sound.values():
            sound.forget(before)
        for kind, items in self.found.items():
            self.found[kind] = [item for item in items if item[0] >= before]
        self._sent = {key for key in self._sent if key[2] >= before}

    def subjects(self, span: Span) -> tuple[Subject, ...]:
        """Who is analysed in a window, most present first."""
        found = self.faces.subjects(span)
        chosen = found if self.plan.recipe.subjects == "all" else found[:1]
        return tuple(Subject(track, presence, tuple(self.faces.place(span, track).tolist())) for track, presence in chosen)

    def pictures(self, name: str, modality: Modality, span: Span, track: int, index: int, made: Made) -> list[Request]:
        """One clip per picture of a frame unit that no earlier window has sent."""
        cut: list[tuple[float, dict[str, Evidence], np.ndarray | None]] = []
        faces = next((item for item in modality.needs.inputs if item.kind == "faces"), None)
        if faces is not None:
            cut = [(t, {"faces": evidence}, None) for t, evidence in self.faces.at(track, span, faces)]
        elif modality.needs.frames is not None:
            found = self.frames[modality.needs.frames].cut(span, modality.needs.frames, self.media.fps)
            cut = [] if found is None else [(float(t), {}, image[None]) for image, t in zip(*found, strict=True)]
        rest = Needs(inputs=tuple(item for item in modality.needs.inputs if item.kind != "faces"))
        requests = []
        for t, inputs, image in cut:
            if (name, track, t) not in self._sent:
                self._sent.add((name, track, t))
                clip = self.clip(rest, span, track, index, made)
                times = None if image is None else np.array([t])
                clip = replace(clip, span=Span(t, t), frames=image, frame_times=times, inputs={**clip.inputs, **inputs})
                requests.append(Request(name, track, t, clip))
        return requests

    def clip(self, needs: Needs, span: Span, track: int, index: int, made: Made) -> Clip:
        """What somebody needs of a span.

        Args:
            needs: what is cut.
            span: the window, or what is looked at for it.
            track: subject, or -1.
            index: of the window; -1 for the whole medium.
            made: what window- and face-scoped providers have found.
        """
        frames = times = audio = None
        audio_start = span.start
        if needs.frames is not None:
            found = self.frames[needs.frames].cut(span, needs.frames, self.media.fps)
            frames, times = found if found is not None else (None, None)
        if needs.audio is not None:
            cut = self.sound[needs.audio.rate].cut(span.start, span.end)
            if cut is not None and not is_silent(cut[0]):
                audio, audio_start = cut
        inputs = {item.kind: self._input(item, span, track, index, made) for item in needs.inputs}
        return Clip(self.media, span, track, frames, times, audio, audio_start, inputs)

    def missing(self, modality: Modality, span: Span, track: int, index: int, made: Made) -> str:
        """What a modality lacks in this window, in a few words; empty where it has everything."""
        needs = modality.needs
        if needs.audio is not None and modality.unit == "media":
            if not self.audible:
                return "no sound" if self.media.audio is None else "digital silence"
        elif needs.audio is not None:
            cut = self.sound[needs.audio.rate].cut(span.start, span.end)
            if cut is None:
                return "no sound" if self.media.audio is None else "no sound in this window"
            if is_silent(cut[0]):
                return "digital silence"
        if needs.frames is not None and self.media.kind == "audio":
            return "no picture"
        inputs = (self._input(item, span, track, index, made) for item in needs.inputs)
        return next((evidence.reason for evidence in inputs if not evidence.valid), "")

    def _input(self, item: Input, span: Span, track: int, index: int, made: Made) -> Evidence:
        kind = item.kind
        if kind == "faces":
            if track < 0:
                return Evidence.none("faces", "no picture" if self.media.kind == "audio" else "no face")
            return self.faces.evidence(span, track, item)
        if kind in self.found:
            found = self.found[kind]
            within = [found[i] for i in np.flatnonzero(inside(np.array([t for t, _ in found]), span))]
            if not any(evidence.valid for _, evidence in within):
                return Evidence.none(kind, within[0][1].reason if within else self.plan.reason(kind))
            return Evidence(kind, {"items": tuple(e for _, e in within)}, times=np.array([t for t, _ in within]))
        if kind in self.spoken:
            return words_within(self.spoken[kind], span)
        item, where = self.plan.as_made(item), self.plan.where(item, span, index)
        return made.get((item, where, track)) or made.get((item, where, -1)) or Evidence.none(kind, self.plan.reason(kind))
