"""The data sets that the small models learn from, as they lie in one folder, and what the trainings share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from affectkit.api import BASIC7, UsageError

if TYPE_CHECKING:
    import pandas as pd

FER2013 = "FER2013 (Goodfellow et al. 2013), research use"


def columns(names: Iterable[str]) -> np.ndarray:
    """Columns of the seven basic emotions, (N,) int64, of label names as corpora write them."""
    return np.array([BASIC7.index(name.strip().lower()) for name in names], dtype=np.int64)


def present(path: Path) -> Path:
    """The path itself.

    Raises:
        UsageError: where it is not there.
    """
    if not path.exists():
        raise UsageError(f"there is no {path}; --data must name the folder that holds faces, audio, text and scene")
    return path


def read_fer2013(data: Path, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures (N, 48, 48) uint8, label columns (N,) int64, and a name per picture that equal pictures share, of one split."""
    import hashlib

    import cv2
    import pandas as pd

    table = pd.read_parquet(present(data / "faces" / "fer2013.parquet"))
    table = table[table["split"] == split]
    pictures = np.stack([cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_GRAYSCALE) for raw in table["jpeg"]])
    names = np.array([hashlib.sha256(picture.tobytes()).hexdigest()[:16] for picture in pictures])
    return pictures, columns(table["label"]), names


def read_goemotions(data: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Texts (N,) and targets (N, 7) float32 of zeros and ones in the order of the basic emotions."""
    folder = present(data / "text")
    names = columns((folder / "goemotions_ekman_labels.txt").read_text(encoding="utf-8").split())
    texts, targets = [], []
    for line in present(folder / f"goemotions_ekman_{split}.tsv").read_text(encoding="utf-8").splitlines():
        text, labels, _ = line.split("\t")
        row = np.zeros(len(BASIC7), np.float32)
        row[names[[int(label) for label in labels.split(",")]]] = 1
        texts.append(text)
        targets.append(row)
    return np.array(texts, dtype=object), np.stack(targets)


def read_afew(data: Path, split: str) -> pd.DataFrame:
    """Columns clip, view, text, truth: one row per segment of a clip and kind of description.

    Only the text is read; the name of a clip, which contains its label, serves to know which rows are of one film clip.
    """
    import pandas as pd

    tables = []
    for path in sorted(present(data / "scene" / "ras_descriptions" / "AFEW").glob(f"*/{split}_segment_with_text_*.csv")):
        table = pd.read_csv(path)
        truth = table[[name.capitalize() for name in BASIC7.labels]].to_numpy().argmax(1)
        view = f"{path.parent.name} prompt {path.stem[-1]}"
        clip = table["video_name"].str.split("___").str[0]  # a time stamp; the segments of a clip share it
        tables.append(pd.DataFrame({"clip": clip, "view": view, "text": table["text"], "truth": truth}))
    return pd.concat(tables, ignore_index=True)


def read_voices(data: Path) -> pd.DataFrame:
    """Columns path, emotion, voice (``"ravdess 17"``), corpus: RAVDESS speech and nEMO."""
    import pandas as pd

    tables = []
    for name, column in (("ravdess", "actor"), ("nemo", "speaker")):
        table = pd.read_csv(present(data / "audio" / name / "labels.csv"))
        paths = [data / "audio" / name / file for file in table["file"]]
        tables.append(table.assign(path=paths, voice=[f"{name} {speaker}" for speaker in table[column]], corpus=name))
    return pd.concat(tables, ignore_index=True)[["path", "emotion", "voice", "corpus"]]
