"""affectkit-ifdd: expressions of a face over time, split into what stays and what moves (IFDD, AAAI 2025, arXiv 2412.13168)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from affectkit.api import Modality, Training, hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def affectkit_modalities() -> Iterable[type[Modality]]:
    """The face over a window."""
    from affectkit_ifdd.face_dynamic import FaceDynamic

    return [FaceDynamic]


@hookimpl
def affectkit_recipes() -> Iterable[Path]:
    """The face alone, by the detector of affectkit-mini."""
    return sorted((Path(__file__).parent / "recipes").glob("*.yaml"))


@hookimpl
def affectkit_trainings() -> Iterable[type[Training]]:
    """How its weights are made."""
    from affectkit_ifdd.training import FaceDynamicTraining

    return [FaceDynamicTraining]


@hookimpl
def affectkit_training_recipes() -> Iterable[Path]:
    """One for each of the data sets of the paper."""
    return sorted((Path(__file__).parent / "trainings").glob("*.yaml"))


@hookimpl
def affectkit_commands(group: click.Group) -> None:
    """``affectkit ifdd picture``."""
    from affectkit_ifdd.commands import ifdd

    group.add_command(ifdd)
