"""affectkit: a plugin-based toolkit for affective computing. Importing it imports no torch and no pandas."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from affectkit.labels import BASIC8 as BASIC8
    from affectkit.labels import COMPOUND7 as COMPOUND7
    from affectkit.labels import LabelSet as LabelSet
    from affectkit.session import RunResult as RunResult
    from affectkit.session import run as run
    from affectkit.tables import read_run as read_run
    from affectkit.timeline import Timeline as Timeline

__version__ = "0.1.0"

_LAZY = {
    "BASIC8": "affectkit.labels",
    "COMPOUND7": "affectkit.labels",
    "LabelSet": "affectkit.labels",
    "RunResult": "affectkit.session",
    "Timeline": "affectkit.timeline",
    "read_run": "affectkit.tables",
    "run": "affectkit.session",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'affectkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
