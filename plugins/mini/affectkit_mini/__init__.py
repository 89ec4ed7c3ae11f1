"""affectkit-mini: small models with their weights inside the package, so that affectkit works offline from the first run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from affectkit.api import Modality, Provider, Training, hookimpl


@hookimpl
def affectkit_modalities() -> Iterable[type[Modality]]:
    """Faces one by one, faces in their order, sound, words, descriptions of the scene, and faces matched with texts."""
    from affectkit_mini.audio import AudioEmotion
    from affectkit_mini.face import FaceDynamic, FaceStatic
    from affectkit_mini.label_match import LabelMatch
    from affectkit_mini.language import SceneEmotion, TextEmotion

    return [FaceStatic, FaceDynamic, AudioEmotion, TextEmotion, SceneEmotion, LabelMatch]


@hookimpl
def affectkit_providers() -> Iterable[type[Provider]]:
    """The detector of faces."""
    from affectkit_mini.detector import Faces

    return [Faces]


@hookimpl
def affectkit_recipes() -> Iterable[Path]:
    """The default recipe, fused by the weights fitted for its modalities, and faces matched with texts."""
    return sorted((Path(__file__).parent / "recipes").glob("*.yaml"))


@hookimpl
def affectkit_trainings() -> Iterable[type[Training]]:
    """How the weights of this package are made."""
    from affectkit_mini.trainings.detection import DetectionTraining
    from affectkit_mini.trainings.faces import FaceTraining
    from affectkit_mini.trainings.fusion import PairingTraining
    from affectkit_mini.trainings.labels import LabelTraining
    from affectkit_mini.trainings.language import SceneTraining, TextTraining
    from affectkit_mini.trainings.prototypes import PrototypeTraining
    from affectkit_mini.trainings.sequences import SequenceTraining
    from affectkit_mini.trainings.voices import VoiceTraining

    return [
        DetectionTraining,
        FaceTraining,
        SequenceTraining,
        VoiceTraining,
        SceneTraining,
        TextTraining,
        PairingTraining,
        PrototypeTraining,
        LabelTraining,
    ]


@hookimpl
def affectkit_training_recipes() -> Iterable[Path]:
    """The recipe of every file of weights that a training makes."""
    return sorted((Path(__file__).parent / "trainings").glob("*.yaml"))
