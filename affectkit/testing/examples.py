"""What components are tried on: pictures with a face, voices, sentences and media, made with numpy, the same ones each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from affectkit.components import Modality, Unit
from affectkit.evidence import Evidence, Word
from affectkit.media import Clip, Media, Span
from affectkit.needs import Input, Needs, Sampling

LENGTHS = (4.0, 1.3, 2.7, 4.0)  # seconds of the clips: windows of a recipe, shorter ones at the end of a medium
NATIVE = (120, 160)  # height, width in pixels of a picture of which no size is asked for
FPS = 25.0

SENTENCES = (
    "I am so happy to see you again, this is the best day of my life!",
    "No.",
    "Yesterday we drove to the office, and then, after a very long meeting about the budget, we drove back home.",
    "Please leave me alone, I cannot stand this any longer.",
)
DESCRIPTIONS = (
    "A woman smiles at the camera and raises her hands; behind her, friends clap and laugh.",
    "A man.",
    "An older man with tears in his eyes sits on a bench in the rain and looks at a photograph that he holds in both hands.",
    "Two people shout at each other across a table, and one of them throws a glass at the wall.",
)


def face(side: int, number: int = 0, moment: float = 0.0) -> np.ndarray:
    """A drawn frontal face, which detectors find: (side, side, 3) uint8 RGB.

    Args:
        side: of the picture in pixels.
        number: which face; each has its own shades and noise.
        moment: seconds; the mouth opens and closes.

    >>> face(48).shape
    (48, 48, 3)
    """
    random = np.random.default_rng([number, round(moment * 1000)])
    skin, hair = 170 + 12 * (number % 4), 45 + 10 * (number % 3)
    rows, columns = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]

    def ellipse(x: float, y: float, width: float, height: float) -> np.ndarray:
        return ((columns - x) / width) ** 2 + ((rows - y) / height) ** 2 < 1

    grey = np.full((side, side), 70.0)
    grey[ellipse(0, 0, 0.72, 0.95)] = skin
    grey[ellipse(0, -0.1, 0.76, 0.98) & (rows < -0.62)] = hair
    for x in (-0.3, 0.3):
        grey[ellipse(x, -0.22, 0.26, 0.17)] = skin - 40
        grey[ellipse(x, -0.18, 0.17, 0.085)] = 225
        grey[ellipse(x, -0.18, 0.075, 0.08)] = 30
        grey[ellipse(x, -0.38, 0.23, 0.05)] = hair
    grey[ellipse(0, 0.05, 0.05, 0.25)] = skin + 20
    grey[ellipse(0, 0.22, 0.13, 0.05)] = skin - 55
    grey[ellipse(0, 0.5, 0.28, 0.05 + 0.06 * np.sin(np.pi * (moment + number / 4)) ** 2)] = 85
    blur = max(1, side // 40)
    for axis in (0, 1):
        grey = np.mean([np.roll(grey, shift, axis) for shift in range(-blur, blur + 1)], axis=0)
    tint = np.array([1.0, 0.86, 0.78])
    return (grey[..., None] * tint + random.normal(0, 2, (side, side, 1))).clip(0, 255).astype(np.uint8)


def picture(size: tuple[int, int], number: int = 0, moment: float = 0.0) -> np.ndarray:
    """A face before a wall of soft light: (H, W, 3) uint8 RGB."""
    height, width = size
    side = int(0.6 * min(size))
    light = 60 + 20 * (number % 3) + np.linspace(0, 60, width)[None] + np.linspace(0, 30, height)[:, None]
    image = np.repeat(light.clip(0, 255)[..., None], 3, axis=2).astype(np.uint8)
    if side >= 4:
        left = round((width - side) * (0.4 + 0.1 * np.sin(moment + number)))
        top = (height - side) // 3
        image[top : top + side, left : left + side] = face(side, number, moment)
    return image


def voice(seconds: float, rate: int, number: int = 0) -> np.ndarray:
    """A buzz that glides and pulses as syllables do: (N,) float32 in [-1, 1] at ``rate`` samples per second."""
    random = np.random.default_rng(number)
    time = np.arange(round(seconds * rate)) / rate
    pitch = random.uniform(110, 240) * (1 + 0.2 * np.sin(2 * np.pi * random.uniform(0.3, 1.2) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    buzz = sum((np.sin(phase * harmonic) / harmonic for harmonic in range(1, 16)), np.zeros_like(time))
    pulses = 0.55 + 0.45 * np.sin(2 * np.pi * random.uniform(2, 5) * time)
    return (0.12 * buzz * pulses + 0.002 * random.normal(size=len(time))).astype(np.float32)


def media(number: int = 0, path: Path | None = None) -> Media:
    """A medium of ten seconds; its file is not there unless a path is given."""
    return Media(f"made{number}", path or Path(f"made{number}.mp4"), "video", duration=10.0, fps=FPS, size=NATIVE, video=0, audio=1)


def clips(
    needs: Needs, unit: Unit = "window", context: float | None = None, inputs: Callable[[Input, Clip, int], Evidence] | None = None
) -> list[Clip]:
    """Clips of different length that hold all that is asked for, as the engine would cut them.

    Args:
        needs: what they carry.
        unit: as of a modality.
        context: as of a modality.
        inputs: gives the evidence of a kind that is not known here, for a clip.
    """
    return [_clip(number, length, needs, unit, context, inputs) for number, length in enumerate(LENGTHS)]


def modality_clips(modality: Modality, inputs: Callable[[Input, Clip, int], Evidence] | None = None) -> list[Clip]:
    """Clips for a modality, as :func:`clips` makes them."""
    return clips(modality.needs, modality.unit, modality.context, inputs)


def _clip(
    number: int,
    length: float,
    needs: Needs,
    unit: Unit,
    context: float | None,
    inputs: Callable[[Input, Clip, int], Evidence] | None,
) -> Clip:
    seconds = context if context is not None and unit == "window" else length
    start = 2.0 * number
    pictured = needs.frames is not None or any(item.kind == "faces" for item in needs.inputs)
    single = unit == "frame" and pictured
    span = Span(start, start) if single else Span(start, start + seconds)
    bound = any(item.kind == "faces" for item in needs.inputs)
    clip = Clip(media(number), span, track=0 if bound else -1)
    if needs.frames is not None:
        times = moments(needs.frames, span, single, needs.frames.count or 0)
        size = shown(needs.frames.size, upright=number == 2)
        clip = replace(clip, frames=np.stack([picture(size, number, t) for t in times]), frame_times=times)
    if needs.audio is not None:
        clip = replace(clip, audio=voice(seconds, needs.audio.rate, number), audio_start=start)
    given = {item.kind: evidence(item, clip, number, single, inputs) for item in needs.inputs}
    return replace(clip, inputs=given)


def moments(wanted: Sampling | Input, span: Span, single: bool, count: int) -> np.ndarray:
    """Times of the pictures of a clip, in seconds: fewer of a shorter clip, as where a face is seen for a part of a window."""
    if single:
        return np.array([span.start])
    if wanted.fps is not None:
        return span.start + np.arange(max(1, round(wanted.fps * span.length))) / wanted.fps
    there = max(1, round(count * min(1.0, span.length / LENGTHS[0])))
    if wanted.stride is not None:
        return span.start + np.arange(there) * wanted.stride / FPS
    return span.start + (np.arange(there) + 0.5) * span.length / there


def shown(side: int | None, upright: bool) -> tuple[int, int]:
    """Height and width of whole frames whose shorter side is asked for; one clip in a run may be upright."""
    height, width = NATIVE if side is None else (side, round(side * NATIVE[1] / NATIVE[0]))
    return (width, height) if upright else (height, width)


def evidence(
    item: Input, clip: Clip, number: int, single: bool = False, inputs: Callable[[Input, Clip, int], Evidence] | None = None
) -> Evidence:
    """The evidence of one input of a clip.

    Args:
        item: the input.
        clip: the clip so far.
        number: of the clip.
        single: whether the clip is one picture.
        inputs: gives the evidence of a kind that is not known here.
    """
    if item.kind == "faces":
        times = moments(item, clip.span, single, item.count or 0)
        return faces(item.size or NATIVE[0], times, number)
    if item.kind == "transcript":
        return transcript(SENTENCES[number % len(SENTENCES)], clip.span)
    if item.kind == "description":
        text = DESCRIPTIONS[number % len(DESCRIPTIONS)]
        return Evidence("description", {"text": text}, quality={"words": float(len(text.split()))})
    if inputs is None:
        return Evidence.none(item.kind, "nothing makes it here")
    return inputs(item, clip, number)


def faces(size: int, times: np.ndarray, number: int = 0) -> Evidence:
    """The crops of one subject: (T, size, size, 3) uint8 RGB with boxes, scores and five landmarks, at ``times`` (T,) in seconds."""
    crops = np.stack([face(size, number, t) for t in times])
    corner = np.stack([40 + 3 * np.sin(times), 30 + 2 * np.cos(times)], axis=1)
    boxes = np.concatenate([corner, corner + np.array([70, 90])], axis=1).astype(np.float32)
    points = np.array([[0.35, 0.41], [0.65, 0.41], [0.5, 0.6], [0.38, 0.75], [0.62, 0.75]], dtype=np.float32)
    landmarks = boxes[:, None, :2] + points[None] * np.array([70, 90], dtype=np.float32)
    scores = np.full(len(times), 0.9, dtype=np.float32)
    quality = {"face_size": 90.0, "face_score": 0.9, "face_share": 1.0}
    return Evidence("faces", {"crops": crops, "boxes": boxes, "scores": scores, "landmarks": landmarks}, times=times, quality=quality)


def transcript(text: str, span: Span) -> Evidence:
    """Words spread evenly over a span."""
    said = text.split()
    step = span.length / max(1, len(said))
    words = tuple(Word(word, span.start + i * step, span.start + (i + 1) * step) for i, word in enumerate(said))
    return Evidence("transcript", {"text": text, "words": words}, quality={"words": float(len(said))})


def scant(clip: Clip) -> Iterator[tuple[str, Clip]]:
    """Clips that hold less than one likes, each with what it holds: a component may say nothing of them, and must not fail."""
    if clip.frames is not None:
        times = None if clip.frame_times is None else clip.frame_times[:1]
        yield "a single black picture", replace(clip, frames=np.zeros_like(clip.frames[:1]), frame_times=times)
    if clip.audio is not None:
        yield "a hundredth of a second of sound", replace(clip, audio=clip.audio[: max(1, len(clip.audio) // 400)])
        yield "sound that is nothing but zeros", replace(clip, audio=np.zeros_like(clip.audio))
    for kind, found in clip.inputs.items():
        others = {name: item for name, item in clip.inputs.items() if name != kind}
        if kind == "faces" and found.valid:
            data = {name: values[:1] for name, values in found.data.items()}
            times = None if found.times is None else found.times[:1]
            yield "a face in a single picture", replace(clip, inputs={**others, kind: replace(found, data=data, times=times)})
            plain = {name: values for name, values in found.data.items() if name != "landmarks"}
            yield "faces without landmarks", replace(clip, inputs={**others, kind: replace(found, data=plain)})
        if kind in ("transcript", "description") and found.valid:
            for words, text in (
                ("words that are signs only", "♪ ... ♪"),
                ("words of another script", "你好，世界"),
                ("many words", "so " * 2000),
            ):
                made = transcript(text, clip.span) if kind == "transcript" else Evidence(kind, {"text": text})
                yield words, replace(clip, inputs={**others, kind: made})
        if found.valid and len(clip.inputs) > 1:
            yield f"no {kind}", replace(clip, inputs={**others, kind: Evidence.none(kind, f"no {kind}")})


def empty(clip: Clip) -> Iterator[tuple[str, Clip]]:
    """Clips without any evidence, each with what it lacks: a component must say nothing of them."""
    nothing = {kind: Evidence.none(kind, f"no {kind}") for kind in clip.inputs}
    bare = replace(clip, frames=None, frame_times=None, audio=None, inputs=nothing)
    lacks = [*(["pictures"] if clip.frames is not None else []), *(["sound"] if clip.audio is not None else []), *clip.inputs]
    if lacks:
        yield f"without {' and '.join(lacks)}", bare
    for kind in clip.inputs:
        if kind in ("transcript", "description"):
            for words, text in (("without any letter", ""), ("of white space", " \n ")):
                data = {"text": text, "words": ()} if kind == "transcript" else {"text": text}
                yield f"with a {kind} {words}", replace(bare, inputs={**nothing, kind: Evidence(kind, data)})


def write_media(folder: Path) -> list[Media]:
    """Two media: one with words and descriptions beside it, one without; pictures and sound in both.

    Args:
        folder: where they are written.
    """
    from affectkit.media import open_media
    from affectkit.testing.media import make_video

    words = [Word(sentence, 0.5 * i, 0.5 * i + 0.4) for i, sentence in enumerate(SENTENCES)]
    spoken = folder / "spoken" / "made.mp4"
    plain = folder / "plain" / "other.mp4"
    for number, path in enumerate((spoken, plain)):
        make_video(
            path,
            seconds=2.0,
            fps=10.0,
            size=NATIVE,
            codec="mpeg4",
            picture=lambda time, number=number: picture(NATIVE, number, time),  # type: ignore[misc]
            sound=voice(2.0, 16000, number),
            subtitles=words if path is spoken else None,
        )
    cues = "\n\n".join(f"{i + 1}\n{_clock(word.start)} --> {_clock(word.end)}\n{word.text}" for i, word in enumerate(words))
    spoken.with_suffix(".srt").write_text(f"{cues}\n", encoding="utf-8")
    rows = "\n".join(f'made.mp4,{i / 2},{i / 2 + 0.5},"{text}"' for i, text in enumerate(DESCRIPTIONS))
    spoken.with_name("made.descriptions.csv").write_text(f"media,start,end,text\n{rows}\n", encoding="utf-8")
    return [open_media(spoken), open_media(plain)]


def _clock(seconds: float) -> str:
    return f"00:00:{int(seconds):02d},{round(seconds % 1 * 1000):03d}"


def distributions(rows: int, size: Sequence[int], number: int = 0) -> np.ndarray:
    """Random distributions over the last axis: (rows, *size) float32, each sums to 1."""
    return np.random.default_rng(number).dirichlet(np.ones(size[-1]), (rows, *size[:-1])).astype(np.float32)
