"""affectkit-mini: small models with their weights inside the package, so that affectkit works offline from the first run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from affectkit.api import Modality, hookimpl


@hookimpl
def affectkit_modalities() -> Iterable[type[Modality]]:
    """Faces one by one, faces in their order, sound, words, and descriptions of the scene."""
    from affectkit_mini.audio import AudioEmotion
    from affectkit_mini.face import FaceDynamic, FaceStatic
    from affectkit_mini.language import SceneEmotion, TextEmotion

    return [FaceStatic, FaceDynamic, AudioEmotion, TextEmotion, SceneEmotion]


@hookimpl
def affectkit_recipes() -> Iterable[Path]:
    """The default recipe: every modality of this package, fused by the weights fitted for them."""
    return sorted((Path(__file__).parent / "recipes").glob("*.yaml"))
