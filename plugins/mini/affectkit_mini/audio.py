"""mini/audio: emotions of a voice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from affectkit.api import BASIC7, Audio, Clip, Modality, Needs, Output, UsageError
from affectkit_mini.records import checkpoint, load_network, write_random

if TYPE_CHECKING:
    from pathlib import Path

    import torch


@dataclass(frozen=True)
class AudioOptions:
    """Options of mini/audio.

    Attributes:
        checkpoint: ``default``, or the path of a file that ``affectkit train mini/audio`` wrote.
        left_out: take only the networks that left out this fifth of the voices of RAVDESS and nEMO in training, 0 to 4, to measure on those voices;
            ``None`` for all networks.
    """

    checkpoint: str = "default"
    left_out: int | None = None


class AudioEmotion(Modality):
    """Basic emotions of a voice: small networks over its pitch, harmonicity, timing, energy, spectrum and modulation, in numbers of the whole and in their
    course, trained on acted speech (RAVDESS, nEMO).

    It hears how something is said, in English and Polish by actors, and nothing of what is said. Silence and less than
    0.3 seconds of sound are no evidence; of a course of more than 4 seconds the first 4 are read. Embedding ``voice``: the 310 numbers, standardised and without those that tell recordings apart. Quality: ``sound``, the share of the window
    that holds sound, and ``level``, the loudest mel band in dB.
    """

    name = "audio"
    labels = BASIC7
    needs = Needs(audio=Audio(rate=16000))
    unit = "window"
    Options = AudioOptions
    checkpoints: ClassVar = {"default": checkpoint("audio")}

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        from affectkit_mini.voice_network import VoiceNet

        self._net = VoiceNet()
        self._temperature = float(load_network(self._net, self.weights())["temperature"])
        folds = self._net.fold.unique().tolist()
        if self.options.left_out is not None and self.options.left_out not in folds:
            raise UsageError(f"left_out must be from {min(folds)} to {max(folds)}, found {self.options.left_out}")
        self._net.to(device)

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """The network with random numbers."""
        from affectkit_mini.voice_network import VoiceNet

        return write_random(folder / "audio.safetensors", VoiceNet, temperature=1.0)

    def preprocess(self, clip: Clip) -> Mapping[str, torch.Tensor] | None:
        import torch

        from affectkit_mini import sound, voice
        from affectkit_mini.voice_network import loop

        if clip.audio is None or len(clip.audio) < sound.SHORTEST * sound.RATE:
            return None
        samples = torch.from_numpy(np.nan_to_num(np.asarray(clip.audio, np.float32), posinf=0.0, neginf=0.0))
        samples = samples - samples.mean()
        power = sound.mel_power(samples)
        levels = sound.decibels(power)
        active = sound.sounding(levels)
        heard = int(active.sum()) * sound.HOP / sound.RATE  # seconds
        if heard < sound.SHORTEST:
            return None
        numbers, course = voice.describe(samples, power)
        return {
            "voice": numbers,
            "course": loop(course),
            "sound": torch.tensor(min(heard * sound.RATE / len(samples), 1.0), dtype=torch.float32),
            "level": levels.max(),
        }

    def predict(self, batch: Mapping[str, torch.Tensor]) -> Output:
        logits, voice = (part.float() for part in self._net(batch["voice"], batch["course"], self.options.left_out))
        return Output(
            values={BASIC7: (logits / self._temperature).softmax(1)},
            embeddings={"voice": voice},
            quality={"sound": batch["sound"], "level": batch["level"]},
        )
