"""``ras/audio``: emotions of a voice, by WavLM and the published head that knows how uncertain it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from affectkit.api import BASIC8, Audio, Checkpoint, CheckpointError, Clip, Input, Needs, Output
from affectkit.errors import asked_by
from affectkit_ras.headed import HEAD, Headed, read_head, resolved
from affectkit_ras.speech import KIND, RATE

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from affectkit_ras.audio_network import UncertaintyHead

PUBLISHED = 4 * RATE  # samples that the authors cut or filled every sound to
SHORTEST = RATE // 10  # samples; WavLM makes four frames of them
BACKBONE = Checkpoint(
    uri="hf:microsoft/wavlm-base-plus-sd",
    licence="see https://github.com/microsoft/UniSpeech/blob/main/LICENSE",
    source="Chen et al. (2022), WavLM base plus, fine-tuned for speaker diarisation; https://github.com/microsoft/unilm",
    size=405_000_000,
    files=("config.json", "pytorch_model.bin"),
)


@dataclass(frozen=True)
class AudioOptions:
    """Options of ras/audio.

    Attributes:
        head: file of the head, as ``affectkit train ras/audio`` writes it, or the authors' WavLMEmotionClassifierV5, whose encoder is then taken as well.
        backbone: folder of another WavLM of transformers, instead of the one from the hub.
        speech: whether a window without speech, by the provider of ``speech``, is no evidence.
        padding: ``"own"`` hears every sound at its own length; ``"published"`` cuts it or fills it with zeros to 4 seconds, and hears those.
    """

    head: str | None = None
    backbone: str | None = None
    speech: bool = True
    padding: Literal["own", "published"] = "own"


class AudioEmotion(Headed):
    """Emotions of a voice (modality A of Team RAS, 9th ABAW): WavLM on the waveform as it is, attention within thirds, a mean and a variance per class.

    The authors' head is not published. Rows are the softmax of the means at the temperature 1.5, or at that of the file. Embedding ``voice``:
    256 numbers. Quality: ``uncertainty``, the standard deviation that the head gives its means, averaged by the probabilities of the
    classes, from 0.22 to 4.5; and ``speech``, the share of the window, where speech is asked for.
    """

    name = "audio"
    needs = Needs(audio=Audio(rate=RATE))  # and speech, unless the options say otherwise
    Options = AudioOptions
    checkpoints: ClassVar[Mapping[str, Checkpoint]] = {"backbone": BACKBONE}

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.needs = Needs(audio=self.needs.audio, inputs=(Input(KIND),) if self.options.speech else ())
        self._head: UncertaintyHead | None = None
        self._temperature = 1.0

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Loads the backbone and the head; forward passes in lower precision run under autocast.

        Raises:
            CheckpointError: where one of them is absent, damaged, or made for another.
        """
        from affectkit import weight_files
        from affectkit_ras.audio_network import TEMPERATURE, UncertaintyHead

        self.load_backbone(device)
        path = resolved(self, HEAD)
        tensors, settings = read_head(path, self.id)
        tuned = {name.removeprefix("encoder."): value for name, value in tensors.items() if name.startswith("encoder.")}
        self.check_backbone(settings, self.frames.fingerprint, path)
        head = UncertaintyHead(self.frames.size, len(BASIC8))
        with asked_by(self.id):
            weight_files.load_strict(head, {name: value for name, value in tensors.items() if not name.startswith("encoder.")}, path)
        self.frames.tune(tuned, path)
        self._temperature = float(settings.get("temperature", TEMPERATURE))
        self._head = head.eval().requires_grad_(False).to(device)

    def load_backbone(self, device: torch.device) -> None:
        """Loads what reads the sound, which is all that a training of the head needs."""
        from affectkit_ras.voice_frames import VoiceReader

        self._frames = VoiceReader(resolved(self, "backbone"), self.id, device)

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """A narrow WavLM in the format of transformers, or a head over it."""
        from affectkit import weight_files
        from affectkit_ras.audio_network import UncertaintyHead
        from affectkit_ras.voice_frames import TINY, write_tiny

        if tag != HEAD:
            return write_tiny(folder / tag)
        head = weight_files.random_network(lambda: UncertaintyHead(TINY, len(BASIC8)))
        path = folder / "audio.safetensors"
        settings = {"labels": BASIC8.labels, "temperature": 0.1}  # so decided that other sounds give other answers
        weight_files.save_tensors(path, head.state_dict(), {"settings": json.dumps(settings), "licence": weight_files.RANDOM})
        return path

    def preprocess(self, clip: Clip) -> Mapping[str, torch.Tensor] | None:
        import torch

        if clip.audio is None or len(clip.audio) < SHORTEST:
            return None
        out = {}
        if self.options.speech:
            speech = clip.inputs.get(KIND)
            if speech is None or not speech.valid:
                return None
            out["speech"] = torch.tensor(float(speech.data["share"]))
        sound = np.asarray(clip.audio, np.float32)
        if self.options.padding == "published":
            sound = np.pad(sound[:PUBLISHED], (0, max(0, PUBLISHED - len(sound))))
        return {"sound": torch.from_numpy(np.ascontiguousarray(sound)), **out}

    def embed(self, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Frames (B, T, D) float32 of a batch of sounds, zeros where padded, and which are real, (B, T) bool."""
        found: tuple[torch.Tensor, torch.Tensor] = self.frames(batch["sound"], batch["sound_mask"])
        return found

    def predict(self, batch: Mapping[str, torch.Tensor]) -> Output:
        if self._head is None:
            raise CheckpointError(f"{self.id} is asked before its weights are loaded")
        features, mask = self.embed(batch)
        mu, logvar, voice = (part.float() for part in self._head(features, mask))
        values = (mu / self._temperature).softmax(1)
        quality = {"uncertainty": (values * (0.5 * logvar).exp()).sum(1)}
        return Output({BASIC8: values}, {"voice": voice}, quality | ({"speech": batch["speech"]} if self.options.speech else {}))
