"""How well core/haar finds what core/yunet finds, on real clips and pictures.

    python benchmarks/faces.py --data DIR --yunet FILE

Clips in ``DIR/video`` and ``DIR/video_edge`` are sampled at 5 frames per second; every picture in ``DIR/images`` and
``DIR/images_unlabelled`` is one frame. Faces are those that YuNet gives at least 0.7 and that are more than 40 pixels high or
wide. Recall is the share of them that core/haar finds at IoU 0.5, over all faces and over the largest of each frame. A false
box is one that meets no face of YuNet at IoU 0.3, even of those that YuNet gives only 0.5. Time is that of both detectors on
the same frames in the same run, after one frame of warming up; only their ratio means something on another machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from affectkit.api import AffectKitError, Clip, Media, MediaError, Provider, Span
from affectkit.builtin.haar import Haar
from affectkit.builtin.yunet import YuNet, YuNetOptions
from affectkit.decoding import read_frames
from affectkit.faces import Detections, iou
from affectkit.media import open_media

FPS = 5.0
SURE, UNSURE = 0.7, 0.5  # scores of YuNet: what must be found, and what may be found
SMALLEST = 40.0  # pixels
SAME, NEAR = 0.5, 0.3  # IoU
PICTURE_FOLDERS = ("images", "images_unlabelled")
CLIP_FOLDERS = ("video", "video_edge")


@dataclass
class Row:
    """Counts over the frames of one clip, one folder of pictures, or several of them."""

    frames: int = 0
    faces: int = 0
    found: int = 0
    frames_with_faces: int = 0
    largest_found: int = 0
    boxes: int = 0
    false: int = 0
    haar_seconds: float = 0.0
    yunet_seconds: float = 0.0

    def add(self, other: Row) -> None:
        for item in fields(Row):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))

    def line(self, name: str) -> str:
        recall = f"{self.found / self.faces:7.3f}" if self.faces else "      -"
        largest = f"{self.largest_found / self.frames_with_faces:7.3f}" if self.frames_with_faces else "      -"
        ratio = f"{self.haar_seconds / self.yunet_seconds:6.2f}" if self.yunet_seconds else "     -"
        return (
            f"{name:32} {self.frames:6d} {self.faces:6d} {recall} {largest} {self.false:6d} {self.false / max(1, self.frames):8.3f} {ratio}"
        )


HEAD = f"{'':32} {'frames':>6} {'faces':>6} {'recall':>7} {'largest':>7} {'false':>6} {'a frame':>8} {'time':>6}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with video, video_edge, images and images_unlabelled")
    parser.add_argument("--yunet", type=Path, required=True, help="YuNet's ONNX file")
    parser.add_argument("--every", type=int, default=1, help="take every n-th picture of the folders of pictures")
    given = parser.parse_args()
    haar = Haar()
    yunet = YuNet(YuNetOptions(checkpoint=str(given.yunet), score=UNSURE))
    try:
        for provider in (haar, yunet):
            provider.load(torch.device("cpu"), torch.float32)
    except AffectKitError as error:
        print(error, file=sys.stderr)
        return 2
    detect(haar, np.zeros((120, 160, 3), np.uint8))
    detect(yunet, np.zeros((120, 160, 3), np.uint8))
    print(HEAD)
    clips, pictures = Row(), Row()
    for folder in CLIP_FOLDERS:
        for path in sorted((given.data / folder).glob("*")):
            row = measure(haar, yunet, frames(path))
            if row.frames:
                print(row.line(f"{folder}/{path.name}"), flush=True)
            clips.add(row)
    for folder in PICTURE_FOLDERS:
        row = Row()
        for path in sorted((given.data / folder).glob("*"))[:: given.every]:
            row.add(measure(haar, yunet, frames(path)))
        print(row.line(f"{folder}/*"), flush=True)
        pictures.add(row)
    print(clips.line("all clips"))
    print(pictures.line("all pictures"))
    both = Row()
    both.add(clips)
    both.add(pictures)
    print(both.line("all"))
    return 0


def frames(path: Path) -> Iterator[np.ndarray]:
    """Pictures (H, W, 3) uint8 RGB of a file, at most :data:`FPS` a second, up to where it breaks."""
    due = -np.inf
    try:
        for frame in read_frames(open_media(path)):
            if frame.time >= due - 1e-6:
                due = (np.floor(frame.time * FPS + 1e-6) + 1) / FPS
                yield frame.rgb()
    except MediaError as error:
        print(f"{path.name}: {error}", file=sys.stderr)


def measure(haar: Provider, yunet: Provider, images: Iterator[np.ndarray]) -> Row:
    """Compares both detectors on some frames."""
    total = Row()
    for image in images:
        found, haar_seconds = detect(haar, image)
        truth, yunet_seconds = detect(yunet, image)
        total.add(compare(found, truth))
        total.haar_seconds += haar_seconds
        total.yunet_seconds += yunet_seconds
    return total


def detect(provider: Provider, image: np.ndarray) -> tuple[Detections, float]:
    """Faces of one frame, and the seconds that it took."""
    clip = Clip(Media("frame", Path("frame"), "image", 0.0), Span(0.0, 0.0), frames=image[None], frame_times=np.zeros(1))
    begin = time.perf_counter()
    evidence = provider.provide([clip])[0]
    return Detections.from_evidence(evidence), time.perf_counter() - begin


def compare(found: Detections, truth: Detections) -> Row:
    """What of the sure faces was found, and what was found that is none."""
    overlap = iou(truth.boxes, found.boxes)
    sure = (truth.scores >= SURE) & (truth.side > SMALLEST)
    hit = overlap.max(axis=1, initial=0.0) >= SAME
    row = Row(frames=1, faces=int(sure.sum()), found=int((hit & sure).sum()), boxes=len(found))
    row.false = int((overlap.max(axis=0, initial=0.0) < NEAR).sum())
    if sure.any():
        row.frames_with_faces = 1
        row.largest_found = int(hit[np.argmax(np.where(sure, truth.area, -1.0))])
    return row


if __name__ == "__main__":
    raise SystemExit(main())
