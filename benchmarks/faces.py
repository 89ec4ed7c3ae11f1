"""How well face detectors find what core/yunet finds, on real clips and pictures, and what a frame costs.

    python benchmarks/faces.py --data DIR --yunet FILE --detector mini/faces --detector mini/faces,max_side=320

Clips in ``DIR/video`` and ``DIR/video_edge`` are sampled at 5 frames per second; every picture in ``DIR/images`` and
``DIR/images_unlabelled`` is one frame; ``--files LIST`` takes those files alone that a text names, one path below ``DIR`` a line. Faces
are those that YuNet gives at least 0.7 and that are more than 40 pixels high or wide. Recall is the share of them that a
detector finds at IoU 0.5, over all faces and over the largest of each frame. A false box is one that meets no face of YuNet at IoU 0.3,
even of those that YuNet gives only 0.5. Detectors see the same frames in the same run, up to 16 of a medium in a call, and
core/yunet is one of them. Time is that of the processor per frame, over all cores, after one frame of warming up: only the ratio to core/yunet
means something on another machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line has it, before torch is imported

import numpy as np
import torch
import yaml

from affectkit import options, plugins
from affectkit.api import AffectKitError, Clip, ConfigError, Media, MediaError, Provider, Span
from affectkit.builtin.yunet import YuNet, YuNetOptions
from affectkit.decoding import read_frames
from affectkit.detections import UNSURE, Agreement, Detections, agreement
from affectkit.media import open_media

FPS = 5.0
BATCH = 16  # frames in a call, as in a run
CLIP_FOLDERS = ("video", "video_edge")
PICTURE_FOLDERS = ("images", "images_unlabelled")
TEACHER = "core/yunet"


@dataclass
class Row:
    """What a detector did with the frames of one clip, one folder of pictures, or several of them."""

    counts: Agreement = field(default_factory=Agreement)
    seconds: float = 0.0

    def add(self, counts: Agreement, seconds: float) -> None:
        self.counts += counts
        self.seconds += seconds

    def line(self, name: str, detector: str, teacher: Row) -> str:
        counts = self.counts
        recall, largest = (f"{value:7.3f}" if counts.faces else "      -" for value in (counts.recall, counts.recall_of_largest))
        each, ratio = self.seconds / max(1, counts.frames), self.seconds / max(teacher.seconds, 1e-9)
        shares = f"{counts.frames:6d} {counts.faces:6d} {recall} {largest} {counts.false:6d} {counts.false_per_frame:8.3f}"
        return f"{name:28} {detector:28} {shares} {each * 1e3:8.1f} {ratio:6.2f}"


HEAD = f"{'':28} {'detector':28} {'frames':>6} {'faces':>6} {'recall':>7} {'largest':>7} {'false':>6} {'a frame':>8} {'ms/frame':>8} {'ratio':>6}"
Rows = dict[str, Row]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with video, video_edge, images and images_unlabelled")
    parser.add_argument("--yunet", type=Path, required=True, help="YuNet's ONNX file")
    parser.add_argument("--detector", action="append", help="id of a provider of faces, with options: ID,KEY=VALUE (default: mini/faces)")
    parser.add_argument("--files", type=Path, help="text with the paths, below the folder, of the files to take")
    parser.add_argument("--every", type=int, default=1, help="take every n-th picture of the folders of pictures")
    given = parser.parse_args()
    try:
        detectors: dict[str, Provider] = {TEACHER: YuNet(YuNetOptions(checkpoint=str(given.yunet), score=UNSURE))}
        registry = plugins.load()
        detectors |= {text: made(registry, text) for text in given.detector or ["mini/faces"]}
        for provider in detectors.values():
            provider.load(torch.device("cpu"), torch.float32)
    except AffectKitError as error:
        print(error, file=sys.stderr)
        return 2
    chosen = given.files and {line.strip() for line in given.files.read_text(encoding="utf-8").splitlines()}
    for provider in detectors.values():
        detect(provider, [np.zeros((120, 160, 3), np.uint8)])
    print(HEAD)
    clips: Rows = {name: Row() for name in detectors}
    pictures: Rows = {name: Row() for name in detectors}
    for folder in CLIP_FOLDERS:
        for path in taken(given.data, folder, chosen):
            rows = measure(detectors, frames(path))
            tell(f"{folder}/{path.name}", rows)
            add(clips, rows)
    for folder in PICTURE_FOLDERS:
        sums: Rows = {name: Row() for name in detectors}
        for path in taken(given.data, folder, chosen)[:: given.every]:
            add(sums, measure(detectors, frames(path)))
        tell(f"{folder}/*", sums)
        add(pictures, sums)
    tell("all clips", clips)
    tell("all pictures", pictures)
    add(clips, pictures)
    tell("all", clips)
    return 0


def made(registry: plugins.Registry, text: str) -> Provider:
    """A provider of faces as ``ID,KEY=VALUE,...`` names it.

    Raises:
        AffectKitError: where it is unknown, or an option is.
    """
    name, *changes = text.split(",")
    cls = registry.get(name, "provider").cls
    if not issubclass(cls, Provider) or cls.kind != "faces":
        raise ConfigError(f"{name} finds no faces")
    pairs = [change.partition("=") for change in changes]
    return cls(options.build(cls.Options, {key: yaml.safe_load(value) for key, _, value in pairs}, where=(name,)))


def taken(data: Path, folder: str, chosen: set[str] | None) -> list[Path]:
    """The files of a folder, or those of them that were chosen."""
    return [path for path in sorted((data / folder).glob("*")) if chosen is None or f"{folder}/{path.name}" in chosen]


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


def measure(detectors: dict[str, Provider], images: Iterator[np.ndarray]) -> Rows:
    """Compares all detectors with the first of them on some frames."""
    rows = {name: Row() for name in detectors}
    while batch := list(islice(images, BATCH)):
        found = {name: detect(provider, batch) for name, provider in detectors.items()}
        truth, _ = found[TEACHER]
        for name, (faces, seconds) in found.items():
            rows[name].add(sum(map(agreement, faces, truth), start=Agreement()), seconds)
    return rows


def detect(provider: Provider, images: Sequence[np.ndarray]) -> tuple[list[Detections], float]:
    """Faces of each frame, and the seconds of processor that all of them took."""
    medium = Media("frame", Path("frame"), "image", 0.0)
    clips = [Clip(medium, Span(0.0, 0.0), frames=image[None], frame_times=np.zeros(1)) for image in images]
    begin = time.process_time()
    evidences = provider.provide(clips)
    seconds = time.process_time() - begin
    return [Detections.from_evidence(evidence) for evidence in evidences], seconds


def add(sums: Rows, rows: Rows) -> None:
    for name, row in rows.items():
        sums[name].add(row.counts, row.seconds)


def tell(name: str, rows: Rows) -> None:
    for detector, row in rows.items():
        if row.counts.frames:
            print(row.line(name, detector, rows[TEACHER]), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
