"""The training of mini/faces: made pictures of real faces, as YuNet sees them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from affectkit.api import About, Clip, ConfigError, LabelSet, Media, Part, Span, Training, Turn
from affectkit.detections import UNSURE, Agreement, Detections, agreement
from affectkit_mini.detector import Faces, FacesOptions, shown_to
from affectkit_mini.trainings.corpora import FER2013, present

if TYPE_CHECKING:
    import torch

    from affectkit_mini.trainings.teacher import Picture, Teacher

FACE = LabelSet("face", ("face",), kind="multilabel")
CROPS, COMPOSITES = (6000, 400), 150
GLANCE = 256  # pixels: both sides of what is measured after each epoch


@dataclass(frozen=True)
class DetectionOptions:
    """Options of mini/faces_training.

    Attributes:
        rows: pictures that are made per epoch.
    """

    rows: int = 16000

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ConfigError(f"mini/faces_training: rows must be at least 1, found {self.rows}")


class DetectionTraining(Training):
    """mini/faces: where faces are, as YuNet says (``weights/face_detection_yunet.onnx`` below the data).

    A row is a real picture, of which a picture is made anew whenever it is read. The label says whether there is a face in it at all, which is
    looked at after each epoch, in small. How well faces are found is in the further figures, measured by the component itself.
    """

    name = "faces_training"
    labels = FACE
    calibrates: ClassVar[bool] = False
    Options = DetectionOptions

    def parts(self, data: Path) -> Mapping[str, Part]:
        """All files but those that ``faces_validation.txt`` names; and these, with composites made of them. It is by person and source: nobody is on both sides."""
        from affectkit_mini.trainings.canvases import Canvases
        from affectkit_mini.trainings.teacher import Teacher, crops, pictures

        teacher = Teacher(present(data / "weights" / "face_detection_yunet.onnx"))
        training, held = pictures(data, teacher)
        canvases = Canvases(training, crops(data, teacher, "train", CROPS[0]))
        held += composites(Canvases(held, crops(data, teacher, "public_test", CROPS[1])), teacher)
        self._held = held
        each = np.arange(self.options.rows) % len(training)

        def made(rows: np.ndarray, turn: Turn | None) -> Mapping[str, Any]:
            return _glance(training, each[rows]) if turn is None else canvases.batch(each[rows], turn)

        names = np.array([picture.name for picture in held])
        kinds = np.array([kind(name) for name in names])
        return {
            "train": Part(
                _truth(training)[each],
                np.array([picture.name for picture in training])[each],
                made,
                chances=canvases.shares["all"][each],
                about=f"made of {len(training)} pictures of clips and photos and of faces of FER2013's train; groups are files",
            ),
            "validation": Part(
                _truth(held),
                names,
                lambda rows, turn: _glance(held, rows),
                about="clips, photos and composites of persons and sources that were not trained on; groups are files",
                views={name: kinds == name for name in ("clips", "pictures", "composites")},
            ),
        }

    def network(self) -> torch.nn.Module:
        import torch

        from affectkit_mini.single_shot import FaceFinder

        network: torch.nn.Module = FaceFinder().to(memory_format=torch.channels_last)
        return network

    def predict(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The largest logit of all cells."""
        found: torch.Tensor = network(shown_to(batch["shown"]))[..., 0].amax(1, keepdim=True)
        return found

    def loss(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        """Of the score of every cell, of box and points of those that a face is at, and of the closer look at what is found."""
        from affectkit_mini.trainings.detection_loss import loss, of_judge

        size = tuple(batch["shown"].shape[1:3])
        answers = network(shown_to(batch["shown"])).float()
        first = loss(answers, batch["goal"], batch["wanted"], size)
        return first + of_judge(network.judge, answers.detach(), batch["goal"], batch["wanted"], size, batch["large"])

    def figures(self, network: torch.nn.Module, part: Part, logits: torch.Tensor, settings: Mapping[str, Any]) -> Mapping[str, float]:
        """Recall, that of the largest face, and false boxes per frame, of clips, pictures and composites."""
        import torch

        component = Faces(FacesOptions())
        component.use(deepcopy(network), torch.device("cpu"))
        wanted = set(part.groups)
        held = [picture for picture in self._held if picture.name in wanted]
        found: dict[str, float] = {}
        for name in ("clips", "pictures", "composites"):
            counts = measure(component, [picture for picture in held if kind(picture.name) == name])
            told = {
                "frames": counts.frames,
                "faces": counts.faces,
                "recall": counts.recall,
                "recall of the largest face": counts.recall_of_largest,
                "false boxes per frame": counts.false_per_frame,
            }
            found |= {f"{name}, {what}": value for what, value in told.items() if math.isfinite(value)}
        return found

    def about(self) -> About:
        return About(
            title="mini/faces: where the faces of a frame are",
            what="A convolutional network without anchors that gives a score, a box and five points (eyes, nose, corners of the mouth) for every cell of three "
            "grids, at strides 8, 16 and 32, and a small classifier that looks once more at each box that was found, with all the pixels of the frame; "
            "the first look counts twice. A frame is searched in two sizes. It learned from the answers of YuNet, so what YuNet does not see it was "
            "not taught. The metrics under `Measured on validation` say only whether a small picture has a face in it; the further figures "
            "are those of the detector: the truth is YuNet's, recall is over faces that it gives at least 0.7 and that are more than 40 pixels high or wide, at "
            "IoU 0.5, and a false box meets no face at IoU 0.3, not even one that YuNet gives only 0.5. Composites are faces pasted into scenes; pasted faces that "
            f"YuNet overlooks may be found. At a score of {FacesOptions.score} and frames of at most {FacesOptions.max_side} pixels.",
            data="real clips (33, 5 frames per second), 451 photos and film stills, and faces of "
            f"{FER2013}, pasted into them, all labelled by YuNet (Wu, Peng and Yu 2023; its weights are Apache-2.0). The pictures come from openly licensed "
            "repositories; the people in them are not covered by those licences",
            licence="Apache-2.0 (weights); FER2013 is for research use",
            limits="No better than its teacher, which itself misses some faces and sees some that are none. Few persons and scenes were trained on. Faces below 15 "
            "pixels of the searched frame are not found, nor are heads from behind or upside down; faces from the side, behind hands or masks, and in poor light "
            "are found less often. The validation part chose the score, so the figures are a little too good. A box says nothing about who somebody is.",
            commercial=False,
        )


def kind(name: str) -> str:
    """Of a file below the data folder: clips, pictures or composites.

    >>> kind("video/a.mp4"), kind("images/b.jpg"), kind("composite 3")
    ('clips', 'pictures', 'composites')
    """
    return "clips" if name.startswith("video") else "composites" if name.startswith("composite") else "pictures"


def composites(canvases: Any, teacher: Teacher) -> list[Picture]:
    """Faces of FER2013's public test and of validation pictures pasted into those, as the teacher sees them; what it overlooks may be found."""
    from affectkit_mini.trainings.canvases import NO_FACE

    random = np.random.default_rng(5)
    made = []
    for index in range(COMPOSITES):
        height, width = (360, 640) if index % 2 else (480, 640)
        empty = index % 5 == 0
        image, known, _ = (
            (canvases.background(random, height, width), *NO_FACE) if empty else canvases.composite(random, height, width, decoys=False)
        )
        picture = teacher.label(f"composite {index}", np.ascontiguousarray(image))
        pasted = np.concatenate([known, np.full((len(known), 1), UNSURE, np.float32)], 1)
        made.append(replace(picture, found=np.concatenate([picture.found, pasted])))
    return made


def measure(component: Faces, pictures: Sequence[Picture]) -> Agreement:
    """How far the component finds what the teacher does, over some pictures."""
    counts = Agreement()
    for picture in pictures:
        clip = Clip(Media("frame", Path("frame"), "image", 0.0), Span(0.0, 0.0), frames=picture.rgb[None], frame_times=np.zeros(1))
        truth = Detections(picture.found[:, :4], picture.found[:, 14].clip(0, 1))
        counts += agreement(Detections.from_evidence(component.provide([clip])[0]), truth)
    return counts


def _truth(pictures: Sequence[Picture]) -> np.ndarray:
    """(N, 1) float32: 1 where there is a face, 0 where there is none, NaN where it is doubtful."""
    doubt = [0.0 if not len(picture.doubtful) and not len(picture.found) else np.nan for picture in pictures]
    return np.array([1.0 if len(picture.faces) else other for picture, other in zip(pictures, doubt, strict=True)], np.float32)[:, None]


def _glance(pictures: Sequence[Picture], rows: np.ndarray) -> Mapping[str, np.ndarray]:
    """Pictures shrunk into the corner of a small square, (B, 256, 256, 3) uint8."""
    import cv2

    shown = np.zeros((len(rows), GLANCE, GLANCE, 3), np.uint8)
    for place, row in enumerate(rows):
        rgb = pictures[row].rgb
        scale = min(1.0, GLANCE / max(rgb.shape[:2]))
        height, width = (max(1, round(side * scale)) for side in rgb.shape[:2])
        shown[place, :height, :width] = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    return {"shown": shown}
