"""Landmarks of faces: how near they are to YuNet's five points, how little they move with the crop, and how long they take.

    python benchmarks/landmarks.py --data ../shared/data

Faces of at least 60 pixels in the photos of ``images/`` and ``images_unlabelled/``, found by ``core/yunet``. Distances are in units of that between the eyes. There
is no truth here: YuNet's points are those of a small detector, and lie about a tenth of that distance away from what they mean.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from affectkit_finecliper import drawing, mesh
from affectkit_finecliper.landmarker import Landmarker

from affectkit.api import Clip, Media, Span
from affectkit.builtin.yunet import YuNet, YuNetOptions
from affectkit.faces import crop

SMALLEST, SURE = 60, 0.85  # pixels and score of the faces that are taken
SIZE, MARGIN = 224, 0.2  # of a crop, as finecliper/face_dynamic asks for it
LOOKS = (1, 2, 3)


@dataclass(frozen=True)
class Face:
    """A face in a photo: the picture (H, W, 3), the box (4,), and YuNet's points (5, 2)."""

    image: np.ndarray
    box: np.ndarray
    five: np.ndarray

    def cut(self, size: int = SIZE, margin: float = MARGIN, degrees: float = 0.0) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        """A crop turned about its middle, and what brings points (P, 2) of it to the pixels of the photo."""
        import cv2

        side = (self.box[2:] - self.box[:2]).max() * (1 + 2 * margin)
        corner, middle = (self.box[:2] + self.box[2:]) / 2 - side / 2, (size - 1) / 2
        turn = cv2.getRotationMatrix2D((middle, middle), degrees, 1.0)[:, :2]
        wide = crop(self.image, self.box, 2 * size, (2 * side / (self.box[2:] - self.box[:2]).max() - 1) / 2)
        back = np.concatenate([turn.T, (size - 0.5 - turn.T @ np.full(2, middle))[:, None]], axis=1)
        shown = cv2.warpAffine(wide, back, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP) if degrees else None
        plain = crop(self.image, self.box, size, margin)
        return (plain if shown is None else shown), lambda points: ((points - size / 2) @ turn + size / 2) * side / size + corner


def main() -> None:
    """Prints errors, stability and times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds images/, images_unlabelled/ and weights/")
    parser.add_argument("--every", type=int, default=8, help="which of the unlabelled photos are taken (default: every 8th)")
    parser.add_argument("--most", type=int, help="faces that are taken (default: all)")
    parser.add_argument("--repeat", type=int, default=50, help="crops that are timed")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    weights = given.data / "weights"
    faces = list(islice(found(given.data, given.every, weights / "face_detection_yunet.onnx"), given.most))
    landmarker = Landmarker(weights / "face_landmarker.task", "benchmark", threads=given.threads)
    print(f"{len(faces)} faces")
    nearness(faces, landmarker)
    stability(faces, landmarker)
    times(faces[0].cut()[0], weights / "face_landmarker.task", given.threads, given.repeat)


def found(data: Path, every: int, weights: Path) -> Iterator[Face]:
    """The faces of the photos."""
    import cv2

    detector = YuNet(YuNetOptions(checkpoint=str(weights)))
    detector.load(torch.device("cpu"), torch.float32)
    for path in [*sorted((data / "images").glob("*.jpg")), *sorted((data / "images_unlabelled").glob("*.jpg"))[::every]]:
        image = np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])
        medium = Media(path.stem, path, "image", 0.0, size=image.shape[:2])
        (faces,) = detector.provide([Clip(medium, Span(0, 0), frames=image[None])])
        if faces.valid:
            for box, five, score in zip(faces.data["boxes"], faces.data["landmarks"], faces.data["scores"], strict=True):
                if (box[2:] - box[:2]).max() >= SMALLEST and score >= SURE:
                    yield Face(image, box, five)


def points(face: Face, landmarker: Landmarker, looks: int, **cut: float) -> np.ndarray:
    """Points (478, 2) in pixels of the photo."""
    shown, back = face.cut(**cut)  # type: ignore[arg-type]
    return back(landmarker.find(shown[None], looks).points[0, :, :2].astype(np.float64))


def five_of(some: np.ndarray) -> np.ndarray:
    """What YuNet's points are among (478, 2)."""
    return np.stack([some[list(which)].mean(axis=0) for which in mesh.FIVE])


def distance(some: np.ndarray, others: np.ndarray, face: Face) -> np.ndarray:
    """Distances (P,) in units of that between the eyes."""
    return np.linalg.norm(some - others, axis=1) / np.linalg.norm(face.five[0] - face.five[1])


def nearness(faces: list[Face], landmarker: Landmarker) -> None:
    """Prints how far points are from those of YuNet."""
    print(
        "distance from YuNet's points (median): right eye, left eye, nose, right and left corner of the mouth; mean of all; largest mean of a face"
    )
    for looks in LOOKS:
        each = np.stack([distance(five_of(points(face, landmarker, looks)), face.five, face) for face in faces])
        medians = " ".join(f"{value:.3f}" for value in np.median(each, axis=0))
        print(f"  {looks} looks: {medians}; {each.mean():.3f}; {each.mean(axis=1).max():.3f}")


def stability(faces: list[Face], landmarker: Landmarker) -> None:
    """Prints how far all 478 points move when the crop is another one."""
    settled = [points(face, landmarker, 4) for face in faces]
    print("mean distance of all points from those of four looks at an upright crop (median over faces) by looks")
    for name, cut in (
        ("margin 0", {"margin": 0.0}),
        ("margin 0.2", {}),
        ("margin 0.4", {"margin": 0.4}),
        ("margin 0.6", {"margin": 0.6}),
        ("96 pixels", {"size": 96}),
        ("turned by 15 degrees", {"degrees": 15.0}),
        ("turned by 30 degrees", {"degrees": 30.0}),
    ):
        said = [
            np.median(
                [distance(points(face, landmarker, looks, **cut), wanted, face).mean() for face, wanted in zip(faces, settled, strict=True)]
            )
            for looks in LOOKS
        ]
        print(f"  {name:22}" + " ".join(f"{value:.3f}" for value in said))


def times(shown: np.ndarray, path: Path, threads: int, repeat: int) -> None:
    """Prints milliseconds per face."""
    print(f"milliseconds per face of {SIZE} pixels, {threads} threads: median and fastest of {repeat}")
    plain, more = (Landmarker(path, "benchmark", blendshapes=shapes, threads=threads, kept=0) for shapes in (False, True))
    marks = plain.find(shown[None]).points[0]
    for name, work in (
        ("one look", lambda: plain.find(shown[None], 1)),
        ("two looks", lambda: plain.find(shown[None], 2)),
        ("two looks and blendshapes", lambda: more.find(shown[None], 2)),
        ("drawing dots", lambda: drawing.dots(marks[list(mesh.IBUG68)], SIZE)),
        ("drawing regions", lambda: drawing.coloured(drawing.region_labels(marks, SIZE))),
    ):
        taken = []
        for _ in range(repeat):
            began = time.perf_counter()
            work()
            taken.append(time.perf_counter() - began)
        print(f"  {name:26}{np.median(taken) * 1000:8.2f} {np.min(taken) * 1000:8.2f}")


if __name__ == "__main__":
    main()
