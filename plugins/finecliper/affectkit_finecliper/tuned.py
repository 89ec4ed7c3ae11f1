"""Files of what was tuned: adapters and no CLIP, with the labels, the texts, the shape and the fingerprint of the CLIP that they were tuned in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from affectkit.api import CheckpointError, ConfigError, LabelError, LabelSet
from affectkit.errors import Problems, asked_by
from affectkit.labels import canonical
from affectkit.options import build
from affectkit_finecliper.shape import Shape
from affectkit_finecliper.texts import TEXTS, Sides

MADE = "affectkit train finecliper/face_dynamic"


@dataclass(frozen=True)
class Tuned:
    """The header of a file.

    Attributes:
        labels: that it was tuned on.
        shape: of the adapters.
        texts: what those labels looked like in words.
        backbone: fingerprint of the CLIP.
        temperature: by which logits are divided.
    """

    labels: LabelSet
    shape: Shape
    texts: Mapping[str, Sides]
    backbone: str
    temperature: float

    def known(self) -> Mapping[str, Sides]:
        """What labels look like: in the words that it was tuned with, others in ours."""
        return {**TEXTS, **self.texts}


def settings(labels: LabelSet, shape: Shape, texts: Sequence[Sides], backbone: str) -> dict[str, Any]:
    """What the header says beside the labels and the temperature, as plain data."""
    return {
        "label_set": labels.name,
        "shape": {**asdict(shape), "streams": list(shape.streams)},
        "texts": {label: [one.positive, one.negative] for label, one in zip(labels.labels, texts, strict=True)},
        "backbone": backbone,
    }


def read_tuned(path: Path, owner: str) -> Tuned:
    """The header of a file.

    Args:
        path: safetensors.
        owner: id of the component, for messages.

    Raises:
        CheckpointError: where it is damaged, or another kind of file.
    """
    from affectkit import headers

    if path.suffix != ".safetensors":
        raise CheckpointError(f"{owner}: {path} is no file of '{MADE}', which writes safetensors; a whole CLIP is the option backbone")
    with asked_by(owner):
        found = headers.mapping(path)
    try:
        labels, name = tuple(found["labels"]), str(found["label_set"])
        if other := set(labels) ^ set(found["texts"]):
            raise ValueError(
                f"its header has {len(labels)} labels and texts of {len(found['texts'])}, which differ in {', '.join(sorted(other))}"
            )
        temperature = float(found.get("temperature", 1.0))
        if not 0 < temperature < math.inf:
            raise ValueError(f"its temperature is {temperature}")
        return Tuned(
            labels=headers.label_set(name, labels),
            shape=build(Shape, found["shape"], where=("shape",)),
            texts={canonical(label): Sides(*sides) for label, sides in found["texts"].items()},
            backbone=str(found["backbone"]),
            temperature=temperature,
        )
    except (KeyError, TypeError, ValueError, LabelError, ConfigError, Problems) as error:
        reason = f"its header has no {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(
            f"{owner}: {path} is no file of '{MADE}' ({reason}); a whole CLIP, or weights of another model, are not what the option tuned takes"
        ) from None
