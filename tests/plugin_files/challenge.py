"""A one-file plugin for tests: a challenge that asks for one word per video, in a CSV."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affectkit.api import BASIC8, Asked, LabelSet, Problem, Submitter, UsageError, hookimpl


class Moods(Submitter):
    """``video;mood`` with one line per video."""

    name = "moods"
    labels = BASIC8

    @dataclass(frozen=True)
    class Options:
        """How words are written."""

        capitals: bool = False

    def read_template(self, template: Path) -> Asked:
        lines = template.read_text(encoding="utf-8").split()
        if not lines:
            raise UsageError(f"{template} is empty")
        return Asked(tuple(lines), tuple(lines))

    def write(self, asked: Asked, answers: Mapping[LabelSet, np.ndarray], out: Path) -> None:
        words = [BASIC8.labels[index] for index in np.nanargmax(answers[BASIC8], axis=1)]
        words = [word.upper() for word in words] if self.options.capitals else words
        out.write_text("".join(f"{name};{word}\n" for name, word in zip(asked.names, words, strict=True)), encoding="utf-8")

    def check(self, file: Path, template: Path) -> list[Problem]:
        names = [line.partition(";")[0] for line in file.read_text(encoding="utf-8").splitlines()]
        return [] if names == list(self.read_template(template).names) else [Problem(0, "is not in the order of the list")]


@hookimpl
def affectkit_submitters():
    return [Moods]
