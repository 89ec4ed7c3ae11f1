"""mini/faces: boxes, scores and five points of the faces of many frames at a time, on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from affectkit.api import CheckpointError, Clip, ConfigError, Evidence, Frames, Needs, Provider
from affectkit.detections import Detections, iou
from affectkit_mini.records import checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    import torch

CELL = 32  # pixels: both sides of what the network sees are multiples of its coarsest cell
BATCH = 16  # frames of one size that are searched at a time
CACHED = 4  # on a processor: of more, what lies between two layers leaves its cache, and is given back to the system each time
AGAIN = 200  # longer side in pixels from which on a picture is searched at a quarter of its size as well: the network knows no larger faces
TINY = 15.0  # pixels of what the network sees: most of the smaller boxes are no faces
CANDIDATES = 300  # boxes of a picture that go into non-maximum suppression, those with the highest scores
BLACK = -1.0  # what the network sees beside the frame, and where it is black
FIRST = 0.4  # share of the wanted score from which on a box gets a closer look
NARROW = 2.0  # pixels of the frame: a box with a shorter side is no face


@dataclass(frozen=True)
class FacesOptions:
    """Options of mini/faces.

    Attributes:
        checkpoint: ``default``, or the path of a file that ``affectkit train mini/faces`` wrote.
        score: faces below this score, in [0, 1], are left out.
        nms: of two boxes that overlap by more than this share, in [0, 1], the one with the lower score is left out.
        max_side: longer side in pixels that frames are shrunk to before they are searched; larger finds smaller faces and is slower.
        bf16: whether the search is in bf16, in which boxes move by less than a pixel, or in the precision of the run; ``None`` takes bf16 on processors
            that have instructions for it, with which it needs three quarters of the time.
    """

    checkpoint: str = "default"
    score: float = 0.7
    nms: float = 0.4
    max_side: int = 544
    bf16: bool | None = None

    def __post_init__(self) -> None:
        for name in ("score", "nms"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"mini/faces: {name} must be in [0, 1], found {getattr(self, name)}")
        if self.max_side < CELL:
            raise ConfigError(f"mini/faces: max_side must be at least {CELL} pixels, found {self.max_side}")


class Faces(Provider):
    """Boxes, scores and five landmarks of the faces of a frame: right eye, left eye, nose, right and left corner of the mouth.

    Right and left are the person's own. A network without anchors in the manner of Tian et al.: FCOS (ICCV 2019) and Zhou et
    al.: Objects as points (2019), which learned from the answers of YuNet. A frame is searched at ``max_side`` and again
    at a quarter of it, until it is small; what is found there is looked at once more, from closer.
    """

    name = "faces"
    kind = "faces"
    scope = "frame"
    needs = Needs(frames=Frames(count=1))
    Options = FacesOptions
    checkpoints: ClassVar = {"default": checkpoint("faces", labels=None)}

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        from affectkit import weight_files
        from affectkit_mini.single_shot import FaceFinder

        path = self.weights()
        network = FaceFinder()
        weight_files.load_strict(network, weight_files.load_tensors(path), path)
        self.use(network, device, dtype)

    def use(self, network: torch.nn.Module, device: torch.device, dtype: torch.dtype | None = None) -> None:
        """Takes a network instead of a file of weights; it is changed. ``dtype`` is the precision of the run, single where none is given."""
        import torch

        from affectkit_mini.single_shot import fold

        bf16 = self.options.bf16 if self.options.bf16 is not None else device.type == "cpu" and _quick_in_bf16()
        self._device, self._dtype = device, torch.bfloat16 if bf16 else dtype or torch.float32
        self._network = fold(network.eval().requires_grad_(False)).to(device, self._dtype, memory_format=torch.channels_last)

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """There is none: a detector of random numbers sees no face, and what follows would have nothing to read."""
        raise CheckpointError(
            f"{self.id} has no random weights: with random numbers it would find no face, and nothing that reads faces could be tried. "
            "Its own weights are small and in its package"
        )

    def provide(self, clips: Sequence[Clip]) -> list[Evidence]:
        """Boxes (K, 4), scores (K,) and landmarks (K, 5, 2) of each clip's one frame."""
        found = [Evidence.none("faces", "no picture")] * len(clips)
        for places in _alike(clips, CACHED if self._device.type == "cpu" else BATCH):
            pictures = np.stack([clips[place].frames[0] for place in places])  # type: ignore[index]  # _alike leaves out those without
            for place, faces in zip(places, self._search(pictures), strict=True):
                found[place] = faces.to_evidence()
        return found

    def _search(self, pictures: np.ndarray) -> list[Detections]:
        """Faces of pictures (B, H, W, 3) uint8 RGB, in their own pixels."""
        import torch

        frames = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).to(self._device)
        if frames.device.type != "cpu":  # only there does torch shrink bytes
            frames = frames.float()
        sizes = _sizes(*pictures.shape[1:3], self.options.max_side)
        with torch.inference_mode():
            looks = [np.concatenate(parts) for parts in zip(*(self._scan(frames, size) for size in sizes), strict=True)]
            ordered = (rows[np.argsort(-rows[:, 0], kind="stable")] for rows in looks)
            return self._judged(frames, [_kept(rows, pictures.shape[1:3], self.options.nms) for rows in ordered])

    def _judged(self, frames: torch.Tensor, found: Sequence[Detections]) -> list[Detections]:
        """Those of the boxes of frames (B, 3, H, W) that are faces at a closer look, and one in the mirror, as well; the first look counts twice."""
        import torch

        from affectkit_mini.single_shot import closer

        if not any(len(one) for one in found):
            return list(found)
        views = [closer(frame, torch.from_numpy(one.boxes).to(frame.device)) for frame, one in zip(frames, found, strict=True)]
        shown = scaled(torch.cat(views).to(self._dtype, memory_format=torch.channels_last))
        looks = self._network.judge(torch.cat([shown, shown.flip(3)])).float()
        seconds = looks.reshape(2, -1).mean(0).cpu().split([len(one) for one in found])
        return [self._agreed(one, second) for one, second in zip(found, seconds, strict=True)]

    def _agreed(self, found: Detections, second: torch.Tensor) -> Detections:
        """Boxes by the scores of both looks, of which the second is (K,) logits; those below the wanted score are left out."""
        import torch

        scores = ((2 * torch.from_numpy(found.scores).logit(1e-6) + second) / 3).sigmoid().numpy()
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] >= self.options.score]
        return Detections(found.boxes[order], scores[order], found.landmarks[order])

    def _scan(self, frames: torch.Tensor, size: tuple[int, int]) -> list[np.ndarray]:
        """What the network says about frames (B, 3, H, W) uint8, shrunk to ``size`` (height, width).

        Returns:
            Per frame (K, 15) float32: scores, boxes and points in pixels of the frame.
        """
        import torch
        from torch.nn import functional

        from affectkit_mini.single_shot import cells, decode

        height, width = frames.shape[2:]
        if size != (height, width):
            frames = functional.interpolate(frames, size, mode="bilinear", antialias=True)
        padded = (size[0] + -size[0] % CELL, size[1] + -size[1] % CELL)
        shown = torch.empty((len(frames), 3, *padded), device=self._device, dtype=self._dtype, memory_format=torch.channels_last)
        if padded != size:
            shown.zero_()
        shown[..., : size[0], : size[1]].copy_(frames)
        answers = self._network(scaled(shown)).float()
        centres, strides = (part.to(self._device) for part in cells(*shown.shape[2:]))
        scores = answers[..., 0].sigmoid()
        stretch = torch.tensor([width / size[1], height / size[0]], device=self._device)
        best, order = scores.topk(min(CANDIDATES, scores.shape[1]), dim=1)
        found = []
        for row in range(len(frames)):
            keep = order[row][best[row] >= FIRST * self.options.score]
            boxes, points = decode(answers[row, keep], centres[keep], strides[keep])
            rows = torch.cat([scores[row, keep, None], boxes * stretch.repeat(2), (points * stretch).flatten(1)], 1)
            found.append(rows[(boxes[:, 2:] - boxes[:, :2]).prod(1) >= TINY**2].cpu().numpy())
        return found


def _quick_in_bf16() -> bool:
    """Whether this processor has instructions for bf16; older releases of torch cannot tell."""
    import torch

    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def shown_to(frames: torch.Tensor) -> torch.Tensor:
    """Frames (B, H, W, 3) uint8 as the network sees them: (B, 3, H, W) float32 in [-1, 1]."""
    return scaled(frames.permute(0, 3, 1, 2).float())


def scaled(values: torch.Tensor) -> torch.Tensor:
    """Values in [0, 255], in their place, as those in [-1, 1]."""
    return values.mul_(1 / 127.5).add_(BLACK)


def _alike(clips: Sequence[Clip], most: int) -> Iterator[list[int]]:
    """Places of clips whose frames have one size, at most so many at a time; those without a frame are left out."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for place, clip in enumerate(clips):
        if clip.frames is not None:
            by_size.setdefault(clip.frames.shape[1:], []).append(place)
    for places in by_size.values():
        for first in range(0, len(places), most):
            yield places[first : first + most]


def _sizes(height: int, width: int, max_side: int) -> list[tuple[int, int]]:
    """Heights and widths at which a picture is searched; it is never made larger.

    >>> _sizes(720, 1280, 480), _sizes(48, 64, 480)
    ([(270, 480), (68, 120)], [(48, 64)])
    """
    longer = min(max_side, max(height, width))
    sides = [float(longer)]
    while sides[-1] >= AGAIN:
        sides.append(sides[-1] / 4)
    return [(max(1, round(height * side / max(height, width))), max(1, round(width * side / max(height, width)))) for side in sides]


def _kept(rows: np.ndarray, size: tuple[int, ...], nms: float) -> Detections:
    """Faces of one picture of ``size`` (height, width), of rows (K, 15) of :meth:`Faces._scan`, the highest score first."""
    boxes = rows[:, 1:5]
    sides = boxes[:, 2:] - boxes[:, :2]
    inside = (boxes[:, :2] < size[::-1]).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    rows = rows[np.isfinite(rows).all(axis=1) & inside & (sides >= NARROW).all(axis=1)][:CANDIDATES]
    kept = distinct(rows[:, 1:5], nms)
    return Detections(rows[kept, 1:5], rows[kept, 0].clip(0, 1), rows[kept, 5:].reshape(-1, 5, 2))


def distinct(boxes: np.ndarray, share: float) -> np.ndarray:
    """Non-maximum suppression.

    Args:
        boxes: (K, 4) x0, y0, x1, y1, the best first.
        share: intersection over union, in [0, 1], above which the later of two boxes is left out.

    Returns:
        Rising indices of the boxes that stay.

    >>> distinct(np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]]), 0.5)
    array([0, 2])
    """
    overlap = iou(boxes, boxes)
    left = np.ones(len(boxes), dtype=bool)
    for index in range(len(boxes)):
        if left[index]:
            left[index + 1 :] &= overlap[index, index + 1 :] <= share
    return np.flatnonzero(left)
