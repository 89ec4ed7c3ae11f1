"""What a plugin that knows the files of a challenge is made of: the organisers' list, the submission, the official metric. L is lines."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affectkit.components import Component
from affectkit.errors import PluginError, UsageError
from affectkit.labels import LabelSet


@dataclass(frozen=True)
class Asked:
    """What the organisers of a challenge ask for: L lines, in their order.

    Attributes:
        names: L texts, each a line as the list calls it, for instance ``"01/00001.jpg"``; no two are the same.
        videos: L names of videos.
        frames: (L,) int64 frames, counted from 1; ``None`` where each line asks for one answer to a whole video.
    """

    names: tuple[str, ...]
    videos: tuple[str, ...]
    frames: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "videos", tuple(self.videos))
        if self.frames is not None:
            object.__setattr__(self, "frames", np.asarray(self.frames, dtype=np.int64))
        lengths = (len(self.names), len(self.videos), len(self.names) if self.frames is None else len(self.frames))
        if len(set(lengths)) > 1:
            raise PluginError("Asked needs a name, a video and a frame per line; found {} names, {} videos, {} frames".format(*lengths))
        if len(set(self.names)) < len(self.names):
            raise PluginError("Asked has a name twice; a list that asks twice for the same is damaged: raise a UsageError that says where")

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a submission file.

    Attributes:
        line: the line of the file, counted from 1; 0 for the file as a whole, for instance for a line that is missing.
        message: what is wrong, and what was expected.
        kind: problems of one kind are counted together: ``"missing"``, ``"unexpected"``, ``"doubled"``, ``"order"``, ``"value"``, ...
    """

    line: int
    message: str
    kind: str = ""


class Submitter(Component):
    """Knows the files of one challenge: the organisers' list, the submission, and the official metric.

    Core answers: it reads the run, chooses source and subject, averages windows per frame, and fills what has no evidence. A
    submitter owns the format only, and never leaves out or reorders a line.

    Attributes:
        labels: the label set that an answer is made of, or several.
    """

    labels: LabelSet | tuple[LabelSet, ...]

    @property
    def label_sets(self) -> tuple[LabelSet, ...]:
        """The label sets that an answer is made of, always as a tuple."""
        return (self.labels,) if isinstance(self.labels, LabelSet) else tuple(self.labels)

    @abstractmethod
    def read_template(self, template: Path) -> Asked:
        """The lines that the organisers' list asks for.

        Raises:
            UsageError: where the list is damaged; says in which line (:class:`affectkit.errors.Problems` for several).
        """

    @abstractmethod
    def write(self, asked: Asked, answers: Mapping[LabelSet, np.ndarray], out: Path) -> None:
        """Writes the submission.

        Args:
            asked: the lines of the list.
            answers: for each of :attr:`labels` (L, C) float64, one row per line, in the range of the set. A class that no source can
                say is NaN in a row of a categorical set; every other value is finite.
            out: the file to write; core checks it and then gives it its name.
        """

    @abstractmethod
    def check(self, file: Path, template: Path) -> list[Problem]:
        """What is missing, unexpected, doubled, out of order or out of range in ``file``; nothing where it can be sent in.

        Raises:
            UsageError: where the list itself is damaged, or a file cannot be read.
        """

    def recognises(self, file: Path) -> bool:
        """Whether a file, or an organisers' list, is one of this challenge, as its first line tells."""
        return False

    def remarks(self, answers: Mapping[LabelSet, np.ndarray]) -> Mapping[str, float]:
        """Numbers that help to judge ``answers`` (as in :meth:`write`) without labels, by name; they are printed with the report."""
        return {}

    def score(self, file: Path, labels: Path) -> Mapping[str, float]:
        """The official metric of a submission, first, and what it is made of, by name.

        Args:
            file: the submission.
            labels: file or folder of labels, as the organisers give them out.

        Raises:
            UsageError: where this challenge's metric is not known, or file and labels do not fit.
        """
        raise UsageError(f"{self.id} knows no official metric of its challenge, so it cannot score a file")
