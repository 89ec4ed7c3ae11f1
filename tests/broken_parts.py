"""Components that break one promise each: providers, fusions, heads, submitters and trainings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from affectkit.api import (
    BASIC7,
    BASIC8,
    COMPOUND7,
    Clip,
    ConfigError,
    Evidence,
    Output,
    Sources,
    Word,
)
from affectkit.challenges import Asked, Problem
from tests.broken_modalities import CASES, breaks
from tests.good_components import Average, Bright, Echo, Names, Pairs, Slopes, normalised

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


# trainings


@breaks("network made", "network() gave Identity without parameters; give the torch.nn.Module that is trained")
class Flat(Slopes):
    def network(self) -> Any:
        from torch import nn

        return nn.Identity()


@breaks("network made", "network() begins with other numbers each time; take random numbers from torch alone")
class Restless(Slopes):
    def network(self) -> Any:
        network = super().network()
        network.bias.data.fill_(float(np.random.random()))
        return network
