"""Trains mini/faces: a small detector that learns from the answers of YuNet.

    python train_faces.py --data DATA --out OUT

``DATA`` holds ``video/``, ``video_edge/``, ``images/``, ``images_unlabelled/``, ``faces/fer2013.parquet`` and
``weights/face_detection_yunet.onnx``. The files that ``faces_validation.txt`` names are not trained on. ``OUT`` gets
``faces.safetensors`` and ``faces.json``; a run that was stopped goes on where it was. ``--measure FILE`` prints the figures of weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from affectkit_mini.detector import Faces, FacesOptions
from affectkit_mini.single_shot import FaceFinder, cells, decode
from faces_canvases import NO_FACE, Canvases
from faces_teacher import SURE, Picture, Teacher, crops, pictures
from torch import Tensor
from torch.nn import functional

from affectkit.api import Clip, Media, Span
from affectkit.checkpoints import save_tensors
from affectkit.detections import Detections, iou

MEMORY = 0.998  # share of the running mean of the weights that a step leaves
RATE, DECAY, WARM, STEADY = 3e-3, 0.02, 150, 0.3  # learning rate, weight decay, steps that it rises, share of the steps that it stays
SAME, NEAR, MAYBE, LARGE = 0.5, 0.3, 0.5, 40.0  # IoU of a hit and of a find that is not false; the teacher's score of the latter; pixels
CROPS, COMPOSITES = (6000, 400), 150
RECORD = {
    "data": "real clips (33, 5 frames per second), 451 photos and film stills, and faces of FER2013 (Goodfellow et al. 2013) pasted into them, all labelled by "
    "YuNet (Wu, Peng and Yu 2023; its weights are Apache-2.0). The pictures come from openly licensed repositories; the people in them are not covered by "
    "those licences",
    "licence": "Apache-2.0 (weights); FER2013 is for research use",
    "commercial": False,
}
TITLE = "mini/faces: where the faces of a frame are"
WHAT = (
    "A convolutional network without anchors that gives a score, a box and five points (eyes, nose, corners of the mouth) for every cell of three grids, at strides 8, 16 and "
    "32. A frame is searched at two or three sizes, many frames at a time. It learned from the answers of YuNet, so what YuNet does not see it was not taught."
)
PART = "clips, persons and sources that were not trained on"
HOW = (
    "The truth is YuNet's: recall is over faces that it gives at least 0.7 and that are more than 40 pixels high or wide, at IoU 0.5; a false box meets no face at IoU 0.3, not even one "
    "that YuNet gives only 0.5. Composites are faces pasted into scenes; pasted faces that YuNet overlooks may be found."
)
LIMITS = (
    "No better than its teacher, which itself misses some faces and sees some that are none. Few persons and scenes were trained on. Faces below about 12 pixels of the "
    "searched frame are not found, nor are heads from behind or upside down; faces from the side, behind hands or masks, and in poor light are found less often. A box says nothing "
    "about who somebody is."
)


def losses(answers: Tensor, goal: Tensor, owner: Tensor, faces: Tensor, size: tuple[int, int]) -> Tensor:
    """The loss of a batch.

    Args:
        answers: (B, N, 15) of the network.
        goal: (B, N) and ``owner``: (B, N), see ``faces_canvases.goals``; owners count over the batch.
        owner: likewise.
        faces: (K, 14) boxes and points in pixels.
        size: height and width of the pictures in pixels.
    """
    logits = answers[..., 0]
    score, hit, miss = logits.sigmoid(), goal == 1, (goal >= 0) & (goal < 1)
    # Zhou, Wang and Kraehenbuehl: Objects as points (2019), equation 1
    found = (functional.softplus(-logits) * (1 - score) ** 2)[hit].sum()
    quiet = (functional.softplus(logits) * score**2 * (1 - goal.clamp(0, 1)) ** 4)[miss].sum()
    loss = (found + quiet) / hit.sum().clamp_min(1)
    mine = owner >= 0
    if not mine.any():
        return loss
    centres, strides = (part.expand(len(answers), -1, -1)[mine] for part in cells(*size))
    truth, said = faces[owner[mine]], answers[mine]
    boxes, points = decode(said, centres, strides)
    sides = truth[:, 2:4] - truth[:, :2]
    extent = sides.prod(1, keepdim=True).sqrt()
    loss = loss + 2 * overlap_loss(boxes, truth[:, :4]).mean()
    loss = loss + 0.3 * functional.smooth_l1_loss(said[:, 3:5], (sides / strides).log(), beta=0.2)
    return loss + 2 * functional.smooth_l1_loss(points.flatten(1) / extent, truth[:, 4:] / extent, beta=0.05)


def overlap_loss(boxes: Tensor, truth: Tensor) -> Tensor:
    """1 - IoU, and how far centres and sides differ (Zhang et al.: Focal and efficient IOU loss, 2022, equation 8): (K,) of boxes (K, 4)."""
    shared = (torch.minimum(boxes[:, 2:], truth[:, 2:]) - torch.maximum(boxes[:, :2], truth[:, :2])).clamp_min(0).prod(1)
    sides, wanted = boxes[:, 2:] - boxes[:, :2], truth[:, 2:] - truth[:, :2]
    around = torch.maximum(boxes[:, 2:], truth[:, 2:]) - torch.minimum(boxes[:, :2], truth[:, :2])
    apart = (boxes[:, :2] + boxes[:, 2:] - truth[:, :2] - truth[:, 2:]).square().sum(1) / 4 / around.square().sum(1)
    return 1 - shared / (sides.prod(1) + wanted.prod(1) - shared) + apart + ((sides - wanted) / around).square().sum(1)


def rate(step: int, steps: int) -> float:
    """Learning rate: rises, stays, falls as a cosine."""
    done = step / steps
    fall = 1.0 if done < STEADY else 0.003 + (1 + math.cos(math.pi * (done - STEADY) / (1 - STEADY))) / 2
    return RATE * min(1.0, (step + 1) / WARM) * fall


def train(training: Sequence[Picture], faces: Sequence[Picture], options: argparse.Namespace) -> FaceFinder:
    """The network with the running mean of its weights."""
    torch.manual_seed(options.seed)
    network = FaceFinder().to(memory_format=torch.channels_last)
    matrices = [value for value in network.parameters() if value.dim() > 1]
    vectors = [value for value in network.parameters() if value.dim() == 1]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98))
    average, first, kept = {key: value.detach().clone() for key, value in network.state_dict().items()}, 0, options.out / "faces_state.pt"
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        average, first = state["average"], state["step"]
    canvases = Canvases(training, faces, options.seed, first)
    batches = iter(torch.utils.data.DataLoader(canvases, batch_size=None, num_workers=1, prefetch_factor=6))
    begin = saved = time.monotonic()
    for step in range(first, options.steps):
        for group in optimiser.param_groups:
            group["lr"] = rate(step, options.steps)
        shown, goal, owner, boxes = next(batches)
        shown = shown.permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=torch.channels_last)
        loss = losses(network(shown), goal, owner, boxes, tuple(shown.shape[2:]))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        follow(average, network, step)
        if step % 50 == 49:
            left = (time.monotonic() - begin) / (step + 1 - first) * (options.steps - step - 1)
            print(f"step {step + 1} of {options.steps}, loss {loss.item():.3f}, {left / 60:.0f} min left", flush=True)
        if time.monotonic() - saved > 60:
            saved = time.monotonic()
            state = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "average": average, "step": step + 1}
            torch.save(state, kept.with_suffix(".part"))
            kept.with_suffix(".part").replace(kept)
    network.load_state_dict(average)
    return network.eval()


@torch.no_grad()
def follow(average: dict[str, Tensor], network: FaceFinder, step: int) -> None:
    """Moves the running mean of the weights a little towards those of now."""
    share = 1 - min(MEMORY, (2 + step) / (11 + step))
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            average[key].lerp_(value, share)
        else:
            average[key].copy_(value)


def composites(validation: Sequence[Picture], faces: Sequence[Picture], teacher: Teacher) -> list[Picture]:
    """Faces of FER2013's public test and of validation pictures pasted into those, as the teacher sees them; what it overlooks may be found."""
    random = np.random.default_rng(5)
    canvases = Canvases(validation, faces, 5)
    made = []
    for index in range(COMPOSITES):
        height, width = (360, 640) if index % 2 else (480, 640)
        empty = index % 5 == 0
        image, known, _ = (canvases.background(random, height, width), *NO_FACE) if empty else canvases.composite(random, height, width)
        picture = teacher.label(f"composite {index}", np.ascontiguousarray(image))
        pasted = np.concatenate([known, np.full((len(known), 1), MAYBE, np.float32)], 1)
        made.append(replace(picture, found=np.concatenate([picture.found, pasted])))
    return made


def measure(component: Faces, validation: Sequence[Picture]) -> dict[str, Any]:
    """The figures of the goals over some pictures, as ``benchmarks/faces.py`` defines them."""
    faces = found = frames = largest = false = 0
    for picture in validation:
        clip = Clip(Media("frame", Path("frame"), "image", 0.0), Span(0.0, 0.0), frames=picture.rgb[None], frame_times=np.zeros(1))
        boxes = Detections.from_evidence(component.provide([clip])[0]).boxes
        truth = picture.found
        sides = truth[:, 2:4] - truth[:, :2]
        sure = (truth[:, 14] >= SURE) & (sides.max(1, initial=0) > LARGE)
        overlap = iou(truth[:, :4], boxes)
        hit = overlap.max(1, initial=0.0) >= SAME
        faces, found = faces + int(sure.sum()), found + int((hit & sure).sum())
        false += int((overlap[truth[:, 14] >= MAYBE].max(0, initial=0.0) < NEAR).sum())
        if sure.any():
            frames, largest = frames + 1, largest + int(hit[np.argmax(np.where(sure, sides.prod(1), -1.0))])
    return {
        "frames": len(validation),
        "faces": faces,
        "recall": found / max(faces, 1),
        "recall_of_largest": largest / max(frames, 1),
        "false_boxes_per_frame": false / max(len(validation), 1),
    }


def parts(validation: Sequence[Picture], made: Sequence[Picture]) -> Iterator[tuple[str, list[Picture]]]:
    yield "clips", [picture for picture in validation if picture.name.startswith("video")]
    yield "pictures", [picture for picture in validation if not picture.name.startswith("video")]
    yield "composites", list(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--measure", type=Path, metavar="FILE", help="train nothing; print the figures of these weights")
    parser.add_argument("--score", type=float, default=FacesOptions.score, help="option of mini/faces that is measured")
    parser.add_argument("--max-side", type=int, default=FacesOptions.max_side, help="option of mini/faces that is measured")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    teacher = Teacher(options.data / "weights" / "face_detection_yunet.onnx")
    training, validation = pictures(options.data, teacher, options.out / "faces_labels.pkl")
    path = options.measure or options.out / "faces.safetensors"
    if not options.measure:
        network = train(training, crops(options.data, teacher, "train", CROPS[0]), options)
        record = {**RECORD, "command": f"train_faces.py --steps {options.steps} --seed {options.seed}"}
        export(options.out, network, record)
    made = composites(validation, crops(options.data, teacher, "public_test", CROPS[1]), teacher)
    component = Faces(FacesOptions(checkpoint=str(path), score=options.score, max_side=options.max_side))
    component.load(torch.device("cpu"), torch.float32)
    figures = {name: measure(component, chosen) for name, chosen in parts(validation, made)}
    for name, figure in figures.items():
        print(name, {key: round(value, 3) for key, value in figure.items()})
    if not options.measure:
        record["validation"] = {"part": PART, "score": options.score, "max_side": options.max_side, **figures}
        record = export(options.out, network, record)
        (options.out / "faces.md").write_text(card(record), encoding="utf-8")


def export(out: Path, network: FaceFinder, record: dict[str, Any]) -> dict[str, Any]:
    """Writes ``faces.safetensors`` in half precision and ``faces.json``, and gives the whole record."""
    tensors = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    path = out / "faces.safetensors"
    save_tensors(path, tensors, {"format": "pt", "name": "faces"})
    found = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
    count = sum(value.numel() for value in tensors.values())
    whole = {"name": "faces", **found, "parameters": count, **record, "torch": torch.__version__, "python": platform.python_version()}
    (out / "faces.json").write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    return whole


def card(record: dict[str, Any]) -> str:
    """The model card."""
    validation = record["validation"]
    lines = [f"# {TITLE}", "", WHAT, "", f"- Data: {record['data']}.", f"- Licence of the weights: {record['licence']}."]
    lines += [f"- Size: {record['parameters']:,} numbers, {record['bytes'] / 1e3:,.0f} kB."]
    lines += [f"- Made by: `training/{record['command']}` (`--data` and `--out` besides); the record is `faces.json`."]
    if "note" in record:
        lines.append(f"- Note: {record['note']}.")
    lines += ["", f"## Measured on validation ({validation['part']})", ""]
    lines += [f"At a score of {validation['score']} and frames of at most {validation['max_side']} pixels.", ""]
    lines += ["| part | frames | faces | recall | recall of the largest face | false boxes per frame |", "|---|---|---|---|---|---|"]
    for name in ("clips", "pictures", "composites"):
        row = validation[name]
        shares = f"{row['recall']:.3f} | {row['recall_of_largest']:.3f} | {row['false_boxes_per_frame']:.3f}"
        lines.append(f"| {name} | {row['frames']} | {row['faces']} | {shares} |")
    return "\n".join([*lines, "", HOW, "", "## Limits", "", LIMITS, ""])


if __name__ == "__main__":
    main()
