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
    """Basic emotions of a voice: small networks over what a speech encoder hears in it, trained on acted speech (RAVDESS, nEMO).

    It hears how something is said, in English and Polish by actors; what is said is not among what it was trained to tell. Silence and less than 0.3
    seconds of sound are no evidence. Embedding ``voice``: the hidden layers of the small networks. Quality: ``sound``, the share of the window that
    holds sound, and ``level``, the loudest mel band in dB.
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
        if self.options.left_out is not None and self.options.left_out not in range(self._net.folds):
            raise UsageError(f"left_out must be from 0 to {self._net.folds - 1}, found {self.options.left_out}")
        self._net.to(device)

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """The network with random numbers."""
        from affectkit_mini.voice_network import VoiceNet

        return write_random(folder / "audio.safetensors", VoiceNet, temperature=1.0)

    def preprocess(self, clip: Clip) -> Mapping[str, torch.Tensor] | None:
        import torch

        from affectkit_mini import sound
        from affectkit_mini.listening import hear

        if clip.audio is None or len(clip.audio) < sound.SHORTEST * sound.RATE:
            return None
        heard = hear(torch.from_numpy(np.nan_to_num(np.asarray(clip.audio, np.float32), posinf=0.0, neginf=0.0)))
        if heard.seconds < sound.SHORTEST:
            return None
        return {
            "levels": heard.levels,
            "heard": heard.frames,
            "sound": heard.share,
            "level": heard.loudest,
        }

    def predict(self, batch: Mapping[str, torch.Tensor]) -> Output:
        numbers = self._net.listener(batch["levels"], batch["heard"], batch["heard_mask"])
        logits, hidden = self._net(numbers, self.options.left_out)
        return Output(
            values={BASIC7: (logits.float() / self._temperature).softmax(1)},
            embeddings={"voice": hidden.float()},
            quality={"sound": batch["sound"], "level": batch["level"]},
        )
