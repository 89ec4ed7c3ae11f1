"""What the training scripts share: seeds, progress, resumable state, metrics and the training record."""

from __future__ import annotations

import hashlib
import json
import platform
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.metrics import confusion_matrix, f1_score

BASIC7 = ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise")
ALIASES = {
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "happy": "happiness",
    "joy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
    "calm": "neutral",
}


# What a component needs beside the tensors; it travels inside the file of weights.
SETTINGS = ("labels", "temperature", "thresholds", "exponent")


def label_index(name: str) -> int:
    """The column of a corpus' label name in the seven basic emotions."""
    name = name.strip().lower()
    return BASIC7.index(ALIASES.get(name, name))


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class Progress:
    """One line per epoch, with the time left."""

    def __init__(self, total: int, done: int = 0) -> None:
        self.total, self.first, self.start = total, done, time.monotonic()

    def line(self, done: int, **figures: float) -> None:
        spent = time.monotonic() - self.start
        left = spent / max(done - self.first, 1) * (self.total - done)
        shown = "  ".join(f"{key} {value:.4f}" for key, value in figures.items())
        print(f"[{done}/{self.total}] {shown}  {spent / 60:.1f} min, {left / 60:.1f} min left", flush=True)


class Average:
    """An exponential moving average of a model's parameters and buffers, which is what is shipped."""

    def __init__(self, model: torch.nn.Module, decay: float = 0.999) -> None:
        self.decay, self.steps = decay, 0
        self.state = {key: value.detach().clone() for key, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: torch.nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                self.state[key].lerp_(value.detach(), 1 - decay)
            else:
                self.state[key].copy_(value)


def save_state(path: Path, **state: Any) -> None:
    """Write the state of an unfinished training under a temporary name, then rename it."""
    temporary = path.with_suffix(".part")
    torch.save(state, temporary)
    temporary.replace(path)


def load_state(path: Path) -> dict[str, Any] | None:
    return torch.load(path, weights_only=True) if path.exists() else None


def scores(probabilities: np.ndarray, truth: np.ndarray, labels: list[int] | None = None) -> dict[str, Any]:
    """Accuracy, unweighted average recall, macro-F1, expected calibration error, recalls and a 95 % interval of UAR.

    Args:
        probabilities: (N, C) float, rows sum to 1.
        truth: (N,) int, columns of ``probabilities``.
        labels: the classes that the corpus has; all classes when None.
    """
    labels = list(range(probabilities.shape[1])) if labels is None else labels
    guess = probabilities.argmax(1)
    matrix = confusion_matrix(truth, guess, labels=range(probabilities.shape[1]))
    recalls = {index: matrix[index, index] / max(matrix[index].sum(), 1) for index in labels}
    generator = np.random.default_rng(0)
    samples = []
    for _ in range(500):
        pick = generator.integers(0, len(truth), len(truth))
        hit = guess[pick] == truth[pick]
        samples.append(np.mean([hit[truth[pick] == index].mean() for index in labels if (truth[pick] == index).any()]))
    return {
        "rows": len(truth),
        "accuracy": float((guess == truth).mean()),
        "uar": float(np.mean(list(recalls.values()))),
        "uar_interval": [float(value) for value in np.percentile(samples, [2.5, 97.5])],
        "macro_f1": float(f1_score(truth, guess, labels=labels, average="macro", zero_division=0)),
        "ece": calibration_error(probabilities, truth),
        "recall": {BASIC7[index]: float(value) for index, value in recalls.items()},
    }


def calibration_error(probabilities: np.ndarray, truth: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error of the largest probability, over equal-width bins."""
    confidence, hit = probabilities.max(1), probabilities.argmax(1) == truth
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    total = 0.0
    for index in range(bins):
        inside = place == index
        if inside.any():
            total += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    return float(total)


def fit_temperature(logits: torch.Tensor, truth: torch.Tensor) -> float:
    """The temperature with the smallest cross-entropy, by a search over a fine grid of (0.3, 4).

    Args:
        logits: (N, C) float.
        truth: (N,) int64.
    """
    grid = torch.logspace(np.log10(0.3), np.log10(4.0), 400)
    losses = [torch.nn.functional.cross_entropy(logits / value, truth).item() for value in grid]
    return float(grid[int(np.argmin(losses))])


def export(out: Path, name: str, state: dict[str, torch.Tensor], record: dict[str, Any], half: bool = True) -> dict[str, Any]:
    """Write ``NAME.safetensors`` and its training record ``NAME.json``; return the record.

    Floating tensors are stored in half precision when ``half``.
    """
    out.mkdir(parents=True, exist_ok=True)
    tensors = {key: (value.half() if half and value.is_floating_point() else value).contiguous().cpu() for key, value in state.items()}
    path = out / f"{name}.safetensors"
    settings = {key: record[key] for key in SETTINGS if key in record}
    save_file(tensors, path, metadata={"format": "pt", "name": name, "settings": json.dumps(settings)})
    record = {
        "name": name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
        "parameters": int(sum(value.numel() for value in tensors.values())),
        **record,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    (out / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record
