"""Train mini/face_static on FER2013.

    python train_face_static.py --data DIR --out DIR

``--data`` holds ``faces/fer2013.parquet`` (columns split, label, jpeg). The split ``train`` is used for training and
``public_test`` for validation. The epochs are fixed and the moving average after the last one is kept, so that no
model is picked on the validation part; its only use is the temperature, fitted on a random half of it (the calibration error is
reported on the other half).
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from affectkit_mini.networks import FaceNet, standardise
from common import (
    BASIC7,
    Average,
    Progress,
    calibration_error,
    export,
    fit_temperature,
    label_index,
    load_state,
    save_state,
    scores,
    seed_everything,
)
from torch import Tensor
from torch.nn import functional


def read_fer2013(data: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (N, 48, 48) uint8 and label columns (N,) int64 of one split."""
    table = pd.read_parquet(data / "faces" / "fer2013.parquet")
    table = table[table["split"] == split]
    pictures = [cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_GRAYSCALE) for raw in table["jpeg"]]
    return np.stack(pictures), np.array([label_index(name) for name in table["label"]])


def augment(grey: Tensor, generator: torch.Generator, erase: float = 0.4) -> Tensor:
    """Box and margin jitter, tilt, mirror, light, blur, lower resolution and erased rectangles.

    Args:
        grey: (B, 1, 48, 48) float in [0, 1].
        generator: source of every random number.
        erase: share of crops that lose a rectangle.

    Returns:
        (B, 1, 48, 48) float in [0, 1].
    """
    count, _, height, width = grey.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator) * (high - low) + low

    zoom = torch.exp(uniform(math.log(0.80), math.log(1.22)))
    stretch = uniform(0.92, 1.08)
    angle = uniform(-0.30, 0.30) * uniform(0, 1)  # radians, most of them small
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    theta = torch.stack(
        [
            torch.stack([cosine * zoom * mirror, -sine * zoom * stretch, uniform(-0.12, 0.12)], 1),
            torch.stack([sine * zoom * mirror, cosine * zoom * stretch, uniform(-0.12, 0.12)], 1),
        ],
        1,
    )
    grid = functional.affine_grid(theta, [count, 1, height, width], align_corners=False)
    grey = functional.grid_sample(grey, grid, padding_mode="reflection", align_corners=False)

    poor = uniform(0, 1) < 0.2
    if poor.any():
        size = int(torch.randint(18, 40, (1,), generator=generator))
        small = functional.interpolate(grey[poor], size=size, mode="area")
        grey[poor] = functional.interpolate(small, size=(height, width), mode="bilinear", align_corners=False)
    soft = uniform(0, 1) < 0.15
    if soft.any():
        grey[soft] = functional.avg_pool2d(grey[soft], 3, 1, 1, count_include_pad=False)

    gamma = torch.exp(uniform(-0.5, 0.5, 1, 1, 1))
    grey = grey.clamp(1e-4, 1) ** gamma
    slope = torch.linspace(-1, 1, width) * uniform(-0.25, 0.25, 1, 1, 1)  # light from one side
    grey = grey * uniform(0.6, 1.4, 1, 1, 1) * (1 + slope) + uniform(-0.15, 0.15, 1, 1, 1)
    grey = grey + torch.randn(grey.shape, generator=generator) * uniform(0, 0.03, 1, 1, 1)

    rows, columns = torch.arange(height).view(1, height, 1), torch.arange(width).view(1, 1, width)
    tall, wide = uniform(0.15, 0.45, 1, 1) * height, uniform(0.15, 0.45, 1, 1) * width
    top, left = uniform(-0.1, 0.9, 1, 1) * height, uniform(-0.1, 0.9, 1, 1) * width
    hole = (rows >= top) & (rows < top + tall) & (columns >= left) & (columns < left + wide)
    hole &= uniform(0, 1, 1, 1) < erase
    return torch.where(hole[:, None], uniform(0, 1, 1, 1, 1), grey).clamp(0, 1)


@torch.inference_mode()
def logits_of(model: FaceNet, pictures: np.ndarray) -> Tensor:
    """Logits (N, 7) float32, the mean of a crop and its mirror image, as the component does."""
    model.eval()
    rows = []
    for part in np.array_split(pictures, max(len(pictures) // 256, 1)):
        crops = standardise(torch.from_numpy(part).float().div(255)[:, None])
        rows.append((model(crops)[0] + model(crops.flip(3))[0]) / 2)
    return torch.cat(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rate", type=float, default=0.08)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--note", default=None, help="a sentence for the record and the card, for instance how a run was resumed")
    parser.add_argument("--limit", type=int, default=None, help="pictures to use, for a quick try")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    seed_everything(options.seed)

    pictures, truth = read_fer2013(options.data, "train")
    held, held_truth = read_fer2013(options.data, "public_test")
    if options.limit:
        pictures, truth, held, held_truth = (part[: options.limit] for part in (pictures, truth, held, held_truth))
    counts = np.bincount(truth, minlength=len(BASIC7)).clip(1)
    weights = torch.tensor((counts.mean() / counts) ** 0.4, dtype=torch.float32)  # rare classes count more, not equally

    model = FaceNet().to(memory_format=torch.channels_last)
    decayed = [value for value in model.parameters() if value.ndim > 1]
    others = [value for value in model.parameters() if value.ndim <= 1]
    optimiser = torch.optim.SGD(
        [{"params": decayed, "weight_decay": 5e-4}, {"params": others, "weight_decay": 0.0}],
        lr=options.rate, momentum=0.9, nesterov=True,
    )  # fmt: skip
    steps = len(pictures) // options.batch_size
    total = steps * options.epochs
    average = Average(model, 0.998)
    first = 0
    state = load_state(options.out / "face_static.state")
    if state is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        average.state, average.steps, first = state["average"], state["steps"], state["epoch"]
    progress = Progress(options.epochs, first)
    for epoch in range(first, options.epochs):
        generator = torch.Generator().manual_seed(options.seed * 1000 + epoch)
        order = torch.randperm(len(pictures), generator=generator).numpy()
        model.train()
        running = 0.0
        for step in range(steps):
            done = (epoch * steps + step) / total
            rate = options.rate * (min(done / 0.05, 1.0) if done < 0.05 else 0.5 * (1 + math.cos(math.pi * (done - 0.05) / 0.95)))
            for group in optimiser.param_groups:
                group["lr"] = rate
            pick = order[step * options.batch_size : (step + 1) * options.batch_size]
            grey = torch.from_numpy(pictures[pick]).float().div(255)[:, None]
            crops = standardise(augment(grey, generator, erase=0.4 if done < 0.85 else 0.1))
            target = functional.one_hot(torch.from_numpy(truth[pick]), len(BASIC7)).float()
            if done < 0.8:
                share = float(np.random.default_rng([options.seed, epoch, step]).beta(0.2, 0.2))
                other = torch.randperm(len(pick), generator=generator)
                crops = share * crops + (1 - share) * crops[other]
                target = share * target + (1 - share) * target[other]
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(crops.contiguous(memory_format=torch.channels_last))[0]
            row_weight = (target * weights).sum(1)
            row_loss = functional.cross_entropy(logits.float(), target, label_smoothing=0.06, reduction="none")
            loss = (row_loss * row_weight).mean() / row_weight.mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            average.update(model)
            running += loss.item() / steps
        save_state(
            options.out / "face_static.state", model=model.state_dict(), optimiser=optimiser.state_dict(),
            average=average.state, steps=average.steps, epoch=epoch + 1,
        )  # fmt: skip
        if (epoch + 1) % 4:
            progress.line(epoch + 1, loss=running)
            continue
        shipped = FaceNet()
        shipped.load_state_dict(average.state)
        logits = logits_of(shipped, held)
        found = scores(logits.softmax(1).numpy(), held_truth)
        progress.line(epoch + 1, loss=running, accuracy=found["accuracy"], uar=found["uar"])

    shipped = FaceNet()
    shipped.load_state_dict({key: value.half().float() if value.is_floating_point() else value for key, value in average.state.items()})
    logits = logits_of(shipped, held)
    half = np.random.default_rng(options.seed).permutation(len(held_truth)) < len(held_truth) // 2
    target = torch.from_numpy(held_truth)
    temperature = fit_temperature(logits[half], target[half])
    rows = (logits / temperature).softmax(1).numpy()
    record = {
        "labels": BASIC7,
        "data": "FER2013 train, 28,709 pictures (Goodfellow et al. 2013), research use",
        "licence": "Apache-2.0 (weights); FER2013 is for research use",
        "commercial": False,
        "command": f"train_face_static.py --epochs {options.epochs} --seed {options.seed}",
        **({"note": options.note} if options.note else {}),
        "temperature": temperature,
        "validation": {"part": "FER2013 public_test, mirrored twice and averaged", **scores(rows, held_truth)},
        "ece_unseen_half": calibration_error(rows[~half], held_truth[~half]),
    }
    print(export(options.out, "face_static", average.state, record))


if __name__ == "__main__":
    main()
