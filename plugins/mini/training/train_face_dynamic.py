"""Train mini/face_dynamic on sequences made from FER2013 stills, over the frozen weights of mini/face_static.

    python train_face_dynamic.py --data DIR --backbone OUT/face_static.safetensors --out DIR

A made sequence cross-fades from a neutral still to a still with an expression (onset), runs backwards (offset), or stays
on one still (steady), while the box, the tilt and the light drift. The two stills show two people: what the network
learns is the order of expressions, not the motion of one face. Sequences for training are made of the split ``train``, those for
measuring of ``public_test``. The targets: an onset is its expression (0.9, the rest neutral), an offset is still mostly its
expression (0.55, the rest neutral), a steady one is its still's label.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from affectkit_mini.networks import DIRECTIONS, FaceDynamics, FaceNet
from common import BASIC7, Average, Progress, calibration_error, export, fit_temperature, scores, seed_everything
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from train_face_static import read_fer2013

LENGTH = 20  # crops: 4 seconds at 5 per second
NEUTRAL = BASIC7.index("neutral")


def drift(count: int, low: float, high: float, step: float, generator: torch.Generator) -> Tensor:
    """A slow random walk (count, LENGTH) that begins anywhere in [low, high]."""
    first = torch.rand(count, 1, generator=generator) * (high - low) + low
    moves = torch.randn(count, LENGTH, generator=generator) * step
    return first + moves.cumsum(1) - moves[:, :1]


def make_sequences(before: Tensor, after: Tensor, generator: torch.Generator) -> Tensor:
    """Cross-fade two pictures under a drifting camera.

    Args:
        before, after: (N, 48, 48) float in [0, 1].
        generator: source of every random number.

    Returns:
        (N, LENGTH, 48, 48) float in [0, 1].
    """
    count = len(before)
    begin = torch.rand(count, 1, generator=generator) * 0.6 * LENGTH
    width = torch.rand(count, 1, generator=generator) * 0.4 * LENGTH + 1
    share = ((torch.arange(LENGTH) - begin) / width).clamp(0, 1)[:, :, None, None]
    frames = (1 - share) * before[:, None] + share * after[:, None]
    zoom = torch.exp(drift(count, -0.15, 0.15, 0.015, generator))
    angle = drift(count, -0.15, 0.15, 0.02, generator)
    mirror = torch.where(torch.rand(count, 1, generator=generator) < 0.5, -1.0, 1.0)
    right, down = (drift(count, -0.06, 0.06, 0.015, generator) for _ in range(2))
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    theta = torch.stack([torch.stack([cosine * mirror, -sine, right], 2), torch.stack([sine * mirror, cosine, down], 2)], 2)
    grid = functional.affine_grid(theta.flatten(0, 1), [count * LENGTH, 1, 48, 48], align_corners=False)
    frames = functional.grid_sample(frames.flatten(0, 1)[:, None], grid, padding_mode="reflection", align_corners=False)
    gain = torch.exp(drift(count, -0.3, 0.3, 0.03, generator)).flatten()[:, None, None]
    noise = torch.rand(count, 1, generator=generator).mul(0.03).expand(-1, LENGTH).flatten()[:, None, None]
    frames = frames[:, 0] * gain + torch.randn(frames[:, 0].shape, generator=generator) * noise
    return frames.clamp(0, 1).view(count, LENGTH, 48, 48)


@torch.inference_mode()
def make_part(net: FaceNet, pictures: np.ndarray, truth: np.ndarray, count: int, seed: int, name: str) -> dict[str, Tensor]:
    """``count`` made sequences as backbone outputs: embeddings (N, T, 128), logits (N, T, 7), label (N,), moving (N,) bool."""
    random, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    neutrals = np.flatnonzero(truth == NEUTRAL)
    by_class = [np.flatnonzero(truth == label) for label in range(len(BASIC7))]
    moving = random.random(count) < 0.6
    rows = np.array([random.choice(by_class[random.integers(1 if move else 0, len(BASIC7))]) for move in moving])
    first = np.where(moving, random.choice(neutrals, count), rows)
    embeddings, logits = [], []
    for part in np.array_split(np.arange(count), max(count // 64, 1)):
        before, after = (torch.from_numpy(pictures[index[part]]).float().div(255) for index in (first, rows))
        frames = make_sequences(before, after, generator)
        with torch.autocast("cpu", torch.bfloat16):
            found = net.read(frames.flatten(0, 1))
        logits.append(found[0].view(len(part), LENGTH, -1))
        embeddings.append(found[1].view(len(part), LENGTH, -1))
        if part[0] % 512 < 64:
            print(f"made {part[0]} of {count} {name} sequences", flush=True)
    return {
        "embeddings": torch.cat(embeddings),
        "logits": torch.cat(logits),
        "label": torch.from_numpy(truth[rows]),
        "moving": torch.from_numpy(moving),
    }


def targets(label: Tensor, moving: Tensor, backwards: Tensor) -> tuple[Tensor, Tensor]:
    """Wanted distributions (N, 7) and directions (N,)."""
    share = torch.where(moving, torch.where(backwards, 0.55, 0.9), 1.0)[:, None]
    wanted = share * functional.one_hot(label, len(BASIC7))
    wanted[:, NEUTRAL] += 1 - share[:, 0]
    return wanted, torch.where(moving, torch.where(backwards, 2, 1), 0)


@torch.inference_mode()
def measure(model: FaceDynamics, part: dict[str, Tensor], temperature: float) -> dict[str, object]:
    """Order told in pairs of the same frames, and accuracy against the mean of the single pictures."""
    model.eval()
    mask = torch.ones(part["logits"].shape[:2], dtype=torch.bool)
    forward = model(part["embeddings"], part["logits"], mask)
    backward = model(part["embeddings"].flip(1), part["logits"].flip(1), mask)
    moving, label = part["moving"], part["label"]
    ways = [found[1].softmax(1)[moving] for found in (forward, backward)]
    onset = [way[:, DIRECTIONS.index("onset")] - way[:, DIRECTIONS.index("offset")] for way in ways]
    neutral = [(found[0] / temperature).softmax(1)[moving, NEUTRAL] for found in (forward, backward)]
    average = part["logits"].softmax(2).mean(1).numpy()
    truth = label.numpy()
    rows = (forward[0] / temperature).softmax(1).numpy()
    back = (backward[0] / temperature).softmax(1).numpy()
    still, move = ~moving.numpy(), moving.numpy()
    return {
        "pairs": int(moving.sum()),
        "order_told_by_direction": float((onset[0] > onset[1]).float().mean()),
        "order_told_by_neutral": float((neutral[0] < neutral[1]).float().mean()),
        "onset_accuracy": float((rows[move].argmax(1) == truth[move]).mean()),
        "onset_accuracy_of_average": float((average[move].argmax(1) == truth[move]).mean()),
        "offset_accuracy": float((back[move].argmax(1) == truth[move]).mean()),
        "steady": scores(rows[still], truth[still]),
        "steady_accuracy_of_average": float((average[still].argmax(1) == truth[still]).mean()),
        "steady_ece": calibration_error(rows[still], truth[still]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--backbone", type=Path, required=True, help="face_static.safetensors")
    parser.add_argument("--sequences", type=int, default=2500)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    seed_everything(options.seed)

    net = FaceNet().eval()
    net.load_state_dict({key: value.float() for key, value in load_file(options.backbone).items()}, strict=False)
    made = options.out / "face_dynamic_sequences.pt"
    if made.exists():
        parts = torch.load(made, weights_only=True)
    else:
        parts = [
            make_part(net, *read_fer2013(options.data, split), count, options.seed + number, split)
            for number, (split, count) in enumerate((("train", options.sequences), ("public_test", options.sequences // 2)))
        ]
        torch.save(parts, made)
    train, held = parts
    held_half = [{key: value[side::2] for key, value in held.items()} for side in (0, 1)]

    model = FaceDynamics()
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.rate, weight_decay=0.05)
    average = Average(model, 0.99)
    count, steps = len(train["label"]), len(train["label"]) // options.batch_size
    progress = Progress(options.epochs)
    for epoch in range(options.epochs):
        torch.manual_seed(options.seed * 1000 + epoch)
        model.train()
        running = 0.0
        order = torch.randperm(count)
        for step in range(steps):
            done = (epoch * steps + step) / (steps * options.epochs)
            for group in optimiser.param_groups:
                group["lr"] = options.rate * min(done / 0.05, 1.0) * 0.5 * (1 + math.cos(math.pi * done))
            pick = order[step * options.batch_size : (step + 1) * options.batch_size]
            embeddings, logits = train["embeddings"][pick].clone(), train["logits"][pick].clone()
            backwards = torch.rand(len(pick)) < 0.5
            embeddings[backwards], logits[backwards] = embeddings[backwards].flip(1), logits[backwards].flip(1)
            wanted, direction = targets(train["label"][pick], train["moving"][pick], backwards)
            keep = torch.ones(logits.shape[:2], dtype=torch.bool)
            steady = ~train["moving"][pick]
            short = torch.randint(3, LENGTH + 1, (len(pick),))
            keep[steady] = torch.arange(LENGTH) < short[steady][:, None]  # steady windows of any length
            found, way, _ = model(embeddings, logits, keep)
            loss = functional.cross_entropy(found, wanted) + 0.5 * functional.cross_entropy(way, direction)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            average.update(model)
            running += loss.item() / steps
        progress.line(epoch + 1, loss=running)

    shipped = FaceDynamics()
    shipped.load_state_dict({key: value.half().float() for key, value in average.state.items()})
    shipped.eval()
    with torch.inference_mode():
        part = {key: value[~held_half[0]["moving"]] for key, value in held_half[0].items()}
        logits = shipped(part["embeddings"], part["logits"], torch.ones(part["logits"].shape[:2], dtype=torch.bool))[0]
    temperature = fit_temperature(logits, part["label"])
    record = {
        "labels": BASIC7,
        "data": f"{options.sequences} sequences made from FER2013 train stills (Goodfellow et al. 2013), research use",
        "licence": "Apache-2.0 (weights); FER2013 is for research use",
        "commercial": False,
        "command": f"train_face_dynamic.py --sequences {options.sequences} --epochs {options.epochs} --seed {options.seed}",
        "temperature": temperature,
        "validation": {"part": "sequences made from FER2013 public_test, the half not used for the temperature",
                       **measure(shipped, held_half[1], temperature)},
    }  # fmt: skip
    print(export(options.out, "face_dynamic", average.state, record))


if __name__ == "__main__":
    main()
