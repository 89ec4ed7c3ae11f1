"""Whether the terms of weights allow commercial use: what their record says, what an SPDX identifier says, what the file itself says."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from affectkit import checkpoints, weight_files
from affectkit.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from affectkit.components import Component
    from affectkit.needs import Checkpoint

ALLOWING = frozenset(
    ("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC-BY-4.0", "CC0-1.0", "ISC", "MIT", "MIT-0", "Unlicense", "Zlib")
)
"""SPDX identifiers of licences that allow commercial use without further conditions on what is made with the weights."""
ANSWERS = {"yes": True, "no": False}  # what the header of a safetensors file may say under ``commercial``
INSTEAD = {
    "modality": "leave it out with --plugins",
    "provider": "choose another provider with --set providers.{0}=ID",
    "fusion": "choose another fusion, for instance --fusion core/mean, which has no weights",
    "head": "choose another head, for instance --head core/ppa, which has no weights",
}


def commercial_use(checkpoint: Checkpoint, path: Path | None = None, known: Iterable[Checkpoint] = ()) -> bool | None:
    """Whether weights may be used commercially; ``None`` where nothing says so.

    Args:
        checkpoint: their record. What it says of ``commercial`` counts before its licence.
        path: the file, where it is here. Where the record says nothing, a published file of the same digest does, or the file's own header.
        known: the published checkpoints of the component.

    >>> from affectkit.api import Checkpoint
    >>> [commercial_use(Checkpoint("w.pt", licence=name)) for name in ("MIT", "CC-BY-NC-SA-4.0", "ask the author")]
    [True, False, None]
    >>> commercial_use(Checkpoint("w.pt", licence="Apache-2.0", commercial=False))  # trained on data for research
    False
    """
    stated = _stated(checkpoint.licence) if checkpoint.commercial is None else checkpoint.commercial
    if stated is not None or path is None:
        return stated
    digest = checkpoints.sha256(path)
    for other in known:
        if other.sha256 == digest:
            return commercial_use(other)
    return True if weight_files.is_random(path) else _said_inside(path)


def refusal(component: Component, kind: str, tag: str, checkpoint: Checkpoint, path: Path | None) -> UsageError | None:
    """Why ``--commercial`` refuses weights, and what to do; ``None`` where their terms allow commercial use.

    Args:
        component: the component that would use them.
        kind: ``"modality"``, ``"provider"``, ``"fusion"`` or ``"head"``.
        tag: which of its checkpoints they are.
        checkpoint: their record.
        path: the file, where it is here.
    """
    may = commercial_use(checkpoint, path, component.checkpoints.values())
    if may:
        return None
    option = next((name for name in ("checkpoint", tag) if hasattr(component.options, name)), None)
    instead = INSTEAD[kind].format(getattr(component, "kind", ""))
    instead += f", or give other weights with --set components.{component.id}.{option}=FILE" if option else ""
    name = f"{checkpoints.file_name(checkpoint, path)} (licence: {checkpoint.licence})"
    if may is False:
        return UsageError(f"{component.id}: the terms of {name} do not allow commercial use; {instead}")
    return UsageError(
        f"{component.id}: nothing says whether {name} may be used commercially, so --commercial refuses it; {instead}. "
        "If its terms allow it, its record or its header can say so: see 'Commercial use' in docs/weights.md"
    )


def _stated(licence: str) -> bool | None:
    """What an SPDX identifier says; ``None`` for any other text, and for licences with conditions that a person must judge."""
    if licence in ALLOWING:
        return True
    return False if " " not in licence and "NC" in licence.split("-") else None


def _said_inside(path: Path) -> bool | None:
    """What the header of a safetensors file says under ``commercial`` or ``licence``."""
    if path.suffix != ".safetensors":
        return None
    with suppress(CheckpointError):  # a damaged file is told where it is loaded
        header = weight_files.metadata(path)
        return ANSWERS.get(header.get("commercial", ""), _stated(header.get("licence", "")))
    return None
