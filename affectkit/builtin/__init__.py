"""The plugin ``core``: providers, fusions and heads that ship with affectkit, through the same hooks as any plugin."""

from __future__ import annotations

from collections.abc import Iterable

from affectkit.api import Fusion, Head, Provider, hookimpl


@hookimpl
def affectkit_providers() -> Iterable[type[Provider]]:
    """Faces, words and descriptions."""
    return []


@hookimpl
def affectkit_fusions() -> Iterable[type[Fusion]]:
    """One opinion of several sources."""
    return []


@hookimpl
def affectkit_heads() -> Iterable[type[Head]]:
    """Basic emotions into compound expressions."""
    return []
