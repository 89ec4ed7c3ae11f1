"""Fixtures that several test modules share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from affectkit_finecliper import clip_files
from affectkit_finecliper.face_dynamic import FaceDynamic, FaceDynamicOptions
from affectkit_finecliper.shape import STREAMS

from affectkit.api import Clip, Evidence, Media, Output, Span
from affectkit.batching import collate

MEDIA = Media(id="made", path=Path("made.mp4"), kind="video", duration=4.0, fps=25.0, size=(240, 320))
CPU = torch.device("cpu")
SIDE = 40  # pixels of made crops


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small CLIP of random numbers."""
    return clip_files.write_tiny(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Options of a component with random numbers in everything that can be tuned, and with all streams."""
    folder = tmp_path_factory.mktemp("tuned")
    component = FaceDynamic(FaceDynamicOptions(streams=STREAMS, labels="dfew7"))
    return {tag: str(component.write_random(tag, folder)) for tag in ("backbone", "tuned")}


def loaded(**options: Any) -> FaceDynamic:
    """The component with its weights."""
    component = FaceDynamic(FaceDynamicOptions(**options))
    component.load(CPU, torch.float32)
    return component


def face_clip(count: int = 16, seed: int = 0, maps: tuple[str, ...] = (), **changes: Any) -> Clip:
    """A clip of made crops; the maps of a stream are valid everywhere unless ``NAME_valid`` says where."""
    random = np.random.default_rng(seed)
    times = np.linspace(0, 4, count, endpoint=False)
    drawn = {
        name: Evidence(
            name,
            {
                "maps": random.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8),
                "valid": np.asarray(changes.get(f"{name}_valid", np.ones(count, bool))),
            },
            times=times,
        )
        for name in STREAMS[1:]
    }
    crops = np.random.default_rng([seed, 1]).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    faces = Evidence("faces", {"crops": crops, "boxes": np.tile([0.0, 0, 9, 9], (count, 1))}, times=times)
    missing = {name: Evidence.none(name, "nothing drawn") for name in STREAMS[1:]}
    return Clip(MEDIA, Span(0.0, 4.0), inputs={"faces": faces, **missing, **{name: drawn[name] for name in maps}})


def predict(component: FaceDynamic, *clips: Clip) -> Output:
    """Preprocess and predict clips as one batch."""
    rows = [component.preprocess(clip) for clip in clips]
    assert all(row is not None for row in rows)
    with torch.inference_mode():
        return component.predict(collate(rows))


def values(output: Output) -> torch.Tensor:
    """The one set of values that there is."""
    (found,) = output.values.values()
    return found
