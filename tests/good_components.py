"""Components that keep every promise, one of each kind; torch is imported in functions, as in a plugin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from affectkit.api import (
    AU12,
    BASIC7,
    BASIC8,
    COMPOUND7,
    About,
    Audio,
    Clip,
    Component,
    ConfigError,
    Evidence,
    Frames,
    Fusion,
    Head,
    Modality,
    Needs,
    Output,
    Part,
    Provider,
    Sources,
    Submitter,
    Training,
    UsageError,
    Word,
)
from affectkit.challenges import Asked, Problem
from affectkit.testing import Outcome, examine


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


class Slopes(Training):
    """Weights of a plane."""

    name = "slopes"
    labels = BASIC7

    def parts(self, data: Path) -> Mapping[str, Part]:
        raise UsageError(f"there is nothing in {data}")

    def network(self) -> Any:
        from torch import nn

        return nn.Linear(2, 7)

    def predict(self, network: Any, batch: Mapping) -> Any:
        return network(batch["points"])

    def about(self) -> About:
        return About("Slopes", "A plane.", "none", "Apache-2.0", "It knows nothing.")


KINDS = {Modality: "modality", Provider: "provider", Fusion: "fusion", Head: "head", Submitter: "submitter", Training: "training"}


def outcomes(cls: type[Component], **how: Any) -> dict[str, Outcome]:
    """Every outcome of a component by the name of the check."""
    kind = next(kind for base, kind in KINDS.items() if issubclass(cls, base))
    return {outcome.check: outcome for outcome in examine(kind, cls, **how)}


def outcome_of(check: str, cls: type[Component], **how: Any) -> Outcome:
    """The outcome of one check; later ones are not made."""
    kind = next(kind for base, kind in KINDS.items() if issubclass(cls, base))
    return next(outcome for outcome in examine(kind, cls, **how) if outcome.check == check)
