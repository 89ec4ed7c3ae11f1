"""affectkit-finecliper: FineCLIPER (arXiv 2407.02157, ACM MM 2024), reconstructed from its description."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from affectkit.api import Modality, Provider, Training, hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def affectkit_modalities() -> Iterable[type[Modality]]:
    """The emotions of a face over a window."""
    from affectkit_finecliper.face_dynamic import FaceDynamic

    return [FaceDynamic]


@hookimpl
def affectkit_providers() -> Iterable[type[Provider]]:
    """Points and regions of a face."""
    from affectkit_finecliper.landmarks import Landmarks
    from affectkit_finecliper.parsing import Parsing
    from affectkit_finecliper.parsing_network import ParsingNetwork

    return [Landmarks, Parsing, ParsingNetwork]


@hookimpl
def affectkit_recipes() -> Iterable[Path]:
    """Frames alone, and with the other streams."""
    return sorted((Path(__file__).parent / "recipes").glob("*.yaml"))


@hookimpl
def affectkit_trainings() -> Iterable[type[Training]]:
    """How what is tuned is made."""
    from affectkit_finecliper.trainings.clips import FaceDynamicTraining

    return [FaceDynamicTraining]


@hookimpl
def affectkit_training_recipes() -> Iterable[Path]:
    """A recipe for each training."""
    return sorted((Path(__file__).parent / "trainings").glob("*.yaml"))


@hookimpl
def affectkit_commands(group: click.Group) -> None:
    """``affectkit finecliper describe``."""
    from affectkit_finecliper.commands import finecliper

    group.add_command(finecliper)
