"""The reader: one medium, decoded once, as windows of clips.

Each stream is decoded once and forwards only. The reader keeps crops, downscaled frames and sound of the open windows,
never full frames, so its memory does not grow with the length of the medium.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from affectkit.buffers import Resampler, SoundBuffer, Ticker, downscale, is_silent, quietest, resample
from affectkit.clips import Clock, Request, Window
from affectkit.components import Provider
from affectkit.cues import join
from affectkit.decoding import Sound, read_sound
from affectkit.errors import AffectKitError, MediaError, PluginError
from affectkit.evidence import Evidence
from affectkit.faces import Detections, Tracker
from affectkit.film import Film, Look
from affectkit.gathered import Gathered, Made
from affectkit.media import Clip, Media, Span
from affectkit.needs import Input, Needs
from affectkit.planner import Plan, Where

PIECE_SECONDS = 30.0  # longest piece of sound that a media-scoped provider or a media unit gets
LONGEST_GAP = 1.0  # seconds without samples inside a piece; a longer gap ends it, so that it is not filled with zeros
FACE_CHUNK = 8  # sampled frames that a detector sees in one call, at most; meanwhile the next are decoded
CHUNK_BYTES = 64 * 2**20  # of full frames that wait for a detector: eight at 1280 x 720 are 21 MiB, at 3840 x 2160 the third reaches it


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
        self._gathered = Gathered(media, plan)
        self._tracker = Tracker()
        self._resamplers = {rate: Resampler(plan.decode_rate, rate) for rate in plan.rates}
        self._listeners: dict[str, Provider] = {}
        self._piece: list[Sound] = []
        self._outbox: list[Request] = []
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
                self._gathered.forget(self.plan.reach(spans[first + group])[0])
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
            self._gathered.spoken[kind] = self._ask_once(kind)
        listening = bool(self._gathered.sound or self._listeners or self.plan.listening_units)
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
            found = self._call(provider, [Clip(self.media, whole, inputs=self._asked(provider, self._gathered.spoken))])[0]
            if found.valid:
                return found
            reasons.append(found.reason)
        return Evidence.none(kind, self.plan.reason(kind, reasons))

    def _asked(self, provider: Provider, known: Mapping[str, Evidence]) -> dict[str, Evidence]:
        """The inputs that a provider asked for, of those that are known."""
        return {item.kind: known.get(item.kind, Evidence.none(item.kind, self.plan.reason(item.kind))) for item in provider.needs.inputs}

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
        return min((buffer.end for buffer in self._gathered.sound.values()), default=np.inf) >= to

    def _read_sound(self) -> None:
        rate = self.plan.decode_rate
        with self.clock("decode"):
            sound = self._next(self._audio, "sound")
        if sound is None:
            self._audio = None
            for wanted, buffer in self._gathered.sound.items():
                buffer.pieces += self._resamplers[wanted].flush()
            self._listen(last=True)
            return
        self.end = max(self.end, sound.start + len(sound.samples) / rate)
        for wanted, buffer in self._gathered.sound.items():
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
        self._gathered.audible = True
        span = Span(begin, begin + len(samples) / rate)
        for kind, provider in self._listeners.items():
            audio = resample(samples, rate, _rate(provider.needs))
            clip = Clip(self.media, span, audio=audio, audio_start=begin, inputs=self._asked(provider, self._gathered.spoken))
            found = self._call(provider, [clip])[0]
            self._gathered.spoken[kind] = join(self._gathered.spoken[kind], found)
        for name, modality in self.plan.listening_units.items():
            audio = resample(samples, rate, _rate(modality.needs))
            clip = self._gathered.clip(replace(modality.needs, frames=None, audio=None), span, -1, -1, {})
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
                self._gathered.counted[what].add(frame.time, downscale(image, self._gathered.counted[what].size))
            else:
                small[what.size] = small[what.size] if what.size in small else downscale(image, what.size)
                self._gathered.frames[what].add(frame.time, small[what.size])
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
                self._gathered.found[kind] += [(t, evidence) for (t, _), evidence in zip(waiting, found, strict=True)]
                continue
            with self.clock("track"):
                for (t, image), evidence in zip(waiting, found, strict=True):
                    detections = self._detections(evidence)
                    self._gathered.faces.add(t, image, detections, self._tracker.update(t, image, detections))

    def _detections(self, evidence: Evidence) -> Detections:
        """The boxes of a frame; those of a detector that gives malformed ones are reported and left out."""
        try:
            return Detections.from_evidence(evidence)
        except AffectKitError as error:
            self.report("provide", self.plan.providers["faces"][0].id, error)
            return Detections.empty()

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
        found = [Evidence.none(kind, self.plan.reason(kind)) for _ in range(count)]
        left = list(range(count))
        for provider in self.plan.providers[kind]:
            if left:
                for i, evidence in zip(left, self._call(provider, [clip(provider, i) for i in left]), strict=True):
                    found[i] = evidence
                left = [i for i in left if not found[i].valid]
        return found

    # the clips

    def _cut(self, batch: Sequence[tuple[int, Span]]) -> Iterator[Window]:
        subjects = {index: self._gathered.subjects(span) for index, span in batch}
        tracks = {index: tuple(subject.track for subject in found) for index, found in subjects.items()}
        made: dict[tuple[Input, Where, int], Evidence] = {}
        for item, context in self.plan.window_inputs:
            seen_by = [(self.plan.looked_at(context, span), index) for index, span in batch]
            keys = [(span, track, index) for span, index in seen_by for track in self.plan.tracks(item.kind, tracks[index])]
            made |= self._provide(item, keys, made)
        for index, span in batch:
            requests, self._outbox = self._outbox, []
            reasons = {}
            for name, modality in self.plan.modalities.items():
                if modality.unit == "media":
                    continue
                seen = self.plan.looked_at(modality.context, span)
                for track in self.plan.tracks(name, tracks[index]):
                    if modality.unit == "frame":
                        requests += self._gathered.pictures(name, modality, span, track, index, made)
                    else:
                        requests.append(Request(name, track, index, self._gathered.clip(modality.needs, seen, track, index, made)))
                    reasons[name] = self._gathered.missing(modality, seen, track, index, made)
            yield Window(index, span, subjects[index], tuple(requests), {k: v for k, v in reasons.items() if v})

    def _provide(self, item: Input, keys: Sequence[tuple[Span, int, int]], made: Made) -> Made:
        """What window- or face-scoped providers find for each span, track and window index."""
        found = self._call_in_turn(item.kind, len(keys), lambda p, i: self._gathered.clip(self.plan.needs_of(p, item), *keys[i], made))
        return {
            (item, self.plan.where(item, span, index), track): evidence for (span, track, index), evidence in zip(keys, found, strict=True)
        }

    def _last_window(self, whole: Span) -> Window:
        """After the grid, index -1: what the media units see of the whole medium."""
        requests, self._outbox = self._outbox, []
        reasons = {}
        for name, modality in self.plan.modalities.items():
            if modality.unit != "media":
                continue
            if name in self._gathered.counted:
                cut = self._gathered.counted[name].cut(Span(whole.start, np.inf), self.plan.counted_frames[name], self.media.fps)
                clip = self._gathered.clip(replace(modality.needs, frames=None, audio=None), whole, -1, -1, {})
                if cut is not None:
                    requests.append(Request(name, -1, -1, replace(clip, frames=cut[0], frame_times=cut[1])))
            elif modality.needs.audio is None:
                requests.append(Request(name, -1, -1, self._gathered.clip(modality.needs, whole, -1, -1, {})))
            reasons[name] = self._gathered.missing(modality, whole, -1, -1, {})
        return Window(-1, whole, (), tuple(requests), {k: v for k, v in reasons.items() if v})


def _rate(needs: Needs) -> int:
    return needs.audio.rate if needs.audio is not None else 0
