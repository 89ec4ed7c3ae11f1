"""Train mini/audio on RAVDESS speech and nEMO.

    python train_audio.py --data DIR --out DIR

``--data`` holds ``audio/ravdess`` and ``audio/nemo``, each with ``labels.csv`` (file, emotion, actor or speaker). Calm counts
as neutral. RAVDESS actors 17 to 20 and two nEMO speakers are kept for validation; no voice is on both sides.
The epochs are fixed and the moving average after the last one is kept.
The temperature is fitted on half of the validation voices; the calibration error is reported on the other half.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import torch
from affectkit_mini.networks import AudioNet
from affectkit_mini.sound import RATE, decibels, mel_power, normalise, sounding
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

RAVDESS_HELD = {17, 18, 19, 20}
NEMO_HELD = 2  # speakers, the last ones in alphabetical order
NEMO_CLASSES = [index for index, name in enumerate(BASIC7) if name != "disgust"]


@dataclass(frozen=True)
class Corpus:
    """Mel powers (T, 64) of every clip, labels (N,), voices (N,) and whether a clip is held for validation (N,)."""

    power: list[Tensor]
    truth: np.ndarray
    voices: np.ndarray
    held: np.ndarray

    @property
    def ravdess(self) -> np.ndarray:
        return np.array([voice.startswith("ravdess") for voice in self.voices])


def read_corpora(data: Path) -> Corpus:
    """Both corpora, their mel powers computed once."""
    tables = []
    for name, column in (("ravdess", "actor"), ("nemo", "speaker")):
        table = pd.read_csv(data / "audio" / name / "labels.csv")
        speakers = sorted(table[column].unique())
        held = RAVDESS_HELD if name == "ravdess" else set(speakers[-NEMO_HELD:])
        table = table.assign(
            path=[data / "audio" / name / file for file in table["file"]],
            voice=[f"{name} {speaker}" for speaker in table[column]],
            held=table[column].isin(held),
        )
        tables.append(table[["path", "emotion", "voice", "held"]])
    table = pd.concat(tables)
    power = []
    for index, path in enumerate(table["path"]):
        samples, _ = librosa.load(path, sr=RATE)
        power.append(mel_power(torch.from_numpy(samples)))
        if index % 500 == 0:
            print(f"read {index} of {len(table)} sounds", flush=True)
    truth = np.array([label_index(name) for name in table["emotion"]])
    return Corpus(power, truth, table["voice"].to_numpy(), table["held"].to_numpy())


def augment(power: Tensor, random: np.random.Generator, seconds: tuple[float, float] = (1.5, 4.0)) -> Tensor:
    """A piece of a clip with other speed, pitch, noise, room tone and missing bands.

    Args:
        power: (T, 64) mel power.
        random: source of every random number.
        seconds: shortest and longest piece.

    Returns:
        Normalised decibels (T', 64).
    """
    speed, pitch = math.exp(random.uniform(-0.15, 0.15)), math.exp(random.uniform(-0.10, 0.10))
    length = max(int(len(power) / speed), 30)
    rows = torch.linspace(-1, 1, length)
    columns = torch.linspace(-1, 1, 64).add(1).mul(pitch).sub(1).clamp(-1, 1)
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], 2)[None]
    levels = functional.grid_sample(decibels(power)[None, None], grid, padding_mode="border", align_corners=True)[0, 0]
    wanted = int(100 * random.uniform(*seconds))
    if len(levels) > wanted:
        active = torch.nonzero(sounding(levels))[:, 0]
        centre = int(active[random.integers(len(active))])
        start = int(np.clip(centre - random.integers(wanted), 0, len(levels) - wanted))
        levels = levels[start : start + wanted]
    if random.random() < 0.5:  # noise of a random colour below the voice
        tilt = torch.linspace(0, random.uniform(-30, 5), 64)
        loud = levels.amax(1).max() - random.uniform(20, 55)
        grain = torch.from_numpy(random.exponential(1.0, tuple(levels.shape))).float().clamp_min(1e-3)
        noise = 10 ** ((loud + tilt) / 10) * grain
        levels = decibels(10 ** (levels / 10) + noise)
    if random.random() < 0.5:  # a microphone's colour
        knots = torch.from_numpy(random.normal(0, 4, 6)).float()
        levels = levels + functional.interpolate(knots[None, None], size=64, mode="linear", align_corners=True)[0]
    if random.random() < 0.15:  # a telephone's band
        levels = levels.clone()
        levels[:, 44 + int(random.integers(10)) :] = -100.0
    mel = normalise(levels, sounding(levels))
    for _ in range(2):
        width, first = int(random.integers(0, 10)), int(random.integers(0, 64))
        mel[:, first : first + width] = 0
        span, begin = int(random.integers(0, max(len(mel) // 8, 1))), int(random.integers(0, len(mel)))
        mel[begin : begin + span] = 0
    return mel


def pad(pieces: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Batch (B, T, 64) and mask (B, T) of pieces of different lengths."""
    batch = torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True)
    lengths = torch.tensor([len(piece) for piece in pieces])
    return batch, torch.arange(batch.shape[1]) < lengths[:, None]


@torch.inference_mode()
def logits_of(model: AudioNet, power: list[Tensor]) -> Tensor:
    """Logits (N, 7) of whole clips, as the component reads them."""
    model.eval()
    rows = []
    for start in range(0, len(power), 32):
        levels = [decibels(clip) for clip in power[start : start + 32]]
        rows.append(model(*pad([normalise(clip, sounding(clip)) for clip in levels]))[0])
    return torch.cat(rows)


def balance(truth: np.ndarray, ravdess: np.ndarray) -> np.ndarray:
    """Sampling weights (N,): every class of every corpus alike, so that neither language stands for a class."""
    weights = np.zeros(len(truth))
    for corpus, share in ((ravdess, 0.55), (~ravdess, 0.45)):
        classes = np.unique(truth[corpus])
        for label in classes:
            cell = corpus & (truth == label)
            weights[cell] = share / len(classes) / cell.sum()
    return weights / weights.sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    seed_everything(options.seed)

    corpus = read_corpora(options.data)
    rows = np.flatnonzero(~corpus.held)
    weights = balance(corpus.truth[rows], corpus.ravdess[rows])
    held = np.flatnonzero(corpus.held)
    held_power, held_truth, held_ravdess = [corpus.power[row] for row in held], corpus.truth[held], corpus.ravdess[held]

    model = AudioNet()
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.rate, weight_decay=0.05)
    average = Average(model, 0.99)
    first = 0
    if (state := load_state(options.out / "audio.state")) is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        average.state, average.steps, first = state["average"], state["steps"], state["epoch"]
    steps = len(rows) // options.batch_size
    progress = Progress(options.epochs, first)
    for epoch in range(first, options.epochs):
        random = np.random.default_rng([options.seed, epoch])
        torch.manual_seed(options.seed * 1000 + epoch)
        model.train()
        running = 0.0
        for step in range(steps):
            done = (epoch * steps + step) / (steps * options.epochs)
            for group in optimiser.param_groups:
                group["lr"] = options.rate * min(done / 0.1, 1.0) * 0.5 * (1 + math.cos(math.pi * done))
            pick = random.choice(rows, options.batch_size, p=weights)
            mel, mask = pad([augment(corpus.power[row], random) for row in pick])
            target = functional.one_hot(torch.from_numpy(corpus.truth[pick]), len(BASIC7)).float()
            if random.random() < 0.3:
                share, other = float(random.beta(0.3, 0.3)), torch.from_numpy(random.permutation(len(pick)))
                share = max(share, 1 - share)
                mel, mask = share * mel + (1 - share) * mel[other], mask | mask[other]
                target = share * target + (1 - share) * target[other]
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(mel, mask)[0]
            loss = functional.cross_entropy(logits.float(), target, label_smoothing=0.05)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimiser.step()
            average.update(model)
            running += loss.item() / steps
        save_state(
            options.out / "audio.state", model=model.state_dict(), optimiser=optimiser.state_dict(),
            average=average.state, steps=average.steps, epoch=epoch + 1,
        )  # fmt: skip
        if (epoch + 1) % 5:
            progress.line(epoch + 1, loss=running)
            continue
        shipped = AudioNet()
        shipped.load_state_dict(average.state)
        found = logits_of(shipped, held_power).softmax(1).numpy()
        english = scores(found[held_ravdess], held_truth[held_ravdess])["uar"]
        polish = scores(found[~held_ravdess], held_truth[~held_ravdess], NEMO_CLASSES)["uar"]
        progress.line(epoch + 1, loss=running, ravdess_uar=english, nemo_uar=polish)

    shipped = AudioNet()
    shipped.load_state_dict({key: value.half().float() if value.is_floating_point() else value for key, value in average.state.items()})
    logits = logits_of(shipped, held_power)
    voices = sorted(set(corpus.voices[held]))
    half = np.isin(corpus.voices[held], voices[::2])
    temperature = fit_temperature(logits[half], torch.from_numpy(held_truth)[half])
    found = (logits / temperature).softmax(1).numpy()
    record = {
        "labels": BASIC7,
        "data": "RAVDESS speech, actors 1-16 (Livingstone and Russo 2018), and nEMO, 4 speakers (Christop 2024), both CC BY-NC-SA 4.0",
        "licence": "CC-BY-NC-SA-4.0",
        "commercial": False,
        "command": f"train_audio.py --epochs {options.epochs} --seed {options.seed}",
        "temperature": temperature,
        "validation_voices": voices,
        "validation": {
            "ravdess": scores(found[held_ravdess], held_truth[held_ravdess]),
            "nemo": scores(found[~held_ravdess], held_truth[~held_ravdess], NEMO_CLASSES),
        },
        "ece_unseen_half": calibration_error(found[~half], held_truth[~half]),
    }
    print(export(options.out, "audio", average.state, record))


if __name__ == "__main__":
    main()
