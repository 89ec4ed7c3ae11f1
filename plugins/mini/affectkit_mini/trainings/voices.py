"""The training of mini/audio: RAVDESS speech and nEMO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.api import BASIC7, About, Part, Training, Turn
from affectkit_mini.trainings.corpora import columns, read_voices

if TYPE_CHECKING:
    import torch

RAVDESS_HELD = tuple(f"ravdess {actor}" for actor in (17, 18, 19, 20))
NEMO_HELD = 2  # speakers, the last ones in alphabetical order


class VoiceTraining(Training):
    """mini/audio: acted speech, in which calm counts as neutral; no voice is in two parts."""

    name = "audio_training"
    labels = BASIC7

    def parts(self, data: Path) -> Mapping[str, Part]:
        """Four actors and two speakers are kept; every other of them is for calibration."""
        table = read_voices(data)
        truth, voices = columns(table["emotion"]), table["voice"].to_numpy().astype(str)
        held = [*RAVDESS_HELD, *sorted({voice for voice in voices if voice.startswith("nemo")})[-NEMO_HELD:]]
        chosen = {
            "train": ~np.isin(voices, held),
            "validation": np.isin(voices, sorted(held)[1::2]),
            "calibration": np.isin(voices, sorted(held)[::2]),
        }
        english = np.char.startswith(voices, "ravdess")
        whole = Part(truth, voices, _Sounds(list(table["path"])), views={"ravdess": english, "nemo": ~english})
        parts = {name: whole.take(np.flatnonzero(rows)) for name, rows in chosen.items()}
        for name, part in parts.items():
            about = f"RAVDESS speech and nEMO: {', '.join(sorted(set(part.groups)))}"
            chances = even_cells(part.truth, part.views["ravdess"]) if name == "train" else None
            parts[name] = replace(part, about=about, chances=chances)
        return parts

    def network(self) -> torch.nn.Module:
        from affectkit_mini.networks import AudioNet

        return AudioNet()

    def predict(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        found: torch.Tensor = network(batch["mel"], batch["mask"])[0]
        return found

    def loss(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        from torch.nn.functional import cross_entropy, one_hot

        target = one_hot(batch["truth"], len(BASIC7)).float()
        if "share" in batch:  # sounds were mixed
            share = batch["share"][:, None]
            target = share * target + (1 - share) * target[batch["other"]]
        return cross_entropy(self.predict(network, batch).float(), target, weights, label_smoothing=0.05)

    def about(self) -> About:
        return About(
            title="mini/audio: the emotion of a voice",
            what="A convolutional network with attentive pooling over log-mel frames (16 kHz, 64 bands, 100 frames per second). Pieces of 1.5 to 4 "
            "seconds with other speed, pitch, noise, microphone and missing bands were seen in training.",
            data="RAVDESS speech (Livingstone and Russo 2018) and nEMO (Christop 2024), both CC BY-NC-SA 4.0",
            licence="CC-BY-NC-SA-4.0",
            limits="Trained on acted, studio-recorded speech: few voices, two English sentences and short Polish ones. Spontaneous speech, music, "
            "laughter, children and other languages are outside of what it has heard, and there it is often wrong with confidence. nEMO has no "
            "disgust. The corpora's terms forbid commercial use.",
            commercial=False,
        )


class _Sounds:
    """Mel powers of sound files, read when they are first asked for."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self.power: dict[int, torch.Tensor] = {}

    def __call__(self, rows: np.ndarray, turn: Turn | None) -> Mapping[str, Any]:
        import torch

        from affectkit_mini import sound
        from affectkit_mini.trainings.sounds import augment, pad

        if turn is None:
            levels = [sound.decibels(self._read(row)) for row in rows.tolist()]
            mel, mask = pad([sound.normalise(level, sound.sounding(level)) for level in levels])
            return {"mel": mel, "mask": mask}
        random = turn.numpy()
        mel, mask = pad([augment(self._read(row), random) for row in rows.tolist()])
        if random.random() >= 0.3:
            return {"mel": mel, "mask": mask}
        share, other = float(random.beta(0.3, 0.3)), torch.from_numpy(random.permutation(len(rows)))
        share = max(share, 1 - share)
        return {
            "mel": share * mel + (1 - share) * mel[other],
            "mask": mask | mask[other],
            "share": torch.full((len(rows),), share),
            "other": other,
        }

    def _read(self, row: int) -> torch.Tensor:
        if row not in self.power:
            import librosa
            import torch

            from affectkit_mini import sound

            samples, _ = librosa.load(self.paths[row], sr=sound.RATE)
            self.power[row] = sound.mel_power(torch.from_numpy(samples))
        return self.power[row]


def even_cells(truth: np.ndarray, english: np.ndarray) -> np.ndarray:
    """How often each row is drawn, (N,): every class of every corpus alike, so that neither language stands for a class."""
    chances = np.zeros(len(truth))
    for corpus, share in ((english, 0.55), (~english, 0.45)):
        classes = np.unique(truth[corpus])
        for label in classes:
            cell = corpus & (truth == label)
            chances[cell] = share / len(classes) / cell.sum()
    return chances
