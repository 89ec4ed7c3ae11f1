"""A one-file plugin for tests: components that are slow, contradict each other, or see a window in unusual ways."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from affectkit.api import (
    BASIC7,
    BASIC8,
    COMPOUND7,
    VA,
    Checkpoint,
    Clip,
    Evidence,
    Frames,
    Fusion,
    Head,
    Input,
    LabelSet,
    Modality,
    Needs,
    Output,
    Provider,
    Sources,
    Word,
    hookimpl,
)

DRINKS = LabelSet("drinks", ("tea", "coffee"))


class Plain(Modality):
    """Says the mean of ``x`` as happiness, the rest as neutral."""

    labels = BASIC7

    def predict(self, batch: Mapping) -> Output:
        import torch

        share = batch["x"].float().reshape(len(batch["x"]), -1).mean(dim=1)
        rows = torch.zeros(len(share), len(BASIC7))
        rows[:, BASIC7.index("happiness")] = share
        rows[:, BASIC7.index("neutral")] = 1 - share
        return Output({BASIC7: rows}, {"share": share[:, None]})


class Slow(Plain):
    """Takes its time over each window."""

    name = "slow"
    needs = Needs(frames=Frames(count=2, size=16))

    @dataclass(frozen=True)
    class Options:
        """Seconds per window."""

        seconds: float = 0.2

    def preprocess(self, clip: Clip) -> Mapping | None:
        import torch

        time.sleep(self.options.seconds)
        return None if clip.frames is None else {"x": torch.tensor(float(clip.frames.mean()) / 255)}


class Moody(Plain):
    """Reads the brightness that a window-scoped provider made of frames."""

    name = "moody"
    needs = Needs(inputs=(Input("mood"),))

    def preprocess(self, clip: Clip) -> Mapping | None:
        import torch

        mood = clip.inputs["mood"]
        return {"x": torch.tensor(mood.data["level"])} if mood.valid else None


class Smile(Moody):
    """Reads the brightness of the lower half of the face crops of one subject, made by a face-scoped provider."""

    name = "smile"
    needs = Needs(inputs=(Input("smile"),))

    def preprocess(self, clip: Clip) -> Mapping | None:
        import torch

        smile = clip.inputs["smile"]
        return {"x": torch.tensor(smile.data["level"])} if smile.valid else None


class Hatching(Plain):
    """Needs a chicken, which needs an egg, which needs a chicken."""

    name = "hatching"
    needs = Needs(inputs=(Input("chicken"),))

    def preprocess(self, clip: Clip) -> Mapping | None:
        return None


class Starving(Plain):
    """Needs what nobody makes."""

    name = "starving"
    needs = Needs(inputs=(Input("ambrosia"),))

    def preprocess(self, clip: Clip) -> Mapping | None:
        return None


class Heavy(Slow):
    """Has weights that are not here."""

    name = "heavy"
    checkpoints: ClassVar = {"main": Checkpoint("https://example.invalid/heavy.safetensors", sha256="0" * 64, licence="MIT")}


class Stubborn(Slow):
    """Cannot be loaded."""

    name = "stubborn"

    def load(self, device, dtype) -> None:
        raise RuntimeError("no")


class Drinks(Slow):
    """Says something that has nothing to do with emotions."""

    name = "drinks"
    labels = DRINKS

    def predict(self, batch: Mapping) -> Output:
        import torch

        return Output({DRINKS: torch.full((len(batch["x"]), 2), 0.5)})


class Tight(Slow):
    """Has no room for a single clip."""

    name = "tight"

    def predict(self, batch: Mapping) -> Output:
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory (made up)")


class Mood(Provider):
    """Mean brightness of a window, of two frames."""

    name = "mood"
    kind = "mood"
    scope = "window"
    needs = Needs(frames=Frames(count=2, size=16))

    def provide(self, clips: Sequence[Clip]) -> Sequence[Evidence]:
        return [
            Evidence.none("mood", "too dark to tell")
            if c.frames is None or c.frames.mean() < 20
            else Evidence("mood", {"level": c.frames.mean() / 255})
            for c in clips
        ]


class Smiles(Provider):
    """Mean brightness of the lower half of the crops of a subject."""

    name = "smiles"
    kind = "smile"
    scope = "face"
    needs = Needs(inputs=(Input("faces", count=2, size=8),))

    def provide(self, clips: Sequence[Clip]) -> Sequence[Evidence]:
        found = [c.inputs["faces"] for c in clips]
        return [
            Evidence("smile", {"level": f.data["crops"][:, 4:].mean() / 255}) if f.valid else Evidence.none("smile", f.reason)
            for f in found
        ]


class Halves(Provider):
    """Finds a face in each half of the picture: the bounding box of what is brighter than 128."""

    name = "halves"
    kind = "faces"
    scope = "frame"

    def provide(self, clips: Sequence[Clip]) -> Sequence[Evidence]:
        return [self._look(clip.frames[0].mean(axis=2) > 128) for clip in clips]

    def _look(self, bright: np.ndarray) -> Evidence:
        middle = bright.shape[1] // 2
        boxes = []
        for left, half in ((0, bright[:, :middle]), (middle, bright[:, middle:])):
            rows, columns = np.nonzero(half)
            if len(rows):
                boxes.append([left + columns.min(), rows.min(), left + columns.max() + 1, rows.max() + 1])
        if not boxes:
            return Evidence.none("faces", "no face")
        return Evidence("faces", {"boxes": np.array(boxes, dtype=np.float32), "scores": np.ones(len(boxes), dtype=np.float32)})


class Cues(Provider):
    """Words from a file beside the medium: start, end and text on each line."""

    name = "cues"
    kind = "transcript"
    scope = "media"

    def provide(self, clips: Sequence[Clip]) -> Sequence[Evidence]:
        return [self._read(clip) for clip in clips]

    def _read(self, clip: Clip) -> Evidence:
        file = clip.media.path.with_suffix(".cues")
        if not file.is_file():
            return Evidence.none("transcript", "no cues beside the file")
        lines = [line.split(maxsplit=2) for line in file.read_text().splitlines()]
        words = tuple(Word(text, float(start), float(end)) for start, end, text in lines)
        return Evidence("transcript", {"words": words, "text": " ".join(word.text for word in words)})


class Chicken(Provider):
    """Comes out of an egg."""

    name = "chicken"
    kind = "chicken"
    scope = "window"
    needs = Needs(inputs=(Input("egg"),))

    def provide(self, clips: Sequence[Clip]) -> Sequence[Evidence]:
        return [Evidence.none("chicken", "no egg") for _ in clips]


class Egg(Chicken):
    """Comes out of a chicken."""

    name = "egg"
    kind = "egg"
    needs = Needs(inputs=(Input("chicken"),))


class Elsewhere(Fusion):
    """Was fitted for sources of somebody else; knows when it is loaded."""

    name = "elsewhere"

    def load(self, device, dtype) -> None:
        self.trained_for = ("far/voice", "far/face")

    def fuse(self, sources: Sources) -> Output:
        return Output({BASIC8: sources.values.nanmean(dim=1)})


class Crooked(Elsewhere):
    """Raises, or returns too few columns."""

    name = "crooked"

    @dataclass(frozen=True)
    class Options:
        """What it does."""

        how: str = "raise"

    def load(self, device, dtype) -> None:
        self.trained_for = None

    def fuse(self, sources: Sources) -> Output:
        if self.options.how == "raise":
            raise RuntimeError("cannot fuse")
        return Output({BASIC8: sources.values.nanmean(dim=1)[:, :5]})


class Peeking(Head):
    """Reads an embedding of somebody else."""

    name = "peeking"
    embedding_from = "far/face:features"

    def convert(self, fused: Output, sources: Sources) -> Output:
        import torch

        return Output({COMPOUND7: torch.full((len(sources.values), 7), 1 / 7)})


class Shares(Head):
    """Hands on the embedding ``share`` of the modality ``odd/slow``, as the first class."""

    name = "shares"
    embedding_from = "odd/slow:share"

    def convert(self, fused: Output, sources: Sources) -> Output:
        import torch

        share = sources.embeddings["odd/slow:share"]
        return Output({COMPOUND7: torch.cat([share, (1 - share).repeat(1, 6) / 6], dim=1)})


class Swing(Head):
    """Reads valence and arousal, which no fusion here gives."""

    name = "swing"
    reads = VA

    def convert(self, fused: Output, sources: Sources) -> Output:
        raise NotImplementedError


@hookimpl
def affectkit_modalities():
    return [Slow, Moody, Smile, Hatching, Starving, Heavy, Stubborn, Drinks, Tight]


@hookimpl
def affectkit_providers():
    return [Mood, Smiles, Halves, Cues, Chicken, Egg]


@hookimpl
def affectkit_fusions():
    return [Elsewhere, Crooked]


@hookimpl
def affectkit_heads():
    return [Peeking, Shares, Swing]
