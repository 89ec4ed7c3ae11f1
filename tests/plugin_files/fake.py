"""A one-file plugin for tests: modalities that compute something simple and exact from each kind of input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from affectkit.api import (
    BASIC7,
    COMPOUND7,
    VA,
    Audio,
    Clip,
    Evidence,
    Frames,
    Input,
    Modality,
    Needs,
    Output,
    Provider,
    hookimpl,
)


def two_way(share):
    """(B,) in [0, 1] as rows of BASIC7: happiness against neutral."""
    import torch

    share = share.float()
    rows = torch.zeros(len(share), len(BASIC7), device=share.device)
    rows[:, BASIC7.index("happiness")] = share
    rows[:, BASIC7.index("neutral")] = 1 - share
    return rows


class Brightness(Modality):
    """Mean brightness of four whole frames of a window."""

    name = "brightness"
    labels = BASIC7
    needs = Needs(frames=Frames(count=4, size=16))

    def preprocess(self, clip: Clip) -> Mapping | None:
        import torch

        return None if clip.frames is None else {"x": torch.from_numpy(clip.frames.astype(np.float32).mean(axis=(1, 2, 3)) / 255)}

    def predict(self, batch: Mapping) -> Output:
        mask = batch["x_mask"]
        mean = (batch["x"] * mask).sum(1) / mask.sum(1)
        return Output({BASIC7: two_way(mean)}, {"mean": mean[:, None]}, {"frames": mask.sum(1).float()}, [{"mean": float(m)} for m in mean])


class Still(Brightness):
    """The same, one picture at a time, averaged over the window by the engine."""

    name = "still"
    unit = "frame"
    needs = Needs(frames=Frames(fps=5, size=16))


class Whole(Brightness):
    """The same, once for the whole medium."""

    name = "whole"
    unit = "media"
    needs = Needs(frames=Frames(count=6, size=16))


class Long(Brightness):
    """The same, on eight seconds around the centre of a window."""

    name = "long"
    context = 8.0
    needs = Needs(frames=Frames(fps=5, size=16))


class Loudness(Modality):
    """Root mean square of the sound of a window."""

    name = "loudness"
    labels = (BASIC7, VA)
    needs = Needs(audio=Audio(8000))

    def preprocess(self, clip: Clip) -> Mapping | None:
        import torch

        return None if clip.audio is None else {"x": torch.from_numpy(clip.audio), "seconds": torch.tensor(clip.audio.size / 8000)}

    def predict(self, batch: Mapping) -> Output:
        import torch

        rms = ((batch["x"] ** 2).sum(1) / batch["x_mask"].sum(1)).sqrt().clamp(0, 1)
        return Output({BASIC7: two_way(rms), VA: torch.stack([rms, -rms], dim=1)}, quality={"seconds": batch["seconds"]})


class Pieces(Loudness):
    """The same, for the whole medium in pieces."""

    name = "pieces"
    unit = "media"


class Words(Modality):
    """Share of letters that are vowels in the words of a window."""

    name = "words"
    labels = BASIC7
    needs = Needs(inputs=(Input("transcript"),))

    def preprocess(self, clip: Clip) -> Mapping | None:
        import torch

        said = clip.inputs["transcript"]
        letters = [c for c in said.data["text"].lower() if c.isalpha()] if said.valid else []
        return {"x": torch.tensor(sum(c in "aeiou" for c in letters) / len(letters))} if letters else None

    def predict(self, batch: Mapping) -> Output:
        return Output({BASIC7: two_way(batch["x"])})


class Face(Modality):
    """Mean brightness of the crops of one subject, one picture at a time."""

    name = "face"
    labels = BASIC7
    unit = "frame"
    needs = Needs(inputs=(Input("faces", fps=5, size=16),))

    def preprocess(self, clip: Clip) -> Mapping | None:
        import torch

        faces = clip.inputs["faces"]
        return {"x": torch.from_numpy(faces.data["crops"].astype(np.float32).mean(axis=(1, 2, 3)) / 255)} if faces.valid else None

    def predict(self, batch: Mapping) -> Output:
        return Output({BASIC7: two_way(batch["x"].mean(dim=1))})


class Compound(Brightness):
    """Speaks the compound set itself."""

    name = "compound"
    labels = COMPOUND7

    def predict(self, batch: Mapping) -> Output:
        import torch

        return Output({COMPOUND7: torch.full((len(batch["x"]), 7), 1 / 7)})


class Hungry(Brightness):
    """Has memory for two clips."""

    name = "hungry"

    def predict(self, batch: Mapping) -> Output:
        import torch

        if len(batch["x"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory (made up)")
        return super().predict(batch)


class Fussy(Brightness):
    """Fails on bright clips, in ``predict`` or in ``preprocess``."""

    name = "fussy"

    @dataclass(frozen=True)
    class Options:
        """Where it fails."""

        where: str = "predict"

    def preprocess(self, clip: Clip) -> Mapping | None:
        x = super().preprocess(clip)
        if self.options.where == "preprocess" and x is not None and float(x["x"].mean()) > 0.5:
            raise ValueError("too bright to look at")
        return x

    def predict(self, batch: Mapping) -> Output:
        if self.options.where == "predict" and bool((batch["x"] > 0.5).any()):
            raise ValueError("too bright")
        if self.options.where == "nan":
            return Output({BASIC7: two_way(batch["x"].mean(1) * float("nan"))})
        if self.options.where == "sum":
            return Output({BASIC7: two_way(batch["x"].mean(1)) * 0.5})
        return super().predict(batch)


class Squares(Provider):
    """Finds one face: the bounding box of what is brighter than 128."""

    name = "squares"
    kind = "faces"
    scope = "frame"

    def provide(self, clips: Sequence[Clip]) -> Sequence[Evidence]:
        found = []
        for clip in clips:
            rows, columns = np.nonzero(clip.frames[0].mean(axis=2) > 128)
            if not len(rows):
                found.append(Evidence.none("faces", "no face"))
                continue
            box = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], dtype=np.float32)
            found.append(Evidence("faces", {"boxes": box, "scores": np.ones(1, dtype=np.float32)}))
        return found


class Clumsy(Squares):
    """A detector that falls over."""

    name = "clumsy"

    def provide(self, clips: Sequence[Clip]) -> Sequence[Evidence]:
        raise RuntimeError("fell over")


class Listener(Provider):
    """Says how long each piece of sound is, as a word."""

    name = "listener"
    kind = "transcript"
    scope = "media"
    needs = Needs(audio=Audio(16000))

    def provide(self, clips: Sequence[Clip]) -> Sequence[Evidence]:
        from affectkit.api import Word

        return [
            Evidence("transcript", {"text": "aa", "words": (Word("aa", clip.audio_start, clip.audio_start + len(clip.audio) / 16000),)})
            for clip in clips
        ]


@hookimpl
def affectkit_modalities():
    return [Brightness, Still, Whole, Long, Loudness, Pieces, Words, Face, Compound, Hungry, Fussy]


@hookimpl
def affectkit_providers():
    return [Squares, Clumsy, Listener]
