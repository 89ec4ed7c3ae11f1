"""Networks of the published sizes with random numbers: what they say means nothing, what they cost is what the real ones cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from affectkit import open_clip_files
from affectkit.errors import UsageError
from affectkit.labels import BASIC7, DFEW7
from affectkit.weight_files import RANDOM, random_network, save_tensors


def options(modality: str, folder: Path) -> dict[str, Any]:
    """Writes random weights of the published size.

    Args:
        modality: ``s4d/face_dynamic``, ``ifdd/face_dynamic`` or ``finecliper/face_dynamic``.
        folder: of the files; it is there.

    Returns:
        The options with which the modality reads them.

    Raises:
        UsageError: for another modality.
    """
    if modality not in WRITERS:
        raise UsageError(f"--published knows {', '.join(WRITERS)}; found {modality}")
    return {name: str(path) for name, path in WRITERS[modality](folder).items()}


def _s4d(folder: Path) -> dict[str, Path]:
    from affectkit_s4d.model import S4D, Sizes

    settings = {"sizes": Sizes().to_mapping(), "labels": DFEW7.labels, "label_set": DFEW7.name, "temperature": 1.0}
    return {"checkpoint": _written(folder / "s4d.safetensors", random_network(S4D), settings)}


def _ifdd(folder: Path) -> dict[str, Path]:
    from affectkit_ifdd.face_dynamic import settings_of
    from affectkit_ifdd.model import IFDD, Sizes

    sizes = Sizes(classes=len(DFEW7))
    settings = {"labels": DFEW7.labels, "label_set": DFEW7.name, **settings_of(sizes, 0), "temperature": 1.0}
    return {"checkpoint": _written(folder / "ifdd.safetensors", random_network(lambda: IFDD(sizes)), settings)}


def _finecliper(folder: Path) -> dict[str, Path]:
    import open_clip
    from affectkit_finecliper import clip_files
    from affectkit_finecliper.model import FineCliper, stirred
    from affectkit_finecliper.shape import Shape
    from affectkit_finecliper.texts import described
    from affectkit_finecliper.tuned import settings
    from affectkit_finecliper.views import FRAMES

    backbone = open_clip_files.write_random(folder / "clip", open_clip.get_model_config(clip_files.OPENAI))
    clip = clip_files.load(backbone, "finecliper/face_dynamic", openai=False)
    shape = Shape(FRAMES, ("frames",))
    header = {"labels": BASIC7.labels, **settings(BASIC7, shape, described(BASIC7), clip.fingerprint)}
    tuned = _written(folder / "finecliper.safetensors", random_network(lambda: stirred(FineCliper(clip.clip, shape))), header)
    return {"backbone": backbone, "tuned": tuned}


def _written(path: Path, network: Any, settings: Mapping[str, Any]) -> Path:
    save_tensors(path, network.state_dict(), {"settings": json.dumps(settings), "licence": RANDOM})
    return path


WRITERS = {"s4d/face_dynamic": _s4d, "ifdd/face_dynamic": _ifdd, "finecliper/face_dynamic": _finecliper}
