"""What is settled before the first frame: the grid of windows, and what all components together need. Times are seconds."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from affectkit.components import Modality, Provider, Scope
from affectkit.config import FACES_FPS, Recipe, Windows
from affectkit.errors import AffectKitError, ConfigError, PluginError, raise_all
from affectkit.media import Media, Span
from affectkit.needs import Frames, Input, Needs, Sampling

Where = int | Span  # index of a window, or, of what is made from faces, the seconds that are looked at

PRE_ROLL = 0.2  # seconds; an AAC encoder puts 1024 to 2112 samples before the sound, at most 0.13 s at 16 kHz


def windows(duration: float, length: float = 4.0, step: float = 2.0, min_tail: float = 1.0) -> list[Span]:
    """The windows over a medium, in time order.

    A medium no longer than one window is one window, however short it is. Otherwise windows begin at 0, ``step``,
    2 ``step``, ... until one reaches the end; the last one is cut there, and left out where it is shorter than ``min_tail``.

    Args:
        duration: seconds from the start of the medium to its end; 0 for an image, which is one window without length.
        length: length of a window in seconds.
        step: seconds from the start of one window to the start of the next.
        min_tail: a last window that is shorter than this many seconds is left out.

    Raises:
        ConfigError: for a duration, length, step or min_tail that cannot be.

    >>> [(span.start, span.end) for span in windows(7.5)]
    [(0.0, 4.0), (2.0, 6.0), (4.0, 7.5)]
    """
    if not (math.isfinite(duration) and duration >= 0):
        raise ConfigError(f"windows need a duration in seconds, 0 or more, found {duration}")
    grid = Windows(length, step, min_tail)
    if not (math.isfinite(grid.length) and math.isfinite(grid.step)):
        raise ConfigError(f"length and step of windows must be finite numbers of seconds, found {length} and {step}")
    if duration <= length:
        return [Span(0.0, float(duration))]
    spans: list[Span] = []
    while (start := len(spans) * step) < duration:  # a product: adding steps up would add up their rounding errors
        end = start + length
        if end < duration:
            spans.append(Span(float(start), float(end)))
        elif duration - start < min_tail:
            break
        else:
            spans.append(Span(float(start), float(duration)))
            break
    return spans


class Plan:
    """Everything that a run needs to know about its components before the first frame.

    Args:
        recipe: what to run.
        modalities: component id to instance.
        providers: kind of input to the providers of it, in the order in which they are asked.
        unavailable: kind of input to the reasons why an alternative was left out.

    Attributes:
        bound: modalities and kinds of input that concern one subject, because they are made from faces.
        frame_kinds: kinds that are made from single frames, by providers of scope ``"frame"``.
        media_kinds: kinds that are made once per medium.
        window_kinds: kinds that are made per window or per subject and window, each after those that it needs.
        window_inputs: what is asked for of these kinds, and the ``context`` for which, each after what it is made from. A kind that is made from faces is made
            once for each way in which its crops are asked for, any other once, of the window.
        locks: a lock per provider, held during each call, so that providers need not be thread-safe.

    Raises:
        Problems: where an input has no provider, alternatives differ in scope, or inputs need each other in a circle.
    """

    def __init__(
        self,
        recipe: Recipe,
        modalities: Mapping[str, Modality],
        providers: Mapping[str, Sequence[Provider]],
        unavailable: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.recipe = recipe
        self.modalities = dict(modalities)
        self.unavailable = {kind: tuple(reasons) for kind, reasons in (unavailable or {}).items()}
        problems: list[AffectKitError] = []
        order = _ordered_kinds(self.modalities, providers, self.unavailable, problems)
        raise_all(problems)
        self.providers = {kind: tuple(providers.get(kind, ())) for kind in order}
        scopes: dict[str, Scope] = {kind: self.providers[kind][0].scope if self.providers[kind] else "window" for kind in order}
        raise_all(_out_of_reach(self.modalities, self.providers, scopes))
        self.frame_kinds = tuple(kind for kind in order if scopes[kind] == "frame")
        self.media_kinds = tuple(kind for kind in order if scopes[kind] == "media")
        self.window_kinds = tuple(kind for kind in order if scopes[kind] in ("window", "face") and self.providers[kind])
        self.bound = self._bound(order, scopes)
        self.window_inputs = self._window_inputs()
        self.locks = {provider.id: threading.Lock() for kind in order for provider in self.providers[kind]}
        cut = [m.needs for m in self.modalities.values() if m.unit != "media"]
        cut += [self.needs_of(provider, item) for item, _ in self.window_inputs for provider in self.providers[item.kind]]
        self.face_inputs = tuple(dict.fromkeys(item for needs in cut for item in needs.inputs if item.kind == "faces"))
        self.frame_needs = tuple(dict.fromkeys(needs.frames for needs in cut if needs.frames is not None))
        self.rates = tuple(dict.fromkeys(needs.audio.rate for needs in cut if needs.audio is not None))
        media_units = {name: m for name, m in self.modalities.items() if m.unit == "media"}
        self.counted_frames = {name: m.needs.frames for name, m in media_units.items() if m.needs.frames is not None}
        self.listening_units = {name: m for name, m in media_units.items() if m.needs.audio is not None}

    @property
    def audio_rates(self) -> tuple[int, ...]:
        """Every rate at which anything may listen, in samples per second; none where the sound need not be decoded."""
        listeners = [p.needs for kind in self.media_kinds for p in self.providers[kind]] + [m.needs for m in self.listening_units.values()]
        return (*self.rates, *(needs.audio.rate for needs in listeners if needs.audio is not None))

    @property
    def decode_rate(self) -> int:
        """The one rate at which sound is decoded, the highest that is asked for, in samples per second."""
        return max(self.audio_rates, default=16000)

    @property
    def wants_pictures(self) -> bool:
        """Whether anything looks at pictures, so that the video stream has to be decoded."""
        return bool(self.frame_kinds or self.frame_needs or self.counted_frames)

    @property
    def group_size(self) -> int:
        """Windows that are cut together, so that window-scoped providers see several at once."""
        asked = [provider for kind in self.window_kinds for provider in self.providers[kind]]
        return max((self.recipe.settings(provider.id).batch_size or provider.together for provider in asked), default=1)

    def spans(self, media: Media) -> list[Span]:
        """The grid of a medium: windows on the multiples of the step that hold its time, in seconds of its own clock.

        A start just below 0 is the pre-roll of an encoder, which players do not show, and begins no window of its own.
        """
        grid = self.recipe.windows
        origin = 0.0 if -PRE_ROLL <= media.start < 0 else math.floor(media.start / grid.step) * grid.step
        spans = windows(media.start + media.duration - origin, grid.length, grid.step, grid.min_tail)
        return [Span(origin + span.start, origin + span.end) for span in spans]

    def files(self, media: Media) -> list[Path]:
        """Files other than the medium itself that its results depend on, such as subtitles beside it."""
        return [path for kind in self.providers.values() for provider in kind for path in provider.files(media)]

    def looked_at(self, context: float | None, span: Span) -> Span:
        """What is seen for a window: the window, or ``context`` seconds around its centre."""
        if context is None:
            return span
        centre = (span.start + span.end) / 2
        return Span(centre - context / 2, centre + context / 2)

    def where(self, item: Input, span: Span, index: int) -> Where:
        """By what an input of a window is told from that of others."""
        return span if item.kind in self.bound else index

    def tracks(self, name: str, tracks: tuple[int, ...]) -> tuple[int, ...]:
        """For whom a modality or a kind of input is asked, of the subjects of a window: for each, or once for all, which is track -1."""
        return (tracks or (-1,)) if name in self.bound else (-1,)

    def reason(self, kind: str, reasons: Sequence[str] = ()) -> str:
        """Why there is no evidence of a kind: what its providers said, and which alternatives were left out."""
        return "; ".join(dict.fromkeys(filter(None, (*reasons, *self.unavailable.get(kind, ()))))) or f"no {kind}"

    def as_made(self, item: Input) -> Input:
        """An input without what makes no difference to it; equal ones are made once."""
        if item.kind not in self.bound:
            return Input(item.kind)
        return item if item.size is not None else replace(item, margin=0.0)

    def needs_of(self, provider: Provider, item: Input) -> Needs:
        """What a provider needs to make ``item``: its own needs, with crops as ``item`` asks for them.

        Where ``item`` says how many crops, or how large ones, this holds for the faces that the provider sees, and for kinds made from faces that it
        reads; what ``item`` leaves open is as the provider has it.
        """
        changes: dict[str, Any] = {}
        if item.count is not None or item.fps is not None:
            changes |= {"count": item.count, "stride": item.stride, "fps": item.fps}
        if item.size is not None:
            changes |= {"size": item.size, "margin": item.margin}
        if item.kind not in self.bound or not changes:
            return provider.needs
        inputs = (replace(inner, **changes) if inner.kind in self.bound else inner for inner in provider.needs.inputs)
        return replace(provider.needs, inputs=tuple(inputs))

    def reach(self, span: Span) -> tuple[float, float]:
        """Time from which and up to which anything looks for a window, in seconds."""
        seen = [self.looked_at(m.context, span) for m in self.modalities.values() if m.unit == "window"]
        return min((s.start for s in seen), default=span.start), max((span.end, *(s.end for s in seen)))

    def sampling(self, media: Media) -> dict[str | Frames, float]:
        """Pictures per second to take: for ``"detect"``, for each request for whole frames, for each media unit by its id.

        A count per window is a rate on the time that a window of this medium has, so that a short clip still gives its count.
        Each request is sampled on its own, so that what a modality sees of the frames does not depend on the others.
        """
        length = min(self.recipe.windows.length, media.duration) or 1.0
        rates: dict[str | Frames, float] = {frames: _rate(frames, length, media.fps) for frames in self.frame_needs}
        if self.frame_kinds:
            detect = [self.recipe.sampling.get(kind, FACES_FPS) for kind in self.frame_kinds]
            rates["detect"] = max(detect + [_rate(item, length, media.fps) for item in self.face_inputs])
        for name, frames in self.counted_frames.items():
            rates[name] = _rate(frames, media.duration or 1.0, media.fps)
        return rates

    def _window_inputs(self) -> tuple[tuple[Input, float | None], ...]:
        found: dict[tuple[Input, float | None], None] = {}

        def visit(items: Sequence[Input], context: float | None) -> None:
            for item in (self.as_made(item) for item in items if item.kind in self.window_kinds):
                for provider in self.providers[item.kind]:
                    visit(self.needs_of(provider, item).inputs, context)
                found[item, context if item.kind in self.bound else None] = None

        for modality in self.modalities.values():
            visit(modality.needs.inputs, modality.context)
        return tuple(found)

    def _bound(self, order: Sequence[str], scopes: Mapping[str, Scope]) -> frozenset[str]:
        bound = {"faces"} & set(order)
        for kind in order:
            if scopes[kind] == "face" or any(item.kind in bound for p in self.providers[kind] for item in p.needs.inputs):
                bound.add(kind)
        return frozenset(bound | {name for name, m in self.modalities.items() if any(item.kind in bound for item in m.needs.inputs)})


def _rate(sampling: Sampling | Input, seconds: float, native: float | None) -> float:
    """Pictures per second that a request comes to on ``seconds`` of a medium."""
    if sampling.stride is not None:
        return (native or 25.0) / sampling.stride
    if sampling.fps is not None:
        return sampling.fps
    return (sampling.count or 1) / seconds


def _ordered_kinds(
    modalities: Mapping[str, Modality],
    providers: Mapping[str, Sequence[Provider]],
    unavailable: Mapping[str, Sequence[str]],
    problems: list[AffectKitError],
) -> list[str]:
    """The kinds of input that are needed, each after those that its providers need; what is wrong is added to ``problems``."""
    order: list[str] = []

    def visit(kind: str, needed_by: str, path: tuple[str, ...]) -> None:
        if kind in path:
            circle = " -> ".join((*path[path.index(kind) :], kind))
            problems.append(ConfigError(f"inputs need each other in a circle: {circle}; choose another provider for {kind!r}"))
            return
        if kind in order:
            return
        offered = providers.get(kind, ())
        if not offered and kind not in unavailable:
            problems.append(
                ConfigError(f"{needed_by} needs the input {kind!r} and no provider is chosen for it; add providers.{kind} to the recipe")
            )
            return
        if len({provider.scope for provider in offered}) > 1:
            listed = ", ".join(f"{p.id} ({p.scope})" for p in offered)
            problems.append(ConfigError(f"the alternatives for {kind!r} must have one scope, found {listed}"))
        for provider in offered:
            for item in provider.needs.inputs:
                visit(item.kind, provider.id, (*path, kind))
        order.append(kind)

    for name, modality in modalities.items():
        for item in modality.needs.inputs:
            visit(item.kind, name, ())
    return list(dict.fromkeys(order))


def _out_of_reach(
    modalities: Mapping[str, Modality], providers: Mapping[str, Sequence[Provider]], scopes: Mapping[str, Scope]
) -> list[AffectKitError]:
    """Needs that the one who has them can never be given, because he sees the medium as a whole or one frame of it."""
    problems: list[AffectKitError] = []
    for name, modality in modalities.items():
        frames = modality.needs.frames
        grows = frames is not None and (frames.count is None or frames.stride is not None)
        strange = [item.kind for item in modality.needs.inputs if providers[item.kind] and scopes[item.kind] != "media"]
        if modality.unit == "media" and (grows or strange):
            found = f"{strange[0]!r}, which is made per window" if strange else f"{frames}"
            problems.append(
                PluginError(f"{name} is a media unit and asks for {found}; a media unit may ask for counted frames, sound and words")
            )
    for provider in (provider for kind in providers.values() for provider in kind):
        if provider.scope not in ("media", "frame"):
            continue
        strange = [item.kind for item in provider.needs.inputs if providers[item.kind] and scopes[item.kind] != provider.scope]
        what = f"{strange[0]!r}, which is made per {scopes[strange[0]]}" if strange else ""
        if provider.scope == "media" and provider.needs.frames is not None:
            what = "whole frames"
        if what:
            allowed = "sound, and for kinds made once per medium" if provider.scope == "media" else "kinds made per frame"
            problems.append(
                PluginError(f"{provider.id} is {provider.scope}-scoped and asks for {what}; such a provider may ask for {allowed}")
            )
    return problems
