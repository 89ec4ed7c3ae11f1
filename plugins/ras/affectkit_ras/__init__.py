"""affectkit-ras: the zero-shot compound expression system of Team RAS, 9th ABAW competition (arXiv 2507.02205)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from affectkit.api import Fusion, Modality, Provider, Training, hookimpl


@hookimpl
def affectkit_modalities() -> Iterable[type[Modality]]:
    """Its six modalities."""
    from affectkit_ras.audio import AudioEmotion
    from affectkit_ras.face_dynamic import FaceDynamic
    from affectkit_ras.face_static import FaceStatic
    from affectkit_ras.label_match import LabelMatch
    from affectkit_ras.language import SceneEmotion, TextEmotion

    return [FaceStatic, FaceDynamic, LabelMatch, AudioEmotion, SceneEmotion, TextEmotion]


@hookimpl
def affectkit_providers() -> Iterable[type[Provider]]:
    """What they look at."""
    from affectkit_ras.describe import Describe
    from affectkit_ras.detector import Faces
    from affectkit_ras.speech import Speech
    from affectkit_ras.whisper import Whisper

    return [Faces, Describe, Speech, Whisper]


@hookimpl
def affectkit_fusions() -> Iterable[type[Fusion]]:
    """The fusion of their embeddings."""
    from affectkit_ras.feature_fusion import FeatureFusion

    return [FeatureFusion]


@hookimpl
def affectkit_recipes() -> Iterable[Path]:
    """The whole system."""
    return sorted((Path(__file__).parent / "recipes").glob("*.yaml"))


@hookimpl
def affectkit_trainings() -> Iterable[type[Training]]:
    """How the heads that were not published are made."""
    from affectkit_ras.trainings.feature_fusion import FeatureFusionTraining
    from affectkit_ras.trainings.language import SceneTraining, TextTraining
    from affectkit_ras.trainings.sequences import AudioTraining, FaceDynamicTraining

    return [FaceDynamicTraining, AudioTraining, SceneTraining, TextTraining, FeatureFusionTraining]


@hookimpl
def affectkit_training_recipes() -> Iterable[Path]:
    """A recipe for each of them."""
    return sorted((Path(__file__).parent / "trainings").glob("*.yaml"))
