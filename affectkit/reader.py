"""The reader: one medium, decoded once, as windows of clips.

Each stream is decoded once and forwards only. The reader keeps crops, downscaled frames and sound of the open windows,
never full frames, so its memory does not grow with the length of the medium.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from affectkit.buffers import FrameBuffer, Resampler, SoundBuffer, Ticker, downscale, is_silent, quietest, resample
from affectkit.clips import Clock, Request, Subject, Window
from affectkit.components import Evidence, Modality, Provider
from affectkit.cues import join, words_within
from affectkit.decoding import Sound, read_sound
from affectkit.errors import AffectKitError, MediaError, PluginError
from affectkit.faces import EPS, Detections, FaceStore, Tracker
from affectkit.faces import within as inside
from affectkit.film import Film, Look
from affectkit.media import Clip, Media, Span
from affectkit.needs import Input, Needs
from affectkit.planner import Plan

PIECE_SECONDS = 30.0  # longest piece of sound that a media-scoped provider or a media unit gets
LONGEST_GAP = 1.0  # seconds without samples inside a piece; a longer gap ends it, so that it is not filled with zeros
FACE_CHUNK = 8  # sampled frames that a detector sees in one call, at most; meanwhile the next are decoded
CHUNK_BYTES = 64 * 2**20  # of full frames that wait for a detector: eight at 1280 x 720 are 21 MiB, at 3840 x 2160 the third reaches it


Where = int | Span  # index of a window, or, of what is made from faces, the seconds that are looked at
Made = Mapping[tuple[Input, Where, int], Evidence]  # (input, where, track) to what a window- or face-scoped provider found


class Reader:
    """Reads one medium as :class:`Window` after :class:`Window`.

    Args:
        media: what is read.
        plan: what the components need.
        clock: where seconds per stage are added.
        report: called with (stage, component id or "", error) for every error that does not end the medium.

    Attributes:
        decodes: the streams that were decoded, ``"video"`` and ``"audio"``, once per pass over a stream.
        frame_times: seconds of every frame that was decoded, by its number: counted from 1, or as in the names of a folder of frames.
        end: time up to which something was read, in seconds.
    """

    def __init__(self, media: Media, plan: Plan, clock: Clock, report: Callable[[str, str, Exception], None]) -> None:
        self.media = media
        self.plan = plan
        self.clock = clock
        self.report = report
        self.decodes: list[str] = []
        self.frame_times: dict[int, float] = {}
        self.end = media.start
        self._broken = False
        self._faces = FaceStore(plan.face_inputs, native_fps=media.fps)
        self._tracker = Tracker()
        self._frames = {frames: FrameBuffer(frames.size) for frames in plan.frame_needs}
        self._kept = {name: FrameBuffer(need.size) for name, need in plan.counted_frames.items()}
        self._found: dict[str, list[tuple[float, Evidence]]] = {kind: [] for kind in plan.frame_kinds if kind != "faces"}
        self._sound = {rate: SoundBuffer(rate) for rate in plan.rates}
        self._resamplers = {rate: Resampler(plan.decode_rate, rate) for rate in plan.rates}
        self._spoken: dict[str, Evidence] = {}
        self._listeners: dict[str, Provider] = {}
        self._piece: list[Sound] = []
        self._audible = False
        self._outbox: list[Request] = []
        self._seen: set[tuple[str, int, float]] = set()
        self._waiting: list[tuple[float, np.ndarray]] = []
        self._held: Look | None = None
        self._film: Film | None = None
        self._video: Film | None = None  # the film, until it ends
        self._audio: Iterator[Sound] | None = None

    def windows(self) -> Iterator[Window]:
        """Windows in time order; a medium that breaks ends with the last window that something was read of."""
        self._open()
        try:
            yield from self._read()
        finally:
            if self._film is not None:
                self._film.close()

    def _read(self) -> Iterator[Window]:
        spans = self.plan.spans(self.media)
        group = self.plan.group_size
        for first in range(0, len(spans), group):
            batch = list(enumerate(spans[first : first + group], first))
            self._advance(max(self.plan.reach(span)[1] for _, span in batch))
            if self._broken and self._video is None and self._audio is None:
                batch = [(i, span) for i, span in batch if span.start <= self.end]
            yield from self._cut(batch)
            if first + group < len(spans):
                self._forget(self.plan.reach(spans[first + group])[0])
        while self._video is not None and self._skip_frame():  # what no window reaches is not looked at, but its frames count
            pass
        if spans:
            yield self._last_window(Span(spans[0].start, spans[-1].end))

    # the streams

    def _open(self) -> None:
        if self.plan.wants_pictures and self.media.kind != "audio":
            tickers = {what: Ticker(fps) for what, fps in self.plan.sampling(self.media).items()}
            self._video = self._film = Film(self.media, tickers, self.clock)
            self.decodes.append("video")
        for kind in self.plan.media_kinds:
            self._spoken[kind] = self._ask_once(kind)
        listening = bool(self._sound or self._listeners or self.plan.listening_units)
        if listening and self.media.audio is not None:
            self._audio = read_sound(self.media, self.plan.decode_rate)
            self.decodes.append("audio")

    def _ask_once(self, kind: str) -> Evidence:
        """Evidence of the first provider of a media-scoped kind that has any; one that listens gets the sound piece by piece."""
        whole = Span(self.media.start, self.media.start + self.media.duration)
        reasons = []
        for provider in self.plan.providers[kind]:
            if provider.needs.audio is not None:
                if self.media.audio is None:
                    reasons.append("no sound")
                    continue
                self._listeners[kind] = provider
                return Evidence(kind, {"words": (), "text": ""})
            found = self._call(provider, [Clip(self.media, whole, inputs=self._asked(provider, self._spoken))])[0]
            if found.valid:
                return found
            reasons.append(found.reason)
        return Evidence.none(kind, self._reason(kind, reasons))

    def _asked(self, provider: Provider, known: Mapping[str, Evidence]) -> dict[str, Evidence]:
        """The inputs that a provider asked for, of those that are known."""
        return {item.kind: known.get(item.kind, Evidence.none(item.kind, self._reason(item.kind))) for item in provider.needs.inputs}

    def _reason(self, kind: str, reasons: Sequence[str] = ()) -> str:
        return "; ".join(dict.fromkeys(filter(None, (*reasons, *self.plan.unavailable.get(kind, ()))))) or f"no {kind}"

    def _advance(self, to: float) -> None:
        """Reads both streams up to a time, or to their end where the time is that of the medium."""
        if to >= self.media.start + self.media.duration - 1e-6:
            to = np.inf
        while self._audio is not None and not self._heard(to):
            self._read_sound()
        while self._video is not None and self._read_frame(to):
            pass
        self._detect()

    def _heard(self, to: float) -> bool:
        waiting_pieces = self._listeners or self.plan.listening_units
        if waiting_pieces and not (self._piece and self._piece[0].start >= to):
            return False
        return min((buffer.end for buffer in self._sound.values()), default=np.inf) >= to

    def _read_sound(self) -> None:
        rate = self.plan.decode_rate
        with self.clock("decode"):
            sound = self._next(self._audio, "sound")
        if sound is None:
            self._audio = None
            for wanted, buffer in self._sound.items():
                buffer.pieces += self._resamplers[wanted].flush()
            self._listen(last=True)
            return
        self.end = max(self.end, sound.start + len(sound.samples) / rate)
        for wanted, buffer in self._sound.items():
            buffer.pieces += self._resamplers[wanted].push(sound)
        if self._listeners or self.plan.listening_units:
            if self._piece and sound.start - self._piece[-1].start - len(self._piece[-1].samples) / rate > LONGEST_GAP:
                self._listen(last=True)
            self._piece.append(sound)
            if sound.start + len(sound.samples) / rate - self._piece[0].start >= PIECE_SECONDS:
                self._listen(last=False)

    def _next(self, stream: Iterator | None, stage: str):  # type: ignore[no-untyped-def]
        """The next frame or piece of sound, ``None`` at the end of the stream; where it breaks the break is reported."""
        try:
            return next(stream, None) if stream is not None else None
        except MediaError as error:
            self.report(stage, "", error)
            self._broken = True
            return None

    def _listen(self, last: bool) -> None:
        """Hands the sound gathered so far to whoever listens to pieces, cut at its quietest place unless it is the last."""
        rate = self.plan.decode_rate
        gathered = SoundBuffer(rate, deque(self._piece))
        cut = gathered.cut(self._piece[0].start, gathered.end) if self._piece else None
        self._piece = []
        if cut is None:
            return
        samples, begin = cut
        if not last:
            keep = quietest(samples, rate)
            self._piece = [Sound(begin + keep / rate, samples[keep:])]
            samples = samples[:keep]
        if is_silent(samples):
            return
        self._audible = True
        span = Span(begin, begin + len(samples) / rate)
        for kind, provider in self._listeners.items():
            audio = resample(samples, rate, _rate(provider.needs))
            clip = Clip(self.media, span, audio=audio, audio_start=begin, inputs=self._asked(provider, self._spoken))
            found = self._call(provider, [clip])[0]
            self._spoken[kind] = join(self._spoken[kind], found)
        for name, modality in self.plan.listening_units.items():
            audio = resample(samples, rate, _rate(modality.needs))
            clip = self._clip(replace(modality.needs, frames=None, audio=None), span, -1, -1, {})
            self._outbox.append(Request(name, -1, begin, replace(clip, audio=audio, audio_start=begin)))

    def _read_frame(self, to: float) -> bool:
        """Takes one frame; false where the stream is at ``to`` or at its end."""
        frame = self._next_frame()
        if frame is None:
            return False
        if frame.time >= to:
            self._held = frame
            return False
        self.end = max(self.end, frame.time)
        image = frame.image
        if image is None:
            return True
        small: dict[int | None, np.ndarray] = {}
        for what in frame.due:
            if what == "detect":
                self._waiting.append((frame.time, image))
            elif isinstance(what, str):
                self._kept[what].add(frame.time, downscale(image, self._kept[what].size))
            else:
                small[what.size] = small[what.size] if what.size in small else downscale(image, what.size)
                self._frames[what].add(frame.time, small[what.size])
        if len(self._waiting) >= FACE_CHUNK or sum(image.nbytes for _, image in self._waiting) >= CHUNK_BYTES:
            self._detect()
        return True

    def _skip_frame(self) -> bool:
        """Takes one frame without looking at it; false at the end of the stream."""
        return self._next_frame() is not None

    def _next_frame(self) -> Look | None:
        """The frame that is held back, or the next one, whose time is noted; ``None`` at the end of the stream."""
        frame, self._held = self._held, None
        if frame is not None:
            return frame
        frame = self._next(self._video, "video")
        if frame is None:
            self._video = None
        else:
            self.frame_times[frame.index + (self.media.kind != "frames")] = frame.time
        return frame

    def _detect(self) -> None:
        """Shows the sampled frames to the frame-scoped providers, follows the faces and cuts their crops."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        clips = [Clip(self.media, Span(t, t), frames=image[None], frame_times=np.array([t])) for t, image in waiting]
        known: list[dict[str, Evidence]] = [{} for _ in clips]
        for kind in self.plan.frame_kinds:
            found = self._call_in_turn(kind, len(clips), lambda p, i: replace(clips[i], inputs=self._asked(p, known[i])))
            for inputs, evidence in zip(known, found, strict=True):
                inputs[kind] = evidence
            if kind != "faces":
                self._found[kind] += [(t, evidence) for (t, _), evidence in zip(waiting, found, strict=True)]
                continue
            with self.clock("track"):
                for (t, image), evidence in zip(waiting, found, strict=True):
                    detections = self._detections(evidence)
                    self._faces.add(t, image, detections, self._tracker.update(t, image, detections))

    def _detections(self, evidence: Evidence) -> Detections:
        """The boxes of a frame; those of a detector that gives malformed ones are reported and left out."""
        try:
            return Detections.from_evidence(evidence)
        except AffectKitError as error:
            self.report("provide", self.plan.providers["faces"][0].id, error)
            return Detections.empty()

    def _forget(self, before: float) -> None:
        before -= EPS
        self._faces.forget(before)
        for frames in self._frames.values():
            frames.forget(before)
        for sound in self._sound.values():
            sound.forget(before)
        for kind, items in self._found.items():
            self._found[kind] = [item for item in items if item[0] >= before]
        self._seen = {key for key in self._seen if key[2] >= before}

    # the providers

    def _call(self, provider: Provider, clips: Sequence[Clip]) -> Sequence[Evidence]:
        """Evidence of one provider; one that raises is reported, and has none."""
        try:
            with self.plan.locks[provider.id], self.clock(provider.id):
                found = list(provider.provide(clips))
            if len(found) != len(clips):
                raise PluginError(f"{provider.id} must return one Evidence per clip, found {len(found)} for {len(clips)} clips")
            if strange := [item for item in found if not isinstance(item, Evidence)]:
                raise PluginError(f"{provider.id} must return one Evidence per clip, found {type(strange[0]).__name__}")
        except Exception as error:  # a plugin may raise anything; the medium goes on without this input
            self.report("provide", provider.id, error)
            return [Evidence.none(provider.kind, f"{provider.id} failed") for _ in clips]
        return found

    def _call_in_turn(self, kind: str, count: int, clip: Callable[[Provider, int], Clip]) -> list[Evidence]:
        """For each of ``count`` clips, made as a provider needs it, the evidence of the first provider of the kind that has any."""
        found = [Evidence.none(kind, self._reason(kind)) for _ in range(count)]
        left = list(range(count))
        for provider in self.plan.providers[kind]:
            if left:
                for i, evidence in zip(left, self._call(provider, [clip(provider, i) for i in left]), strict=True):
                    found[i] = evidence
                left = [i for i in left if not found[i].valid]
        return found

    # the clips

    def _cut(self, batch: Sequence[tuple[int, Span]]) -> Iterator[Window]:
        subjects = {index: self._subjects(span) for index, span in batch}
        tracks = {index: tuple(subject.track for subject in found) for index, found in subjects.items()}
        made: dict[tuple[Input, Where, int], Evidence] = {}
        for item, context in self.plan.window_inputs:
            seen_by = [(self.plan.looked_at(context, span), index) for index, span in batch]
            keys = [(span, track, index) for span, index in seen_by for track in self._tracks(item.kind, tracks[index])]
            made |= self._provide(item, keys, made)
        for index, span in batch:
            requests, self._outbox = self._outbox, []
            reasons = {}
            for name, modality in self.plan.modalities.items():
                if modality.unit == "media":
                    continue
                seen = self.plan.looked_at(modality.context, span)
                for track in self._tracks(name, tracks[index]):
                    if modality.unit == "frame":
                        requests += self._pictures(name, modality, span, track, index, made)
                    else:
                        requests.append(Request(name, track, index, self._clip(modality.needs, seen, track, index, made)))
                    reasons[name] = self._missing(modality, seen, track, index, made)
            yield Window(index, span, subjects[index], tuple(requests), {k: v for k, v in reasons.items() if v})

    def _provide(self, item: Input, keys: Sequence[tuple[Span, int, int]], made: Made) -> Made:
        """What window- or face-scoped providers find for each span, track and window index."""
        found = self._call_in_turn(item.kind, len(keys), lambda p, i: self._clip(self.plan.needs_of(p, item), *keys[i], made))
        return {(item, self._where(item, span, index), track): evidence for (span, track, index), evidence in zip(keys, found, strict=True)}

    def _where(self, item: Input, span: Span, index: int) -> Where:
        return span if item.kind in self.plan.bound else index

    def _last_window(self, whole: Span) -> Window:
        """After the grid, index -1: what the media units see of the whole medium."""
        requests, self._outbox = self._outbox, []
        reasons = {}
        for name, modality in self.plan.modalities.items():
            if modality.unit != "media":
                continue
            if name in self._kept:
                cut = self._kept[name].cut(Span(whole.start, np.inf), self.plan.counted_frames[name], self.media.fps)
                clip = self._clip(replace(modality.needs, frames=None, audio=None), whole, -1, -1, {})
                if cut is not None:
                    requests.append(Request(name, -1, -1, replace(clip, frames=cut[0], frame_times=cut[1])))
            elif modality.needs.audio is None:
                requests.append(Request(name, -1, -1, self._clip(modality.needs, whole, -1, -1, {})))
            reasons[name] = self._missing(modality, whole, -1, -1, {})
        return Window(-1, whole, (), tuple(requests), {k: v for k, v in reasons.items() if v})

    def _subjects(self, span: Span) -> tuple[Subject, ...]:
        found = self._faces.subjects(span)
        chosen = found if self.plan.recipe.subjects == "all" else found[:1]
        return tuple(Subject(track, presence, tuple(self._faces.place(span, track).tolist())) for track, presence in chosen)

    def _tracks(self, name: str, tracks: tuple[int, ...]) -> tuple[int, ...]:
        return (tracks or (-1,)) if name in self.plan.bound else (-1,)

    def _pictures(self, name: str, modality: Modality, span: Span, track: int, index: int, made: Made) -> list[Request]:
        """One clip per picture of a frame unit that no earlier window has sent."""
        cut: list[tuple[float, dict[str, Evidence], np.ndarray | None]] = []
        faces = next((item for item in modality.needs.inputs if item.kind == "faces"), None)
        if faces is not None:
            cut = [(t, {"faces": evidence}, None) for t, evidence in self._faces.at(track, span, faces)]
        elif modality.needs.frames is not None:
            found = self._frames[modality.needs.frames].cut(span, modality.needs.frames, self.media.fps)
            cut = [] if found is None else [(float(t), {}, image[None]) for image, t in zip(*found, strict=True)]
        rest = Needs(inputs=tuple(item for item in modality.needs.inputs if item.kind != "faces"))
        requests = []
        for t, inputs, image in cut:
            if (name, track, t) not in self._seen:
                self._seen.add((name, track, t))
                clip = self._clip(rest, span, track, index, made)
                times = None if image is None else np.array([t])
                clip = replace(clip, span=Span(t, t), frames=image, frame_times=times, inputs={**clip.inputs, **inputs})
                requests.append(Request(name, track, t, clip))
        return requests

    def _clip(self, needs: Needs, span: Span, track: int, index: int, made: Made) -> Clip:
        frames = times = audio = None
        audio_start = span.start
        if needs.frames is not None:
            found = self._frames[needs.frames].cut(span, needs.frames, self.media.fps)
            frames, times = found if found is not None else (None, None)
        if needs.audio is not None:
            cut = self._sound[needs.audio.rate].cut(span.start, span.end)
            if cut is not None and not is_silent(cut[0]):
                audio, audio_start = cut
        inputs = {item.kind: self._input(item, span, track, index, made) for item in needs.inputs}
        return Clip(self.media, span, track, frames, times, audio, audio_start, inputs)

    def _input(self, item: Input, span: Span, track: int, index: int, made: Made) -> Evidence:
        kind = item.kind
        if kind == "faces":
            if track < 0:
                return Evidence.none("faces", "no picture" if self.media.kind == "audio" else "no face")
            return self._faces.evidence(span, track, item)
        if kind in self._found:
            found = self._found[kind]
            within = [found[i] for i in np.flatnonzero(inside(np.array([t for t, _ in found]), span))]
            if not any(evidence.valid for _, evidence in within):
                return Evidence.none(kind, within[0][1].reason if within else self._reason(kind))
            return Evidence(kind, {"items": tuple(e for _, e in within)}, times=np.array([t for t, _ in within]))
        if kind in self._spoken:
            return words_within(self._spoken[kind], span)
        item, where = self.plan.as_made(item), self._where(item, span, index)
        return made.get((item, where, track)) or made.get((item, where, -1)) or Evidence.none(kind, self._reason(kind))

    def _missing(self, modality: Modality, span: Span, track: int, index: int, made: Made) -> str:
        """What a modality lacks in this window, in a few words; empty where it has everything."""
        needs = modality.needs
        if needs.audio is not None and modality.unit == "media":
            if not self._audible:
                return "no sound" if self.media.audio is None else "digital silence"
        elif needs.audio is not None:
            cut = self._sound[needs.audio.rate].cut(span.start, span.end)
            if cut is None:
                return "no sound" if self.media.audio is None else "no sound in this window"
            if is_silent(cut[0]):
                return "digital silence"
        if needs.frames is not None and self.media.kind == "audio":
            return "no picture"
        inputs = (self._input(item, span, track, index, made) for item in needs.inputs)
        return next((evidence.reason for evidence in inputs if not evidence.valid), "")


def _rate(needs: Needs) -> int:
    return needs.audio.rate if needs.audio is not None else 0
