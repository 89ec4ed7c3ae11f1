"""Fit weights for core/mhpf over the five sources of mini, and prototypes for core/pfsa.

    python fit_fusion.py --data DIR --weights OUT --out OUT --sequences OUT/face_dynamic_sequences.pt

There is no corpus here with faces, sound, words and descriptions of the same moment. So rows are pairings: for a label,
one made face sequence, one sound, one text and one description of that label are drawn from the validation parts. Sources are left out at
random. Only a few steps are made away from equal weights: within a label the sources of a pairing are independent, and a long
fit would give nearly all weight to one source per class. Half of the validation rows of each source are for fitting, the other half for measuring; voices and film clips are on one side.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from affectkit_mini.networks import AudioNet, DescriptionHead, FaceDynamics, FaceNet, SentenceHead
from affectkit_mini.records import load_network, read_settings
from common import BASIC7, calibration_error, seed_everything
from sentence_features import sentence_features
from sklearn.metrics import f1_score
from torch import Tensor
from train_audio import logits_of as audio_logits
from train_audio import read_corpora
from train_face_static import read_fer2013
from train_scene import read_features, read_splits
from train_text import distribution, read_goemotions
from train_text import logits_of as text_logits

from affectkit.api import BASIC8
from affectkit.builtin.fusion import save_mhpf
from affectkit.builtin.mhpf import MHPF
from affectkit.builtin.pfsa import fit_prototypes, save_pfsa

SOURCES = ("mini/face_static", "mini/face_dynamic", "mini/audio", "mini/text", "mini/scene")
PRESENT = {"face": 0.85, "audio": 0.7, "text": 0.5, "scene": 0.3}  # how often a kind of evidence is there
STILL = 0.1  # how often the face is a still, of which face_dynamic says nothing


@dataclass(frozen=True)
class Said:
    """What the sources of one kind of evidence say: rows (N, S, 7), labels (N,), and the side of every row (N,) bool."""

    rows: np.ndarray
    truth: np.ndarray
    fitting: np.ndarray


def halves(groups: np.ndarray, seed: int) -> np.ndarray:
    """(N,) bool that puts half of the groups on the fitting side."""
    names = np.unique(groups)
    return np.isin(groups, np.random.default_rng(seed).permutation(names)[: len(names) // 2])


@torch.inference_mode()
def faces(weights: Path, sequences: Path, seed: int) -> Said:
    """Both face sources over the made validation sequences: the average of the pictures, and the dynamic reading."""
    part = torch.load(sequences, weights_only=True)[1]
    static = float(read_settings(weights / "face_static.safetensors")["temperature"])
    model = FaceDynamics()
    dynamic = float(load_network(model, weights / "face_dynamic.safetensors")["temperature"])
    mask = torch.ones(part["logits"].shape[:2], dtype=torch.bool)
    average = (part["logits"] / static).softmax(2).mean(1)
    found = (model(part["embeddings"], part["logits"], mask)[0] / dynamic).softmax(1)
    truth = part["label"].numpy()
    return Said(torch.stack([average, found], 1).numpy(), truth, halves(np.arange(len(truth)), seed))


def audio(weights: Path, data: Path, seed: int) -> Said:
    """mini/audio over the validation voices."""
    model, corpus = AudioNet(), read_corpora(data)
    temperature = float(load_network(model, weights / "audio.safetensors")["temperature"])
    held = np.flatnonzero(corpus.held)
    rows = (audio_logits(model, [corpus.power[row] for row in held]) / temperature).softmax(1).numpy()
    return Said(rows[:, None], corpus.truth[held], halves(corpus.voices[held], seed))


@torch.inference_mode()
def text(weights: Path, data: Path, cache: Path | None, seed: int) -> Said:
    """mini/text over the rows of GoEmotions dev with one label."""
    texts, target = read_goemotions(data, "dev")
    single = np.flatnonzero(target.sum(1) == 1)
    head = SentenceHead()
    exponent = load_network(head, weights / "text.safetensors")["exponent"]
    rows = distribution(text_logits(head, sentence_features(texts, cache), single).sigmoid().numpy(), exponent)
    return Said(rows[:, None], target[single].argmax(1), halves(np.arange(len(single)), seed))


@torch.inference_mode()
def scene(weights: Path, data: Path, cache: Path | None, seed: int) -> Said:
    """mini/scene over AFEW dev, all kinds of description."""
    _, table, _ = read_splits(data)
    part, head = read_features(table, cache), DescriptionHead()
    temperature = load_network(head, weights / "scene.safetensors")["temperature"]
    rows = (head.read(part.means, part.embeddings)[0] / temperature).softmax(1).numpy()
    return Said(rows[:, None], part.truth, halves(table["clip"].to_numpy(), seed))


def pair(said: dict[str, Said], count: int, fitting: bool, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pairings of equal label.

    Returns:
        Probabilities (N, 5, 8) with 0 for ``other``, labels (N,) int64, and validity (N, 5, 8) bool, False for ``other``.
    """
    random = np.random.default_rng([seed, fitting])
    truth = random.integers(0, len(BASIC7), count)
    probs = np.zeros((count, len(SOURCES), len(BASIC8)), np.float32)
    valid = np.zeros(probs.shape, bool)
    there = {kind: random.random(count) < share for kind, share in PRESENT.items()}
    empty = ~np.any(list(there.values()), axis=0)
    there["face"] |= empty
    place = 0
    for kind, part in said.items():
        pools = [np.flatnonzero((part.fitting == fitting) & (part.truth == label)) for label in range(len(BASIC7))]
        width = part.rows.shape[1]
        for row, label in enumerate(truth):
            if there[kind][row] and len(pools[label]):
                probs[row, place : place + width, : len(BASIC7)] = part.rows[random.choice(pools[label])]
                valid[row, place : place + width, : len(BASIC7)] = True
        place += width
    valid[random.random(count) < STILL, SOURCES.index("mini/face_dynamic")] = False
    some = valid.any((1, 2))
    return torch.from_numpy(probs)[some], torch.from_numpy(truth)[some], torch.from_numpy(valid)[some]


def figures(rows: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Accuracy, macro-F1, negative log likelihood and calibration of fused rows (N, 7)."""
    return {
        "accuracy": float((rows.argmax(1) == truth).mean()),
        "macro_f1": float(f1_score(truth, rows.argmax(1), average="macro", zero_division=0)),
        "nll": float(-np.log(rows[np.arange(len(truth)), truth].clip(1e-9)).mean()),
        "ece": calibration_error(rows, truth),
    }


def measure(model: MHPF, probs: Tensor, truth: Tensor, valid: Tensor) -> dict[str, object]:
    """The fusion against the mean of what is there, and against every single source on the rows that have it."""
    with torch.inference_mode():
        fused = model(probs, valid)[:, : len(BASIC7)]
    fused = (fused / fused.sum(1, keepdim=True)).numpy()
    keep = valid[..., 0].float()
    mean = ((probs[..., : len(BASIC7)] * keep[..., None]).sum(1) / keep.sum(1, keepdim=True)).numpy()
    labels = truth.numpy()
    single = {}
    for place, name in enumerate(SOURCES):
        rows = valid[:, place, 0].numpy()
        alone = figures(probs[rows, place, : len(BASIC7)].numpy(), labels[rows])
        single[name] = {"alone": alone["accuracy"], "fused_on_the_same_rows": figures(fused[rows], labels[rows])["accuracy"]}
    return {"rows": len(labels), "fused": figures(fused, labels), "mean": figures(mean, labels), "accuracy": single}


@torch.inference_mode()
def prototypes(weights: Path, data: Path, most: int, seed: int) -> tuple[Tensor, int]:
    """Prototypes (6, 128) from the embeddings of FER2013's training pictures, at most ``most`` per emotion, and how many there were."""
    net = FaceNet()
    load_network(net, weights / "face_static.safetensors")
    pictures, truth = read_fer2013(data, "train")
    random = np.random.default_rng(seed)
    pick = np.concatenate([random.permutation(np.flatnonzero(truth == label))[:most] for label in range(1, len(BASIC7))])
    pictures, truth = pictures[pick], truth[pick]
    parts = np.array_split(pictures, len(pictures) // 256 + 1)
    embeddings = torch.cat([net.read(torch.from_numpy(part).float().div(255))[1] for part in parts])
    return fit_prototypes(embeddings, [BASIC7[label] for label in truth]), len(truth)


def write_record(path: Path, record: dict[str, object]) -> None:
    """The training record beside a file of weights."""
    import hashlib

    from safetensors.torch import load_file

    size = sum(value.numel() for value in load_file(path).values())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    record = {"name": path.stem, "sha256": digest, "bytes": path.stat().st_size, "parameters": size, **record}
    path.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="folder with the weights of the five models")
    parser.add_argument("--sequences", type=Path, required=True, help="face_dynamic_sequences.pt of train_face_dynamic.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=None, help="folder for the frozen features")
    parser.add_argument("--pairings", type=int, default=10000)
    parser.add_argument("--steps", type=int, default=20, help="steps of Adam away from about equal weights")
    parser.add_argument("--pictures", type=int, default=600, help="pictures per emotion that make a prototype, at most")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    seed_everything(options.seed)

    found, count = prototypes(options.weights, options.data, options.pictures, options.seed)
    record = {
        "data": f"{count:,} pictures of FER2013 train, at most {options.pictures:,} per basic emotion (Goodfellow et al. 2013), research use",
        "licence": "Apache-2.0 (weights); FER2013 is for research use",
        "commercial": False,
        "command": f"fit_fusion.py --pictures {options.pictures} --seed {options.seed}",
        "embedding": "mini/face_static:face",
    }
    save_pfsa(options.out / "pfsa.safetensors", found, "mini/face_static:face", {**record, "source": record["data"]})
    write_record(options.out / "pfsa.safetensors", record)

    said = {
        "face": faces(options.weights, options.sequences, options.seed),
        "audio": audio(options.weights, options.data, options.seed),
        "text": text(options.weights, options.data, options.cache, options.seed),
        "scene": scene(options.weights, options.data, options.cache, options.seed),
    }
    model = MHPF(len(SOURCES), len(BASIC8))
    probs, truth, valid = pair(said, options.pairings, True, options.seed)
    fitted = model.fit(probs, truth, valid, seed=options.seed, epochs=options.steps)
    weights = {name: dict(zip(BASIC7, row, strict=False)) for name, row in zip(SOURCES, model.weights().tolist(), strict=True)}
    record = {
        "data": "pairings of equal label of the sources' predictions on their validation parts (FER2013 public_test, RAVDESS actors "
        "17-20 and two nEMO speakers, GoEmotions dev, AFEW dev)",
        "licence": "CC-BY-NC-SA-4.0",
        "commercial": False,
        "command": f"fit_fusion.py --pairings {options.pairings} --steps {options.steps} --pictures {options.pictures} --seed {options.seed}",
        "sources": SOURCES,
        "labels": BASIC8.labels,
        "present": PRESENT,
        "weights": weights,
        "fit": {**asdict(fitted), "losses": [fitted.losses[0], fitted.losses[-1]]},
        "validation": {
            "part": "pairings of the other halves of the same parts: pairings, not clips",
            **measure(model, *pair(said, options.pairings, False, options.seed)),
        },
    }
    save_mhpf(options.out / "mhpf.safetensors", model, SOURCES, BASIC8, {**record, "source": record["data"]})
    write_record(options.out / "mhpf.safetensors", record)


if __name__ == "__main__":
    main()
