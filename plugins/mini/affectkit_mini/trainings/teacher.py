"""Pictures with the faces that YuNet finds in them: what mini/faces learns from, and what it is measured on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from affectkit.api import MediaError
from affectkit.decoding import read_frames
from affectkit.detections import iou
from affectkit.media import open_media
from affectkit_mini.trainings.corpora import present

CLIPS, PICTURES = ("video", "video_edge"), ("images", "images_unlabelled")
VALIDATION = Path(__file__).with_name("faces_validation.txt")  # kept by person and source: nobody is on both sides
FPS = 5.0  # frames of a clip per second
SIDES = (640, 1280, 320, 160)  # pixels: longer sides at which the teacher looks; the first is what it is measured against
KEPT_SIDE = 900  # pixels: longer side of a picture that is kept for training
SMALLEST = 32  # pixels: of smaller pictures the teacher gives boxes that change from call to call
SURE, ELSEWHERE, DOUBTFUL = 0.7, 0.8, 0.45  # scores: of faces at the first side, of those found at another side alone, of what is left out
CROP_SIDE, CROP_EDGE = 96, 24  # pixels: FER2013's crops are enlarged and get a border before the teacher sees them


@dataclass(frozen=True)
class Picture:
    """A picture and its faces.

    Attributes:
        name: path below the data folder.
        rgb: (H, W, 3) uint8.
        faces: (K, 14) float32 x0, y0, x1, y1 and x, y of five points in pixels.
        doubtful: (L, 4) float32 boxes that may hold a face.
        found: (M, 15) float32 as ``faces`` with the score, all that the teacher found at the first of ``SIDES``.
    """

    name: str
    rgb: np.ndarray
    faces: np.ndarray
    doubtful: np.ndarray
    found: np.ndarray


class Teacher:
    """YuNet through OpenCV, at any size.

    Args:
        path: its ONNX file.
    """

    def __init__(self, path: Path) -> None:
        self._network = cv2.FaceDetectorYN.create(str(path), "", (320, 320), DOUBTFUL, 0.3, 5000)

    def find(self, rgb: np.ndarray, side: int) -> np.ndarray:
        """(M, 15) float32 boxes, points and scores in pixels of a picture (H, W, 3) that is shrunk to a longer side."""
        height, width = rgb.shape[:2]
        scale = min(1.0, side / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        if min(size) < SMALLEST:
            return np.zeros((0, 15), np.float32)
        shown = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA) if scale < 1 else rgb
        self._network.setInputSize(size)
        found = self._network.detect(np.ascontiguousarray(shown[..., ::-1]))[1]
        if found is None:
            return np.zeros((0, 15), np.float32)
        found = found[np.isfinite(found).all(1) & (found[:, 2:4] > 0).all(1)].astype(np.float32)
        found[:, 2:4] += found[:, :2]
        found[:, 0:14:2] *= width / size[0]
        found[:, 1:14:2] *= height / size[1]
        return found

    def label(self, name: str, rgb: np.ndarray) -> Picture:
        """A picture with its faces, those that were found at one size or another."""
        found = {side: self.find(rgb, side) for side in SIDES}
        first = found[SIDES[0]]
        faces, doubtful = first[first[:, 14] >= SURE], list(first[first[:, 14] < SURE][:, :4])
        for side in SIDES[1:]:
            for row in found[side][np.argsort(-found[side][:, 14], kind="stable")]:
                if iou(row[None, :4], faces[:, :4]).max(initial=0.0) > 0.3:
                    continue
                if row[14] >= ELSEWHERE:
                    faces = np.concatenate([faces, row[None]])
                else:
                    doubtful.append(row[:4])
        return Picture(name, rgb, faces[:, :14], np.array(doubtful, np.float32).reshape(-1, 4), first)


def pictures(data: Path, teacher: Teacher) -> tuple[list[Picture], list[Picture]]:
    """Pictures for training, at most 900 pixels long, and those for validation in their own size."""
    kept = set(VALIDATION.read_text(encoding="utf-8").split())
    training, validation = [], []
    for name, rgb in _read(data):
        if min(rgb.shape[:2]) >= SMALLEST:
            picture = teacher.label(name, rgb)
            (validation if name in kept else training).append(picture if name in kept else _smaller(picture))
    return training, validation


def _read(data: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Names and frames (H, W, 3) of all files, up to where they break."""
    for folder in (*CLIPS, *PICTURES):
        for path in sorted(present(data / folder).glob("*")):
            due = -np.inf
            with suppress(MediaError):  # some of the clips are there because they break
                for frame in read_frames(open_media(path)):
                    if frame.time >= due - 1e-6:
                        due = (np.floor(frame.time * FPS + 1e-6) + 1) / FPS
                        yield f"{folder}/{path.name}", frame.rgb()


def _smaller(picture: Picture) -> Picture:
    scale = min(1.0, KEPT_SIDE / max(picture.rgb.shape[:2]))
    if scale == 1:
        return picture
    rgb = cv2.resize(picture.rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return Picture(picture.name, rgb, picture.faces * scale, picture.doubtful * scale, picture.found)


def crops(data: Path, teacher: Teacher, split: str, count: int) -> list[Picture]:
    """Those of ``count`` pictures of FER2013 in which the teacher is sure of a face."""
    rows = pd.read_parquet(present(data / "faces" / "fer2013.parquet"))
    kept = []
    for cell in rows[rows["split"] == split].sample(count, random_state=0)["jpeg"]:
        content = cell if isinstance(cell, bytes) else cell["bytes"]
        grey = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
        scale = CROP_SIDE / grey.shape[0]
        large = cv2.resize(grey, (CROP_SIDE, CROP_SIDE), interpolation=cv2.INTER_CUBIC)
        large = cv2.copyMakeBorder(large, CROP_EDGE, CROP_EDGE, CROP_EDGE, CROP_EDGE, cv2.BORDER_REPLICATE)
        found = teacher.find(cv2.cvtColor(large, cv2.COLOR_GRAY2RGB), 4 * CROP_SIDE)
        if len(found) and found[0, 14] >= ELSEWHERE:
            face = (found[:1, :14] - CROP_EDGE) / scale
            kept.append(Picture("fer2013", cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), face, np.zeros((0, 4), np.float32), found))
    return kept
