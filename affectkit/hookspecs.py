"""The hooks that a plugin may implement. An implementation may take fewer arguments than its specification.

Hooks and arguments are only ever added within a major version. No hook runs inside the hot loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click

    from affectkit.challenges import Submitter
    from affectkit.components import Fusion, Head, Modality, Provider
    from affectkit.media import Media
    from affectkit.trainings import Training

PROJECT = "affectkit"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def affectkit_providers() -> Iterable[type[Provider]]:  # type: ignore[empty-body]
    """Classes that make inputs: face detectors, transcripts, descriptions."""


@hookspec
def affectkit_modalities() -> Iterable[type[Modality]]:  # type: ignore[empty-body]
    """Classes that look at clips and give probabilities."""


@hookspec
def affectkit_fusions() -> Iterable[type[Fusion]]:  # type: ignore[empty-body]
    """Classes that make one opinion of several sources."""


@hookspec
def affectkit_heads() -> Iterable[type[Head]]:  # type: ignore[empty-body]
    """Classes that turn basic emotions into compound expressions."""


@hookspec
def affectkit_submitters() -> Iterable[type[Submitter]]:  # type: ignore[empty-body]
    """Classes that write and check challenge files."""


@hookspec
def affectkit_trainings() -> Iterable[type[Training]]:  # type: ignore[empty-body]
    """Classes that say how a file of weights is made."""


@hookspec
def affectkit_training_recipes() -> Iterable[Path]:  # type: ignore[empty-body]
    """YAML training recipes that the plugin ships; ``plugin/stem`` is the name of a recipe for ``affectkit train``."""


@hookspec
def affectkit_recipes() -> Iterable[Path]:  # type: ignore[empty-body]
    """YAML recipes that the plugin ships; ``plugin/stem`` is the name of a recipe."""


@hookspec
def affectkit_commands(group: click.Group) -> None:
    """Adds commands to the command line."""


@hookspec
def affectkit_run_started(run: Any) -> None:
    """A run begins; ``run`` is its :class:`affectkit.store.Run`."""


@hookspec
def affectkit_media_finished(run: Any, media: Media, timelines: Sequence[Any]) -> None:
    """A medium is finished and its part is written."""


@hookspec
def affectkit_media_failed(run: Any, media: Media, error: Exception) -> None:
    """A medium could not be read, or not to its end."""


@hookspec
def affectkit_run_finished(run: Any) -> None:
    """A run is over; its tables are written."""
