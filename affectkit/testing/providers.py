"""Checks of providers: one evidence per clip, well formed, with a reason where there is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.components import Provider
from affectkit.detections import Detections
from affectkit.errors import PluginError
from affectkit.evidence import Evidence, Word
from affectkit.media import Clip, Media, Span
from affectkit.needs import Input, Needs
from affectkit.testing import examples, surroundings
from affectkit.testing.subjects import ContractError, Subject, Unchecked, difference, doing

if TYPE_CHECKING:
    from affectkit.plugins import Registry

ALONE = 1e-4  # by which evidence may differ from that of the clip alone
LATE = 0.5  # seconds by which a word may reach over the edge of its clip
SMALL = 4.0  # square pixels; a smaller box is not one of a face
PICTURES = ((240, 320), (320, 240), (150, 200), (48, 64))  # height, width of frames in pixels


class ProviderSubject(Subject):
    """A provider under test; it is given clips of its scope."""

    kind = "provider"
    circle: tuple[str, ...] = ()

    def make_given(self) -> list[Clip]:
        if self.examples is not None:
            return list(self.example())
        provider = self.make()
        if provider.scope == "frame":
            return [_frame(number, size, self._inputs(provider, number)) for number, size in enumerate(PICTURES)]
        if provider.scope == "face":
            return examples.clips(provider.needs, inputs=self._third_party)
        found = examples.write_media(self.folder)
        if provider.scope == "window":
            made = examples.clips(provider.needs, inputs=self._third_party)
            return [_moved(clip, found[number % 2], number) for number, clip in enumerate(made)]
        return [self._whole(provider, medium, number) for number, medium in enumerate(found)]

    def _inputs(self, provider: Provider, number: int) -> dict[str, Evidence]:
        clip = Clip(examples.media(number), Span(0.0, 0.0))
        return {item.kind: self._third_party(item, clip, number) for item in provider.needs.inputs}

    def _whole(self, provider: Provider, medium: Media, number: int) -> Clip:
        """A medium as a whole, or a piece of its sound, which need not begin where the medium does."""
        made = examples.clips(replace(provider.needs, frames=None), inputs=self._third_party)[number]
        start, length = medium.start, medium.duration
        if provider.needs.audio is None:
            return replace(made, media=medium, span=Span(start, start + length))
        start, length = start + 0.5 * number * length, length * (1 - 0.5 * number)
        sound = examples.voice(length, provider.needs.audio.rate, number)
        return replace(made, media=medium, span=Span(start, start + length), audio=sound, audio_start=start)

    def _third_party(self, item: Input, clip: Clip, number: int) -> Evidence:
        return provided(self.registry, item, clip, number, (*self.circle, self.make().kind))

    def ask(self, component: Provider, given: Sequence[Clip]) -> list[Evidence]:
        with doing("provide"):
            found = component.provide(given)
        return self.evidences(found)

    def evidences(self, found: object) -> list[Evidence]:
        """What provide returned, refused where it is something else than evidences."""
        if not isinstance(found, Sequence) or not all(isinstance(item, Evidence) for item in found):
            kinds = sorted({type(item).__name__ for item in found}) if isinstance(found, Sequence) else type(found).__name__
            raise ContractError(f"provide must return a list of Evidence, found {kinds}")
        return list(found)


def provided(registry: Registry, item: Input, clip: Clip, number: int, circle: tuple[str, ...] = ()) -> Evidence:
    """Evidence of a kind that a plugin makes, by the first installed provider of it that finds any.

    Raises:
        Unchecked: where none does.
    """
    offers = [entry for entry in registry.entries("provider") if getattr(entry.cls, "kind", None) == item.kind]
    if item.kind in circle:
        offers = []
    for entry in offers:
        subject = ProviderSubject(entry.cls, id=entry.id, registry=registry)
        subject.circle = circle
        try:
            valid = [evidence for evidence in subject.answer if evidence.valid]
            scope = subject.loaded.scope
        except (Unchecked, ContractError):
            continue
        if valid and scope == "frame":
            times = np.array([clip.span.start])
            return Evidence(item.kind, {"items": (valid[number % len(valid)],)}, times=times)
        if valid:
            return valid[number % len(valid)]
    asked = ", ".join(entry.id for entry in offers) or "no provider of it is installed"
    raise Unchecked(
        f"it needs the input {item.kind!r}, which cannot be made here ({asked}); "
        "give clips that carry it: a static method examples() of the class, or of its test class, that returns them"
    )


def _frame(number: int, size: tuple[int, int], inputs: Mapping[str, Evidence]) -> Clip:
    time = 0.2 * number
    image = examples.picture(size, number, time)
    medium = replace(examples.media(number), size=size)
    return Clip(medium, Span(time, time), frames=image[None], frame_times=np.array([time]), inputs=inputs)


def _moved(clip: Clip, medium: Media, number: int) -> Clip:
    """A clip as a window of another medium."""
    start = medium.start + 0.5 * (number // 2)
    return replace(clip, media=medium, span=Span(start, start + 1.0), audio_start=start)


def one_evidence_per_clip(subject: ProviderSubject) -> None:
    """It returns one evidence per clip, of the kind that it declares."""
    found, kind = subject.answer, subject.loaded.kind
    if len(found) != len(subject.given):
        raise ContractError(f"provide returned {len(found)} evidences for {len(subject.given)} clips; return one per clip, in order")
    strange = sorted({evidence.kind for evidence in found if evidence.kind != kind})
    if strange:
        raise ContractError(f"it declares the kind {kind!r} and returned evidence of the kind {', '.join(map(repr, strange))}")
    with surroundings.kept(), doing("provide of no clips at all", "return an empty list"):
        none = subject.loaded.provide([])
    if len(none):
        raise ContractError(f"provide returned {len(none)} evidences for no clips; return an empty list")


def clips_independent(subject: ProviderSubject) -> None:
    """A clip gives the same evidence alone and beside others, in any order."""
    component, clips = subject.loaded, subject.given
    count = len(clips)
    with surroundings.kept():
        alone = [subject.ask(component, [clip]) for clip in clips]
        for batch in (list(range(count)), list(range(count))[::-1], [*range(count), *range(count)]):
            together = subject.ask(component, [clips[i] for i in batch])
            for place, (i, evidence) in enumerate(zip(batch, together, strict=False)):
                if found := difference(alone[i], [evidence], ALONE):
                    raise ContractError(
                        f"clip {i + 1} gives other evidence alone and in place {place + 1} of {len(batch)}: {found}; "
                        "keep the order of the clips, and use nothing of the others"
                    )


def well_formed(subject: ProviderSubject) -> None:
    """What it finds has the fields, shapes and ranges of its kind."""
    valid = [(clip, evidence) for clip, evidence in zip(subject.given, subject.answer, strict=False) if evidence.valid]
    if not valid:
        reasons = "; ".join(dict.fromkeys(evidence.reason for evidence in subject.answer))
        raise Unchecked(
            f"it found nothing in the clips that were made for it ({reasons}); "
            "give clips in which it does: a static method examples() of the class, or of its test class, that returns them"
        )
    for clip, evidence in valid:
        _check(clip, evidence, subject.loaded)


def _check(clip: Clip, evidence: Evidence, provider: Provider) -> None:
    if not isinstance(evidence.data, Mapping) or not evidence.data:
        raise ContractError("evidence is valid and holds no data; return Evidence.none(kind, reason) where there is nothing")
    for name, value in evidence.quality.items():
        if not isinstance(value, int | float) or not np.isfinite(value):
            raise ContractError(f"quality {name!r} must be a finite number, found {value!r}")
    if evidence.times is not None and not np.isfinite(np.asarray(evidence.times, dtype=np.float64)).all():
        raise ContractError("times of evidence must be finite seconds")
    if evidence.kind == "faces" and provider.scope == "frame":
        _check_faces(clip, evidence)
    if evidence.kind in ("transcript", "description") and not str(evidence.data.get("text") or "").strip():
        raise ContractError(f"evidence of a {evidence.kind} is valid and has no text; return Evidence.none({evidence.kind!r}, reason)")
    if evidence.kind in ("transcript", "description") and not isinstance(evidence.data["text"], str):
        raise ContractError(f"the text of a {evidence.kind} must be a str, found a {type(evidence.data['text']).__name__}")
    if evidence.kind == "transcript":
        _check_words(clip, evidence)


def _check_faces(clip: Clip, evidence: Evidence) -> None:
    try:
        found = Detections.from_evidence(evidence)
    except PluginError as error:
        raise ContractError(str(error)) from error
    if not len(found):
        raise ContractError("evidence of faces is valid and holds none; return Evidence.none('faces', 'no face')")
    if clip.frames is None:
        return
    height, width = clip.frames.shape[1:3]
    if found.area.min() < SMALL:
        raise ContractError(f"a box of {found.area.min():.2g} square pixels is no face; boxes are in pixels of the frame, not shares of it")
    outside = (found.boxes[:, :2] >= [width, height]).any(axis=1) | (found.boxes[:, 2:] <= 0).any(axis=1)
    if outside.any():
        raise ContractError(
            f"the box {found.boxes[outside][0].tolist()} lies outside its picture of {width} x {height} pixels; "
            "boxes are x0, y0, x1, y1 in pixels of the frame as it was given"
        )


def _check_words(clip: Clip, evidence: Evidence) -> None:
    words = evidence.data.get("words")
    if not isinstance(words, Sequence) or not all(isinstance(word, Word) for word in words):
        raise ContractError("a transcript needs 'words', a sequence of affectkit.api.Word with their times in seconds of the medium")
    for word in words:
        if not (np.isfinite([word.start, word.end]).all() and word.start <= word.end):
            raise ContractError(f"the word {word.text!r} begins at {word.start} and ends at {word.end} seconds; begin before the end")
        if word.start < clip.span.start - LATE or word.end > clip.span.end + LATE:
            raise ContractError(
                f"the word {word.text!r} from {word.start:.2f} to {word.end:.2f} s lies outside its clip, "
                f"{clip.span.start:.2f} to {clip.span.end:.2f} s; times are seconds of the medium, so add clip.audio_start or clip.span.start"
            )


def reason_given(subject: ProviderSubject) -> None:
    """Where there is no evidence it says why, in a few words."""
    component = subject.loaded
    bare = [clip for first in subject.given[:2] for _, clip in _poor(first, component)]
    with surroundings.kept():
        found = [*subject.answer, *(evidence for clip in bare for evidence in subject.ask(component, [clip]))]
    if any(not evidence.valid and not evidence.reason.strip() for evidence in found):
        raise ContractError(
            "evidence is not valid and gives no reason; write Evidence.none(kind, 'no face'), which users read in the tables"
        )


def poor_clips(subject: ProviderSubject) -> None:
    """Empty, black, silent and tiny clips give evidence or none, and no error."""
    _ = subject.answer
    component = subject.loaded
    for first in subject.given[:2]:
        for what, clip in _poor(first, component):
            with surroundings.kept(), doing(f"provide of a clip with {what}", "return Evidence.none(kind, reason) where there is nothing"):
                found = component.provide([clip])
            for evidence in subject.evidences(found):
                if evidence.valid:
                    _check(clip, evidence, component)


def _poor(clip: Clip, provider: Provider) -> Iterator[tuple[str, Clip]]:
    """Clips in which there is little or nothing to find, each with what it holds."""
    if clip.frames is not None and len(clip.frames) == 1:
        pictures = {
            "a black picture": np.zeros((60, 80, 3), np.uint8),
            "a white picture": np.full((60, 80, 3), 255, np.uint8),
            "a picture of one pixel": np.full((1, 1, 3), 90, np.uint8),
            "a picture that is one long line": np.full((2, 700, 3), 120, np.uint8),
        }
        for what, image in pictures.items():
            yield what, replace(clip, frames=image[None])
    if clip.audio is not None:
        yield "sound that is nothing but zeros", replace(clip, audio=np.zeros_like(clip.audio))
        yield "ten samples of sound", replace(clip, audio=clip.audio[:10], span=Span(clip.span.start, clip.span.start + 0.001))
    if provider.scope in ("window", "face") or clip.inputs:  # a frame always holds a picture, a piece of sound always sound
        pictured, heard = provider.scope == "frame", provider.scope == "media"
        nothing = {kind: Evidence.none(kind, f"no {kind}") for kind in clip.inputs}
        bare = replace(clip, inputs=nothing)
        bare = bare if pictured else replace(bare, frames=None, frame_times=None)
        yield "nothing in it", bare if heard else replace(bare, audio=None)
    missing = clip.media.path.with_name("not-there.mp4")
    if provider.needs != Needs():  # one without needs reads the file itself, which is there
        yield "a medium that has nothing beside it", replace(clip, media=replace(clip.media, path=missing))


def files_named(subject: ProviderSubject) -> None:
    """The files that its evidence comes from, beside the medium, are named as paths."""
    for clip in subject.given:
        with surroundings.kept(), doing("files(media)", "return a list of paths, empty where there are none"):
            found: Any = subject.loaded.files(clip.media)
            paths = list(found)
        if not all(isinstance(path, Path) for path in paths):
            raise ContractError(f"files(media) must return paths (pathlib.Path), found {sorted({type(path).__name__ for path in paths})}")
