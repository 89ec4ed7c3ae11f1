"""affectkit-s4d: S4D (UniLearn, arXiv 2409.06154), which learns expressions from pictures and clips together."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from affectkit.api import Modality, Training, hookimpl


@hookimpl
def affectkit_modalities() -> Iterable[type[Modality]]:
    """Its modality."""
    from affectkit_s4d.face_dynamic import FaceDynamic

    return [FaceDynamic]


@hookimpl
def affectkit_recipes() -> Iterable[Path]:
    """A run with it alone."""
    return sorted((Path(__file__).parent / "recipes").glob("*.yaml"))


@hookimpl
def affectkit_trainings() -> Iterable[type[Training]]:
    """How its weights are made."""
    from affectkit_s4d.trainings.fine_tuning import FineTuning
    from affectkit_s4d.trainings.pretraining import Pretraining

    return [FineTuning, Pretraining]


@hookimpl
def affectkit_training_recipes() -> Iterable[Path]:
    """A recipe for each of them."""
    return sorted((Path(__file__).parent / "trainings").glob("*.yaml"))
