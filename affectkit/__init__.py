"""affectkit: a plugin-based toolkit for affective computing. Importing it imports no torch and no pandas."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from affectkit.config import Recipe as Recipe
    from affectkit.errors import AffectKitError as AffectKitError
    from affectkit.labels import AU12 as AU12
    from affectkit.labels import BASIC7 as BASIC7
    from affectkit.labels import BASIC8 as BASIC8
    from affectkit.labels import COMPOUND7 as COMPOUND7
    from affectkit.labels import VA as VA
    from affectkit.labels import LabelSet as LabelSet
    from affectkit.session import RunResult as RunResult
    from affectkit.session import run as run
    from affectkit.tables import read_frames as read_frames
    from affectkit.tables import read_info as read_info
    from affectkit.tables import read_quality as read_quality
    from affectkit.tables import read_run as read_run
    from affectkit.tables import read_subjects as read_subjects
    from affectkit.tables import read_timelines as read_timelines
    from affectkit.timeline import Timeline as Timeline

__version__ = "0.1.0"

_LAZY = {
    "AU12": "affectkit.labels",
    "AffectKitError": "affectkit.errors",
    "BASIC7": "affectkit.labels",
    "BASIC8": "affectkit.labels",
    "COMPOUND7": "affectkit.labels",
    "LabelSet": "affectkit.labels",
    "Recipe": "affectkit.config",
    "RunResult": "affectkit.session",
    "Timeline": "affectkit.timeline",
    "VA": "affectkit.labels",
    "read_frames": "affectkit.tables",
    "read_info": "affectkit.tables",
    "read_quality": "affectkit.tables",
    "read_run": "affectkit.tables",
    "read_subjects": "affectkit.tables",
    "read_timelines": "affectkit.tables",
    "run": "affectkit.session",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'affectkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
