"""affectkit-ifdd: expressions of a face over time, split into what stays and what moves (IFDD, AAAI 2025, arXiv 2412.13168)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from affectkit.api import Modality, hookimpl


@hookimpl
def affectkit_modalities() -> Iterable[type[Modality]]:
    """The face over a window."""
    from affectkit_ifdd.face_dynamic import FaceDynamic

    return [FaceDynamic]


@hookimpl
def affectkit_recipes() -> Iterable[Path]:
    """The face alone, by the detector of affectkit-mini."""
    return sorted((Path(__file__).parent / "recipes").glob("*.yaml"))
