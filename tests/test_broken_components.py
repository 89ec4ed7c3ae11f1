"""A component that breaks one promise: the contract says which, what it found and what to do; nothing else is amiss."""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from affectkit.api import (
    AU12,
    BASIC7,
    BASIC8,
    COMPOUND7,
    Audio,
    Checkpoint,
    Clip,
    Component,
    ConfigError,
    Evidence,
    Frames,
    Fusion,
    Head,
    Input,
    Modality,
    Needs,
    Output,
    Provider,
    Sources,
    Submitter,
    UsageError,
    Word,
)
from affectkit.challenges import Asked, Problem
from affectkit.testing import Outcome, examine

# Good ones, of which each breaks nothing. torch is imported in functions, as in a plugin.


class Loud(Modality):
    """Loudness and its envelope, with the weight that it was loaded with."""

    name = "loud"
    labels = (BASIC7, AU12)
    needs = Needs(audio=Audio(1000))

    def load(self, device, dtype) -> None:
        import torch

        self.weight = torch.linspace(-1, 1, 7, device=device)

    def preprocess(self, clip: Clip) -> Mapping | None:
        import torch

        if clip.audio is None or len(clip.audio) < 100:
            return None
        return {"x": torch.from_numpy(clip.audio.copy()), "seconds": torch.tensor(len(clip.audio) / 1000)}

    def mean(self, batch: Mapping) -> Any:
        """Root mean square of what is real (B,)."""
        mask = batch["x_mask"]
        return ((batch["x"] * mask) ** 2).sum(1).div(mask.sum(1)).sqrt()

    def predict(self, batch: Mapping) -> Output:
        rms = self.mean(batch)
        rows = (rms[:, None] * self.weight).softmax(1)
        units = rms.sigmoid()[:, None].repeat(1, 12)
        return Output({BASIC7: rows, AU12: units}, {"rms": rms[:, None]}, {"seconds": batch["seconds"]}, [{} for _ in rms])


class Bright(Provider):
    """The box of what is brighter than the rest."""

    name = "bright"
    kind = "faces"
    scope = "frame"
    needs = Needs(frames=Frames(count=1))

    def provide(self, clips: Sequence[Clip]) -> list[Evidence]:
        return [self.find(clip.frames[0]) for clip in clips]

    def find(self, image: np.ndarray) -> Evidence:
        rows, columns = np.nonzero(image.mean(axis=2) > image.mean() + 20)
        if len(rows) < 9:
            return Evidence.none("faces", "no face")
        box = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], dtype=np.float32)
        return Evidence("faces", {"boxes": box, "scores": np.ones(1, dtype=np.float32)}, quality={"side": 1.0})


class Echo(Provider):
    """One word per piece of sound."""

    name = "echo"
    kind = "transcript"
    scope = "media"
    needs = Needs(audio=Audio(8000))

    def provide(self, clips: Sequence[Clip]) -> list[Evidence]:
        return [self.listen(clip) for clip in clips]

    def listen(self, clip: Clip) -> Evidence:
        if not np.abs(clip.audio).max() > 0.01:
            return Evidence.none("transcript", "silence")
        word = Word("hm", clip.audio_start, clip.audio_start + len(clip.audio) / 8000)
        return Evidence("transcript", {"text": "hm", "words": (word,)})


def normalised(values):
    """Rows that sum to 1 over what is said."""
    return values / values.nansum(dim=1, keepdim=True)


class Average(Fusion):
    """The mean of what is valid, with a weight per source that it is loaded with."""

    name = "average"
    checkpoints: ClassVar = {}

    def load(self, device, dtype) -> None:
        self.trained_for = ("a/one", "a/two", "a/three")
        self.shares = dict(zip(self.trained_for, (1.0, 2.0, 3.0), strict=True))

    def fuse(self, sources: Sources) -> Output:
        import torch

        if self.trained_for is None:
            raise ConfigError("average is not fitted: load its weights")
        weight = torch.tensor([self.shares[name] for name in sources.names])[None, :, None] * sources.valid
        values = (sources.values.nan_to_num() * weight).sum(1) / weight.sum(1)
        return Output({BASIC8: normalised(values)})


class Pairs(Head):
    """Sums of the two emotions of each compound expression."""

    name = "pairs"

    def convert(self, fused: Output, sources: Sources) -> Output:
        values = fused.values[BASIC8]
        one, other = ([BASIC8.index(pair[i]) for pair in COMPOUND7.pairs] for i in (0, 1))
        return Output({COMPOUND7: normalised(values[:, one] + values[:, other])})


class Names(Submitter):
    """A name and the index of a class per line."""

    name = "names"
    labels = BASIC7

    def read_template(self, template: Path) -> Asked:
        try:
            lines = [line for line in template.read_text(encoding="utf-8").splitlines() if line]
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{template} cannot be read: {error}") from error
        if not lines or len(set(lines)) < len(lines):
            raise UsageError(f"{template} is empty or asks twice for the same")
        return Asked(tuple(lines), tuple(lines))

    def write(self, asked: Asked, answers: Mapping, out: Path) -> None:
        best = np.nanargmax(answers[BASIC7], axis=1)
        out.write_text("".join(f"{name},{index}\n" for name, index in zip(asked.names, best, strict=True)))

    def check(self, file: Path, template: Path) -> list[Problem]:
        asked = self.read_template(template).names
        try:
            rows = [line.split(",") for line in file.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} cannot be read: {error}") from error
        return list(self.problems(rows, asked))

    def problems(self, rows: Sequence[Sequence[str]], asked: Sequence[str]) -> Iterable[Problem]:
        seen: list[str] = []
        for number, row in enumerate(rows, 1):
            if row[0] not in asked or row[0] in seen:
                yield Problem(number, "not asked for, or twice", "unexpected")
            seen.append(row[0])
            if row[1:] not in [[str(index)] for index in range(7)]:
                yield Problem(number, "no class", "value")
        if [name for name in dict.fromkeys(seen) if name in asked] != list(asked):
            yield Problem(0, "missing or out of order", "order")


KINDS = {Modality: "modality", Provider: "provider", Fusion: "fusion", Head: "head", Submitter: "submitter"}


def outcomes(cls: type[Component], **how: Any) -> dict[str, Outcome]:
    """Every outcome of a component by the name of the check."""
    kind = next(kind for base, kind in KINDS.items() if issubclass(cls, base))
    return {outcome.check: outcome for outcome in examine(kind, cls, **how)}


@pytest.mark.parametrize("cls", [Loud, Bright, Echo, Average, Pairs, Names], ids=lambda cls: cls.name)
def test_good_components_pass_every_check(cls: type[Component]) -> None:
    assert {name: (o.state, o.reason) for name, o in outcomes(cls).items() if o.state != "ok"} == {}


# Broken ones. Each case: the check, what is said, and the component.

Case = tuple[str, str, type[Component]]
CASES: list[Case] = []


def breaks(check: str, *told: str) -> Callable[[type[Component]], type[Component]]:
    """Adds a broken component to the cases: the check that it fails, and words of what is said."""

    def add(cls: type[Component]) -> type[Component]:
        CASES.extend((check, words, cls) for words in told)
        return cls

    return add


@breaks("declaration", "checkpoint 'main' says no licence; write Checkpoint(..., licence='Apache-2.0')")
class Unlicensed(Loud):
    checkpoints: ClassVar = {"main": Checkpoint("https://example.invalid/x.safetensors", source="x.py")}


@breaks("declaration", "checkpoint 'main' says no source; write Checkpoint(..., source='...')")
class Unsourced(Loud):
    checkpoints: ClassVar = {"main": Checkpoint("https://example.invalid/x.safetensors", licence="MIT")}


@breaks("declaration", "Options must be a frozen dataclass")
class Thawed(Loud):
    class Options:
        pass


@breaks("loads", "load raised RuntimeError: no luck")
class Stubborn(Loud):
    def load(self, device, dtype) -> None:
        raise RuntimeError("no luck")


@breaks("answers", "predict raised ZeroDivisionError: division by zero")
class Raising(Loud):
    def predict(self, batch: Mapping) -> Output:
        return 1 / 0


@breaks("answers", "preprocess raised SystemExit: 3")
class Leaving(Loud):
    def preprocess(self, clip: Clip) -> Mapping | None:
        sys.exit(3)


@breaks("answers", "predict returned a dict; return Output({LABELS: values})")
class Plain(Loud):
    def predict(self, batch: Mapping) -> Any:
        return super().predict(batch).values


@breaks("answers", "preprocess must return a mapping of tensors, found ndarray for 'x'")
class Numpy(Loud):
    def preprocess(self, clip: Clip) -> Mapping | None:
        made = super().preprocess(clip)
        return None if made is None else {"x": made["x"].numpy()}


@breaks("answers", "the same shape but for its first dimension")
class Uneven(Loud):
    needs = Needs(frames=Frames(count=2, size=12))

    def preprocess(self, clip: Clip) -> Mapping | None:
        import torch

        return None if clip.frames is None else {"x": torch.from_numpy(clip.frames.astype(np.float32)), "seconds": torch.tensor(1.0)}


@breaks("same answer twice", "the same input gives another answer the second time: basic7 differs by up to")
class Drawing(Loud):
    def predict(self, batch: Mapping) -> Output:
        import torch

        batch = {**batch, "x": batch["x"] + torch.rand(1)}
        return super().predict(batch)


@breaks("same answer twice", "another instance gives another answer to the same input")
class Unloaded(Loud):
    def load(self, device, dtype) -> None:
        import torch

        self.weight = torch.rand(7).to(device)


@breaks("inputs unchanged", "it changes what it is given: [0] audio differs by up to")
class Scaling(Loud):
    def preprocess(self, clip: Clip) -> Mapping | None:
        if clip.audio is not None:
            clip.audio[:] = clip.audio / (np.abs(clip.audio).max() + 1e-9)
        return super().preprocess(clip)


class Downloading(Loud):
    """Swallows that there is no network."""

    def fetch(self) -> None:
        from urllib.request import urlopen

        try:
            urlopen("http://example.invalid:8080/weights", timeout=1)
        except OSError:
            return


@breaks("no network", "it reaches for the network (example.invalid:8080); declare what it needs as a Checkpoint")
class FetchingWeights(Downloading):
    def load(self, device, dtype) -> None:
        super().load(device, dtype)
        self.fetch()


@breaks("no network", "it reaches for the network (example.invalid:8080)")
class AskingAServer(Downloading):
    def predict(self, batch: Mapping) -> Output:
        self.fetch()
        return super().predict(batch)


@breaks("no network", "it reaches for the network (127.0.0.1:9)")
class Connecting(Loud):
    def predict(self, batch: Mapping) -> Output:
        with socket.socket() as wire:
            wire.connect_ex(("127.0.0.1", 9))
        return super().predict(batch)


@breaks("device moved", "after load(device='meta') self.weight is on cpu; move modules and tensors with .to(device)")
class Staying(Loud):
    def load(self, device, dtype) -> None:
        import torch

        super().load(torch.device("cpu"), dtype)


@breaks("labels match columns", "it declares the label sets [basic7, au12] and returned [basic7]; return exactly what is declared")
class Forgetful(Loud):
    def predict(self, batch: Mapping) -> Output:
        output = super().predict(batch)
        return replace(output, values={BASIC7: output.values[BASIC7]})


@breaks("labels match columns", "for 4 clips the values of 'basic7' must be (4, 7), found (4, 5); one column per label")
class Narrow(Loud):
    def predict(self, batch: Mapping) -> Output:
        output = super().predict(batch)
        rows = output.values[BASIC7][:, :5]
        return replace(output, values={BASIC7: rows / rows.sum(1, keepdim=True), AU12: output.values[AU12]})


@breaks("labels match columns", "the values of 'basic7' must be float32, found torch.float64; end predict with .float()")
class Double(Loud):
    def predict(self, batch: Mapping) -> Output:
        output = super().predict(batch)
        return replace(output, values={labels: values.double() for labels, values in output.values.items()})


@breaks("rows sum to one", "rows of 'basic7' must sum to 1, found one that sums to 0.5; use softmax")
class Half(Loud):
    def predict(self, batch: Mapping) -> Output:
        output = super().predict(batch)
        return replace(output, values={BASIC7: output.values[BASIC7] / 2, AU12: output.values[AU12]})


@breaks("values in range", "values of 'au12' must lie in [0, 1], found -")
class Logits(Loud):
    def predict(self, batch: Mapping) -> Output:
        output = super().predict(batch)
        return replace(output, values={BASIC7: output.values[BASIC7], AU12: output.values[AU12] - 5})


@breaks("rows independent", "in place 1 of a batch of 4: basic7 differs by up to")
class BatchNormed(Loud):
    def mean(self, batch: Mapping) -> Any:
        mean = super().mean(batch)
        return mean - mean.mean()


@breaks("padding ignored", "other numbers in the padding of 'x', where the mask is false, change the result: basic7 differs by up to")
class Trusting(Loud):
    """Believes that what is padded is zero."""

    def mean(self, batch: Mapping) -> Any:
        return (batch["x"] ** 2).sum(1).div(batch["x_mask"].sum(1)).sqrt()


@breaks("none without evidence", "preprocess of a clip without sound returned ['seconds', 'x']; return None, so that the window counts")
class Zeros(Loud):
    def preprocess(self, clip: Clip) -> Mapping | None:
        return super().preprocess(replace(clip, audio=np.zeros(1000, np.float32)) if clip.audio is None else clip)


@breaks("none without evidence", "preprocess of a clip without sound raised TypeError")
class Presuming(Loud):
    def preprocess(self, clip: Clip) -> Mapping | None:
        return super().preprocess(clip) if len(clip.audio) else None


@breaks(
    "scant evidence", "preprocess of a clip with sound that is nothing but zeros raised ValueError: silence; return None from preprocess"
)
class Strict(Loud):
    def preprocess(self, clip: Clip) -> Mapping | None:
        if clip.audio is not None and not clip.audio.any():
            raise ValueError("silence")
        return super().preprocess(clip)


@breaks("scant evidence", "values of 'basic7' for a clip with sound that is nothing but zeros are not finite")
class Dividing(Loud):
    def mean(self, batch: Mapping) -> Any:
        mean = super().mean(batch)
        return mean / mean


class Extras(Loud):
    """Changes what comes beside the values."""

    def predict(self, batch: Mapping) -> Output:
        return replace(super().predict(batch), **self.extras(len(batch["x"])))


@breaks("extras fit", "for 4 clips the quality 'q' must be (4,), found (4, 1); one row per clip")
class WideQuality(Extras):
    def extras(self, size: int) -> dict:
        import torch

        return {"quality": {"q": torch.ones(size, 1)}}


@breaks("extras fit", "for 4 clips the embedding 'e' must be (4, D), found (4,)")
class FlatEmbedding(Extras):
    def extras(self, size: int) -> dict:
        import torch

        return {"embeddings": {"e": torch.ones(size)}}


@breaks("extras fit", "for 4 clips notes must be 4 mappings or None, found 4 entries")
class TextNotes(Extras):
    def extras(self, size: int) -> dict:
        return {"notes": ["loud"] * size}


@breaks("extras fit", "quality must be the same in every batch, found ['alone'] for one clip and ['many'] for 4")
class Fickle(Extras):
    def extras(self, size: int) -> dict:
        import torch

        return {"quality": {"alone" if size == 1 else "many": torch.ones(size)}}


@breaks("batch unchanged", "predict changes its batch: x differs by up to")
class InPlace(Loud):
    def predict(self, batch: Mapping) -> Output:
        output = super().predict(batch)
        batch["x"].mul_(2)
        return output


@breaks("threads apart", "preprocess gives another result in a thread beside others: seconds differs by up to")
class Threaded(Loud):
    def preprocess(self, clip: Clip) -> Mapping | None:
        made = super().preprocess(clip)
        apart = threading.current_thread() is not threading.main_thread()
        return None if made is None else {**made, "seconds": made["seconds"] + apart}


# providers


@breaks("answers", "provide must return a list of Evidence, found ['dict']")
class Loose(Bright):
    def provide(self, clips: Sequence[Clip]) -> list:
        return [{"boxes": []} for _ in clips]


@breaks("one evidence per clip", "provide returned 3 evidences for 4 clips; return one per clip, in order")
class Missing(Bright):
    def provide(self, clips: Sequence[Clip]) -> list[Evidence]:
        return super().provide(clips[:3])


@breaks("one evidence per clip", "it declares the kind 'faces' and returned evidence of the kind 'face'")
class Misnamed(Bright):
    def find(self, image: np.ndarray) -> Evidence:
        return replace(super().find(image), kind="face")


@breaks("clips independent", "clip 1 gives other evidence alone and in place 1 of 4")
class Sorting(Bright):
    def provide(self, clips: Sequence[Clip]) -> list[Evidence]:
        return super().provide(sorted(clips, key=lambda clip: clip.frames.size))


class Boxes(Bright):
    """Changes the boxes."""

    def find(self, image: np.ndarray) -> Evidence:
        found = super().find(image)
        return replace(found, data={**found.data, "boxes": self.change(found.data["boxes"], image)}) if found.valid else found


@breaks("well formed", "square pixels is no face; boxes are in pixels of the frame, not shares of it")
class Shares(Boxes):
    def change(self, boxes: np.ndarray, image: np.ndarray) -> np.ndarray:
        return boxes / [image.shape[1], image.shape[0]] * 2

    def find(self, image: np.ndarray) -> Evidence:
        found = Bright.find(self, image)
        scale = np.array([image.shape[1], image.shape[0]] * 2, dtype=np.float32)
        return replace(found, data={**found.data, "boxes": found.data["boxes"] / scale}) if found.valid else found


@breaks("well formed", "x0 < x1 and y0 < y1; did the detector return widths?")
class Widths(Boxes):
    def change(self, boxes: np.ndarray, image: np.ndarray) -> np.ndarray:
        return np.concatenate([boxes[:, :2] + 1000, boxes[:, 2:] - boxes[:, :2]], axis=1)


@breaks("well formed", "lies outside its picture of 320 x 240 pixels; boxes are x0, y0, x1, y1 in pixels of the frame as it was given")
class Elsewhere(Boxes):
    def change(self, boxes: np.ndarray, image: np.ndarray) -> np.ndarray:
        return boxes + 1000


@breaks("well formed", "quality 'side' must be a finite number, found nan")
class Unknown(Bright):
    def find(self, image: np.ndarray) -> Evidence:
        return replace(super().find(image), quality={"side": float("nan")})


@breaks("well formed", "the word 'hm' from 0.00 to 1.00 s lies outside its clip, 1.00 to 2.00 s; times are seconds of the medium")
class Restarting(Echo):
    def listen(self, clip: Clip) -> Evidence:
        found = super().listen(clip)
        return replace(found, data={"text": "hm", "words": (Word("hm", 0.0, len(clip.audio) / 8000),)}) if found.valid else found


@breaks("well formed", "a transcript needs 'words', a sequence of affectkit.api.Word")
class Wordless(Echo):
    def listen(self, clip: Clip) -> Evidence:
        found = super().listen(clip)
        return replace(found, data={"text": "hm"}) if found.valid else found


@breaks("well formed", "evidence of a transcript is valid and has no text; return Evidence.none('transcript', reason)")
class Mute(Echo):
    def listen(self, clip: Clip) -> Evidence:
        found = super().listen(clip)
        return replace(found, data={"text": "", "words": ()}) if found.valid else found


@breaks("reason given", "evidence is not valid and gives no reason; write Evidence.none(kind, 'no face')")
class Silent(Bright):
    def find(self, image: np.ndarray) -> Evidence:
        found = super().find(image)
        return found if found.valid else Evidence.none("faces", "")


@breaks("poor clips", "provide of a clip with a black picture raised ValueError: cannot see; return Evidence.none(kind, reason)")
class Blind(Bright):
    def find(self, image: np.ndarray) -> Evidence:
        if not image.any():
            raise ValueError("cannot see")
        return super().find(image)


@breaks("files named", "files(media) must return paths (pathlib.Path), found ['str']")
class Texts(Bright):
    def files(self, media: Any) -> list:
        return ["beside.txt"]


# fusions and heads


@breaks("labels match columns", "for 8 rows the values of 'basic8' must be (8, 8), found (8, 5); one column per label")
class Five(Average):
    def fuse(self, sources: Sources) -> Output:
        return Output({BASIC8: super().fuse(sources).values[BASIC8][:, :5]})


@breaks("values in range", "values of 'basic8' must lie in [0, 1], found")
class Scores(Average):
    def fuse(self, sources: Sources) -> Output:
        return Output({BASIC8: super().fuse(sources).values[BASIC8].log()})


class Changed(Average):
    """Changes the fused rows."""

    def fuse(self, sources: Sources) -> Output:
        return Output({BASIC8: self.change(super().fuse(sources).values[BASIC8], sources)})


@breaks("missing sources", "a row in which 2 of 3 sources have evidence is NaN; fuse those that have (Sources.valid says which)")
class AllOrNothing(Changed):
    def change(self, values: Any, sources: Sources) -> Any:
        values[~sources.valid.any(dim=2).all(dim=1)] = float("nan")
        return values


@breaks("missing sources", "is NaN in a row in which a source says it; classes that others cannot say must not take it with them")
class TakenAlong(Changed):
    def change(self, values: Any, sources: Sources) -> Any:
        values[~sources.valid.all(dim=1)] = float("nan")
        values[:, 1] = 1.0
        return values.where(sources.valid.any(dim=1).any(dim=1, keepdim=True), float("nan"))


@breaks("missing sources", "a row in which no source has evidence is given values; it must be NaN")
class Inventing(Changed):
    def change(self, values: Any, sources: Sources) -> Any:
        return values.nan_to_num(0.125)


@breaks("sources by name", "the same sources in another order give another result: basic8 differs by up to")
class ByPlace(Average):
    def fuse(self, sources: Sources) -> Output:
        if self.trained_for is None:
            raise ConfigError("not loaded")
        return super().fuse(replace(sources, names=self.trained_for[: len(sources.names)]))


@breaks("rows independent", "row 1 is told differently alone: basic8 differs by up to")
class AcrossRows(Changed):
    def change(self, values: Any, sources: Sources) -> Any:
        return normalised(values * values.nanmean(dim=0))


@breaks("refuses unfitted", "fuse before load raised AttributeError: 'Unprepared' object has no attribute 'shares'; raise ConfigError")
class Unprepared(Average):
    trained_for = ("a/one", "a/two", "a/three")


@breaks("refuses unfitted", "fuse answers although its weights are not loaded; raise ConfigError with what has to be loaded first")
class Improvising(Average):
    @dataclass(frozen=True)
    class Options:
        checkpoint: str | None = None

    def load(self, device, dtype) -> None:
        raise ConfigError("give components.average.checkpoint")

    def fuse(self, sources: Sources) -> Output:
        return Output({BASIC8: sources.values.nanmean(dim=1)})


@breaks("inputs unchanged", "it changes what it is given: [1] values is NaN in one and a number in the other")
class Filling(Average):
    def fuse(self, sources: Sources) -> Output:
        output = super().fuse(sources)
        sources.values.nan_to_num_(0.0)
        return output


@breaks("rows sum to one", "rows of 'compound7' must sum to 1 over the classes that are said, found one that sums to 0.5")
class HalfPairs(Pairs):
    def convert(self, fused: Output, sources: Sources) -> Output:
        return Output({COMPOUND7: super().convert(fused, sources).values[COMPOUND7] / 2})


@breaks("nothing in nothing out", "a row in which nothing has evidence is given values; it must be NaN")
class Guessing(Pairs):
    def convert(self, fused: Output, sources: Sources) -> Output:
        return Output({COMPOUND7: super().convert(fused, sources).values[COMPOUND7].nan_to_num(1 / 7)})


@breaks("nothing in nothing out", "a row in which everything has evidence is NaN; give it values")
class Shy(Pairs):
    def convert(self, fused: Output, sources: Sources) -> Output:
        return Output({COMPOUND7: super().convert(fused, sources).values[COMPOUND7] * float("nan")})


# submitters


@breaks("answers", "write(asked, answers, out) wrote ['log.txt', 'submission.txt'] where out is submission.txt")
class Talkative(Names):
    def write(self, asked: Asked, answers: Mapping, out: Path) -> None:
        super().write(asked, answers, out)
        out.with_name("log.txt").write_text("done")


@breaks("round trip", "its check finds 16 problems in what it wrote itself, first in line 1: no class; make both agree")
class OffByOne(Names):
    def problems(self, rows: Sequence[Sequence[str]], asked: Sequence[str]) -> Iterable[Problem]:
        return (Problem(number, "no class", "value") for number in range(1, len(rows) + 1))


@breaks("every line answered", "of the list is answered in 0 lines; leave out no line and double none")
class Skipping(Names):
    def write(self, asked: Asked, answers: Mapping, out: Path) -> None:
        super().write(Asked(asked.names[:-1], asked.videos[:-1]), {BASIC7: answers[BASIC7][:-1]}, out)


@breaks("every line answered", "the lines are not in the order of the list")
class Turned(Names):
    def write(self, asked: Asked, answers: Mapping, out: Path) -> None:
        super().write(Asked(asked.names[::-1], asked.videos[::-1]), {BASIC7: answers[BASIC7][::-1]}, out)


def blind_to(words: str, told: str) -> None:
    """Adds a submitter whose check does not see some problems."""

    class Blinded(Names):
        def problems(self, rows: Sequence[Sequence[str]], asked: Sequence[str]) -> Iterable[Problem]:
            return (problem for problem in super().problems(rows, asked) if words not in problem.message)

    CASES.append(("damage found", told, Blinded))


blind_to("out of order", "its check finds nothing wrong with a file in which a line is missing; return a Problem for it")
blind_to("twice", "its check finds nothing wrong with a file in which a line is there twice; return a Problem for it")
blind_to("class", "its check finds nothing wrong with a file in which a value is '99'; return a Problem for it")


@breaks("damage found", "in a file in which a line is there twice (line 17) its check names the lines [16]; lines are counted from 1")
class FromZero(Names):
    def problems(self, rows: Sequence[Sequence[str]], asked: Sequence[str]) -> Iterable[Problem]:
        return (replace(problem, line=max(0, problem.line - 1)) for problem in super().problems(rows, asked))


@breaks("damaged lists", "read_template takes a list that is empty; raise UsageError that says what is wrong")
class Easy(Names):
    def read_template(self, template: Path) -> Asked:
        return Asked((), ()) if template.is_file() and not template.read_bytes() else super().read_template(template)


@breaks("damaged lists", "check of a file that is no text raised UnicodeDecodeError")
class Trustful(Names):
    def check(self, file: Path, template: Path) -> list[Problem]:
        rows = [line.split(",") for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []
        return list(self.problems(rows, self.read_template(template).names))


@pytest.mark.parametrize(("check", "told", "cls"), CASES, ids=[f"{check}-{cls.__name__}".replace(" ", "_") for check, _, cls in CASES])
def test_broken_components_fail_with_a_sentence(check: str, told: str, cls: type[Component]) -> None:
    outcome = outcomes(cls)[check]
    assert outcome.state == "broken"
    assert told in outcome.reason


def test_every_check_is_failed_by_some_component() -> None:
    from affectkit.testing import CHECKS

    failed = {check for check, _, _ in CASES} | {"light import", "nothing global"}  # these have tests of their own
    assert {check.__name__.replace("_", " ") for checks in CHECKS.values() for check in checks} == failed


# what everything shares


def _seed() -> None:
    import torch

    torch.manual_seed(0)


def _threads() -> None:
    import torch

    torch.set_num_threads(torch.get_num_threads() + 1)


def _dtype() -> None:
    import torch

    torch.set_default_dtype(torch.float64)


DEEDS: Mapping[str, tuple[Callable[[], Any], str]] = {
    "environment": (lambda: os.environ.update(AFFECTKIT_TOUCHED="1"), "changes the environment variables (AFFECTKIT_TOUCHED)"),
    "path": (lambda: sys.path.append("/elsewhere"), "changes sys.path (added ['/elsewhere'"),
    "threads": (_threads, "changes the settings of torch (number of threads)"),
    "warnings": (lambda: warnings.simplefilter("ignore"), "changes the warnings filters"),
    "logging": (lambda: logging.getLogger().addHandler(logging.NullHandler()), "changes the handlers or the level of the root logger"),
    "signals": (lambda: signal.signal(signal.SIGUSR1, lambda *_: None), "changes the signal handlers"),
    "numpy": (lambda: np.seterr(divide="raise"), "changes numpy's handling of errors (divide); use numpy.errstate()"),
    "timeout": (lambda: socket.setdefaulttimeout(5.0), "changes the default timeout of sockets (None before, 5.0 after)"),
    "hook": (lambda: setattr(sys, "excepthook", lambda *_: None), "changes sys.excepthook"),
}


@pytest.mark.parametrize("name", DEEDS)
@pytest.mark.parametrize("stage", ["loading it", "computing"])
def test_what_everything_shares_is_left_alone(name: str, stage: str) -> None:
    deed, told = DEEDS[name]

    class Meddling(Loud):
        def load(self, device, dtype) -> None:
            super().load(device, dtype)
            if stage == "loading it":
                deed()

        def predict(self, batch: Mapping) -> Output:
            if stage == "computing":
                deed()
            return super().predict(batch)

    outcome = outcomes(Meddling)["nothing global"]
    assert outcome.state == "broken"
    assert f"{stage} {told}" in outcome.reason
    assert "AFFECTKIT_TOUCHED" not in os.environ
    assert "/elsewhere" not in sys.path
    assert np.geterr()["divide"] != "raise"
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize(
    ("deed", "told"),
    [
        (_seed, "computing changes the state of torch, which everything in the process shares"),
        (lambda: np.random.seed(0), "computing changes the state of numpy.random"),
        (lambda: random.seed(0), "computing changes the state of random"),
        (lambda: Path("log.txt").write_text("x"), "computing writes into the working directory (log.txt)"),
        (lambda: os.chdir("/"), "computing changes the working directory of the whole program; use absolute paths"),
        (_dtype, "computing changes the settings of torch (default dtype)"),
    ],
    ids=["torch", "numpy", "random", "file", "folder", "dtype"],
)
def test_computing_leaves_no_trace(deed: Callable[[], Any], told: str) -> None:
    class Tracing(Loud):
        def predict(self, batch: Mapping) -> Output:
            output = super().predict(batch)
            deed()
            return output

    here = os.getcwd()
    outcome = outcomes(Tracing)["nothing global"]
    assert outcome.state == "broken"
    assert told in outcome.reason
    assert os.getcwd() == here


def test_seeding_while_loading_is_told() -> None:
    class Seeding(Loud):
        def load(self, device, dtype) -> None:
            super().load(device, dtype)
            _seed()

    outcome = outcomes(Seeding)["nothing global"]
    assert "load seeds torch, which everything in the process shares" in outcome.reason


# what cannot be checked is not passed


class Needy(Loud):
    needs = Needs(inputs=(Input("ambrosia"),))


class Absent(Loud):
    checkpoints: ClassVar = {"main": Checkpoint("https://example.invalid/x.safetensors", sha256="0" * 64, licence="MIT", source="x.py")}


class Deaf(Loud):
    def preprocess(self, clip: Clip) -> None:
        return None


class Requiring(Loud):
    requires = ("package_that_is_not_there",)


class Unseeing(Bright):
    def find(self, image: np.ndarray) -> Evidence:
        return Evidence.none("faces", "no face")


@pytest.mark.parametrize(
    ("cls", "check", "told"),
    [
        (
            Needy,
            "answers",
            "it needs the input 'ambrosia', which cannot be made here (no provider of it is installed); give clips that carry it",
        ),
        (Absent, "loads", "the weights x.safetensors are not here"),
        (Absent, "values in range", "Get them with 'affectkit weights fetch acme/part'"),
        (Requiring, "loads", "acme/part needs the package package_that_is_not_there, which is not installed"),
        (Deaf, "rows sum to one", "none of the clips that were made from its needs is evidence to it"),
        (Stubborn, "rows sum to one", "it cannot be loaded: load raised RuntimeError: no luck"),
        (Raising, "rows sum to one", "it does not answer: predict raised ZeroDivisionError"),
        (Unseeing, "well formed", "it found nothing in the clips that were made for it (no face); give clips in which it does"),
    ],
)
def test_what_cannot_be_checked_is_told(cls: type[Component], check: str, told: str) -> None:
    outcome = outcomes(cls, id="acme/part")[check]
    assert outcome.state == "unchecked"
    assert told in outcome.reason


def test_weights_of_the_own_package_must_be_in_it() -> None:
    package = Loud.__module__.partition(".")[0]

    class Unpacked(Loud):
        checkpoints: ClassVar = {"main": Checkpoint(f"package:{package}/weights/x.safetensors", licence="MIT", source="x.py")}

    outcome = outcomes(Unpacked)["loads"]
    assert outcome.state == "broken"
    assert "the weights of its own package are not in it" in outcome.reason
