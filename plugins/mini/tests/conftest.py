"""Clips made on the spot, loaded components, and the folder of real inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from affectkit_mini.audio import AudioEmotion
from affectkit_mini.face import FaceDynamic, FaceStatic
from affectkit_mini.label_match import LabelMatch
from affectkit_mini.language import SceneEmotion, TextEmotion

from affectkit.api import BASIC7, Clip, Evidence, Media, Modality, Output, Span

MODALITIES = (FaceStatic, FaceDynamic, AudioEmotion, TextEmotion, SceneEmotion, LabelMatch)
MEDIA = Media(id="made", path=Path("made.mp4"), kind="video", duration=4.0, fps=25.0, size=(240, 320))
WINDOW = Span(0.0, 4.0)


@pytest.fixture(scope="session")
def loaded() -> Callable[[type[Modality]], Modality]:
    """Components with their packaged weights, each loaded once for all tests."""
    kept: dict[type[Modality], Modality] = {}

    def load(cls: type[Modality]) -> Modality:
        if cls not in kept:
            kept[cls] = cls()
            kept[cls].load(torch.device("cpu"), torch.float32)
        return kept[cls]

    return load


def collate(rows: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """A batch as the engine makes it: padded with zeros, with ``<key>_mask`` (B, T) beside every padded key."""
    batch = {}
    for key in rows[0]:
        tensors = [row[key] for row in rows]
        if tensors[0].dim() == 0:
            batch[key] = torch.stack(tensors)
            continue
        batch[key] = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)
        lengths = torch.tensor([len(tensor) for tensor in tensors])
        batch[f"{key}_mask"] = torch.arange(batch[key].shape[1]) < lengths[:, None]
    return batch


def predict(component: Modality, *clips: Clip) -> Output:
    """Preprocess and predict clips as one batch."""
    rows = [component.preprocess(clip) for clip in clips]
    assert all(row is not None for row in rows)
    with torch.inference_mode():
        return component.predict(collate(rows))


def says(component: Modality, clip: Clip) -> str:
    """The label with the largest probability."""
    return BASIC7.labels[int(predict(component, clip).values[BASIC7].argmax())]


def face_clip(count: int = 1, seed: int = 0) -> Clip:
    """A clip of ``count`` crops (48, 48, 3) that look vaguely like a face: an ellipse with eyes and a mouth under noise."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[-1:1:48j, -1:1:48j]
    crops = []
    for _ in range(count):
        grey = 40 + 140 * (rows**2 + (columns * 1.2) ** 2 < 1)
        for side in (-0.35, 0.35):
            grey = grey - 110 * ((rows + 0.25) ** 2 + (columns - side) ** 2 < 0.012)
        curve = random.uniform(-0.6, 0.6)
        grey = grey - 90 * ((np.abs(rows - 0.45 + curve * columns**2) < 0.06) & (np.abs(columns) < 0.45))
        crops.append(np.repeat((grey + random.normal(0, 6, grey.shape)).clip(0, 255)[..., None], 3, 2).astype(np.uint8))
    boxes = np.tile(np.array([[10, 20, 90, 120]], np.float32), (count, 1))
    faces = Evidence("faces", {"crops": np.stack(crops), "boxes": boxes, "scores": np.ones(count, np.float32)}, times=np.arange(count) / 5)
    return Clip(MEDIA, WINDOW, 0, inputs={"faces": faces})


def sound_clip(seconds: float = 2.0, seed: int = 0, gain: float = 1.0) -> Clip:
    """A clip with a buzzing tone that glides and pulses like a syllable train."""
    random = np.random.default_rng(seed)
    time = np.arange(int(seconds * 16000)) / 16000
    pitch = random.uniform(110, 260) * (1 + 0.2 * np.sin(2 * np.pi * random.uniform(0.3, 1.5) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / 16000
    voice = sum(np.sin(phase * harmonic) / harmonic for harmonic in range(1, 20))
    pulses = 0.5 + 0.5 * np.sin(2 * np.pi * random.uniform(2, 5) * time)
    samples = gain * (0.1 * voice * pulses + 0.001 * random.normal(size=len(time)))
    return Clip(MEDIA, WINDOW, audio=samples.astype(np.float32))


def words_clip(text: str, kind: str = "transcript") -> Clip:
    """A clip with words, or with a description."""
    return Clip(MEDIA, WINDOW, inputs={kind: Evidence(kind, {"text": text, "words": ()})})


SENTENCES = (
    "I am so happy, this is wonderful news!",
    "No.",
    "Yesterday we drove to the office and then, after a very long meeting about the budget of the next year, we drove back home.",
)


def clips_for(cls: type[Modality]) -> list[Clip]:
    """Three clips of different length that hold evidence for a component."""
    if cls in (FaceStatic, LabelMatch):
        return [face_clip(count, seed) for seed, count in enumerate((1, 1, 3))]
    if cls is FaceDynamic:
        return [face_clip(count, seed) for seed, count in enumerate((5, 20, 9))]
    if cls is AudioEmotion:
        return [sound_clip(seconds, seed) for seed, seconds in enumerate((1.03, 3.7, 2.0))]
    kind = "transcript" if cls is TextEmotion else "description"
    return [words_clip(text, kind) for text in SENTENCES]
