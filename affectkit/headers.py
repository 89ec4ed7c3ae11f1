"""The headers of files of weights: what ``affectkit train`` says there beside the tensors, read as options are, or refused in a sentence.

A header is text by key (:func:`affectkit.weight_files.metadata`); each text is JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from affectkit.errors import AffectKitError, CheckpointError, ConfigError, Problems, asked_by
from affectkit.labels import KNOWN, Kind, LabelSet
from affectkit.options import build
from affectkit.weight_files import TORCH_SUFFIXES, metadata


@dataclass(frozen=True, kw_only=True)
class Header:
    """Settings that most trainings write. A plugin adds its own in a subclass and gives that to :func:`settings`.

    Attributes:
        labels: in the order of the network's output; none where the file does not say.
        label_set: name of their set.
        temperature: by which logits are divided, greater than 0.
    """

    labels: tuple[str, ...] = ()
    label_set: str = "labels"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ConfigError(f"temperature must be a number above 0, found {self.temperature}")
        if self.labels:
            label_set(self.label_set, self.labels)  # which refuses labels that cannot be


def mapping(path: Path, key: str = "settings") -> dict[str, Any]:
    """The JSON object under a key of a header; nothing of a file without that key, nor of one that has no header, as those of torch.

    Raises:
        CheckpointError: where the file is absent or damaged, or its header says something else.
    """
    if path.suffix in TORCH_SUFFIXES:
        return {}
    try:
        found = json.loads(metadata(path).get(key, "{}"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: {key!r} in its header is no JSON object; give a file that 'affectkit train' wrote, as it wrote it")
    return found


def settings(path: Path, expected: type[Header], owner: str) -> dict[str, Any]:
    """What a header says of its network, where all that ``expected`` knows is as that wants it; what else is there is kept as it is.

    Args:
        path: the file.
        expected: which settings are known, and what they are.
        owner: id of the component or training that asks, for messages.

    Raises:
        CheckpointError: where the file is absent or damaged, or its header says what cannot be.
    """
    with asked_by(owner):
        found = mapping(path)
    known = {item.name for item in fields(expected)}
    try:
        build(expected, {key: value for key, value in found.items() if key in known})
    except AffectKitError as error:
        problems = error.problems if isinstance(error, Problems) else (error,)
        raise CheckpointError(
            f"{owner}: the header of {path} says what cannot be: {'; '.join(map(str, problems))}; give a file as 'affectkit train {owner}' wrote it"
        ) from None
    return found


def label_set(name: str, labels: Sequence[str], kind: Kind = "categorical", low: float = 0.0, high: float = 1.0) -> LabelSet:
    """The known label set of that name where it has these labels in this order, else a new one.

    >>> from affectkit.labels import BASIC7
    >>> label_set("basic7", BASIC7.labels) is BASIC7, label_set("basic7", ("joy", "grief")).labels
    (True, ('joy', 'grief'))
    """
    known = KNOWN.get(name)
    return known if known is not None and known.labels == tuple(labels) else LabelSet(name, tuple(labels), kind, low, high)
